//! A child process whose output is collected line by line and whose exit can be waited for with a deadline.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::DEADLINE;

/// A running or ended child. Dropping it kills it by its number and reaps it; what it started is not touched
/// (see [`Workspace`](super::workspace::Workspace)).
pub struct Program {
    /// Its process number.
    pub pid: i32,
    /// The name for messages of failed waits.
    what: String,
    shared: Arc<Shared>,
    stdin: Mutex<Option<ChildStdin>>,
}

/// Which of a child's outputs is meant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pipe {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// One line of output with its line end, or what came before the end of the pipe.
#[derive(Clone, Debug)]
pub struct Line {
    /// When it had been read.
    pub at: Instant,
    /// Its bytes as they came.
    pub bytes: Vec<u8>,
}

impl Line {
    /// Its text without the line end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).trim_end_matches(['\r', '\n']).to_owned()
    }
}

struct Shared {
    state: Mutex<State>,
    /// Signalled on every line, at the end of a pipe, and on exit.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stdout: Output,
    stderr: Output,
    exit: Option<(ExitStatus, Instant)>,
}

#[derive(Default)]
struct Output {
    lines: Vec<Line>,
    ended: bool,
}

impl State {
    fn output(&mut self, pipe: Pipe) -> &mut Output {
        match pipe {
            Pipe::Stdout => &mut self.stdout,
            Pipe::Stderr => &mut self.stderr,
        }
    }
}

impl Program {
    /// Starts it with all three pipes taken; `what` names it in messages.
    pub fn start(what: &str, mut command: Command) -> Program {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what} does not start: {error}: {command:?}"));
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let stdin = child.stdin.take();
        collect(Pipe::Stdout, child.stdout.take().expect("piped"), &shared);
        collect(Pipe::Stderr, child.stderr.take().expect("piped"), &shared);
        let pid = i32::try_from(child.id()).expect("a pid");
        await_exit(child, &shared);
        Program { pid, what: what.to_owned(), shared, stdin: Mutex::new(stdin) }
    }

    /// Writes to its standard input; false when it does not read any more, or the input was closed.
    pub fn write(&self, bytes: &[u8]) -> bool {
        match self.stdin.lock().as_mut() {
            Some(stdin) => stdin.write_all(bytes).and_then(|()| stdin.flush()).is_ok(),
            None => false,
        }
    }

    /// Closes its standard input.
    pub fn close_stdin(&self) {
        self.stdin.lock().take();
    }

    /// Sends it a signal; false when it has ended.
    pub fn signal(&self, signal: i32) -> bool {
        // The reaping happens under this lock too: the number cannot have passed on to another process.
        let state = self.shared.state.lock();
        state.exit.is_none() && super::processes::signal(self.pid, signal)
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.shared.state.lock().exit.map(|(status, _)| status)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `deadline`.
    pub fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        self.wait_exit_at(deadline).0
    }

    /// As [`wait_exit`](Self::wait_exit), with the time of the end.
    pub fn wait_exit_at(&self, deadline: Duration) -> (ExitStatus, Instant) {
        let until = Instant::now() + deadline;
        let mut state = self.shared.state.lock();
        loop {
            if let Some(exit) = state.exit {
                return exit;
            }
            if self.shared.changed.wait_until(&mut state, until).timed_out() && state.exit.is_none() {
                drop(state);
                panic!("{} runs on after {deadline:?}; its stderr:\n{}", self.what, self.text(Pipe::Stderr));
            }
        }
    }

    /// The lines of one pipe so far.
    pub fn lines(&self, pipe: Pipe) -> Vec<Line> {
        self.shared.state.lock().output(pipe).lines.clone()
    }

    /// How many lines of one pipe have come so far: a place for [`wait_line`](Self::wait_line) to look from.
    pub fn line_count(&self, pipe: Pipe) -> usize {
        self.shared.state.lock().output(pipe).lines.len()
    }

    /// All of one pipe so far, as text.
    pub fn text(&self, pipe: Pipe) -> String {
        let lines = self.lines(pipe);
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    /// Waits until `wanted` gives something for a line from the `from`th on, and gives that with the line's number.
    ///
    /// # Panics
    /// When none came within [`DEADLINE`], or the pipe ended without one.
    pub fn wait_line<T>(&self, pipe: Pipe, from: usize, wanted: impl FnMut(&Line) -> Option<T>) -> (usize, T) {
        self.try_wait_line(pipe, from, wanted).unwrap_or_else(|| {
            let mut state = self.shared.state.lock();
            let (ended, exit) = (state.output(pipe).ended, state.exit.map(|(status, _)| status));
            drop(state);
            panic!(
                "no such line on {pipe:?} of {} (pipe ended: {ended}, exit: {exit:?})\n--- stdout\n{}\n--- stderr\n{}",
                self.what,
                shortened(&self.text(Pipe::Stdout)),
                shortened(&self.text(Pipe::Stderr)),
            );
        })
    }

    /// As [`wait_line`](Self::wait_line); none where the pipe ended, or nothing came, without such a line.
    pub fn try_wait_line<T>(
        &self,
        pipe: Pipe,
        from: usize,
        mut wanted: impl FnMut(&Line) -> Option<T>,
    ) -> Option<(usize, T)> {
        let until = Instant::now() + DEADLINE;
        let mut at = from;
        let mut state = self.shared.state.lock();
        loop {
            let output = state.output(pipe);
            while at < output.lines.len() {
                if let Some(found) = wanted(&output.lines[at]) {
                    return Some((at, found));
                }
                at += 1;
            }
            if output.ended || self.shared.changed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }

    /// Waits until a pipe has ended, on all sides that may hold it.
    ///
    /// # Panics
    /// When it has not within [`DEADLINE`].
    pub fn wait_end(&self, pipe: Pipe) {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock();
        while !state.output(pipe).ended {
            let late = self.shared.changed.wait_until(&mut state, until).timed_out();
            assert!(!late, "{pipe:?} of {} is open after {DEADLINE:?}", self.what);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(libc::SIGKILL);
        if !thread::panicking() {
            self.wait_exit(DEADLINE);
        }
    }
}

fn collect(pipe: Pipe, source: impl Read + Send + 'static, shared: &Arc<Shared>) {
    let shared = shared.clone();
    // Not joined: a grandchild may hold the pipe open for longer than the test lasts.
    spawn(&format!("collect-{pipe:?}"), move || {
        let mut reader = BufReader::new(source);
        loop {
            let mut bytes = Vec::new();
            let read = reader.read_until(b'\n', &mut bytes).unwrap_or(0);
            let mut state = shared.state.lock();
            if read == 0 {
                state.output(pipe).ended = true;
                shared.changed.notify_all();
                return;
            }
            state.output(pipe).lines.push(Line { at: Instant::now(), bytes });
            shared.changed.notify_all();
        }
    });
}

fn await_exit(mut child: Child, shared: &Arc<Shared>) {
    let shared = shared.clone();
    spawn("await-exit", move || {
        wait_without_reaping(child.id());
        let ended = Instant::now();
        let mut state = shared.state.lock();
        let status = child.wait().unwrap_or_else(|_| ExitStatus::from_raw(-1));
        state.exit = Some((status, ended));
        shared.changed.notify_all();
    });
}

/// Waits for the exit but leaves the zombie, so that the reaping itself can happen under the lock.
fn wait_without_reaping(pid: u32) {
    loop {
        // SAFETY: an all-zero siginfo_t is a valid one.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` lives and is ours for the length of the call.
        let done = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if done == 0 || std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread");
}

/// The end of a long text, for messages that a person reads.
fn shortened(text: &str) -> &str {
    const SHOWN_BYTES_MAX: usize = 8000;
    let mut from = text.len().saturating_sub(SHOWN_BYTES_MAX);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}
