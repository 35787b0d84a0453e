//! Socket.IO on an Engine.IO connection: namespaces, and the application's clients in them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::client::{Acks, Client};
use super::engine::{Close, Peer, Protocol, random_sid};
use super::{App, Event};
use crate::proto::socketio::{self, Assembler, Packet};

/// Speaks Socket.IO for an application.
pub struct SocketIo<A: App> {
    app: Arc<A>,
}

/// One connection's clients.
pub struct Clients<A: App> {
    assembler: Assembler,
    /// By namespace.
    connected: HashMap<String, Connected<A>>,
}

struct Connected<A: App> {
    state: A::Client,
    client: Client,
}

impl<A: App> SocketIo<A> {
    /// Socket.IO for `app`.
    #[must_use]
    pub fn new(app: Arc<A>) -> SocketIo<A> {
        SocketIo { app }
    }

    fn on_packet(&self, clients: &mut Clients<A>, peer: &Peer, packet: Packet) -> Result<(), Close> {
        match packet {
            Packet::Connect { namespace, auth } => self.on_connect(clients, peer, namespace, &auth.unwrap_or_default()),
            Packet::Disconnect { namespace } => {
                let connected = clients.connected.remove(&namespace).ok_or(Close)?;
                self.app.disconnected(connected.state);
                Ok(())
            }
            Packet::Event { namespace, ack, name, args, attachments } => {
                let connected = clients.connected.get_mut(&namespace).ok_or(Close)?;
                self.app.event(&mut connected.state, Event { name, args, attachments, ack });
                self.let_go(clients, &namespace);
                Ok(())
            }
            Packet::Ack { namespace, id, args, attachments } => {
                let connected = clients.connected.get(&namespace).ok_or(Close)?;
                connected.client.on_ack(id, args, attachments);
                Ok(())
            }
        }
    }

    fn on_connect(
        &self,
        clients: &mut Clients<A>,
        peer: &Peer,
        namespace: String,
        auth: &Map<String, Value>,
    ) -> Result<(), Close> {
        let send = |packet: &str| {
            peer.connection.send(packet);
        };
        if !self.app.serves(&namespace) {
            send(&socketio::connect_error(&namespace, "Invalid namespace", None));
            return Ok(());
        }
        if clients.connected.contains_key(&namespace) {
            return Err(Close);
        }
        let sid = random_sid().ok_or(Close)?;
        let client = Client {
            key: peer.key(),
            namespace: namespace.as_str().into(),
            sink: peer.sink(),
            acks: Arc::new(Acks::default()),
        };
        let connected = self.app.authorize(peer.handshake(), auth).and_then(|()| {
            let accept = || send(&socketio::connect(&namespace, &sid, None));
            self.app.connected(client.clone(), auth, &accept)
        });
        match connected {
            Ok(state) => {
                peer.accept();
                clients.connected.insert(namespace.clone(), Connected { state, client });
                self.let_go(clients, &namespace);
            }
            Err(error) => send(&socketio::connect_error(&namespace, &error.message, Some(&error.data))),
        }
        Ok(())
    }

    /// The application may have disconnected the client while it was at work.
    fn let_go(&self, clients: &mut Clients<A>, namespace: &str) {
        let over = clients.connected.get(namespace).is_some_and(|connected| connected.client.is_disconnected());
        if over && let Some(connected) = clients.connected.remove(namespace) {
            self.app.disconnected(connected.state);
        }
    }
}

impl<A: App> Protocol for SocketIo<A> {
    type State = Clients<A>;

    fn opened(&self, _peer: &Peer) -> Clients<A> {
        Clients { assembler: Assembler::default(), connected: HashMap::new() }
    }

    fn text(&self, clients: &mut Clients<A>, peer: &Peer, message: &str) -> Result<(), Close> {
        let packet = clients.assembler.text(message).map_err(|error| malformed(peer, &error))?;
        packet.map_or(Ok(()), |packet| self.on_packet(clients, peer, packet))
    }

    fn binary(&self, clients: &mut Clients<A>, peer: &Peer, message: Vec<u8>) -> Result<(), Close> {
        let packet = clients.assembler.binary(message).map_err(|error| malformed(peer, &error))?;
        packet.map_or(Ok(()), |packet| self.on_packet(clients, peer, packet))
    }

    fn closed(&self, clients: Clients<A>) {
        for (_, connected) in clients.connected {
            self.app.disconnected(connected.state);
        }
    }
}

fn malformed(peer: &Peer, error: &socketio::DecodeError) -> Close {
    log::debug!("connection {}: closed for a malformed packet: {error}", peer.key());
    Close
}
