//! What Claude asks: permission questions, from when they come until they are closed.
//!
//! A question of the main conversation is closed with its turn at the latest. One of an agent is not: in the background it
//! goes on, and waits, while turns begin and end; its questions are closed with its task. Claude withdraws itself what it
//! no longer wants to know (`control_cancel_request`), and none outlives the process. What is closed here although Claude
//! has not withdrawn it is answered with a no, as somebody there may still wait; 2.1.330 takes no notice of an answer that
//! nobody waits for.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;

use super::error::{Code, Error};
use super::events::{PermissionRequest, PermissionResolved, json};
use super::fanout::{Audience, Batch, Reply};
use super::plain::plain;
use super::plain::{NAME_CHARS_MAX, shortened};
use super::session::Session;
use super::state::{Phase, State};
use crate::failpoint;
use crate::proto::claude::{self, CanUseTool, Permission};
use crate::store::Change;

/// Questions that may be open in one session: Claude asks one for each tool that it wants to run at the same time.
pub const QUESTIONS_MAX: usize = 64;

/// What they may take in all, in bytes: each is kept for those who come later, with the input that an answer sends back.
pub const QUESTIONS_BYTES_MAX: usize = 16 << 20;

/// Answered questions that are remembered here, so that a late answer is told who was first; the store knows the others.
pub const RESOLVED_MAX: usize = 256;

/// Why a question must be asked is told in so many characters.
const REASON_CHARS_MAX: usize = 1000;

/// What Claude reads where its question was closed without an answer.
const CLOSED: &str = "Nobody has answered this, and what it was asked for is over.";

/// A client's answer to a permission question.
#[derive(Debug)]
pub struct Answer {
    /// Which question.
    pub request_id: String,
    /// Yes or no.
    pub decision: Decision,
    /// Who, as other viewers see it.
    pub by: String,
}

/// Yes or no, with what belongs to it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub enum Decision {
    Allow { updated_input: Option<Box<RawValue>>, updated_permissions: Option<Box<RawValue>> },
    Deny { message: String, interrupt: bool },
}

/// An open permission question.
pub(super) struct Question {
    /// The number of its event.
    pub seq: u64,
    pub request_id: String,
    /// The agent that asks, by the name of its task; none where it is the main conversation.
    pub agent: Option<String>,
    pub input: Box<RawValue>,
    /// Its `permissionRequest`, for those who come later.
    pub data: Arc<str>,
}

impl Question {
    fn bytes(&self) -> usize {
        self.input.get().len() + self.data.len()
    }
}

/// How a question ended.
pub(super) struct Resolved {
    pub request_id: String,
    pub behavior: &'static str,
    pub by: String,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

impl Session {
    /// Answers a permission question. The first answer counts; Claude gets it once it is on the disk, so that no tool runs
    /// by an answer that nobody finds afterwards.
    pub fn answer(&self, answer: &Answer, reply: Reply) {
        let reply = self.with(|state, batch| {
            let Some(at) = state.open_question(&answer.request_id) else { return Some(reply) };
            if state.process.is_none() || state.phase == Phase::Stopping {
                reply.fail(&taken_no_more());
                return None;
            }
            let question = &state.questions[at];
            let (permission, behavior) = match &answer.decision {
                Decision::Allow { updated_input, updated_permissions } => {
                    let updated_input = updated_input.as_deref().unwrap_or(&question.input);
                    let updated_permissions = updated_permissions.as_deref();
                    (Permission::Allow { updated_input, updated_permissions }, "allow")
                }
                Decision::Deny { message, interrupt } => (Permission::Deny { message, interrupt: *interrupt }, "deny"),
            };
            let line = claude::permission_line(&answer.request_id, &permission);
            if matches!(answer.decision, Decision::Deny { interrupt: true, .. }) {
                state.expect_stop_by(at, self);
            }
            state.resolve(batch, at, behavior, &answer.by);
            let Some(session) = self.itself.upgrade() else { return Some(reply) };
            let launch = state.launch;
            state.on_stored.push(Box::new(move |_| {
                failpoint::reach("resolved");
                let taken = session.with(|state, _| state.launch == launch && state.write(line));
                match taken {
                    true => reply.ok(&Done { ok: true }),
                    false => reply.fail(&taken_no_more()),
                }
            }));
            None
        });
        if let Some(reply) = reply {
            reply.fail(&self.stale(&answer.request_id));
        }
    }

    /// Why an answer comes too late: who was first, and how.
    fn stale(&self, request_id: &str) -> Error {
        let earlier = self.with(|state, _| {
            let earlier = state.resolved.iter().rev().find(|resolved| resolved.request_id == request_id);
            earlier.map(|earlier| (earlier.behavior.to_owned(), earlier.by.clone()))
        });
        let earlier = earlier.or_else(|| self.context.store.resolution(self.key, request_id).ok().flatten());
        let (behavior, by) = earlier.unzip();
        Error::new(Code::StaleRequest, "this question is not open (any more)").with("by", by).with("behavior", behavior)
    }
}

impl State {
    /// The place of the open question of that name.
    pub(super) fn open_question(&self, request_id: &str) -> Option<usize> {
        self.questions.iter().position(|question| question.request_id == request_id)
    }

    pub(super) fn on_question(
        &mut self,
        request_id: &str,
        asked: &CanUseTool<'_>,
        request: &RawValue,
        batch: &mut Batch,
    ) {
        if self.open_question(request_id).is_some() {
            return;
        }
        let bytes = self.questions.iter().map(Question::bytes).sum::<usize>() + request.get().len();
        let too_many = self.questions.len() >= QUESTIONS_MAX || bytes > QUESTIONS_BYTES_MAX;
        if too_many || request_id.len() > NAME_CHARS_MAX {
            self.write(claude::control_error_line(request_id, "too many questions are open"));
            let name = shortened(&asked.tool_name, NAME_CHARS_MAX);
            let text = format!("Claude wanted to use {name} and was told no: too many questions are open already");
            self.notice(batch, "warning", "question_refused", &text);
            return;
        }
        let id = self.id.clone();
        let tool_name = shortened(&asked.tool_name, NAME_CHARS_MAX);
        let essentials = format!(r#""requestId":{},"toolName":{}"#, json(&request_id), json(&tool_name));
        let reason = asked.reason.as_deref().map(|reason| plain(reason, REASON_CHARS_MAX));
        let none: &RawValue = serde_json::from_str("[]").expect("an empty array");
        let data = self.record(batch, Audience::All, "permissionRequest", &essentials, |seq| {
            json(&PermissionRequest {
                session_id: &id,
                seq,
                request_id,
                tool_name: &tool_name,
                input: asked.input,
                description: asked.description.as_deref(),
                reason: reason.as_deref(),
                suggestions: asked.suggestions.unwrap_or(none),
                request,
            })
        });
        self.pending.push(Change::Question(self.key, request_id.to_owned()));
        self.questions.push(Question {
            seq: self.log.position().seq,
            request_id: request_id.to_owned(),
            agent: asked.agent_id.as_deref().map(|id| shortened(id, NAME_CHARS_MAX)),
            input: asked.input.to_owned(),
            data,
        });
        self.changed = true;
    }

    /// Tells one who comes of the open questions that it has not seen.
    pub(super) fn replay_questions(&self, batch: &mut Batch, has_seen: impl Fn(u64) -> bool) {
        for question in self.questions.iter().filter(|question| !has_seen(question.seq)) {
            batch.event(Audience::All, "permissionRequest", &[&question.data]);
        }
    }

    /// The answer to question number `at` is to stop whoever asks as well. An agent stops alone (2.1.330), also one that the
    /// turn waits for; the conversation stops as by an interrupt: its prompt ends as interrupted, and if the turn does not
    /// end, the process is stopped.
    fn expect_stop_by(&mut self, at: usize, session: &Session) {
        if self.phase != Phase::Busy || self.questions[at].agent.is_some() {
            return;
        }
        self.end_until.get_or_insert(Instant::now() + session.context.interrupt_timeout);
        // The turn may be one of Claude's own, before that of a prompt.
        let of_another = |id: &str| self.turn.as_ref().is_some_and(|turn| turn.prompt_id.as_deref() != Some(id));
        if let Some(running) =
            self.running.as_mut().filter(|running| running.written && !of_another(&running.prompt.id))
        {
            running.interrupted = true;
        }
    }

    /// Closes question number `at`: every viewer sees how, and by whom.
    fn resolve(&mut self, batch: &mut Batch, at: usize, behavior: &'static str, by: &str) {
        let question = self.questions.remove(at);
        self.record_resolved(batch, &question.request_id, behavior, by);
        self.changed = true;
    }

    /// Tells every viewer how a question ended, and keeps it for answers that come too late.
    pub(super) fn record_resolved(&mut self, batch: &mut Batch, request_id: &str, behavior: &'static str, by: &str) {
        let id = self.id.clone();
        self.record(batch, Audience::All, "permissionResolved", "", |seq| {
            json(&PermissionResolved { session_id: &id, seq, request_id, behavior, by })
        });
        self.pending.push(Change::Resolved(self.key, request_id.to_owned(), behavior, by.to_owned()));
        if self.resolved.len() >= RESOLVED_MAX {
            self.resolved.pop_front();
        }
        self.resolved.push_back(Resolved { request_id: request_id.to_owned(), behavior, by: by.to_owned() });
    }

    /// Claude no longer wants an answer.
    pub(super) fn withdraw(&mut self, request_id: &str, batch: &mut Batch) {
        if let Some(at) = self.open_question(request_id) {
            self.resolve(batch, at, "cancelled", "claude");
        }
    }

    /// Closes the questions of those who are done.
    pub(super) fn close_questions(&mut self, batch: &mut Batch, is_over: impl Fn(&Question) -> bool) {
        while let Some(at) = self.questions.iter().position(&is_over) {
            let no = Permission::Deny { message: CLOSED, interrupt: false };
            let line = claude::permission_line(&self.questions[at].request_id, &no);
            self.resolve(batch, at, "cancelled", "claude");
            self.write(line);
        }
    }

    /// No open question outlives its process.
    pub(super) fn cancel_questions(&mut self, batch: &mut Batch, by: &str) {
        while !self.questions.is_empty() {
            self.resolve(batch, 0, "cancelled", by);
        }
    }
}

fn taken_no_more() -> Error {
    Error::new(Code::AgentFailed, "the process takes no answer any more")
}
