//! One running child: its three pipes, each with a thread, and the steps of stopping it.
//!
//! ```text
//!   running ──stop()──▶ stdin closed ──grace──▶ SIGINT ──grace──▶ SIGKILL
//!      └───────────────────────┴───── exit ───────┴─────────────────┘ ──▶ swept, reaped, Owner::exited
//! ```
//!
//! The order of the steps is what the real CLI needs (seen on 2.1.197 and 2.1.330): an interrupt, which the session
//! sends before it calls [`Process::stop`], ends the running tool; closed input then ends Claude within 115 ms. SIGTERM
//! and SIGKILL would orphan the tool, so they are not the first choice, and after every end the sweep follows.
//!
//! An exit is not the end of the output: a grandchild may hold the pipe. And the end of the output is not an exit.
//! So the stdout thread waits for both, the output for at most [`DRAIN_AFTER_EXIT`] more, and only then reports the exit:
//! whoever owns the process sees every line before it.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use parking_lot::Mutex;

use super::sweep::{self, Entry, Marked, Suspects};
use crate::proto::ndjson::{FULL_READ_BYTES, MUCH_BYTES, Splitter};
use crate::threads::Threads;
use crate::timer::{Timed, Timer};

/// Lines that wait for a child that does not read: one prompt, answers to its questions, a few control requests. A
/// child so far behind is stuck.
pub const STDIN_LINES_MAX: usize = 256;

/// A line of Claude's output up to this length is relayed whole.
pub const LINE_BYTES_MAX: usize = 16 << 20;

/// How much of the end of stderr is kept to explain an exit.
pub const STDERR_TAIL_BYTES_MAX: usize = 8 * 1024;

/// How long output is read on after the exit, where something else holds the pipe.
pub const DRAIN_AFTER_EXIT: Duration = Duration::from_millis(500);

/// Whoever a process works for: a session.
pub trait Owner: Send + Sync {
    /// The outcome of [`super::supervisor::Supervisor::launch`]. Nothing comes before it.
    fn launched(&self, outcome: Result<Arc<Process>, String>);
    /// New output is in `lines`. All complete lines are to be taken.
    fn output(&self, lines: &mut Splitter);
    /// The process is gone, swept and reaped, and all its output was delivered. The last call for this launch.
    fn exited(&self, exit: Exit);
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The last of what it printed on stderr.
    pub stderr: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(signal)) => write!(f, "killed by signal {signal}"),
            (None, None) => write!(f, "ended in an unknown way"),
        }
    }
}

/// A running child. Dropping the last handle closes its stdin.
pub struct Process {
    pid: i32,
    marker: String,
    stdin: Sender<Input>,
    state: Mutex<State>,
    grace: Duration,
    timer: Timer,
    itself: Weak<Process>,
}

enum Input {
    Line(String),
    Close,
}

struct State {
    step: Step,
    /// Descendants seen before a signal was sent: those that leave the tree then are found again.
    noted: Vec<Entry>,
    /// The raw wait status, once reaped. From then on the pid may be another's.
    status: Option<i32>,
    /// Closed by the reaper: wakes the threads that read the pipes.
    exit_signal: Option<OwnedFd>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Running,
    StdinClosed { until: Instant },
    Interrupted { until: Instant },
    Killed,
}

/// The child's ends of the pipes that are ours to hold.
pub(super) struct Pipes {
    pub stdin: ChildStdin,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

impl Process {
    /// Takes over a child that was just started: threads on its pipes, reports to `owner`.
    ///
    /// # Errors
    /// When the system gives no thread or pipe; the child is then the caller's to kill.
    pub(super) fn adopt(
        pid: i32,
        marker: String,
        pipes: Pipes,
        owner: &Arc<dyn Owner>,
        grace: Duration,
        timer: &Timer,
        threads: &Threads,
    ) -> io::Result<Arc<Process>> {
        let (stdin, lines) = bounded(STDIN_LINES_MAX);
        let (exit_wait, exit_signal) = io::pipe()?;
        let exit_wait: Arc<OwnedFd> = Arc::new(exit_wait.into());
        let state =
            State { step: Step::Running, noted: Vec::new(), status: None, exit_signal: Some(exit_signal.into()) };
        let (timer, state) = (timer.clone(), Mutex::new(state));
        let process =
            Arc::new_cyclic(|itself| Process { pid, marker, stdin, state, grace, timer, itself: itself.clone() });
        let (tail, stderr_tail) = bounded(1);
        let wait = exit_wait.clone();
        threads.spawn(format!("stderr-{pid}"), move || {
            // The stdout thread may have given up waiting; then nobody wants the tail.
            let _ = tail.send(read_tail(pipes.stderr, &wait));
        })?;
        threads.spawn(format!("stdin-{pid}"), move || write_lines(pipes.stdin, &lines))?;
        let (of, owner) = (process.clone(), owner.clone());
        threads.spawn(format!("stdout-{pid}"), move || {
            let read = catch_unwind(AssertUnwindSafe(|| {
                owner.launched(Ok(of.clone()));
                read_lines(pipes.stdout, &exit_wait, &*owner);
            }));
            if read.is_err() {
                log::error!("process {pid}: its output was not understood because of a fault in this server");
            }
            // Whoever closes its stdout and lives on is of no use.
            of.stop();
            wait_for(&[exit_wait.as_raw_fd()], None);
            let stderr = stderr_tail.recv().unwrap_or_default();
            let exit = of.exit(stderr);
            if catch_unwind(AssertUnwindSafe(|| owner.exited(exit))).is_err() {
                log::error!("process {pid}: its end was not taken in because of a fault in this server");
            }
        })?;
        Ok(process)
    }

    /// The process id, for the log.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Queues one line, newline included, for the child's stdin. Never blocks.
    ///
    /// `false`: the child has not read [`STDIN_LINES_MAX`] lines, or its stdin is closed.
    #[must_use]
    pub fn write(&self, line: String) -> bool {
        self.stdin.try_send(Input::Line(line)).is_ok()
    }

    /// Begins to stop the child; repeated calls change nothing. Never blocks. [`Owner::exited`] tells the end.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        if state.step == Step::Running && state.status.is_none() {
            // A full queue means that the child does not read: closing would not be noticed either.
            if let Err(TrySendError::Full(_)) = self.stdin.try_send(Input::Close) {
                log::debug!("process {} does not read its stdin", self.pid);
            }
            let until = Instant::now() + self.grace;
            state.step = Step::StdinClosed { until };
            drop(state);
            self.wake(until);
        }
    }

    /// Ends the child at once, tools included.
    pub fn kill(&self) {
        let descendants = sweep::descendants(self.pid);
        let mut state = self.state.lock();
        state.noted.extend(descendants);
        state.step = Step::Killed;
        self.signal(&state, libc::SIGKILL);
    }

    /// What the sweep after the exit looks for. Only while the child is not reaped: until then its pid is its own.
    pub(super) fn suspects(&self, spared: Vec<i32>, orphans: Vec<Entry>) -> Suspects {
        let mut noted = self.state.lock().noted.clone();
        noted.extend(orphans);
        Suspects { marked: Marked::Session(self.marker.clone()), sessions: vec![self.pid], noted, spared }
    }

    /// Reaps the child, which has exited, and lets its threads end.
    pub(super) fn reap(&self) {
        let mut state = self.state.lock();
        let mut status = 0;
        // SAFETY: `status` is valid; the child is ours and has exited, so this does not block.
        let reaped = unsafe { libc::waitpid(self.pid, &raw mut status, 0) };
        state.status = Some(if reaped == self.pid { status } else { 0 });
        state.exit_signal = None;
    }

    fn signal(&self, state: &State, signal: i32) {
        if state.status.is_none() {
            // SAFETY: a plain system call. The child is not reaped (the lock is held), so the pid is its own.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn exit(&self, stderr: String) -> Exit {
        let status = self.state.lock().status.unwrap_or(0);
        let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
        let signal = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
        Exit { code, signal, stderr }
    }

    fn wake(&self, at: Instant) {
        let itself: Weak<dyn Timed> = self.itself.clone();
        self.timer.wake(at, itself);
    }
}

impl Timed for Process {
    fn on_deadline(&self, now: Instant) -> Option<Instant> {
        let step = self.state.lock().step;
        let (signal, step) = match step {
            Step::StdinClosed { until } if now >= until => {
                let until = now + self.grace;
                (libc::SIGINT, Step::Interrupted { until })
            }
            Step::Interrupted { until } if now >= until => (libc::SIGKILL, Step::Killed),
            Step::StdinClosed { until } | Step::Interrupted { until } => return Some(until),
            Step::Running | Step::Killed => return None,
        };
        // Noted before the signal: afterwards descent is gone. Reading the table takes a millisecond or two.
        let descendants = sweep::descendants(self.pid);
        let mut state = self.state.lock();
        if state.status.is_none() {
            log::info!("process {} has not stopped, it gets signal {signal}", self.pid);
        }
        state.noted.extend(descendants);
        state.step = step;
        self.signal(&state, signal);
        match step {
            Step::Interrupted { until } => Some(until),
            _ => None,
        }
    }
}

fn write_lines(mut stdin: ChildStdin, lines: &Receiver<Input>) {
    while let Ok(Input::Line(line)) = lines.recv() {
        if let Err(error) = stdin.write_all(line.as_bytes()) {
            log::debug!("a process takes no more input: {error}");
            break;
        }
    }
}

fn read_lines(mut stdout: ChildStdout, exit: &OwnedFd, owner: &dyn Owner) {
    let mut lines = Splitter::new(LINE_BYTES_MAX);
    let mut pipe = Drained::new(&stdout, exit);
    while let Some(count) = pipe.wait_and(|| stdout.read(lines.space())) {
        lines.filled(count);
        if count > MUCH_BYTES {
            pipe.widen();
        }
        owner.output(&mut lines);
    }
    // A last line without its newline was cut off by the exit; Claude ends every line.
}

fn read_tail(mut stderr: ChildStderr, exit: &OwnedFd) -> String {
    let mut tail: Vec<u8> = Vec::new();
    let mut chunk = [0; 4096];
    let mut pipe = Drained::new(&stderr, exit);
    while let Some(count) = pipe.wait_and(|| stderr.read(&mut chunk)) {
        tail.extend_from_slice(&chunk[..count]);
        let surplus = tail.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
        tail.drain(..surplus);
    }
    String::from_utf8_lossy(&tail).trim().to_owned()
}

/// A pipe that is read until its end, or until [`DRAIN_AFTER_EXIT`] after the exit of the child.
struct Drained {
    pipe: RawFd,
    exit: RawFd,
    deadline: Option<Instant>,
    widened: bool,
}

impl Drained {
    fn new(pipe: &impl AsRawFd, exit: &OwnedFd) -> Drained {
        let (pipe, exit) = (pipe.as_raw_fd(), exit.as_raw_fd());
        // SAFETY: the descriptor is open. Reading must not block: the exit has to be noticed as well. If the call fails,
        // reads block, and the end of the pipe is still seen.
        unsafe { libc::fcntl(pipe, libc::F_SETFL, libc::fcntl(pipe, libc::F_GETFL) | libc::O_NONBLOCK) };
        Drained { pipe, exit, deadline: None, widened: false }
    }

    /// Much comes: lets the pipe hold as much as is read at once. Not before, since a user's pipes may hold only so much in
    /// all; beyond that the kernel refuses, and this one stays as it is.
    fn widen(&mut self) {
        if !std::mem::replace(&mut self.widened, true) {
            #[cfg(target_os = "linux")]
            // SAFETY: the descriptor is open.
            unsafe {
                libc::fcntl(self.pipe, libc::F_SETPIPE_SZ, i32::try_from(FULL_READ_BYTES).expect("a few pages"));
            }
        }
    }

    /// Reads when there is something; `None` at the end.
    fn wait_and(&mut self, mut read: impl FnMut() -> io::Result<usize>) -> Option<usize> {
        loop {
            // Whatever holds the pipe may go on for ever: after the exit only so much of it is wanted.
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            // Asking first, although there may be more, makes two system calls of a line: reading first would make three.
            let [readable, exited] = match self.deadline {
                None => wait_for(&[self.pipe, self.exit], None),
                Some(deadline) => [wait_for(&[self.pipe], Some(deadline))[0], false],
            };
            if exited {
                self.deadline = Some(Instant::now() + DRAIN_AFTER_EXIT);
            }
            if !readable {
                if exited {
                    continue;
                }
                return None;
            }
            match read() {
                Ok(0) => return None,
                Ok(count) => return Some(count),
                Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {}
                Err(error) => {
                    log::warn!("cannot read from a process: {error}");
                    return None;
                }
            }
        }
    }
}

/// Waits until one of `descriptors` is readable or closed; all `false`: the deadline has passed.
fn wait_for<const N: usize>(descriptors: &[RawFd; N], deadline: Option<Instant>) -> [bool; N] {
    let mut polls = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    loop {
        let timeout = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a wait of 0 ms just before the deadline would spin.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: N valid pollfds.
        let ready = unsafe { libc::poll(polls.as_mut_ptr(), N as libc::nfds_t, timeout) };
        if ready >= 0 {
            return polls.map(|poll| poll.revents != 0);
        }
        if io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return [false; N];
        }
    }
}
