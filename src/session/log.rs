//! A session's events, numbered, and the deltas since the last of them.

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::events::Position;

/// Stored events of one session that are kept in memory; the oldest go first.
pub const LOG_BYTES_MAX: usize = 32 << 20;

/// Deltas since the last stored event that are kept for those who join in mid-turn.
pub const TURN_DELTA_BYTES_MAX: usize = 4 << 20;

/// One stored event.
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
    fn bytes(&self) -> usize {
        self.data.len() + self.whole.as_ref().map_or(0, |whole| whole.len())
    }
}

/// An item as `getHistory` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    seq: u64,
    time: u64,
    name: &'a str,
    data: &'a RawValue,
}

/// A page of the history, cut by bytes and by count.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// A JSON array of `{seq, time, name, data}`, ascending.
    pub events: String,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
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

/// The numbers asked for are no longer kept.
#[derive(Debug, PartialEq, Eq)]
pub struct Gap;

/// The log of one session.
#[derive(Default)]
pub struct Log {
    items: VecDeque<Item>,
    bytes: usize,
    seq: u64,
    part: u64,
    /// The lines of the deltas since the last item, back to back.
    deltas: Vec<u8>,
    /// Where each of them ends.
    delta_ends: Vec<usize>,
    /// There were more deltas than may be kept.
    deltas_lost: bool,
}

impl Log {
    /// Where the log stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { seq: self.seq, part: self.part }
    }

    /// The number that the next stored event gets.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.seq + 1
    }

    /// Stores an event under [`Log::next_seq`].
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
        while self.bytes > LOG_BYTES_MAX && self.items.len() > 1 {
            self.bytes -= self.items.pop_front().map_or(0, |oldest| oldest.bytes());
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

    /// The deltas since the last stored event, with their parts; empty if there were too many to keep.
    pub fn deltas(&self) -> impl Iterator<Item = (u64, &str)> {
        let starts = std::iter::once(0).chain(self.delta_ends.iter().copied());
        let lines = starts.zip(&self.delta_ends).map(|(start, end)| {
            std::str::from_utf8(&self.deltas[start..*end]).expect("whole lines of text were put in")
        });
        (1..).zip(lines)
    }

    /// The stored event of this number, if it is still kept.
    #[must_use]
    pub fn item(&self, seq: u64) -> Option<&Item> {
        self.items.get(self.index(seq)?)
    }

    /// All kept events that follow `seq`.
    ///
    /// # Errors
    /// [`Gap`] when some of them are no longer kept, or `seq` was never given.
    pub fn after(&self, seq: u64) -> Result<impl Iterator<Item = &Item>, Gap> {
        let first_kept = self.items.front().map_or(self.seq + 1, |item| item.seq);
        if seq > self.seq || seq + 1 < first_kept {
            return Err(Gap);
        }
        let skip = usize::try_from(seq + 1 - first_kept).map_err(|_| Gap)?;
        Ok(self.items.iter().skip(skip))
    }

    /// A page of at most `count` events and about `bytes_max` bytes, but always at least one event if there is one.
    ///
    /// # Errors
    /// [`Gap`] as in [`Log::after`].
    pub fn page(&self, range: Range, count: usize, bytes_max: usize) -> Result<Page, Gap> {
        let mut budget = bytes_max;
        let mut fits = |item: &Item| {
            let bytes = item.data.len() + 80;
            let fits = bytes <= budget;
            budget = budget.saturating_sub(bytes);
            fits
        };
        let (shown, more): (Vec<&Item>, bool) = match range {
            Range::After(seq) => {
                let mut rest = self.after(seq)?.peekable();
                let mut shown = Vec::new();
                while shown.len() < count
                    && let Some(item) = rest.next_if(|item| fits(item) || shown.is_empty())
                {
                    shown.push(item);
                }
                (shown, rest.peek().is_some())
            }
            // What precedes was there, but is no longer kept.
            Range::Before(seq) if seq > 1 && self.items.front().is_some_and(|first| first.seq >= seq) => {
                return Err(Gap);
            }
            Range::Newest | Range::Before(_) => {
                let end = match range {
                    Range::Before(seq) => self.items.partition_point(|item| item.seq < seq),
                    _ => self.items.len(),
                };
                let mut rest = self.items.range(..end).rev().peekable();
                let mut shown = Vec::new();
                while shown.len() < count
                    && let Some(item) = rest.next_if(|item| fits(item) || shown.is_empty())
                {
                    shown.push(item);
                }
                shown.reverse();
                let first_kept = self.items.front().map_or(1, |first| first.seq);
                (shown, rest.peek().is_some() || first_kept > 1)
            }
        };
        let raw = |item: &Item| RawValue::from_string(item.data.to_string()).expect("what was stored is JSON");
        let data: Vec<_> = shown.iter().map(|item| raw(item)).collect();
        let shown: Vec<Shown<'_>> = (shown.iter().zip(&data))
            .map(|(item, data)| Shown { seq: item.seq, time: item.time, name: item.name, data })
            .collect();
        Ok(Page { events: super::events::json(&shown), more })
    }

    fn index(&self, seq: u64) -> Option<usize> {
        usize::try_from(seq.checked_sub(self.items.front()?.seq)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(count: u64) -> Log {
        let mut log = Log::default();
        for seq in 1..=count {
            log.append(seq * 10, "notice", format!("{{\"seq\":{seq}}}").into(), None);
        }
        log
    }

    fn numbers(page: &Page) -> Vec<u64> {
        let events: Vec<serde_json::Value> = serde_json::from_str(&page.events).expect("JSON");
        events.iter().map(|event| event["seq"].as_u64().expect("a number")).collect()
    }

    #[test]
    fn pages_go_both_ways() {
        let log = log(5);
        let cases = [
            (Range::Newest, 2, Ok((vec![4, 5], true))),
            (Range::Newest, 9, Ok((vec![1, 2, 3, 4, 5], false))),
            (Range::After(0), 2, Ok((vec![1, 2], true))),
            (Range::After(3), 2, Ok((vec![4, 5], false))),
            (Range::After(5), 2, Ok((vec![], false))),
            (Range::After(6), 2, Err(Gap)),
            (Range::Before(3), 1, Ok((vec![2], true))),
            (Range::Before(3), 9, Ok((vec![1, 2], false))),
            (Range::Before(1), 9, Ok((vec![], false))),
        ];
        for (range, count, expected) in cases {
            let page = log.page(range, count, 10_000).map(|page| (numbers(&page), page.more));
            assert_eq!(page, expected, "{range:?} {count}");
        }
        assert_eq!(log.page(Range::After(0), 9, 1).map(|page| numbers(&page)), Ok(vec![1]), "never an empty page");
    }

    #[test]
    fn old_events_go_and_are_said_to_be_gone() {
        let mut log = Log::default();
        let big: Arc<str> = format!("\"{}\"", "x".repeat(LOG_BYTES_MAX / 2)).into();
        for _ in 0..4 {
            log.append(0, "notice", big.clone(), None);
        }
        assert_eq!(log.position(), Position { seq: 4, part: 0 });
        assert!(log.item(1).is_none() && log.item(4).is_some() && log.item(5).is_none());
        assert_eq!(log.after(0).err(), Some(Gap));
        assert_eq!(log.after(3).map(Iterator::count), Ok(1));
    }

    #[test]
    fn deltas_count_from_the_last_event_and_are_bounded() {
        let mut log = log(1);
        assert_eq!((log.delta("a"), log.delta("b")), (1, 2));
        assert_eq!(log.deltas().collect::<Vec<_>>(), [(1, "a"), (2, "b")]);
        assert_eq!(log.position(), Position { seq: 1, part: 2 });
        log.delta(&"x".repeat(TURN_DELTA_BYTES_MAX));
        assert_eq!((log.deltas().count(), log.delta("c")), (0, 4));
        log.append(0, "notice", "{}".into(), None);
        assert_eq!((log.delta("d"), log.deltas().collect::<Vec<_>>()), (1, vec![(1, "d")]));
    }
}
