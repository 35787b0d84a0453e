//! Who watches a session: how clients come to it and go.

use std::time::Instant;

use super::catchup::Attached;
use super::deltas::Deltas;
use super::error::Error;
use super::events::{SessionRegistered, StreamMark, Summary, json, long_json, now_ms};
use super::fanout::{Audience, Batch, Reply, Stream, Viewer};
use super::history::{Draft, PAGE_EVENTS_MAX, raw, room_beside};
use super::log::Range;
use super::session::Session;
use super::state::State;
use crate::failpoint;

/// How a viewer comes to a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Arrival {
    /// It named this session, and got it.
    pub resumed: bool,
    /// It named a session that does not exist.
    pub requested: Option<String>,
    /// What it has seen already.
    pub after: Option<After>,
}

/// The last event that a client has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct After {
    /// Its number.
    pub seq: u64,
    /// The numbering that it belongs to; the present one is assumed where absent.
    pub log_id: Option<String>,
}

impl Session {
    /// Lets a viewer in that is going to [`Session::register`]: until then the session stays for it. `false`: it has just
    /// gone with its last viewer.
    #[must_use]
    pub fn admit(&self) -> bool {
        self.with(|state, _| {
            state.arriving += usize::from(!state.gone);
            !state.gone
        })
    }

    /// Attaches a viewer that was admitted and has just connected: it gets `sessionRegistered`, then what it has missed, or
    /// the questions that are open, and the running answer so far. Everything later comes to it live.
    pub fn register(&self, viewer: &Viewer, arrival: &Arrival) {
        let after = arrival.after.as_ref().map(|after| self.follow(after));
        let joining = self.with(|state, _| {
            state.arriving = state.arriving.saturating_sub(1);
            (state.last_activity, state.touched) = (now_ms(), true);
            let joining = (!state.knows(viewer.key)).then(|| state.begin_joining(viewer));
            let position = state.log.position();
            let log_id = state.log_id(&self.context.store);
            let session = state.summary(&self.context);
            let mut batch = Batch::to(std::slice::from_ref(viewer));
            let registered = SessionRegistered {
                session_id: &self.id,
                mode: self.context.mode,
                resumed: arrival.resumed,
                requested: arrival.requested.as_deref(),
                log_id: &log_id,
                seq: position.seq,
                part: position.part,
                session: &session,
            };
            batch.event(Audience::All, "sessionRegistered", &[&long_json(&registered)]);
            if after.is_none() {
                state.replay_questions(&mut batch, |_| false);
            }
            batch.send(std::slice::from_ref(viewer));
            match (&after, &joining) {
                (None, Some(joining)) => state.go_live(joining, None),
                (Some(Err(error)), Some(joining)) => state.go_live(joining, Some(error)),
                (Some(Ok(_)), Some(_)) | (_, None) => {}
            }
            joining
        });
        if let (Some(Ok(seq)), Some(joining)) = (after, joining) {
            self.send_endings_at(viewer, seq);
            self.catch_up_from(&joining, seq);
        }
        self.prestart();
        self.context.room.ring();
    }

    /// Attaches a viewer that is connected already. `reply` gets the history that it asked for, then the open questions
    /// that are not in it and the running answer so far follow; everything later comes to it live. A closed session is
    /// open again. `false`: refused.
    pub fn resume(&self, viewer: &Viewer, after: Option<&After>, reply: Reply) -> bool {
        let refused = |reply: Reply, error: &Error| {
            reply.fail(error);
            false
        };
        let after = match after.map(|after| self.follow(after)).transpose() {
            Ok(after) => after,
            Err(error) => return refused(reply, &error),
        };
        // Not live while the page is read: what happens meanwhile comes behind it.
        let drafted = self.with(|state, _| {
            if state.gone || state.is_going() {
                return None;
            }
            // One that is being sent what it has missed gets it by this page now, and what follows that.
            let was = state.take_away(viewer.key);
            let joining = state.begin_joining(viewer);
            let position = state.log.position();
            let range = after.map_or(Range::Before(position.seq + 1), Range::After);
            let room = room_beside(&state.summary(&self.context));
            Some((position, was, joining, room, Draft::of(&state.log, range, PAGE_EVENTS_MAX, room)))
        });
        let Some((position, was, joining, room, draft)) = drafted else {
            return refused(reply, &Error::invalid_session());
        };
        failpoint::reach("page");
        let draft = match self.read_missing(draft) {
            Ok(draft) => draft.cut_to(room, &self.id),
            Err(error) => {
                self.with(|state, _| match was {
                    Attached::Live => state.go_live(&joining, None),
                    Attached::Joining => state.go_live(&joining, Some(&error)),
                    // Who did not watch it does not do so now.
                    Attached::Not => drop(state.stop_joining(&joining)),
                });
                return refused(reply, &error);
            }
        };
        let was_live = was == Attached::Live;
        let (in_page, page) = (draft.numbers(), draft.finish());
        let endings = after.map_or_else(Vec::new, |after| {
            let mut endings = self.endings_at(viewer, after);
            endings.extend(self.missed_endings(viewer, after, position.seq));
            endings
        });
        let behind = self.with(|state, _| {
            // It may have been deleted while the page was read.
            if state.ended && !state.is_going() {
                (state.ended, state.changed) = (false, true);
                log::info!("session {}: open again", self.id);
            }
            let now = state.log.position();
            let log_id = state.log_id(&self.context.store);
            let behind = now.seq != position.seq;
            reply.ok(&Resumed {
                ok: true,
                session: state.summary(&self.context),
                log_id: &log_id,
                seq: position.seq,
                // The deltas that follow are those since the last event: of earlier ones the next event has the text.
                part: if behind { 0 } else { now.part },
                events: raw(&page.events),
                more: page.more,
            });
            let mut batch = Batch::to(std::slice::from_ref(viewer));
            for ending in &endings {
                batch.event(Audience::All, "claudeResponse", &[ending]);
            }
            // What is behind the position follows in any case, and one that was live has seen all.
            state.replay_questions(&mut batch, |seq| was_live || seq > position.seq || in_page.contains(&seq));
            batch.send(std::slice::from_ref(viewer));
            if was_live && now == position {
                // It has missed nothing, and needs not be told the running answer again.
                if state.stop_joining(&joining) {
                    state.viewers.push(viewer.clone());
                }
            } else if !behind {
                state.go_live(&joining, None);
            }
            behind
        });
        if behind {
            self.catch_up_from(&joining, position.seq);
        }
        self.prestart();
        self.context.room.ring();
        true
    }

    /// Whether [`Session::resume`] would be refused now.
    ///
    /// # Errors
    /// Why.
    pub fn may_resume(&self, after: Option<&After>) -> Result<(), Error> {
        after.map_or(Ok(()), |after| self.follow(after).map(drop))
    }

    /// Attaches a viewer without more ado, if it is not attached: it has asked something here. `false`: the session has
    /// just gone with its last viewer.
    pub fn attach(&self, viewer: &Viewer) -> bool {
        let attached = self.with(|state, _| {
            if !state.gone && !state.knows(viewer.key) {
                let mut batch = Batch::to(std::slice::from_ref(viewer));
                state.replay_questions(&mut batch, |_| false);
                batch.send(std::slice::from_ref(viewer));
                let joining = state.begin_joining(viewer);
                state.go_live(&joining, None);
            }
            !state.gone
        });
        self.context.room.ring();
        attached
    }

    /// Takes a viewer away. `true`: it was the last, and nothing was ever asked here, so that the session can go.
    pub fn detach(&self, key: u64) -> bool {
        let gone = self.with(|state, _| {
            state.take_away(key);
            state.idle_since = Instant::now();
            let nobody = state.viewers.is_empty() && state.catching_up.is_empty() && state.arriving == 0;
            state.gone |= nobody && state.reserved && state.accepting.is_empty();
            state.gone
        });
        self.context.room.ring();
        gone
    }

    /// Runs `work` for each viewer, live or not yet.
    pub fn each_viewer(&self, work: impl FnMut(&Viewer)) {
        self.with(|state, _| state.attached().for_each(work));
    }
}

impl State {
    /// What a viewer that joins now must know to make sense of what follows: the running answer.
    pub(super) fn snapshot(&self, batch: &mut Batch) {
        if let Some(turn) = &self.turn {
            let mark =
                StreamMark { session_id: &self.id, prompt_id: turn.prompt_id.as_deref(), so_far: Some(&turn.text) };
            batch.event(Audience::Only(Stream::Text), "claudeStreamStart", &[&json(&mark)]);
        }
        if batch.wanted_by(Stream::Events) {
            let (seq, mut deltas) = (self.log.position().seq, Deltas::new());
            for (part, line) in self.log.deltas() {
                deltas.push(batch, &self.id, (seq, part), line);
            }
        }
    }
}

#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Resumed<'a> {
    ok: bool,
    session: Summary,
    log_id: &'a str,
    seq: u64,
    part: u64,
    events: &'a serde_json::value::RawValue,
    more: bool,
}
