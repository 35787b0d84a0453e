//! What clients ask of a session: prompts, the end.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

use super::attachments::Attached;
use super::error::{Code, Error};
use super::events::{Response, Summary, json, now_ms};
use super::fanout::{Audience, Batch, Reply, Stream};
use super::files::Files;
use super::session::Session;
use super::state::{
    Accepting, Context, Phase, Prompt, QUEUE_BYTES_MAX, QUEUE_PROMPTS_MAX, Running, State, Turn, WhenStopped,
    shortened, storage_error, uuid_v4,
};
use super::title::title_from;
use super::turn::End;
use crate::failpoint;
use crate::proto::claude;
use crate::store::{Accepted, Change, PromptState, Submission, Trouble, response_head};

/// What lists show of the last answer.
const LAST_WORDS_CHARS: usize = 120;

const OTHER_PROMPT: &str = "this promptId was used for another prompt";

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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked<'a> {
    ok: bool,
    prompt_id: &'a str,
    position: usize,
}

#[derive(Clone, Serialize)]
pub(super) struct WithSession {
    pub ok: bool,
    pub session: Summary,
}

impl Session {
    /// Accepts a prompt: it runs now, or waits its turn. The reply comes when it is on the disk.
    pub fn ask(&self, ask: Ask, reply: Reply) {
        self.with(|state, _| {
            let id = ask.prompt_id.clone();
            match state.accept(ask, reply) {
                Wanted::Decided => {}
                Wanted::Stored(prompt) => {
                    let Some(session) = self.itself.upgrade() else { return };
                    // What was there before comes before it, and cannot be refused.
                    state.submit(&self.context.store);
                    let changes = state.acceptance(&prompt);
                    let done = Box::new(move |outcome| {
                        session.with(|state, batch| state.on_accepted(&id, outcome, batch, &session));
                    });
                    let on_its_way = state.on_its_way.clone();
                    self.context.store.submit(Submission { changes, done: vec![done], refusable: true, on_its_way });
                    state.idle_since = Instant::now();
                }
            }
        });
    }

    /// Stops the process for good; the session stays listed. The reply comes when nothing of it runs any more.
    pub fn close(&self, reply: Reply) {
        log::info!("session {}: closed by a client", self.id);
        self.with(|state, batch| {
            state.ended = true;
            state.changed = true;
            state.clear_queue(batch);
            state.on_stopped.push(WhenStopped::Tell(reply));
            state.stop(batch, self);
        });
    }

    /// Stops the process and forgets the session with all that is stored of it. The reply comes when nothing of either is
    /// left.
    pub fn delete(&self, reply: Reply) {
        log::info!("session {}: deleted by a client", self.id);
        self.with(|state, batch| {
            state.ended = true;
            state.clear_queue(batch);
            state.on_stopped.push(WhenStopped::Delete(Some(reply)));
            state.stop(batch, self);
        });
    }

    /// Deletes the session if nobody has used it since that time, in Unix milliseconds, nor does so now.
    pub(super) fn expire(&self, before: u64) -> bool {
        self.with(|state, batch| {
            let expired = state.is_at_rest() && !state.deleted && state.last_activity < before;
            if expired {
                log::info!("session {}: nobody has used it for long, it is deleted", self.id);
                state.ended = true;
                state.on_stopped.push(WhenStopped::Delete(None));
                state.stop(batch, self);
            }
            expired
        })
    }

    /// Stops the process because the server stops, or forgets the session: what is with Claude ends as interrupted, what
    /// waits is taken up by the next server.
    pub fn shut_down(&self) {
        self.with(|state, batch| {
            state.shutting_down = true;
            // It was to go to Claude at once when it was stored, and then could not.
            let marked = state.queue.iter().filter(|prompt| prompt.marked);
            state.pending.extend(marked.map(|prompt| Change::NotWritten(state.key, prompt.id.clone())));
            state.stop(batch, self);
            state.store_touch();
        });
    }
}

/// What becomes of a prompt that a client asks.
enum Wanted {
    /// It was answered, or waits with another of its name.
    Decided,
    /// It is to be stored.
    Stored(Prompt),
}

impl State {
    fn accept(&mut self, ask: Ask, reply: Reply) -> Wanted {
        let refuse = |reply: Reply, code: Code, message: &str| {
            reply.fail(&Error::new(code, message));
            Wanted::Decided
        };
        if self.shutting_down {
            return refuse(reply, Code::ShuttingDown, "the server is shutting down");
        }
        if self.ended {
            return refuse(reply, Code::SessionEnded, "this session was closed: resume it first");
        }
        let same = |prompt: &Prompt| prompt.text == ask.text && prompt.content == ask.content;
        if let Some(accepting) = self.accepting.iter_mut().find(|accepting| accepting.prompt.id == ask.prompt_id) {
            if !same(&accepting.prompt) {
                return refuse(reply, Code::Conflict, OTHER_PROMPT);
            }
            accepting.replies.push(reply);
            return Wanted::Decided;
        }
        let running = self.running.iter().map(|running| &running.prompt);
        if let Some((at, prompt)) =
            running.chain(&self.queue).enumerate().find(|(_, prompt)| prompt.id == ask.prompt_id)
        {
            if !same(prompt) {
                return refuse(reply, Code::Conflict, OTHER_PROMPT);
            }
            reply.ok(&Asked { ok: true, prompt_id: &ask.prompt_id, position: at });
            return Wanted::Decided;
        }
        if self.queue.len() + self.accepting.len() >= QUEUE_PROMPTS_MAX {
            let message = format!("{QUEUE_PROMPTS_MAX} prompts wait already in this session");
            return refuse(reply, Code::RateLimited, &message);
        }
        self.prompts += 1;
        let marked = self.runs_at_once();
        let prompt = Prompt {
            number: self.prompts,
            marked,
            asked: None,
            uuid: uuid_v4(),
            id: ask.prompt_id,
            text: ask.text,
            content: ask.content,
            attachments: ask.attachments,
        };
        let waiting = self.accepting.iter().map(|accepting| &accepting.prompt).chain(&self.queue);
        if waiting.map(Prompt::bytes).sum::<usize>() + prompt.bytes() > QUEUE_BYTES_MAX {
            return refuse(reply, Code::RateLimited, "the prompts that wait in this session are too large");
        }
        self.accepting.push(Accepting { prompt: prompt.clone(), replies: vec![reply], stops: Vec::new() });
        Wanted::Stored(prompt)
    }

    /// Whether a prompt that is accepted now goes to Claude as soon as it is stored: then one commit is enough.
    fn runs_at_once(&self) -> bool {
        self.phase == Phase::Idle
            && self.running.is_none()
            && self.queue.is_empty()
            && self.accepting.is_empty()
            && self.interrupt.is_none()
    }

    /// All that is stored with a prompt.
    fn acceptance(&self, prompt: &Prompt) -> Vec<Change> {
        let mut row = self.row();
        row.last_activity = now_ms();
        let how_far = if prompt.marked { PromptState::Written } else { PromptState::Accepted };
        let accept = Change::Accept(Box::new(prompt.row(self.key, how_far)));
        let mut changes = vec![accept, Change::Said(self.key, prompt.text.clone())];
        if row.title.is_none() {
            row.title = title_from(&prompt.text);
            changes.push(Change::Title(self.key, row.title.clone().unwrap_or_default()));
        }
        changes.push(Change::Session(Box::new(row)));
        changes
    }

    /// A prompt is on the disk, or could not be stored.
    fn on_accepted(&mut self, id: &str, outcome: Result<Accepted, Trouble>, batch: &mut Batch, session: &Session) {
        let Some(at) = self.accepting.iter().position(|accepting| accepting.prompt.id == id) else { return };
        let Accepting { prompt, replies, stops } = self.accepting.remove(at);
        self.take_in(prompt, replies, outcome, batch, session);
        stops.into_iter().for_each(|stop| self.carry_out(stop, batch, session));
    }

    fn take_in(
        &mut self,
        prompt: Prompt,
        replies: Vec<Reply>,
        outcome: Result<Accepted, Trouble>,
        batch: &mut Batch,
        session: &Session,
    ) {
        let id = prompt.id.as_str();
        let refusal = match outcome {
            Ok(Accepted::New) => None,
            Ok(Accepted::Conflict) => Some(Error::new(Code::Conflict, OTHER_PROMPT)),
            Ok(Accepted::Again) => {
                return replies.into_iter().for_each(|reply| reply.ok(&Asked { ok: true, prompt_id: id, position: 0 }));
            }
            Err(trouble) => Some(storage_error(trouble)),
        };
        if let Some(error) = refusal {
            return replies.into_iter().for_each(|reply| reply.fail(&error));
        }
        if std::mem::take(&mut self.reserved) {
            session.context.live.unreserve();
        }
        if self.choices.title.is_none() {
            self.choices.title = title_from(&prompt.text);
        }
        self.changed = true;
        let position = self.queue.len() + usize::from(self.running.is_some());
        for reply in replies {
            reply.ok(&Asked { ok: true, prompt_id: id, position });
        }
        if self.deleted {
            return;
        }
        if self.ended {
            return self.cancel_prompt(batch, &prompt);
        }
        if self.shutting_down {
            return self.leave_to_the_next(prompt);
        }
        self.queue.push_back(prompt);
        self.advance(batch, session);
    }

    /// Takes the next prompt from the queue, if none runs and no interrupt is unanswered, and hands it to the process
    /// if that is ready; if there is none, starts it.
    pub(super) fn advance(&mut self, batch: &mut Batch, session: &Session) {
        if self.shutting_down {
            return;
        }
        if self.running.is_none()
            && !matches!(self.phase, Phase::Stopping | Phase::Busy)
            && self.interrupt.is_none()
            && let Some(mut prompt) = self.queue.pop_front()
        {
            self.record_asked(batch, &mut prompt);
            self.running = Some(Running { prompt, marking: false, written: false, begun: false, interrupted: false });
            self.changed = true;
        }
        let Some(running) = self.running.as_mut().filter(|running| !running.written) else { return };
        match self.phase {
            Phase::Idle if running.prompt.marked => {
                running.written = true;
                // What was to end by then was another turn.
                self.end_until = None;
                let line = claude::user_line(&running.prompt.uuid, running.prompt.for_claude());
                self.phase = Phase::Busy;
                self.changed = true;
                self.use_place(session);
                failpoint::reach("written");
                self.write(line);
            }
            Phase::Idle => self.mark_written(session),
            Phase::Stopped | Phase::Failed => self.start(batch, session),
            Phase::Starting | Phase::Busy | Phase::Stopping => {}
        }
    }

    /// The server stops before this prompt begins: the next one takes it up.
    pub(super) fn leave_to_the_next(&mut self, prompt: Prompt) {
        self.pending.push(Change::NotWritten(self.key, prompt.id));
    }

    /// The store must know that the running prompt may be with Claude before the first byte is.
    fn mark_written(&mut self, session: &Session) {
        let Some(itself) = session.itself.upgrade() else { return };
        let Some(running) = self.running.as_mut().filter(|running| !running.marking) else { return };
        running.marking = true;
        let id = running.prompt.id.clone();
        self.pending.push(Change::Written(self.key, id.clone()));
        self.on_stored.push(Box::new(move |outcome| {
            itself.with(|state, batch| {
                let Some(running) = state.running.as_mut().filter(|running| running.prompt.id == id) else { return };
                match outcome {
                    Ok(_) => {
                        running.prompt.marked = true;
                        state.advance(batch, &itself);
                    }
                    Err(trouble) => {
                        let error = storage_error(trouble).message;
                        state.finish_prompt(batch, &End::unaccounted("failed", Some(&error)));
                        state.advance(batch, &itself);
                    }
                }
            });
        }));
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

    /// Ends the running prompt: the one `claudeResponse` that each prompt gets.
    pub(super) fn finish_prompt(&mut self, batch: &mut Batch, end: &End<'_>) {
        let End { status, error, code, outcome } = *end;
        let Some(running) = self.running.take() else { return };
        // One of Claude's own is not this prompt's.
        let is_ours = |turn: &mut Turn| outcome.is_some() || turn.prompt_id.as_ref() == Some(&running.prompt.id);
        let turn = self.turn.take_if(is_ours);
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
            seq: self.log.position().seq,
            status,
            full_response: &full_response,
            done: true,
            truncated: lost.then_some(true),
            error,
            code,
            usage: outcome.and_then(|(outcome, _)| outcome.usage),
            cost_usd: outcome.map(|(_, dollars)| dollars),
            duration_ms: duration.map(|duration| duration as u64),
        };
        let data = json(&response);
        self.respond(batch, &running.prompt, status, data);
        if !full_response.is_empty() {
            self.last_words = Some(last_words(&full_response));
            self.pending.push(Change::Said(self.key, full_response));
        }
        self.changed = true;
    }

    /// The running prompt ends before Claude got it.
    pub(super) fn finish_unwritten(&mut self, batch: &mut Batch) {
        self.notice(batch, "info", "prompt_cancelled", "this prompt was stopped before it began");
        self.finish_prompt(batch, &End::unaccounted("interrupted", None));
    }

    /// A prompt that waits is not wanted any more.
    pub(super) fn cancel_prompt(&mut self, batch: &mut Batch, prompt: &Prompt) {
        self.notice_of(batch, "info", "prompt_cancelled", "this prompt was taken out of the queue", Some(&prompt.id));
        self.respond_interrupted(batch, prompt, "");
    }

    /// Sends a response, and notes that the prompt is over.
    fn respond(&mut self, batch: &mut Batch, prompt: &Prompt, status: &'static str, data: String) {
        batch.event(Audience::Only(Stream::Text), "claudeResponse", &[&data]);
        let response: Arc<str> = data.into();
        self.log.end_prompt(response.clone());
        self.pending.push(Change::Ended {
            session: self.key,
            id: prompt.id.clone(),
            state: match status {
                "done" => PromptState::Done,
                "failed" => PromptState::Failed,
                _ => PromptState::Interrupted,
            },
            end_seq: self.log.position().seq,
            response,
            rest_at: response_head(&self.id).len(),
        });
    }

    /// The response of a prompt that never ran here, or not to its end.
    pub(super) fn respond_interrupted(&mut self, batch: &mut Batch, prompt: &Prompt, text: &str) {
        let response = Response {
            session_id: &self.id,
            prompt_id: &prompt.id,
            seq: self.log.position().seq,
            status: "interrupted",
            full_response: text,
            done: true,
            truncated: None,
            error: None,
            code: None,
            usage: None,
            cost_usd: None,
            duration_ms: None,
        };
        let data = json(&response);
        self.respond(batch, prompt, "interrupted", data);
        if !text.is_empty() {
            self.pending.push(Change::Said(self.key, text.to_owned()));
        }
    }

    pub(super) fn clear_queue(&mut self, batch: &mut Batch) {
        for prompt in std::mem::take(&mut self.queue) {
            self.cancel_prompt(batch, &prompt);
            self.changed = true;
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

    /// Answers those who wait for the process to be gone.
    pub(super) fn end_waiting(&mut self, session: &Session) {
        let waiting = std::mem::take(&mut self.on_stopped);
        if waiting.is_empty() {
            return;
        }
        self.deleted = waiting.iter().any(|waiting| matches!(waiting, WhenStopped::Delete(_)));
        let answer = WithSession { ok: true, session: self.summary(&session.context) };
        if !self.deleted {
            let replies = waiting.into_iter().filter_map(WhenStopped::reply);
            return replies.for_each(|reply| self.ok_when_stored(reply, answer.clone()));
        }
        self.changed = true;
        self.pending.push(Change::Delete(self.key));
        let (context, id) = (session.context.clone(), self.id.clone());
        self.on_stored.push(Box::new(move |outcome| {
            context.live.remove(&id);
            let reply = move |waiting: WhenStopped| match (waiting.reply(), outcome) {
                (None, _) => {}
                (Some(reply), Ok(_)) => reply.ok(&answer),
                (Some(reply), Err(trouble)) => reply.fail(&storage_error(trouble)),
            };
            match outcome {
                Ok(_) => remove_files(&context, id, move || waiting.into_iter().for_each(reply)),
                // It is still there, as it was.
                Err(_) => waiting.into_iter().for_each(reply),
            }
        }));
    }
}

/// Removes the files of a session on a thread of its own, since the store's must not wait for it, then does `done`. What a
/// crash leaves of them is removed at the next start.
fn remove_files(context: &Context, id: Arc<str>, done: impl FnOnce() + Send + 'static) {
    let data_dir = context.data_dir.clone();
    let once = Arc::new(Mutex::new(Some(move || {
        Files::of(&data_dir, &id).remove();
        done();
    })));
    let work = move || once.lock().take().into_iter().for_each(|work| work());
    if context.threads.spawn("remove".into(), work.clone()).is_err() {
        work();
    }
}

/// The end of an answer, on one line.
fn last_words(text: &str) -> String {
    let line = shortened(text, usize::MAX);
    match line.char_indices().rev().nth(LAST_WORDS_CHARS - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &line[at..]),
        _ => line,
    }
}
