//! Prompts, from a client's question until the process has them; how they end is in `response.rs`.

use std::time::Instant;

use serde::Serialize;

use super::attachments::Attached;
use super::conversation::uuid_v4;
use super::error::{Code, Error};
use super::events::now_ms;
use super::fanout::{Batch, Reply};
use super::interrupt::Stop;
use super::record::storage_error;
use super::response::End;
use super::session::Session;
use super::state::{Phase, State};
use super::title::title_from;
use crate::failpoint;
use crate::proto::claude::{self, Content};
use crate::store::{Accepted, Change, PromptState, Submission, Trouble};

const OTHER_PROMPT: &str = "this promptId was used for another prompt";

/// Prompts that may wait in one session.
pub const QUEUE_PROMPTS_MAX: usize = 100;

/// What Claude gets for them, in bytes.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

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

/// A prompt that was accepted.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    /// Counts the session's prompts from 1.
    pub number: u64,
    /// The store has it as written: after a crash it is not run again.
    pub marked: bool,
    /// The number of its event, once that went out.
    pub asked: Option<u64>,
    /// Claude's name for it. It is stored from the beginning: its event may be seen, then lost in a crash and sent again.
    pub uuid: String,
    /// The client's name for it.
    pub id: String,
    /// What the user typed: what viewers see.
    pub text: String,
    /// What Claude gets, where that is not the text alone: the JSON of a message's `content`, on one line.
    pub content: Option<String>,
    /// The files that came with it: what viewers see of them.
    pub attachments: Vec<Attached>,
}

impl Prompt {
    /// What Claude gets.
    pub fn for_claude(&self) -> Content<'_> {
        self.content.as_deref().map_or(Content::Text(&self.text), Content::Json)
    }

    /// Its size, for the queue's limit.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.content.as_ref().map_or(0, String::len)
    }
}

/// A prompt that is on its way to the disk. Whoever asked is answered when it is there.
pub(super) struct Accepting {
    pub prompt: Prompt,
    pub replies: Vec<Reply>,
    /// What came behind it and may mean it.
    pub stops: Vec<Stop>,
}

/// The prompt that is with Claude, or is next.
pub(super) struct Running {
    pub prompt: Prompt,
    /// It is being marked as written in the store.
    pub marking: bool,
    /// It was handed to the process.
    pub written: bool,
    /// Claude has said that it has begun (2.1.330), or has echoed it.
    pub begun: bool,
    /// Somebody asked to stop it.
    pub interrupted: bool,
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
        if self.deleted {
            return replies.into_iter().for_each(|reply| reply.fail(&Error::invalid_session()));
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
            // It goes on when that is answered.
            Phase::Idle if self.interrupt.is_some() => {}
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
}
