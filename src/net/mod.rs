//! A Socket.IO server on plain threads, which knows nothing of Claude.
//!
//! ```text
//!  accept thread ──▶ one thread a socket: HTTP (polling), then WebSocket ──▶ engine ──▶ App (authorize, connected, event, disconnected)
//!                                                                        │
//!  socket ◀── outbox ◀── whoever has something to send ◀─────────────────┘
//!               └─ a writer thread, while the client is behind
//!  timer thread ──▶ pings, deadlines
//! ```

mod budget;
mod client;
mod connection;
mod engine;
mod http;
mod linger;
mod listener;
mod outbox;
mod polling;
mod recovery;
mod registry;
mod room;
mod socketio;
mod streamed;
mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::budget::Budget;
pub use self::client::{Arguments, Client};
pub use self::engine::{Close, Peer, Protocol};
pub use self::listener::Server;
pub use self::outbox::{Backlog, Sink};
pub use self::recovery::next_offset;
pub use self::room::{Crowd, Room};
pub use self::socketio::SocketIo;
pub use crate::proto::frames::{CloseCode, Frames};
use crate::proto::http::{Head, HostPolicy, Response};
pub use crate::proto::socketio::BadValue;

/// How long a client may take to send a request's head.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an accepted client may take to send a request's body: a large one over a slow line takes its time. Others
/// have [`HEAD_TIMEOUT`].
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection may stay without a successful CONNECT.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a polling client may take to change to the WebSocket that it has opened.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that have not authenticated, at the same time.
pub const STRANGERS_MAX: usize = 512;

/// A message of a client that has not authenticated may be this long.
pub const STRANGER_MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// WebSocket pings and pongs that a client may send at once; more close its connection with 1008 …
pub const CONTROL_FRAMES_MAX: u32 = 1000;

/// … and so many a second from then on.
pub const CONTROL_FRAMES_PER_SECOND: u32 = 100;

/// CONNECTs that a client may send at once over one connection; more close it …
pub const CONNECTS_MAX: u32 = 100;

/// … and so many a second from then on.
pub const CONNECTS_PER_SECOND: u32 = 10;

/// How the server behaves.
pub struct Options {
    /// Where Engine.IO lives: `/socket.io/`.
    pub path: String,
    /// From one pong (or the opening) to the next ping.
    pub ping_interval: Duration,
    /// From a ping to its pong, at most.
    pub ping_timeout: Duration,
    /// A message of a client may be this long, in bytes.
    pub max_payload: usize,
    /// Bytes that may wait for one client.
    pub outbox_bytes_max: usize,
    /// Connections at the same time.
    pub max_connections: usize,
    /// Whose requests are served.
    pub policy: HostPolicy,
    /// What pages of other origins may read beside Engine.IO, where they are let in: all that lies below it.
    pub shared_path: Option<&'static str>,
    /// Rings when a client has caught up.
    pub room: Arc<Room>,
}

/// What is known of a client before it says anything. Without `Debug`: it may hold the token.
#[derive(Clone)]
pub struct Handshake {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The token of its `Authorization: Bearer` header.
    pub bearer: Option<String>,
}

/// An event from a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: String,
    /// Its arguments; binary ones are placeholders that name an attachment. Or which of them has no value: the application
    /// says so to its client.
    pub args: Result<Vec<Value>, BadValue>,
    /// The binary attachments.
    pub attachments: Vec<Vec<u8>>,
    /// The number under which the client waits for an acknowledgement.
    pub ack: Option<u64>,
}

/// Why a CONNECT is refused: the client gets it as CONNECT_ERROR.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectError {
    /// One sentence, or a code.
    pub message: String,
    /// More, for programs.
    pub data: Value,
}

/// What a Socket.IO application does. All methods run on the thread of the connection they are about.
pub trait App: Send + Sync + 'static {
    /// What the application keeps of each connected client.
    type Client: Send;

    /// Whether there is such a namespace. `/` is what clients connect to if they do not ask for another.
    fn serves(&self, namespace: &str) -> bool {
        namespace == "/"
    }

    /// Whether this client may connect.
    ///
    /// # Errors
    /// What the client is told if not.
    fn authorize(&self, handshake: &Handshake, auth: &Map<String, Value>) -> Result<(), ConnectError>;

    /// Whether this client asks for connection state recovery. It is no default, since the offset is an extra argument of
    /// every event, on which a handler of fixed arity (Python's) fails.
    fn recovers(&self, _auth: &Map<String, Value>) -> bool {
        false
    }

    /// A client connects. `accept` sends it the acceptance, and must be called before anything else is sent to it.
    ///
    /// # Errors
    /// What the client is told if it cannot be had after all; then `accept` must not have been called.
    fn connected(
        &self,
        client: Client,
        auth: &Map<String, Value>,
        accept: &dyn Fn(),
    ) -> Result<Self::Client, ConnectError>;

    /// A connected client sends an event.
    fn event(&self, client: &mut Self::Client, event: Event);

    /// A client is gone, however it went.
    fn disconnected(&self, client: Self::Client);
}

/// Answers plain HTTP requests, those for Engine.IO excepted.
pub type HttpHandler = dyn Fn(&Head, SocketAddr) -> Answer + Send + Sync;

/// The answer to a plain HTTP request.
pub enum Answer {
    /// All of it.
    Whole(Response),
    /// A head, and a body that is made while it is sent, on the thread of the connection: so it may be of any length.
    Streamed(Response, Pieces),
    /// It depends on the request's body, which is taken as it comes.
    Taken(Box<dyn Taker>),
}

/// Takes a request's body, on the thread of the connection, piece by piece: so it need not be in memory. Dropped without
/// [`Taker::finish`] where the body does not come to its end.
pub trait Taker {
    /// A longer body is refused.
    fn bytes_max(&self) -> usize;

    /// The next piece.
    ///
    /// # Errors
    /// What is answered if no more of it is wanted.
    fn take(&mut self, piece: &[u8]) -> Result<(), Response>;

    /// That was all of it.
    fn finish(self: Box<Self>) -> Response;
}

impl From<Response> for Answer {
    fn from(response: Response) -> Answer {
        Answer::Whole(response)
    }
}

/// A body, piece by piece. After an error nothing more is sent, and the connection is closed without the body's end.
pub type Pieces = Box<dyn Iterator<Item = std::io::Result<Vec<u8>>>>;
