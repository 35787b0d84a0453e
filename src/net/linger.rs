//! How a socket is closed over which the client may still be sending.
//!
//! Closing a socket with unread bytes resets the connection, and upon a reset the client's system throws away what it has
//! received but not yet read: the client would see a broken connection in place of the answer that it got.

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// A client has this long to see the answer and to end its side.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// Ends our side, then reads and throws away until the client has ended its own.
pub(super) fn linger(socket: &TcpStream) {
    let until = Instant::now() + LINGER_TIMEOUT;
    let mut rest = [0; 4096];
    let mut more = socket.shutdown(Shutdown::Write).is_ok();
    while more {
        let left = until.saturating_duration_since(Instant::now());
        more = left >= Duration::from_millis(1)
            && socket.set_read_timeout(Some(left)).is_ok()
            && matches!((&mut &*socket).read(&mut rest), Ok(count) if count > 0);
    }
}
