//! Catching up: a viewer that comes back gets what it has missed at its own pace, then goes live.
//!
//! It has a cursor into the log. A page is taken when its outbox has room, so a long replay never overflows; on reaching
//! the end it becomes a viewer like the others, under the session's lock, so that nothing is missed or sent twice in
//! between. A short replay is over before the first page is full, and costs no thread.

use std::sync::Arc;

use super::error::{Code, Error};
use super::fanout::{Audience, Batch, Reply, Stream, Viewer};
use super::session::Session;
use super::state::State;

/// One page of what was missed: well below what an outbox may hold.
const PAGE_BYTES: usize = 64 * 1024;

/// How far a viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has all up to this number; there is more.
    Behind(u64),
    /// It sees everything as it happens.
    Live,
    /// It has left.
    Gone,
}

impl Session {
    /// Sends the rest of what a viewer has missed from a thread of its own, since only that may wait for it.
    pub(super) fn catch_up_from(&self, viewer: Viewer, seq: u64) {
        let Some(session) = self.itself.upgrade() else { return };
        let waiting = viewer.clone();
        let spawned = self.context.threads.spawn("catch-up".into(), move || session.catch_up(&waiting, seq));
        if let Err(error) = spawned {
            log::error!("session {}: no thread for a client that catches up: {error}", self.id);
            let error = Error::new(Code::SeqGap, "the missed events cannot be sent now: load the history instead");
            self.with(|state, _| state.go_live(&viewer, Some(&error)));
        }
    }

    fn catch_up(self: Arc<Self>, viewer: &Viewer, mut seq: u64) {
        loop {
            self.context.room.wait_while(|| viewer.sink.is_behind());
            match self.with(|state, _| state.send_missed(viewer, seq)) {
                Progress::Behind(next) => seq = next,
                Progress::Live | Progress::Gone => return,
            }
        }
    }
}

impl State {
    /// Whether this viewer is attached, live or not yet.
    pub(super) fn knows(&self, key: u64) -> bool {
        self.catching_up.contains(&key) || self.viewers.iter().any(|viewer| viewer.key == key)
    }

    /// Sends a page of what follows `seq`; with the last one the viewer is live.
    pub(super) fn send_missed(&mut self, viewer: &Viewer, seq: u64) -> Progress {
        if !self.catching_up.contains(&viewer.key) {
            return Progress::Gone;
        }
        let mut batch = Batch::to(std::slice::from_ref(viewer));
        let (mut at, mut bytes) = (seq, 0);
        if self.log.after(seq).is_err() {
            let error = Error::new(Code::SeqGap, "events that old are no longer kept: load the history anew");
            self.go_live(viewer, Some(&error));
            return Progress::Live;
        }
        for item in self.log.after(seq).into_iter().flatten() {
            if bytes > 0 && bytes + item.data.len() > PAGE_BYTES {
                break;
            }
            bytes += item.data.len();
            let audience = match item.name {
                "claudeEvent" => Audience::Only(Stream::Events),
                _ => Audience::All,
            };
            batch.event(audience, item.name, &[&item.data]);
            at = item.seq;
        }
        if !batch.send(std::slice::from_ref(viewer)) {
            self.catching_up.retain(|key| *key != viewer.key);
            return Progress::Gone;
        }
        if at < self.log.position().seq {
            return Progress::Behind(at);
        }
        self.go_live(viewer, None);
        Progress::Live
    }

    /// The viewer sees everything from now on: the running answer so far, then all that follows.
    pub(super) fn go_live(&mut self, viewer: &Viewer, error: Option<&Error>) {
        self.catching_up.retain(|key| *key != viewer.key);
        if let Some(error) = error {
            Reply::new(viewer.clone(), None, "connect").fail(error);
        }
        if !self.knows(viewer.key) {
            self.viewers.push(viewer.clone());
            let mut batch = Batch::to(std::slice::from_ref(viewer));
            self.snapshot(&mut batch);
            batch.send(std::slice::from_ref(viewer));
        }
    }
}
