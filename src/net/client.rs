//! A connected client, as the application speaks to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use serde_json::Value;

use super::outbox::Sink;
use super::recovery::next_offset;
use crate::proto::frames::Frames;
use crate::proto::socketio;

/// Acknowledgements that may be awaited from one client; older ones are given up.
const ACKS_MAX: usize = 10_000;

/// Arguments of an event or an acknowledgement. Binary ones are placeholders `{"_placeholder": true, "num": n}` that name
/// an attachment, as the protocol has them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Arguments {
    /// The arguments.
    pub values: Vec<Value>,
    /// What the placeholders stand for.
    pub attachments: Vec<Vec<u8>>,
}

/// A client whose CONNECT to a namespace is accepted. Cheap to clone; sending never blocks.
#[derive(Clone)]
pub struct Client {
    /// Names its connection within this server.
    pub key: u64,
    /// The namespace that it has connected to.
    pub namespace: Arc<str>,
    /// Where packets for it go.
    pub sink: Arc<dyn Sink>,
    /// Whether its events end with an offset, for connection state recovery.
    pub recovers: bool,
    pub(super) acks: Arc<Acks>,
}

type OnAck = Box<dyn FnOnce(Arguments) + Send>;

#[derive(Default)]
pub(super) struct Acks {
    next: Mutex<(u64, BTreeMap<u64, OnAck>)>,
    disconnected: AtomicBool,
}

impl Client {
    /// Sends an event. `false`: the client is gone or going.
    pub fn emit(&self, name: &str, arguments: &Arguments) -> bool {
        let packet = socketio::Outgoing::Event { name, ack: None };
        if self.recovers {
            let mut arguments = arguments.clone();
            arguments.values.push(next_offset().into());
            self.send(packet, &arguments)
        } else {
            self.send(packet, arguments)
        }
    }

    /// Sends an event and calls `on_ack` with the client's acknowledgement, on the thread that reads it; never, if there is
    /// none.
    pub fn emit_with_ack(
        &self,
        name: &str,
        arguments: &Arguments,
        on_ack: impl FnOnce(Arguments) + Send + 'static,
    ) -> bool {
        let id = {
            let mut acks = self.acks.next.lock();
            let id = acks.0;
            acks.0 += 1;
            acks.1.insert(id, Box::new(on_ack));
            if acks.1.len() > ACKS_MAX {
                acks.1.pop_first();
            }
            id
        };
        self.send(socketio::Outgoing::Event { name, ack: Some(id) }, arguments)
    }

    /// Acknowledges the client's event `id`.
    pub fn ack(&self, id: u64, arguments: &Arguments) -> bool {
        self.send(socketio::Outgoing::Ack { id }, arguments)
    }

    /// Ends the client's stay in its namespace; the connection stays. The application is told good-bye by the time that
    /// the present event is handled, or with the next.
    pub fn disconnect(&self) -> bool {
        self.acks.disconnected.store(true, Ordering::SeqCst);
        self.sink.push(&Arc::new(Frames::packet(&socketio::disconnect(&self.namespace))))
    }

    pub(super) fn is_disconnected(&self) -> bool {
        self.acks.disconnected.load(Ordering::SeqCst)
    }

    pub(super) fn on_ack(&self, id: u64, values: Vec<Value>, attachments: Vec<Vec<u8>>) {
        let on_ack = self.acks.next.lock().1.remove(&id);
        if let Some(on_ack) = on_ack {
            on_ack(Arguments { values, attachments });
        }
    }

    fn send(&self, packet: socketio::Outgoing<'_>, arguments: &Arguments) -> bool {
        let text = socketio::encode(&self.namespace, packet, &arguments.values, arguments.attachments.len());
        let mut frames = Frames::packet(&text);
        for attachment in &arguments.attachments {
            frames.push_binary(attachment);
        }
        self.sink.push(&Arc::new(frames))
    }
}
