//! The process table of Linux, as `/proc` shows it.

use std::{
    collections::{HashMap, HashSet},
    fs, thread,
    time::{Duration, Instant},
};

use super::DEADLINE;

/// How long [`eventually`] pauses between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// After the first [`QUICK_LOOKS`]. A look may ask a server, of which a client may ask 50 things a second and no more: whoever
/// waits for long would be refused, and so would what the test does next.
const LOOK_LATER_EVERY: Duration = Duration::from_millis(50);

/// So many looks come fast, for what is there in a moment.
const QUICK_LOOKS: u32 = 20;

/// One process, seen at one moment.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The number of its parent.
    pub ppid: i32,
    /// The session it is in (`setsid`).
    pub sid: i32,
    /// One letter: `R`, `S`, `Z` (dead, waiting to be reaped) and so on.
    pub state: char,
    /// Clock ticks from the machine's start to its own; with `pid` this names a process for good.
    pub start_time: u64,
    /// The resident memory in pages.
    pub rss_pages: u64,
    /// Its command name as the kernel keeps it: at most 15 bytes.
    pub name: String,
    /// Its arguments; empty for one that is dead.
    pub cmdline: Vec<String>,
    /// Its environment at `exec`, as `NAME=value`; empty for one that is dead.
    pub environ: Vec<String>,
}

impl Process {
    /// Whether it has ended and only waits to be reaped.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The value of a variable in its environment.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.environ.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it is still the process it was, and not dead.
    pub fn is_alive(&self) -> bool {
        get(self.pid).is_some_and(|now| now.start_time == self.start_time && !now.is_zombie())
    }
}

/// Every process that can be read.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc");
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One that ends while it is looked at is as good as gone.
    pids.filter_map(get).collect()
}

/// One process, if there is one with that number.
///
/// In the middle of `exec`, and on its way to being a zombie, a process has neither arguments nor environment: a search
/// by mark would miss the first and be right to miss the second. So such a one is looked at again, for a while.
pub fn get(pid: i32) -> Option<Process> {
    const LOOKS_MAX: u32 = 200;
    let kernel = |process: &Process| pid == 2 || process.ppid == 2;
    let blank = |process: &Process| process.cmdline.is_empty() && process.environ.is_empty();
    for _ in 0..LOOKS_MAX {
        let process = look(pid)?;
        if process.is_zombie() || kernel(&process) || !blank(&process) {
            return Some(process);
        }
        thread::sleep(Duration::from_millis(1));
    }
    look(pid)
}

fn look(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold spaces and parentheses itself.
    let (front, rest) = stat.rsplit_once(')')?;
    let name = front.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Process {
        pid,
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        sid: fields.get(3)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
        rss_pages: fields.get(21)?.parse().ok()?,
        name,
        cmdline: strings(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()),
        environ: strings(&fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()),
    })
}

fn strings(bytes: &[u8]) -> Vec<String> {
    let parts = bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty());
    parts.map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

/// The living processes whose environment holds `needle` anywhere.
pub fn with_env_containing(needle: &str) -> Vec<Process> {
    let mut found = all();
    found.retain(|process| !process.is_zombie() && process.environ.iter().any(|entry| entry.contains(needle)));
    found
}

/// The living processes of which an argument holds `needle`.
pub fn with_arg_containing(needle: &str) -> Vec<Process> {
    let mut found = all();
    found.retain(|process| !process.is_zombie() && process.cmdline.iter().any(|arg| arg.contains(needle)));
    found
}

/// The children of `pid`, their children, and so on; zombies too, `pid` itself not.
pub fn descendants(pid: i32) -> Vec<Process> {
    let mut by_parent: HashMap<i32, Vec<Process>> = HashMap::new();
    for process in all() {
        by_parent.entry(process.ppid).or_default().push(process);
    }
    let (mut found, mut seen) = (Vec::new(), HashSet::from([pid]));
    let mut open = vec![pid];
    while let Some(parent) = open.pop() {
        for child in by_parent.remove(&parent).unwrap_or_default() {
            if seen.insert(child.pid) {
                open.push(child.pid);
                found.push(child);
            }
        }
    }
    found
}

/// Waits until no process with that number lives; a zombie counts as gone.
///
/// # Panics
/// When it still lives after [`DEADLINE`].
pub fn wait_gone(pid: i32) {
    eventually(&format!("process {pid} gone"), DEADLINE, || get(pid).is_none_or(|process| process.is_zombie()));
}

/// Waits until no living process has `needle` in its environment.
///
/// # Panics
/// When one is left after [`DEADLINE`]; it is named.
pub fn wait_none_with_env(needle: &str) {
    let mut left = Vec::new();
    let gone = until(DEADLINE, || {
        left = with_env_containing(needle);
        left.is_empty()
    });
    let names: Vec<_> = left.iter().map(|process| (process.pid, process.ppid, &process.cmdline)).collect();
    assert!(gone, "left after {DEADLINE:?}: {names:?}");
}

/// Waits until `holds` is true.
///
/// The one place that looks again and again instead of waiting for an event: `/proc` has no event that says a
/// process came or went, and a pidfd exists only for a process that is known already.
///
/// # Panics
/// When it is not true after `deadline`; the message names `what`.
pub fn eventually(what: &str, deadline: Duration, holds: impl FnMut() -> bool) {
    assert!(until(deadline, holds), "not within {deadline:?}: {what}");
}

/// As [`eventually`], but says whether it came true.
pub fn until(deadline: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    let mut looks = 0..QUICK_LOOKS;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(if looks.next().is_some() { LOOK_EVERY } else { LOOK_LATER_EVERY });
    }
}

/// Sends a signal to exactly one process; false where there was none.
pub fn signal(pid: i32, signal: i32) -> bool {
    assert!(pid > 1, "a signal to {pid} would reach more than one process");
    // SAFETY: kill takes two numbers and touches no memory.
    unsafe { libc::kill(pid, signal) == 0 }
}

/// Kills every process that has `needle` in its environment, until a look finds none.
///
/// # Panics
/// When some are left after [`DEADLINE`].
pub fn kill_with_env_containing(needle: &str) {
    assert!(needle.len() >= 8, "{needle:?} could be in anyone's environment");
    eventually("the leftovers killed", DEADLINE, || {
        let left = with_env_containing(needle);
        for process in &left {
            signal(process.pid, libc::SIGKILL);
        }
        left.is_empty()
    });
}
