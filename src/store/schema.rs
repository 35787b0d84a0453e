//! The tables, and how an older database becomes a present one.

use rusqlite::{Connection, Row, Transaction};

/// The version that this program reads and writes.
pub const VERSION: i64 = 2;

/// In the file's header: this is a database of this program. Any number would do.
pub const APPLICATION_ID: i32 = 0x4353_4d31;

/// Brings the database from the version before it to the version of its place in the list (from 1 up).
const MIGRATIONS: [&str; 2] = [FIRST, SECOND];

/// An event's or a prompt's `key` is its session's, times 2^32, plus its number: so all of one session lie together, in
/// order, without another index. An event's `data` is what went over the wire without its beginning, `{"sessionId":…,
/// "seq":…`, which the key tells: so a fork has the same events under another name. So does a prompt's `response`.
///
/// What is said in a session is indexed in stretches of some size, each a row of `search`, so that a word that is
/// everywhere is found in few of them. The last stretch of each session is open, and indexed again with whatever is added.
/// The `rowid` is the session's key, times 2^24, plus 0 for the title, or the number of the stretch.
const FIRST: &str = r"
CREATE TABLE meta (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The incarnations of the numbering: one for each start after an unclean stop.
CREATE TABLE logs (ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE sessions (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    uuid TEXT NOT NULL,
    has_turns INTEGER NOT NULL,
    last_message TEXT,
    forked_from TEXT,
    forked_at TEXT,
    title TEXT,
    title_given INTEGER NOT NULL,
    cwd BLOB NOT NULL,
    model TEXT,
    permission_mode TEXT,
    effort TEXT,
    model_in_use TEXT,
    permission_mode_in_use TEXT,
    agent_version TEXT,
    created_at INTEGER NOT NULL,
    last_activity INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    turns INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    last_words TEXT,
    failure TEXT,
    prompts INTEGER NOT NULL,
    imported_bytes INTEGER NOT NULL
) STRICT;
-- With all that a search looks at, so that it needs not look at the rows.
CREATE INDEX sessions_by_activity ON sessions (last_activity DESC, id DESC, title, cwd);

-- Every name that Claude ever had for a conversation of ours.
CREATE TABLE conversations (uuid TEXT PRIMARY KEY, session INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX conversations_by_session ON conversations (session);

CREATE TABLE events (
    key INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    log INTEGER NOT NULL,
    name TEXT NOT NULL,
    essentials TEXT,
    data TEXT NOT NULL
) STRICT;

CREATE TABLE prompts (
    key INTEGER PRIMARY KEY,
    session INTEGER NOT NULL,
    id TEXT NOT NULL,
    state INTEGER NOT NULL,
    time INTEGER NOT NULL,
    seq INTEGER,
    end_seq INTEGER,
    text TEXT NOT NULL,
    content TEXT,
    attachments TEXT,
    response TEXT
) STRICT;
CREATE UNIQUE INDEX prompts_by_id ON prompts (session, id);
CREATE INDEX prompts_open ON prompts (session) WHERE state < 2;

CREATE TABLE questions (
    session INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    behavior TEXT,
    resolved_by TEXT,
    PRIMARY KEY (session, request_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX questions_open ON questions (session) WHERE behavior IS NULL;

CREATE VIRTUAL TABLE search USING fts5 (
    text, content = '', contentless_delete = 1, detail = none, prefix = '2 3 4',
    tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TABLE stretches (session INTEGER PRIMARY KEY, number INTEGER NOT NULL, body TEXT NOT NULL) STRICT;

-- How many there must be: a damaged table is not taken for a short list.
INSERT INTO meta VALUES ('sessions', 0);
CREATE TRIGGER sessions_more AFTER INSERT ON sessions BEGIN
    UPDATE meta SET value = value + 1 WHERE name = 'sessions';
END;
CREATE TRIGGER sessions_fewer AFTER DELETE ON sessions BEGIN
    UPDATE meta SET value = value - 1 WHERE name = 'sessions';
END;
";

/// What a session has used, how full its context is, and what Claude has to do: JSON, of which no query looks at a part.
/// Claude's name for a prompt, which viewers may have been told before an event of it was stored; so those that wait get
/// one now (version 4), and not another at each start.
const SECOND: &str = "
ALTER TABLE sessions ADD COLUMN account TEXT;
ALTER TABLE prompts ADD COLUMN uuid TEXT;
UPDATE prompts SET uuid = lower(
    hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2)
    || '-8' || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
) WHERE state < 2;
";

/// Brings the database up to [`VERSION`], all or nothing.
pub fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for step in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    set_version(&transaction, VERSION)?;
    transaction.commit()
}

/// The tables, indexes and triggers of a database, with the statements that have made them. What FTS5 makes for itself is
/// left out: that changes with SQLite, which looks after it.
pub(super) fn objects(connection: &Connection) -> rusqlite::Result<Vec<[Option<String>; 4]>> {
    let sql = r"SELECT type, name, tbl_name, sql FROM sqlite_schema
                WHERE name NOT LIKE 'sqlite\_stat%' ESCAPE '\' AND name NOT LIKE 'search\_%' ESCAPE '\' ORDER BY name";
    let read = |row: &Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    connection.prepare(sql)?.query_map([], read)?.collect()
}

/// Those of a database of that version.
pub(super) fn objects_of(version: i64) -> rusqlite::Result<Vec<[Option<String>; 4]>> {
    objects(&in_memory(version)?)
}

/// An empty database of that version.
pub(super) fn in_memory(version: i64) -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    for step in MIGRATIONS.iter().take(usize::try_from(version).unwrap_or(0)) {
        connection.execute_batch(step)?;
    }
    Ok(connection)
}

/// Twice, so that a flipped bit is not taken for another version.
fn set_version(transaction: &Transaction<'_>, version: i64) -> rusqlite::Result<()> {
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.execute("INSERT OR REPLACE INTO meta VALUES ('version', ?1)", [version])?;
    Ok(())
}
