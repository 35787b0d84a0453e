//! What is read: on the thread that asks, beside the writer.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::change::{SESSION_COLUMNS, first_key, numbered_key};
use super::{Key, PromptState, SessionRow, Store, Trouble, event_head, response_head};

pub(super) const UNFINISHED: &str = "SELECT id FROM sessions WHERE key IN \
    (SELECT session FROM prompts WHERE state < 2 UNION SELECT session FROM questions WHERE behavior IS NULL)";

pub(super) const OPEN_PROMPTS: &str = "SELECT id, state, seq, text, content, attachments, key, uuid FROM prompts \
    WHERE session = ?1 AND state < 2 ORDER BY key";

pub(super) const RESPONSES: &str = "SELECT end_seq, response, id FROM prompts WHERE key > ?1 AND key < ?2 \
    AND end_seq > ?3 AND end_seq <= ?4 AND response IS NOT NULL ORDER BY end_seq, key";

pub(super) const LAST_SEQ: &str = "SELECT key FROM events WHERE key > ?1 AND key < ?2 AND log <= ?3 \
    ORDER BY key DESC LIMIT 2";

/// An event as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct StoredEvent {
    pub seq: u64,
    pub time: u64,
    pub name: String,
    /// The whole data.
    pub data: Arc<str>,
    /// For the short form of one that is too large for the wire.
    pub essentials: Option<String>,
}

/// A prompt that was not over when the server stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct OpenPrompt {
    /// Counts the session's prompts from 1.
    pub number: u64,
    pub id: String,
    /// Claude's name for it; none where it is damaged.
    pub uuid: Option<String>,
    pub state: PromptState,
    /// The number of its event, if it had one.
    pub seq: Option<u64>,
    pub text: String,
    pub content: Option<String>,
    pub attachments: Option<String>,
    /// It is not what was asked.
    pub is_damaged: bool,
}

/// What is known of a prompt by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "says itself what it is")]
pub struct StoredPrompt {
    pub state: PromptState,
}

/// The response to a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "says itself what it is")]
pub struct StoredResponse {
    pub end_seq: u64,
    pub data: Arc<str>,
}

impl Store {
    /// One session's row.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn session(&self, id: &str) -> Result<Option<SessionRow>, Trouble> {
        self.read(|db| {
            let sql = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE id = ?1");
            db.prepare_cached(&sql)?.query_row([id], SessionRow::read).optional()
        })
    }

    /// The row of the session that is in that conversation.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn session_of(&self, conversation: &str) -> Result<Option<SessionRow>, Trouble> {
        self.read(|db| {
            let of = "(SELECT session FROM conversations WHERE uuid = ?1)";
            let sql = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE key = {of} AND uuid = ?1");
            db.prepare_cached(&sql)?.query_row([conversation], SessionRow::read).optional()
        })
    }

    /// The names of the sessions whose prompts or questions were open when the server stopped.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn unfinished(&self) -> Result<Vec<String>, Trouble> {
        self.read(|db| db.prepare(UNFINISHED)?.query_map([], |row| row.get(0))?.collect())
    }

    /// A session's last number.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn last_seq(&self, session: Key) -> Result<u64, Trouble> {
        self.read(|db| last_seq(db, session, i64::MAX))
    }

    /// The last number that was given under the numbering `log_id`, or before; none if there never was such a numbering.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn last_seq_of(&self, session: Key, log_id: &str) -> Result<Option<u64>, Trouble> {
        self.read(|db| {
            let sql = "SELECT ordinal FROM logs WHERE id = ?1";
            let log: Option<i64> = db.prepare_cached(sql)?.query_row([log_id], |row| row.get(0)).optional()?;
            log.map(|log| last_seq(db, session, log)).transpose()
        })
    }

    /// The prompts that are not over, in their order.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn open_prompts(&self, session: Key) -> Result<Vec<OpenPrompt>, Trouble> {
        self.read(|db| {
            let read = |row: &Row<'_>| {
                let (text, content) = (row.get(3), row.get::<_, Option<String>>(4));
                Ok(OpenPrompt {
                    number: number(row.get(6)?, session),
                    id: row.get(0)?,
                    uuid: row.get(7).unwrap_or_default(),
                    state: PromptState::of(row.get(1)?),
                    seq: row.get(2)?,
                    is_damaged: text.is_err() || !content.as_ref().is_ok_and(|content| is_content(content.as_deref())),
                    text: text.unwrap_or_default(),
                    content: content.unwrap_or_default(),
                    attachments: row.get(5).unwrap_or_default(),
                })
            };
            db.prepare_cached(OPEN_PROMPTS)?.query_map([session], read)?.collect()
        })
    }

    /// The questions that were never answered.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn open_questions(&self, session: Key) -> Result<Vec<String>, Trouble> {
        self.read(|db| {
            let sql = "SELECT request_id FROM questions WHERE session = ?1 AND behavior IS NULL";
            db.prepare_cached(sql)?.query_map([session], |row| row.get(0))?.collect()
        })
    }

    /// How a question was answered, and by whom.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn resolution(&self, session: Key, request_id: &str) -> Result<Option<(String, String)>, Trouble> {
        self.read(|db| {
            let sql = "SELECT behavior, resolved_by FROM questions \
                       WHERE session = ?1 AND request_id = ?2 AND behavior IS NOT NULL";
            db.prepare_cached(sql)?
                .query_row(params![session, request_id], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        })
    }

    /// A prompt by its name.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn prompt(&self, session: Key, id: &str) -> Result<Option<StoredPrompt>, Trouble> {
        self.read(|db| {
            let sql = "SELECT state FROM prompts WHERE session = ?1 AND id = ?2";
            let read = |row: &Row<'_>| Ok(StoredPrompt { state: PromptState::of(row.get(0)?) });
            db.prepare_cached(sql)?.query_row(params![session, id], read).optional()
        })
    }

    /// Events with `after < seq < before`, ascending or descending, at most `count` and about `bytes_max` bytes, but at
    /// least one if there is one.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn events(
        &self,
        session: Key,
        id: &str,
        (after, before): (u64, u64),
        descending: bool,
        (count, bytes_max): (usize, usize),
    ) -> Result<Vec<StoredEvent>, Trouble> {
        let order = if descending { "DESC" } else { "ASC" };
        self.read(|db| {
            let sql = format!(
                "SELECT key, time, name, essentials, data FROM events WHERE key > ?1 AND key < ?2 ORDER BY key {order} LIMIT ?3"
            );
            let mut statement = db.prepare_cached(&sql)?;
            let mut rows = statement.query(params![numbered_key(session, after), numbered_key(session, before), count])?;
            let (mut events, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let event = stored_event(row, session, id)?;
                bytes += event.data.len();
                if bytes > bytes_max && !events.is_empty() {
                    break;
                }
                events.push(event);
            }
            Ok(events)
        })
    }

    /// One event.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn event(&self, session: Key, id: &str, seq: u64) -> Result<Option<StoredEvent>, Trouble> {
        self.read(|db| {
            let sql = "SELECT key, time, name, essentials, data FROM events WHERE key = ?1";
            let mut statement = db.prepare_cached(sql)?;
            statement.query_row([numbered_key(session, seq)], |row| stored_event(row, session, id)).optional()
        })
    }

    /// The responses that followed the events with `after < seq <= last`, in their order.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn responses(&self, session: Key, id: &str, after: u64, last: u64) -> Result<Vec<StoredResponse>, Trouble> {
        self.read(|db| {
            let head = response_head(id);
            let read = |row: &Row<'_>| {
                let mut data = head.clone() + row.get_ref(1)?.as_str().unwrap_or_default();
                if !is_json(&data) {
                    let prompt_id: String = row.get(2).unwrap_or_default();
                    log::error!("session {id}: the response to {prompt_id} is damaged");
                    let prompt_id = serde_json::Value::from(prompt_id);
                    let error = "what was stored of this response is damaged";
                    data = format!(
                        r#"{head},"promptId":{prompt_id},"status":"failed","fullResponse":"","done":true,"error":"{error}"}}"#
                    );
                }
                Ok(StoredResponse { end_seq: row.get(0)?, data: data.into() })
            };
            let mut statement = db.prepare_cached(RESPONSES)?;
            statement.query_map(params![first_key(session), first_key(session + 1), after, last], read)?.collect()
        })
    }

    /// Whether a conversation began here, or came here.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn is_known_conversation(&self, uuid: &str) -> Result<bool, Trouble> {
        self.read(|db| {
            let sql = "SELECT 1 FROM conversations WHERE uuid = ?1";
            db.prepare_cached(sql)?.exists([uuid])
        })
    }

    /// Whether anything was ever asked in that session here.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn was_asked(&self, session: Key) -> Result<bool, Trouble> {
        self.read(|db| {
            let sql = "SELECT 1 FROM prompts WHERE key >= ?1 AND key < ?2 LIMIT 1";
            db.prepare_cached(sql)?.exists([first_key(session), first_key(session + 1)])
        })
    }

    /// Those whose last activity was before `time`, the oldest first.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn idle_since(&self, time: u64, count: usize) -> Result<Vec<String>, Trouble> {
        self.read(|db| {
            let sql = "SELECT id FROM sessions WHERE last_activity < ?1 ORDER BY last_activity ASC, id ASC LIMIT ?2";
            db.prepare_cached(sql)?.query_map(params![time, count], |row| row.get(0))?.collect()
        })
    }

    /// The oldest session's last activity.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn oldest_activity(&self) -> Result<Option<u64>, Trouble> {
        self.read(|db| db.query_row("SELECT min(last_activity) FROM sessions", [], |row| row.get(0)))
    }
}

fn last_seq(db: &Connection, session: Key, log: i64) -> rusqlite::Result<u64> {
    let mut statement = db.prepare_cached(LAST_SEQ)?;
    let keys = statement.query_map(params![first_key(session), first_key(session + 1), log], |row| row.get(0))?;
    let last: Vec<u64> = keys.map(|key| key.map(|key| number(key, session))).collect::<rusqlite::Result<_>>()?;
    // Numbers have no holes: one that is too large is damaged, and was the one behind the others.
    let before = last.get(1).copied().unwrap_or(0);
    Ok(last.first().map_or(0, |last| (*last).min(before + 1)))
}

fn number(key: i64, session: Key) -> u64 {
    u64::try_from(key - first_key(session)).unwrap_or(0)
}

fn stored_event(row: &Row<'_>, session: Key, id: &str) -> rusqlite::Result<StoredEvent> {
    let seq = number(row.get(0)?, session);
    let rest = row.get_ref(4)?.as_str().unwrap_or_default();
    let mut data = event_head(id, seq);
    data.reserve_exact(rest.len());
    data.push_str(rest);
    // A flipped bit must not become a page that no client can read.
    if !is_json(&data) {
        log::error!("session {id}: event {seq} is damaged");
        data = format!(r#"{},"damaged":true}}"#, event_head(id, seq));
    }
    let essentials = row.get::<_, String>(3).ok().filter(|members| is_json(&format!("{{{members}}}")));
    let (time, name) = (row.get(1).unwrap_or_default(), row.get(2).unwrap_or_default());
    Ok(StoredEvent { seq, time, name, data: data.into(), essentials })
}

/// Whether it is one JSON object: then nothing in it can be taken for what stands around it.
fn is_json(text: &str) -> bool {
    text.starts_with('{') && serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok()
}

/// Whether Claude can be given it.
fn is_content(content: Option<&str>) -> bool {
    content.is_none_or(|content| {
        !content.contains('\n') && serde_json::from_str::<&serde_json::value::RawValue>(content).is_ok()
    })
}
