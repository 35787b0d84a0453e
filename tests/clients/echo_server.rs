//! A Socket.IO server that sends back what it gets: what `net` is without Claude, and what the conformance tests drive.
//!
//! `echo_server [--port N] [--engine-only]` prints its port. Pings come every 300 ms and wait 200 ms.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use claude_session_manager::net::{
    App, Arguments, Client, Close, ConnectError, Event, Handshake, Options, Peer, Protocol, Server, SocketIo,
};
use claude_session_manager::proto::http::{HostPolicy, Response};
use claude_session_manager::timer::Timer;
use serde_json::{Map, Value};

struct Echo;

impl App for Echo {
    type Client = Client;

    fn serves(&self, namespace: &str) -> bool {
        matches!(namespace, "/" | "/custom")
    }

    fn authorize(&self, _: &Handshake, _: &Map<String, Value>) -> Result<(), ConnectError> {
        Ok(())
    }

    fn recovers(&self, auth: &Map<String, Value>) -> bool {
        auth.contains_key("recover")
    }

    fn connected(&self, client: Client, auth: &Map<String, Value>, accept: &dyn Fn()) -> Result<Client, ConnectError> {
        accept();
        client.emit("auth", &Arguments { values: vec![Value::Object(auth.clone())], attachments: vec![] });
        Ok(client)
    }

    fn event(&self, client: &mut Client, event: Event) {
        let arguments = Arguments { values: event.args, attachments: event.attachments };
        match (event.name.as_str(), event.ack) {
            ("message", _) => client.emit("message-back", &arguments),
            ("message-with-ack", Some(id)) => client.ack(id, &arguments),
            ("emit-with-ack", _) => {
                let back = client.clone();
                client.emit_with_ack("with-ack", &arguments, move |answer| {
                    back.emit("ack-back", &answer);
                })
            }
            ("leave", _) => client.disconnect(),
            _ => true,
        };
    }

    fn disconnected(&self, _: Client) {}
}

/// Engine.IO alone.
struct EngineEcho;

impl Protocol for EngineEcho {
    type State = ();

    fn opened(&self, peer: &Peer) {
        peer.accept();
    }

    fn text(&self, (): &mut (), peer: &Peer, message: &str) -> Result<(), Close> {
        peer.send_text(message);
        Ok(())
    }

    fn binary(&self, (): &mut (), peer: &Peer, message: Vec<u8>) -> Result<(), Close> {
        peer.send_binary(&message);
        Ok(())
    }

    fn closed(&self, (): ()) {}
}

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let port = args.iter().position(|arg| arg == "--port").and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(0);
    if args.iter().any(|arg| arg == "--engine-only") {
        run(port, "/engine.io/", |_| EngineEcho)
    } else {
        run(port, "/socket.io/", |timer| SocketIo::new(Arc::new(Echo), Duration::from_secs(120), timer.clone()))
    }
}

fn run<P: Protocol>(port: u16, path: &str, protocol: impl FnOnce(&Timer) -> P) -> std::io::Result<()> {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((host, port))?;
    let options = Options {
        path: path.into(),
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        max_payload: 1_000_000,
        outbox_bytes_max: 8 << 20,
        max_connections: 1024,
        policy: HostPolicy::new(host, vec![], None, vec!["*".into()]),
        room: Arc::default(),
    };
    let (timer, thread) = Timer::start()?;
    let protocol = protocol(&timer);
    let server = Server::start(listener, options, timer, protocol, Box::new(|_, _| Response::error(404)))?;
    println!("{}", server.address().port());
    // Runs until it is killed.
    let _ = thread.join();
    Ok(())
}
