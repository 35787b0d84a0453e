//! Engine.IO over HTTP requests: a GET that waits for packets, a POST that brings some.

use std::sync::Arc;

use super::engine::{Close, Engine};
use super::outbox::Polled;
use super::registry::Shared;
use super::{App, Handshake};
use crate::proto::engineio::{self, Part, Refusal};
use crate::proto::http::Response;

/// Opens a connection and answers with its open packet.
pub(super) fn open<A: App>(shared: &Arc<Shared<A>>, handshake: Handshake) -> Response {
    match Engine::open(shared, None, handshake) {
        Some(engine) => poll(&engine, shared.options.max_payload),
        None => Response::error(503),
    }
}

/// Answers a GET: waits until there is something to say.
pub(super) fn poll<A: App>(engine: &Engine<A>, payload_bytes_max: usize) -> Response {
    match engine.connection.outbox().poll(payload_bytes_max) {
        Polled::Payload(body) => Response::text(200, body),
        Polled::Refused => refused(Refusal::BadRequest),
    }
}

/// Handles a POST's body.
pub(super) fn receive<A: App>(engine: &Engine<A>, body: &[u8]) -> Response {
    let Ok(parts) = engineio::decode_payload(body) else {
        engine.finish(false);
        return refused(Refusal::BadRequest);
    };
    let handled = engine.work(|protocol, engine| {
        for part in parts {
            let leaves = match part {
                Part::Text(text) => protocol.on_packet(text, engine)?,
                Part::Binary(bytes) => protocol.on_binary(bytes, engine).map(|()| false)?,
            };
            if leaves {
                return Ok(true);
            }
        }
        Ok::<bool, Close>(false)
    });
    match handled {
        Some(Ok(leaves)) => {
            if leaves {
                engine.connection.outbox().leave();
                engine.finish(true);
            }
            Response::html(200, "ok")
        }
        // Malformed, or two at once.
        Some(Err(Close)) | None => {
            engine.finish(false);
            refused(Refusal::BadRequest)
        }
    }
}

/// A refusal in the form of the reference server.
pub(super) fn refused(refusal: Refusal) -> Response {
    Response::json(refusal.status(), refusal.json())
}
