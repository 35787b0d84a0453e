//! The packet formats, pure: bytes in, values out, the clock a parameter; no thread, socket, channel or lock.
//!
//! This is the only place that knows what HTTP, Engine.IO, Socket.IO and Claude's stream-json look like.

pub mod claude;
pub mod engineio;
pub mod fragments;
pub mod frames;
pub mod http;
pub mod ndjson;
pub mod socketio;
