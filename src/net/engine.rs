//! One Engine.IO connection, whatever its transport, and the Socket.IO clients on it.
//!
//! The state of Socket.IO (attachments that are awaited, the clients of each namespace) belongs to whoever is at work
//! with it: the thread that reads the WebSocket, or that of a POST. It is taken out of the engine for that time, so that no
//! lock is held while the application works. Two at once are the client's fault and end the connection.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::{Map, Value};

use super::client::{Acks, Client};
use super::connection::Connection;
use super::outbox::Outbox;
use super::registry::Shared;
use super::{App, CONNECT_TIMEOUT, Event, Handshake, STRANGER_MESSAGE_BYTES_MAX};
use crate::proto::engineio::{self, Heartbeat};
use crate::proto::frames::CloseCode;
use crate::proto::socketio::{self, Assembler, Packet};

/// An open connection.
pub(super) struct Engine<A: App> {
    pub sid: String,
    pub connection: Arc<Connection>,
    pub handshake: Handshake,
    shared: Arc<Shared<A>>,
    authenticated: AtomicBool,
    work: Mutex<Work<A>>,
}

enum Work<A: App> {
    /// Nobody is at work.
    Free(Protocol<A>),
    /// Somebody is; `over`: the connection has ended meanwhile.
    Taken { over: bool },
    /// The clients have been told good-bye.
    Over,
}

/// The state of Socket.IO on one connection.
pub(super) struct Protocol<A: App> {
    assembler: Assembler,
    /// By namespace.
    clients: HashMap<String, Connected<A>>,
}

struct Connected<A: App> {
    state: A::Client,
    client: Client,
}

/// The connection is to be closed, in the way of the reference server.
#[derive(Debug)]
pub(super) struct Close;

/// Gives the protocol's state back, panics included.
struct AtWork<'a, A: App> {
    engine: &'a Engine<A>,
    protocol: Option<Protocol<A>>,
}

impl<A: App> Drop for AtWork<'_, A> {
    fn drop(&mut self) {
        let Some(protocol) = self.protocol.take() else { return };
        let mut work = self.engine.work.lock();
        if let Work::Taken { over: true } = *work {
            *work = Work::Over;
            drop(work);
            self.engine.say_goodbye(protocol);
        } else {
            *work = Work::Free(protocol);
        }
    }
}

impl<A: App> Engine<A> {
    /// Opens a connection; without a socket, one that polls. `None`: there is no room, or no randomness.
    pub fn open(
        shared: &Arc<Shared<A>>,
        socket: Option<Arc<TcpStream>>,
        handshake: Handshake,
    ) -> Option<Arc<Engine<A>>> {
        let (options, now, key) = (&shared.options, Instant::now(), shared.next_key());
        let polls = socket.is_none();
        let outbox = Outbox::new(key, socket, options.outbox_bytes_max, shared.helpers.clone());
        let heartbeat = Heartbeat::new(now, options.ping_interval, options.ping_timeout);
        let sid = random_sid()?;
        let connection = Connection::open(key, outbox, heartbeat, now + CONNECT_TIMEOUT, shared.timer.clone());
        let upgrades: &[&str] = if polls { &["websocket"] } else { &[] };
        let (interval, timeout) = (options.ping_interval, options.ping_timeout);
        connection.send(&engineio::open_packet(&sid, upgrades, interval, timeout, options.max_payload));
        let protocol = Protocol { assembler: Assembler::default(), clients: HashMap::new() };
        let engine = Arc::new(Engine {
            sid,
            connection,
            handshake,
            shared: shared.clone(),
            authenticated: AtomicBool::new(false),
            work: Mutex::new(Work::Free(protocol)),
        });
        if !shared.enter(&engine) {
            log::warn!("{}: refused, too many clients have not authenticated", engine.handshake.peer);
            engine.connection.kill();
            return None;
        }
        if shared.stopping.load(Ordering::SeqCst) {
            engine.connection.close(CloseCode::GoingAway);
        }
        Some(engine)
    }

    /// A message may be this long now.
    pub fn message_bytes_max(&self) -> usize {
        let max = self.shared.options.max_payload;
        if self.authenticated.load(Ordering::Relaxed) { max } else { max.min(STRANGER_MESSAGE_BYTES_MAX) }
    }

    /// Handles what the client has sent. `None`: somebody else is at work for this connection, or it is over.
    pub fn work<R>(&self, work: impl FnOnce(&mut Protocol<A>, &Self) -> R) -> Option<R> {
        let taken = {
            let mut place = self.work.lock();
            match std::mem::replace(&mut *place, Work::Taken { over: false }) {
                Work::Free(protocol) => Some(protocol),
                other => {
                    *place = other;
                    None
                }
            }
        };
        let mut at_work = AtWork { engine: self, protocol: taken };
        at_work.protocol.as_mut().map(|protocol| work(protocol, self))
    }

    /// The connection is over: its clients are said good-bye, by this thread or by the one that is at work with them.
    pub fn finish(&self, by_client: bool) {
        self.connection.kill();
        if !self.shared.leave(self, self.authenticated.load(Ordering::Relaxed), by_client) {
            return;
        }
        let protocol = {
            let mut place = self.work.lock();
            match std::mem::replace(&mut *place, Work::Over) {
                Work::Free(protocol) => Some(protocol),
                Work::Taken { .. } => {
                    *place = Work::Taken { over: true };
                    None
                }
                Work::Over => None,
            }
        };
        if let Some(protocol) = protocol {
            self.say_goodbye(protocol);
        }
    }

    fn say_goodbye(&self, protocol: Protocol<A>) {
        for (_, connected) in protocol.clients {
            self.shared.app.disconnected(connected.state);
        }
    }
}

impl<A: App> Protocol<A> {
    /// Handles one Engine.IO packet. `Ok(true)`: it was the client's good-bye.
    pub fn on_packet(&mut self, text: &str, engine: &Engine<A>) -> Result<bool, Close> {
        match engineio::decode(text).map_err(|_| Close)? {
            engineio::Packet::Message(text) => {
                let packet = self.assembler.text(text).map_err(|error| malformed(engine, &error))?;
                packet.map_or(Ok(()), |packet| self.on_message(packet, engine))?;
            }
            engineio::Packet::Pong(_) => engine.connection.pong(),
            engineio::Packet::Close => return Ok(true),
            // In version 4 only the server pings.
            engineio::Packet::Ping(_) => return Err(Close),
            engineio::Packet::Open(_) | engineio::Packet::Upgrade | engineio::Packet::Noop => {}
        }
        Ok(false)
    }

    /// Handles a binary message: an attachment.
    pub fn on_binary(&mut self, bytes: Vec<u8>, engine: &Engine<A>) -> Result<(), Close> {
        let packet = self.assembler.binary(bytes).map_err(|error| malformed(engine, &error))?;
        packet.map_or(Ok(()), |packet| self.on_message(packet, engine))
    }

    fn on_message(&mut self, packet: Packet, engine: &Engine<A>) -> Result<(), Close> {
        let app = &*engine.shared.app;
        match packet {
            Packet::Connect { namespace, auth } => self.on_connect(namespace, &auth.unwrap_or_default(), engine),
            Packet::Disconnect { namespace } => {
                let connected = self.clients.remove(&namespace).ok_or(Close)?;
                app.disconnected(connected.state);
                Ok(())
            }
            Packet::Event { namespace, ack, name, args, attachments } => {
                let connected = self.clients.get_mut(&namespace).ok_or(Close)?;
                app.event(&mut connected.state, Event { name, args, attachments, ack });
                if connected.client.is_disconnected() {
                    self.leave(&namespace, app);
                }
                Ok(())
            }
            Packet::Ack { namespace, id, args, attachments } => {
                let connected = self.clients.get(&namespace).ok_or(Close)?;
                connected.client.on_ack(id, args, attachments);
                Ok(())
            }
        }
    }

    fn leave(&mut self, namespace: &str, app: &A) {
        if let Some(connected) = self.clients.remove(namespace) {
            app.disconnected(connected.state);
        }
    }

    fn on_connect(&mut self, namespace: String, auth: &Map<String, Value>, engine: &Engine<A>) -> Result<(), Close> {
        let (app, connection) = (&*engine.shared.app, &engine.connection);
        if !app.serves(&namespace) {
            connection.send(&socketio::connect_error(&namespace, "Invalid namespace", None));
            return Ok(());
        }
        if self.clients.contains_key(&namespace) {
            return Err(Close);
        }
        let sid = random_sid().ok_or(Close)?;
        let client = Client {
            key: connection.key,
            namespace: namespace.as_str().into(),
            sink: connection.clone(),
            acks: Arc::new(Acks::default()),
        };
        let connected = app.authorize(&engine.handshake, auth).and_then(|()| {
            let accept = || {
                connection.send(&socketio::connect(&namespace, &sid, None));
            };
            app.connected(client.clone(), auth, &accept)
        });
        match connected {
            Ok(state) => {
                self.clients.insert(namespace.clone(), Connected { state, client: client.clone() });
                connection.connected();
                if !engine.authenticated.swap(true, Ordering::Relaxed) {
                    engine.shared.authenticated();
                }
                if client.is_disconnected() {
                    self.leave(&namespace, app);
                }
            }
            Err(error) => {
                connection.send(&socketio::connect_error(&namespace, &error.message, Some(&error.data)));
            }
        }
        Ok(())
    }
}

fn malformed<A: App>(engine: &Engine<A>, error: &socketio::DecodeError) -> Close {
    log::debug!("connection {}: closed for a malformed packet: {error}", engine.connection.key);
    Close
}

/// A session id that nobody can guess; `None` where the system has no randomness to give.
fn random_sid() -> Option<String> {
    let mut random = [0; 15];
    getrandom::fill(&mut random).inspect_err(|error| log::error!("no random bytes: {error}")).ok()?;
    Some(engineio::sid(random))
}
