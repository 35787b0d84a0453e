//! A session's title: the beginning of its first prompt, until Claude or the user gives a better one. The user's stays.

use super::error::Error;
use super::events::WithSession;
use super::fanout::Reply;
use super::plain::{TITLE_CHARS_MAX, shortened};
use super::record::storage_error;
use super::session::Session;
use super::state::{Phase, State};
use crate::proto::claude;
use crate::store::Change;

/// A title that is made from a prompt.
const PROMPT_CHARS: usize = 80;

impl Session {
    /// Gives the session another title. A running Claude is told, so that it stands in its own lists too.
    pub fn rename(&self, title: &str, reply: Reply) {
        let Some(session) = self.itself.upgrade() else { return };
        self.with(|state, _| {
            if state.deleted {
                return reply.fail(&Error::invalid_session());
            }
            state.title_given = true;
            state.set_title(title.to_owned());
            if matches!(state.phase, Phase::Idle | Phase::Busy) {
                let request_id = state.next_control_id();
                state.write(claude::rename_line(&request_id, title));
            }
            state.on_stored.push(Box::new(move |outcome| match outcome {
                Ok(_) => reply.ok(&WithSession { ok: true, session: session.summary() }),
                Err(trouble) => reply.fail(&storage_error(trouble)),
            }));
        });
    }
}

impl State {
    /// Claude calls the conversation so. Also at the start of a process, where it had a title before.
    pub(super) fn on_title(&mut self, title: &str) {
        let title = shortened(title, TITLE_CHARS_MAX);
        if !self.title_given && !title.is_empty() && self.choices.title.as_ref() != Some(&title) {
            self.set_title(title);
        }
    }

    fn set_title(&mut self, title: String) {
        self.pending.push(Change::Title(self.key, title.clone()));
        self.choices.title = Some(title);
        self.changed = true;
    }
}

/// What a session is called that was asked this first.
pub(super) fn title_from(text: &str) -> Option<String> {
    Some(shortened(text, PROMPT_CHARS)).filter(|title| !title.is_empty())
}
