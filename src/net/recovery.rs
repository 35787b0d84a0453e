//! Connection state recovery: a client that was away gets each missed event once, in order.
//!
//! A client that asks for it gets a private id (`pid`), and every event for it ends with an offset. What is pushed to it
//! passes through a [`Kept`] sink, which holds on to it until the client has proved that it has arrived: a pong answers a
//! ping, and everything before that ping came before it. When the connection dies, the client's state in the
//! application lives on for the recovery window; what is pushed meanwhile is only kept. A CONNECT with the `pid` and the last
//! offset then gets what lies behind that offset, and is the same client again. Where the offset is not found any more,
//! too much was missed: the client is new, and is told so by a new `pid`.
//!
//! The frames that are kept are those that other viewers share, so a client that is there costs little.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::App;
use super::client::Client;
use super::connection::Connection;
use super::engine::Finish;
use super::outbox::{Backlog, Sink};
use crate::proto::frames::{Frames, Payload};
use crate::timer::{Timed, Timer};

/// What is kept for one client, in bytes of frames.
pub const KEPT_BYTES_MAX: usize = 4 << 20;

/// What is kept for all clients that are away.
pub const AWAY_BYTES_MAX: usize = 64 << 20;

/// Clients that are away at the same time; the one that is away longest goes first.
pub const AWAY_MAX: usize = 1024;

/// Whoever comes back waits so long for the thread that is just ending the old connection.
const LEAVING_MAX: Duration = Duration::from_secs(1);

/// A new offset: it names one event of this run of the server.
#[must_use]
pub fn next_offset() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}.{}", run(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Names this run of the server.
fn run() -> u64 {
    static RUN: OnceLock<u64> = OnceLock::new();
    *RUN.get_or_init(|| fastrand::u64(..))
}

/// Whether an event with an offset is among these packets. The others (acknowledgements, and events that ask for one) are
/// void once the connection that they were sent over is gone.
fn has_offset(frames: &Frames) -> bool {
    let run = format!("{:016x}.", run());
    let ends_with_one = |text: &str| text.rfind(",\"").is_some_and(|at| text[at + 2..].starts_with(&run));
    frames.payloads().any(|(_, payload)| matches!(payload, Payload::Text(text) if ends_with_one(text)))
}

/// Where packets for a client that may recover go: to its connection while it has one, and into memory.
pub(super) struct Kept {
    state: Mutex<State>,
    /// Bytes kept for all who are away.
    away_bytes: Arc<AtomicUsize>,
}

struct State {
    connection: Option<Arc<Connection>>,
    frames: VecDeque<Arc<Frames>>,
    bytes: usize,
    /// How many were forgotten; so `forgotten + frames.len()` were pushed.
    forgotten: u64,
    /// How many had been pushed when the ping went out that is unanswered.
    at_ping: Option<u64>,
    /// Not even all that was pushed while it was away is kept.
    given_up: bool,
}

impl Kept {
    fn new(connection: Arc<Connection>, away_bytes: Arc<AtomicUsize>) -> Arc<Kept> {
        let state = State {
            connection: Some(connection),
            frames: VecDeque::new(),
            bytes: 0,
            forgotten: 0,
            at_ping: None,
            given_up: false,
        };
        Arc::new(Kept { state: Mutex::new(state), away_bytes })
    }

    /// A ping goes out over the connection of this key right after this.
    pub fn on_ping(&self, key: u64) {
        let mut state = self.state.lock();
        if !state.is_on(key) {
            return;
        }
        state.at_ping = Some(state.forgotten + state.frames.len() as u64);
    }

    /// The ping was answered: what was pushed before it has arrived. The last of it stays, since its offset is what the
    /// client names when it comes back.
    pub fn on_pong(&self, key: u64) {
        let mut state = self.state.lock();
        if !state.is_on(key) {
            return;
        }
        let Some(arrived) = state.at_ping.take() else { return };
        while state.forgotten + 1 < arrived && state.frames.len() > 1 {
            state.forget_first();
        }
    }

    fn go_away(&self) {
        let mut state = self.state.lock();
        if state.connection.take().is_some() {
            self.away_bytes.fetch_add(state.bytes, Ordering::Relaxed);
        }
    }

    /// Sends `accept`, then what lies behind `offset`, over `connection`, and everything later too. `false`: `offset` is not
    /// known any more, and nothing was sent.
    fn come_back(&self, connection: &Arc<Connection>, offset: &str, accept: &str) -> bool {
        let mut state = self.state.lock();
        let missed = if state.given_up { None } else { state.behind(offset) };
        let Some(missed) = missed else { return false };
        // The official client buffers events until it is accepted, and keeps that buffer when the connection dies before:
        // what it missed would reach it once more with the next. Once accepted it counts each event as it comes.
        connection.send(accept);
        if !missed.is_empty() {
            connection.push(&Arc::new(missed));
        }
        if state.connection.replace(connection.clone()).is_none() {
            self.away_bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        }
        state.at_ping = None;
        true
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let state = self.state.get_mut();
        if state.connection.is_none() {
            self.away_bytes.fetch_sub(state.bytes, Ordering::Relaxed);
        }
    }
}

impl Sink for Kept {
    fn push(&self, frames: &Arc<Frames>) -> bool {
        let mut state = self.state.lock();
        if state.given_up {
            return false;
        }
        if !has_offset(frames) {
            return state.connection.as_ref().is_some_and(|connection| connection.push(frames));
        }
        let bytes = frames.bytes().len();
        state.bytes += bytes;
        state.frames.push_back(frames.clone());
        match state.connection.clone() {
            Some(connection) => {
                while state.bytes > KEPT_BYTES_MAX && state.frames.len() > 1 {
                    state.forget_first();
                }
                // It is kept, also where this connection has just ended: the client may come back for it.
                connection.push(frames);
                true
            }
            None => {
                let all = self.away_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
                if state.bytes > KEPT_BYTES_MAX || all > AWAY_BYTES_MAX {
                    self.away_bytes.fetch_sub(state.bytes, Ordering::Relaxed);
                    state.given_up = true;
                    state.frames = VecDeque::new();
                    state.bytes = 0;
                }
                !state.given_up
            }
        }
    }

    fn backlog(&self) -> Backlog {
        self.state.lock().connection.as_ref().map_or(Backlog::Gone, |connection| connection.backlog())
    }
}

impl State {
    /// Whether the client is on the connection of this key. Its last one may live a little longer.
    fn is_on(&self, key: u64) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.key == key)
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.frames.pop_front() {
            self.bytes -= first.bytes().len();
            self.forgotten += 1;
        }
    }

    /// All events behind the one with this offset; `None`: it is not among those that are kept.
    fn behind(&self, offset: &str) -> Option<Frames> {
        let mark = format!(",\"{offset}\"]");
        let found = self.frames.iter().enumerate().rev().find_map(|(index, frames)| {
            let is_it = |payload| matches!(payload, Payload::Text(text) if text.ends_with(&mark));
            let at = frames.payloads().find(|(_, payload)| is_it(*payload))?.0;
            Some((index, frames.next(at)))
        });
        let (index, mut at) = found?;
        let mut missed = Frames::default();
        for frames in self.frames.iter().skip(index) {
            for (_, payload) in frames.payloads().filter(|(start, _)| *start >= at) {
                match payload {
                    Payload::Text(text) => missed.push(&[text]),
                    Payload::Binary(bytes) => missed.push_binary(bytes),
                }
            }
            at = 0;
        }
        Some(missed)
    }
}

/// Who may recover: those that are here, and those that are away.
pub(super) struct Recoveries<A: App> {
    window: Duration,
    app: Arc<A>,
    timer: Timer,
    itself: Weak<Recoveries<A>>,
    places: Mutex<Places<A>>,
    /// Somebody is not here any more.
    left: Condvar,
    away_bytes: Arc<AtomicUsize>,
}

/// By `pid`. A client is in one of them from its CONNECT on until it can recover no more.
struct Places<A: App> {
    here: HashMap<String, Weak<dyn Finish>>,
    away: HashMap<String, Away<A>>,
}

/// A client that is away.
struct Away<A: App> {
    recovering: Recovering<A>,
    until: Instant,
}

/// A client with all that belongs to it.
pub(super) struct Recovering<A: App> {
    pub client: Client,
    pub state: A::Client,
    pub ticket: Ticket,
}

/// What recovery needs of a client that is here.
#[derive(Clone)]
pub(super) struct Ticket {
    pub pid: String,
    pub sid: String,
    pub kept: Arc<Kept>,
}

impl<A: App> Recoveries<A> {
    pub fn new(app: Arc<A>, window: Duration, timer: Timer) -> Arc<Recoveries<A>> {
        Arc::new_cyclic(|itself| Recoveries {
            window,
            app,
            timer,
            itself: itself.clone(),
            places: Mutex::new(Places { here: HashMap::new(), away: HashMap::new() }),
            left: Condvar::new(),
            away_bytes: Arc::default(),
        })
    }

    /// A ticket for a client that has just asked for one.
    pub fn issue(&self, connection: &Arc<Connection>, sid: &str, pid: String) -> Ticket {
        let kept = Kept::new(connection.clone(), self.away_bytes.clone());
        connection.watch(Arc::downgrade(&kept));
        Ticket { pid, sid: sid.to_owned(), kept }
    }

    /// The client is here, on this connection.
    pub fn arrive(&self, ticket: &Ticket, engine: Weak<dyn Finish>) {
        self.places.lock().here.insert(ticket.pid.clone(), engine);
    }

    /// The client has left for good.
    pub fn forget(&self, ticket: &Ticket) {
        self.places.lock().here.remove(&ticket.pid);
        self.left.notify_all();
    }

    /// The client's connection is gone: it may come back.
    pub fn leave(&self, recovering: Recovering<A>) {
        if self.window.is_zero() {
            self.forget(&recovering.ticket);
            return self.app.disconnected(recovering.state);
        }
        recovering.ticket.kept.go_away();
        let until = Instant::now() + self.window;
        let pid = recovering.ticket.pid.clone();
        let mut places = self.places.lock();
        places.here.remove(&pid);
        let away = &mut places.away;
        let oldest = away.iter().min_by_key(|(_, other)| other.until).map(|(pid, _)| pid.clone());
        let evicted = oldest.filter(|_| away.len() >= AWAY_MAX).and_then(|pid| away.remove(&pid));
        away.insert(pid, Away { recovering, until });
        drop(places);
        self.left.notify_all();
        if let Some(evicted) = evicted {
            self.app.disconnected(evicted.recovering.state);
        }
        let itself: Weak<dyn Timed> = self.itself.clone();
        self.timer.wake(until, itself);
    }

    /// A client comes back, on the connection of `engine`: the acceptance that `accept` makes of its old session id is
    /// sent, then what it has missed. It is here then.
    pub fn come_back(
        &self,
        pid: &str,
        offset: &str,
        namespace: &str,
        (connection, engine): (&Arc<Connection>, Weak<dyn Finish>),
        accept: impl Fn(&Ticket) -> String,
    ) -> Option<Recovering<A>> {
        let Away { recovering, .. } = self.fetch(pid, engine)?;
        let ticket = &recovering.ticket;
        let fits = &*recovering.client.namespace == namespace;
        if fits && ticket.kept.come_back(connection, offset, &accept(ticket)) {
            connection.watch(Arc::downgrade(&ticket.kept));
            // Whoever waits for the others alone has one more to look at.
            connection.outbox().ring();
            return Some(recovering);
        }
        self.forget(ticket);
        self.app.disconnected(recovering.state);
        None
    }

    /// Takes a client from those away to those here.
    fn fetch(&self, pid: &str, engine: Weak<dyn Finish>) -> Option<Away<A>> {
        let old = self.places.lock().here.get(pid).cloned();
        if old.as_ref().is_some_and(|old| Weak::ptr_eq(old, &engine)) {
            return None;
        }
        // Its old connection may look alive still: then it is ended now, which leaves the client among those away; at
        // once, or as soon as the thread is done that is at work for it or is ending it already.
        if let Some(old) = old.and_then(|old| old.upgrade()) {
            old.finish_now();
        }
        let until = Instant::now() + LEAVING_MAX;
        let mut places = self.places.lock();
        while places.here.contains_key(pid) && !self.left.wait_until(&mut places, until).timed_out() {}
        let away = places.away.remove(pid)?;
        places.here.insert(pid.to_owned(), engine);
        Some(away)
    }
}

impl<A: App> Timed for Recoveries<A> {
    fn on_deadline(&self, now: Instant) -> Option<Instant> {
        let mut places = self.places.lock();
        let away = &mut places.away;
        let late: Vec<String> = away.iter().filter(|(_, away)| away.until <= now).map(|(pid, _)| pid.clone()).collect();
        let late: Vec<_> = late.iter().filter_map(|pid| away.remove(pid)).collect();
        drop(places);
        for away in late {
            self.app.disconnected(away.recovering.state);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::unbounded;

    use super::super::outbox::{Helpers, Outbox, Polled};
    use super::*;
    use crate::proto::engineio::Heartbeat;

    /// One that polls.
    fn connection(key: u64) -> Arc<Connection> {
        let helpers = Helpers { writers: unbounded().0, gone: unbounded().0, room: Arc::default() };
        let outbox = Outbox::new(key, None, 1 << 20, helpers);
        let (timer, _) = Timer::start().expect("a timer");
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        Connection::open(key, outbox, Heartbeat::new(now, minute, minute), now + minute, timer)
    }

    fn event(number: u32) -> (String, Arc<Frames>) {
        let offset = next_offset();
        (offset.clone(), Arc::new(Frames::packet(&format!("42[\"e\",{number},\"{offset}\"]"))))
    }

    #[test]
    fn what_comes_as_the_connection_ends_is_taken_since_it_is_kept() {
        let (first, second) = (connection(1), connection(2));
        let kept = Kept::new(first.clone(), Arc::default());
        let (offset, seen) = event(1);
        assert!(kept.push(&seen));
        first.kill();
        let (_, missed) = event(2);
        assert!(kept.push(&missed), "whoever pushes must not take the client for gone");
        assert!(!kept.push(&Arc::new(Frames::packet("43[]"))), "an acknowledgement is void");
        assert_eq!(kept.backlog(), Backlog::Gone);
        kept.go_away();
        let (_, later) = event(3);
        assert!(kept.push(&later) && kept.backlog() == Backlog::Gone);
        assert!(kept.come_back(&second, &offset, "40"));
        let Polled::Payload(payload) = second.outbox().poll(10_000) else { panic!("refused") };
        let numbers: Vec<_> = payload.split('\x1e').map(|packet| packet.get(7..8).unwrap_or(packet)).collect();
        assert_eq!(numbers, ["40", "2", "3"], "{payload}");
    }
}
