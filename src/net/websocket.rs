//! Engine.IO and Socket.IO over one WebSocket: the thread that reads it.
//!
//! tungstenite owns the reading side and the state of the WebSocket; what it wants to write (pongs, the answer to a
//! close frame) goes into the outbox as whole frames, behind everything else.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Map;
use tungstenite::error::CapacityError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::connection::Connection;
use super::outbox::Outbox;
use super::registry::Registered;
use super::{App, CONNECT_TIMEOUT, Client, Event, Handshake, STRANGER_MESSAGE_BYTES_MAX};
use crate::proto::engineio::{self, Heartbeat};
use crate::proto::frames::CloseCode;
use crate::proto::socketio::{self, Assembler, Packet};

/// What one read asks the kernel for: most messages of clients are short.
const READ_BYTES: usize = 4096;

/// The one namespace that is served.
const NAMESPACE: &str = "/";

struct ReadHalf {
    socket: Arc<TcpStream>,
    connection: Arc<Connection>,
}

impl Read for ReadHalf {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.socket).read(buffer)
    }
}

impl Write for ReadHalf {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        self.connection.pass(frame.to_vec());
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Speaks Engine.IO on a socket that has just become a WebSocket; `first` was read already.
pub(super) fn serve<A: App>(
    socket: &Arc<TcpStream>,
    first: Vec<u8>,
    handshake: Handshake,
    registered: Registered,
    app: &A,
) {
    // From now on the heartbeat decides when the client is gone.
    if socket.set_read_timeout(None).is_err() {
        return;
    }
    let (shared, now) = (registered.shared.clone(), Instant::now());
    let options = &shared.options;
    let outbox = Outbox::new(socket.clone(), options.outbox_bytes_max, shared.writers.clone());
    let heartbeat = Heartbeat::new(now, options.ping_interval, options.ping_timeout);
    let connection = Connection::open(registered.key, outbox, heartbeat, now + CONNECT_TIMEOUT, shared.timer.clone());
    registered.opened(&connection);
    let Some(sid) = random_sid() else { return connection.kill() };
    let max_payload = options.max_payload;
    connection.send(&engineio::open_packet(&sid, &[], options.ping_interval, options.ping_timeout, max_payload));
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(STRANGER_MESSAGE_BYTES_MAX.min(max_payload)))
        .max_frame_size(Some(STRANGER_MESSAGE_BYTES_MAX.min(max_payload)));
    let half = ReadHalf { socket: socket.clone(), connection: connection.clone() };
    let mut reader = Reader {
        websocket: WebSocket::from_partially_read(half, first, Role::Server, Some(config)),
        connection: connection.clone(),
        handshake,
        registered,
        assembler: Assembler::default(),
        clients: HashMap::new(),
        app,
    };
    // A panic costs this connection, and nobody else anything.
    if catch_unwind(AssertUnwindSafe(|| reader.run())).is_err() {
        log::error!("connection {}: ended by a fault in this server", connection.key);
    }
    for (_, client) in reader.clients.drain() {
        app.disconnected(client);
    }
    connection.kill();
}

struct Reader<'a, A: App> {
    websocket: WebSocket<ReadHalf>,
    connection: Arc<Connection>,
    handshake: Handshake,
    registered: Registered,
    assembler: Assembler,
    /// By namespace.
    clients: HashMap<String, A::Client>,
    app: &'a A,
}

/// The connection is to be closed, in the way of the reference server.
struct Close;

impl<A: App> Reader<'_, A> {
    /// Reads until the end. After a close frame of ours the client's is awaited; the timer ends a wait in vain.
    fn run(&mut self) {
        let mut closing = false;
        loop {
            let handled = match self.websocket.read() {
                Ok(_) if closing => Ok(()),
                Ok(Message::Text(text)) => self.on_packet(text.as_str()),
                Ok(Message::Binary(bytes)) => self.on_binary(bytes.to_vec()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => Ok(()),
                Err(error) => return self.on_error(&error),
            };
            if let Err(Close) = handled {
                closing = true;
                self.connection.close(CloseCode::None);
            }
        }
    }

    /// The end of reading: the client has gone, or has broken the protocol.
    fn on_error(&mut self, error: &Error) {
        let code = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::TooBig,
            Error::Capacity(_) | Error::Protocol(_) | Error::AttackAttempt => CloseCode::Protocol,
            Error::Utf8(_) => CloseCode::Utf8,
            _ => return,
        };
        log::debug!("connection {}: {error}", self.connection.key);
        self.connection.close(code);
        // The socket must not be closed over unread bytes: the client would get a reset in place of the close frame.
        let mut rest = [0; READ_BYTES];
        while matches!(self.websocket.get_mut().read(&mut rest), Ok(count) if count > 0) {}
    }

    fn on_packet(&mut self, text: &str) -> Result<(), Close> {
        match engineio::decode(text).map_err(|_| Close)? {
            engineio::Packet::Message(text) => {
                let packet = self.assembler.text(text).map_err(|error| self.malformed(&error))?;
                packet.map_or(Ok(()), |packet| self.on_message(packet))
            }
            engineio::Packet::Pong(_) => {
                self.connection.pong();
                Ok(())
            }
            // A client never pings; `1` ends the connection at once.
            engineio::Packet::Ping(_) | engineio::Packet::Close => Err(Close),
            engineio::Packet::Open(_) | engineio::Packet::Upgrade | engineio::Packet::Noop => Ok(()),
        }
    }

    fn on_binary(&mut self, bytes: Vec<u8>) -> Result<(), Close> {
        let packet = self.assembler.binary(bytes).map_err(|error| self.malformed(&error))?;
        packet.map_or(Ok(()), |packet| self.on_message(packet))
    }

    fn malformed(&self, error: &socketio::DecodeError) -> Close {
        log::debug!("connection {}: closed for a malformed packet: {error:?}", self.connection.key);
        Close
    }

    fn on_message(&mut self, packet: Packet) -> Result<(), Close> {
        match packet {
            Packet::Connect { namespace, auth } => self.on_connect(namespace, &auth.unwrap_or_default()),
            Packet::Disconnect { namespace } => {
                let client = self.clients.remove(&namespace).ok_or(Close)?;
                self.app.disconnected(client);
                Ok(())
            }
            Packet::Event { namespace, ack, name, args, attachments } => {
                let client = self.clients.get_mut(&namespace).ok_or(Close)?;
                self.app.event(client, Event { name, args, attachments, ack });
                Ok(())
            }
            // The server asks for no acknowledgement, so it knows none: unknown ones are ignored.
            Packet::Ack { namespace, .. } => self.clients.get(&namespace).map(drop).ok_or(Close),
        }
    }

    fn on_connect(&mut self, namespace: String, auth: &Map<String, serde_json::Value>) -> Result<(), Close> {
        if namespace != NAMESPACE {
            self.connection.send(&socketio::connect_error(&namespace, "Invalid namespace", None));
            return Ok(());
        }
        if self.clients.contains_key(&namespace) {
            return Err(Close);
        }
        let sid = random_sid().ok_or(Close)?;
        let connected = self.app.authorize(&self.handshake, auth).and_then(|()| {
            let client = Client { key: self.connection.key, sink: self.connection.clone() };
            let accept = || {
                let _ = self.connection.send(&socketio::connect(&namespace, &sid, None));
            };
            self.app.connected(client, auth, &accept)
        });
        match connected {
            Ok(client) => {
                self.clients.insert(namespace, client);
                self.connection.connected();
                self.registered.authenticated();
                let max = Some(self.registered.shared.options.max_payload);
                self.websocket.set_config(|config| (config.max_message_size, config.max_frame_size) = (max, max));
            }
            Err(error) => {
                let data = Some(&error.data);
                self.connection.send(&socketio::connect_error(&namespace, &error.message, data));
            }
        }
        Ok(())
    }
}

/// A session id that nobody can guess; `None` where the system has no randomness to give.
fn random_sid() -> Option<String> {
    let mut random = [0; 15];
    getrandom::fill(&mut random).inspect_err(|error| log::error!("no random bytes: {error}")).ok()?;
    Some(engineio::sid(random))
}
