//! One encoding for all viewers, one push for each.
//!
//! What happens in one go (all lines that one read of Claude's output brought, or all that one client's event caused) is
//! collected in a [`Batch`]: for each of the two kinds of viewers that is present, ready-made WebSocket frames, encoded
//! once. Then every viewer's outbox gets its batch in one push.

use std::sync::Arc;

use serde::Serialize;

use super::error::Error;
use super::events::{ServerError, json};
use crate::net::{Frames, Sink};

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
}

impl Viewer {
    /// Sends an event to this viewer alone.
    pub fn emit(&self, name: &str, data: &impl Serialize) {
        let mut frames = Frames::default();
        push_event(&mut frames, name, &json(data));
        self.sink.push(&Arc::new(frames));
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
    text: Option<Frames>,
    events: Option<Frames>,
}

impl Batch {
    /// A batch that encodes only what some of `viewers` wants.
    #[must_use]
    pub fn to(viewers: &[Viewer]) -> Batch {
        let wanted = |stream| viewers.iter().any(|viewer| viewer.stream == stream).then(Frames::default);
        Batch { text: wanted(Stream::Text), events: wanted(Stream::Events) }
    }

    /// Adds an event whose data is the concatenation of `parts`.
    pub fn event(&mut self, audience: Audience, name: &str, parts: &[&str]) {
        let Batch { text, events } = self;
        for (frames, stream) in [(text, Stream::Text), (events, Stream::Events)] {
            if let Some(frames) = frames
                && (audience == Audience::All || audience == Audience::Only(stream))
            {
                frames.push_event(name, parts);
            }
        }
    }

    /// Whether anybody would see an event for this audience. Spares the work of making one.
    #[must_use]
    pub fn wanted_by(&self, stream: Stream) -> bool {
        match stream {
            Stream::Text => self.text.is_some(),
            Stream::Events => self.events.is_some(),
        }
    }

    /// Pushes to every viewer what is meant for it.
    pub fn send(self, viewers: &[Viewer]) {
        let share = |frames: Option<Frames>| frames.filter(|frames| !frames.is_empty()).map(Arc::new);
        let (text, events) = (share(self.text), share(self.events));
        for viewer in viewers {
            let frames = match viewer.stream {
                Stream::Text => &text,
                Stream::Events => &events,
            };
            if let Some(frames) = frames {
                // A viewer that cannot take more is ended by its own connection, which then detaches it.
                viewer.sink.push(frames);
            }
        }
    }
}

fn push_event(frames: &mut Frames, name: &str, data: &str) {
    frames.push_event(name, &[data]);
}

/// The way back to the client that sent an event: its acknowledgement, or `serverError` where it asked for none.
pub struct Reply {
    sink: Arc<dyn Sink>,
    ack: Option<u64>,
    event: String,
}

impl Reply {
    /// For the event called `event`.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>, ack: Option<u64>, event: &str) -> Reply {
        Reply { sink, ack, event: event.to_owned() }
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
                let mut frames = Frames::default();
                push_event(&mut frames, "serverError", &json(&data));
                self.sink.push(&Arc::new(frames));
            }
        }
    }

    fn push_ack(&self, id: u64, data: &str) {
        let mut frames = Frames::default();
        frames.push_ack(id, data);
        self.sink.push(&Arc::new(frames));
    }
}
