//! A session as others see it: each method takes the lock, does one thing, and sends what came of it.
//!
//! What the methods do with the state is in `prompt.rs` (what clients ask), `turn.rs` (what Claude says), `questions.rs`
//! (what it asks) and `life.rs` (how the process starts and ends).

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::deltas::Deltas;
use super::error::Error;
use super::events::{EVENT_BYTES_MAX, Failure, SessionRegistered, StreamMark, Summary, json, long_json, now_ms};
use super::fanout::{Audience, Batch, Reply, Stream, Viewer};
use super::history::Draft;
use super::log::Range;
use super::state::{Choices, Context, Phase, State};
use crate::failpoint;
use crate::net::Crowd;
use crate::store::Key;
use crate::timer::Timed;

/// Events in one page of the history.
pub const PAGE_EVENTS_MAX: usize = 500;

/// Bytes of events in one page: the rest of the acknowledgement must fit too.
const PAGE_BYTES_MAX: usize = EVENT_BYTES_MAX - 100_000;

/// One conversation; see the module of [`super::state`].
pub struct Session {
    /// Its name.
    pub id: Arc<str>,
    /// Its number in the store.
    pub(super) key: Key,
    pub(super) context: Arc<Context>,
    pub(super) itself: Weak<Session>,
    state: Mutex<State>,
    /// The deadline that the timer knows of.
    scheduled: Mutex<Option<Instant>>,
}

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
    /// A session without a process, of which nothing is stored yet.
    #[must_use]
    pub fn new(id: &str, choices: Choices, reserved: bool, context: Arc<Context>) -> Arc<Session> {
        let key = context.store.new_key();
        Session::of(State::new(id.into(), key, choices, reserved), context)
    }

    /// A session in that state.
    pub(super) fn of(state: State, context: Arc<Context>) -> Arc<Session> {
        Arc::new_cyclic(|itself| Session {
            id: state.id.clone(),
            key: state.key,
            context,
            itself: itself.clone(),
            state: Mutex::new(state),
            scheduled: Mutex::new(None),
        })
    }

    /// Runs `work` under the lock, then sends what it put into the batch, and the summary if it has changed, and hands the
    /// store what is to be kept.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State, &mut Batch) -> R) -> R {
        let mut guard = FailOnPanic { state: self.state.lock() };
        let state = &mut *guard.state;
        // Also one that was not in memory when the others were told.
        state.shutting_down |= self.context.live.is_closing();
        let mut batch = Batch::to(&state.viewers);
        batch.reuse(std::mem::take(&mut state.spare));
        let was_at_work = state.is_at_work();
        let result = work(state, &mut batch);
        if std::mem::take(&mut state.changed) {
            // The end of a process that has nothing to do is no activity: the list's order would be that of the ends.
            if was_at_work || state.is_at_work() {
                state.last_activity = now_ms();
            }
            batch.event(Audience::All, "sessionUpdated", &[&long_json(&state.summary(&self.context))]);
            state.touched = true;
            state.store_touch();
        }
        let spare = batch.send_and_keep(&state.viewers);
        if state.turn.is_some() {
            state.spare = spare;
        }
        failpoint::reach("sent");
        state.submit(&self.context.store);
        let next = state.next_deadline(&self.context);
        if self.context.slots.is_crowded() && state.can_make_room() {
            self.context.slots.ring();
        }
        drop(guard);
        self.schedule(next);
        result
    }

    /// Looks without changing anything. The keeper does this to all sessions when it is called, and [`Session::with`] could
    /// call it again each time.
    pub(super) fn peek<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock())
    }

    /// Leaves the memory, if all of it is on the disk; otherwise it is tried again later.
    fn unload(&self, now: Instant) {
        let stays = self.with(|state, _| {
            state.store_touch();
            !state.pending.is_empty()
        });
        // The timer holds it as well.
        if stays || !self.context.live.unload(self, 1) {
            self.with(|state, _| state.idle_since = now);
        } else {
            log::debug!("session {}: leaves the memory", self.id);
        }
    }

    fn schedule(&self, next: Option<Instant>) {
        let Some(at) = next else { return };
        let mut scheduled = self.scheduled.lock();
        if scheduled.is_none_or(|known| at < known) {
            *scheduled = Some(at);
            drop(scheduled);
            let itself: Weak<dyn Timed> = self.itself.clone();
            self.context.timer.wake(at, itself);
        }
    }

    /// Waits, holding nothing, while every viewer is behind: so a lone slow client paces Claude, and one slow client among
    /// others does not, but for a moment before it would be sent away. Also while the store is: what cannot be kept is not
    /// asked for.
    pub(super) fn wait_for_room(&self) {
        self.context.room.wait(|| {
            let state = self.state.lock();
            match Crowd::of(state.viewers.iter().map(|viewer| viewer.sink.backlog())) {
                _ if state.phase == Phase::Stopping => Crowd::Nobody,
                _ if self.context.store.is_behind() => Crowd::Some,
                crowd => crowd,
            }
        });
    }

    /// What lists show.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.state.lock().summary(&self.context)
    }

    /// Whether nothing was ever asked here.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.state.lock().reserved
    }

    /// What lists show, if it belongs there.
    #[must_use]
    pub fn listed(&self) -> Option<Summary> {
        let state = self.state.lock();
        (!state.reserved && !state.deleted).then(|| state.summary(&self.context))
    }

    /// Notes that somebody was here. `false`: it is deleted.
    #[must_use]
    pub fn touch(&self) -> bool {
        let mut state = self.state.lock();
        (state.last_activity, state.touched) = (now_ms(), true);
        !state.deleted
    }

    /// Lets a viewer in that is going to [`Session::register`]: until then the session stays for it. `false`: it has just
    /// gone with its last viewer.
    #[must_use]
    pub fn admit(&self) -> bool {
        let mut state = self.state.lock();
        if !state.gone {
            state.arriving += 1;
        }
        !state.gone
    }

    /// Attaches a viewer that was admitted and has just connected: it gets `sessionRegistered`, then what it has missed, or
    /// the questions that are open, and the running answer so far. Everything later comes to it live.
    pub fn register(&self, viewer: &Viewer, arrival: &Arrival) {
        let after = arrival.after.as_ref().map(|after| self.follow(after));
        let known = self.with(|state, _| {
            state.arriving = state.arriving.saturating_sub(1);
            (state.last_activity, state.touched) = (now_ms(), true);
            let known = state.knows(viewer.key);
            if !known {
                state.catching_up.push(viewer.key);
            }
            let position = state.log.position();
            let session = state.summary(&self.context);
            let mut batch = Batch::to(std::slice::from_ref(viewer));
            let registered = SessionRegistered {
                session_id: &self.id,
                mode: self.context.mode,
                resumed: arrival.resumed,
                requested: arrival.requested.as_deref(),
                log_id: self.context.store.log_id(),
                seq: position.seq,
                part: position.part,
                session: &session,
            };
            batch.event(Audience::All, "sessionRegistered", &[&long_json(&registered)]);
            if after.is_none() {
                state.replay_questions(&mut batch, |_| false);
            }
            batch.send(std::slice::from_ref(viewer));
            match &after {
                _ if known => {}
                None => state.go_live(viewer, None),
                Some(Err(error)) => state.go_live(viewer, Some(error)),
                Some(Ok(_)) => {}
            }
            known
        });
        if let (Some(Ok(seq)), false) = (after, known) {
            self.catch_up_from(viewer, seq);
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
            let was_live = state.viewers.iter().any(|known| known.key == viewer.key);
            state.viewers.retain(|known| known.key != viewer.key);
            if !state.catching_up.contains(&viewer.key) {
                state.catching_up.push(viewer.key);
            }
            let position = state.log.position();
            let range = after.map_or(Range::Before(position.seq + 1), Range::After);
            let room = room_beside(&state.summary(&self.context));
            Some((position, was_live, room, Draft::of(&state.log, range, PAGE_EVENTS_MAX, room)))
        });
        let Some((position, was_live, room, draft)) = drafted else { return refused(reply, &Error::invalid_session()) };
        failpoint::reach("page");
        let draft = match self.read_missing(draft) {
            Ok(draft) => draft.cut_to(room, &self.id),
            Err(error) => {
                self.with(|state, _| state.go_live(viewer, None));
                return refused(reply, &error);
            }
        };
        let (in_page, page) = (draft.numbers(), draft.finish());
        let endings = after.map_or_else(Vec::new, |after| self.missed_endings(viewer, after, position.seq));
        let behind = self.with(|state, _| {
            // It may have been deleted while the page was read.
            if state.ended && !state.is_going() {
                (state.ended, state.changed) = (false, true);
                log::info!("session {}: open again", self.id);
            }
            let now = state.log.position();
            let behind = now.seq != position.seq;
            reply.ok(&Resumed {
                ok: true,
                session: state.summary(&self.context),
                log_id: self.context.store.log_id(),
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
                if state.stop_waiting(viewer.key) {
                    state.viewers.push(viewer.clone());
                }
            } else if !behind {
                state.go_live(viewer, None);
            }
            behind
        });
        if behind {
            self.catch_up_from(viewer, position.seq);
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
                state.catching_up.push(viewer.key);
                state.go_live(viewer, None);
            }
            !state.gone
        });
        self.context.room.ring();
        attached
    }

    /// Takes a viewer away. `true`: it was the last, and nothing was ever asked here, so that the session can go.
    pub fn detach(&self, key: u64) -> bool {
        let gone = self.with(|state, _| {
            state.viewers.retain(|viewer| viewer.key != key);
            state.catching_up.retain(|other| *other != key);
            state.idle_since = Instant::now();
            let nobody = state.viewers.is_empty() && state.catching_up.is_empty() && state.arriving == 0;
            state.gone |= nobody && state.reserved && state.accepting.is_empty();
            state.gone
        });
        self.context.room.ring();
        gone
    }

    /// Whether it may be unloaded: nobody is there, nothing is to be done, and all of it is on the disk.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.lock();
        state.is_at_rest() && !state.touched && state.is_stored()
    }

    /// Runs `work` for each viewer.
    pub fn each_viewer(&self, work: impl FnMut(&Viewer)) {
        self.with(|state, _| state.viewers.iter().for_each(work));
    }

    /// Details for `getSession`.
    pub fn details(&self, reply: Reply) {
        self.with(|state, _| {
            let session = state.summary(&self.context);
            let lists = [&state.commands, &state.models, &state.agents];
            let lists: usize = lists.into_iter().flatten().map(|list| list.get().len()).sum();
            let (room, mut bytes) = (room_beside(&session).saturating_sub(lists), 0);
            let questions: Vec<_> = (state.questions.iter())
                .take_while(|question| {
                    bytes += question.data.len();
                    bytes <= room
                })
                .filter_map(|question| serde_json::value::RawValue::from_string(question.data.to_string()).ok())
                .collect();
            reply.ok(&Details {
                ok: true,
                session,
                commands: state.commands.as_deref(),
                models: state.models.as_deref(),
                agents: state.agents.as_deref(),
                questions: &questions,
            });
        });
    }

    /// A page of the history.
    pub fn history(&self, range: Range, count: usize, reply: Reply) {
        match self.page(range, count.clamp(1, PAGE_EVENTS_MAX), PAGE_BYTES_MAX) {
            Ok(page) => reply.ok(&History { ok: true, events: raw(&page.events), more: page.more }),
            Err(error) => reply.fail(&error),
        }
    }
}

impl Timed for Session {
    fn on_deadline(&self, now: Instant) -> Option<Instant> {
        {
            // One that was set for a deadline that is over meanwhile must not set another.
            let mut scheduled = self.scheduled.lock();
            if scheduled.is_some_and(|at| at > now) {
                return None;
            }
            *scheduled = None;
        }
        let at_rest = self.with(|state, batch| {
            state.on_deadline(now, batch, self);
            state.unloads_at(&self.context).is_some_and(|at| now >= at)
        });
        if at_rest {
            self.unload(now);
        }
        None
    }
}

/// A panic in the middle of a change leaves a session that nobody should trust; the others go on.
struct FailOnPanic<'a> {
    state: MutexGuard<'a, State>,
}

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let state = &mut *self.state;
            let message = "a fault in this server, please report it";
            match &state.process {
                // Not failed before it is gone: never two processes on one conversation.
                Some(process) => {
                    process.stop();
                    state.stop_reason = Some(message.to_owned());
                    state.phase = Phase::Stopping;
                }
                None if matches!(state.phase, Phase::Starting | Phase::Stopping) => {
                    state.stop_reason = Some(message.to_owned());
                    state.phase = Phase::Stopping;
                }
                None => {
                    state.failure =
                        Some(Failure { code: "internal".into(), message: message.to_owned(), stderr: String::new() });
                    state.phase = Phase::Failed;
                }
            }
        }
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

/// What an acknowledgement has room for beside this.
fn room_beside(session: &Summary) -> usize {
    PAGE_BYTES_MAX.saturating_sub(json(session).len())
}

fn raw(json: &str) -> &serde_json::value::RawValue {
    serde_json::from_str(json).expect("the log holds JSON")
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

#[derive(serde::Serialize)]
struct Details<'a> {
    ok: bool,
    session: Summary,
    commands: Option<&'a serde_json::value::RawValue>,
    models: Option<&'a serde_json::value::RawValue>,
    agents: Option<&'a serde_json::value::RawValue>,
    questions: &'a [Box<serde_json::value::RawValue>],
}

#[derive(serde::Serialize)]
struct History<'a> {
    ok: bool,
    events: &'a serde_json::value::RawValue,
    more: bool,
}
