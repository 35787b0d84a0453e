//! What is read: on the thread that asks, beside the writer.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::change::{SESSION_COLUMNS, first_key, numbered_key, text_key};
use super::{Key, PromptState, SessionRow, Store, Trouble, event_head, response_head};

/// A term that fewer texts have than this is looked up once; a more common one is looked for session by session, newest
/// first, until the page is full.
const RARE_TEXTS_MAX: usize = 2000;

/// Sessions with open prompts or questions that are taken up at a start; the rest follow when they are opened.
const UNFINISHED_MAX: usize = 10_000;

/// Where a page of the list ended: the last session's activity and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Unix milliseconds.
    pub last_activity: u64,
    /// Its name.
    pub id: String,
}

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
    pub state: PromptState,
    /// The number of its event, if it had one.
    pub seq: Option<u64>,
    pub text: String,
    pub content: Option<String>,
    pub attachments: Option<String>,
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

    /// The names of the sessions whose prompts or questions were open when the server stopped.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn unfinished(&self) -> Result<Vec<String>, Trouble> {
        self.read(|db| {
            let sql = "SELECT id FROM sessions WHERE key IN (SELECT session FROM prompts WHERE state < 2 \
                       UNION SELECT session FROM questions WHERE behavior IS NULL) LIMIT ?1";
            db.prepare(sql)?.query_map([UNFINISHED_MAX], |row| row.get(0))?.collect()
        })
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
            let sql = "SELECT id, state, seq, text, content, attachments, key FROM prompts WHERE session = ?1 AND state < 2 \
                       ORDER BY key";
            let read = |row: &Row<'_>| {
                Ok(OpenPrompt {
                    number: number(row.get(6)?, session),
                    id: row.get(0)?,
                    state: PromptState::of(row.get(1)?),
                    seq: row.get(2)?,
                    text: row.get(3)?,
                    content: row.get(4)?,
                    attachments: row.get(5)?,
                })
            };
            db.prepare_cached(sql)?.query_map([session], read)?.collect()
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
            let sql = "SELECT end_seq, response FROM prompts WHERE key > ?1 AND key < ?2 AND end_seq > ?3 \
                       AND end_seq <= ?4 AND response IS NOT NULL ORDER BY end_seq, key";
            let head = response_head(id);
            let read = |row: &Row<'_>| {
                let rest: String = row.get(1)?;
                Ok(StoredResponse { end_seq: row.get(0)?, data: (head.clone() + &rest).into() })
            };
            let mut statement = db.prepare_cached(sql)?;
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

    /// Sessions, the most recently active first, from below the cursor; with a query, those that have all its words.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn list(&self, query: Option<&str>, below: Option<&Cursor>, count: usize) -> Result<Vec<SessionRow>, Trouble> {
        let words = query.map(match_expression);
        self.read(|db| match (&words, query) {
            (Some(words), Some(query)) => search(db, words.as_deref(), query, below, count),
            _ => walk(db, below, count, |_| Ok(true)),
        })
    }

    /// Whether a session of that number has all the words of the query.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn has_words(&self, session: Key, query: &str) -> Result<bool, Trouble> {
        match match_expression(query) {
            None => Ok(false),
            Some(words) => self.read(|db| has_words(db, session, &words)),
        }
    }
}

fn last_seq(db: &Connection, session: Key, log: i64) -> rusqlite::Result<u64> {
    let sql = "SELECT key FROM events WHERE key > ?1 AND key < ?2 AND log <= ?3 ORDER BY key DESC LIMIT 1";
    let bounds = params![first_key(session), first_key(session + 1), log];
    let key: Option<i64> = db.prepare_cached(sql)?.query_row(bounds, |row| row.get(0)).optional()?;
    Ok(key.map_or(0, |key| number(key, session)))
}

fn number(key: i64, session: Key) -> u64 {
    u64::try_from(key - first_key(session)).unwrap_or(0)
}

fn stored_event(row: &Row<'_>, session: Key, id: &str) -> rusqlite::Result<StoredEvent> {
    let seq = number(row.get(0)?, session);
    let rest = row.get_ref(4)?.as_str()?;
    let mut data = event_head(id, seq);
    data.reserve_exact(rest.len());
    data.push_str(rest);
    // A flipped bit must not become a page that no client can read.
    if serde_json::from_str::<&serde_json::value::RawValue>(&data).is_err() {
        log::error!("session {id}: event {seq} is damaged");
        data = format!(r#"{},"damaged":true}}"#, event_head(id, seq));
    }
    let (time, name, essentials) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(StoredEvent { seq, time, name, data: data.into(), essentials })
}

/// Each word of the query, or its beginning, must be there. None: the query has no word.
fn match_expression(query: &str) -> Option<String> {
    let words: Vec<String> = (query.split(|c: char| !c.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .map(|word| format!("\"{word}\"*"))
        .collect();
    (!words.is_empty()).then(|| words.join(" AND "))
}

fn walk(
    db: &Connection,
    below: Option<&Cursor>,
    count: usize,
    mut wanted: impl FnMut(&SessionRow) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Vec<SessionRow>> {
    let sql = format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE (last_activity, id) < (?1, ?2) \
         ORDER BY last_activity DESC, id DESC"
    );
    let mut statement = db.prepare_cached(&sql)?;
    let mut rows = match below {
        Some(cursor) => statement.query(params![cursor.last_activity, cursor.id])?,
        None => statement.query(params![i64::MAX, ""])?,
    };
    let mut found = Vec::new();
    while found.len() < count
        && let Some(row) = rows.next()?
    {
        let row = SessionRow::read(row)?;
        if wanted(&row)? {
            found.push(row);
        }
    }
    Ok(found)
}

fn search(
    db: &Connection,
    words: Option<&str>,
    query: &str,
    below: Option<&Cursor>,
    count: usize,
) -> rusqlite::Result<Vec<SessionRow>> {
    let query = query.to_lowercase();
    let in_sight = |row: &SessionRow| {
        row.title.as_ref().is_some_and(|title| title.to_lowercase().contains(&query))
            || row.cwd.to_string_lossy().to_lowercase().contains(&query)
    };
    let Some(words) = words else { return walk(db, below, count, |row| Ok(in_sight(row))) };
    let sql = "SELECT rowid FROM search WHERE search MATCH ?1 LIMIT ?2";
    let texts: Vec<i64> = db
        .prepare_cached(sql)?
        .query_map(params![words, RARE_TEXTS_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if texts.len() < RARE_TEXTS_MAX {
        let sessions: std::collections::HashSet<i64> = texts.into_iter().map(|text| text >> 24).collect();
        walk(db, below, count, |row| Ok(sessions.contains(&row.key) || in_sight(row)))
    } else {
        walk(db, below, count, |row| Ok(in_sight(row) || has_words(db, row.key, words)?))
    }
}

fn has_words(db: &Connection, session: Key, words: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM search WHERE search MATCH ?1 AND rowid >= ?2 AND rowid < ?3 LIMIT 1";
    db.prepare_cached(sql)?.exists(params![words, text_key(session, 0), text_key(session + 1, 0)])
}
