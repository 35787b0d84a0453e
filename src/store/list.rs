//! The list of sessions, and the search in it.

use std::collections::HashSet;

use rusqlite::Connection;

use super::change::SESSION_COLUMNS;
use super::{Key, SessionRow, Store, Trouble, schema};

/// Where a page of the list ended: the last session's activity and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Unix milliseconds.
    pub last_activity: u64,
    /// Its name.
    pub id: String,
}

/// What is searched for, and where its words were found.
pub struct Query {
    /// As it was typed, in lower case.
    typed: String,
    /// The sessions in which each of its words, or its beginning, was said or is in the title.
    found: HashSet<Key>,
}

impl Query {
    /// Whether it is a part of that text, as it was typed.
    #[must_use]
    pub fn is_part_of(&self, text: &str) -> bool {
        self.is_within(text.as_bytes())
    }

    /// Whether it is a part of what lists show.
    #[must_use]
    pub fn is_in(&self, title: Option<&str>, cwd: &str) -> bool {
        title.is_some_and(|title| self.is_part_of(title)) || self.is_part_of(cwd)
    }

    fn is_within(&self, text: &[u8]) -> bool {
        let typed = self.typed.as_bytes();
        let Some(first) = typed.first() else { return true };
        if !typed.is_ascii() {
            return String::from_utf8_lossy(text).to_lowercase().contains(&self.typed);
        }
        // Most are, and need no copy of each text. A byte of a longer character is never an ASCII one.
        let starts = text.len().checked_sub(typed.len()).map_or(&[][..], |last| &text[..=last]);
        memchr::memchr2_iter(*first, first.to_ascii_uppercase(), starts)
            .any(|at| text[at..at + typed.len()].eq_ignore_ascii_case(typed))
    }

    /// Whether its words were found in that session.
    #[must_use]
    pub fn was_found_in(&self, session: Key) -> bool {
        self.found.contains(&session)
    }
}

/// What a word is, only the index's own tokenizer knows: this asks it, with a database in memory that holds nothing else.
pub(super) struct Tokenizer(Connection);

impl Tokenizer {
    fn new() -> rusqlite::Result<Tokenizer> {
        let connection = schema::in_memory(schema::VERSION)?;
        connection.execute_batch("CREATE VIRTUAL TABLE words USING fts5vocab (search, row)")?;
        Ok(Tokenizer(connection))
    }

    /// The words of a text, each in FTS5's own language: it, or what begins with it.
    fn words(&self, text: &str) -> rusqlite::Result<Vec<String>> {
        self.0.prepare_cached("INSERT INTO search (rowid, text) VALUES (1, ?1)")?.execute([text])?;
        let mut words = self.0.prepare_cached("SELECT term FROM words")?;
        let words: Vec<String> = words.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
        self.0.prepare_cached("DELETE FROM search")?.execute([])?;
        Ok(words.iter().map(|word| format!("\"{word}\"*")).collect())
    }
}

impl Store {
    /// Looks for what somebody typed. Nothing in it means anything but itself.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn query(&self, text: &str) -> Result<Query, Trouble> {
        let mut kept = self.tokenizer.lock();
        let tokenizer = match kept.take() {
            Some(tokenizer) => Ok(tokenizer),
            None => Tokenizer::new(),
        };
        let words = tokenizer.and_then(|tokenizer| {
            let words = tokenizer.words(text)?;
            *kept = Some(tokenizer);
            Ok(words)
        });
        drop(kept);
        let words = words.map_err(|error| {
            log::error!("cannot make a query: {error}");
            Trouble::of(&error)
        })?;
        let found = self.read(|db| find(db, &words))?;
        Ok(Query { typed: text.to_lowercase(), found })
    }

    /// Sessions, the most recently active first, from below the cursor; with a query, those that have it in their title or
    /// directory, or in which all its words were said.
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
            None => page(db, below, count),
            Some(query) => search(db, query, below, count),
        })
    }
}

/// The list's order is that of an index: a page costs as much as it is long.
pub(super) fn list_sql() -> String {
    format!(
        "SELECT {SESSION_COLUMNS} FROM sessions WHERE (last_activity, id) < (?1, ?2) \
         ORDER BY last_activity DESC, id DESC"
    )
}

/// What a search looks at, in the same order: all of it is in the index.
pub(super) const SEARCH_SQL: &str = "SELECT key, title, cwd FROM sessions WHERE (last_activity, id) < (?1, ?2) \
    ORDER BY last_activity DESC, id DESC";

fn bounds(below: Option<&Cursor>) -> (i64, &str) {
    below.map_or((i64::MAX, ""), |cursor| (i64::try_from(cursor.last_activity).unwrap_or(i64::MAX), cursor.id.as_str()))
}

fn page(db: &Connection, below: Option<&Cursor>, count: usize) -> rusqlite::Result<Vec<SessionRow>> {
    let mut statement = db.prepare_cached(&list_sql())?;
    let rows = statement.query_map(bounds(below), SessionRow::read)?;
    rows.take(count).collect()
}

fn search(db: &Connection, query: &Query, below: Option<&Cursor>, count: usize) -> rusqlite::Result<Vec<SessionRow>> {
    let mut statement = db.prepare_cached(SEARCH_SQL)?;
    let mut rows = statement.query(bounds(below))?;
    let one = format!("SELECT {SESSION_COLUMNS} FROM sessions WHERE key = ?1");
    let mut one = db.prepare_cached(&one)?;
    let mut found = Vec::new();
    while found.len() < count
        && let Some(row) = rows.next()?
    {
        let has = |column| -> rusqlite::Result<bool> {
            Ok(row.get_ref(column)?.as_bytes_or_null()?.is_some_and(|text| query.is_within(text)))
        };
        let key = row.get(0)?;
        if query.was_found_in(key) || has(1)? || has(2)? {
            found.push(one.query_row([key], SessionRow::read)?);
        }
    }
    Ok(found)
}

/// The sessions that have all of these words, somewhere.
fn find(db: &Connection, words: &[String]) -> rusqlite::Result<HashSet<Key>> {
    // A long word is likely to be rare: where it is nowhere, the others need not be looked for.
    let mut words: Vec<&String> = words.iter().collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    let mut found: Option<HashSet<Key>> = None;
    for word in words {
        let sql = "SELECT rowid FROM search WHERE search MATCH ?1";
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query([word])?;
        let mut with_word = HashSet::new();
        while let Some(row) = rows.next()? {
            let session = row.get::<_, i64>(0)? >> 24;
            if found.as_ref().is_none_or(|found| found.contains(&session)) {
                with_word.insert(session);
            }
        }
        let nowhere = with_word.is_empty();
        found = Some(with_word);
        if nowhere {
            break;
        }
    }
    Ok(found.unwrap_or_default())
}
