//! A session's events, numbered: the newest of them, those that are not on the disk yet, and the deltas since the last.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::events::Position;

/// Events of one session that are kept in memory although they are on the disk; the oldest go first.
pub const TAIL_BYTES_MAX: usize = 256 << 10;

/// Deltas since the last stored event that are kept for those who join in mid-turn.
pub const TURN_DELTA_BYTES_MAX: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its number.
    pub seq: u64,
    /// When it happened, in Unix milliseconds.
    pub time: u64,
    /// The event's name on the wire.
    pub name: &'static str,
    /// The event's data on the wire.
    pub data: Arc<str>,
    /// The same, whole, where it was too large for the wire.
    pub whole: Option<Arc<str>>,
}

impl Item {
    /// What it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.data.len() + self.whole.as_ref().map_or(0, |whole| whole.len())
    }
}

/// The response to a prompt: without a number of its own, it follows the event of this number.
#[derive(Debug, Clone)]
pub struct Ending {
    /// The last event before it.
    pub after: u64,
    /// Its data.
    pub data: Arc<str>,
}

/// Which part of the history is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// The newest.
    Newest,
    /// The first that follow this number.
    After(u64),
    /// The last that precede this number.
    Before(u64),
}

/// The log of one session.
#[derive(Default)]
pub struct Log {
    /// The newest events, without a hole; all before them are on the disk.
    items: VecDeque<Item>,
    /// The responses that followed them.
    endings: VecDeque<Ending>,
    bytes: usize,
    seq: u64,
    part: u64,
    /// The last number that is on the disk; set by the store.
    stored: Arc<AtomicU64>,
    /// The lines of the deltas since the last item, back to back.
    deltas: Vec<u8>,
    /// Where each of them ends.
    delta_ends: Vec<usize>,
    /// There were more deltas than may be kept.
    deltas_lost: bool,
}

impl Log {
    /// The log of a session that has events up to `seq` on the disk.
    #[must_use]
    pub fn stored_up_to(seq: u64) -> Log {
        Log { seq, stored: Arc::new(AtomicU64::new(seq)), ..Log::default() }
    }

    /// Where the log stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { seq: self.seq, part: self.part }
    }

    /// The number that the next event gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    /// Where the store notes what is on the disk.
    #[must_use]
    pub fn stored(&self) -> &Arc<AtomicU64> {
        &self.stored
    }

    /// The first event that is in memory; those before it are on the disk.
    #[must_use]
    pub fn first_kept(&self) -> u64 {
        self.items.front().map_or(self.seq + 1, |item| item.seq)
    }

    /// Adds an event under [`Log::next_seq`].
    pub fn append(&mut self, time: u64, name: &'static str, data: Arc<str>, whole: Option<Arc<str>>) {
        self.seq += 1;
        self.part = 0;
        self.deltas.clear();
        self.deltas.shrink_to(64 * 1024);
        self.delta_ends.clear();
        self.deltas_lost = false;
        let item = Item { seq: self.seq, time, name, data, whole };
        self.bytes += item.bytes();
        self.items.push_back(item);
        self.trim();
    }

    /// Adds the response that follows the last event.
    pub fn end_prompt(&mut self, data: Arc<str>) {
        self.bytes += data.len();
        self.endings.push_back(Ending { after: self.seq, data });
        self.trim();
    }

    /// Lets the oldest go that are on the disk.
    fn trim(&mut self) {
        let stored = self.stored.load(Ordering::Acquire);
        while self.bytes > TAIL_BYTES_MAX && self.items.front().is_some_and(|oldest| oldest.seq < stored) {
            self.bytes -= self.items.pop_front().map_or(0, |oldest| oldest.bytes());
            let first = self.first_kept();
            while let Some(ending) = self.endings.pop_front_if(|ending| ending.after < first) {
                self.bytes -= ending.data.len();
            }
        }
    }

    /// Counts a delta and returns its `part`.
    pub fn delta(&mut self, line: &str) -> u64 {
        self.part += 1;
        if self.deltas_lost || self.deltas.len() + line.len() > TURN_DELTA_BYTES_MAX {
            self.deltas_lost = true;
            self.deltas = Vec::new();
            self.delta_ends = Vec::new();
        } else {
            self.deltas.extend_from_slice(line.as_bytes());
            self.delta_ends.push(self.deltas.len());
        }
        self.part
    }

    /// The deltas since the last event, with their parts; empty if there were too many to keep.
    pub fn deltas(&self) -> impl Iterator<Item = (u64, &str)> {
        let starts = std::iter::once(0).chain(self.delta_ends.iter().copied());
        let lines = starts.zip(&self.delta_ends).map(|(start, end)| {
            std::str::from_utf8(&self.deltas[start..*end]).expect("whole lines of text were put in")
        });
        (1..).zip(lines)
    }

    /// The event of this number, if it is in memory.
    #[must_use]
    pub fn item(&self, seq: u64) -> Option<&Item> {
        let index = usize::try_from(seq.checked_sub(self.items.front()?.seq)?).ok()?;
        self.items.get(index)
    }

    /// The events in memory that follow `seq`; none if the first that follows is not in memory.
    pub fn after(&self, seq: u64) -> Option<impl DoubleEndedIterator<Item = &Item>> {
        let skip = (seq + 1).checked_sub(self.first_kept())?;
        let skip = usize::try_from(skip).ok()?.min(self.items.len());
        Some(self.items.range(skip..))
    }

    /// All events in memory that precede `seq`, the newest first.
    pub fn before(&self, seq: u64) -> impl Iterator<Item = &Item> {
        let end = self.items.partition_point(|item| item.seq < seq);
        self.items.range(..end).rev()
    }

    /// The responses in memory that followed the events with `after < seq <= last`.
    pub fn endings(&self, after: u64, last: u64) -> impl Iterator<Item = &Ending> {
        self.endings.iter().filter(move |ending| (after + 1..=last).contains(&ending.after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(log: &mut Log, bytes: usize) {
        log.append(0, "notice", "x".repeat(bytes).into(), None);
    }

    fn numbers<'a>(items: impl Iterator<Item = &'a Item>) -> Vec<u64> {
        items.map(|item| item.seq).collect()
    }

    #[test]
    fn only_what_is_on_the_disk_goes_from_memory() {
        let mut log = Log::stored_up_to(7);
        assert_eq!((log.position().seq, log.first_kept()), (7, 8));
        for _ in 0..4 {
            add(&mut log, TAIL_BYTES_MAX / 2);
            log.end_prompt("r".into());
        }
        assert_eq!(log.first_kept(), 8, "nothing of it is on the disk");
        log.stored().store(10, Ordering::Release);
        add(&mut log, 1);
        assert_eq!((log.first_kept(), log.endings(0, 99).count()), (10, 2), "the last stored stays");
        assert_eq!(log.after(8).map(numbers), None);
        assert_eq!(log.after(9).map(numbers), Some(vec![10, 11, 12]));
        assert_eq!(log.after(12).map(numbers), Some(vec![]));
        assert_eq!(numbers(log.before(12)), [11, 10]);
        assert!(log.item(9).is_none() && log.item(10).is_some() && log.item(13).is_none());
    }

    #[test]
    fn responses_follow_their_event() {
        let mut log = Log::default();
        add(&mut log, 1);
        log.end_prompt("a".into());
        log.end_prompt("b".into());
        add(&mut log, 1);
        log.end_prompt("c".into());
        let of = |after, last| log.endings(after, last).map(|ending| &*ending.data).collect::<Vec<_>>();
        assert_eq!(of(0, 1), ["a", "b"]);
        assert_eq!(of(1, 2), ["c"]);
        assert!(of(2, 2).is_empty());
    }

    #[test]
    fn deltas_count_from_the_last_event_and_are_bounded() {
        let mut log = Log::default();
        add(&mut log, 1);
        assert_eq!((log.delta("a"), log.delta("b")), (1, 2));
        assert_eq!(log.deltas().collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
        assert_eq!(log.position(), Position { seq: 1, part: 2 });
        log.delta(&"x".repeat(TURN_DELTA_BYTES_MAX));
        assert_eq!((log.deltas().count(), log.delta("c")), (0, 4));
        add(&mut log, 1);
        assert_eq!((log.delta("d"), log.deltas().collect::<Vec<_>>()), (1, vec![(1, "d")]));
    }
}
