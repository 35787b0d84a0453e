//! What outlives the server: sessions, their events, their prompts' states, and an index of what was said, in one SQLite
//! file of the data directory.
//!
//! ```text
//!  sessions ──submit──▶ writer thread ──group commit──▶ sessions.db ◀── read-only connections ◀── whoever asks
//!                             └──done, once it is on the disk──▶ sessions
//! ```
//!
//! Writing never blocks whoever submits: what waits is counted in bytes, and when it is too much only the threads that
//! read Claude's output wait, holding no lock. Reading happens on the thread that wants to know, beside the writer (WAL).
//! Text that comes in pieces is not written before it is whole, so the store does not slow the relay.
//!
//! The store knows rows, not sessions: what they mean is told in [`crate::session`].

mod change;
mod check;
mod list;
mod open;
mod query;
mod schema;
#[cfg(test)]
mod tests;
mod wal;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::Sender;
use parking_lot::Mutex;
use rusqlite::Connection;

pub use change::{Accepted, Change, EventRow, Key, PromptRow, PromptState, SessionRow, event_head, response_head};
pub use list::{Cursor, Query};
pub use open::OpenError;
pub use query::{OpenPrompt, StoredEvent, StoredPrompt, StoredResponse};
pub use writer::{Done, Submission};

use crate::net::Room;
use writer::{Message, Shared};

/// The database's name in the data directory.
pub const FILE_NAME: &str = "sessions.db";

/// Changes that wait to be written, in bytes; beyond it those wait who read Claude's output.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;

/// Reading connections that are kept for the next who asks.
const READERS_MAX: usize = 2;

/// Why something cannot be stored or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room, or the disk does not take what it is given. Goes by itself when there is room.
    Full,
    /// What is there cannot be made sense of.
    Damaged,
}

impl Trouble {
    fn of(error: &rusqlite::Error) -> Trouble {
        use rusqlite::ErrorCode as Code;
        match error.sqlite_error_code() {
            Some(
                Code::DiskFull
                | Code::SystemIoFailure
                | Code::CannotOpen
                | Code::ReadOnly
                | Code::PermissionDenied
                | Code::DatabaseBusy
                | Code::DatabaseLocked
                | Code::FileLockingProtocolFailed
                | Code::OutOfMemory
                | Code::NoLargeFileSupport,
            ) => Trouble::Full,
            // What breaks a rule, or has another form than what is written here, is damage (or a fault of this program).
            _ => Trouble::Damaged,
        }
    }
}

/// A handle on the database. The writer ends with [`Store::close`].
pub struct Store {
    path: PathBuf,
    log_id: String,
    writer: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
    shared: Arc<Shared>,
    readers: Mutex<Vec<Connection>>,
    tokenizer: Mutex<Option<list::Tokenizer>>,
    next_key: AtomicI64,
}

impl Store {
    /// Writes changes in the order in which they come. Never blocks.
    pub fn submit(&self, submission: Submission) {
        let bytes = submission.bytes();
        self.shared.waiting.fetch_add(bytes, Ordering::AcqRel);
        if let Err(refused) = self.writer.send(Message::Submit(submission))
            && let Message::Submit(submission) = refused.0
        {
            // The server is stopping.
            self.shared.waiting.fetch_sub(bytes, Ordering::AcqRel);
            // Never on this thread: whoever submits holds the lock that they take.
            let refuse = move || submission.done.into_iter().for_each(|done| done(Err(Trouble::Full)));
            if let Err(error) = std::thread::Builder::new().name("refuse".into()).spawn(refuse) {
                log::error!("no thread to refuse what cannot be stored any more: {error}");
            }
        }
    }

    /// Whether so much waits to be written that whoever produces more should wait, on the [`Room`] given at the start.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.shared.waiting.load(Ordering::Acquire) > QUEUE_BYTES_MAX
    }

    /// Whether the last attempt to write has failed.
    #[must_use]
    pub fn in_trouble(&self) -> bool {
        self.shared.in_trouble.load(Ordering::Acquire)
    }

    /// How many sessions are stored.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.shared.sessions.load(Ordering::Acquire)
    }

    /// Names this incarnation of the numbering: another one after an unclean stop.
    #[must_use]
    pub fn log_id(&self) -> &str {
        &self.log_id
    }

    /// A number for a new session.
    #[must_use]
    pub fn new_key(&self) -> Key {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    /// Writes what waits and ends the writer.
    pub fn close(&self) {
        // The last connection removes the log: that must be the writer's.
        self.readers.lock().clear();
        let _ = self.writer.send(Message::Close);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            log::error!("the thread that writes to the data directory has ended in a fault");
        }
    }

    /// Reads, on this thread. The caller holds no lock.
    fn read<R>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<R>) -> Result<R, Trouble> {
        let idle = self.readers.lock().pop();
        let outcome = match idle {
            Some(connection) => Ok(connection),
            None => open::reader(&self.path),
        }
        .and_then(|connection| Ok((work(&connection)?, connection)));
        match outcome {
            Ok((result, connection)) => {
                let mut readers = self.readers.lock();
                if readers.len() < READERS_MAX {
                    readers.push(connection);
                }
                Ok(result)
            }
            Err(error) => {
                log::error!("cannot read {}: {error}", self.path.display());
                Err(Trouble::of(&error))
            }
        }
    }
}

/// Starts the writer of a database that was opened.
fn start(path: PathBuf, opened: open::Opened, room: Arc<Room>) -> std::io::Result<Store> {
    let (writer, inbox) = crossbeam_channel::unbounded();
    let shared = Arc::new(Shared { sessions: opened.sessions.into(), ..Shared::default() });
    let work = writer::Writer::new(opened.connection, opened.log, inbox, shared.clone(), room);
    let thread = std::thread::Builder::new().name("store".into()).spawn(move || work.run())?;
    Ok(Store {
        path,
        log_id: opened.log_id,
        writer,
        thread: Mutex::new(Some(thread)),
        shared,
        readers: Mutex::default(),
        tokenizer: Mutex::default(),
        next_key: AtomicI64::new(opened.next_key),
    })
}
