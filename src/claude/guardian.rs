//! What happens to the processes when the server itself is killed.
//!
//! The guardian is this binary, executed again, in a Unix session of its own. It holds the reading end of a pipe whose
//! writing end only the server has: end of file means that the server is dead, however it died. Then it gives Claude,
//! which got SIGINT from the kernel, a moment to clean up, and kills what is left of this incarnation until two scans
//! find nothing.
//!
//! `processes.lock` in the data directory makes restarts safe. Server and guardian share one lock (an inherited
//! descriptor), so it is free only when both are gone. A new server listens at once, but starts no process before it
//! holds the lock; if a guardian hangs, the new server sweeps the older incarnation, that guardian included, itself.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};

use super::command::{MARKER_VARIABLE, clean_environment};
use super::sweep::{Marked, SWEEP_TIMEOUT, Suspects};

/// How long Claude may take to clean up after the SIGINT that it gets when the server dies (seen: up to 1.5 s).
const CLEAN_UP_TIME: Duration = Duration::from_secs(2);

/// How long a new server waits for an older guardian before it sweeps by itself.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// How this server's processes are marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    data: String,
    incarnation: String,
}

impl Names {
    /// The data directory is named by its device and inode, so that no spelling of its path matters; the incarnation
    /// is random.
    ///
    /// # Errors
    /// When the directory cannot be made or looked at.
    pub fn new(data_dir: &Path) -> io::Result<Names> {
        make_private_dir(data_dir)?;
        let meta = std::fs::metadata(data_dir)?;
        let data = format!("{:x}-{:x}", meta.dev(), meta.ino());
        Ok(Names { data, incarnation: format!("{:016x}", fastrand::u64(..)) })
    }

    /// The whole marker of a session's process.
    #[must_use]
    pub fn marker(&self, session: &str) -> String {
        format!("{}{session}", self.incarnation_prefix())
    }

    pub(super) fn data_prefix(&self) -> String {
        format!("{}:", self.data)
    }

    pub(super) fn incarnation_prefix(&self) -> String {
        format!("{}:{}:", self.data, self.incarnation)
    }
}

/// The running guardian. Dropping it closes the pipe, upon which it looks once more and exits.
pub struct Guardian {
    pid: i32,
    _alive: PipeWriter,
}

impl Guardian {
    /// Executes this binary again as the guardian of `names`, sharing the lock.
    ///
    /// # Errors
    /// When the program or the pipe cannot be had.
    pub(super) fn start(own_binary: &Path, names: &Names, lock: &File) -> io::Result<Guardian> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(own_binary);
        command.args(["guardian", &names.incarnation_prefix()]).current_dir("/");
        command.stdin(reader).stdout(Stdio::null()).stderr(Stdio::null());
        clean_environment(&mut command);
        command.env(MARKER_VARIABLE, names.marker("guardian"));
        let lock: RawFd = lock.as_raw_fd();
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(move || {
                libc::setsid();
                // Only in the child: the descriptor survives its exec, and with it the lock.
                if libc::fcntl(lock, libc::F_SETFD, 0) == -1 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn()?;
        Ok(Guardian { pid: i32::try_from(child.id()).expect("pids are positive i32"), _alive: writer })
    }

    pub(super) fn pid(&self) -> i32 {
        self.pid
    }
}

/// The guardian's `main`: waits for the server's death, then cleans up. `args` is what the server gave.
///
/// # Errors
/// When the argument is missing: somebody called it by hand.
pub fn run(args: &[OsString]) -> Result<(), String> {
    let prefix = args.first().and_then(|arg| arg.to_str()).filter(|prefix| prefix.ends_with(':'));
    let prefix = prefix.ok_or("the guardian is started by the server, not by hand")?;
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler. A service manager's stop must not end the guardian first.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let _ = io::stdin().lock().read_to_end(&mut Vec::new());
    let own = i32::try_from(std::process::id()).expect("pids are positive i32");
    let marked = Marked::Incarnation(prefix.to_owned());
    let mut suspects = Suspects { marked, sessions: Vec::new(), noted: Vec::new(), spared: vec![own] };
    // Descent is gone when Claude is: those below it without a marker are noted while it cleans up.
    suspects.noted = suspects.find();
    suspects.wait(CLEAN_UP_TIME);
    // Whatever hangs in the kernel longer than this is for the next server to find.
    for _ in 0..5 {
        if suspects.sweep(SWEEP_TIMEOUT).1.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Makes a directory that only its owner can look into, unless it is there.
///
/// # Errors
/// When it cannot be made.
pub fn make_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Opens `processes.lock`, not yet locked.
///
/// # Errors
/// When it cannot be opened.
pub fn open_lock(data_dir: &Path) -> io::Result<File> {
    open_private(&data_dir.join("processes.lock"))
}

/// Waits for the lock; after [`LOCK_TIMEOUT`] sweeps what holds it. Returns the file that holds the lock; none when
/// `closing` was disconnected in the meantime.
pub(super) fn take_lock(lock: File, names: &Names, closing: &Receiver<()>) -> Option<File> {
    let (send, locked) = bounded(1);
    let Ok(second) = lock.try_clone() else { return Some(lock) };
    // A lock has no time-out of its own. The clone shares it, so whoever waits longer than we do harms nobody.
    let waiting = thread::Builder::new().name("lock".into()).spawn(move || {
        let _ = send.send(second.lock());
    });
    if waiting.is_err() {
        return Some(lock);
    }
    for sweeping in [true, false] {
        select! {
            recv(locked) -> _ => return Some(lock),
            recv(closing) -> _ => return None,
            default(LOCK_TIMEOUT) => {}
        }
        if sweeping {
            log::warn!("an earlier server's processes are still being ended; ending them here");
            names.suspects_of_others().sweep(SWEEP_TIMEOUT);
        } else {
            log::error!("processes.lock is still held; going on without it");
        }
    }
    Some(lock)
}

/// Takes the lock that says which server owns the data directory; held until the file is dropped.
///
/// A server that was killed this very moment may not be gone quite yet (a child between fork and exec holds its
/// descriptors), so a held lock is waited for a little.
///
/// # Errors
/// [`io::ErrorKind::WouldBlock`] when another server has it.
pub fn take_server_lock(data_dir: &Path) -> io::Result<File> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let file = open_private(&data_dir.join("server.lock"))?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    let second = file.try_clone()?;
    let (send, locked) = bounded(1);
    thread::Builder::new().name("lock".into()).spawn(move || {
        let _ = send.send(second.lock());
    })?;
    match locked.recv_timeout(PATIENCE) {
        Ok(outcome) => outcome.map(|()| file),
        Err(_) => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn open_private(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)
}
