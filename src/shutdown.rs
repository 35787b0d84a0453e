//! The signals that end the server.

use std::io;

use crossbeam_channel::{Receiver, bounded};

/// Ctrl-C, SIGTERM and SIGHUP, each as one message. Only the first two matter: stop, and stop at once.
///
/// SIGHUP stays ignored where it was ignored at the start, so that `nohup` works.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn signals() -> io::Result<Receiver<()>> {
    let (send, received) = bounded(2);
    let ignored = hangup_is_ignored();
    // Runs on a thread of its own and must never block, or a second Ctrl-C would not be seen.
    let handler = move || {
        let _ = send.try_send(());
    };
    ctrlc::set_handler(handler).map_err(io::Error::other)?;
    if ignored {
        // SAFETY: ignoring a signal installs no code.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
    Ok(received)
}

fn hangup_is_ignored() -> bool {
    // SAFETY: zeroed is a valid sigaction; with a null action the call only reads.
    unsafe {
        let mut current: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGHUP, std::ptr::null(), &raw mut current) == 0 && current.sa_sigaction == libc::SIG_IGN
    }
}
