//! Socket.IO on an Engine.IO connection: namespaces, and the application's clients in them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::budget::Budget;
use super::client::{Acks, Client};
use super::engine::{Close, Peer, Protocol, random_sid};
use super::recovery::{Recoveries, Recovering, Ticket};
use super::{App, CONNECTS_MAX, CONNECTS_PER_SECOND, Event};
use crate::proto::socketio::{self, Assembler, Packet};
use crate::timer::Timer;

/// Speaks Socket.IO for an application.
pub struct SocketIo<A: App> {
    app: Arc<A>,
    recoveries: Arc<Recoveries<A>>,
}

/// One connection's clients.
pub struct Clients<A: App> {
    assembler: Assembler,
    connects: Budget,
    /// Mostly one; rarely a few, each with its own namespace.
    connected: Vec<Connected<A>>,
}

impl<A: App> Clients<A> {
    fn place(&self, namespace: &str) -> Option<usize> {
        self.connected.iter().position(|connected| &*connected.client.namespace == namespace)
    }

    fn get(&mut self, namespace: &str) -> Option<&mut Connected<A>> {
        let place = self.place(namespace)?;
        self.connected.get_mut(place)
    }

    fn remove(&mut self, namespace: &str) -> Option<Connected<A>> {
        self.place(namespace).map(|place| self.connected.swap_remove(place))
    }

    fn insert(&mut self, connected: Connected<A>) {
        // Every connection has one, so what a vector takes for more would be nearly all waste.
        self.connected.reserve_exact(1);
        self.connected.push(connected);
    }
}

struct Connected<A: App> {
    state: A::Client,
    client: Client,
    /// For those that may recover.
    ticket: Option<Ticket>,
}

impl<A: App> SocketIo<A> {
    /// Socket.IO for `app`. Clients that ask for connection state recovery may be away for `recovery_window`.
    #[must_use]
    pub fn new(app: Arc<A>, recovery_window: Duration, timer: Timer) -> SocketIo<A> {
        let recoveries = Recoveries::new(app.clone(), recovery_window, timer);
        SocketIo { app, recoveries }
    }

    fn on_packet(&self, clients: &mut Clients<A>, peer: &Peer, packet: Packet) -> Result<(), Close> {
        match packet {
            Packet::Connect { namespace, auth } => self.on_connect(clients, peer, namespace, &auth.unwrap_or_default()),
            Packet::Disconnect { namespace } => {
                let connected = clients.remove(&namespace).ok_or(Close)?;
                self.let_go(connected);
                Ok(())
            }
            Packet::Event { namespace, ack, name, args, attachments } => {
                let connected = clients.get(&namespace).ok_or(Close)?;
                self.app.event(&mut connected.state, Event { name, args, attachments, ack });
                self.drop_disconnected(clients, &namespace);
                Ok(())
            }
            Packet::Ack { namespace, id, args, attachments } => {
                let connected = clients.get(&namespace).ok_or(Close)?;
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
        // The acceptance and what the application says first leave together.
        let _held = peer.connection.outbox().hold();
        let send = |packet: &str| {
            peer.connection.send(packet);
        };
        if !clients.connects.take(Instant::now()) {
            log::info!("connection {}: closed for a flood of CONNECTs", peer.key());
            return Err(Close);
        }
        if !self.app.serves(&namespace) {
            send(&socketio::connect_error(&namespace, "Invalid namespace", None));
            return Ok(());
        }
        if clients.place(&namespace).is_some() {
            return Err(Close);
        }
        if let Err(error) = self.app.authorize(peer.handshake(), auth) {
            send(&socketio::connect_error(&namespace, &error.message, Some(&error.data)));
            return Ok(());
        }
        let recovers = self.app.recovers(auth);
        if recovers && let Some(recovered) = self.recover(peer, &namespace, auth) {
            let Recovering { client, state, ticket } = recovered;
            clients.insert(Connected { state, client, ticket: Some(ticket) });
            return Ok(());
        }
        let sid = random_sid().ok_or(Close)?;
        let ticket = match recovers {
            true => Some(self.recoveries.issue(&peer.connection, &sid, random_sid().ok_or(Close)?)),
            false => None,
        };
        let client = Client {
            key: peer.key(),
            namespace: namespace.as_str().into(),
            sink: ticket.as_ref().map_or_else(|| peer.sink(), |ticket| ticket.kept.clone()),
            recovers,
            acks: Arc::new(Acks::default()),
        };
        let pid = ticket.as_ref().map(|ticket| ticket.pid.as_str());
        let accept = || {
            // Whoever has read the acceptance is counted, and may send long messages.
            peer.accept();
            send(&socketio::connect(&namespace, &sid, pid));
        };
        match self.app.connected(client.clone(), auth, &accept) {
            Ok(state) => {
                self.arrive(peer, ticket.as_ref());
                clients.insert(Connected { state, client, ticket });
                self.drop_disconnected(clients, &namespace);
            }
            Err(error) => send(&socketio::connect_error(&namespace, &error.message, Some(&error.data))),
        }
        Ok(())
    }

    /// A client that was here before, if it can be taken up where it was.
    fn recover(&self, peer: &Peer, namespace: &str, auth: &Map<String, Value>) -> Option<Recovering<A>> {
        let (pid, offset) = (auth.get("pid")?.as_str()?, auth.get("offset")?.as_str()?);
        let accept = |ticket: &Ticket| socketio::connect(namespace, &ticket.sid, Some(&ticket.pid));
        let to = (&peer.connection, peer.engine()?);
        let recovered = self.recoveries.come_back(pid, offset, namespace, to, accept)?;
        log::info!("connection {}: recovered", peer.key());
        peer.accept();
        Some(recovered)
    }

    fn arrive(&self, peer: &Peer, ticket: Option<&Ticket>) {
        if let (Some(ticket), Some(engine)) = (ticket, peer.engine()) {
            self.recoveries.arrive(ticket, engine);
        }
    }

    /// The application may have disconnected the client while it was at work.
    fn drop_disconnected(&self, clients: &mut Clients<A>, namespace: &str) {
        let over = clients.get(namespace).is_some_and(|connected| connected.client.is_disconnected());
        if over && let Some(connected) = clients.remove(namespace) {
            self.let_go(connected);
        }
    }

    /// The client has left its namespace, and will not recover.
    fn let_go(&self, connected: Connected<A>) {
        if let Some(ticket) = &connected.ticket {
            self.recoveries.forget(ticket);
        }
        self.app.disconnected(connected.state);
    }
}

impl<A: App> Protocol for SocketIo<A> {
    type State = Clients<A>;

    fn opened(&self, _peer: &Peer) -> Clients<A> {
        let connects = Budget::full(CONNECTS_MAX, CONNECTS_PER_SECOND, Instant::now());
        Clients { assembler: Assembler::default(), connects, connected: Vec::new() }
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
        for Connected { state, client, ticket } in clients.connected {
            match ticket {
                Some(ticket) => self.recoveries.leave(Recovering { client, state, ticket }),
                None => self.app.disconnected(state),
            }
        }
    }
}

fn malformed(peer: &Peer, error: &socketio::DecodeError) -> Close {
    log::debug!("connection {}: closed for a malformed packet: {error}", peer.key());
    Close
}
