//! What waits to be sent to one client, and who sends it.
//!
//! ```text
//!   polling ──push──▶ queued; a parked poll is woken and takes what fits into one payload
//!     │ upgrade
//!     ▼
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

mod backlog;
mod queue;
mod send;

use std::io::{self, ErrorKind, IoSlice, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

pub use self::backlog::Backlog;
use self::backlog::Pressure;
use self::queue::{Piece, Queue};
use self::send::{send_now, send_pieces, sent};
use super::room::Room;
use crate::proto::engineio;
use crate::proto::frames::{CloseCode, Frames};
use crate::threads::Threads;

/// A client that takes not one byte for so long is gone.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// A writer thread without work waits so long for more before it ends.
const WRITER_LINGER: Duration = Duration::from_secs(1);

/// A poll that arrives during an upgrade waits so long for what the upgrade brings.
const LATE_POLL: Duration = Duration::from_millis(100);

/// How many pieces one system call sends at most.
const WRITE_PIECES_MAX: usize = 32;

/// Where packets for a client go.
pub trait Sink: Send + Sync {
    /// Takes the packets, without ever blocking. `false`: the client is gone or going.
    fn push(&self, frames: &Arc<Frames>) -> bool;

    /// How much waits for the client.
    fn backlog(&self) -> Backlog;
}

/// The outbox of one connection.
pub struct Outbox {
    /// Names the connection.
    key: u64,
    state: Mutex<State>,
    more: Condvar,
    bytes_max: usize,
    helpers: Helpers,
    itself: Weak<Outbox>,
}

/// While it lives, what is pushed waits: [`Outbox::hold`].
pub struct Held<'a>(&'a Outbox);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.release(&mut self.0.state.lock());
    }
}

/// Threads that an outbox may call upon.
#[derive(Clone)]
pub struct Helpers {
    /// Gets those that need a writer thread.
    pub writers: Sender<Arc<Outbox>>,
    /// Gets the keys of polling connections that are over: no thread waits for their end.
    pub gone: Sender<u64>,
    /// Rings when a client has caught up.
    pub room: Arc<Room>,
}

/// What a poll is answered with.
#[derive(Debug, PartialEq, Eq)]
pub enum Polled {
    /// The body.
    Payload(String),
    /// Another poll is parked already, or there is nothing to poll any more: the request is refused.
    Refused,
}

/// A ping waits behind everything that was pushed before it.
struct PingUnderWay {
    /// It has arrived when the client has taken so many bytes.
    arrives_at: u64,
    /// So many it had taken when that was last looked at.
    taken: u64,
}

#[derive(Default)]
struct State {
    /// None while the client polls.
    socket: Option<Arc<TcpStream>>,
    /// A poll waits for something to say.
    parked: bool,
    /// The client is changing to a WebSocket: polls are answered at once, if with nothing.
    upgrading: bool,
    /// The client has ended the connection itself.
    left: bool,
    queue: Queue,
    draining: bool,
    has_writer: bool,
    /// So many pieces at the front are in a system call of the writer thread, which may send all of them.
    in_flight: usize,
    pressure: Pressure,
    /// What is pushed waits, so that it leaves together with what follows.
    held: bool,
    /// So many bytes the kernel has been given, before and since it is our socket.
    sent: u64,
    /// The last ping, while it is not known to have arrived.
    ping: Option<PingUnderWay>,
    /// Nothing more is accepted: a close frame is the last in the queue, or the socket is dead.
    ended: bool,
}

impl Outbox {
    /// An empty outbox that holds at most `bytes_max` bytes and one push more. Without a socket the client polls.
    #[must_use]
    pub fn new(key: u64, socket: Option<Arc<TcpStream>>, bytes_max: usize, helpers: Helpers) -> Arc<Outbox> {
        let sent = socket.as_deref().map_or(0, |socket| sent(socket).all());
        let state = State { socket, sent, ..State::default() };
        Arc::new_cyclic(|itself| Outbox {
            key,
            state: Mutex::new(state),
            more: Condvar::new(),
            bytes_max,
            helpers,
            itself: itself.clone(),
        })
    }

    /// Answers a poll: with what waits, up to `payload_bytes_max`, or as soon as something does. Blocks; every
    /// heartbeat ends it.
    pub fn poll(&self, payload_bytes_max: usize) -> Polled {
        let mut state = self.state.lock();
        if state.socket.is_some() {
            return Polled::Refused;
        }
        if state.parked {
            // Two at once: the first is told that it is over, and so it is.
            self.abandon(&mut state);
            return Polled::Refused;
        }
        state.parked = true;
        let late = state.upgrading.then(|| Instant::now() + LATE_POLL);
        while state.queue.is_empty() && !state.ended && state.socket.is_none() {
            match late {
                Some(at) if state.upgrading => {
                    if self.more.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
                None if state.upgrading => break,
                _ => self.more.wait(&mut state),
            }
        }
        state.parked = false;
        if late.is_some() && state.socket.is_some() {
            // Nobody polls who is about to say that the change is done.
            return Polled::Refused;
        }
        if state.queue.is_empty() || state.socket.is_some() {
            let packet = if state.ended && !state.left { engineio::CLOSE } else { engineio::NOOP };
            return Polled::Payload(packet.to_owned());
        }
        let payload = state.queue.take_payload(payload_bytes_max);
        self.look_behind(&mut state);
        if state.ended && state.queue.is_empty() {
            self.tell_gone();
        }
        Polled::Payload(payload)
    }

    /// Whether the client polls.
    #[must_use]
    pub fn polls(&self) -> bool {
        self.state.lock().socket.is_none()
    }

    /// Whether a polling client's connection is over, with nothing left that a poll could get.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.state.lock();
        state.ended && state.queue.is_empty() && state.socket.is_none()
    }

    /// The client has opened a WebSocket beside its polling: parked and later polls are answered at once, so that it
    /// can leave off. `false`: it has one already.
    pub fn begin_upgrade(&self) -> bool {
        let mut state = self.state.lock();
        let possible = state.socket.is_none() && !state.upgrading && !state.ended;
        if possible {
            state.upgrading = true;
            self.more.notify_all();
        }
        possible
    }

    /// The WebSocket was given up: polling goes on.
    pub fn cancel_upgrade(&self) {
        self.state.lock().upgrading = false;
    }

    /// The client has said that it goes: a parked poll is released with nothing to say.
    pub fn leave(&self) {
        let mut state = self.state.lock();
        state.left = true;
        self.abandon(&mut state);
    }

    /// From now on everything goes over `socket`, what waits first. `false`: the connection is over.
    pub fn upgrade(&self, socket: &Arc<TcpStream>) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        state.socket = Some(socket.clone());
        state.sent = sent(socket).all();
        state.upgrading = false;
        self.more.notify_all();
        for piece in state.queue.take() {
            self.put_rest(&mut state, piece);
        }
        // The kernel may have taken all of what made the client one that is behind.
        self.look_behind(&mut state);
        !state.ended
    }

    /// What is pushed from now on waits until the guard is dropped, and then leaves in one system call. For a moment only:
    /// pushes of others wait as well.
    pub fn hold(&self) -> Held<'_> {
        self.state.lock().held = true;
        Held(self)
    }

    /// Calls those who wait for clients: this one may take something now.
    pub fn ring(&self) {
        self.helpers.room.ring();
    }

    /// Pushes a ping, of which [`Outbox::takes`] tells whether it may still be on its way.
    pub fn push_ping(&self, ping: &Arc<Frames>) -> bool {
        {
            let mut state = self.state.lock();
            let arrives_at = state.sent + state.queue.bytes() as u64;
            state.ping = Some(PingUnderWay { arrives_at, taken: state.taken() });
        }
        self.push(ping)
    }

    /// Whether the client, which owes a pong, has taken something since this was last asked, and had not got as far as the
    /// ping then: one that reads slowly needs its time for what comes before it.
    pub fn takes(&self) -> bool {
        let mut state = self.state.lock();
        let taken = state.taken();
        let Some(ping) = state.ping.as_mut().filter(|ping| ping.taken < ping.arrives_at) else { return false };
        let takes = taken > ping.taken;
        ping.taken = taken;
        takes
    }

    /// Ends the connection in good order: what is queued, then a close frame (polling: `1`), then no more. Never blocks.
    pub fn close(&self, code: CloseCode) {
        self.close_with(&Arc::new(Frames::raw(code.frame())));
    }

    /// The same with a close frame made elsewhere.
    pub fn close_with(&self, frame: &Arc<Frames>) {
        let mut state = self.state.lock();
        if !state.ended {
            self.put_last(&mut state, frame);
        }
    }

    /// Ends the connection without more ado. Never blocks.
    pub fn kill(&self) {
        let mut state = self.state.lock();
        self.abandon(&mut state);
    }

    fn put_last(&self, state: &mut State, frame: &Arc<Frames>) {
        self.release(state);
        match state.socket {
            Some(_) => self.put(state, frame),
            None => self.put(state, &Arc::new(Frames::packet(engineio::CLOSE))),
        }
        state.ended = true;
        self.look_behind(state);
        if let Some(socket) = state.socket.as_ref().filter(|_| !state.draining) {
            let _ = socket.shutdown(Shutdown::Write);
        }
        self.more.notify_all();
    }

    fn abandon(&self, state: &mut State) {
        state.ended = true;
        state.queue.clear();
        self.look_behind(state);
        match &state.socket {
            Some(socket) => drop(socket.shutdown(Shutdown::Both)),
            None => self.tell_gone(),
        }
        self.more.notify_all();
    }

    /// Whether the client is behind now, or near its limit; rings for those who wait when it no longer is.
    fn look_behind(&self, state: &mut State) {
        let bytes = if state.ended { 0 } else { state.queue.bytes() };
        if state.pressure.follow(bytes, self.bytes_max) {
            self.helpers.room.ring();
        }
    }

    /// Told more than once does no harm; nobody listens only when the server has stopped.
    fn tell_gone(&self) {
        let _ = self.helpers.gone.send(self.key);
    }

    fn put(&self, state: &mut State, frames: &Arc<Frames>) {
        self.put_rest(state, Piece::whole(frames));
    }

    fn put_rest(&self, state: &mut State, mut piece: Piece) {
        if let Some(socket) = state.socket.as_ref().filter(|_| !state.draining && !state.held) {
            match send_now(socket, piece.rest()) {
                Ok(count) => {
                    state.sent += count as u64;
                    piece.advance(count);
                }
                Err(error) => return self.fail(state, &error),
            }
        }
        if piece.rest().is_empty() {
            return;
        }
        state.queue.push(piece);
        self.look_behind(state);
        if !state.held {
            self.send_later(state);
        }
    }

    /// What was held is sent.
    fn release(&self, state: &mut State) {
        if !std::mem::take(&mut state.held) || state.queue.is_empty() {
            return;
        }
        if let Some(socket) = state.socket.as_ref().filter(|_| !state.draining) {
            let pieces = state.queue.iter().take(WRITE_PIECES_MAX).map(Piece::rest);
            match send_pieces(socket, &pieces.map(IoSlice::new).collect::<Vec<_>>()) {
                Ok(count) => state.advance(count),
                Err(error) => return self.fail(state, &error),
            }
            self.look_behind(state);
            if state.queue.is_empty() {
                return;
            }
        }
        self.send_later(state);
    }

    /// The queue is for the next poll, or for a writer thread.
    fn send_later(&self, state: &mut State) {
        if state.socket.is_some() && !state.draining {
            state.draining = true;
            if !state.has_writer {
                state.has_writer = true;
                // Fails only when the server has stopped; then nobody waits for these bytes.
                let _ = self.itself.upgrade().map(|outbox| self.helpers.writers.send(outbox));
            }
        }
        self.more.notify_all();
    }

    fn fail(&self, state: &mut State, error: &io::Error) {
        log::debug!("a client cannot be written to: {error}");
        self.abandon(state);
    }

    /// Too much is queued: only what the kernel may be taking just now, or at least the frame that is cut, is completed,
    /// then the client is told to come back later.
    fn overflow(&self, state: &mut State) {
        log::info!("a client is too slow: {} bytes wait for it; it is sent away", state.queue.bytes());
        match state.socket {
            Some(_) => state.queue.cut(state.in_flight),
            // No frame is ever cut by a payload.
            None => state.queue.clear(),
        }
        self.put_last(state, &Arc::new(Frames::raw(CloseCode::TryAgainLater.frame())));
    }

    /// The writer thread: sends, blocking, until nothing is left.
    fn drain(&self) {
        let mut state = self.state.lock();
        let Some(socket) = state.socket.clone() else { return };
        // When it was last looked at: each time would be felt, and twice [`STALL_TIMEOUT`] is soon enough for one that is gone.
        let mut taken = sent(&socket).taken;
        loop {
            if state.queue.is_empty() || !state.draining {
                state.draining = false;
                if state.ended {
                    let _ = socket.shutdown(Shutdown::Write);
                }
                if state.ended || self.more.wait_for(&mut state, WRITER_LINGER).timed_out() && state.queue.is_empty() {
                    state.has_writer = false;
                    return;
                }
                continue;
            }
            let pieces: Vec<_> = state.queue.iter().take(WRITE_PIECES_MAX).cloned().collect();
            state.in_flight = pieces.len();
            drop(state);
            let slices: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece.rest())).collect();
            let written = (&*socket).write_vectored(&slices);
            state = self.state.lock();
            state.in_flight = 0;
            match written {
                Ok(count) => {
                    state.advance(count);
                    self.look_behind(&mut state);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The kernel asks for more only when much of what it holds has gone: a slow client may need longer for that.
                Err(error) if error.kind() == ErrorKind::WouldBlock && sent(&socket).taken > taken => {
                    taken = sent(&socket).taken;
                }
                Err(error) => self.fail(&mut state, &error),
            }
        }
    }
}

impl State {
    /// The kernel has taken so many bytes of the queue.
    fn advance(&mut self, count: usize) {
        self.sent += count as u64;
        self.queue.advance(count);
    }

    /// How many bytes the client's machine has taken. A client that polls takes nothing by itself.
    fn taken(&self) -> u64 {
        self.socket.as_deref().map_or(0, |socket| sent(socket).taken)
    }
}

impl Sink for Outbox {
    fn push(&self, frames: &Arc<Frames>) -> bool {
        let mut state = self.state.lock();
        if state.ended {
            return false;
        }
        // Judged by what waited before: one large event must not send away a client that has read all the others.
        let too_slow = state.queue.bytes() > self.bytes_max;
        self.put(&mut state, frames);
        if too_slow {
            self.overflow(&mut state);
        }
        !state.ended
    }

    fn backlog(&self) -> Backlog {
        let state = self.state.lock();
        if state.ended { Backlog::Gone } else { state.pressure.backlog() }
    }
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
mod tests;
