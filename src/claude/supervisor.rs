//! All processes: who forks them, who waits for them, and the promise that none outlives its session.
//!
//! The **spawner** thread forks every child. It must live as long as the server: `PR_SET_PDEATHSIG`, which lets Claude
//! clean up when the server is killed, fires when the *thread* that forked ends. Before the first fork it takes the
//! lock on the data directory's processes (see [`super::guardian`]).
//!
//! The **reaper** thread waits for whatever child exits, but leaves it a zombie (`WNOWAIT`) until what it left behind
//! is swept: so long its pid cannot be used again. The server is a child subreaper on Linux, so orphaned tools become
//! its children and are reaped here too.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use parking_lot::{Condvar, Mutex};

use super::command::{Agent, Launch, command};
use super::guardian::{self, Guardian};
use super::process::{Owner, Pipes, Process};
use super::sweep::{Entry, Marked, SWEEP_TIMEOUT, Suspects, table};
use super::version;
use crate::threads::Threads;
use crate::timer::Timer;

/// Why nothing is started any more.
const SHUTTING_DOWN: &str = "the server is shutting down";

/// Where there is no child, the reaper looks again at every change, and after this time at the latest.
const NO_CHILD_PAUSE: Duration = Duration::from_millis(500);

/// A guardian that ended so soon after its start is not replaced at once: it may never run.
const GUARDIAN_LIVES: Duration = Duration::from_secs(10);

/// The longest wait for another guardian.
const GUARDIAN_PAUSE_MAX: Duration = Duration::from_secs(30);

/// What the supervisor needs to know.
pub struct Options {
    /// The program behind every session.
    pub agent: Agent,
    /// It is started below one of these only; canonical paths.
    pub allow_roots: Vec<PathBuf>,
    /// Where `processes.lock` lies.
    pub data_dir: PathBuf,
    /// This binary: it is executed again as the guardian.
    pub own_binary: PathBuf,
    /// Between the steps of stopping a process.
    pub stop_grace: Duration,
    /// Where the deadlines go.
    pub timer: Timer,
}

/// Starts processes and sees to their end. Cheap to clone.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
    orders: Sender<Order>,
}

enum Order {
    Launch { launch: Box<Launch>, owner: Arc<dyn Owner> },
    GuardianGone,
    Stop,
}

struct Shared {
    options: Options,
    names: guardian::Names,
    children: Mutex<Children>,
    changed: Condvar,
    threads: Threads,
}

#[derive(Default)]
struct Children {
    processes: HashMap<i32, Arc<Process>>,
    guardian: Option<Guardian>,
    /// A fork is under way: a child that nobody knows may be the one that is about to be registered.
    forking: bool,
    /// What is still forked is killed at once.
    killing: bool,
    /// Dropped when the server stops: from then on nothing is started, and nobody waits for the lock.
    open: Option<Sender<()>>,
    /// The reaper ends once this is set and nothing is left to wait for.
    stopping: bool,
}

impl Supervisor {
    /// Starts both threads. Processes are started once the lock on the data directory's processes is held.
    ///
    /// # Errors
    /// When the data directory cannot be used or the system gives no thread.
    pub fn start(options: Options) -> io::Result<Supervisor> {
        let names = guardian::Names::new(&options.data_dir)?;
        become_subreaper();
        // Ignored (inherited from whoever started the server), the kernel would reap children unseen.
        // SAFETY: the default action installs no code.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        let lock = guardian::open_lock(&options.data_dir)?;
        let (orders, inbox) = unbounded();
        let (open, closing) = bounded(0);
        let shared = Arc::new(Shared {
            options,
            names,
            children: Mutex::new(Children { open: Some(open), ..Children::default() }),
            changed: Condvar::new(),
            threads: Threads::default(),
        });
        let spawner = shared.clone();
        shared.threads.spawn("spawner".into(), move || spawner.run_spawner(lock, &inbox, &closing))?;
        let (reaper, to_spawner) = (shared.clone(), orders.clone());
        shared.threads.spawn("reaper".into(), move || reaper.run_reaper(&to_spawner))?;
        Ok(Supervisor { shared, orders })
    }

    /// The program behind every session.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.shared.options.agent
    }

    /// The value of the marker variable for a session.
    #[must_use]
    pub fn marker(&self, session: &str) -> String {
        self.shared.names.marker(session)
    }

    /// Orders a process; never blocks. At most one order a session is under way, so the queue is bounded by the number
    /// of sessions. `owner` is told the outcome, also when the server is stopping.
    pub fn launch(&self, launch: Launch, owner: Arc<dyn Owner>) {
        if let Err(refused) = self.orders.send(Order::Launch { launch: Box::new(launch), owner })
            && let Order::Launch { owner, .. } = refused.0
        {
            // Elsewhere: who orders may hold what the owner needs.
            let tell = move || owner.launched(Err(SHUTTING_DOWN.into()));
            if let Err(error) = self.shared.threads.spawn("refuse".into(), tell) {
                log::error!("a session does not hear that there is no process for it: {error}");
            }
        }
    }

    /// Asks which version the program is, if it is Claude Code; never blocks. `told` comes on a thread of its own.
    pub fn ask_version(&self, told: impl FnOnce(String) + Send + 'static) {
        if !self.agent().is_claude() {
            return;
        }
        let shared = self.shared.clone();
        let asked = self.shared.threads.spawn("version".into(), move || {
            let marker = shared.names.marker("version");
            match version::ask(&shared.options.agent, &marker) {
                Some(version) => told(version),
                None => log::debug!("{} does not tell its version", shared.options.agent.program.display()),
            }
            guardian::Names::suspects(Marked::Session(marker), Vec::new()).sweep(SWEEP_TIMEOUT);
        });
        if let Err(error) = asked {
            log::warn!("the version is not asked for: {error}");
        }
    }

    /// How many processes run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.shared.children.lock().processes.len()
    }

    /// Ends every process at once, also one that is being forked just now. For the end of the server.
    pub fn kill_all(&self) {
        let processes: Vec<_> = {
            let mut children = self.shared.children.lock();
            children.killing = true;
            children.processes.values().cloned().collect()
        };
        for process in processes {
            process.kill();
        }
    }

    /// Waits until no process runs, at most until `deadline`, then kills what is left, sweeps, and lets the guardian go.
    /// The sessions have told their processes to stop before. `false`: something could not be ended.
    #[must_use]
    pub fn shut_down(&self, deadline: Instant) -> bool {
        self.shared.children.lock().open = None;
        let _ = self.orders.send(Order::Stop);
        self.wait_until_idle(deadline);
        self.kill_all();
        let mut clean = self.wait_until_idle(Instant::now() + SWEEP_TIMEOUT);
        let guardian = {
            let mut children = self.shared.children.lock();
            children.stopping = true;
            children.guardian.take()
        };
        let spared = guardian.iter().map(Guardian::pid).collect();
        let left = self.shared.names.suspects_of_this_server(spared).sweep(SWEEP_TIMEOUT).1;
        clean &= left.is_empty();
        drop(guardian); // closes its pipe: it looks once more and exits, which the reaper sees
        self.shared.changed.notify_all();
        clean & self.shared.threads.wait_all(Instant::now() + SWEEP_TIMEOUT / 2)
    }

    fn wait_until_idle(&self, deadline: Instant) -> bool {
        let mut children = self.shared.children.lock();
        while !children.processes.is_empty() || children.forking {
            if self.shared.changed.wait_until(&mut children, deadline).timed_out() {
                return children.processes.is_empty() && !children.forking;
            }
        }
        true
    }
}

impl Shared {
    fn run_spawner(&self, lock: File, orders: &Receiver<Order>, closing: &Receiver<()>) {
        // Held until the end.
        let lock = guardian::take_lock(lock, &self.names, closing);
        if let Some(lock) = &lock {
            let report = self.names.suspects_of_others().sweep(SWEEP_TIMEOUT);
            if report.0 > 0 {
                log::warn!("ended {} process(es) that an earlier server left behind", report.0);
            }
            self.serve_orders(lock, orders);
        }
        // Sessions stop asking when the server stops; whoever asked in the meantime gets an answer.
        for order in orders.try_iter() {
            if let Order::Launch { owner, .. } = order {
                owner.launched(Err(SHUTTING_DOWN.into()));
            }
        }
        // The thread that forked must not end before its children: PDEATHSIG.
        let mut children = self.children.lock();
        while !children.stopping {
            self.changed.wait(&mut children);
        }
    }

    /// Announces a fork, so that nobody takes the child for a stray. `false`: the server stops.
    fn begin_fork(&self) -> bool {
        let mut children = self.children.lock();
        children.forking = children.open.is_some();
        children.forking
    }

    fn serve_orders(&self, lock: &File, orders: &Receiver<Order>) {
        self.start_guardian(lock);
        let (mut started, mut pause) = (Instant::now(), Duration::ZERO);
        let mut again: Option<Instant> = None;
        loop {
            let order = match again {
                None => orders.recv().ok(),
                Some(at) => match orders.recv_deadline(at) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.start_guardian(lock);
                        (started, again) = (Instant::now(), None);
                        continue;
                    }
                    order => order.ok(),
                },
            };
            match order {
                Some(Order::Launch { launch, owner }) => self.fork(&launch, &owner),
                Some(Order::GuardianGone) => {
                    let soon = started.elapsed() < GUARDIAN_LIVES;
                    pause = if soon { (pause * 2).clamp(NO_CHILD_PAUSE, GUARDIAN_PAUSE_MAX) } else { Duration::ZERO };
                    again = Some(Instant::now() + pause);
                }
                Some(Order::Stop) | None => return,
            }
        }
    }

    fn start_guardian(&self, lock: &File) {
        if !self.begin_fork() {
            return;
        }
        let started = Guardian::start(&self.options.own_binary, &self.names, lock);
        let mut children = self.children.lock();
        match started {
            Ok(guardian) => children.guardian = Some(guardian),
            Err(error) => log::error!("no guardian: if this server is killed, processes may be left behind: {error}"),
        }
        children.forking = false;
        drop(children);
        self.changed.notify_all();
    }

    fn fork(&self, launch: &Launch, owner: &Arc<dyn Owner>) {
        if !self.begin_fork() {
            return owner.launched(Err(SHUTTING_DOWN.into()));
        }
        let adopted = self.spawn(launch, owner);
        let mut children = self.children.lock();
        let killed = adopted.as_ref().ok().filter(|_| children.killing).cloned();
        let outcome = adopted.map(|process| children.processes.insert(process.pid(), process));
        children.forking = false;
        drop(children);
        if let Some(process) = killed {
            process.kill();
        }
        self.changed.notify_all();
        if let Err(error) = outcome {
            owner.launched(Err(error));
        }
    }

    fn spawn(&self, launch: &Launch, owner: &Arc<dyn Owner>) -> Result<Arc<Process>, String> {
        let program = self.options.agent.program.display();
        let cannot = |error: io::Error| format!("cannot start {program} in {}: {error}", launch.cwd.display());
        // A session may have been made when other directories were allowed, and its own may lie elsewhere by now.
        let lies_in = launch.cwd.canonicalize().map_err(cannot)?;
        if !self.options.allow_roots.iter().any(|root| lies_in.starts_with(root)) {
            return Err(format!("{} is not below any --allow-root", launch.cwd.display()));
        }
        let mut command = command(&self.options.agent, launch);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        end_with_the_server(&mut command);
        let mut child = command.spawn().map_err(cannot)?;
        let pipes = match (child.stdin.take(), child.stdout.take(), child.stderr.take()) {
            (Some(stdin), Some(stdout), Some(stderr)) => Pipes { stdin, stdout, stderr },
            _ => unreachable!("all three were asked for"),
        };
        let pid = i32::try_from(child.id()).expect("pids are positive i32");
        let (grace, timer, threads) = (self.options.stop_grace, &self.options.timer, &self.threads);
        Process::adopt(pid, launch.marker.clone(), pipes, owner, grace, timer, threads).map_err(|error| {
            // Not registered: the reaper takes it for a stray and reaps it.
            let _ = child.kill();
            cannot(error)
        })
    }

    fn run_reaper(&self, orders: &Sender<Order>) {
        loop {
            match next_exit() {
                Some(pid) => self.on_exit(pid, orders),
                None => {
                    // No child at all. A new one announces itself under the lock.
                    let mut children = self.children.lock();
                    if children.stopping && children.processes.is_empty() && !children.forking {
                        return;
                    }
                    self.changed.wait_for(&mut children, NO_CHILD_PAUSE);
                }
            }
        }
    }

    fn on_exit(&self, pid: i32, orders: &Sender<Order>) {
        let mut children = self.children.lock();
        while children.forking && !children.processes.contains_key(&pid) {
            self.changed.wait(&mut children);
        }
        if let Some(process) = children.processes.get(&pid).cloned() {
            // A fork under way is a child that nobody knows yet, and no orphan.
            while children.forking {
                self.changed.wait(&mut children);
            }
            let spared = children.guardian.iter().map(Guardian::pid).collect();
            let orphans = children.orphans();
            drop(children);
            let (killed, left) = process.suspects(spared, orphans).sweep(SWEEP_TIMEOUT);
            if killed > 0 {
                log::info!("process {pid} left processes behind, {killed} ended");
            }
            if !left.is_empty() {
                log::error!("process {pid} left processes behind that cannot be ended: {left:?}");
            }
            process.reap();
            self.children.lock().processes.remove(&pid);
        } else {
            if children.guardian.as_ref().is_some_and(|guardian| guardian.pid() == pid) {
                children.guardian = None;
                if !children.stopping {
                    log::warn!("the guardian has ended, another one takes over");
                    let _ = orders.send(Order::GuardianGone);
                }
            }
            drop(children);
            // SAFETY: a plain system call on a child that has exited; the status is of no interest.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) };
        }
        self.changed.notify_all();
    }
}

impl Children {
    /// Children of the server that it did not start: orphans of a process that has ended. Those of a process that runs stay
    /// below it, since it is a subreaper too.
    fn orphans(&self) -> Vec<Entry> {
        let own = i32::try_from(std::process::id()).expect("pids are positive i32");
        let guardian = self.guardian.as_ref().map(Guardian::pid);
        let known = |pid| self.processes.contains_key(&pid) || guardian == Some(pid);
        table().into_iter().filter(|entry| entry.parent == own && !known(entry.pid)).collect()
    }
}

impl guardian::Names {
    fn suspects(marked: Marked, mut spared: Vec<i32>) -> Suspects {
        spared.push(i32::try_from(std::process::id()).expect("pids are positive i32"));
        Suspects { marked, sessions: Vec::new(), noted: Vec::new(), spared }
    }

    /// Everything that this server has started for sessions.
    #[must_use]
    pub fn suspects_of_this_server(&self, spared: Vec<i32>) -> Suspects {
        Self::suspects(Marked::Incarnation(self.incarnation_prefix()), spared)
    }

    /// Everything that earlier servers on the same data directory have started, their guardians included.
    #[must_use]
    pub fn suspects_of_others(&self) -> Suspects {
        let marked = Marked::Others { data: self.data_prefix(), but: self.incarnation_prefix() };
        Self::suspects(marked, Vec::new())
    }
}

/// Blocks until some child has exited and returns its pid; it stays a zombie. `None`: there is no child.
fn next_exit() -> Option<i32> {
    loop {
        // SAFETY: zeroed is a valid siginfo_t, and it is only read after success.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is valid for writing.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT) };
        if result == 0 {
            // SAFETY: waitid succeeded, so the field is set.
            return Some(unsafe { info.si_pid() });
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return None;
        }
    }
}

/// The child gets a Unix session of its own, so that a terminal's Ctrl-C reaches only the server, and a SIGINT, which
/// lets Claude end its tools, when the server dies.
pub(super) fn end_with_the_server(command: &mut Command) {
    #[cfg(target_os = "linux")]
    let server = std::process::id();
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            #[cfg(target_os = "linux")]
            {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT);
                // Survives the exec. So whatever this process's tools leave behind stays below it while it runs, and
                // becomes the server's when it ends: found without a marker, and told from other sessions' processes.
                libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
                // The server may have died before the call above: then no signal will come.
                if libc::getppid().cast_unsigned() != server {
                    libc::_exit(1);
                }
            }
            Ok(())
        });
    }
}

fn become_subreaper() {
    #[cfg(target_os = "linux")]
    // SAFETY: a plain system call without pointers.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
    }
}
