//! What clients ask of a session: prompts, interrupts, answers, the end.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use serde::Serialize;
use serde_json::value::RawValue;

use super::attachments::Attached;
use super::error::{Code, Error};
use super::events::{PermissionResolved, PromptAsked, Response, Summary, json, now_ms};
use super::fanout::{Audience, Batch, Reply, Stream};
use super::session::Session;
use super::state::{
    Interrupt, PROMPT_IDS_MAX, Phase, Prompt, QUEUE_BYTES_MAX, QUEUE_PROMPTS_MAX, RESOLVED_MAX, Resolved, Running,
    State, shortened, uuid_v4,
};
use crate::proto::claude::{self, Permission};

/// A prompt as a client sends it.
#[derive(Debug, Clone)]
pub struct Ask {
    /// The client's name for it, or one that we made.
    pub prompt_id: String,
    /// What the user typed.
    pub text: String,
    /// What Claude gets, where that is not the text alone: the JSON of a message's `content`, on one line.
    pub content: Option<String>,
    /// What viewers see of the files that came with it.
    pub attachments: Vec<Attached>,
}

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    ok: bool,
    prompt_id: &'a str,
    position: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Interrupted {
    ok: bool,
    still_queued: Vec<String>,
}

#[derive(Serialize)]
struct Done {
    ok: bool,
}

#[derive(Serialize)]
struct WithSession {
    ok: bool,
    session: Summary,
}

impl Session {
    /// Accepts a prompt: it runs now, or waits its turn.
    pub fn ask(&self, ask: Ask, reply: Reply) {
        self.with(|state, batch| match state.accept(ask) {
            Err(error) => reply.fail(&error),
            Ok((prompt_id, position)) => {
                reply.ok(&Asked { ok: true, prompt_id: &prompt_id, position });
                state.last_activity = now_ms();
                state.advance(batch, self);
            }
        });
    }

    /// Stops the running turn. The reply comes when Claude has answered.
    pub fn interrupt(&self, prompt_id: Option<&str>, clear_queue: bool, reply: Reply) {
        self.with(|state, batch| {
            if clear_queue {
                state.clear_queue(batch);
            }
            let other = |running: &Running| prompt_id.is_some_and(|id| id != running.prompt.id);
            if state.running.as_ref().is_some_and(other) || (prompt_id.is_some() && state.running.is_none()) {
                // What was to be stopped has ended by itself: as wanted.
                return reply.ok(&state.still_queued());
            }
            if let Some(interrupt) = &mut state.interrupt {
                return interrupt.replies.push(reply);
            }
            match &mut state.running {
                Some(running) if !running.written => {
                    running.interrupted = true;
                    state.finish_prompt(batch, "interrupted", None, None);
                    reply.ok(&state.still_queued());
                    state.advance(batch, self);
                }
                _ if state.phase == Phase::Busy => {
                    let until = Instant::now() + self.context.interrupt_timeout;
                    state.end_until.get_or_insert(until);
                    if let Some(running) = &mut state.running {
                        running.interrupted = true;
                    }
                    let request_id = state.next_control_id();
                    state.write(claude::control_request_line(&request_id, "interrupt"));
                    state.interrupt = Some(Interrupt { request_id, until, replies: vec![reply] });
                }
                _ => reply.ok(&state.still_queued()),
            }
        });
    }

    /// Takes a waiting prompt out of the queue.
    pub fn cancel(&self, prompt_id: &str, reply: Reply) {
        self.with(|state, batch| {
            if let Some(at) = state.queue.iter().position(|prompt| prompt.id == prompt_id) {
                if let Some(prompt) = state.queue.remove(at) {
                    state.respond_unasked(batch, &prompt);
                }
                state.changed = true;
                return reply.ok(&Done { ok: true });
            }
            let running = state.running.as_ref().is_some_and(|running| running.prompt.id == prompt_id);
            let known = state.prompt_ids.iter().any(|(id, _)| id == prompt_id);
            reply.fail(&match (running, known) {
                (true, _) => Error::new(Code::Conflict, "this prompt runs already: interrupt it instead"),
                (_, true) => Error::new(Code::Conflict, "this prompt is over already"),
                _ => Error::field("promptId", "is not a prompt of this session"),
            });
        });
    }

    /// Answers a permission question. The first answer counts.
    pub fn answer(&self, answer: &Answer, reply: Reply) {
        self.with(|state, batch| {
            let Some(at) = state.questions.iter().position(|question| question.request_id == answer.request_id) else {
                let earlier = state.resolved.iter().find(|resolved| resolved.request_id == answer.request_id);
                let (by, behavior) = match earlier {
                    Some(earlier) => (Some(earlier.by.clone()), Some(earlier.behavior)),
                    None => (None, None),
                };
                let error = Error::new(Code::StaleRequest, "this question is not open (any more)");
                return reply.fail(&error.with("by", by).with("behavior", behavior));
            };
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
            if !state.write(line) {
                return reply.fail(&Error::new(Code::AgentFailed, "the process takes no answer any more"));
            }
            state.resolve(batch, at, behavior, &answer.by);
            reply.ok(&Done { ok: true });
        });
    }

    /// Stops the process for good; the session stays listed. The reply comes when nothing of it runs any more.
    pub fn close(&self, reply: Reply) {
        log::info!("session {}: closed by a client", self.id);
        self.with(|state, batch| {
            state.ended = true;
            state.changed = true;
            state.clear_queue(batch);
            state.on_stopped.push(reply);
            state.stop(batch, self);
        });
    }

    /// Stops the process because the server stops: what runs and what waits ends as interrupted.
    pub fn shut_down(&self) {
        self.with(|state, batch| {
            state.shutting_down = true;
            state.clear_queue(batch);
            state.stop(batch, self);
        });
    }
}

impl State {
    fn accept(&mut self, ask: Ask) -> Result<(String, usize), Error> {
        if self.shutting_down {
            return Err(Error::new(Code::ShuttingDown, "the server is shutting down"));
        }
        if self.ended {
            return Err(Error::new(Code::SessionEnded, "this session was closed: resume it first"));
        }
        let fingerprint = fingerprint(ask.content.as_deref().unwrap_or(&ask.text));
        if let Some((_, text)) = self.prompt_ids.iter().find(|(id, _)| *id == ask.prompt_id) {
            if *text != fingerprint {
                return Err(Error::new(Code::Conflict, "this promptId was used for another prompt"));
            }
            let position = self.queue.iter().position(|prompt| prompt.id == ask.prompt_id);
            return Ok((ask.prompt_id, position.map_or(0, |at| at + usize::from(self.running.is_some()))));
        }
        if self.queue.len() >= QUEUE_PROMPTS_MAX {
            let message = format!("{QUEUE_PROMPTS_MAX} prompts wait already in this session");
            return Err(Error::new(Code::RateLimited, message));
        }
        let Ask { content, attachments, .. } = ask;
        let prompt = Prompt { id: ask.prompt_id.clone(), text: ask.text, content, attachments };
        if self.queue.iter().map(Prompt::bytes).sum::<usize>() + prompt.bytes() > QUEUE_BYTES_MAX {
            return Err(Error::new(Code::RateLimited, "the prompts that wait in this session are too large"));
        }
        remember(&mut self.prompt_ids, (ask.prompt_id.clone(), fingerprint), PROMPT_IDS_MAX);
        self.reserved = false;
        self.changed = true;
        if self.choices.title.is_none() {
            self.choices.title = Some(shortened(&prompt.text, 80)).filter(|title| !title.is_empty());
        }
        let position = self.queue.len() + usize::from(self.running.is_some());
        self.queue.push_back(prompt);
        Ok((ask.prompt_id, position))
    }

    /// Takes the next prompt from the queue, if none runs and no interrupt is unanswered, and hands it to the process
    /// if that is ready; if there is none, starts it.
    pub(super) fn advance(&mut self, batch: &mut Batch, session: &Session) {
        if self.running.is_none()
            && !matches!(self.phase, Phase::Stopping | Phase::Busy)
            && self.interrupt.is_none()
            && let Some(prompt) = self.queue.pop_front()
        {
            let id = self.id.clone();
            let essentials = format!(r#""promptId":{}"#, json(&prompt.id));
            self.record(batch, Audience::All, "prompt", &essentials, |seq| {
                let Prompt { id: prompt_id, text, attachments, .. } = &prompt;
                json(&PromptAsked { session_id: &id, seq, prompt_id, text, attachments })
            });
            self.running = Some(Running { prompt, uuid: uuid_v4(), written: false, begun: false, interrupted: false });
            self.changed = true;
        }
        let Some(running) = self.running.as_mut().filter(|running| !running.written) else { return };
        match self.phase {
            Phase::Idle => {
                running.written = true;
                let line = claude::user_line(&running.uuid, running.prompt.for_claude());
                self.phase = Phase::Busy;
                self.changed = true;
                self.write(line);
            }
            Phase::Stopped | Phase::Failed => self.start(session),
            Phase::Starting | Phase::Busy | Phase::Stopping => {}
        }
    }

    /// Hands a line to the process. One that does not read its input is stopped, which ends what runs. `false`: it was not
    /// taken.
    pub(super) fn write(&mut self, line: String) -> bool {
        let Some(process) = &self.process else { return false };
        let taken = process.write(line);
        if !taken && self.phase != Phase::Stopping {
            log::warn!("session {}: the process does not read its input, it is stopped", self.id);
            process.stop();
        }
        taken
    }

    /// Ends the running prompt: the one `claudeResponse` that each prompt gets. `outcome`: Claude's, and what this
    /// prompt cost in dollars.
    pub(super) fn finish_prompt(
        &mut self,
        batch: &mut Batch,
        status: &'static str,
        error: Option<&str>,
        outcome: Option<(&claude::Outcome<'_>, f64)>,
    ) {
        let Some(running) = self.running.take() else { return };
        let turn = self.turn.take();
        let (full_response, lost) = turn.map_or((String::new(), false), |turn| (turn.text, turn.text_lost));
        let duration = outcome.and_then(|(outcome, _)| outcome.duration_ms);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a saturating cast of milliseconds"
        )]
        let response = Response {
            session_id: &self.id,
            prompt_id: &running.prompt.id,
            status,
            full_response: &full_response,
            done: true,
            truncated: lost.then_some(true),
            error,
            usage: outcome.and_then(|(outcome, _)| outcome.usage),
            cost_usd: outcome.map(|(_, dollars)| dollars),
            duration_ms: duration.map(|duration| duration as u64),
        };
        batch.event(Audience::Only(Stream::Text), "claudeResponse", &[&json(&response)]);
        self.changed = true;
    }

    /// The response of a prompt that never ran.
    fn respond_unasked(&mut self, batch: &mut Batch, prompt: &Prompt) {
        let response = Response {
            session_id: &self.id,
            prompt_id: &prompt.id,
            status: "interrupted",
            full_response: "",
            done: true,
            truncated: None,
            error: None,
            usage: None,
            cost_usd: None,
            duration_ms: None,
        };
        batch.event(Audience::Only(Stream::Text), "claudeResponse", &[&json(&response)]);
    }

    pub(super) fn clear_queue(&mut self, batch: &mut Batch) {
        for prompt in std::mem::take(&mut self.queue) {
            self.respond_unasked(batch, &prompt);
            self.changed = true;
        }
    }

    /// Closes question number `at`: every viewer sees how, and by whom.
    pub(super) fn resolve(&mut self, batch: &mut Batch, at: usize, behavior: &'static str, by: &str) {
        let question = self.questions.remove(at);
        let id = self.id.clone();
        self.record(batch, Audience::All, "permissionResolved", "", |seq| {
            let request_id = &question.request_id;
            json(&PermissionResolved { session_id: &id, seq, request_id, behavior, by })
        });
        let resolved = Resolved { request_id: question.request_id, behavior, by: by.to_owned() };
        remember(&mut self.resolved, resolved, RESOLVED_MAX);
        self.changed = true;
    }

    /// No open question outlives its turn or its process.
    pub(super) fn cancel_questions(&mut self, batch: &mut Batch, by: &str) {
        while !self.questions.is_empty() {
            self.resolve(batch, 0, "cancelled", by);
        }
    }

    /// Answers those who wait for the interrupt.
    pub(super) fn end_interrupt(&mut self) {
        if let Some(interrupt) = self.interrupt.take() {
            let still_queued = self.still_queued();
            for reply in interrupt.replies {
                reply.ok(&still_queued);
            }
        }
    }

    /// Answers those who wait for the process to be gone.
    pub(super) fn end_waiting(&mut self, session: &Session) {
        let waiting = std::mem::take(&mut self.on_stopped);
        if !waiting.is_empty() {
            let answer = WithSession { ok: true, session: self.summary(&session.context) };
            for reply in waiting {
                reply.ok(&answer);
            }
        }
    }

    fn still_queued(&self) -> Interrupted {
        Interrupted { ok: true, still_queued: self.queue.iter().map(|prompt| prompt.id.clone()).collect() }
    }
}

/// Tells texts apart without keeping them.
fn fingerprint(text: &str) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    (half(0) << 64) | half(1)
}

/// Keeps the newest `most`.
fn remember<T>(all: &mut VecDeque<T>, one: T, most: usize) {
    if all.len() >= most {
        all.pop_front();
    }
    all.push_back(one);
}
