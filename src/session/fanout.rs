//! One encoding for all viewers, one push for each.
//!
//! What happens in one go (all lines that one read of Claude's output brought, or all that one client's event caused) is
//! collected in a [`Batch`]: for each kind of viewers that is present, ready-made WebSocket frames, encoded
//! once. Then every viewer's outbox gets its batch in one push.

use std::sync::Arc;

use serde::Serialize;

use super::error::Error;
use super::events::{ServerError, json};
use crate::net::{Frames, Sink, next_offset};

/// What a viewer wants to see of Claude's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The answer's text, in the plain `claudeStream…` events.
    Text,
    /// Everything, as `claudeEvent`s.
    Events,
}

/// A connection attached to a session.
#[derive(Clone)]
pub struct Viewer {
    /// Names the connection.
    pub key: u64,
    /// Where its packets go.
    pub sink: Arc<dyn Sink>,
    /// What it wants.
    pub stream: Stream,
    /// Whether its events end with an offset, for connection state recovery.
    pub recovers: bool,
}

impl Viewer {
    /// Sends an event to this viewer alone.
    pub fn emit(&self, name: &str, data: &impl Serialize) {
        let mut batch = Batch::to(std::slice::from_ref(self));
        batch.event(Audience::All, name, &[&json(data)]);
        batch.send(std::slice::from_ref(self));
    }
}

/// Who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Every viewer.
    All,
    /// Those with this kind of stream.
    Only(Stream),
}

/// What goes out together.
#[derive(Default)]
pub struct Batch {
    variants: [Option<Frames>; VARIANTS],
    /// Memory of an earlier batch, for the first frames of this one.
    spare: Vec<u8>,
}

/// A larger buffer is given back to the system. What one read brings, as events, has room.
const SPARE_BYTES_MAX: usize = 512 * 1024;

/// By what it wants, and by whether it recovers: four encodings, each made only if somebody wants it.
const VARIANTS: usize = 4;

fn variant(stream: Stream, recovers: bool) -> usize {
    usize::from(stream == Stream::Events) * 2 + usize::from(recovers)
}

impl Batch {
    /// A batch that encodes only what some of `viewers` wants.
    #[must_use]
    pub fn to(viewers: &[Viewer]) -> Batch {
        let mut batch = Batch::default();
        for viewer in viewers {
            batch.variants[variant(viewer.stream, viewer.recovers)].get_or_insert_default();
        }
        batch
    }

    /// Gives it the memory of an earlier batch: [`Batch::send_and_keep`].
    pub fn reuse(&mut self, spare: Vec<u8>) {
        self.spare = spare;
    }

    /// Adds an event whose data is the concatenation of `parts`.
    pub fn event(&mut self, audience: Audience, name: &str, parts: &[&str]) {
        self.for_each(audience, |frames, offset| frames.push_event(name, parts, offset));
    }

    /// The same for an event that lacks only its end: [`Frames::push_opened`].
    pub fn opened(&mut self, audience: Audience, parts: &[&str]) {
        self.for_each(audience, |frames, offset| frames.push_opened(parts, offset));
    }

    fn for_each(&mut self, audience: Audience, push: impl Fn(&mut Frames, Option<&str>)) {
        let mut offset = None;
        for stream in [Stream::Text, Stream::Events] {
            if audience != Audience::All && audience != Audience::Only(stream) {
                continue;
            }
            if let Some(frames) = &mut self.variants[variant(stream, false)] {
                if frames.is_empty() && self.spare.capacity() > 0 {
                    *frames = Frames::in_place_of(std::mem::take(&mut self.spare));
                }
                push(frames, None);
            }
            if let Some(frames) = &mut self.variants[variant(stream, true)] {
                push(frames, Some(offset.get_or_insert_with(next_offset)));
            }
        }
    }

    /// Whether anybody would see an event for this audience. Spares the work of making one.
    #[must_use]
    pub fn wanted_by(&self, stream: Stream) -> bool {
        [false, true].into_iter().any(|recovers| self.variants[variant(stream, recovers)].is_some())
    }

    /// Pushes to every viewer what is meant for it. `false`: somebody could not take it, and is ended by its own connection,
    /// which then detaches it.
    pub fn send(self, viewers: &[Viewer]) -> bool {
        self.send_all(viewers).0
    }

    /// The same; the memory comes back for the next batch, where no viewer holds on to it. While Claude talks, batch follows
    /// batch, and each is of a size for which the allocator would go to the kernel.
    pub fn send_and_keep(self, viewers: &[Viewer]) -> Vec<u8> {
        self.send_all(viewers).1
    }

    fn send_all(self, viewers: &[Viewer]) -> (bool, Vec<u8>) {
        let variants = self.variants.map(|frames| frames.filter(|frames| !frames.is_empty()).map(Arc::new));
        let mut taken = true;
        for viewer in viewers {
            if let Some(frames) = &variants[variant(viewer.stream, viewer.recovers)] {
                taken &= viewer.sink.push(frames);
            }
        }
        let returned = variants.into_iter().flatten().filter_map(Arc::into_inner).map(Frames::into_memory);
        let spare = returned.chain([self.spare]).filter(|memory| memory.capacity() <= SPARE_BYTES_MAX);
        (taken, spare.max_by_key(Vec::capacity).unwrap_or_default())
    }
}

/// The way back to the client that sent an event: its acknowledgement, or `serverError` where it asked for none.
pub struct Reply {
    viewer: Viewer,
    ack: Option<u64>,
    event: Box<str>,
}

impl Reply {
    /// For the event called `event`.
    #[must_use]
    pub fn new(viewer: Viewer, ack: Option<u64>, event: &str) -> Reply {
        Reply { viewer, ack, event: event.into() }
    }

    /// Acknowledges with `data`, which says `ok: true` itself.
    pub fn ok(self, data: &impl Serialize) {
        if let Some(id) = self.ack {
            self.push_ack(id, &json(data));
        }
    }

    /// Refuses.
    pub fn fail(self, error: &Error) {
        #[derive(Serialize)]
        struct Failed<'a> {
            ok: bool,
            error: &'a Error,
        }
        match self.ack {
            Some(id) => self.push_ack(id, &json(&Failed { ok: false, error })),
            None => {
                let data = ServerError { code: error.code.name(), message: &error.message, event: &self.event };
                self.viewer.emit("serverError", &data);
            }
        }
    }

    fn push_ack(&self, id: u64, data: &str) {
        let mut frames = Frames::default();
        frames.push_ack(id, data);
        self.viewer.sink.push(&Arc::new(frames));
    }
}
