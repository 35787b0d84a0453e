//! What Claude's lines mean for the session.
//!
//! A turn begins with `system`/`init`, whoever caused it (a prompt, or Claude's own background work), and ends with its
//! `result`. Which of the two it was is told by the prompt's uuid: 2.1.330 announces it before the turn and repeats it in
//! the result; 2.1.197 echoes it somewhere in the turn, unless it runs a slash command itself; a stand-in may do neither,
//! and then every turn is taken for the prompt's.

use std::fmt::Write;

use super::conversation::{Covered, is_uuid};
use super::events::{EVENT_BYTES_MAX, StreamChunk, StreamMark, json};
use super::fanout::{Audience, Batch, Stream};
use super::plain::{NAME_CHARS_MAX, shortened};
use super::response::End;
use super::session::Session;
use super::state::{Phase, State};
use crate::proto::claude::{self, Delta, Init, Kind, Outcome, TextDelta};
use crate::proto::ndjson::{Line, Splitter};
use crate::store::Change;
use serde_json::value::RawValue;

/// The running answer's text that is kept for `fullResponse` and `soFar`, in bytes of JSON; beyond it only the chunks have
/// it.
const TURN_TEXT_BYTES_MAX: usize = EVENT_BYTES_MAX - 50_000;

/// What went wrong is told in so many characters.
const ERROR_CHARS_MAX: usize = 2000;

/// A longer piece of text goes out in several chunks; in JSON it may take six times its bytes.
const CHUNK_BYTES_MAX: usize = EVENT_BYTES_MAX / 7;

/// What Claude is doing right now.
pub(super) struct Turn {
    /// The prompt it answers; none if Claude began it itself.
    pub prompt_id: Option<String>,
    /// The answer's text so far.
    pub text: String,
    /// Its length as JSON.
    pub text_json_bytes: usize,
    /// There was more text than is kept.
    pub text_lost: bool,
    /// The message that comes in pieces just now.
    pub message_id: Option<String>,
    /// Some of its text has come, so its finished block is not sent again.
    pub streamed: bool,
    /// What went wrong with the API, where Claude has just said so in the model's place: its word for it.
    pub error: Option<String>,
}

impl State {
    /// Takes all complete lines.
    pub(super) fn on_output(&mut self, lines: &mut Splitter, batch: &mut Batch, session: &Session) {
        while let Some(line) = lines.next_line() {
            match line {
                Line::Whole(bytes) => match TextDelta::read(bytes) {
                    Some(delta) => self.on_text_delta(&delta, batch),
                    None => match claude::parse(bytes) {
                        Ok(line) => self.on_line(&line, batch, session),
                        Err(claude::NotJson) => self.on_bad_line(bytes),
                    },
                },
                Line::TooLong(bytes) => self.on_long_line(bytes, batch),
            }
        }
    }

    fn on_bad_line(&mut self, line: &[u8]) {
        self.bad_lines += 1;
        // One that prints nothing else must not flood the log as well.
        if self.bad_lines.is_power_of_two() {
            let (id, count) = (&self.id, self.bad_lines);
            log::warn!("session {id}: skipped a line of the process that is not JSON ({count} so far)");
            log::debug!("session {id}: that line began {:?}", String::from_utf8_lossy(&line[..line.len().min(80)]));
        }
    }

    fn on_long_line(&mut self, bytes: u64, batch: &mut Batch) {
        let id = json(&&*self.id);
        self.record(batch, Audience::Only(Stream::Events), "claudeEvent", "", |seq| {
            format!(r#"{{"sessionId":{id},"seq":{seq},"truncated":true,"bytes":{bytes}}}"#)
        });
        let text = format!("Claude printed a line of {bytes} bytes, too long to be passed on");
        self.notice(batch, "warning", "line_too_long", &text);
    }

    /// Every line names its conversation; `/clear` and a fork begin another.
    fn follow_conversation(&mut self, uuid: Option<&str>) {
        if let Some(uuid) = uuid
            && uuid != self.conversation.uuid
            && self.phase != Phase::Starting
            && is_uuid(uuid)
        {
            log::info!("session {}: Claude's conversation is now {uuid}", self.id);
            self.conversation.changes_to(uuid);
            self.forget_asides();
        }
    }

    fn on_line(&mut self, line: &claude::Line<'_>, batch: &mut Batch, session: &Session) {
        self.follow_conversation(line.session_id.as_deref());
        match &line.kind {
            Kind::Delta(delta) => return self.on_delta(delta, line.raw, batch),
            Kind::ControlResponse { request_id, answer } => {
                return self.on_control_response(request_id, answer, batch, session);
            }
            Kind::ControlRequest { request_id, can_use_tool: Some(asked), request } => {
                return self.on_question(request_id, asked, request, batch);
            }
            Kind::ControlCancel { request_id } if self.open_question(request_id).is_some() => {
                return self.withdraw(request_id, batch);
            }
            Kind::KeepAlive => return,
            _ => {}
        }
        self.relay(line.raw, batch);
        match &line.kind {
            Kind::Init(init) => self.on_init(init, batch, session),
            Kind::Assistant { message_id, text: Some(text), error, .. } => {
                self.on_whole_text(text, message_id.as_deref(), batch);
                // What Claude says in the model's place is a text, too.
                let error = error.as_ref().map(|error| shortened(error, NAME_CHARS_MAX));
                self.turn.iter_mut().for_each(|turn| turn.error.clone_from(&error));
            }
            Kind::Replay { uuid } => {
                self.names_prompts = true;
                self.mark_begun(uuid);
            }
            Kind::Lifecycle { uuid, state } => self.on_lifecycle(uuid, state, batch, session),
            Kind::Result(outcome) if self.phase != Phase::Starting => self.on_result(outcome, batch, session),
            Kind::ControlRequest { request_id, request, .. } => {
                log::debug!("session {}: Claude asked what is not served here: {request}", self.id);
                self.write(claude::control_error_line(request_id, "this client does not serve this request"));
            }
            _ => {}
        }
        self.on_aside(&line.kind, batch);
        self.follow(&line.kind);
    }

    fn on_init(&mut self, init: &Init<'_>, batch: &mut Batch, session: &Session) {
        self.conversation.has_begun();
        let keep = |known: &mut Option<String>, told: &Option<std::borrow::Cow<'_, str>>| {
            if let Some(told) = told {
                *known = Some(shortened(told, NAME_CHARS_MAX));
            }
        };
        keep(&mut self.model_in_use, &init.model);
        keep(&mut self.permission_mode_in_use, &init.permission_mode);
        let version = init.version.as_ref().map(|version| shortened(version, NAME_CHARS_MAX));
        self.on_version(version, batch, session);
        self.begin_turn(batch);
    }

    /// A fork made from now on goes on from this message, if it can.
    fn follow(&mut self, line: &Kind<'_>) {
        let text_bytes = self.turn.as_ref().map_or(0, |turn| turn.text.len());
        let now = Covered { seq: self.log.position().seq, text_bytes };
        if let Some(message) = self.conversation.follow(line, now) {
            self.pending.push(Change::LastMessage(self.key, message.to_owned()));
        }
    }

    /// Passes a line on as it came, as a numbered event.
    fn relay(&mut self, line: &str, batch: &mut Batch) {
        let id = self.id.clone();
        self.record(batch, Audience::Only(Stream::Events), "claudeEvent", "", |seq| {
            let mut data = String::with_capacity(line.len() + 80);
            let _ = write!(data, r#"{{"sessionId":{},"seq":{seq},"event":{line}}}"#, json(&&*id));
            data
        });
    }

    fn begin_turn(&mut self, batch: &mut Batch) {
        self.mark_stream_end(batch);
        if self.running.is_none() {
            self.conversation.expect_answer_behind(self.log.position().seq.saturating_sub(1));
        }
        let tells = self.tells_lifecycle;
        let running = self.running.as_ref().filter(|running| running.written && (running.begun || !tells));
        let prompt_id = running.map(|running| running.prompt.id.clone());
        let mark = StreamMark { session_id: &self.id, prompt_id: prompt_id.as_deref(), so_far: None };
        batch.event(Audience::Only(Stream::Text), "claudeStreamStart", &[&json(&mark)]);
        let stop_again = running.is_some_and(|running| running.interrupted) && self.interrupt.is_none();
        self.turn = Some(Turn {
            prompt_id,
            text: String::new(),
            text_json_bytes: 0,
            text_lost: false,
            message_id: None,
            streamed: false,
            error: None,
        });
        if self.phase == Phase::Idle {
            self.phase = Phase::Busy;
        }
        self.changed = true;
        if stop_again {
            self.interrupt_again();
        }
    }

    /// An interrupt that comes while the prompt is only queued is answered, but stops nothing (seen on 2.1.330).
    fn interrupt_again(&mut self) {
        let request_id = self.next_control_id();
        self.write(claude::control_request_line(&request_id, "interrupt"));
    }

    /// Tells `text` viewers that the running answer is over.
    pub(super) fn mark_stream_end(&self, batch: &mut Batch) {
        if let Some(turn) = &self.turn {
            let mark = StreamMark { session_id: &self.id, prompt_id: turn.prompt_id.as_deref(), so_far: None };
            batch.event(Audience::Only(Stream::Text), "claudeStreamEnd", &[&json(&mark)]);
        }
    }

    fn on_text_delta(&mut self, delta: &TextDelta<'_>, batch: &mut Batch) {
        self.follow_conversation(delta.session_id);
        self.relay_delta(delta.raw, batch);
        if delta.in_main_conversation {
            self.on_streamed_text(&delta.text, batch);
        }
    }

    fn on_delta(&mut self, delta: &Delta<'_>, line: &str, batch: &mut Batch) {
        self.relay_delta(line, batch);
        match delta {
            Delta::MessageStart { id } => {
                self.end_retry();
                if let Some(turn) = &mut self.turn {
                    turn.message_id = Some(id.to_string());
                    turn.streamed = false;
                }
            }
            Delta::Text(text) => self.on_streamed_text(text, batch),
            Delta::Other => {}
        }
    }

    /// Passes a delta on as it came; it is not stored.
    fn relay_delta(&mut self, line: &str, batch: &mut Batch) {
        let part = self.log.delta(line);
        if batch.wanted_by(Stream::Events) {
            let seq = self.log.position().seq;
            self.deltas.push(batch, &self.id, (seq, part), line);
        }
    }

    fn on_streamed_text(&mut self, text: &str, batch: &mut Batch) {
        self.on_text(text, batch);
        if let Some(turn) = &mut self.turn {
            turn.streamed = true;
        }
    }

    /// A finished block's text, unless it has come in pieces already.
    fn on_whole_text(&mut self, text: &str, message_id: Option<&str>, batch: &mut Batch) {
        let streamed = self.turn.as_ref().is_some_and(|turn| {
            turn.streamed && (turn.message_id.is_none() || turn.message_id.as_deref() == message_id)
        });
        if !streamed {
            self.on_text(text, batch);
        }
    }

    fn on_text(&mut self, text: &str, batch: &mut Batch) {
        // Only a prompt's answer may do without its `init`: other text outside a turn would begin one that nothing ends.
        if self.turn.is_none() && self.running.as_ref().is_some_and(|running| running.written) {
            self.begin_turn(batch);
        }
        let Some(turn) = &mut self.turn else { return };
        if !turn.text_lost {
            turn.text_json_bytes += json_bytes(text);
            turn.text_lost = turn.text_json_bytes > TURN_TEXT_BYTES_MAX;
        }
        if !turn.text_lost {
            turn.text.push_str(text);
        }
        if batch.wanted_by(Stream::Text) {
            for text in pieces(text, CHUNK_BYTES_MAX) {
                let chunk = StreamChunk { session_id: &self.id, prompt_id: turn.prompt_id.as_deref(), text };
                batch.event(Audience::Only(Stream::Text), "claudeStreamChunk", &[&json(&chunk)]);
            }
        }
    }

    fn mark_begun(&mut self, uuid: &str) {
        if let Some(running) = self.running.as_mut().filter(|running| running.prompt.uuid == uuid) {
            running.begun = true;
        }
    }

    fn on_lifecycle(&mut self, uuid: &str, state: &str, batch: &mut Batch, session: &Session) {
        (self.tells_lifecycle, self.names_prompts) = (true, true);
        match state {
            "started" => self.mark_begun(uuid),
            "completed" | "cancelled" if self.running.as_ref().is_some_and(|running| running.prompt.uuid == uuid) => {
                // The result, which comes first, was missed (a line too long) or did not name its prompt.
                log::warn!("session {}: a prompt was {state} without a result of its own", self.id);
                let status = if state == "cancelled" { "interrupted" } else { "done" };
                self.end_turn(batch, Some(End::unaccounted(status, None)), session);
            }
            _ => {}
        }
    }

    fn on_result(&mut self, outcome: &Outcome<'_>, batch: &mut Batch, session: &Session) {
        let dollars = self.account.add(outcome);
        self.conversation.has_begun();
        self.conversation.tried_other = false;
        self.turns += 1;
        self.crashes = 0;
        self.end_retry();
        // 2.1.197 does not echo a slash command that it runs itself. What Claude begins by itself asks the model.
        let command = outcome.num_turns == Some(0);
        let ours = self.running.as_ref().filter(|running| running.written).filter(|running| {
            if outcome.prompts.is_empty() {
                running.begun || !self.names_prompts || (command && !self.tells_lifecycle)
            } else {
                outcome.prompts.iter().any(|uuid| *uuid == running.prompt.uuid)
            }
        });
        let (is_ours, interrupted) = (ours.is_some(), ours.is_some_and(|running| running.interrupted));
        let failed = outcome.is_error || outcome.subtype != "success";
        let trouble = if failed { self.on_trouble(outcome, batch) } else { None };
        if !failed && !command {
            self.failure = None;
        }
        let error = || shortened(outcome.result.as_deref().unwrap_or(&outcome.subtype), ERROR_CHARS_MAX);
        let (code, error) = match trouble {
            Some((code, sentence)) => (Some(code), Some(sentence)),
            None => (None, failed.then(error)),
        };
        let status = match (failed, interrupted) {
            (false, _) => "done",
            (true, true) => "interrupted",
            (true, false) => "failed",
        };
        let is_failed = status == "failed";
        let end = is_ours.then(|| End {
            status,
            error: error.as_deref().filter(|_| is_failed),
            code: code.filter(|_| is_failed),
            outcome: Some((outcome, dollars)),
        });
        if end.as_ref().is_some_and(|end| end.status == "done") {
            self.follow_command(session);
        }
        self.end_turn(batch, end, session);
    }

    /// The turn is over; `end` is how, if it was the running prompt's.
    fn end_turn(&mut self, batch: &mut Batch, end: Option<End<'_>>, session: &Session) {
        self.mark_stream_end(batch);
        if let Some(end) = end {
            self.finish_prompt(batch, &end);
        }
        // One that was interrupted before it began is interrupted again when it does, and must end then.
        let interrupted = self.running.as_ref().is_some_and(|running| running.written && running.interrupted);
        self.end_until = interrupted.then(|| std::time::Instant::now() + session.context.interrupt_timeout);
        (self.turn, self.spare) = (None, Vec::new());
        self.todos.end_turn();
        self.close_questions(batch, |question| question.agent.is_none());
        // A turn of Claude's own may have come before a prompt that is about to be written.
        if self.phase == Phase::Busy && self.running.as_ref().is_none_or(|running| !running.written) {
            self.phase = Phase::Idle;
            self.idle_since = std::time::Instant::now();
        }
        self.changed = true;
        self.advance(batch, session);
    }

    fn on_control_response(
        &mut self,
        request_id: &str,
        answer: &Result<Option<&RawValue>, std::borrow::Cow<'_, str>>,
        batch: &mut Batch,
        session: &Session,
    ) {
        if self.phase == Phase::Starting && request_id == self.initialize_id() {
            return self.on_initialized(answer, batch, session);
        }
        if self.interrupt.as_ref().is_some_and(|interrupt| interrupt.request_id == request_id) {
            let missed = self.running.as_ref().is_some_and(|running| still_queued(answer, &running.prompt.uuid));
            self.end_interrupt();
            if missed && self.turn.is_some() {
                self.interrupt_again();
            }
            return self.advance(batch, session);
        }
        if self.on_control_answer(request_id, answer, session) {
            return;
        }
        if let Err(error) = answer {
            log::warn!("session {}: Claude refuses the request {request_id}: {error}", self.id);
        }
    }
}

/// Whether Claude's answer to an interrupt says that the prompt of this uuid still waits.
fn still_queued(answer: &Result<Option<&RawValue>, std::borrow::Cow<'_, str>>, uuid: &str) -> bool {
    #[derive(serde::Deserialize)]
    struct Answer {
        still_queued: Vec<String>,
    }
    let answer = answer.as_ref().ok().copied().flatten();
    let answer = answer.and_then(|raw| serde_json::from_str::<Answer>(raw.get()).ok());
    answer.is_some_and(|answer| answer.still_queued.iter().any(|queued| queued == uuid))
}

/// How many bytes a text takes inside a JSON string.
fn json_bytes(text: &str) -> usize {
    let needs_escape = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    // Without a branch for each byte, the usual text without any is done many bytes at a time.
    if !text.bytes().fold(false, |found, byte| found | needs_escape(byte)) {
        return text.len();
    }
    let escape = |byte: u8| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(escape).sum::<usize>()
}

/// `text` in pieces of at most `bytes_max` bytes, cut between characters.
fn pieces(mut text: &str, bytes_max: usize) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (piece, rest) = text.split_at(text.floor_char_boundary(bytes_max));
        text = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_in_json_is_known_beforehand() {
        for text in ["", "abc", "a\"b\\c\n\r\t\u{8}\u{c}\u{1}\u{7f}", "äöü€"] {
            assert_eq!(json_bytes(text), json(&text).len() - 2, "{text:?}");
        }
    }

    #[test]
    fn pieces_are_cut_between_characters() {
        let cases: [(&str, &[&str]); 4] =
            [("", &[]), ("abcd", &["abcd"]), ("abcdef", &["abcd", "ef"]), ("aäöü", &["aä", "öü"])];
        for (text, expected) in cases {
            assert_eq!(pieces(text, 4).collect::<Vec<_>>(), expected);
        }
    }
}
