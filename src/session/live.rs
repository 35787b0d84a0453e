//! The sessions that are in memory: those with viewers, a process, or something to do.
//!
//! The others are rows in the store. One that is asked for is loaded, and unloaded again when nobody has used it for a
//! while: an idle session costs nothing. Only under the map's lock is it decided who has a session: as long as anybody
//! but the map holds it, it stays.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::session::Session;

/// See the module.
#[derive(Default)]
pub struct Live {
    sessions: Mutex<Sessions>,
    /// Sessions that nothing was asked in yet, of which the store knows nothing.
    reserved: AtomicUsize,
    /// The server stops: what is loaded from now on takes no prompt and starts no process.
    closing: AtomicBool,
}

#[derive(Default)]
struct Sessions {
    by_id: HashMap<Arc<str>, Arc<Session>>,
    /// Counts what was taken out: what was read from the store before may be old.
    taken_out: u64,
}

/// How often something was taken out of the map, at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment(u64);

impl Live {
    /// The session of that name, if it is in memory.
    pub(super) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.sessions.lock().by_id.get(id).cloned()
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().by_id.values().cloned().collect()
    }

    /// All of them, now that the server stops. Those that come later find [`Live::is_closing`].
    pub(super) fn close(&self) -> Vec<Arc<Session>> {
        let sessions = self.sessions.lock();
        self.closing.store(true, Ordering::Release);
        sessions.by_id.values().cloned().collect()
    }

    /// Whether the server stops.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Taken before a session is read from the store, and given to [`Live::admit`].
    pub(super) fn moment(&self) -> Moment {
        Moment(self.sessions.lock().taken_out)
    }

    /// Puts in a session that was read from the store. Who was faster is right: `Ok` is what is in the map then.
    ///
    /// # Errors
    /// When what was read may be old: read again.
    pub(super) fn admit(&self, session: &Arc<Session>, since: Moment) -> Result<Arc<Session>, ()> {
        let mut sessions = self.sessions.lock();
        if let Some(there) = sessions.by_id.get(&session.id) {
            return Ok(there.clone());
        }
        if sessions.taken_out != since.0 {
            return Err(());
        }
        sessions.by_id.insert(session.id.clone(), session.clone());
        Ok(session.clone())
    }

    /// Puts in a new session. `false`: there is one of that name.
    pub(super) fn insert(&self, session: &Arc<Session>) -> bool {
        let mut sessions = self.sessions.lock();
        let free = !sessions.by_id.contains_key(&session.id);
        if free {
            sessions.by_id.insert(session.id.clone(), session.clone());
        }
        free
    }

    /// Takes out a session for good.
    pub(super) fn remove(&self, id: &str) -> Option<Arc<Session>> {
        let mut sessions = self.sessions.lock();
        sessions.taken_out += 1;
        sessions.by_id.remove(id)
    }

    /// Lets a session go that nobody uses: `holders` hold it beside the map, the caller included.
    pub(super) fn unload(&self, session: &Session, holders: usize) -> bool {
        let mut sessions = self.sessions.lock();
        let is_free = sessions.by_id.get(&session.id).is_some_and(|there| {
            std::ptr::eq(&raw const **there, session) && Arc::strong_count(there) <= 1 + holders && session.is_at_rest()
        });
        if is_free {
            sessions.taken_out += 1;
            sessions.by_id.remove(&session.id);
            if session.is_reserved() {
                self.unreserve();
            }
        }
        is_free
    }

    /// Counts a reserved session.
    pub(super) fn reserve(&self) {
        self.reserved.fetch_add(1, Ordering::AcqRel);
    }

    /// One that was reserved is stored now, or gone.
    pub(super) fn unreserve(&self) {
        self.reserved.fetch_sub(1, Ordering::AcqRel);
    }

    /// How many are only reserved.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Acquire)
    }
}
