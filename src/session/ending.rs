//! How a session ends, for now or for good.

use std::sync::Arc;

use parking_lot::Mutex;

use super::events::WithSession;
use super::fanout::Reply;
use super::files::Files;
use super::record::storage_error;
use super::session::Session;
use super::state::{Context, State};
use crate::store::Change;

/// What is to be done when no process is left.
pub(super) enum WhenStopped {
    Tell(Reply),
    /// The session goes; nobody is told where it has expired.
    Delete(Option<Reply>),
}

impl WhenStopped {
    pub fn reply(self) -> Option<Reply> {
        match self {
            WhenStopped::Tell(reply) => Some(reply),
            WhenStopped::Delete(reply) => reply,
        }
    }
}

impl Session {
    /// Stops the process for good; the session stays listed. The reply comes when nothing of it runs any more.
    pub fn close(&self, reply: Reply) {
        log::info!("session {}: closed by a client", self.id);
        self.with(|state, batch| {
            state.ended = true;
            state.changed = true;
            state.clear_queue(batch);
            state.on_stopped.push(WhenStopped::Tell(reply));
            state.stop(batch, self);
        });
    }

    /// Stops the process and forgets the session with all that is stored of it. The reply comes when nothing of either is
    /// left.
    pub fn delete(&self, reply: Reply) {
        log::info!("session {}: deleted by a client", self.id);
        self.with(|state, batch| {
            state.ended = true;
            state.clear_queue(batch);
            state.on_stopped.push(WhenStopped::Delete(Some(reply)));
            state.stop(batch, self);
        });
    }

    /// Deletes the session if nobody has used it since that time, in Unix milliseconds, nor does so now.
    pub(super) fn expire(&self, before: u64) -> bool {
        self.with(|state, batch| {
            let expired = state.is_at_rest() && !state.deleted && state.last_activity < before;
            if expired {
                log::info!("session {}: nobody has used it for long, it is deleted", self.id);
                state.ended = true;
                state.on_stopped.push(WhenStopped::Delete(None));
                state.stop(batch, self);
            }
            expired
        })
    }

    /// Stops the process because the server stops, or forgets the session: what is with Claude ends as interrupted, what
    /// waits is taken up by the next server.
    pub fn shut_down(&self) {
        self.with(|state, batch| {
            state.shutting_down = true;
            // It was to go to Claude at once when it was stored, and then could not.
            let marked = state.queue.iter().filter(|prompt| prompt.marked);
            state.pending.extend(marked.map(|prompt| Change::NotWritten(state.key, prompt.id.clone())));
            state.stop(batch, self);
            state.store_touch();
        });
    }
}

impl State {
    /// Answers those who wait for the process to be gone.
    pub(super) fn end_waiting(&mut self, session: &Session) {
        let waiting = std::mem::take(&mut self.on_stopped);
        if waiting.is_empty() {
            return;
        }
        self.deleted = waiting.iter().any(|waiting| matches!(waiting, WhenStopped::Delete(_)));
        let answer = WithSession { ok: true, session: self.summary(&session.context) };
        if !self.deleted {
            let replies = waiting.into_iter().filter_map(WhenStopped::reply);
            return replies.for_each(|reply| self.ok_when_stored(reply, answer.clone()));
        }
        self.changed = true;
        if std::mem::take(&mut self.reserved) {
            session.context.live.unreserve();
        }
        self.pending.push(Change::Delete(self.key));
        let (context, id) = (session.context.clone(), self.id.clone());
        self.on_stored.push(Box::new(move |outcome| {
            context.live.remove(&id);
            let reply = move |waiting: WhenStopped| match (waiting.reply(), outcome) {
                (None, _) => {}
                (Some(reply), Ok(_)) => reply.ok(&answer),
                (Some(reply), Err(trouble)) => reply.fail(&storage_error(trouble)),
            };
            match outcome {
                Ok(_) => remove_files(&context, id, move || waiting.into_iter().for_each(reply)),
                // It is still there, as it was.
                Err(_) => waiting.into_iter().for_each(reply),
            }
        }));
    }
}

/// Removes the files of a session that is deleted on a thread of its own, since the store's must not wait for it, then does
/// `done`. What a crash leaves of them is removed at the next start.
fn remove_files(context: &Arc<Context>, id: Arc<str>, done: impl FnOnce() + Send + 'static) {
    let of = context.clone();
    let once = Arc::new(Mutex::new(Some(move || {
        Files::remove_gone(&of.data_dir, &id, |id| of.is_known(id));
        done();
    })));
    let work = move || once.lock().take().into_iter().for_each(|work| work());
    if context.threads.spawn("remove".into(), work.clone()).is_err() {
        work();
    }
}
