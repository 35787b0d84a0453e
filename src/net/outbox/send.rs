//! Handing bytes to the kernel, without waiting for it.

use std::io::{self, ErrorKind, IoSlice};
use std::net::TcpStream;
use std::os::fd::AsRawFd;

/// Sends what the kernel takes without waiting.
pub(super) fn send_now(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match send_pieces(socket, &[IoSlice::new(&bytes[sent..])])? {
            0 => break,
            count => sent += count,
        }
    }
    Ok(sent)
}

/// The same for all pieces in one system call; it may take less than the kernel would.
pub(super) fn send_pieces(socket: &TcpStream, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // Rust's runtime ignores SIGPIPE already.
    #[cfg(not(target_os = "linux"))]
    const FLAGS: i32 = libc::MSG_DONTWAIT;
    // SAFETY: all zeroes is a message without address, data and options.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` has the layout of `iovec`, and what is sent is only read.
    message.msg_iov = pieces.as_ptr().cast_mut().cast();
    message.msg_iovlen = pieces.len() as _;
    loop {
        // SAFETY: the descriptor is open, and the pieces are valid for their lengths.
        let count = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, FLAGS) };
        match usize::try_from(count) {
            Ok(count) => return Ok(count),
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
}
