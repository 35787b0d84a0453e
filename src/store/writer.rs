//! The one thread that writes.
//!
//! It takes all that waits and writes it in one transaction (group commit): under load one sync of the disk serves many.
//! What cannot be written, because the disk is full or its syncs fail, stays and is tried again; only a submission that
//! can be refused is, at once, so that nothing is acknowledged that is not kept.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::change::{Accepted, Change};
use super::{QUEUE_BYTES_MAX, Trouble};
use crate::failpoint;
use crate::net::Room;

/// One transaction takes no more than this from the queue.
const TRANSACTION_BYTES_MAX: usize = 4 << 20;

/// What could not be written is tried again after this time, or when something new comes.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// What happens once a submission is on the disk, or is refused. Runs on the writer's thread, so it must not block.
pub type Done = Box<dyn FnOnce(Result<Accepted, Trouble>) + Send>;

/// Changes that belong together: all are written, or none.
pub struct Submission {
    /// In this order.
    pub changes: Vec<Change>,
    /// Called with what became of them: with what a [`Change::Accept`] among them has found.
    pub done: Vec<Done>,
    /// Where it cannot be written at once, it is refused; the others wait until it can.
    pub refusable: bool,
}

impl Submission {
    /// About what it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(Change::bytes).sum()
    }
}

/// What comes to the writer.
pub(super) enum Message {
    Submit(Submission),
    /// Write what waits, and end.
    Close,
}

/// What the writer shares with those who submit.
#[derive(Default)]
pub(super) struct Shared {
    /// What waits, in bytes.
    pub waiting: AtomicUsize,
    /// The last transaction could not be written.
    pub in_trouble: AtomicBool,
    /// How many sessions there are.
    pub sessions: AtomicUsize,
}

pub(super) struct Writer {
    pub connection: Connection,
    /// The ordinal of this incarnation of the numbering.
    pub log: i64,
    pub inbox: Receiver<Message>,
    pub shared: Arc<Shared>,
    pub room: Arc<Room>,
}

impl Writer {
    /// Runs until it is told to close. Marks the stop as clean if everything could be written.
    pub fn run(mut self) {
        let mut kept: Vec<Submission> = Vec::new();
        let mut closing = false;
        let mut retry_at = None;
        while !closing || !kept.is_empty() {
            if !closing {
                closing = self.take_in(&mut kept, retry_at);
            }
            if kept.is_empty() {
                continue;
            }
            match self.write(&mut kept) {
                Ok(()) => retry_at = None,
                Err(_) if closing => break,
                Err(_) => retry_at = Some(Instant::now() + RETRY_PAUSE),
            }
        }
        let lost: usize = kept.iter().map(|submission| submission.changes.len()).sum();
        if lost > 0 {
            log::error!("{lost} changes could not be stored before the end");
        } else if let Err(error) = self.close() {
            log::error!("the database was not closed cleanly: {error}");
        }
    }

    /// Waits for something to write, then takes all there is, up to a limit. `true`: it is the last.
    fn take_in(&self, kept: &mut Vec<Submission>, retry_at: Option<Instant>) -> bool {
        let first = match retry_at.filter(|_| !kept.is_empty()) {
            Some(at) => match self.inbox.recv_deadline(at) {
                Err(RecvTimeoutError::Timeout) => return false,
                received => received.ok(),
            },
            // What is left over from a large queue is written without waiting for more.
            None if !kept.is_empty() => return false,
            None => self.inbox.recv().ok(),
        };
        let mut bytes = 0;
        for message in first.into_iter().chain(self.inbox.try_iter()) {
            match message {
                Message::Submit(submission) => {
                    bytes += submission.bytes();
                    kept.push(submission);
                }
                Message::Close => return true,
            }
            if bytes > TRANSACTION_BYTES_MAX {
                return false;
            }
        }
        // Nobody is left who could submit.
        bytes == 0 && kept.is_empty()
    }

    /// Writes all of `kept`, and empties it. In trouble, what can be refused is, and the rest stays.
    fn write(&mut self, kept: &mut Vec<Submission>) -> Result<(), Trouble> {
        match self.commit(kept) {
            Ok(accepted) => {
                if self.shared.in_trouble.swap(false, Ordering::AcqRel) {
                    log::info!("the data directory can be written again");
                }
                failpoint::reach("committed");
                self.finish(std::mem::take(kept), accepted);
                Ok(())
            }
            Err(error) if is_ours(&error) => {
                // A fault of this program: the one at fault must not take the others with it.
                self.write_one_by_one(std::mem::take(kept));
                Ok(())
            }
            Err(error) => {
                let trouble = Trouble::of(&error);
                if !self.shared.in_trouble.swap(true, Ordering::AcqRel) {
                    log::error!("cannot write to the data directory: {error}; what runs is held back until it can be");
                }
                let (refused, stays) = std::mem::take(kept).into_iter().partition(|submission| submission.refusable);
                *kept = stays;
                self.refuse(refused, trouble);
                Err(trouble)
            }
        }
    }

    fn commit(&mut self, kept: &[Submission]) -> rusqlite::Result<Vec<Accepted>> {
        failpoint::fail_io("commit")?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut found = Vec::with_capacity(kept.len());
        for submission in kept {
            let mut accepted = Accepted::New;
            for change in &submission.changes {
                change.apply(&transaction, self.log, &mut accepted)?;
                if accepted != Accepted::New {
                    break;
                }
            }
            found.push(accepted);
        }
        failpoint::reach("before-commit");
        let changes = kept.iter().flat_map(|submission| &submission.changes);
        let counts = { changes }.any(|change| matches!(change, Change::Session(_) | Change::Delete(_)));
        let sessions = if counts { Some(count(&transaction)?) } else { None };
        transaction.commit()?;
        if let Some(sessions) = sessions {
            self.shared.sessions.store(sessions, Ordering::Release);
        }
        Ok(found)
    }

    fn write_one_by_one(&mut self, kept: Vec<Submission>) {
        for submission in kept {
            let one = [submission];
            let outcome = self.commit(&one);
            let one = Vec::from(one);
            match outcome {
                Ok(accepted) => self.finish(one, accepted),
                Err(error) => {
                    log::error!("a change was not stored because of a fault in this server: {error}");
                    self.refuse(one, Trouble::of(&error));
                }
            }
        }
    }

    fn finish(&self, written: Vec<Submission>, accepted: Vec<Accepted>) {
        for submission in &written {
            submission.changes.iter().for_each(Change::stored);
            self.shared.waiting.fetch_sub(submission.bytes(), Ordering::AcqRel);
        }
        self.room.ring();
        for (submission, accepted) in written.into_iter().zip(accepted) {
            call(submission.done, Ok(accepted));
        }
    }

    fn refuse(&self, refused: Vec<Submission>, trouble: Trouble) {
        for submission in refused {
            self.shared.waiting.fetch_sub(submission.bytes(), Ordering::AcqRel);
            call(submission.done, Err(trouble));
        }
        self.room.ring();
    }

    fn close(&mut self) -> rusqlite::Result<()> {
        self.connection.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 1)", [])?;
        // Into the file itself: so a stopped server's data is one file.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    }
}

/// How many sessions there are.
pub(super) fn count(connection: &Connection) -> rusqlite::Result<usize> {
    let sql = "SELECT value FROM meta WHERE name = 'sessions'";
    connection.prepare_cached(sql)?.query_row([], |row| row.get(0))
}

fn call(done: Vec<Done>, outcome: Result<Accepted, Trouble>) {
    for done in done {
        if catch_unwind(AssertUnwindSafe(|| done(outcome))).is_err() {
            log::error!("a fault in this server, please report it");
        }
    }
}

/// Whether it is the change that is at fault, not the disk.
fn is_ours(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig | ErrorCode::ApiMisuse) => {
            true
        }
        Some(_) => false,
        None => true,
    }
}

const _: () = assert!(TRANSACTION_BYTES_MAX < QUEUE_BYTES_MAX, "the queue holds more than one transaction");
