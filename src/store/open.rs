//! Opening the database: making it, bringing it up to date, and finding out whether it can be trusted.
//!
//! A database that cannot be trusted is never written to. A new one is made under another name and put in place whole, so
//! an empty or cut file is damage, never a server that was just installed.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::schema::{VERSION, migrate};
use super::{FILE_NAME, Store, check};
use crate::net::Room;

/// Older versions of SQLite can lose what was committed when several connections use a WAL.
const SQLITE_VERSION_MIN: i32 = 3_051_003;

/// Why the database cannot be used.
#[derive(Debug)]
pub enum OpenError {
    /// It is not what this program has written: exit code 3.
    Damaged(String),
    /// A newer version of this program has written it: exit code 4.
    Newer(String),
    /// The directory or the file cannot be used.
    Unusable(String),
}

impl OpenError {
    pub(super) fn damaged(path: &Path, what: &str) -> OpenError {
        OpenError::Damaged(one_line(path, what))
    }

    pub(super) fn of(path: &Path, error: &rusqlite::Error) -> OpenError {
        let message = one_line(path, &error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::DiskFull) => {
                OpenError::Unusable(message)
            }
            Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseBusy | ErrorCode::OutOfMemory) => {
                OpenError::Unusable(message)
            }
            _ => OpenError::Damaged(message),
        }
    }
}

/// What is wrong with a file: on one line, although SQLite shows whole statements and lists.
fn one_line(path: &Path, what: &str) -> String {
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}: {what}", path.display())
}

pub(super) struct Opened {
    pub connection: Connection,
    pub log: i64,
    pub log_id: String,
    pub next_key: i64,
    pub sessions: usize,
}

impl Store {
    /// Opens the database in `dir`, or makes it. The caller has the only server on this directory.
    ///
    /// Those who wait because the store is behind do so in `room`.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing was changed then.
    pub fn open(dir: &Path, room: Arc<Room>) -> Result<Store, OpenError> {
        if rusqlite::version_number() < SQLITE_VERSION_MIN {
            return Err(OpenError::Unusable(format!("SQLite {} is too old", rusqlite::version())));
        }
        let path = dir.join(FILE_NAME);
        let unusable = |error: std::io::Error| OpenError::Unusable(format!("{}: {error}", path.display()));
        if !fs::exists(&path).map_err(unusable)? {
            // SQLite would put into a new database what another one's log has.
            if has_log(&path) {
                return Err(OpenError::damaged(&path, "only its write-ahead log is there"));
            }
            create(&path)?;
        }
        let opened = open(&path)?;
        super::start(path.clone(), opened, room).map_err(unusable)
    }

    /// Puts a database that cannot be trusted aside, under a name that is returned.
    ///
    /// # Errors
    /// When the file cannot be renamed.
    pub fn set_aside(dir: &Path) -> std::io::Result<PathBuf> {
        let path = dir.join(FILE_NAME);
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let aside = dir.join(format!("{FILE_NAME}.damaged-{}", time.as_millis()));
        // The database first: a log without it is not taken for sound, a database without its log may be.
        for tail in ["", "-wal", "-shm"] {
            match fs::rename(beside(&path, tail), beside(&aside, tail)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(dir)?.sync_all()?;
        Ok(aside)
    }
}

/// Whether there is a write-ahead log with something in it.
pub(super) fn has_log(path: &Path) -> bool {
    beside(path, "-wal").metadata().is_ok_and(|log| log.len() > 0)
}

/// The file that SQLite puts beside a database.
pub(super) fn beside(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "cache_size", -512)?;
    Ok(connection)
}

fn create(path: &Path) -> Result<(), OpenError> {
    let unfinished = path.with_extension("new");
    let in_the_way = |error: std::io::Error| OpenError::Unusable(format!("{}: {error}", unfinished.display()));
    for tail in ["", "-journal", "-wal", "-shm"] {
        match fs::remove_file(beside(&unfinished, tail)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(in_the_way(error)),
            _ => {}
        }
    }
    let make = || -> rusqlite::Result<()> {
        let mut connection = Connection::open(&unfinished)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        migrate(&mut connection, 0)?;
        connection.execute("INSERT INTO meta VALUES ('clean', 1)", [])?;
        connection.close().map_err(|(_, error)| error)
    };
    make().map_err(|error| match OpenError::of(&unfinished, &error) {
        OpenError::Damaged(message) => OpenError::Unusable(message),
        other => other,
    })?;
    // What was said is nobody else's business. The log beside it gets the same permissions.
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o600)).map_err(in_the_way)?;
    let sync = |file: &Path| File::open(file).and_then(|file| file.sync_all());
    let in_place = sync(&unfinished).and_then(|()| fs::rename(&unfinished, path));
    in_place.and_then(|()| sync(path.parent().unwrap_or(Path::new(".")))).map_err(in_the_way)
}

pub(super) fn open(path: &Path) -> Result<Opened, OpenError> {
    let failed = |error: rusqlite::Error| OpenError::of(path, &error);
    check::files(path)?;
    let mut connection = connect(path).map_err(failed)?;
    // One that is not used is left as it is, with its log.
    let keep_log = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
    connection.set_db_config(keep_log, true).map_err(failed)?;
    check::content(&connection, path)?;
    let clean: bool =
        connection.query_row("SELECT value FROM meta WHERE name = 'clean'", [], |row| row.get(0)).map_err(failed)?;
    let next_key = next_key(&connection).map_err(failed)?;
    if !(1..1 << 31).contains(&next_key) {
        return Err(OpenError::damaged(path, "a session has a number that was never given"));
    }
    // A copy that another program has made may have no log.
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if version < VERSION {
        migrate(&mut connection, version).map_err(failed)?;
    }
    let (log, log_id) = begin(&mut connection, clean).map_err(failed)?;
    let sessions = super::writer::count(&connection).map_err(failed)?;
    connection.set_db_config(keep_log, false).map_err(failed)?;
    Ok(Opened { connection, log, log_id, next_key, sessions })
}

/// A number that nothing belongs to that a session may have left behind.
fn next_key(connection: &Connection) -> rusqlite::Result<i64> {
    let sql = "SELECT max(ifnull((SELECT max(key) FROM sessions), 0), ifnull((SELECT max(key) >> 32 FROM events), 0), \
               ifnull((SELECT max(key) >> 32 FROM prompts), 0), ifnull((SELECT max(session) FROM conversations), 0)) + 1";
    connection.query_row(sql, [], |row| row.get(0))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    // Nothing but what the schema of this program does is trusted to run.
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 8 << 20)?;
    connection.pragma_update(None, "cache_size", -1024)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Notes that the database is in use, and gives the numbering a new name where numbers may have been told that were not
/// stored.
fn begin(connection: &mut Connection, clean: bool) -> rusqlite::Result<(i64, String)> {
    let transaction = connection.transaction()?;
    let last = "SELECT ordinal, id FROM logs ORDER BY ordinal DESC LIMIT 1";
    let known = transaction.query_row(last, [], |row| Ok((row.get(0)?, row.get(1)?)));
    let known: Option<(i64, String)> = match known {
        Ok(known) => Some(known),
        Err(rusqlite::Error::QueryReturnedNoRows) => None,
        Err(error) => return Err(error),
    };
    let (log, log_id) = match known {
        Some(known) if clean => known,
        known => {
            let new = (known.map_or(1, |(ordinal, _)| ordinal + 1), format!("{:016x}", fastrand::u64(..)));
            transaction.execute("INSERT INTO logs VALUES (?1, ?2)", (new.0, &new.1))?;
            new
        }
    };
    transaction.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 0)", [])?;
    transaction.commit()?;
    Ok((log, log_id))
}
