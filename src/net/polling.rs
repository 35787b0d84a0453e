//! Engine.IO over HTTP requests: a GET that waits for packets, a POST that brings some.

use std::sync::Arc;

use super::Handshake;
use super::engine::{Close, Engine, Protocol};
use super::outbox::Polled;
use super::registry::Shared;
use crate::proto::engineio::{self, Part, Refusal};
use crate::proto::http::Response;

/// Opens a connection and answers with its open packet.
pub(super) fn open<P: Protocol>(shared: &Arc<Shared<P>>, handshake: Handshake) -> Response {
    match Engine::open(shared, None, &[], handshake) {
        Some(engine) => poll(&engine, shared.options.max_payload),
        None => Response::error(503),
    }
}

/// Answers a GET: waits until there is something to say.
pub(super) fn poll<P: Protocol>(engine: &Engine<P>, payload_bytes_max: usize) -> Response {
    let outbox = engine.peer.connection.outbox();
    let polled = outbox.poll(payload_bytes_max);
    if outbox.is_over() {
        // Before the client has its answer: what it asks next finds the id unknown.
        engine.finish(false);
        engine.forget();
    }
    match polled {
        Polled::Payload(body) => Response::text(200, body),
        Polled::Refused => refused(Refusal::BadRequest),
    }
}

/// Handles a POST's body.
pub(super) fn receive<P: Protocol>(engine: &Engine<P>, body: &[u8]) -> Response {
    let Ok(parts) = engineio::decode_payload(body) else {
        engine.finish(false);
        return refused(Refusal::BadRequest);
    };
    match handle(engine, parts) {
        Ok(leaves) => {
            if leaves {
                engine.peer.connection.outbox().leave();
                engine.finish(true);
            }
            Response::html(200, "ok")
        }
        // Malformed, or two requests at once.
        Err(Close) => {
            engine.finish(false);
            refused(Refusal::BadRequest)
        }
    }
}

/// Handles the packets in order. `Ok(true)`: the client has said good-bye.
fn handle<P: Protocol>(engine: &Engine<P>, parts: Vec<Part<'_>>) -> Result<bool, Close> {
    for part in parts {
        match part {
            Part::Text(text) if engine.on_packet(text)? => return Ok(true),
            Part::Text(_) => {}
            Part::Binary(bytes) => engine.on_binary(bytes)?,
        }
    }
    Ok(false)
}

/// A refusal in the form of the reference server.
pub(super) fn refused(refusal: Refusal) -> Response {
    Response::json(refusal.status(), refusal.json())
}
