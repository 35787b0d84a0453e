//! Whether the write-ahead log that a server left behind has lost anything in its middle.
//!
//! SQLite reads it up to the first frame whose checksum is wrong and forgets the rest: after a power cut that is the
//! transaction that was never finished. After a flipped bit it is everything that was committed since, and nobody would be
//! told. The two are told apart by what follows: a transaction is only begun when the one before it is on the disk, so where
//! another follows a broken one, that was whole once.
//!
//! The format is described under "WAL-Mode File Format" in SQLite's documentation.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The header's first number; its lowest bit tells in which order the checksums read the bytes.
const MAGIC: u32 = 0x377f_0682;

/// SQLite's pages are no larger.
const PAGE_BYTES_MAX: usize = 65536;

/// SQLite's running checksum.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Sum(u32, u32);

impl Sum {
    /// Of that and of these bytes behind it, a multiple of 8.
    fn and(mut self, bytes: &[u8], big_endian: bool) -> Sum {
        let number = |bytes: &[u8]| {
            let bytes = bytes.try_into().unwrap_or_default();
            if big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        for pair in bytes.chunks_exact(8) {
            self.0 = self.0.wrapping_add(number(&pair[..4])).wrapping_add(self.1);
            self.1 = self.1.wrapping_add(number(&pair[4..])).wrapping_add(self.0);
        }
        self
    }

    fn stored_in(bytes: &[u8]) -> Sum {
        Sum(number_at(bytes, 0), number_at(bytes, 4))
    }
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap_or_default())
}

/// Whether the log at `path`, which need not exist, has lost what was committed.
///
/// # Errors
/// When it cannot be read.
pub(super) fn is_damaged(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => has_lost_something(BufReader::new(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_lost_something(mut log: impl Read) -> io::Result<bool> {
    let mut header = [0; HEADER_BYTES];
    if !fill(&mut log, &mut header)? {
        return Ok(false);
    }
    let big_endian = number_at(&header, 0) == MAGIC | 1;
    let head_sum = Sum::default().and(&header[..24], big_endian);
    let page_bytes = number_at(&header, 8) as usize;
    let sound = number_at(&header, 0) & !1 == MAGIC
        && head_sum == Sum::stored_in(&header[24..])
        && (512..=PAGE_BYTES_MAX).contains(&page_bytes);
    if !sound {
        // It is on the disk before anything is put behind it.
        return Ok(log.read(&mut [0])? > 0);
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    let (mut before, mut whole, mut after_a_commit) = (head_sum, true, false);
    while fill(&mut log, &mut frame)? {
        let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
        // Others are of an earlier use of the file, of which everything is in the database.
        let is_of_now = head[8..16] == header[16..24];
        let stored = Sum::stored_in(&head[16..]);
        let follows = is_of_now && before.and(&head[..8], big_endian).and(page, big_endian) == stored;
        if follows && after_a_commit && !whole {
            return Ok(true);
        }
        whole &= follows;
        after_a_commit = is_of_now && number_at(head, 4) != 0;
        before = stored;
    }
    Ok(false)
}

/// Fills the buffer. `false`: there was not enough.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;

    /// The log of so many transactions, as SQLite leaves it.
    fn log(transactions: usize) -> Vec<u8> {
        let dir = tempfile::tempdir().expect("a directory");
        let database = Connection::open(dir.path().join("a.db")).expect("opened");
        database.pragma_update(None, "journal_mode", "WAL").expect("a log");
        database.execute_batch("CREATE TABLE t (x)").expect("a table");
        for _ in 1..transactions {
            // Of more than one page.
            database.execute("INSERT INTO t VALUES (randomblob(9000))", []).expect("written");
        }
        std::fs::read(dir.path().join("a.db-wal")).expect("the log")
    }

    fn check(log: &[u8]) -> bool {
        has_lost_something(log).expect("bytes can be read")
    }

    #[test]
    fn a_log_is_sound_as_it_is_and_wherever_it_was_cut() {
        let log = log(4);
        for end in (0..log.len()).step_by(500).chain([0, 1, 31, 32, 33, log.len()]) {
            assert!(!check(&log[..end]), "cut at {end}");
        }
    }

    #[test]
    fn a_torn_last_transaction_is_no_damage() {
        let mut log = log(4);
        let last_page = log.len() - 100;
        log[last_page] ^= 1;
        assert!(!check(&log));
        // Half a frame of the next one, and what an earlier use of the file has left.
        log.extend([7; 3000]);
        assert!(!check(&log));
        log.extend([7; 9000]);
        assert!(!check(&log));
    }

    #[test]
    fn damage_before_another_transaction_is_found_wherever_it_is() {
        let log = log(6);
        let frame = FRAME_HEADER_BYTES + 4096;
        // The last transaction may be torn, and of the one before it all but what the last is chained to is looked at.
        let frames = (log.len() - HEADER_BYTES) / frame;
        let of_the_last =
            (0..frames).rev().skip(1).take_while(|at| number_at(&log[HEADER_BYTES + at * frame..], 4) == 0);
        let end = HEADER_BYTES + (frames - 1 - of_the_last.count()) * frame;
        for at in (0..end).step_by(97) {
            let mut log = log.clone();
            log[at] ^= 1 << (at % 8);
            assert!(check(&log), "flipped at {at} of {end}");
        }
    }
}
