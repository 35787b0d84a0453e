//! A session's past, in pages: the newest from memory, the rest from the store.
//!
//! What is in memory is taken under the session's lock, what is not is read after it is released: all events below the first
//! that memory has are on the disk and never change.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{Code, Error};
use super::events::{EVENT_BYTES_MAX, Notice, Summary, json};
use super::fanout::Reply;
use super::log::{Item, Log, Range};
use super::record::{short_form, storage_error};
use super::session::Session;
use super::state::State;
use super::viewers::After;
use crate::store::{Store, StoredEvent};

/// Events in one page of the history.
pub const PAGE_EVENTS_MAX: usize = 500;

/// Bytes of events in one page: the rest of the acknowledgement must fit too.
const PAGE_BYTES_MAX: usize = EVENT_BYTES_MAX - 100_000;

/// Beside its data, an event in a page takes about this.
const SHOWN_BYTES: usize = 80;

/// An item as `getHistory` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    seq: u64,
    time: u64,
    name: &'a str,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct History<'a> {
    ok: bool,
    events: &'a RawValue,
    more: bool,
}

/// A page of the history, cut by bytes and by count.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    /// A JSON array of `{seq, time, name, data}`, ascending.
    pub events: String,
    /// Whether there is more in the direction that was asked for.
    pub more: bool,
}

/// How much a page may still take.
struct Budget {
    count: usize,
    bytes: usize,
    /// The first event is always taken.
    first: bool,
}

impl Budget {
    fn take(&mut self, item: &Item) -> bool {
        let bytes = item.data.len() + SHOWN_BYTES;
        let fits = self.count > 0 && (self.first || bytes <= self.bytes);
        if fits {
            self.count -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.first = false;
        } else {
            self.count = 0;
        }
        fits
    }
}

/// A page of which the part that is on the disk may be missing yet.
pub(super) struct Draft {
    /// In the order in which they were taken.
    items: Vec<Item>,
    budget: Budget,
    descending: bool,
    /// Events between these numbers are to be read, if the budget allows it.
    missing: Option<(u64, u64)>,
    /// What follows them in memory, where the page goes upwards.
    behind: Vec<Item>,
    last: u64,
}

impl Draft {
    /// What the log has of it now: nothing that comes later gets in.
    pub(super) fn of(log: &Log, range: Range, count: usize, bytes: usize) -> Draft {
        let mut draft = Draft {
            items: Vec::new(),
            budget: Budget { count, bytes, first: true },
            descending: !matches!(range, Range::After(_)),
            missing: None,
            behind: Vec::new(),
            last: log.position().seq,
        };
        let first = log.first_kept();
        match range {
            Range::After(seq) => match log.after(seq) {
                Some(items) => draft.take_all(items.cloned()),
                None => {
                    draft.missing = Some((seq, first));
                    draft.behind = log.after(first - 1).into_iter().flatten().take(count).cloned().collect();
                }
            },
            Range::Newest | Range::Before(_) => {
                let before = if let Range::Before(seq) = range { seq } else { draft.last + 1 };
                draft.take_all(log.before(before).cloned());
                draft.missing = Some((0, before.min(first))).filter(|(_, before)| *before > 1);
            }
        }
        draft
    }

    fn take_all(&mut self, items: impl Iterator<Item = Item>) {
        for item in items {
            if !self.budget.take(&item) {
                break;
            }
            self.items.push(item);
        }
    }

    /// One event may be more than there is room for, since the first is always taken: then its short form is.
    pub(super) fn cut_to(mut self, bytes: usize, id: &str) -> Draft {
        if let [only] = self.items.as_mut_slice()
            && only.data.len() > bytes
        {
            only.data = short_form(id, only.seq, "", only.data.len()).into();
        }
        self
    }

    /// The numbers of its events.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.items.iter().map(|item| item.seq).collect()
    }

    pub(super) fn finish(mut self) -> Page {
        let more = match self.items.last() {
            Some(item) if self.descending => item.seq > 1,
            Some(item) => item.seq < self.last,
            None => false,
        };
        if self.descending {
            self.items.reverse();
        }
        let raw = |item: &Item| RawValue::from_string(item.data.to_string()).expect("what is in the log is JSON");
        let data: Vec<_> = self.items.iter().map(raw).collect();
        let shown: Vec<Shown<'_>> = (self.items.iter().zip(&data))
            .map(|(item, data)| Shown { seq: item.seq, time: item.time, name: item.name, data })
            .collect();
        Page { events: json(&shown), more }
    }
}

impl Session {
    /// A page of the history, for `getHistory`.
    pub fn history(&self, range: Range, count: usize, reply: Reply) {
        match self.page(range, count.clamp(1, PAGE_EVENTS_MAX), PAGE_BYTES_MAX) {
            Ok(page) => reply.ok(&History { ok: true, events: raw(&page.events), more: page.more }),
            Err(error) => reply.fail(&error),
        }
    }

    /// A page of at most `count` events and about `bytes` bytes, but always at least one event if there is one.
    ///
    /// # Errors
    /// `bad_request` for a number that was never given; when the store cannot be read.
    pub(super) fn page(&self, range: Range, count: usize, bytes: usize) -> Result<Page, Error> {
        Ok(self.draft(range, count, bytes)?.finish())
    }

    /// The events that follow `seq`, as [`Session::page`] has them.
    ///
    /// # Errors
    /// As there.
    pub(super) fn items_after(&self, seq: u64, count: usize, bytes: usize) -> Result<Vec<Item>, Error> {
        Ok(self.draft(Range::After(seq), count, bytes)?.items)
    }

    fn draft(&self, range: Range, count: usize, bytes: usize) -> Result<Draft, Error> {
        let draft = self.with(|state, _| match range {
            Range::After(seq) if seq > state.log.position().seq => Err(above_the_last(state.log.position().seq)),
            _ => Ok(Draft::of(&state.log, range, count, bytes)),
        })?;
        self.read_missing(draft)
    }

    /// Adds to a draft what it needs from the disk.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn read_missing(&self, mut draft: Draft) -> Result<Draft, Error> {
        if let Some((after, before)) = draft.missing
            && draft.budget.count > 0
        {
            let limits = (draft.budget.count, draft.budget.bytes);
            let stored = self.stored_items((after, before), draft.descending, limits)?;
            let complete = stored.last().is_some_and(|item| item.seq + 1 == before);
            draft.take_all(stored.into_iter());
            if complete {
                let behind = std::mem::take(&mut draft.behind);
                draft.take_all(behind.into_iter());
            }
        }
        Ok(draft)
    }

    /// Events on the disk between two numbers, neither included.
    pub(super) fn stored_items(
        &self,
        between: (u64, u64),
        descending: bool,
        limits: (usize, usize),
    ) -> Result<Vec<Item>, Error> {
        let stored = self.context.store.events(self.key, &self.id, between, descending, limits);
        let all = without_holes(stored.map_err(storage_error)?, between, descending, limits.0);
        if all.iter().any(Result::is_err) {
            // What was deleted in the meantime was not lost.
            if self.with(|state, _| state.deleted) {
                return Err(Error::invalid_session());
            }
            log::error!("session {}: events between {} and {} are lost", self.id, between.0, between.1);
        }
        Ok(all
            .into_iter()
            .map(|event| event.map_or_else(|seq| self.lost_item(seq), |event| self.item(event)))
            .collect())
    }

    fn lost_item(&self, seq: u64) -> Item {
        let text = "this event is lost: the server's database is damaged";
        let (level, code) = ("error", "storage_damaged");
        let notice = Notice { session_id: &self.id, seq, level, code, text, prompt_id: None };
        Item { seq, time: 0, name: "notice", data: json(&notice).into(), whole: None }
    }

    fn item(&self, event: StoredEvent) -> Item {
        let (seq, time, name) = (event.seq, event.time, known_name(&event.name));
        if event.data.len() <= EVENT_BYTES_MAX {
            return Item { seq, time, name, data: event.data, whole: None };
        }
        let essentials = event.essentials.unwrap_or_default();
        let short = short_form(&self.id, seq, &essentials, event.data.len()).into();
        Item { seq, time, name, data: short, whole: Some(event.data) }
    }

    /// One event, whole.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn event(&self, seq: u64) -> Result<Option<Arc<str>>, Error> {
        let kept = self.with(|state, _| {
            let item = state.log.item(seq)?;
            Some(item.whole.clone().unwrap_or_else(|| item.data.clone()))
        });
        match kept {
            Some(event) => Ok(Some(event)),
            None if seq >> 32 > 0 => Ok(None),
            None => {
                let stored = self.context.store.event(self.key, &self.id, seq).map_err(storage_error)?;
                Ok(stored.map(|event| event.data))
            }
        }
    }

    /// The number after which a client wants to go on.
    ///
    /// Numbers of an earlier numbering are good as long as they were stored: a new one is begun where some may not have
    /// been, and where a terminal's conversation was copied anew.
    ///
    /// # Errors
    /// `seq_gap` for a numbering or a number that is not known any more, `bad_request` for one that was never given.
    pub(super) fn follow(&self, after: &After) -> Result<u64, Error> {
        let (last, copy) = self.with(|state, _| (state.log.position().seq, state.copy()));
        let store = &self.context.store;
        let named = after.log_id.as_deref().map(|named| named.split_once('-').unwrap_or((named, "")));
        if named.is_some_and(|(_, named)| named != copy) {
            return Err(foreign_log());
        }
        match named {
            Some((log_id, _)) if log_id != store.log_id() => {
                match store.last_seq_of(self.key, log_id).map_err(storage_error)? {
                    Some(known) if after.seq <= known => Ok(after.seq),
                    _ => Err(foreign_log()),
                }
            }
            _ if after.seq > last => Err(above_the_last(last)),
            _ => Ok(after.seq),
        }
    }
}

impl State {
    /// Names the numbering.
    pub(super) fn log_id(&self, store: &Store) -> String {
        match self.copy() {
            copy if copy.is_empty() => store.log_id().to_owned(),
            copy => format!("{}-{copy}", store.log_id()),
        }
    }

    /// Which copy of a terminal's conversation this is: the next one counts from 1 again.
    fn copy(&self) -> String {
        Some(self.imported_bytes).filter(|bytes| *bytes > 0).map_or_else(String::new, |bytes| bytes.to_string())
    }
}

/// All numbers between these two were given: where one is missing it was lost to damage, and a hole in a page would be taken
/// for the end of the history, or for a page to be asked for again. At most `count`, each the event or only its number.
fn without_holes(
    stored: Vec<StoredEvent>,
    (after, before): (u64, u64),
    descending: bool,
    count: usize,
) -> Vec<Result<StoredEvent, u64>> {
    let step = |number: u64| if descending { number.saturating_sub(1) } else { number + 1 };
    let mut next = if descending { before.saturating_sub(1) } else { after + 1 };
    let mut all = Vec::with_capacity(stored.len());
    for event in stored {
        // One that is out of its place has a damaged number.
        if if descending { event.seq > next } else { event.seq < next } {
            continue;
        }
        while next != event.seq && all.len() < count {
            all.push(Err(next));
            next = step(next);
        }
        if all.len() == count {
            return all;
        }
        all.push(Ok(event));
        next = step(next);
    }
    while all.iter().all(Result::is_err) && after < next && next < before && all.len() < count {
        all.push(Err(next));
        next = step(next);
    }
    all
}

fn foreign_log() -> Error {
    Error::new(Code::SeqGap, "these numbers belong to an earlier run of the server: load the history anew")
}

fn above_the_last(last: u64) -> Error {
    Error::field("afterSeq", format!("is above the last number, {last}"))
}

/// Events have one of these names.
fn known_name(name: &str) -> &'static str {
    const NAMES: [&str; 5] = ["claudeEvent", "prompt", "permissionRequest", "permissionResolved", "notice"];
    NAMES.into_iter().find(|known| *known == name).unwrap_or("claudeEvent")
}

/// What an acknowledgement has room for beside this.
pub(super) fn room_beside(session: &Summary) -> usize {
    PAGE_BYTES_MAX.saturating_sub(json(session).len())
}

/// A page's events, to be put into an answer.
pub(super) fn raw(json: &str) -> &RawValue {
    serde_json::from_str(json).expect("the log holds JSON")
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
    fn pages_of_memory_go_both_ways() {
        let log = log(5);
        let cases = [
            (Range::Newest, 2, (vec![4, 5], true)),
            (Range::Newest, 9, (vec![1, 2, 3, 4, 5], false)),
            (Range::After(0), 2, (vec![1, 2], true)),
            (Range::After(3), 2, (vec![4, 5], false)),
            (Range::After(5), 2, (vec![], false)),
            (Range::Before(3), 1, (vec![2], true)),
            (Range::Before(3), 9, (vec![1, 2], false)),
            (Range::Before(1), 9, (vec![], false)),
        ];
        for (range, count, expected) in cases {
            let page = Draft::of(&log, range, count, 10_000).finish();
            assert_eq!((numbers(&page), page.more), expected, "{range:?} {count}");
        }
        assert_eq!(numbers(&Draft::of(&log, Range::After(0), 9, 1).finish()), [1], "never an empty page");
    }

    #[test]
    fn what_is_lost_leaves_its_number() {
        let event = |seq| StoredEvent { seq, time: 0, name: String::new(), data: "{}".into(), essentials: None };
        type Case<'a> = (bool, &'a [u64], (u64, u64), usize, &'a [i64]);
        let cases: [Case<'_>; 14] = [
            (false, &[1, 2, 3], (0, 4), 9, &[1, 2, 3]),
            (false, &[1, 3], (0, 4), 9, &[1, -2, 3]),
            (false, &[3, 4], (0, 9), 9, &[-1, -2, 3, 4]),
            (false, &[4], (0, 9), 2, &[-1, -2]),
            (false, &[2], (0, 9), 2, &[-1, 2]),
            (false, &[], (3, 6), 9, &[-4, -5]),
            (false, &[], (3, 6), 1, &[-4]),
            (false, &[], (5, 6), 9, &[]),
            (false, &[1, 2, 900, 4, 5], (0, 6), 4, &[1, 2, -3, -4]),
            (true, &[3, 2, 1], (0, 4), 9, &[3, 2, 1]),
            (true, &[5, 3], (2, 6), 9, &[5, -4, 3]),
            (true, &[3], (0, 6), 9, &[-5, -4, 3]),
            (true, &[5, 4, 900, 2, 1], (0, 6), 9, &[5, 4, -3, 2, 1]),
            (true, &[], (0, 3), 9, &[-2, -1]),
        ];
        for (descending, stored, between, count, expected) in cases {
            let all = without_holes(stored.iter().copied().map(event).collect(), between, descending, count);
            let signed = all.into_iter().map(|event| match event {
                Ok(event) => event.seq.cast_signed(),
                Err(lost) => -lost.cast_signed(),
            });
            assert_eq!(signed.collect::<Vec<_>>(), expected, "{descending} {stored:?} {between:?} {count}");
        }
    }

    #[test]
    fn what_is_not_in_memory_is_asked_for() {
        let mut log = Log::stored_up_to(7);
        log.append(0, "notice", "{}".into(), None);
        let cases = [
            (Range::Newest, Some((0, 8)), 1),
            (Range::Before(5), Some((0, 5)), 0),
            (Range::Before(1), None, 0),
            (Range::After(7), None, 1),
            (Range::After(3), Some((3, 8)), 0),
        ];
        for (range, missing, taken) in cases {
            let draft = Draft::of(&log, range, 9, 10_000);
            assert_eq!((draft.missing, draft.items.len()), (missing, taken), "{range:?}");
        }
    }
}
