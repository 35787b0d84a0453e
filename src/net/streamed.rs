//! Bodies that are made while they are sent: chunked, or for HTTP/1.0 up to the end of the connection.
//!
//! The connection's own thread makes them and holds nothing while it waits for the client. A client that does not read is
//! given up in time.

use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::Pieces;
use super::outbox::STALL_TIMEOUT;
use crate::proto::http::{Framing, LAST_CHUNK, Response, chunk_head};

/// So much is sent, or taken, at a time …
pub(super) const PART_BYTES: usize = 64 << 10;

/// … and must be through in this time: a client that takes, or sends, a byte now and then would otherwise keep its thread
/// for ever.
pub(super) const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends head and body; `body` is absent for the method HEAD.
///
/// # Errors
/// When the client is gone or does not read, or when the body cannot be made to its end. The client must not take what it
/// has for the whole then: the connection is to be closed.
pub(super) fn send(
    socket: &TcpStream,
    response: &Response,
    framing: Framing,
    keep_alive: bool,
    body: Option<Pieces>,
) -> io::Result<()> {
    let sent = write(socket, response.encode_head(framing, keep_alive), framing, body, PART_TIMEOUT);
    sent.and(socket.set_write_timeout(Some(STALL_TIMEOUT)))
}

fn write(
    socket: &TcpStream,
    head: Vec<u8>,
    framing: Framing,
    body: Option<Pieces>,
    part_timeout: Duration,
) -> io::Result<()> {
    let chunked = framing == Framing::Chunked;
    let has_body = body.is_some();
    let mut part = head;
    for piece in body.into_iter().flatten() {
        // An empty chunk would be the last.
        for bytes in piece?.chunks(PART_BYTES).filter(|bytes| !bytes.is_empty()) {
            if chunked {
                part.extend_from_slice(&chunk_head(bytes.len()));
            }
            part.extend_from_slice(bytes);
            if chunked {
                part.extend_from_slice(b"\r\n");
            }
            if part.len() >= PART_BYTES {
                write_within(socket, &part, part_timeout)?;
                part.clear();
            }
        }
    }
    if chunked && has_body {
        part.extend_from_slice(LAST_CHUNK);
    }
    write_within(socket, &part, part_timeout)
}

/// Writes all of it in that time at most.
fn write_within(mut socket: &TcpStream, mut bytes: &[u8], timeout: Duration) -> io::Result<()> {
    let deadline = Instant::now() + timeout;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "the client does not read"));
        }
        socket.set_write_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error)
                if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("connects");
        (listener.accept().expect("accepted").0, client)
    }

    fn pieces(pieces: Vec<io::Result<Vec<u8>>>) -> Pieces {
        Box::new(pieces.into_iter())
    }

    #[test]
    fn bodies_have_their_framing() {
        let large = vec![b'x'; PART_BYTES + 1];
        let mut chunked = b"10000\r\n".to_vec();
        chunked.extend_from_slice(&large[..PART_BYTES]);
        chunked.extend_from_slice(b"\r\n1\r\nx\r\n0\r\n\r\n");
        let short = || Some(pieces(vec![Ok(b"one".to_vec()), Ok(vec![]), Ok(b"two!".to_vec())]));
        let cases: [(Framing, Option<Pieces>, &[u8]); 6] = [
            (Framing::Chunked, short(), b"3\r\none\r\n4\r\ntwo!\r\n0\r\n\r\n"),
            (Framing::UntilClosed, short(), b"onetwo!"),
            (Framing::Chunked, Some(pieces(vec![])), b"0\r\n\r\n"),
            (Framing::Chunked, None, b""),
            (Framing::UntilClosed, None, b""),
            (Framing::Chunked, Some(pieces(vec![Ok(large)])), &chunked),
        ];
        for (framing, body, expected) in cases {
            let (server, mut client) = pair();
            let reader = thread::spawn(move || {
                let mut read = Vec::new();
                client.read_to_end(&mut read).map(|_| read)
            });
            write(&server, b"head ".to_vec(), framing, body, PART_TIMEOUT).expect("sent");
            drop(server);
            let read = reader.join().expect("ends").expect("read");
            assert!(read == [b"head ", expected].concat(), "{framing:?}: {} bytes", read.len());
        }
    }

    #[test]
    fn what_cannot_be_made_has_no_end() {
        let (server, mut client) = pair();
        let body = pieces(vec![Ok(vec![b'x'; PART_BYTES]), Err(io::Error::other("no more"))]);
        assert!(write(&server, Vec::new(), Framing::Chunked, Some(body), PART_TIMEOUT).is_err());
        drop(server);
        let mut read = Vec::new();
        client.read_to_end(&mut read).expect("read");
        assert!(read.ends_with(b"xx\r\n"), "no last chunk");
    }

    #[test]
    fn a_client_that_does_not_read_is_given_up() {
        let timeout = Duration::from_millis(300);
        for trickles in [false, true] {
            let (server, client) = pair();
            let (stop, stopped) = crossbeam_channel::bounded::<()>(0);
            let reader = thread::spawn(move || {
                let pause = Duration::from_millis(20);
                while stopped.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                    let _ = trickles && (&client).read(&mut [0; 16]).is_err();
                }
            });
            let endless: Pieces = Box::new(std::iter::repeat_with(|| Ok(vec![b'x'; PART_BYTES])));
            let error = write(&server, Vec::new(), Framing::Chunked, Some(endless), timeout).expect_err("given up");
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            drop(stop);
            reader.join().expect("ends");
        }
    }
}
