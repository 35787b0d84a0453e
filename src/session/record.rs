//! What happens is numbered, told to the viewers, and handed to the store.

use std::sync::Arc;

use serde::Serialize;

use super::error::{Code, Error};
use super::events::{EVENT_BYTES_MAX, Notice, json, now_ms};
use super::fanout::{Audience, Batch, Reply};
use super::state::State;
use crate::store::{Change, EventRow, Store, Submission, Trouble, event_head};

impl State {
    /// Numbers an event, adds it to the log, the batch and what the store is to get. Returns its data as viewers see it.
    ///
    /// `data` makes its JSON from its number. Where that is too large for the wire, viewers get `essentials` (JSON
    /// members, such as `"requestId":"r"`) and the size, and the whole of it stays in the log.
    pub(super) fn record(
        &mut self,
        batch: &mut Batch,
        audience: Audience,
        name: &'static str,
        essentials: &str,
        data: impl FnOnce(u64) -> String,
    ) -> Arc<str> {
        let (seq, time) = (self.log.next_seq(), now_ms());
        let whole: Arc<str> = data(seq).into();
        let too_large = whole.len() > EVENT_BYTES_MAX;
        let data = if too_large { short_form(&self.id, seq, essentials, whole.len()).into() } else { whole.clone() };
        batch.event(audience, name, &[&data]);
        self.pending.push(Change::Event(EventRow {
            session: self.key,
            seq,
            time,
            name,
            data: whole.clone(),
            rest_at: event_head(&self.id, seq).len(),
            essentials: Some(essentials).filter(|_| too_large).map(Into::into),
            stored: self.log.stored().clone(),
        }));
        self.log.append(time, name, data.clone(), Some(whole).filter(|_| too_large));
        data
    }

    pub(super) fn notice(&mut self, batch: &mut Batch, level: &'static str, code: &'static str, text: &str) {
        let prompt_id = self.running.as_ref().map(|running| running.prompt.id.clone());
        self.notice_of(batch, level, code, text, prompt_id.as_deref());
    }

    /// A notice about that prompt.
    pub(super) fn notice_of(
        &mut self,
        batch: &mut Batch,
        level: &'static str,
        code: &'static str,
        text: &str,
        prompt_id: Option<&str>,
    ) {
        let id = self.id.clone();
        self.record(batch, Audience::All, "notice", "", |seq| {
            json(&Notice { session_id: &id, seq, level, code, text, prompt_id })
        });
    }

    /// Hands what has happened to the store; its order is the order of the calls, under the session's lock.
    pub(super) fn submit(&mut self, store: &Store) {
        let mut changes = std::mem::take(&mut self.pending);
        if self.gone {
            // Nobody comes to it any more: all that is left to say is that.
            changes.retain(|change| matches!(change, Change::Delete(_)));
        }
        self.wrote |= !changes.is_empty();
        let done = std::mem::take(&mut self.on_stored);
        if !changes.is_empty() || !done.is_empty() {
            store.submit(Submission { changes, done, refusable: false, on_its_way: self.on_its_way.clone() });
        }
    }

    /// It goes although nothing was ever asked in it: what its process has said is not kept either.
    pub(super) fn forget(&mut self) {
        self.gone = true;
        if std::mem::take(&mut self.wrote) {
            self.pending.push(Change::Delete(self.key));
        }
    }

    /// Whether the store has all of it.
    pub(super) fn is_stored(&self) -> bool {
        Arc::strong_count(&self.on_its_way) == 1
    }

    /// Stores when somebody was here last: for that alone it is not written each time.
    pub(super) fn store_touch(&mut self) {
        if std::mem::take(&mut self.touched) && !self.reserved && !self.deleted {
            self.pending.push(Change::Session(Box::new(self.row())));
        }
    }

    /// Says yes once what has happened until now is on the disk: or the server could die, and the next one would know
    /// nothing of it, and run what was to be stopped.
    pub(super) fn ok_when_stored(&mut self, reply: Reply, answer: impl Serialize + Send + 'static) {
        self.on_stored.push(Box::new(move |outcome| match outcome {
            Ok(_) => reply.ok(&answer),
            Err(trouble) => reply.fail(&storage_error(trouble)),
        }));
    }
}

/// What viewers get of an event that is too large for the wire.
pub(super) fn short_form(id: &str, seq: u64, essentials: &str, bytes: usize) -> String {
    let comma = if essentials.is_empty() { "" } else { "," };
    format!(r#"{}{comma}{essentials},"truncated":true,"bytes":{bytes}}}"#, event_head(id, seq))
}

/// A refusal because the store is in trouble.
pub(super) fn storage_error(trouble: Trouble) -> Error {
    match trouble {
        Trouble::Full => Error::new(
            Code::StorageFull,
            "the server's data directory cannot be written: make room there, then ask again",
        ),
        Trouble::Damaged => Error::new(Code::StorageDamaged, "what the server has stored of this cannot be read"),
    }
}
