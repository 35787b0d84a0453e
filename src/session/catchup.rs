//! Catching up: a viewer that comes back gets what it has missed at its own pace, then goes live.
//!
//! It has a cursor into the log. A page is taken when its outbox has room, so a long replay never overflows; on reaching
//! the end it becomes a viewer like the others, under the session's lock, so that nothing is missed or sent twice in
//! between. What is not in memory any more is read from the store, without the lock. A short replay is over before the
//! first page is full, and costs no thread.

use std::sync::Arc;

use super::error::{Code, Error};
use super::fanout::{Audience, Batch, Reply, Stream, Viewer};
use super::history::PAGE_EVENTS_MAX;
use super::log::{Ending, Item};
use super::record::storage_error;
use super::session::Session;
use super::state::State;
use crate::net::{Backlog, Crowd};

/// One page of what was missed: well below what an outbox may hold.
const PAGE_BYTES: usize = 64 * 1024;

/// How far a viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It has all up to this number; there is more.
    Behind(u64),
    /// What follows is on the disk, up to before this number.
    Stored { before: u64 },
    /// It sees everything as it happens.
    Live,
    /// It has left.
    Gone,
}

/// How a client was attached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attached {
    Live,
    Joining,
    Not,
}

/// A viewer on its way to being live. Where it comes anew, what was under way for it is over.
#[derive(Clone)]
pub(super) struct Joining {
    pub viewer: Viewer,
    /// Tells it apart from when the same viewer came before.
    number: u64,
}

impl Session {
    /// Sends a viewer what follows `seq`; what it cannot take at once, from a thread of its own, since only that may wait
    /// for it.
    pub(super) fn catch_up_from(&self, joining: &Joining, mut seq: u64) {
        while let Progress::Behind(next) = self.send_page(joining, seq) {
            seq = next;
            if joining.viewer.sink.backlog() != Backlog::Little {
                return self.catch_up_later(joining, seq);
            }
        }
    }

    fn catch_up_later(&self, joining: &Joining, seq: u64) {
        let Some(session) = self.itself.upgrade() else { return };
        let waiting = joining.clone();
        let spawned = self.context.threads.spawn("catch-up".into(), move || session.catch_up(&waiting, seq));
        if let Err(error) = spawned {
            log::error!("session {}: no thread for a client that catches up: {error}", self.id);
            let error = Error::new(Code::SeqGap, "the missed events cannot be sent now: load the history instead");
            self.with(|state, _| state.go_live(joining, Some(&error)));
        }
    }

    fn catch_up(self: Arc<Self>, joining: &Joining, mut seq: u64) {
        loop {
            self.context.room.wait(|| Crowd::of([joining.viewer.sink.backlog()]));
            match self.send_page(joining, seq) {
                Progress::Behind(next) => seq = next,
                Progress::Stored { .. } | Progress::Live | Progress::Gone => return,
            }
        }
    }

    /// Sends a page of what follows `seq`, from memory or from the store.
    fn send_page(&self, joining: &Joining, seq: u64) -> Progress {
        match self.with(|state, _| state.send_kept(joining, seq)) {
            Progress::Stored { before } => match self.stored_page(&joining.viewer, seq, before) {
                Ok((items, endings)) => self.with(|state, _| state.send_missed(joining, seq, &items, &endings)),
                Err(error) => {
                    self.with(|state, _| state.go_live(joining, Some(&error)));
                    Progress::Live
                }
            },
            progress => progress,
        }
    }

    /// See [`Session::endings_at`].
    pub(super) fn send_endings_at(&self, viewer: &Viewer, seq: u64) {
        let endings = self.endings_at(viewer, seq);
        let viewers = std::slice::from_ref(viewer);
        let mut batch = Batch::to(viewers);
        endings.iter().for_each(|ending| batch.event(Audience::All, "claudeResponse", &[ending]));
        batch.send(viewers);
    }

    /// The responses right behind an event that a `text` viewer has seen as its last: nobody knows whether it has seen them
    /// too, and rather twice, by the prompt's name, than not at all. Behind one of Claude's lines, which it does not get, it
    /// knows the number from the response itself.
    pub(super) fn endings_at(&self, viewer: &Viewer, seq: u64) -> Vec<Arc<str>> {
        if viewer.stream != Stream::Text || seq == 0 {
            return Vec::new();
        }
        let kept = self.with(|state, _| {
            let is_seen = state.log.item(seq)?.name != "claudeEvent";
            let endings = state.log.endings(seq - 1, seq).map(|ending| ending.data.clone());
            Some(if is_seen { endings.collect() } else { Vec::new() })
        });
        kept.unwrap_or_else(|| {
            let event = self.stored_items((seq - 1, seq + 1), false, (1, PAGE_BYTES)).unwrap_or_default();
            match event.first() {
                Some(item) if item.name != "claudeEvent" => {
                    let stored = self.context.store.responses(self.key, &self.id, seq - 1, seq);
                    stored.into_iter().flatten().map(|stored| stored.data).collect()
                }
                _ => Vec::new(),
            }
        })
    }

    /// The responses that followed the events with `after < seq <= last`, for a viewer that gets a page of the history:
    /// that has none.
    pub(super) fn missed_endings(&self, viewer: &Viewer, after: u64, last: u64) -> Vec<Arc<str>> {
        if viewer.stream != Stream::Text {
            return Vec::new();
        }
        let (kept, first) = self.with(|state, _| {
            let first = state.log.first_kept();
            let kept = state.log.endings(after.max(first - 1), last).map(|ending| ending.data.clone());
            (kept.collect::<Vec<_>>(), first)
        });
        let stored = if after + 1 < first {
            self.context.store.responses(self.key, &self.id, after, first - 1)
        } else {
            Ok(Vec::new())
        };
        stored.into_iter().flatten().map(|stored| stored.data).chain(kept).collect()
    }

    fn stored_page(&self, viewer: &Viewer, seq: u64, before: u64) -> Result<(Vec<Item>, Vec<Ending>), Error> {
        let items = self.stored_items((seq, before), false, (PAGE_EVENTS_MAX, PAGE_BYTES))?;
        let Some(last) = items.last().map(|item| item.seq) else {
            return Err(Error::new(Code::StorageDamaged, "some of the missed events are not stored any more"));
        };
        let endings = match viewer.stream {
            Stream::Events => Vec::new(),
            Stream::Text => {
                let stored = self.context.store.responses(self.key, &self.id, seq, last).map_err(storage_error)?;
                stored.into_iter().map(|response| Ending { after: response.end_seq, data: response.data }).collect()
            }
        };
        Ok((items, endings))
    }
}

impl State {
    /// Whether this viewer is attached, live or not yet.
    pub(super) fn knows(&self, key: u64) -> bool {
        self.attached().any(|viewer| viewer.key == key)
    }

    /// All viewers, live or not yet.
    pub(super) fn attached(&self) -> impl Iterator<Item = &Viewer> {
        self.viewers.iter().chain(self.catching_up.iter().map(|joining| &joining.viewer))
    }

    /// Takes a viewer away, and says how it was attached.
    pub(super) fn take_away(&mut self, key: u64) -> Attached {
        let (live, joining) = (self.viewers.len(), self.catching_up.len());
        self.viewers.retain(|viewer| viewer.key != key);
        self.catching_up.retain(|joining| joining.viewer.key != key);
        match () {
            () if self.viewers.len() < live => Attached::Live,
            () if self.catching_up.len() < joining => Attached::Joining,
            () => Attached::Not,
        }
    }

    /// A viewer comes: it is not live before it has what it has missed.
    pub(super) fn begin_joining(&mut self, viewer: &Viewer) -> Joining {
        self.joined += 1;
        let joining = Joining { viewer: viewer.clone(), number: self.joined };
        self.catching_up.push(joining.clone());
        joining
    }

    /// Sends a page of what follows `seq`, if it is in memory; with the last one the viewer is live.
    fn send_kept(&mut self, joining: &Joining, seq: u64) -> Progress {
        let Some(kept) = self.log.after(seq) else { return Progress::Stored { before: self.log.first_kept() } };
        let mut bytes = 0;
        let fits = |item: &&Item| {
            let first = bytes == 0;
            bytes += item.data.len();
            first || bytes <= PAGE_BYTES
        };
        let items: Vec<Item> = kept.take_while(fits).cloned().collect();
        let last = items.last().map_or(seq, |item| item.seq);
        let endings: Vec<Ending> = self.log.endings(seq, last).cloned().collect();
        self.send_missed(joining, seq, &items, &endings)
    }

    fn send_missed(&mut self, joining: &Joining, seq: u64, items: &[Item], endings: &[Ending]) -> Progress {
        let viewer = &joining.viewer;
        if !self.catching_up.iter().any(|other| other.number == joining.number) {
            return Progress::Gone;
        }
        let mut batch = Batch::to(std::slice::from_ref(viewer));
        let mut endings = endings.iter().peekable();
        for item in items {
            let audience = match item.name {
                "claudeEvent" => Audience::Only(Stream::Events),
                _ => Audience::All,
            };
            batch.event(audience, item.name, &[&item.data]);
            while let Some(ending) = endings.next_if(|ending| ending.after <= item.seq) {
                batch.event(Audience::Only(Stream::Text), "claudeResponse", &[&ending.data]);
            }
        }
        if !batch.send(std::slice::from_ref(viewer)) {
            self.stop_joining(joining);
            return Progress::Gone;
        }
        let at = items.last().map_or(seq, |item| item.seq);
        if at < self.log.position().seq {
            return Progress::Behind(at);
        }
        self.go_live(joining, None);
        Progress::Live
    }

    /// A viewer that waits for it sees everything from now on: the running answer so far, then all that follows. With an
    /// error it has missed something, but no open question. One that has left meanwhile stays away.
    pub(super) fn go_live(&mut self, joining: &Joining, error: Option<&Error>) {
        let viewer = &joining.viewer;
        if !self.stop_joining(joining) {
            return;
        }
        if let Some(error) = error {
            Reply::new(viewer.clone(), None, "connect").fail(error);
        }
        self.viewers.push(viewer.clone());
        let mut batch = Batch::to(std::slice::from_ref(viewer));
        self.replay_questions(&mut batch, |_| error.is_none());
        self.snapshot(&mut batch);
        batch.send(std::slice::from_ref(viewer));
    }

    /// It is not on its way any more. `false`: nor was it.
    pub(super) fn stop_joining(&mut self, joining: &Joining) -> bool {
        let before = self.catching_up.len();
        self.catching_up.retain(|other| other.number != joining.number);
        self.catching_up.len() < before
    }
}
