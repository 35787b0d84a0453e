//! What the sessions ask to be written, and how each becomes rows.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use rusqlite::{OptionalExtension, Row, Transaction, params};

use crate::claude::command::ForkPoint;

/// A stretch of what was said is indexed anew with each text until it has this size.
const STRETCH_BYTES_MAX: usize = 16 << 10;

/// A session's number in the database. Its events and prompts are found by it.
pub type Key = i64;

/// A session's row.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the wire contract's `session` says what most of them are")]
pub struct SessionRow {
    pub key: Key,
    pub id: String,
    /// `here`, or `terminal`: begun by a `claude` in a terminal.
    pub source: String,
    /// Claude's own name of the conversation.
    pub uuid: String,
    pub has_turns: bool,
    /// Claude's own name of the last message that a fork goes on from.
    pub last_message: Option<String>,
    /// Where this conversation is to leave another at its first start.
    pub forked_from: Option<ForkPoint>,
    pub title: Option<String>,
    /// The user has given it.
    pub title_given: bool,
    pub cwd: PathBuf,
    pub model: Option<String>,
    pub permission_mode: Option<String>,
    pub effort: Option<String>,
    pub model_in_use: Option<String>,
    pub permission_mode_in_use: Option<String>,
    pub agent_version: Option<String>,
    pub created_at: u64,
    pub last_activity: u64,
    pub ended: bool,
    pub turns: u64,
    pub cost_usd: f64,
    /// The end of the last answer, shortened.
    pub last_words: Option<String>,
    /// JSON of the failure.
    pub failure: Option<String>,
    /// How many prompts it has had.
    pub prompts: u64,
    /// How much of a terminal's transcript its history has.
    pub imported_bytes: u64,
    /// JSON of what it has used and holds.
    pub account: Option<String>,
}

/// The columns of [`SessionRow`], in its order.
pub(super) const SESSION_COLUMNS: &str = "key, id, source, uuid, has_turns, last_message, forked_from, forked_at, title, \
    title_given, cwd, model, permission_mode, effort, model_in_use, permission_mode_in_use, agent_version, created_at, last_activity, \
    ended, turns, cost_usd, last_words, failure, prompts, imported_bytes, account";

/// Those that never change.
const FIXED_COLUMNS: [&str; 4] = ["key", "id", "source", "created_at"];

static SAVE_SESSION: LazyLock<String> = LazyLock::new(|| {
    let columns: Vec<&str> = SESSION_COLUMNS.split(", ").collect();
    let values: Vec<String> = (1..=columns.len()).map(|number| format!("?{number}")).collect();
    let changing = columns.iter().filter(|column| !FIXED_COLUMNS.contains(column));
    let changes: Vec<String> = changing.map(|column| format!("{column} = excluded.{column}")).collect();
    format!(
        "INSERT INTO sessions ({SESSION_COLUMNS}) VALUES ({}) ON CONFLICT (key) DO UPDATE SET {}",
        values.join(", "),
        changes.join(", ")
    )
});

impl SessionRow {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<SessionRow> {
        // A flipped bit must not hide the session, and with it the whole page of the list.
        let bytes = |column| row.get_ref(column)?.as_bytes_or_null().map_err(rusqlite::Error::from);
        let text = |column| bytes(column).map(|bytes| bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()));
        let number = |column| row.get::<_, u64>(column).unwrap_or_default();
        // In the order of the columns: a look-up by name would cost more than all the rest.
        let mut columns = 0..;
        let mut next = || columns.next().unwrap_or_default();
        Ok(SessionRow {
            key: row.get(next())?,
            id: row.get(next())?,
            source: text(next())?.unwrap_or_default(),
            uuid: row.get(next())?,
            has_turns: row.get(next())?,
            last_message: text(next())?,
            forked_from: {
                let (conversation, at) = (text(next())?, text(next())?);
                conversation.map(|conversation| ForkPoint { conversation, at })
            },
            title: text(next())?,
            title_given: row.get(next())?,
            cwd: PathBuf::from(OsStr::from_bytes(bytes(next())?.unwrap_or_default())),
            model: text(next())?,
            permission_mode: text(next())?,
            effort: text(next())?,
            model_in_use: text(next())?,
            permission_mode_in_use: text(next())?,
            agent_version: text(next())?,
            created_at: number(next()),
            last_activity: number(next()),
            ended: row.get(next())?,
            turns: number(next()),
            cost_usd: row.get(next())?,
            last_words: text(next())?,
            failure: text(next())?,
            prompts: number(next()),
            imported_bytes: number(next()),
            account: text(next())?,
        })
    }

    fn bytes(&self) -> usize {
        let texts = [&self.last_message, &self.title, &self.model, &self.last_words, &self.failure, &self.account];
        size_of::<SessionRow>() + texts.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

/// A session's event.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct EventRow {
    pub session: Key,
    pub seq: u64,
    pub time: u64,
    pub name: &'static str,
    /// The whole data on the wire, which begins with [`event_head`].
    pub data: Arc<str>,
    /// Where what follows that head begins.
    pub rest_at: usize,
    /// JSON members for the short form of an event that is too large for the wire.
    pub essentials: Option<Box<str>>,
    /// Is set to `seq` once the event is on the disk.
    pub stored: Arc<AtomicU64>,
}

/// How every event's data begins.
#[must_use]
pub fn event_head(session_id: &str, seq: u64) -> String {
    // A session's id is made of characters that need no escape.
    format!(r#"{{"sessionId":"{session_id}","seq":{seq}"#)
}

/// How a response's data begins.
#[must_use]
pub fn response_head(session_id: &str) -> String {
    format!(r#"{{"sessionId":"{session_id}""#)
}

/// How far a prompt is; the numbers are those of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[expect(missing_docs, reason = "the design's words for the states of a prompt")]
pub enum PromptState {
    Accepted = 0,
    /// It was, or may have been, handed to Claude: it is never run again by itself.
    Written = 1,
    Done = 2,
    Interrupted = 3,
    Failed = 4,
}

impl PromptState {
    pub(super) fn of(number: i64) -> PromptState {
        match number {
            0 => PromptState::Accepted,
            1 => PromptState::Written,
            2 => PromptState::Done,
            3 => PromptState::Interrupted,
            _ => PromptState::Failed,
        }
    }
}

/// A prompt that a client asks to be accepted.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct PromptRow {
    pub session: Key,
    /// Counts the session's prompts from 1.
    pub number: u64,
    pub id: String,
    /// Claude's name for it.
    pub uuid: String,
    pub state: PromptState,
    pub time: u64,
    pub text: String,
    /// JSON of what Claude gets, where that is not the text.
    pub content: Option<String>,
    /// JSON of what viewers see of its attachments.
    pub attachments: Option<String>,
}

/// What became of a prompt that was to be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
    /// It is on the disk.
    New,
    /// The same was accepted before.
    Again,
    /// Another text was accepted under its name.
    Conflict,
}

/// One thing to write.
pub enum Change {
    /// The session as it is now; new, or in place of its row.
    Session(Box<SessionRow>),
    /// The session's last message has another name.
    LastMessage(Key, String),
    /// An event.
    Event(EventRow),
    /// A prompt. Where it turns out not to be new, nothing is written.
    Accept(Box<PromptRow>),
    /// The accepted prompt is about to be handed to Claude.
    Written(Key, String),
    /// It was not handed over after all.
    NotWritten(Key, String),
    /// The prompt's event has this number.
    Asked(Key, String, u64),
    /// The prompt is over.
    Ended {
        /// Whose prompt.
        session: Key,
        /// Its name.
        id: String,
        /// How.
        state: PromptState,
        /// The number of the last event before its response.
        end_seq: u64,
        /// Data of its `claudeResponse`, which begins with [`response_head`].
        response: Arc<str>,
        /// Where what follows that head begins.
        rest_at: usize,
    },
    /// A question is open.
    Question(Key, String),
    /// A question was answered: how, and by whom.
    Resolved(Key, String, &'static str, String),
    /// What the session is called, to be found by. Takes the place of an older title.
    Title(Key, String),
    /// What was said in the session, to be found by.
    Said(Key, String),
    /// The session's events and texts are to go.
    Clear(Key),
    /// The session and all that belongs to it is to go.
    Delete(Key),
    /// A new session gets the events and texts of another, up to this number.
    Fork {
        /// The new one, which has its row already.
        to: Key,
        /// The old one.
        from: Key,
        /// The last event that is copied.
        seq: u64,
    },
}

impl Change {
    /// Whose it is.
    pub(super) fn session(&self) -> Key {
        match self {
            Change::Session(row) => row.key,
            Change::Event(event) => event.session,
            Change::Accept(prompt) => prompt.session,
            Change::Ended { session, .. } | Change::Fork { to: session, .. } => *session,
            Change::Written(session, _) | Change::NotWritten(session, _) | Change::Asked(session, ..) => *session,
            Change::Question(session, _) | Change::Resolved(session, ..) | Change::LastMessage(session, _) => *session,
            Change::Title(session, _) | Change::Said(session, _) => *session,
            Change::Clear(session) | Change::Delete(session) => *session,
        }
    }

    /// About what it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        64 + match self {
            Change::Session(row) => row.bytes(),
            Change::Event(event) => event.data.len(),
            Change::Accept(prompt) => prompt.text.len() + prompt.content.as_ref().map_or(0, String::len),
            Change::Ended { response, .. } => response.len(),
            Change::Title(_, text) | Change::Said(_, text) => text.len(),
            _ => 0,
        }
    }

    /// Writes it; what is for the index of what was said only if that is `indexed`. `accepted` is what an earlier
    /// [`Change::Accept`] of the same submission has found.
    pub(super) fn apply(
        &self,
        to: &Transaction<'_>,
        log: i64,
        indexed: bool,
        accepted: &mut Accepted,
    ) -> rusqlite::Result<()> {
        match self {
            Change::Session(row) => save_session(to, row)?,
            Change::LastMessage(session, uuid) => {
                let sql = "UPDATE sessions SET last_message = ?2 WHERE key = ?1";
                to.prepare_cached(sql)?.execute(params![session, uuid])?;
            }
            Change::Event(event) => save_event(to, event, log)?,
            Change::Accept(prompt) => *accepted = accept(to, prompt)?,
            Change::Written(session, id) => {
                let sql = "UPDATE prompts SET state = 1 WHERE session = ?1 AND id = ?2 AND state = 0";
                to.prepare_cached(sql)?.execute(params![session, id])?;
            }
            Change::NotWritten(session, id) => {
                let sql = "UPDATE prompts SET state = 0 WHERE session = ?1 AND id = ?2 AND state = 1";
                to.prepare_cached(sql)?.execute(params![session, id])?;
            }
            Change::Asked(session, id, seq) => {
                let sql = "UPDATE prompts SET seq = ?3 WHERE session = ?1 AND id = ?2";
                to.prepare_cached(sql)?.execute(params![session, id, seq])?;
            }
            Change::Ended { session, id, state, end_seq, response, rest_at } => {
                let sql = "UPDATE prompts SET state = ?3, end_seq = ?4, response = ?5 WHERE session = ?1 AND id = ?2";
                let state = *state as i64;
                to.prepare_cached(sql)?.execute(params![session, id, state, end_seq, &response[*rest_at..]])?;
            }
            Change::Question(session, request) => {
                let sql = "INSERT OR REPLACE INTO questions (session, request_id) VALUES (?1, ?2)";
                to.prepare_cached(sql)?.execute(params![session, request])?;
            }
            Change::Resolved(session, request, behavior, by) => {
                let sql = "INSERT OR REPLACE INTO questions VALUES (?1, ?2, ?3, ?4)";
                to.prepare_cached(sql)?.execute(params![session, request, behavior, by])?;
            }
            Change::Title(..) | Change::Said(..) if !indexed => {}
            Change::Title(session, title) => index(to, *session, 0, title)?,
            Change::Said(session, text) => add_to_stretch(to, *session, text)?,
            Change::Clear(session) => clear(to, *session, indexed)?,
            Change::Delete(session) => delete(to, *session, indexed)?,
            Change::Fork { to: new, from, seq } => {
                copy_conversation(to, *new, *from, *seq, log)?;
                if indexed {
                    index_conversation(to, *new)?;
                }
            }
        }
        Ok(())
    }

    /// It is on the disk now.
    pub(super) fn stored(&self) {
        if let Change::Event(event) = self {
            event.stored.store(event.seq, Ordering::Release);
        }
    }
}

/// The first key of a session's events and prompts; theirs lie between it and the next session's.
pub(super) fn first_key(session: Key) -> i64 {
    session << 32
}

pub(super) fn numbered_key(session: Key, number: u64) -> i64 {
    first_key(session) | i64::try_from(number & 0xffff_ffff).expect("32 bits")
}

pub(super) fn text_key(session: Key, number: u64) -> i64 {
    session << 24 | i64::try_from(number & 0xff_ffff).expect("24 bits")
}

fn save_session(to: &Transaction<'_>, row: &SessionRow) -> rusqlite::Result<()> {
    to.prepare_cached(&SAVE_SESSION)?.execute(params![
        row.key,
        row.id,
        row.source,
        row.uuid,
        row.has_turns,
        row.last_message,
        row.forked_from.as_ref().map(|point| &point.conversation),
        row.forked_from.as_ref().and_then(|point| point.at.as_ref()),
        row.title,
        row.title_given,
        path_bytes(&row.cwd),
        row.model,
        row.permission_mode,
        row.effort,
        row.model_in_use,
        row.permission_mode_in_use,
        row.agent_version,
        row.created_at,
        row.last_activity,
        row.ended,
        row.turns,
        row.cost_usd,
        row.last_words,
        row.failure,
        row.prompts,
        row.imported_bytes,
        row.account,
    ])?;
    let sql = "INSERT OR IGNORE INTO conversations VALUES (?1, ?2)";
    to.prepare_cached(sql)?.execute(params![row.uuid, row.key])?;
    Ok(())
}

fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

fn save_event(to: &Transaction<'_>, event: &EventRow, log: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let key = numbered_key(event.session, event.seq);
    let rest = &event.data[event.rest_at..];
    to.prepare_cached(sql)?.execute(params![key, event.time, log, event.name, event.essentials.as_deref(), rest])?;
    Ok(())
}

fn accept(to: &Transaction<'_>, prompt: &PromptRow) -> rusqlite::Result<Accepted> {
    let sql = "SELECT text IS ?3 AND content IS ?4 FROM prompts WHERE session = ?1 AND id = ?2";
    let mut known = to.prepare_cached(sql)?;
    let mut rows = known.query(params![prompt.session, prompt.id, prompt.text, prompt.content])?;
    if let Some(row) = rows.next()? {
        return Ok(if row.get(0)? { Accepted::Again } else { Accepted::Conflict });
    }
    let sql = "INSERT INTO prompts (key, session, id, state, time, text, content, attachments, uuid) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    to.prepare_cached(sql)?.execute(params![
        numbered_key(prompt.session, prompt.number),
        prompt.session,
        prompt.id,
        prompt.state as i64,
        prompt.time,
        prompt.text,
        prompt.content,
        prompt.attachments,
        prompt.uuid,
    ])?;
    Ok(Accepted::New)
}

fn delete(to: &Transaction<'_>, session: Key, indexed: bool) -> rusqlite::Result<()> {
    clear(to, session, indexed)?;
    to.execute("DELETE FROM prompts WHERE key >= ?1 AND key < ?2", [first_key(session), first_key(session + 1)])?;
    to.execute("DELETE FROM questions WHERE session = ?1", [session])?;
    // What Claude called it stays known: or its transcript would come up again as a terminal's.
    to.execute("DELETE FROM sessions WHERE key = ?1", [session])?;
    Ok(())
}

fn clear(to: &Transaction<'_>, session: Key, indexed: bool) -> rusqlite::Result<()> {
    to.execute("DELETE FROM events WHERE key >= ?1 AND key < ?2", [first_key(session), first_key(session + 1)])?;
    if indexed {
        let texts = [text_key(session, 0), text_key(session + 1, 0)];
        to.execute("DELETE FROM search WHERE rowid >= ?1 AND rowid < ?2", texts)?;
        to.execute("DELETE FROM stretches WHERE session = ?1", [session])?;
    }
    Ok(())
}

/// The events, and the prompts that are over.
fn copy_conversation(to: &Transaction<'_>, new: Key, old: Key, seq: u64, log: i64) -> rusqlite::Result<()> {
    let sql = "INSERT INTO events SELECT key - ?1 + ?2, time, ?5, name, essentials, data FROM events \
               WHERE key > ?3 AND key <= ?4";
    to.execute(sql, params![first_key(old), first_key(new), first_key(old), numbered_key(old, seq), log])?;
    let sql = "INSERT INTO prompts SELECT key - ?1 + ?2, ?4, id, state, time, seq, end_seq, text, content, attachments, \
               response, uuid FROM prompts WHERE session = ?3 AND state >= 2 AND end_seq <= ?5";
    to.execute(sql, params![first_key(old), first_key(new), old, new, seq])?;
    Ok(())
}

/// What was said in those prompts, and in answer to them.
fn index_conversation(to: &Transaction<'_>, session: Key) -> rusqlite::Result<()> {
    // A response begins behind its `{`, see the schema. A damaged one is not for the index.
    let sql = "SELECT text, CASE WHEN json_valid('{' || substr(response, 2)) \
               THEN json_extract('{' || substr(response, 2), '$.fullResponse') END \
               FROM prompts WHERE key > ?1 AND key < ?2 ORDER BY key";
    let mut prompts = to.prepare_cached(sql)?;
    let mut rows = prompts.query([first_key(session), first_key(session + 1)])?;
    while let Some(row) = rows.next()? {
        for said in [row.get::<_, Option<String>>(0)?, row.get(1)?].into_iter().flatten() {
            add_to_stretch(to, session, &said)?;
        }
    }
    Ok(())
}

/// Adds a text to the session's open stretch, or opens the next one with it.
fn add_to_stretch(to: &Transaction<'_>, session: Key, text: &str) -> rusqlite::Result<()> {
    let sql = "SELECT number, body FROM stretches WHERE session = ?1";
    let open = to.prepare_cached(sql)?.query_row([session], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (number, body) = match open {
        None => (1, text.to_owned()),
        Some((number, body)) => match String::len(&body) + text.len() {
            0..=STRETCH_BYTES_MAX => (number, body + "\n" + text),
            _ => (number + 1, text.to_owned()),
        },
    };
    index(to, session, number, &body)?;
    let sql = "INSERT OR REPLACE INTO stretches VALUES (?1, ?2, ?3)";
    to.prepare_cached(sql)?.execute(params![session, number, body])?;
    Ok(())
}

fn index(to: &Transaction<'_>, session: Key, number: u64, text: &str) -> rusqlite::Result<()> {
    let sql = "INSERT OR REPLACE INTO search (rowid, text) VALUES (?1, ?2)";
    to.prepare_cached(sql)?.execute(params![text_key(session, number), text])?;
    Ok(())
}
