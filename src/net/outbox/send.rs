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

/// What became of the bytes that were sent.
#[derive(Default)]
pub(super) struct Sent {
    /// The other side's machine has taken so many.
    pub taken: u64,
    /// So many are on their way.
    pub under_way: u64,
}

impl Sent {
    /// Of both.
    pub fn all(&self) -> u64 {
        self.taken + self.under_way
    }
}

/// What the system knows of it: nothing, where it does not say.
#[cfg(target_os = "linux")]
pub(super) fn sent(socket: &TcpStream) -> Sent {
    // Of Linux' `struct tcp_info` (linux/tcp.h), `tcpi_bytes_acked`; since version 4.1.
    const BYTES_ACKED: std::ops::Range<usize> = 120..128;
    let mut info = [0_u8; BYTES_ACKED.end];
    let mut length = BYTES_ACKED.end as libc::socklen_t;
    let mut unsent: libc::c_int = 0;
    let fd = socket.as_raw_fd();
    // SAFETY: the descriptor is open, and no more than `length` bytes are written.
    let told =
        unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length) };
    // SAFETY: the descriptor is open, and TIOCOUTQ (tcp(7): SIOCOUTQ) writes one int.
    let counted = unsafe { libc::ioctl(fd, libc::TIOCOUTQ, &raw mut unsent) };
    if told != 0 || (length as usize) < BYTES_ACKED.end || counted != 0 {
        return Sent::default();
    }
    let taken = info[BYTES_ACKED].try_into().map_or(0, u64::from_ne_bytes);
    Sent { taken, under_way: u64::try_from(unsent).unwrap_or(0) }
}

/// See above.
#[cfg(not(target_os = "linux"))]
pub(super) fn sent(_: &TcpStream) -> Sent {
    Sent::default()
}
