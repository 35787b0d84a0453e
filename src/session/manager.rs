//! All sessions, in both modes behind one interface: callers never ask which mode it is.
//!
//! | method | shared | isolated |
//! |---|---|---|
//! | [`SessionManager::new`] | opens or creates `global-session`, starts its Claude at once | takes up what an earlier server left open |
//! | [`SessionManager::register_session`] | attaches to `global-session` | attaches to the wished session, or reserves a new id |
//! | [`SessionManager::get_session`] | always the global session | that session, or none |
//! | [`SessionManager::cleanup_session`] | nothing | stops the process, forgets the session |
//! | [`SessionManager::list_sessions`] | the one | all, newest first |
//! | [`SessionManager::resume_session`] | the one | attaches to that session; none if unknown |
//!
//! A session is in memory ([`super::live`]) or only in the store; callers never ask which either.

use std::collections::HashSet;
use std::sync::Arc;

use super::attachments::Attached;
use super::error::{Code, Error};
use super::events::WithSession;
use super::events::{ServerShutdown, Summary, now_ms};
use super::fanout::{Reply, Viewer};
use super::files::Files;
use super::record::storage_error;
use super::session::Session;
use super::state::{Choices, Context, State};
use super::uploads::Upload;
use super::viewers::{After, Arrival};
use crate::claude::command::Agent;
use crate::claude::version;
use crate::config::Mode;
use crate::store::{Cursor, Query, SessionRow};

/// The one session of the mode `shared`.
pub const GLOBAL_SESSION: &str = "global-session";

/// Names are no longer than this.
const ID_BYTES_MAX: usize = 100;

/// The sessions; see the module.
pub struct SessionManager {
    kind: Kind,
    pub(super) context: Arc<Context>,
    defaults: Choices,
    sessions_max: usize,
}

/// A page of the list.
pub struct Listed {
    /// The most recently active first.
    pub sessions: Vec<Summary>,
    /// Whether there are more.
    pub more: bool,
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
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn new(mode: Mode, context: Context, defaults: Choices, sessions_max: usize) -> Result<SessionManager, Error> {
        let context = Arc::new(context);
        let kind = match mode {
            Mode::Shared => Kind::Shared(global_session(&context, &defaults)?),
            Mode::Isolated => Kind::Isolated,
        };
        let manager = SessionManager { kind, context, defaults, sessions_max };
        manager.take_up()?;
        manager.remove_left_files();
        Ok(manager)
    }

    /// Removes the files of sessions that are gone, without making anybody wait.
    fn remove_left_files(&self) {
        let context = self.context.clone();
        let work = move || Files::remove_unknown(&context.data_dir, |id| context.is_known(id));
        if let Err(error) = self.context.threads.spawn("tidy".into(), work) {
            log::warn!("no thread to remove what is left of sessions that are gone: {error}");
        }
    }

    /// Sees to the prompts and questions that were open when the server before stopped.
    fn take_up(&self) -> Result<(), Error> {
        match &self.kind {
            Kind::Shared(global) => {
                take_up(GLOBAL_SESSION, Ok(global.clone()));
                global.start_early();
            }
            Kind::Isolated => {
                for id in self.context.store.unfinished().map_err(storage_error)? {
                    take_up(&id, self.get_session(&id));
                }
            }
        }
        Ok(())
    }

    /// Gives a client that connects its session, and tells it: `sessionRegistered`. `welcome` is called in between, once
    /// the session is certain and before the client hears of it.
    ///
    /// # Errors
    /// [`Code::TooManySessions`] when a new one would be needed and there are as many as there may be.
    pub fn register_session(&self, viewer: Viewer, wish: Wish, welcome: &dyn Fn()) -> Result<Arc<Session>, Error> {
        // One that goes with its last viewer in this moment, as on the reload of a page, is either kept or not found.
        let found = match wish.session_id.as_deref().map(|id| self.get_session(id)) {
            Some(Ok(session)) => Some(session).filter(|session| session.admit()),
            Some(Err(error)) if error.code != Code::InvalidSession => return Err(error),
            _ => None,
        };
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

    /// The session of that name: from memory, or from the store.
    ///
    /// # Errors
    /// [`Code::InvalidSession`] if there is none; when the store cannot be read.
    pub fn get_session(&self, id: &str) -> Result<Arc<Session>, Error> {
        let session = self.get_session_untouched(id)?;
        if session.touch() { Ok(session) } else { Err(Error::invalid_session()) }
    }

    /// The same, without noting that somebody was here.
    pub(super) fn get_session_untouched(&self, id: &str) -> Result<Arc<Session>, Error> {
        match &self.kind {
            Kind::Shared(global) => Ok(global.clone()),
            Kind::Isolated => self.find(id),
        }
    }

    fn find(&self, id: &str) -> Result<Arc<Session>, Error> {
        let live = &self.context.live;
        if id.len() > ID_BYTES_MAX {
            return Err(Error::invalid_session());
        }
        loop {
            if let Some(session) = live.get(id) {
                return Ok(session);
            }
            let moment = live.moment();
            let row = self.context.store.session(id).map_err(storage_error)?;
            let (row, _turn) = self.bring_in(id, row)?;
            let row = row.ok_or_else(Error::invalid_session)?;
            let session = Session::load(row, self.context.clone())?;
            // If one was unloaded in the meantime it may have been this one, with more than what was read.
            if let Ok(session) = live.admit(&session, moment) {
                return Ok(session);
            }
        }
    }

    /// Stops the session's process and forgets the session; the global one lives as long as the server.
    pub fn cleanup_session(&self, id: &str) {
        if let Kind::Isolated = self.kind
            && let Some(session) = self.context.live.remove(id)
        {
            if session.is_reserved() {
                self.context.live.unreserve();
                session.forget();
            }
            session.shut_down();
        }
    }

    /// A new name: milliseconds, then nine of a-z0-9.
    #[must_use]
    pub fn generate_session_id() -> String {
        const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        let random = (0..9).map(|_| char::from(LETTERS[fastrand::usize(..LETTERS.len())]));
        format!("session_{}_{}", now_ms(), random.collect::<String>())
    }

    /// Sessions, the most recently active first, from below the cursor; with a query, those that have it in their title or
    /// directory, or all its words in one thing that was said. Those that were never used are left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn list_sessions(&self, query: Option<&str>, below: Option<&Cursor>, limit: usize) -> Result<Listed, Error> {
        let place = |summary: &Summary| (summary.last_activity, summary.session_id.clone());
        let below_cursor =
            |summary: &Summary| below.is_none_or(|cursor| place(summary) < (cursor.last_activity, cursor.id.clone()));
        let live: Vec<_> = match &self.kind {
            Kind::Shared(global) => vec![global.clone()],
            Kind::Isolated => self.context.live.all(),
        };
        let query = query.map(|query| self.context.store.query(query)).transpose().map_err(storage_error)?;
        let query = query.as_ref();
        let mut sessions = Vec::new();
        for session in &live {
            let Some(summary) = session.listed().filter(|summary| below_cursor(summary)) else { continue };
            if query.is_none_or(|query| self.matches(session, &summary, query)) {
                sessions.push(summary);
            }
        }
        if let Kind::Isolated = self.kind {
            let live: HashSet<&str> = live.iter().map(|session| &*session.id).collect();
            let rows = self.context.store.list(query, below, limit + 1 + live.len()).map_err(storage_error)?;
            let stored = rows.into_iter().filter(|row| !live.contains(row.id.as_str()));
            let terminals = self.terminal_sessions(query, below)?.into_iter();
            sessions.extend(terminals.filter(|summary| !live.contains(summary.session_id.as_str())));
            let state = |row: SessionRow| State::from_row(row.id.as_str().into(), row, 0).allowed_in(&self.context);
            sessions.extend(stored.map(|row| state(row).summary(&self.context)));
        }
        sessions.sort_by_cached_key(|summary| std::cmp::Reverse(place(summary)));
        let more = sessions.len() > limit;
        sessions.truncate(limit);
        Ok(Listed { sessions, more })
    }

    /// Whether there is one session for all.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    fn matches(&self, session: &Session, summary: &Summary, query: &Query) -> bool {
        query.is_in(summary.title.as_deref(), &summary.cwd) || query.was_found_in(session.key)
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
            Ok(session) => session.resume(viewer, after, reply).then_some(session),
            Err(error) => {
                reply.fail(&error);
                None
            }
        }
    }

    /// A new session with choices of its own; in `shared` mode the one that is there. The reply comes when it is stored.
    pub fn create_session(&self, choices: Choices, reply: Reply) -> Option<Arc<Session>> {
        let answer = |reply: Reply, session: Summary| reply.ok(&WithSession { ok: true, session });
        match &self.kind {
            Kind::Shared(global) => {
                answer(reply, global.summary());
                Some(global.clone())
            }
            Kind::Isolated => match self.add(choices, false) {
                Ok(session) => {
                    session.store_first(move |outcome| match outcome {
                        Ok(session) => answer(reply, session),
                        Err(error) => reply.fail(&error),
                    });
                    session.prestart();
                    Some(session)
                }
                Err(error) => {
                    reply.fail(&error);
                    None
                }
            },
        }
    }

    /// A new session that goes on from where another is.
    pub fn fork_session(&self, id: &str, reply: Reply) {
        match self.alone(id, "forked").and_then(|session| self.has_room().map(|()| session)) {
            Ok(session) => session.fork(&Self::generate_session_id(), reply),
            Err(error) => reply.fail(&error),
        }
    }

    /// Stops a session's process for good; it stays listed.
    pub fn close_session(&self, id: &str, reply: Reply) {
        match self.alone(id, "closed") {
            Ok(session) => session.close(reply),
            Err(error) => reply.fail(&error),
        }
    }

    /// Stops a session's process and forgets the session with all that is stored of it.
    pub fn delete_session(&self, id: &str, reply: Reply) {
        match self.alone(id, "deleted") {
            Ok(session) => session.delete(reply),
            Err(error) => reply.fail(&error),
        }
    }

    /// A session with which something may be done that would touch the others' in `shared` mode.
    fn alone(&self, id: &str, what: &str) -> Result<Arc<Session>, Error> {
        match &self.kind {
            Kind::Shared(_) => Err(Error::new(Code::NotInSharedMode, format!("the shared session cannot be {what}"))),
            Kind::Isolated => self.get_session(id),
        }
    }

    /// Begins a file that a client sends for a later prompt.
    ///
    /// # Errors
    /// Where there is no such session, or what is said of the file is wrong, or it cannot be stored.
    pub fn begin_upload(&self, id: &str, name: &str, media_type: &str) -> Result<Upload, Error> {
        let session = self.get_session(id)?;
        Files::of(&self.context.data_dir, &session.id).uploads().begin(name, media_type)
    }

    /// All of it has come.
    ///
    /// # Errors
    /// Where it cannot be stored, or the session is gone meanwhile.
    pub fn finish_upload(&self, id: &str, upload: Upload) -> Result<(String, Attached), Error> {
        let uploaded = upload.finish();
        let session = self.get_session(id);
        if session.as_ref().is_err_and(|error| error.code == Code::InvalidSession) {
            // It went before this file was there to go with it.
            Files::remove_gone(&self.context.data_dir, id, |id| self.context.is_known(id));
        }
        session.and(uploaded)
    }

    /// A viewer has left a session. One that was only reserved goes with its last viewer.
    pub fn leave(&self, session: &Session, viewer: u64) {
        if session.detach(viewer) {
            self.cleanup_session(&session.id);
        }
    }

    /// Tells every viewer of every session that the server stops.
    pub fn announce_shutdown(&self) {
        let mut told = HashSet::new();
        for session in self.context.live.all() {
            session.each_viewer(|viewer| {
                if told.insert(viewer.key) {
                    viewer.emit("serverShutdown", &ServerShutdown { reason: "shutdown" });
                }
            });
        }
    }

    /// Every live session stops its process.
    pub fn shut_down(&self) {
        for session in self.context.live.close() {
            session.shut_down();
        }
    }

    /// How many sessions there are: stored, or only reserved.
    #[must_use]
    pub fn count(&self) -> usize {
        self.context.store.sessions() + self.context.live.reserved()
    }

    /// What a new session gets where the client does not choose.
    #[must_use]
    pub fn defaults(&self) -> &Choices {
        &self.defaults
    }

    /// The program, and its version where some process has told it.
    #[must_use]
    pub fn agent(&self) -> (&Agent, Option<String>) {
        (self.context.supervisor.agent(), self.context.agent_version.lock().clone())
    }

    /// Finds out which version the program is, before any session has a process, and complains if it is too old. Never
    /// blocks.
    pub fn ask_version(&self) {
        let context = self.context.clone();
        self.context.supervisor.ask_version(move |version| {
            log::info!("agent: version {version}");
            if let Some(warning) = version::warning(context.supervisor.agent(), &version) {
                log::warn!("{warning}");
            }
            context.agent_version.lock().get_or_insert(version);
        });
    }

    fn has_room(&self) -> Result<(), Error> {
        if self.count() < self.sessions_max {
            return Ok(());
        }
        let most = self.sessions_max;
        let message = format!("there are {most} sessions already, as many as --max-sessions allows: delete some");
        Err(Error::new(Code::TooManySessions, message))
    }

    fn add(&self, choices: Choices, reserved: bool) -> Result<Arc<Session>, Error> {
        self.has_room()?;
        loop {
            let id = Self::generate_session_id();
            let session = Session::new(&id, choices.clone(), reserved, self.context.clone());
            if self.context.live.insert(&session) {
                if reserved {
                    self.context.live.reserve();
                }
                log::info!("session {id}: {}", if reserved { "reserved" } else { "created" });
                return Ok(session);
            }
        }
    }
}

/// One whose part of the store is damaged does not keep the others from being taken up.
fn take_up(id: &str, session: Result<Arc<Session>, Error>) {
    if let Err(error) = session.and_then(|session| session.take_up()) {
        log::error!("session {id}: what was open when the server stopped is not taken up: {}", error.message);
    }
}

/// The session of the mode `shared`, as the server before left it.
fn global_session(context: &Arc<Context>, defaults: &Choices) -> Result<Arc<Session>, Error> {
    let global = match context.store.session(GLOBAL_SESSION).map_err(storage_error)? {
        Some(row) => {
            let global = Session::load(row, context.clone())?;
            global.choose(defaults);
            global
        }
        None => {
            let global = Session::new(GLOBAL_SESSION, defaults.clone(), false, context.clone());
            global.store();
            global
        }
    };
    context.live.insert(&global);
    Ok(global)
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
