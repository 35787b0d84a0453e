//! One session: its lock, and what follows from everything that is done under it.
//!
//! Each of its methods takes the lock (`Session::with`), does one thing, and sends what came of it. They stand beside
//! what they do with the state: `prompt.rs` (what clients ask), `turn.rs` (what Claude says), `questions.rs` (what it asks),
//! `life.rs` (how the process starts and ends), `viewers.rs` (who watches).

use std::sync::{Arc, Weak};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use super::events::{Failure, long_json, now_ms};
use super::fanout::{Audience, Batch};
use super::files::Files;
use super::state::{Choices, Context, Phase, State};
use crate::failpoint;
use crate::net::Crowd;
use crate::store::Key;
use crate::timer::Timed;

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
        state.leave_line_if_unneeded(self);
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
            return;
        }
        log::debug!("session {}: leaves the memory", self.id);
        if self.is_reserved() {
            self.forget();
        }
    }

    /// It goes, and nothing was ever asked in it: then nothing of it stays.
    pub(super) fn forget(&self) {
        self.with(|state, _| state.forget());
        Files::of(&self.context.data_dir, &self.id).remove();
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
            match Crowd::of(state.attached().map(|viewer| viewer.sink.backlog())) {
                _ if state.phase == Phase::Stopping => Crowd::Nobody,
                _ if self.context.store.is_behind() => Crowd::Some,
                crowd => crowd,
            }
        });
    }

    /// Whether nothing was ever asked here.
    #[must_use]
    pub fn is_reserved(&self) -> bool {
        self.state.lock().reserved
    }

    /// Whether it is gone for good.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.peek(|state| state.deleted)
    }

    /// Notes that somebody was here. `false`: it is deleted.
    #[must_use]
    pub fn touch(&self) -> bool {
        let mut state = self.state.lock();
        (state.last_activity, state.touched) = (now_ms(), true);
        !state.deleted
    }

    /// Whether it may be unloaded: nobody is there, nothing is to be done, and all of it is on the disk.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.state.lock();
        state.is_at_rest() && !state.touched && state.is_stored()
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
