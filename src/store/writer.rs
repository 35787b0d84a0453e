//! The one thread that writes.
//!
//! It takes all that waits and writes it in one transaction (group commit): under load one sync of the disk serves many.
//! What cannot be written because the disk is full, or its syncs fail, stays and is tried again; only a submission that
//! can be refused is, at once, so that nothing is acknowledged that is not kept.
//!
//! What cannot be written because the database is damaged there never will be: then each submission is written by itself,
//! and the session whose part is damaged is not stored any more, so that its events on the disk end there without a hole.
//! Damage of the index of what was said is nobody's: all goes on without it.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use rusqlite::{Connection, TransactionBehavior};

use super::change::{Accepted, Change, Key};
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
    /// Held until it is on the disk or refused: so a session knows whether something of it is still on its way.
    pub on_its_way: Arc<()>,
}

impl Submission {
    /// About what it takes while it waits.
    pub(super) fn bytes(&self) -> usize {
        self.changes.iter().map(Change::bytes).sum()
    }

    /// Whose it is. All its changes belong to one session.
    fn session(&self) -> Option<Key> {
        self.changes.first().map(Change::session)
    }

    fn deletes(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Delete(_)))
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
    connection: Connection,
    /// The ordinal of this incarnation of the numbering.
    log: i64,
    inbox: Receiver<Message>,
    shared: Arc<Shared>,
    room: Arc<Room>,
    /// Sessions of which something could not be written although the disk takes it.
    damaged: HashSet<Key>,
    /// What was said is not indexed any more.
    index_is_damaged: bool,
}

impl Writer {
    /// A writer of that incarnation, `log`, of the numbering.
    pub fn new(
        connection: Connection,
        log: i64,
        inbox: Receiver<Message>,
        shared: Arc<Shared>,
        room: Arc<Room>,
    ) -> Writer {
        Writer { connection, log, inbox, shared, room, damaged: HashSet::new(), index_is_damaged: false }
    }

    /// Runs until it is told to close. Marks the stop as clean if everything could be written.
    pub fn run(mut self) {
        let mut kept: Vec<Submission> = Vec::new();
        let mut closing = false;
        let mut retry_at = None;
        while !closing || !kept.is_empty() {
            if !closing {
                closing = self.take_in(&mut kept, retry_at);
            }
            self.refuse_damaged(&mut kept);
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

    /// What belongs to a session of which something is missing on the disk is not written any more.
    fn refuse_damaged(&mut self, kept: &mut Vec<Submission>) {
        if self.damaged.is_empty() {
            return;
        }
        let is_damaged = |submission: &Submission| {
            !submission.deletes() && submission.session().is_some_and(|session| self.damaged.contains(&session))
        };
        let (refused, sound) = std::mem::take(kept).into_iter().partition(is_damaged);
        *kept = sound;
        self.refuse(refused, Trouble::Damaged);
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
                self.finish(std::mem::take(kept), accepted);
                Ok(())
            }
            // The one at fault must not take the others with it.
            Err(error) if Trouble::of(&error) == Trouble::Damaged => self.write_one_by_one(kept),
            Err(error) => Err(self.hold_back(kept, &error)),
        }
    }

    /// The disk does not take anything now.
    fn hold_back(&mut self, kept: &mut Vec<Submission>, error: &rusqlite::Error) -> Trouble {
        if !self.shared.in_trouble.swap(true, Ordering::AcqRel) {
            log::error!("cannot write to the data directory: {error}; what runs is held back until it can be");
        }
        let (refused, stays) = std::mem::take(kept).into_iter().partition(|submission| submission.refusable);
        *kept = stays;
        self.refuse(refused, Trouble::Full);
        Trouble::Full
    }

    fn commit(&mut self, kept: &[Submission]) -> rusqlite::Result<Vec<Accepted>> {
        failpoint::fail_io("commit")?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut found = Vec::with_capacity(kept.len());
        for submission in kept {
            let mut accepted = Accepted::New;
            for change in &submission.changes {
                change.apply(&transaction, self.log, !self.index_is_damaged, &mut accepted)?;
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
        if self.shared.in_trouble.swap(false, Ordering::AcqRel) {
            log::info!("the data directory can be written again");
        }
        failpoint::reach("committed");
        Ok(found)
    }

    fn write_one_by_one(&mut self, kept: &mut Vec<Submission>) -> Result<(), Trouble> {
        while !kept.is_empty() {
            let outcome = match self.commit(&kept[..1]) {
                Err(error) if Trouble::of(&error) == Trouble::Damaged => self.write_unindexed(&kept[..1], error),
                outcome => outcome,
            };
            match outcome {
                Ok(accepted) => self.finish(vec![kept.remove(0)], accepted),
                Err(error) if Trouble::of(&error) == Trouble::Damaged => {
                    log::error!("a session is not stored any more, its part of the database is damaged: {error}");
                    let one = kept.remove(0);
                    self.damaged.extend(one.session());
                    self.refuse(vec![one], Trouble::Damaged);
                    self.refuse_damaged(kept);
                }
                Err(error) => return Err(self.hold_back(kept, &error)),
            }
        }
        Ok(())
    }

    /// Tries whether it was the index that could not be written. `error` is what it was otherwise.
    fn write_unindexed(&mut self, one: &[Submission], error: rusqlite::Error) -> rusqlite::Result<Vec<Accepted>> {
        if self.index_is_damaged {
            return Err(error);
        }
        self.index_is_damaged = true;
        let outcome = self.commit(one);
        match outcome {
            Ok(_) => log::error!("the index of what was said is damaged, the search finds nothing new: {error}"),
            Err(_) => self.index_is_damaged = false,
        }
        outcome
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

const _: () = assert!(TRANSACTION_BYTES_MAX < QUEUE_BYTES_MAX, "the queue holds more than one transaction");
