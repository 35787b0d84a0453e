//! Whether a database can be trusted: found out before anything is written to it.
//!
//! SQLite tells of damage in the pages that it reads. Looking at every page would take as long as the history is; so all
//! is read here that the list of sessions is made of, since a damaged list must not be taken for a short one, and what is
//! damaged beyond it is told where it is read.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;

use super::open::{OpenError, beside, has_log};
use super::schema::{APPLICATION_ID, VERSION, objects, objects_of};
use super::wal;

/// The beginning of the file, see "The Database Header" in SQLite's documentation.
const HEADER_BYTES: usize = 100;

/// What SQLite would accept there too, but would then read or write something else than this program has written.
pub(super) fn files(path: &Path) -> Result<(), OpenError> {
    let damaged = |what: &str| OpenError::damaged(path, what);
    let unusable = |error: std::io::Error| OpenError::Unusable(format!("{}: {error}", path.display()));
    let mut header = [0; HEADER_BYTES];
    let mut file = File::open(path).map_err(unusable)?;
    let bytes = file.metadata().map_err(unusable)?.len();
    if bytes < HEADER_BYTES as u64 {
        return Err(damaged("it is empty, or cut off"));
    }
    file.read_exact(&mut header).map_err(unusable)?;
    if !header.starts_with(b"SQLite format 3\0") {
        return Err(damaged("it is no SQLite database"));
    }
    // A log that is there but not read would be lost. Without one the file may be a copy that another program has made.
    match header[18..20] {
        [2, 2] => {}
        [1, 1] if !has_log(path) => {}
        _ => return Err(damaged("it does not go with its write-ahead log")),
    }
    let number =
        |at: usize| u64::from(u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]));
    // SQLite reads what is missing as zeros. With a log, whole pages may be there in place of here.
    let (pages, page_bytes) = (number(28), (number(14) & 0xffff).max(1));
    let is_whole = bytes == pages * page_bytes && number(24) == number(92);
    if bytes % page_bytes != 0 || !is_whole && !has_log(path) {
        return Err(damaged("it is cut off"));
    }
    let (unused_bytes, encoding) = (header[20], &header[56..60]);
    if unused_bytes != 0 || encoding != [0, 0, 0, 1] {
        return Err(damaged("its header is not what this program has written"));
    }
    if wal::is_damaged(&beside(path, "-wal")).map_err(unusable)? {
        return Err(damaged("its write-ahead log is damaged"));
    }
    Ok(())
}

/// Whether it is of this program, of a version that it knows, and has a sound list of sessions.
pub(super) fn content(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let damaged = |what: String| OpenError::damaged(path, &what);
    let failed = |error: rusqlite::Error| OpenError::of(path, &error);
    let number = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(failed);
    if number("PRAGMA application_id")? != i64::from(APPLICATION_ID) {
        return Err(damaged("not a database of this program".into()));
    }
    let version = number("PRAGMA user_version")?;
    let confirmed = number("SELECT value FROM meta WHERE name = 'version'")?;
    if version != confirmed || version < 1 {
        return Err(damaged(format!("its version is {version}, or {confirmed}")));
    }
    if version > VERSION {
        let path = path.display();
        let message = format!("{path}: written by a newer version of this program (schema {version}, known {VERSION})");
        return Err(OpenError::Newer(message));
    }
    let expected = objects_of(version).map_err(|error| OpenError::Unusable(format!("SQLite: {error}")))?;
    if objects(connection).map_err(failed)? != expected {
        return Err(damaged("its tables are not those of this program".into()));
    }
    // The whole check of the one that has indexes: what is missing in an index is not listed.
    for check in ["quick_check(meta)", "quick_check(logs)", "integrity_check(sessions)"] {
        let found: String = connection.query_row(&format!("PRAGMA {check}"), [], |row| row.get(0)).map_err(failed)?;
        if found != "ok" {
            return Err(damaged(found));
        }
    }
    let listed = number("SELECT count(*) FROM sessions NOT INDEXED")?;
    let expected = number("SELECT value FROM meta WHERE name = 'sessions'")?;
    if listed != expected {
        return Err(damaged(format!("it lists {listed} sessions in place of {expected}")));
    }
    // Under another name Claude would not find the conversation, and begin a new one.
    let strangers = number("SELECT count(*) FROM sessions WHERE uuid NOT IN (SELECT uuid FROM conversations)")?;
    if strangers > 0 {
        return Err(damaged(format!("{strangers} of its sessions have a conversation of an unknown name")));
    }
    // What an earlier server has left to be done must be found.
    number("SELECT count(*) FROM prompts WHERE state < 2")?;
    number("SELECT count(*) FROM questions WHERE behavior IS NULL")?;
    Ok(())
}
