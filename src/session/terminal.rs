//! Conversations that a `claude` in a terminal has made: listed beside ours, and brought in when one is opened.
//!
//! Their transcripts are read, never written. Opening one copies its history into the store; as long as nothing was asked
//! here it is copied anew when the terminal has gone on with it. Conversations that began here have transcripts too; their
//! names are in the store, so that none is listed twice.

use std::sync::Arc;

use crossbeam_channel::bounded;
use parking_lot::MutexGuard;

use super::conversation::{Conversation, Covered};
use super::error::Error;
use super::events::{PromptAsked, Summary, json};
use super::manager::SessionManager;
use super::record::storage_error;
use super::state::State;
use crate::claude::transcripts::{Found, Told, What, read};
use crate::proto::claude::{self, Kind};
use crate::store::{Change, Cursor, EventRow, Key, Query, SessionRow, Submission, event_head};

/// A session's row, and the turn of whoever has brought it in.
pub(super) type BroughtIn<'a> = (Option<SessionRow>, Option<MutexGuard<'a, ()>>);

/// So much of a transcript is stored at a time.
const PIECE_BYTES: usize = 512 << 10;

/// So much of one answer can be found by its words.
const REPLY_BYTES_MAX: usize = 1 << 20;

impl SessionManager {
    /// The terminal's conversations that are not sessions here yet.
    pub(super) fn terminal_sessions(
        &self,
        query: Option<&Query>,
        below: Option<&Cursor>,
    ) -> Result<Vec<Summary>, Error> {
        let Some(transcripts) = &self.context.transcripts else { return Ok(Vec::new()) };
        let has = |text: &str| query.is_none_or(|query| query.is_part_of(text));
        let mut summaries = Vec::new();
        for found in transcripts.list() {
            let place = (found.last_activity, found.uuid.as_str());
            let is_below = below.is_none_or(|cursor| place < (cursor.last_activity, cursor.id.as_str()));
            let texts = [&found.title, &found.last_words].into_iter().flatten();
            let matches = { texts }.any(|text| has(text)) || has(&found.cwd.to_string_lossy());
            if is_below && matches && !self.context.store.is_known_conversation(&found.uuid).map_err(storage_error)? {
                let id: Arc<str> = found.uuid.as_str().into();
                summaries.push(State::from_row(id, row(&found, 0), 0).summary(&self.context));
            }
        }
        Ok(summaries)
    }

    /// The row of a session that has none yet, or of one that a terminal may have gone on with. What comes with it is to be
    /// held until the session is in memory: nobody may bring it in anew when somebody has it.
    pub(super) fn bring_in(&self, id: &str, known: Option<SessionRow>) -> Result<BroughtIn<'_>, Error> {
        let is_ours = known.as_ref().is_some_and(|row| row.source != "terminal");
        let find = || self.context.transcripts.as_ref().filter(|_| !is_ours).and_then(|all| all.find(id));
        if find().is_none() {
            return Ok((known, None));
        }
        // One at a time: held while it is read and stored, which nobody but another such opening waits for.
        let turn = self.context.importing.lock();
        let store = &self.context.store;
        let known = store.session(id).map_err(storage_error)?;
        // Others may have been here meanwhile, and the terminal too.
        let Some(found) = find().filter(|_| self.context.live.get(id).is_none()) else {
            return Ok((known, Some(turn)));
        };
        let row = match known {
            Some(row) if row.imported_bytes == found.bytes => Some(row),
            Some(row) if store.was_asked(row.key).map_err(storage_error)? => Some(row),
            Some(known) => Some(self.import(&found, again(&found, known))?),
            // It began here under another name, or was deleted here.
            None if store.is_known_conversation(id).map_err(storage_error)? => None,
            None => Some(self.import(&found, row(&found, store.new_key()))?),
        };
        Ok((row, Some(turn)))
    }

    fn import(&self, found: &Found, mut row: SessionRow) -> Result<SessionRow, Error> {
        log::info!("session {}: brought in from {}", found.uuid, found.path.display());
        let key = row.key;
        // Only at the end it is marked as whole: one that is interrupted is begun again.
        row.imported_bytes = 0;
        let title = row.title.clone().map(|title| Change::Title(key, title));
        self.put([Change::Clear(key), Change::Session(Box::new(row.clone()))].into_iter().chain(title).collect())?;
        let conversation = Conversation::new(found.uuid.clone());
        let mut copy =
            Copy { key, id: &found.uuid, seq: 0, prompts: 0, reply: String::new(), conversation, changes: Vec::new() };
        let mut bytes = 0;
        // What cannot be read is no history; the conversation itself can be resumed all the same.
        for told in read(&found.path).into_iter().flatten() {
            bytes += copy.take(told);
            if bytes > PIECE_BYTES {
                self.put(std::mem::take(&mut copy.changes))?;
                bytes = 0;
            }
        }
        copy.end_reply();
        row.imported_bytes = found.bytes;
        row.last_message = copy.conversation.last_message;
        row.prompts = copy.prompts;
        row.turns = copy.prompts;
        copy.changes.push(Change::Session(Box::new(row.clone())));
        self.put(copy.changes)?;
        Ok(row)
    }

    /// Stores, and waits until it is on the disk.
    fn put(&self, changes: Vec<Change>) -> Result<(), Error> {
        let (tell, told) = bounded(1);
        let done = Box::new(move |outcome: Result<_, _>| {
            let _ = tell.send(outcome.map(drop));
        });
        let on_its_way = Arc::default();
        self.context.store.submit(Submission { changes, done: vec![done], refusable: true, on_its_way });
        told.recv().unwrap_or(Err(crate::store::Trouble::Full)).map_err(storage_error)
    }
}

/// A transcript on its way into the store.
struct Copy<'a> {
    key: Key,
    id: &'a str,
    seq: u64,
    prompts: u64,
    reply: String,
    /// Finds the message that a fork goes on from.
    conversation: Conversation,
    changes: Vec<Change>,
}

impl Copy<'_> {
    fn take(&mut self, told: Told) -> usize {
        self.seq += 1;
        let (id, seq) = (self.id, self.seq);
        let (name, data) = match told.what {
            What::Prompt(text) => {
                self.end_reply();
                self.prompts += 1;
                let prompt_id = format!("terminal_{}", self.prompts);
                let asked = PromptAsked {
                    session_id: id,
                    seq,
                    prompt_id: &prompt_id,
                    user_message_id: None,
                    text: &text,
                    attachments: &[],
                };
                let data = json(&asked);
                self.changes.push(Change::Said(self.key, text));
                ("prompt", data)
            }
            What::Event(line) => {
                self.follow(&line);
                ("claudeEvent", format!(r#"{},"event":{line}}}"#, event_head(id, seq)))
            }
        };
        let bytes = data.len();
        self.changes.push(Change::Event(EventRow {
            session: self.key,
            seq,
            time: told.time,
            name,
            data: data.into(),
            rest_at: event_head(id, seq).len(),
            essentials: None,
            stored: Arc::default(),
        }));
        bytes
    }

    fn follow(&mut self, line: &str) {
        let Ok(line) = claude::parse(line.as_bytes()) else { return };
        self.conversation.follow(&line.kind, Covered { seq: self.seq, text_bytes: 0 });
        if let Kind::Assistant { text: Some(text), .. } = line.kind
            && self.reply.len() + text.len() <= REPLY_BYTES_MAX
        {
            self.reply.push_str(&text);
            self.reply.push('\n');
        }
    }

    fn end_reply(&mut self) {
        let reply = std::mem::take(&mut self.reply);
        if !reply.is_empty() && self.prompts > 0 {
            self.changes.push(Change::Said(self.key, reply));
        }
    }
}

/// The row of one that was brought in before: what the user has given it here stays.
fn again(found: &Found, known: SessionRow) -> SessionRow {
    let new = row(found, known.key);
    let title = if known.title_given { known.title } else { new.title };
    let model_in_use = if known.model.is_some() { known.model_in_use } else { new.model_in_use };
    SessionRow {
        title,
        title_given: known.title_given,
        ended: known.ended,
        model: known.model,
        model_in_use,
        permission_mode: known.permission_mode,
        permission_mode_in_use: known.permission_mode_in_use,
        effort: known.effort,
        ..new
    }
}

fn row(found: &Found, key: Key) -> SessionRow {
    SessionRow {
        key,
        id: found.uuid.clone(),
        source: "terminal".into(),
        uuid: found.uuid.clone(),
        has_turns: true,
        last_message: None,
        forked_from: None,
        title: found.title.clone(),
        title_given: false,
        cwd: found.cwd.clone(),
        model: None,
        permission_mode: None,
        effort: None,
        model_in_use: found.model.clone(),
        permission_mode_in_use: None,
        agent_version: None,
        created_at: found.created_at,
        last_activity: found.last_activity,
        ended: false,
        turns: 0,
        cost_usd: 0.0,
        last_words: found.last_words.clone(),
        failure: None,
        prompts: 0,
        imported_bytes: found.bytes,
        account: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_chosen_here_stays_when_the_terminal_goes_on() {
        let found = |title: &str, model: &str| Found {
            uuid: "u".into(),
            path: "/p".into(),
            cwd: "/c".into(),
            title: Some(title.into()),
            created_at: 1,
            last_activity: 2,
            bytes: 3,
            entrypoint: None,
            model: Some(model.into()),
            last_words: None,
        };
        let known = row(&found("first", "a"), Key::MAX);
        let later = again(&found("second", "b"), known.clone());
        assert_eq!((later.title.as_deref(), later.model_in_use.as_deref()), (Some("second"), Some("b")));
        let chosen = SessionRow {
            title_given: true,
            model: Some("opus".into()),
            model_in_use: Some("claude-opus".into()),
            permission_mode: Some("plan".into()),
            effort: Some("high".into()),
            ..known
        };
        let later = again(&found("second", "b"), chosen);
        let words = [later.title, later.model, later.model_in_use, later.permission_mode, later.effort];
        assert_eq!(words.map(Option::unwrap), ["first", "opus", "claude-opus", "plan", "high"]);
    }
}
