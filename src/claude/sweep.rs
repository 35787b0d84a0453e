//! What a process left behind, found and ended.
//!
//! Claude's Bash tool runs each command in a Unix session of its own, so killing Claude, or its process group, leaves
//! those commands running. They are found in the process table in three ways: by the marker in the environment, which
//! children inherit; by descent; and by Unix session. A pid alone is never trusted, since it may have been used again:
//! a process is its pid and its start time.

use std::time::{Duration, Instant};

pub use platform::table;
use platform::{Marker, end, marker_of};

/// A process that cannot be ended within this time is left to its fate, with a line in the log. SIGKILL works at once
/// unless the kernel itself is stuck on a disk.
pub const SWEEP_TIMEOUT: Duration = Duration::from_secs(2);

/// An `exec` takes much less than so many scans of the table.
const UNCLEAR_SCANS_MAX: usize = 10;

/// One process as the table shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Process id.
    pub pid: i32,
    /// The parent's id.
    pub parent: i32,
    /// The Unix session's id.
    pub session: i32,
    /// Start time in clock ticks since boot: with the pid it names a process for good.
    pub started: u64,
}

/// The marker of processes, `DATA:INCARNATION:SESSION`: the data directory's id, the server's random incarnation, and
/// the session that it works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// Exactly this session of this incarnation.
    Session(String),
    /// Everything of one incarnation: `DATA:INCARNATION:`.
    Incarnation(String),
    /// Everything of the same data directory but of another incarnation.
    Others {
        /// `DATA:`.
        data: String,
        /// `DATA:INCARNATION:` of the living server.
        but: String,
    },
}

impl Marked {
    fn matches(&self, marker: &str) -> bool {
        match self {
            Marked::Session(whole) => marker == whole,
            Marked::Incarnation(prefix) => marker.starts_with(prefix.as_str()),
            Marked::Others { data, but } => marker.starts_with(data.as_str()) && !marker.starts_with(but.as_str()),
        }
    }
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct Suspects {
    /// By the environment.
    pub marked: Marked,
    /// By Unix session; the numbers must still be held by somebody who is not reaped.
    pub sessions: Vec<i32>,
    /// Seen earlier as descendants.
    pub noted: Vec<Entry>,
    /// Never touched: ourselves, and the guardian.
    pub spared: Vec<i32>,
}

impl Suspects {
    /// All living processes that match, and their descendants.
    #[must_use]
    pub fn find(&self) -> Vec<Entry> {
        self.scan().0
    }

    /// The same, and whether some process could not be judged: in the middle of an `exec` a process shows an empty
    /// environment.
    fn scan(&self) -> (Vec<Entry>, bool) {
        let table = table();
        let mut unclear = false;
        let mut direct = |entry: &Entry| {
            if self.noted.iter().any(|noted| (noted.pid, noted.started) == (entry.pid, entry.started))
                || self.sessions.contains(&entry.session)
            {
                return true;
            }
            match marker_of(entry) {
                Marker::Is(marker) => self.marked.matches(&marker),
                Marker::Unclear => {
                    unclear = true;
                    false
                }
                Marker::None => false,
            }
        };
        let found: Vec<Entry> = table.iter().filter(|entry| direct(entry)).copied().collect();
        let mut all = with_descendants(&table, found);
        all.retain(|entry| !self.spared.contains(&entry.pid));
        (all, unclear)
    }

    /// Kills until two scans in a row find nothing, or `timeout` has passed. Returns how many were killed and what is
    /// left.
    pub fn sweep(&self, timeout: Duration) -> (usize, Vec<Entry>) {
        let deadline = Instant::now() + timeout;
        let (mut killed, mut clean_scans, mut scans) = (0, 0, 0);
        loop {
            let (found, unclear) = self.scan();
            scans += 1;
            if found.is_empty() {
                clean_scans += 1;
                // An environment that is empty for good (a program may well start another so) must not hold us up.
                if clean_scans >= 2 && (!unclear || scans >= UNCLEAR_SCANS_MAX) {
                    return (killed, found);
                }
                continue;
            }
            if Instant::now() >= deadline {
                return (killed, found);
            }
            clean_scans = 0;
            killed += found.len();
            end(&found, libc::SIGKILL, deadline);
        }
    }

    /// Waits until all that is found now has ended by itself, or `timeout` has passed.
    pub fn wait(&self, timeout: Duration) {
        end(&self.find(), 0, Instant::now() + timeout);
    }
}

/// `roots` and everything below them.
fn with_descendants(table: &[Entry], mut roots: Vec<Entry>) -> Vec<Entry> {
    let mut at = 0;
    while at < roots.len() {
        let parent = roots[at].pid;
        for child in table.iter().filter(|entry| entry.parent == parent) {
            if !roots.contains(child) {
                roots.push(*child);
            }
        }
        at += 1;
    }
    roots
}

/// Everything below `pid`, without itself.
#[must_use]
pub fn descendants(pid: i32) -> Vec<Entry> {
    let table = table();
    let root: Vec<Entry> = table.iter().filter(|entry| entry.pid == pid).copied().collect();
    let mut all = with_descendants(&table, root);
    all.retain(|entry| entry.pid != pid);
    all
}

#[cfg(target_os = "linux")]
mod platform {
    use std::fs;
    use std::io::Read;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::Instant;

    use super::Entry;
    use crate::claude::command::MARKER_VARIABLE;

    /// What a process's environment says.
    pub(super) enum Marker {
        Is(String),
        None,
        /// It has no environment, at least not now.
        Unclear,
    }

    /// The parent of the kernel's own threads, which have no environment.
    const KERNEL: i32 = 2;

    /// An environment is read up to this length; the marker of a process with a longer one may be missed, descent and
    /// session still find it.
    const ENVIRONMENT_BYTES_MAX: u64 = 1 << 20;

    /// All living processes (zombies are not living).
    pub fn table() -> Vec<Entry> {
        let Ok(directory) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = directory.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter_map(entry).collect()
    }

    fn entry(pid: i32) -> Option<Entry> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = String::from_utf8_lossy(&stat);
        // The name in parentheses may itself hold spaces and parentheses: what follows the last one is sound.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let session = fields.nth(1)?.parse().ok()?;
        let started = fields.nth(15)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Entry { pid, parent, session, started })
    }

    pub(super) fn marker_of(entry: &Entry) -> Marker {
        let mut environment = Vec::new();
        let read = fs::File::open(format!("/proc/{}/environ", entry.pid))
            .and_then(|file| file.take(ENVIRONMENT_BYTES_MAX).read_to_end(&mut environment));
        match read {
            // Somebody else's, or gone.
            Err(_) => return Marker::None,
            Ok(0) if entry.pid == KERNEL || entry.parent == KERNEL => return Marker::None,
            Ok(0) => return Marker::Unclear,
            Ok(_) => {}
        }
        let value = environment
            .split(|byte| *byte == 0)
            .find_map(|pair| pair.strip_prefix(MARKER_VARIABLE.as_bytes())?.strip_prefix(b"="));
        value.and_then(|value| String::from_utf8(value.to_vec()).ok()).map_or(Marker::None, Marker::Is)
    }

    /// Sends `signal` (0: none) to each and waits until all have ended, at most until `deadline`.
    pub(super) fn end(processes: &[Entry], signal: i32, deadline: Instant) {
        let handles: Vec<OwnedFd> = processes.iter().filter_map(handle).collect();
        for process in &handles {
            if signal != 0 {
                // SAFETY: the descriptor is open; a null siginfo means what `kill` would send.
                unsafe {
                    libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, std::ptr::null::<u8>(), 0);
                }
            }
        }
        for process in handles {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            let mut poll = libc::pollfd { fd: process.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one valid pollfd. A pidfd becomes readable when its process ends, reaped or not.
            unsafe { libc::poll(&raw mut poll, 1, i32::try_from(left).unwrap_or(i32::MAX)) };
        }
    }

    /// A pidfd that names this very process: opened first, then checked against the start time.
    fn handle(process: &Entry) -> Option<OwnedFd> {
        // SAFETY: a plain system call; the result is checked before it is owned.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process.pid, 0) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: the descriptor was just opened and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        (entry(process.pid)?.started == process.started).then_some(fd)
    }
}

/// Without `/proc` only Unix sessions and groups are known: the README says what that means.
#[cfg(not(target_os = "linux"))]
mod platform {
    use std::time::Instant;

    use super::Entry;

    /// Not available here.
    pub fn table() -> Vec<Entry> {
        Vec::new()
    }

    /// What a process's environment says: nothing here.
    #[expect(dead_code, reason = "the other variants are Linux's")]
    pub(super) enum Marker {
        Is(String),
        None,
        Unclear,
    }

    pub(super) fn marker_of(_entry: &Entry) -> Marker {
        Marker::None
    }

    pub(super) fn end(_processes: &[Entry], _signal: i32, _deadline: Instant) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use crate::claude::command::MARKER_VARIABLE;

    /// A process that runs until it is killed, and is reaped when the test is over.
    struct Sleeper(Child);

    impl Sleeper {
        fn start(marker: Option<&str>) -> Sleeper {
            let mut command = Command::new("tail");
            command.args(["-f", "/dev/null"]).process_group(0);
            match marker {
                Some(marker) => command.env(MARKER_VARIABLE, marker),
                None => command.env_remove(MARKER_VARIABLE),
            };
            Sleeper(command.spawn().expect("tail starts"))
        }

        fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).expect("fits")
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn suspects(marked: Marked) -> Suspects {
        Suspects { marked, sessions: vec![], noted: vec![], spared: vec![] }
    }

    #[test]
    fn each_marker_finds_its_own() {
        let unique = fastrand::u64(..);
        let (data, one, two) = (format!("{unique}:"), format!("{unique}:one:"), format!("{unique}:two:"));
        let sleepers = [
            Sleeper::start(Some(&format!("{one}a"))),
            Sleeper::start(Some(&format!("{one}b"))),
            Sleeper::start(Some(&format!("{two}a"))),
            Sleeper::start(None),
        ];
        let cases = [
            (Marked::Session(format!("{one}a")), &[0][..]),
            (Marked::Incarnation(one.clone()), &[0, 1]),
            (Marked::Others { data, but: one }, &[2]),
        ];
        for (marked, expected) in cases {
            let mut found: Vec<i32> = suspects(marked.clone()).find().iter().map(|entry| entry.pid).collect();
            let mut expected: Vec<i32> = expected.iter().map(|index: &usize| sleepers[*index].pid()).collect();
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected, "{marked:?}");
        }
    }

    #[test]
    fn a_sweep_ends_all_it_finds_and_spares_the_spared() {
        let marker = format!("{}:x:y", fastrand::u64(..));
        let (mut gone, spared) = (Sleeper::start(Some(&marker)), Sleeper::start(Some(&marker)));
        let suspects = Suspects { spared: vec![spared.pid()], ..suspects(Marked::Session(marker)) };
        assert_eq!(suspects.sweep(SWEEP_TIMEOUT), (1, vec![]));
        assert!(!gone.0.wait().expect("reaped").success());
        assert!(table().iter().any(|entry| entry.pid == spared.pid()));
    }

    #[test]
    fn a_reused_pid_is_not_taken_for_the_old_process() {
        let sleeper = Sleeper::start(None);
        let entry = *table().iter().find(|entry| entry.pid == sleeper.pid()).expect("listed");
        let earlier = Entry { started: entry.started - 1, ..entry };
        let none = Marked::Session("none".into());
        assert_eq!(Suspects { noted: vec![earlier], ..suspects(none.clone()) }.find(), []);
        assert_eq!(Suspects { noted: vec![entry], ..suspects(none) }.find(), [entry]);
    }

    #[test]
    fn descent_is_followed() {
        let mut shell = Command::new("sh").args(["-c", "tail -f /dev/null & wait"]).spawn().expect("sh starts");
        let pid = i32::try_from(shell.id()).expect("fits");
        let deadline = Instant::now() + Duration::from_secs(30);
        while descendants(pid).is_empty() {
            assert!(Instant::now() < deadline, "the shell has started its child");
            std::thread::yield_now();
        }
        let below = descendants(pid);
        assert_eq!(below.len(), 1);
        shell.kill().expect("killed");
        shell.wait().expect("reaped");
        let noted = Suspects { noted: below, ..suspects(Marked::Session("none".into())) };
        assert_eq!(noted.sweep(SWEEP_TIMEOUT), (1, vec![]));
    }
}
