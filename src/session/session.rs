//! A session as others see it: each method takes the lock, does one thing, and sends what came of it.
//!
//! What the methods do with the state is in `prompt.rs` (what clients ask), `turn.rs` (what Claude says)
//! and `life.rs` (how the process starts and ends).

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::catchup::Progress;
use super::error::{Code, Error};
use super::events::{EVENT_BYTES_MAX, Failure, SessionRegistered, StreamMark, Summary, json, now_ms};
use super::fanout::{Audience, Batch, Reply, Stream, Viewer};
use super::log::{Page, Range};
use super::state::{Choices, Context, Phase, State};
use crate::timer::Timed;

/// Events in one page of the history.
pub const PAGE_EVENTS_MAX: usize = 500;

/// Bytes of events in one page: the rest of the acknowledgement must fit too.
const PAGE_BYTES_MAX: usize = EVENT_BYTES_MAX - 100_000;

/// One conversation; see the module of [`super::state`].
pub struct Session {
    /// Its name.
    pub id: Arc<str>,
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
    /// A session without a process.
    #[must_use]
    pub fn new(id: &str, choices: Choices, reserved: bool, context: Arc<Context>) -> Arc<Session> {
        let id: Arc<str> = id.into();
        Arc::new_cyclic(|itself| Session {
            id: id.clone(),
            context,
            itself: itself.clone(),
            state: Mutex::new(State::new(id, choices, reserved)),
            scheduled: Mutex::new(None),
        })
    }

    /// Runs `work` under the lock, then sends what it put into the batch, and the summary if it has changed.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State, &mut Batch) -> R) -> R {
        let mut guard = FailOnPanic { state: self.state.lock() };
        let state = &mut *guard.state;
        let mut batch = Batch::to(&state.viewers);
        let result = work(state, &mut batch);
        if std::mem::take(&mut state.changed) {
            state.last_activity = now_ms();
            batch.event(Audience::All, "sessionUpdated", &[&json(&state.summary(&self.context))]);
        }
        batch.send(&state.viewers);
        let next = state.next_deadline(&self.context);
        drop(guard);
        self.schedule(next);
        result
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
    /// others does not.
    pub(super) fn wait_for_viewers(&self) {
        self.context.room.wait_while(|| {
            let state = self.state.lock();
            state.phase != Phase::Stopping
                && !state.viewers.is_empty()
                && state.viewers.iter().all(|viewer| viewer.sink.is_behind())
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

    /// Notes that somebody was here.
    pub fn touch(&self) {
        self.state.lock().last_activity = now_ms();
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
        let progress = self.with(|state, _| {
            state.arriving = state.arriving.saturating_sub(1);
            state.last_activity = now_ms();
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
                log_id: &self.context.log_id,
                seq: position.seq,
                part: position.part,
                session: &session,
            };
            batch.event(Audience::All, "sessionRegistered", &[&json(&registered)]);
            if arrival.after.is_none() {
                state.replay_questions(&mut batch);
            }
            batch.send(std::slice::from_ref(viewer));
            match &arrival.after {
                _ if known => Progress::Live,
                None => {
                    state.go_live(viewer, None);
                    Progress::Live
                }
                Some(after) => match state.may_follow(after, &self.context) {
                    Ok(()) => state.send_missed(viewer, after.seq),
                    Err(error) => {
                        state.go_live(viewer, Some(&error));
                        Progress::Live
                    }
                },
            }
        });
        if let Progress::Behind(seq) = progress {
            self.catch_up_from(viewer.clone(), seq);
        }
        self.context.room.ring();
    }

    /// Attaches a viewer that is connected already. `reply` gets the history that it asked for, then the running answer
    /// so far follows; everything later comes to it live. A closed session is open again.
    /// `false`: refused.
    pub fn resume(&self, viewer: &Viewer, after: Option<&After>, reply: Reply) -> bool {
        let outcome = self.with(|state, _| {
            if state.gone {
                return Err((reply, Error::invalid_session()));
            }
            let page = match state.page_after(after, &self.context) {
                Ok(page) => page,
                Err(error) => return Err((reply, error)),
            };
            if state.ended {
                (state.ended, state.changed) = (false, true);
                log::info!("session {}: open again", self.id);
            }
            let known = state.knows(viewer.key);
            if !known {
                state.catching_up.push(viewer.key);
            }
            reply.ok(&Resumed::new(state, &self.context, &page));
            if !known {
                state.go_live(viewer, None);
            }
            Ok(())
        });
        self.context.room.ring();
        outcome.map_err(|(reply, error)| reply.fail(&error)).is_ok()
    }

    /// Whether [`Session::resume`] would be refused now.
    ///
    /// # Errors
    /// Why.
    pub fn may_resume(&self, after: Option<&After>) -> Result<(), Error> {
        self.with(|state, _| state.page_after(after, &self.context).map(drop))
    }

    /// Attaches a viewer without more ado, if it is not attached: it has asked something here. `false`: the session has
    /// just gone with its last viewer.
    pub fn attach(&self, viewer: &Viewer) -> bool {
        let attached = self.with(|state, _| {
            if !state.gone && !state.knows(viewer.key) {
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
            state.gone |= state.viewers.is_empty() && state.arriving == 0 && state.reserved;
            state.gone
        });
        self.context.room.ring();
        gone
    }

    /// Runs `work` for each viewer.
    pub fn each_viewer(&self, work: impl FnMut(&Viewer)) {
        self.with(|state, _| state.viewers.iter().for_each(work));
    }

    /// Details for `getSession`.
    pub fn details(&self, reply: Reply) {
        self.with(|state, _| {
            let questions: Vec<_> =
                state.questions.iter().filter_map(|question| state.log.item(question.seq)).collect();
            let mut bytes = 0;
            let questions: Vec<_> = questions
                .iter()
                .take_while(|item| {
                    bytes += item.data.len();
                    bytes <= PAGE_BYTES_MAX / 2
                })
                .filter_map(|item| serde_json::value::RawValue::from_string(item.data.to_string()).ok())
                .collect();
            reply.ok(&Details {
                ok: true,
                session: state.summary(&self.context),
                commands: state.commands.as_deref(),
                models: state.models.as_deref(),
                questions: &questions,
            });
        });
    }

    /// A page of the history.
    pub fn history(&self, range: Range, count: usize, reply: Reply) {
        self.with(|state, _| match state.log.page(range, count.clamp(1, PAGE_EVENTS_MAX), PAGE_BYTES_MAX) {
            Ok(page) => reply.ok(&History { ok: true, events: raw(&page.events), more: page.more }),
            Err(super::log::Gap) => reply.fail(&gap(range, state)),
        });
    }

    /// One stored event, whole.
    #[must_use]
    pub fn event(&self, seq: u64) -> Option<Arc<str>> {
        let state = self.state.lock();
        let item = state.log.item(seq)?;
        Some(item.whole.clone().unwrap_or_else(|| item.data.clone()))
    }

    /// The Claude version that the last process reported.
    #[must_use]
    pub fn agent_version(&self) -> Option<String> {
        self.state.lock().agent_version.clone()
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
        self.with(|state, batch| state.on_deadline(now, batch, self));
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
                        Some(Failure { code: "internal", message: message.to_owned(), stderr: String::new() });
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
            let seq = self.log.position().seq;
            for (part, line) in self.log.deltas() {
                self.delta_event(batch, seq, part, line);
            }
        }
    }

    fn replay_questions(&self, batch: &mut Batch) {
        for item in self.questions.iter().filter_map(|question| self.log.item(question.seq)) {
            batch.event(Audience::All, item.name, &[&item.data]);
        }
    }

    /// The first page of what `resumeSession` gives.
    fn page_after(&self, after: Option<&After>, context: &Context) -> Result<Page, Error> {
        let range = match after {
            Some(After { log_id: Some(log_id), .. }) if *log_id != context.log_id => return Err(foreign_log()),
            Some(after) => Range::After(after.seq),
            None => Range::Newest,
        };
        self.log.page(range, PAGE_EVENTS_MAX, PAGE_BYTES_MAX).map_err(|_| gap(range, self))
    }

    /// Whether what follows `after` can be sent.
    fn may_follow(&self, after: &After, context: &Context) -> Result<(), Error> {
        if after.log_id.as_ref().is_some_and(|log_id| *log_id != context.log_id) {
            return Err(foreign_log());
        }
        self.log.after(after.seq).map(drop).map_err(|_| gap(Range::After(after.seq), self))
    }
}

fn foreign_log() -> Error {
    Error::new(Code::SeqGap, "these numbers belong to an earlier run of the server: load the history anew")
}

fn gap(range: Range, state: &State) -> Error {
    match range {
        Range::After(seq) if seq > state.log.position().seq => {
            Error::field("afterSeq", format!("is above the last number, {}", state.log.position().seq))
        }
        _ => Error::new(Code::SeqGap, "events that old are no longer kept: load the history anew"),
    }
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

impl<'a> Resumed<'a> {
    fn new(state: &State, context: &'a Context, page: &'a Page) -> Resumed<'a> {
        let position = state.log.position();
        Resumed {
            ok: true,
            session: state.summary(context),
            log_id: &context.log_id,
            seq: position.seq,
            part: position.part,
            events: raw(&page.events),
            more: page.more,
        }
    }
}

#[derive(serde::Serialize)]
struct Details<'a> {
    ok: bool,
    session: Summary,
    commands: Option<&'a serde_json::value::RawValue>,
    models: Option<&'a serde_json::value::RawValue>,
    questions: &'a [Box<serde_json::value::RawValue>],
}

#[derive(serde::Serialize)]
struct History<'a> {
    ok: bool,
    events: &'a serde_json::value::RawValue,
    more: bool,
}
