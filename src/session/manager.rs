//! All sessions, in both modes behind one interface: callers never ask which mode it is.
//!
//! | method | shared | isolated |
//! |---|---|---|
//! | [`SessionManager::new`] | creates `global-session`, starts its Claude at once | starts empty |
//! | [`SessionManager::register_session`] | attaches to `global-session` | attaches to the wished session, or reserves a new id |
//! | [`SessionManager::get_session`] | always the global session | that session, or none |
//! | [`SessionManager::cleanup_session`] | nothing | stops the process, forgets the session |
//! | [`SessionManager::list_sessions`] | the one | all, newest first |
//! | [`SessionManager::resume_session`] | the one | attaches to that session; none if unknown |
//!
//! The map's lock is held for look-ups only, never while a session's own lock is taken.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::error::{Code, Error};
use super::events::{ServerShutdown, Summary, now_ms};
use super::fanout::{Reply, Viewer};
use super::session::{After, Arrival, Session};
use super::state::{Choices, Context};
use crate::config::Mode;

/// The one session of the mode `shared`.
pub const GLOBAL_SESSION: &str = "global-session";

/// The live sessions; see the module.
pub struct SessionManager {
    kind: Kind,
    sessions: Mutex<HashMap<Arc<str>, Arc<Session>>>,
    context: Arc<Context>,
    defaults: Choices,
    sessions_max: usize,
}

/// What differs between the modes; only this file looks at it.
enum Kind {
    Shared(Arc<Session>),
    Isolated,
}

/// What a client that connects asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// The session that it wants.
    pub session_id: Option<String>,
    /// What it has seen of it.
    pub after: Option<After>,
}

impl SessionManager {
    /// In `shared` mode the global session's process is ordered at once.
    #[must_use]
    pub fn new(mode: Mode, context: Context, defaults: Choices, sessions_max: usize) -> SessionManager {
        let context = Arc::new(context);
        let (kind, sessions) = match mode {
            Mode::Shared => {
                let global = Session::new(GLOBAL_SESSION, defaults.clone(), false, context.clone());
                global.start_early();
                (Kind::Shared(global.clone()), HashMap::from([(global.id.clone(), global)]))
            }
            Mode::Isolated => (Kind::Isolated, HashMap::new()),
        };
        SessionManager { kind, sessions: Mutex::new(sessions), context, defaults, sessions_max }
    }

    /// Gives a client that connects its session, and tells it: `sessionRegistered`. `welcome` is called in between, once
    /// the session is certain and before the client hears of it.
    ///
    /// # Errors
    /// [`Code::TooManySessions`] when a new one would be needed and there are as many as there may be.
    pub fn register_session(&self, viewer: Viewer, wish: Wish, welcome: &dyn Fn()) -> Result<Arc<Session>, Error> {
        // One that goes with its last viewer in this moment, as on the reload of a page, is either kept or not found.
        let found = wish.session_id.as_deref().and_then(|id| self.get_session(id)).filter(|session| session.admit());
        let (session, arrival) = match (&self.kind, found) {
            (Kind::Shared(global), _) => {
                let resumed = wish.session_id.as_deref() == Some(GLOBAL_SESSION);
                let requested = wish.session_id.filter(|_| !resumed);
                (global.clone(), Arrival { resumed, requested, after: wish.after.filter(|_| resumed) })
            }
            (Kind::Isolated, Some(session)) => (session, Arrival { resumed: true, requested: None, after: wish.after }),
            (Kind::Isolated, None) => {
                let session = self.add(self.defaults.clone(), true)?;
                (session, Arrival { resumed: false, requested: wish.session_id, after: None })
            }
        };
        welcome();
        session.register(&viewer, &arrival);
        Ok(session)
    }

    /// The live session of that name.
    #[must_use]
    pub fn get_session(&self, id: &str) -> Option<Arc<Session>> {
        let session = match &self.kind {
            Kind::Shared(global) => Some(global.clone()),
            Kind::Isolated => self.sessions.lock().get(id).cloned(),
        }?;
        session.touch();
        Some(session)
    }

    /// Stops the session's process and forgets the session; the global one lives as long as the server.
    pub fn cleanup_session(&self, id: &str) {
        if let Kind::Isolated = self.kind {
            let session = self.sessions.lock().remove(id);
            if let Some(session) = session {
                session.shut_down();
            }
        }
    }

    /// A new name: milliseconds, then nine of a-z0-9.
    #[must_use]
    pub fn generate_session_id() -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let random = (0..9).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]));
        format!("session_{}_{}", now_ms(), random.collect::<String>())
    }

    /// All live sessions, the most recently active first; those that were never used are left out.
    #[must_use]
    pub fn list_sessions(&self) -> Vec<Summary> {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        let mut listed: Vec<Summary> =
            sessions.iter().filter(|session| !session.is_reserved()).map(|session| session.summary()).collect();
        // By what a cursor names, and nothing else: a page must begin where the one before ended.
        listed.sort_by(|a, b| (b.last_activity, &b.session_id).cmp(&(a.last_activity, &a.session_id)));
        listed
    }

    /// Attaches a connected client to a session; `reply` gets its history.
    pub fn resume_session(
        &self,
        id: &str,
        viewer: &Viewer,
        after: Option<&After>,
        reply: Reply,
    ) -> Option<Arc<Session>> {
        match self.get_session(id) {
            Some(session) => session.resume(viewer, after, reply).then_some(session),
            None => {
                reply.fail(&Error::invalid_session());
                None
            }
        }
    }

    /// A new session with choices of its own; in `shared` mode the one that is there.
    ///
    /// # Errors
    /// [`Code::TooManySessions`].
    pub fn create_session(&self, choices: Choices) -> Result<Arc<Session>, Error> {
        match &self.kind {
            Kind::Shared(global) => Ok(global.clone()),
            Kind::Isolated => self.add(choices, false),
        }
    }

    /// Stops a session's process for good; it stays listed.
    pub fn close_session(&self, id: &str, reply: Reply) {
        match (&self.kind, self.get_session(id)) {
            (Kind::Shared(_), _) => {
                reply.fail(&Error::new(Code::NotInSharedMode, "the shared session cannot be closed"));
            }
            (Kind::Isolated, Some(session)) => session.close(reply),
            (Kind::Isolated, None) => reply.fail(&Error::invalid_session()),
        }
    }

    /// A viewer has left a session. One that was only reserved goes with its last viewer.
    pub fn leave(&self, session: &Session, viewer: u64) {
        if session.detach(viewer) {
            self.cleanup_session(&session.id);
        }
    }

    /// Tells every viewer of every session that the server stops.
    pub fn announce_shutdown(&self) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        let mut told = std::collections::HashSet::new();
        for session in sessions {
            session.each_viewer(|viewer| {
                if told.insert(viewer.key) {
                    viewer.emit("serverShutdown", &ServerShutdown { reason: "shutdown" });
                }
            });
        }
    }

    /// Every live session stops its process.
    pub fn shut_down(&self) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        for session in sessions {
            session.shut_down();
        }
    }

    /// How many sessions live.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// What a new session gets where the client does not choose.
    #[must_use]
    pub fn defaults(&self) -> &Choices {
        &self.defaults
    }

    /// The program's name, and its version where some process has told it.
    #[must_use]
    pub fn agent(&self) -> (String, Option<String>) {
        let sessions: Vec<_> = self.sessions.lock().values().cloned().collect();
        let version = sessions.iter().find_map(|session| session.agent_version());
        (self.context.supervisor.agent().name.clone(), version)
    }

    fn add(&self, choices: Choices, reserved: bool) -> Result<Arc<Session>, Error> {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= self.sessions_max {
            let message = format!("there are {} sessions already, as many as --max-sessions allows", self.sessions_max);
            return Err(Error::new(Code::TooManySessions, message));
        }
        loop {
            let id = Self::generate_session_id();
            if !sessions.contains_key(id.as_str()) {
                let session = Session::new(&id, choices, reserved, self.context.clone());
                sessions.insert(session.id.clone(), session.clone());
                log::info!("session {id}: {}", if reserved { "reserved" } else { "created" });
                return Ok(session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_their_form() {
        let before = now_ms();
        let id = SessionManager::generate_session_id();
        let parts: Vec<&str> = id.split('_').collect();
        assert_eq!((parts.len(), parts[0]), (3, "session"));
        let time: u64 = parts[1].parse().expect("milliseconds");
        assert!((before..=now_ms()).contains(&time));
        assert!(parts[2].len() == 9 && parts[2].bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
    }
}
