//! Places for processes, as one session has them: [`super::slots`] says how many there may be.

use std::time::Instant;

use super::fanout::Batch;
use super::session::Session;
use super::state::{Phase, State};

/// Whether the session may have a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    None,
    /// It waits in line.
    Waiting,
    /// It has, or may start, one.
    Taken {
        /// Nobody has asked anything yet.
        early: bool,
    },
}

impl Session {
    /// Somebody has just opened the session: if there is a place to spare, the first prompt shall not wait for Claude's boot.
    pub(super) fn prestart(&self) {
        self.with(|state, batch| {
            let may =
                state.phase == Phase::Stopped && state.place == Place::None && !state.ended && !state.shutting_down;
            if may && self.context.slots.take_early() {
                state.place = Place::Taken { early: true };
                state.start(batch, self);
            }
        });
    }

    /// It has waited for a process, and its turn has come.
    pub(super) fn start_waiting(&self) {
        self.with(|state, batch| {
            state.advance(batch, self);
            if state.place == Place::Waiting {
                // What it needed one for was cancelled in the meantime.
                state.leave_line(self);
            }
        });
    }

    /// Since when it has nothing to do, if it has a process that it could do without.
    pub(super) fn can_make_room_since(&self) -> Option<Instant> {
        self.peek(|state| state.can_make_room().then_some(state.idle_since))
    }

    /// Stops the process for the sake of another session. `false`: it has something to do.
    pub(super) fn make_room(&self) -> bool {
        self.with(|state, batch| {
            let can = state.can_make_room();
            if can {
                log::info!("session {}: its process makes room for another", self.id);
                state.stop(batch, self);
            }
            can
        })
    }
}

impl State {
    /// Takes a place for a process. `false`: it waits in line for one.
    pub(super) fn take_place(&mut self, batch: &mut Batch, session: &Session) -> bool {
        if let Place::Taken { .. } = self.place {
            return true;
        }
        let slots = &session.context.slots;
        if slots.take(&session.itself) {
            self.place = Place::Taken { early: false };
            return true;
        }
        if self.place == Place::None {
            self.place = Place::Waiting;
            let most = slots.processes_max();
            let text = format!("as many processes as there may be ({most}) are busy: this prompt waits for one");
            self.notice(batch, "info", "waiting_for_process", &text);
        }
        false
    }

    /// What it has waited for a process for was taken back: others must not make room for it.
    pub(super) fn leave_line_if_unneeded(&mut self, session: &Session) {
        if self.place == Place::Waiting && self.running.is_none() && self.queue.is_empty() {
            self.leave_line(session);
        }
    }

    fn leave_line(&mut self, session: &Session) {
        self.place = Place::None;
        session.context.slots.leave_line(&session.itself);
    }

    /// A prompt goes to the process: it was needed.
    pub(super) fn use_place(&mut self, session: &Session) {
        if self.place == (Place::Taken { early: true }) {
            self.place = Place::Taken { early: false };
            session.context.slots.no_longer_early();
        }
    }

    pub(super) fn give_place_back(&mut self, session: &Session) {
        if let Place::Taken { .. } = self.place {
            self.use_place(session);
            self.place = Place::None;
            session.context.slots.give_back();
        }
    }

    pub(super) fn can_make_room(&self) -> bool {
        self.phase == Phase::Idle && self.is_quiet()
    }
}
