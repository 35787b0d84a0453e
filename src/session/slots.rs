//! How many processes may run, and who waits for one.
//!
//! A session takes a place before its process is started and gives it back when nothing of the process is left. Where none
//! is free it waits in line, and the keeper ([`super::keeper`]) sees that a session which has nothing to do makes room.
//! This lock is taken under a session's, and nothing is taken under it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::session::Session;

/// The places; see the module.
pub struct Slots {
    processes_max: usize,
    early_max: usize,
    taken: Mutex<Taken>,
    /// How many wait, to be asked without the lock.
    waiting: AtomicUsize,
    bell: Sender<()>,
    rings: Receiver<()>,
}

#[derive(Default)]
struct Taken {
    processes: usize,
    /// Those of them that were started early and have had no prompt yet.
    early: usize,
    /// Sessions that need a process, the longest waiting first.
    line: VecDeque<Weak<Session>>,
}

impl Slots {
    /// `processes_max` processes, `early_max` of which may be started before their first prompt.
    #[must_use]
    pub fn new(processes_max: usize, early_max: usize) -> Slots {
        let (bell, rings) = bounded(1);
        Slots { processes_max, early_max, taken: Mutex::default(), waiting: AtomicUsize::new(0), bell, rings }
    }

    /// How many processes there may be.
    pub(super) fn processes_max(&self) -> usize {
        self.processes_max
    }

    /// Takes a place for a session that is the first in line, or finds no line. `false`: it is in line now.
    pub(super) fn take(&self, session: &Weak<Session>) -> bool {
        let mut taken = self.taken.lock();
        let place = taken.line.iter().position(|other| other.ptr_eq(session));
        let free = taken.processes < self.processes_max;
        match place {
            Some(0) | None if free && (place.is_some() || taken.line.is_empty()) => {
                taken.processes += 1;
                if place.is_some() {
                    taken.line.pop_front();
                }
            }
            Some(_) => return false,
            None => {
                taken.line.push_back(session.clone());
                self.count(&taken);
                self.ring();
                return false;
            }
        }
        self.count(&taken);
        true
    }

    /// Takes a place for a process that nobody needs yet, if there is one to spare.
    pub(super) fn take_early(&self) -> bool {
        let mut taken = self.taken.lock();
        let free = taken.processes < self.processes_max && taken.line.is_empty() && taken.early < self.early_max;
        if free {
            taken.processes += 1;
            taken.early += 1;
        }
        free
    }

    /// Takes a place for a process that is needed now, but not enough to wait in line for it.
    pub(super) fn take_free(&self) -> bool {
        let mut taken = self.taken.lock();
        let free = taken.processes < self.processes_max && taken.line.is_empty();
        taken.processes += usize::from(free);
        free
    }

    /// One that was started early is needed now, or gone.
    pub(super) fn no_longer_early(&self) {
        self.taken.lock().early -= 1;
    }

    /// Gives a place back.
    pub(super) fn give_back(&self) {
        let mut taken = self.taken.lock();
        taken.processes -= 1;
        if !taken.line.is_empty() {
            self.ring();
        }
    }

    /// A session does not want a process any more.
    pub(super) fn leave_line(&self, session: &Weak<Session>) {
        let mut taken = self.taken.lock();
        taken.line.retain(|other| !other.ptr_eq(session));
        self.count(&taken);
    }

    /// The first in line.
    pub(super) fn first_in_line(&self) -> Option<Arc<Session>> {
        let mut taken = self.taken.lock();
        loop {
            self.count(&taken);
            match taken.line.front()?.upgrade() {
                Some(session) => return Some(session),
                // It was forgotten while it waited.
                None => taken.line.pop_front(),
            };
        }
    }

    /// Whether a process may be started.
    pub(super) fn has_room(&self) -> bool {
        self.taken.lock().processes < self.processes_max
    }

    /// Whether somebody waits, so that a session with nothing to do should make room.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting() > 0
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Calls the keeper.
    pub(super) fn ring(&self) {
        // Full: it is called already.
        let _ = self.bell.try_send(());
    }

    /// What the keeper listens to.
    pub(super) fn rings(&self) -> &Receiver<()> {
        &self.rings
    }

    fn count(&self, taken: &Taken) {
        self.waiting.store(taken.line.len(), Ordering::Release);
    }
}
