//! Where tests let the server die or halt, or its disk fail, at a named point: `CSM_FAILPOINT=NAME:COUNT`.
//!
//! At the COUNT-th time that the point is reached, the process is killed as by `kill -9`; `io:NAME:COUNT` fails every
//! write from the COUNT-th on, `hold:NAME:COUNT` halts the thread the COUNT-th time, both until the file that
//! `CSM_FAILPOINT_UNTIL` names exists. Where `CSM_FAILPOINT_SINCE` names a
//! file, nothing counts before that exists. Builds with optimisation have none of this.
//!
//! | point | where |
//! |---|---|
//! | `before-commit` | everything of a transaction is written, nothing is committed |
//! | `committed` | it is committed, and nobody was told |
//! | `sent` | viewers were told what has happened in a session, the store has not got it |
//! | `written` | a prompt is marked as written, the agent has got nothing |
//! | `resolved` | an answer to a question is on the disk, the agent has not got it |
//! | `page` | a viewer that comes to a session has not yet its page of the history |

#[cfg(debug_assertions)]
mod switched_on {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(PartialEq, Eq)]
    enum Kind {
        Die,
        Fail,
        Hold,
    }

    struct Failpoint {
        kind: Kind,
        name: String,
        count: u64,
    }

    static REACHED: AtomicU64 = AtomicU64::new(0);

    fn wanted() -> Option<&'static Failpoint> {
        static WANTED: OnceLock<Option<Failpoint>> = OnceLock::new();
        let parse = || {
            let wanted = std::env::var("CSM_FAILPOINT").ok()?;
            let (kind, rest) = match wanted.split_once(':')? {
                ("io", rest) => (Kind::Fail, rest),
                ("hold", rest) => (Kind::Hold, rest),
                _ => (Kind::Die, wanted.as_str()),
            };
            let (name, count) = rest.split_once(':')?;
            Some(Failpoint { kind, name: name.to_owned(), count: count.parse().ok()? })
        };
        WANTED.get_or_init(parse).as_ref()
    }

    /// Whether the variable names a file that exists; without the variable it is as `otherwise` says.
    fn names_a_file(variable: &str, otherwise: bool) -> bool {
        std::env::var_os(variable).map_or(otherwise, |file| std::path::Path::new(&file).exists())
    }

    fn is_due(name: &str, kind: &Kind) -> bool {
        let Some(wanted) = wanted().filter(|wanted| wanted.kind == *kind && wanted.name == name) else { return false };
        if !names_a_file("CSM_FAILPOINT_SINCE", true) {
            return false;
        }
        let reached = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
        reached == wanted.count || (*kind == Kind::Fail && reached > wanted.count)
    }

    pub fn reach(name: &str) {
        while_held(name);
        if is_due(name, &Kind::Die) {
            // SAFETY: a plain system call; nothing runs after it, as after a power cut.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            loop {
                std::thread::park();
            }
        }
    }

    fn while_held(name: &str) {
        if is_due(name, &Kind::Hold) {
            log::warn!("held at {name}");
            while !names_a_file("CSM_FAILPOINT_UNTIL", true) {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
        }
    }

    pub fn fail_io(name: &str) -> rusqlite::Result<()> {
        if is_due(name, &Kind::Fail) && !names_a_file("CSM_FAILPOINT_UNTIL", false) {
            let code = rusqlite::ffi::SQLITE_IOERR_FSYNC;
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(code),
                Some("as a test wants".into()),
            ));
        }
        Ok(())
    }
}

/// Ends the process or halts the thread here if a test wants it to.
#[inline]
pub fn reach(name: &str) {
    #[cfg(debug_assertions)]
    switched_on::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// Fails like a disk if a test wants it to.
///
/// # Errors
/// As a failing sync does.
#[inline]
pub fn fail_io(name: &str) -> rusqlite::Result<()> {
    #[cfg(debug_assertions)]
    switched_on::fail_io(name)?;
    #[cfg(not(debug_assertions))]
    let _ = name;
    Ok(())
}
