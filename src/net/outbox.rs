//! What waits to be sent to one client, and who sends it.
//!
//! ```text
//!   idle ──push: the kernel takes all──▶ idle
//!     │ push: a remainder is left
//!     ▼
//!   draining: a writer thread sends, blocking; every push goes behind the queue ──▶ idle, when all is sent
//! ```
//!
//! The thread that has the bytes writes them, without blocking. So an event costs one wake-up, that of the thread which
//! read it from Claude: handing it to a writer thread would cost a second one. Only a client that is behind gets a writer
//! thread, for as long as it is behind. Pushing never waits for anybody: an outbox over its limit is ended, which its
//! connection's own thread notices.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use crate::proto::frames::{CloseCode, Frames};
use crate::threads::Threads;

/// A client that takes not one byte for so long is gone.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A writer thread without work waits so long for more before it ends.
const WRITER_LINGER: Duration = Duration::from_secs(1);

/// How many pieces one system call sends at most.
const WRITE_PIECES_MAX: usize = 32;

/// Where packets for a client go.
pub trait Sink: Send + Sync {
    /// Takes the packets, without ever blocking. `false`: the client is gone or going.
    fn push(&self, frames: &Arc<Frames>) -> bool;
}

/// The outbox of one connection.
pub struct Outbox {
    socket: Arc<TcpStream>,
    state: Mutex<State>,
    more: Condvar,
    bytes_max: usize,
    writers: Sender<Arc<Outbox>>,
    itself: Weak<Outbox>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Piece>,
    /// Of the queue, not yet taken by the kernel.
    bytes: usize,
    draining: bool,
    has_writer: bool,
    /// So many pieces at the front are in a system call of the writer thread, which may send all of them.
    in_flight: usize,
    /// Nothing more is accepted: a close frame is the last in the queue, or the socket is dead.
    ended: bool,
}

struct Piece {
    frames: Arc<Frames>,
    /// So many bytes of it are sent.
    sent: usize,
    /// So many of its bytes are to be sent.
    end: usize,
}

impl Outbox {
    /// An empty outbox that holds at most `bytes_max` bytes; `writers` is where it asks for a thread.
    #[must_use]
    pub fn new(socket: Arc<TcpStream>, bytes_max: usize, writers: Sender<Arc<Outbox>>) -> Arc<Outbox> {
        Arc::new_cyclic(|itself| Outbox {
            socket,
            state: Mutex::default(),
            more: Condvar::new(),
            bytes_max,
            writers,
            itself: itself.clone(),
        })
    }

    /// Ends the connection in good order: what is queued, then a close frame, then no more. Never blocks.
    pub fn close(&self, code: CloseCode) {
        self.close_with(&Arc::new(Frames::raw(code.frame())));
    }

    /// The same with a close frame made elsewhere.
    pub fn close_with(&self, frame: &Arc<Frames>) {
        let mut state = self.state.lock();
        if !state.ended {
            self.put(&mut state, frame);
            self.end(&mut state);
        }
    }

    /// Ends the connection without more ado. Never blocks.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        self.abandon(&mut state);
    }

    fn end(&self, state: &mut State) {
        state.ended = true;
        if !state.draining {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
        self.more.notify_all();
    }

    fn abandon(&self, state: &mut State) {
        state.ended = true;
        state.queue.clear();
        state.bytes = 0;
        let _ = self.socket.shutdown(Shutdown::Both);
        self.more.notify_all();
    }

    fn put(&self, state: &mut State, frames: &Arc<Frames>) {
        let bytes = frames.bytes();
        let mut sent = 0;
        if !state.draining {
            match send_now(&self.socket, bytes) {
                Ok(count) => sent = count,
                Err(error) => {
                    log::debug!("a client cannot be written to: {error}");
                    return self.abandon(state);
                }
            }
        }
        if sent == bytes.len() {
            return;
        }
        state.bytes += bytes.len() - sent;
        state.queue.push_back(Piece { frames: frames.clone(), sent, end: bytes.len() });
        if !state.draining {
            state.draining = true;
            if !state.has_writer {
                state.has_writer = true;
                // Fails only when the server has stopped; then nobody waits for these bytes.
                let _ = self.itself.upgrade().map(|outbox| self.writers.send(outbox));
            }
        }
        self.more.notify_one();
    }

    /// Too much is queued: only what the kernel may be taking just now, or at least the frame that is cut, is completed,
    /// then the client is told to come back later.
    fn overflow(&self, state: &mut State) {
        log::info!("a client is too slow: {} bytes wait for it; it is sent away", state.bytes);
        state.queue.truncate(state.in_flight.max(1));
        if state.in_flight == 0
            && let Some(first) = state.queue.front_mut()
        {
            first.end = first.frames.frame_end(first.sent);
        }
        state.bytes = state.queue.iter().map(|piece| piece.end - piece.sent).sum();
        self.put(state, &Arc::new(Frames::raw(CloseCode::TryAgainLater.frame())));
        self.end(state);
    }

    /// The writer thread: sends, blocking, until nothing is left.
    fn drain(&self) {
        let mut state = self.state.lock();
        loop {
            if state.queue.is_empty() {
                state.draining = false;
                if state.ended {
                    let _ = self.socket.shutdown(Shutdown::Write);
                }
                if state.ended || self.more.wait_for(&mut state, WRITER_LINGER).timed_out() && state.queue.is_empty() {
                    state.has_writer = false;
                    return;
                }
                continue;
            }
            let pieces: Vec<_> = state
                .queue
                .iter()
                .take(WRITE_PIECES_MAX)
                .map(|piece| (piece.frames.clone(), piece.sent, piece.end))
                .collect();
            state.in_flight = pieces.len();
            drop(state);
            let slices: Vec<_> =
                pieces.iter().map(|(frames, sent, end)| IoSlice::new(&frames.bytes()[*sent..*end])).collect();
            let written = (&*self.socket).write_vectored(&slices);
            state = self.state.lock();
            state.in_flight = 0;
            match written {
                Ok(count) => state.advance(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("a client cannot be written to: {error}");
                    self.abandon(&mut state);
                }
            }
        }
    }
}

impl Sink for Outbox {
    fn push(&self, frames: &Arc<Frames>) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        self.put(&mut state, frames);
        if state.bytes > self.bytes_max {
            self.overflow(&mut state);
        }
        !state.ended
    }
}

impl State {
    fn advance(&mut self, mut count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
        while let Some(first) = self.queue.front_mut() {
            let left = first.end - first.sent;
            if count < left {
                first.sent += count;
                return;
            }
            count -= left;
            self.queue.pop_front();
        }
    }
}

/// Sends what the kernel takes without waiting.
fn send_now(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // Rust's runtime ignores SIGPIPE already.
    #[cfg(not(target_os = "linux"))]
    const FLAGS: i32 = libc::MSG_DONTWAIT;
    let mut sent = 0;
    while sent < bytes.len() {
        let rest = &bytes[sent..];
        // SAFETY: the descriptor is open and the buffer is valid for its length.
        let count = unsafe { libc::send(socket.as_raw_fd(), rest.as_ptr().cast(), rest.len(), FLAGS) };
        match usize::try_from(count) {
            Ok(count) => sent += count,
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == ErrorKind::WouldBlock => break,
                error if error.kind() == ErrorKind::Interrupted => {}
                error => return Err(error),
            },
        }
    }
    Ok(sent)
}

/// Gives each outbox that asks a writer thread. Runs until every asker is gone; a thread is never started by whoever
/// pushes, since that may hold a session's lock.
pub fn run_writers(asking: &Receiver<Arc<Outbox>>, threads: &Threads) {
    for outbox in asking {
        let writer = outbox.clone();
        if let Err(error) = threads.spawn("writer".into(), move || writer.drain()) {
            log::error!("no thread for a slow client: {error}");
            outbox.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;
    use std::io::Read;
    use std::net::TcpListener;
    use std::time::Instant;

    struct Pair {
        outbox: Arc<Outbox>,
        client: TcpStream,
        threads: Threads,
    }

    fn pair(bytes_max: usize) -> Pair {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        server.set_write_timeout(Some(STALL_TIMEOUT)).expect("set");
        let (writers, asking) = unbounded();
        let threads = Threads::default();
        let of_writers = threads.clone();
        threads.spawn("writers".into(), move || run_writers(&asking, &of_writers)).expect("a thread");
        Pair { outbox: Outbox::new(Arc::new(server), bytes_max, writers), client, threads }
    }

    #[test]
    fn nothing_is_lost_or_reordered_when_the_client_is_slow() {
        let Pair { outbox, mut client, threads } = pair(usize::MAX);
        let mut expected = Vec::new();
        for number in 0..200_000_u32 {
            let mut frames = Frames::packet(&format!("message {number} {}", "x".repeat(100)));
            if number % 7 == 0 {
                frames.push(&["another in the same push"]);
            }
            expected.extend_from_slice(frames.bytes());
            assert!(outbox.push(&Arc::new(frames)));
        }
        assert!(outbox.state.lock().draining, "the kernel's buffers do not hold all of it");
        outbox.close(CloseCode::GoingAway);
        expected.extend(CloseCode::GoingAway.frame());
        assert!(!outbox.push(&Arc::new(Frames::packet("too late"))));
        let mut read = Vec::new();
        client.read_to_end(&mut read).expect("reads to the end");
        assert!(read == expected, "{} of {} bytes", read.len(), expected.len());
        drop(outbox);
        assert!(threads.wait_all(Instant::now() + Duration::from_secs(30)), "the writer has ended");
    }

    #[test]
    fn a_client_that_does_not_read_is_sent_away_with_whole_frames() {
        let Pair { outbox, mut client, .. } = pair(1 << 20);
        let frames = Arc::new(Frames::packet(&"y".repeat(10_000)));
        let mut read = Vec::new();
        // Until the writer thread is in a system call for several at once, which it gets behind on.
        while outbox.state.lock().in_flight < 2 {
            if outbox.state.lock().bytes < 1 << 19 {
                assert!(outbox.push(&frames));
            } else {
                let mut some = [0; 4096];
                let count = client.read(&mut some).expect("reads");
                read.extend_from_slice(&some[..count]);
            }
        }
        let mut pushed = 0;
        while outbox.push(&frames) {
            pushed += 1;
            assert!(pushed < 100_000, "the limit holds");
        }
        let in_flight_max = WRITE_PIECES_MAX * frames.bytes().len();
        assert!(outbox.state.lock().bytes <= in_flight_max + 10, "the rest of its memory is free");
        client.read_to_end(&mut read).expect("reads to the end");
        let close = CloseCode::TryAgainLater.frame();
        let (body, last) = read.split_at(read.len() - close.len());
        assert_eq!(last, close);
        assert!(body.chunks(frames.bytes().len()).all(|chunk| chunk == frames.bytes()), "no frame is cut");
    }

    #[test]
    fn a_client_that_is_gone_is_noticed() {
        let Pair { outbox, client, .. } = pair(usize::MAX);
        drop(client);
        let deadline = Instant::now() + Duration::from_secs(30);
        while outbox.push(&Arc::new(Frames::packet("x"))) {
            assert!(Instant::now() < deadline, "noticed");
        }
    }
}
