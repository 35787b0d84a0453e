//! One Engine.IO connection, whatever its transport.
//!
//! The state of what is spoken inside (Socket.IO) belongs to whoever is at work with it: the thread that reads the
//! WebSocket, or that of a POST. It is taken out of the engine for that time, so that no lock is held while the
//! application works. Two at once are the client's fault and end the connection.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::connection::Connection;
use super::outbox::{Outbox, Sink};
use super::registry::Shared;
use super::{BODY_TIMEOUT, CONNECT_TIMEOUT, HEAD_TIMEOUT, Handshake, STRANGER_MESSAGE_BYTES_MAX, STRANGERS_MAX};
use crate::proto::engineio::{self, Heartbeat, Packet};
use crate::proto::frames::{CloseCode, Frames};

/// What is spoken inside Engine.IO. All methods but `closed` run on the thread that has read the message.
pub trait Protocol: Send + Sync + 'static {
    /// What is kept of each connection.
    type State: Send;

    /// A connection has opened.
    fn opened(&self, peer: &Peer) -> Self::State;

    /// A text message has come.
    ///
    /// # Errors
    /// [`Close`] ends the connection.
    fn text(&self, state: &mut Self::State, peer: &Peer, message: &str) -> Result<(), Close>;

    /// A binary message has come.
    ///
    /// # Errors
    /// [`Close`] ends the connection.
    fn binary(&self, state: &mut Self::State, peer: &Peer, message: Vec<u8>) -> Result<(), Close>;

    /// The connection is over, however it ended.
    fn closed(&self, state: Self::State);
}

/// A connection that can be ended by another.
pub(super) trait Finish: Send + Sync {
    /// Ends it and tells its protocol, now.
    fn finish_now(&self);
}

/// The connection is to be closed, in the way of the reference server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close;

/// The other end of a connection.
pub struct Peer {
    pub(super) connection: Arc<Connection>,
    handshake: Handshake,
    standing: Standing,
    counts: Arc<Counts>,
    engine: OnceLock<Weak<dyn Finish>>,
}

/// How many connections are open.
#[derive(Default)]
pub(super) struct Counts {
    /// Accepted by the protocol.
    pub clients: AtomicUsize,
    /// Not yet.
    pub strangers: AtomicUsize,
}

/// What a connection counts as. One that is over is accepted by nobody any more: the thread that hears its CONNECT and the
/// one that ends it may be two.
#[derive(Default)]
struct Standing(AtomicU8);

const STRANGER: u8 = 0;
const CLIENT: u8 = 1;
const OVER: u8 = 2;

impl Standing {
    fn is_client(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CLIENT
    }

    /// A stranger is a client now. `false`: it is one already, or over.
    fn accept(&self, counts: &Counts) -> bool {
        // Before it is one: who ends it takes it off again.
        counts.clients.fetch_add(1, Ordering::Relaxed);
        let accepted = self.0.compare_exchange(STRANGER, CLIENT, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        let left = if accepted { &counts.strangers } else { &counts.clients };
        left.fetch_sub(1, Ordering::Relaxed);
        accepted
    }

    /// It counts as nothing any more.
    fn end(&self, counts: &Counts) {
        match self.0.swap(OVER, Ordering::SeqCst) {
            STRANGER => counts.strangers.fetch_sub(1, Ordering::Relaxed),
            CLIENT => counts.clients.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }
}

impl Peer {
    /// Names the connection within this server.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.connection.key
    }

    /// What is known of it beside what it says.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    /// Where packets for it go.
    #[must_use]
    pub fn sink(&self) -> Arc<dyn Sink> {
        self.connection.clone()
    }

    /// Sends a text message. `false`: it is gone or going.
    pub fn send_text(&self, message: &str) -> bool {
        let mut frames = Frames::default();
        frames.push(&["4", message]);
        self.connection.push(&Arc::new(frames))
    }

    /// Sends a binary message. `false`: it is gone or going.
    pub fn send_binary(&self, message: &[u8]) -> bool {
        let mut frames = Frames::default();
        frames.push_binary(message);
        self.connection.push(&Arc::new(frames))
    }

    /// The connection as something that can be ended; none before it is in the books.
    pub(super) fn engine(&self) -> Option<Weak<dyn Finish>> {
        self.engine.get().cloned()
    }

    /// It may stay, and send messages up to `max_payload`: whoever is not accepted in time is closed.
    pub fn accept(&self) {
        if self.standing.accept(&self.counts) {
            self.connection.connected();
        }
    }
}

/// An open connection.
pub(super) struct Engine<P: Protocol> {
    pub sid: String,
    pub peer: Peer,
    shared: Arc<Shared<P>>,
    work: Mutex<Work<P::State>>,
    /// A POST is under way.
    posting: AtomicBool,
}

/// A POST under way. One that is cut off has lost messages: the connection ends with it.
pub(super) struct Posting<'a, P: Protocol> {
    engine: &'a Engine<P>,
    /// All of its body is there, or it was refused as a whole.
    pub whole: bool,
}

impl<P: Protocol> Drop for Posting<'_, P> {
    fn drop(&mut self) {
        self.engine.posting.store(false, Ordering::SeqCst);
        if !self.whole {
            self.engine.finish(false);
        }
    }
}

enum Work<S> {
    /// Nobody is at work.
    Free(S),
    /// Somebody is; `over`: the connection has ended meanwhile.
    Taken { over: bool },
    /// The protocol has been told the end.
    Over,
}

/// Gives the protocol's state back, panics included.
struct AtWork<'a, P: Protocol> {
    engine: &'a Engine<P>,
    state: Option<P::State>,
}

impl<P: Protocol> Drop for AtWork<'_, P> {
    fn drop(&mut self) {
        let Some(state) = self.state.take() else { return };
        let mut work = self.engine.work.lock();
        if let Work::Taken { over: true } = *work {
            *work = Work::Over;
            drop(work);
            self.engine.shared.protocol.closed(state);
        } else {
            *work = Work::Free(state);
        }
    }
}

impl<P: Protocol> Engine<P> {
    /// Opens a connection; without a socket, one that polls. `answer` goes before its first packet, in one piece with it.
    /// `None`: there is no room, or no randomness.
    pub fn open(
        shared: &Arc<Shared<P>>,
        socket: Option<Arc<TcpStream>>,
        answer: &[u8],
        handshake: Handshake,
    ) -> Option<Arc<Engine<P>>> {
        let counts = &shared.counts;
        // Polling connections have no socket of their own that would count.
        if counts.clients.load(Ordering::Relaxed) >= shared.options.max_connections {
            log::warn!("{}: refused, there are too many connections (--max-connections)", handshake.peer);
            return None;
        }
        if counts.strangers.fetch_add(1, Ordering::Relaxed) >= STRANGERS_MAX {
            counts.strangers.fetch_sub(1, Ordering::Relaxed);
            log::warn!("{}: refused, too many clients have not authenticated", handshake.peer);
            return None;
        }
        let (options, now, key) = (&shared.options, Instant::now(), shared.next_key());
        let polls = socket.is_none();
        let outbox = Outbox::new(key, socket, options.outbox_bytes_max, shared.helpers.clone());
        let heartbeat = Heartbeat::new(now, options.ping_interval, options.ping_timeout);
        let connection = Connection::open(key, outbox, heartbeat, now + CONNECT_TIMEOUT, shared.timer.clone());
        let peer = Peer {
            connection,
            handshake,
            standing: Standing::default(),
            counts: counts.clone(),
            engine: OnceLock::new(),
        };
        let Some(sid) = random_sid() else {
            counts.strangers.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        let work = Mutex::new(Work::Taken { over: false });
        let engine = Arc::new(Engine { sid, peer, shared: shared.clone(), work, posting: AtomicBool::new(false) });
        let finish: Weak<dyn Finish> = Arc::<Engine<P>>::downgrade(&engine);
        let _ = engine.peer.engine.set(finish);
        // In the books before the client can know its id.
        shared.enter(&engine);
        let upgrades: &[&str] = if polls { &["websocket"] } else { &[] };
        let (interval, timeout) = (options.ping_interval, options.ping_timeout);
        let open = engineio::open_packet(&engine.sid, upgrades, interval, timeout, options.max_payload);
        engine.peer.connection.push(&Arc::new(Frames::packet(&open).behind(answer)));
        let state = shared.protocol.opened(&engine.peer);
        drop(AtWork { engine: &engine, state: Some(state) });
        if shared.stopping.load(Ordering::SeqCst) {
            engine.peer.connection.close(CloseCode::GoingAway);
        }
        Some(engine)
    }

    /// A message may be this long now.
    pub fn message_bytes_max(&self) -> usize {
        let max = self.shared.options.max_payload;
        if self.peer.standing.is_client() { max } else { max.min(STRANGER_MESSAGE_BYTES_MAX) }
    }

    /// A request's body may take so long now.
    pub fn body_timeout(&self) -> Duration {
        if self.peer.standing.is_client() { BODY_TIMEOUT } else { HEAD_TIMEOUT }
    }

    /// Handles one Engine.IO packet. `Ok(true)`: it was the client's good-bye.
    pub fn on_packet(&self, text: &str) -> Result<bool, Close> {
        match engineio::decode(text).map_err(|_| Close)? {
            Packet::Message(text) => self.work(|protocol, state| protocol.text(state, &self.peer, text))?,
            Packet::Pong(_) => self.peer.connection.pong(),
            Packet::Close => return Ok(true),
            // In version 4 only the server pings.
            Packet::Ping(_) => return Err(Close),
            Packet::Open(_) | Packet::Upgrade | Packet::Noop => {}
        }
        Ok(false)
    }

    /// Handles a binary message.
    pub fn on_binary(&self, bytes: Vec<u8>) -> Result<(), Close> {
        self.work(|protocol, state| protocol.binary(state, &self.peer, bytes))
    }

    /// A POST begins. `None`: another one is under way, which ends the connection.
    pub fn begin_post(&self) -> Option<Posting<'_, P>> {
        if self.posting.swap(true, Ordering::SeqCst) {
            self.finish(false);
            return None;
        }
        Some(Posting { engine: self, whole: false })
    }

    /// Its id is unknown from now on, even to a poll that was on its way.
    pub fn forget(&self) {
        self.shared.forget(&self.sid);
    }

    fn work(&self, work: impl FnOnce(&P, &mut P::State) -> Result<(), Close>) -> Result<(), Close> {
        let taken = {
            let mut place = self.work.lock();
            match std::mem::replace(&mut *place, Work::Taken { over: false }) {
                Work::Free(state) => Some(state),
                other => {
                    *place = other;
                    None
                }
            }
        };
        let mut at_work = AtWork { engine: self, state: taken };
        let state = at_work.state.as_mut().ok_or(Close)?;
        work(&self.shared.protocol, state)
    }

    /// The connection is over: the protocol is told, by this thread or by the one that is at work.
    pub fn finish(&self, by_client: bool) {
        self.peer.connection.kill();
        if !self.shared.leave(self, by_client) {
            return;
        }
        self.peer.standing.end(&self.peer.counts);
        let state = {
            let mut place = self.work.lock();
            match std::mem::replace(&mut *place, Work::Over) {
                Work::Free(state) => Some(state),
                Work::Taken { .. } => {
                    *place = Work::Taken { over: true };
                    None
                }
                Work::Over => None,
            }
        };
        if let Some(state) = state {
            self.shared.protocol.closed(state);
        }
    }
}

impl<P: Protocol> Finish for Engine<P> {
    fn finish_now(&self) {
        self.finish(false);
    }
}

/// A session id that nobody can guess; `None` where the system has no randomness to give.
pub(super) fn random_sid() -> Option<String> {
    let mut random = [0; 15];
    getrandom::fill(&mut random).inspect_err(|error| log::error!("no random bytes: {error}")).ok()?;
    Some(engineio::sid(random))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Step = fn(&Standing, &Counts);

    /// How many are clients and strangers after these, of one stranger at first.
    fn counted(steps: &[Step]) -> (usize, usize) {
        let (standing, counts) = (Standing::default(), Counts::default());
        counts.strangers.fetch_add(1, Ordering::Relaxed);
        steps.iter().for_each(|step| step(&standing, &counts));
        (counts.clients.load(Ordering::Relaxed), counts.strangers.load(Ordering::Relaxed))
    }

    #[test]
    fn a_connection_is_counted_once_whoever_comes_first() {
        let accept: Step =
            |standing, counts| assert!(standing.accept(counts) || counts.strangers.load(Ordering::Relaxed) == 0);
        let end: Step = Standing::end;
        let cases: [(&[Step], (usize, usize)); 6] = [
            (&[], (0, 1)),
            (&[accept], (1, 0)),
            (&[accept, accept], (1, 0)),
            (&[accept, end], (0, 0)),
            (&[end, accept], (0, 0)),
            (&[end, accept, end, accept], (0, 0)),
        ];
        for (number, (steps, expected)) in cases.iter().enumerate() {
            assert_eq!(counted(steps), *expected, "case {number}");
        }
    }

    #[test]
    fn also_where_two_threads_meet() {
        for _ in 0..2_000 {
            let (standing, counts) = (Standing::default(), Counts::default());
            counts.strangers.fetch_add(1, Ordering::Relaxed);
            std::thread::scope(|scope| {
                scope.spawn(|| standing.accept(&counts));
                standing.end(&counts);
            });
            assert_eq!(counts.clients.load(Ordering::Relaxed), 0);
            assert_eq!(counts.strangers.load(Ordering::Relaxed), 0);
        }
    }
}
