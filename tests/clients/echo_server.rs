//! A Socket.IO server that sends back what it gets: what `net` is without Claude, and what the conformance tests drive.
//!
//! `echo_server [--port N] [--engine-only] [--pings INTERVAL/TIMEOUT] [--origin ORIGIN]` prints its port. Pings come every
//! 300 ms and wait 200 ms unless told otherwise. Pages of any origin may use it, or of that one only; `none` is none.

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use claude_session_manager::net::{
    App, Arguments, Client, Close, ConnectError, Event, Handshake, Options, Peer, Protocol, Server, SocketIo,
};
use claude_session_manager::proto::http::{HostPolicy, Response};
use claude_session_manager::timer::Timer;
use serde_json::{Map, Value};

/// Between the acceptance and `auth`. Node's `ws` hands out at once what comes at once, and a test that awaits one message
/// after the other would miss the second; the reference server's come apart, too.
const APART: Duration = Duration::from_millis(20);

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
        thread::sleep(APART);
        client.emit("auth", &Arguments { values: vec![Value::Object(auth.clone())], attachments: vec![] });
        Ok(client)
    }

    fn event(&self, client: &mut Client, event: Event) {
        // What has no value cannot be sent back.
        let Ok(values) = event.args else { return };
        let arguments = Arguments { values, attachments: event.attachments };
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
    if args.iter().any(|arg| arg == "--engine-only") {
        run(&args, "/engine.io/", |_| EngineEcho)
    } else {
        run(&args, "/socket.io/", |timer| SocketIo::new(Arc::new(Echo), Duration::from_secs(120), timer.clone()))
    }
}

fn run<P: Protocol>(args: &[String], path: &str, protocol: impl FnOnce(&Timer) -> P) -> std::io::Result<()> {
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let port = value("--port").cloned().or_else(|| std::env::var("PORT").ok());
    let port = port.and_then(|port| port.parse().ok()).unwrap_or(0);
    let pings = value("--pings").and_then(|pings| pings.split_once('/'));
    let pings = pings.and_then(|(interval, timeout)| Some((interval.parse().ok()?, timeout.parse().ok()?)));
    let (interval, timeout) = pings.unwrap_or((300, 200));
    let origins = match value("--origin").map(String::as_str) {
        Some("none") => vec![],
        origin => vec![origin.unwrap_or("*").to_owned()],
    };
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let listener = TcpListener::bind((host, port))?;
    let options = Options {
        path: path.into(),
        ping_interval: Duration::from_millis(interval),
        ping_timeout: Duration::from_millis(timeout),
        max_payload: 1_000_000,
        outbox_bytes_max: 8 << 20,
        max_connections: 1024,
        policy: HostPolicy::new(host, vec![], None, origins),
        shared_path: None,
        room: Arc::default(),
    };
    let (timer, thread) = Timer::start()?;
    let protocol = protocol(&timer);
    let server = Server::start(listener, options, timer, protocol, Box::new(|_, _| Response::error(404).into()))?;
    println!("{}", server.address().port());
    // Runs until it is killed.
    let _ = thread.join();
    Ok(())
}
