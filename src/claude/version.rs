//! Which version of Claude Code there is, before any session has a process that tells it.
//!
//! Asked once, while the server listens already. The answer is not waited for: a program that gives none within a while is
//! ended, and the first process of a session tells the version.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use super::command::{Agent, MARKER_VARIABLE, clean_environment};
use super::supervisor::end_with_the_server;

/// The oldest version that the tests run.
pub const OLDEST_SUPPORTED: [u32; 3] = [2, 1, 197];

/// The real one needs a tenth of a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What is more than this is no version.
const ANSWER_BYTES_MAX: usize = 4096;

/// What is to be said of a version, if it is too old for this server. Versions of stand-ins are their own affair.
#[must_use]
pub fn warning(agent: &Agent, version: &str) -> Option<String> {
    let is_older = agent.is_claude() && numbers(version)? < OLDEST_SUPPORTED;
    let [major, minor, patch] = OLDEST_SUPPORTED;
    is_older.then(|| {
        format!("Claude Code {version} is older than {major}.{minor}.{patch}, the oldest that is supported: update it")
    })
}

/// `2.1.330`, also with something behind it.
fn numbers(version: &str) -> Option<[u32; 3]> {
    let mut parts = version.splitn(3, '.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse().ok()
    });
    Some([parts.next()??, parts.next()??, parts.next()??])
}

/// Asks the program itself. `marker`: how its process is found again.
pub(super) fn ask(agent: &Agent, marker: &str) -> Option<String> {
    let mut command = Command::new(&agent.program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    clean_environment(&mut command);
    command.env(MARKER_VARIABLE, marker);
    end_with_the_server(&mut command);
    // The reaper waits for it.
    let stdout = command.spawn().ok()?.stdout.take()?;
    let answer = read(stdout, Instant::now() + ANSWER_TIMEOUT);
    let version = answer.split_whitespace().next()?;
    numbers(version).map(|_| version.to_owned())
}

/// All that it says until its end, or until then.
fn read(mut from: ChildStdout, until: Instant) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 512];
    while answer.len() < ANSWER_BYTES_MAX && is_ready(&from, until) {
        match from.read(&mut buffer) {
            Ok(count) if count > 0 => answer.extend_from_slice(&buffer[..count]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

fn is_ready(pipe: &ChildStdout, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: pipe.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = i32::try_from(left.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: `poll` is one valid entry.
        match unsafe { libc::poll(&raw mut poll, 1, timeout) } {
            0 => return false,
            -1 if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
            ready => return ready > 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_claude_is_told() {
        let (claude, other) = (Agent::at("/x/claude".into(), vec![]), Agent::at("/x/stand-in".into(), vec![]));
        let cases = [
            ("2.1.196", true),
            ("2.0.999", true),
            ("1.9.9", true),
            ("2.1.196-beta.1", true),
            ("2.1.197", false),
            ("2.1.330 (Claude Code)", false),
            ("3.0.0", false),
            ("2.1", false),
            ("", false),
            ("99999999999.1.1", false),
        ];
        for (version, is_old) in cases {
            assert_eq!(warning(&claude, version).is_some(), is_old, "{version}");
            assert_eq!(warning(&other, version), None, "{version}");
        }
    }
}
