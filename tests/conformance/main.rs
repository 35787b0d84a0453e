//! Engine.IO v4 and Socket.IO v5 against the echo server, raw over HTTP and WebSocket: every case is a row of a table or a
//! named block, with the exact bytes, statuses and close codes that the two specifications and the reference server give.

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod cors;
mod handshake;
mod heartbeat;
mod malformed;
mod messages;
mod races;
mod sockets;
mod upgrade;
mod wire;
