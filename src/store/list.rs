//! The list of sessions, and the search in it.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, params};

use super::change::{SESSION_COLUMNS, text_key};
use super::{Key, SessionRow, Store, Trouble, schema};

/// Words that fewer texts have than this are looked up once; more common ones are looked for session by session, newest
/// first, until the page is full.
const RARE_TEXTS_MAX: usize = 2000;

/// Where a page of the list ended: the last session's activity and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Unix milliseconds.
    pub last_activity: u64,
    /// Its name.
    pub id: String,
}

/// What is searched for.
pub struct Query {
    /// As it was typed, in lower case.
    typed: String,
    /// Each of its words, or its beginning, must be there, in FTS5's own language. None: it has no word.
    words: Option<String>,
}

impl Query {
    /// Whether it is a part of that text, as it was typed.
    #[must_use]
    pub fn is_part_of(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.typed)
    }

    /// Whether it is a part of what lists show.
    #[must_use]
    pub fn is_in(&self, title: Option<&str>, cwd: &str) -> bool {
        title.is_some_and(|title| self.is_part_of(title)) || self.is_part_of(cwd)
    }

    fn is_in_row(&self, row: &SessionRow) -> bool {
        self.is_in(row.title.as_deref(), &path_text(&row.cwd))
    }
}

fn path_text(path: &Path) -> std::borrow::Cow<'_, str> {
    path.to_string_lossy()
}

/// What a word is, only the index's own tokenizer knows: this asks it, with a database in memory that holds nothing else.
pub(super) struct Tokenizer(Connection);

impl Tokenizer {
    fn new() -> rusqlite::Result<Tokenizer> {
        let connection = schema::in_memory(schema::VERSION)?;
        connection.execute_batch("CREATE VIRTUAL TABLE words USING fts5vocab (search, row)")?;
        Ok(Tokenizer(connection))
    }

    fn query(&self, text: &str) -> rusqlite::Result<Query> {
        self.0.prepare_cached("INSERT INTO search (rowid, text) VALUES (1, ?1)")?.execute([text])?;
        let mut words = self.0.prepare_cached("SELECT term FROM words")?;
        let words: Vec<String> = words.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        self.0.prepare_cached("DELETE FROM search")?.execute([])?;
        let words: Vec<String> = words.iter().map(|word| format!("\"{word}\"*")).collect();
        let words = (!words.is_empty()).then(|| words.join(" AND "));
        Ok(Query { typed: text.to_lowercase(), words })
    }
}

impl Store {
    /// Makes a query of what somebody typed. Nothing in it means anything but itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn query(&self, text: &str) -> Result<Query, Trouble> {
        let mut kept = self.tokenizer.lock();
        let tokenizer = match kept.take() {
            Some(tokenizer) => Ok(tokenizer),
            None => Tokenizer::new(),
        };
        let query = tokenizer.and_then(|tokenizer| {
            let query = tokenizer.query(text)?;
            *kept = Some(tokenizer);
            Ok(query)
        });
        query.map_err(|error| {
            log::error!("cannot make a query: {error}");
            Trouble::of(&error)
        })
    }

    /// Sessions, the most recently active first, from below the cursor; with a query, those that have it in their title or
    /// directory, or all its words in one thing that was said.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn list(
        &self,
        query: Option<&Query>,
        below: Option<&Cursor>,
        count: usize,
    ) -> Result<Vec<SessionRow>, Trouble> {
        self.read(|db| match query {
            None => walk(db, below, count, |_| Ok(true)),
            Some(query) => search(db, query, below, count),
        })
    }

    /// Whether all the query's words are in one thing that was said in a session.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn has_words(&self, session: Key, query: &Query) -> Result<bool, Trouble> {
        match &query.words {
            None => Ok(false),
            Some(words) => self.read(|db| has_words(db, session, words)),
        }
    }
}

/// The list's order is that of an index: a page costs as much as it is long.
pub(super) fn list_sql() -> String {
    format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE (last_activity, id) < (?1, ?2) \
         ORDER BY last_activity DESC, id DESC"
    )
}

fn walk(
    db: &Connection,
    below: Option<&Cursor>,
    count: usize,
    mut wanted: impl FnMut(&SessionRow) -> rusqlite::Result<bool>,
) -> rusqlite::Result<Vec<SessionRow>> {
    let mut statement = db.prepare_cached(&list_sql())?;
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

fn search(db: &Connection, query: &Query, below: Option<&Cursor>, count: usize) -> rusqlite::Result<Vec<SessionRow>> {
    let Some(words) = query.words.as_deref() else { return walk(db, below, count, |row| Ok(query.is_in_row(row))) };
    let sql = "SELECT rowid FROM search WHERE search MATCH ?1 LIMIT ?2";
    let texts: Vec<i64> = db
        .prepare_cached(sql)?
        .query_map(params![words, RARE_TEXTS_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    if texts.len() < RARE_TEXTS_MAX {
        let sessions: HashSet<Key> = texts.into_iter().map(|text| text >> 24).collect();
        walk(db, below, count, |row| Ok(sessions.contains(&row.key) || query.is_in_row(row)))
    } else {
        walk(db, below, count, |row| Ok(query.is_in_row(row) || has_words(db, row.key, words)?))
    }
}

fn has_words(db: &Connection, session: Key, words: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT 1 FROM search WHERE search MATCH ?1 AND rowid >= ?2 AND rowid < ?3 LIMIT 1";
    db.prepare_cached(sql)?.exists(params![words, text_key(session, 0), text_key(session + 1, 0)])
}
