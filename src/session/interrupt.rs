//! Stopping what was asked: the running answer, or a prompt that waits its turn.
//!
//! A client's events count in their order. What is to stop a prompt that is still on its way to the disk waits for it
//! there: otherwise it would find nothing, and the prompt would run all the same.

use std::time::Instant;

use serde::Serialize;

use super::error::{Code, Error};
use super::fanout::{Batch, Reply};
use super::prompt::Running;
use super::record::storage_error;
use super::session::Session;
use super::state::{Phase, State};
use crate::proto::claude;

/// What a client wants to be stopped.
pub(super) enum Stop {
    /// The running answer, if it is that prompt's.
    Answer { prompt_id: Option<String>, clear_queue: bool, reply: Reply },
    /// A prompt that has not begun.
    Prompt { prompt_id: String, reply: Reply },
}

/// One who waits for an interrupt.
pub(super) struct Waiting {
    reply: Reply,
    /// It has taken prompts out of the queue: that must be on the disk first, or the next server would run them.
    clears: bool,
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

/// An interrupt that Claude has not answered yet.
pub(super) struct Interrupt {
    pub request_id: String,
    pub until: Instant,
    pub replies: Vec<Waiting>,
}

impl Session {
    /// Stops the running turn. The reply comes when Claude has answered.
    pub fn interrupt(&self, prompt_id: Option<&str>, clear_queue: bool, reply: Reply) {
        self.with(|state, batch| {
            let stop = Stop::Answer { prompt_id: prompt_id.map(str::to_owned), clear_queue, reply };
            let waits = state.running.is_none() || clear_queue;
            match state.accepting.last_mut().filter(|_| waits) {
                Some(last) => last.stops.push(stop),
                None => state.carry_out(stop, batch, self),
            }
        });
    }

    /// Takes a waiting prompt out of the queue.
    pub fn cancel(&self, prompt_id: &str, reply: Reply) {
        let not_found = self.with(|state, batch| {
            if let Some(accepting) = state.accepting.iter_mut().find(|accepting| accepting.prompt.id == prompt_id) {
                accepting.stops.push(Stop::Prompt { prompt_id: prompt_id.to_owned(), reply });
                return None;
            }
            state.take_back(prompt_id, reply, batch)
        });
        let Some(reply) = not_found else { return };
        reply.fail(&match self.context.store.prompt(self.key, prompt_id) {
            Ok(Some(_)) => Error::new(Code::Conflict, "this prompt is over already"),
            Ok(None) => not_here(),
            Err(trouble) => storage_error(trouble),
        });
    }
}

impl State {
    pub(super) fn carry_out(&mut self, stop: Stop, batch: &mut Batch, session: &Session) {
        match stop {
            Stop::Answer { prompt_id, clear_queue, reply } => {
                let clears = clear_queue && !self.queue.is_empty();
                if clears {
                    self.clear_queue(batch);
                }
                let waiting = Waiting { reply, clears };
                self.interrupt_answer(prompt_id.as_deref(), waiting, batch, session);
            }
            Stop::Prompt { prompt_id, reply } => {
                if let Some(reply) = self.take_back(&prompt_id, reply, batch) {
                    reply.fail(&not_here());
                }
            }
        }
    }

    fn interrupt_answer(&mut self, prompt_id: Option<&str>, waiting: Waiting, batch: &mut Batch, session: &Session) {
        if self.is_first(prompt_id)
            && let Some(prompt) = self.queue.pop_front()
        {
            self.cancel_prompt(batch, &prompt);
            self.changed = true;
            return self.ok_when_stored(waiting.reply, self.still_queued());
        }
        let other = |running: &Running| prompt_id.is_some_and(|id| id != running.prompt.id);
        if self.running.as_ref().is_some_and(other) || (prompt_id.is_some() && self.running.is_none()) {
            // What was to be stopped has ended by itself: as wanted.
            return self.interrupted(waiting);
        }
        if let Some(interrupt) = &mut self.interrupt {
            return interrupt.replies.push(waiting);
        }
        match &mut self.running {
            // Before it there may be a turn of Claude's own: who names no prompt means that.
            Some(running) if !running.written && (prompt_id.is_some() || self.phase != Phase::Busy) => {
                running.interrupted = true;
                self.finish_unwritten(batch);
                self.ok_when_stored(waiting.reply, self.still_queued());
                self.advance(batch, session);
            }
            _ if self.phase == Phase::Busy => {
                let until = Instant::now() + session.context.interrupt_timeout;
                self.end_until.get_or_insert(until);
                if let Some(running) = self.running.as_mut().filter(|running| running.written) {
                    running.interrupted = true;
                }
                let request_id = self.next_control_id();
                self.write(claude::control_request_line(&request_id, "interrupt"));
                self.interrupt = Some(Interrupt { request_id, until, replies: vec![waiting] });
            }
            _ => self.interrupted(waiting),
        }
    }

    /// Whether the first of the queue is meant, which waits only for a process that is on its way out, or for Claude to be
    /// done with something of its own: who has asked it takes it for the one that runs. Without a name, a turn of Claude's
    /// own is.
    fn is_first(&self, prompt_id: Option<&str>) -> bool {
        let Some(first) = self.queue.front().filter(|_| self.running.is_none()) else { return false };
        prompt_id.map_or(self.phase == Phase::Stopping, |id| first.id == id)
    }

    fn interrupted(&mut self, Waiting { reply, clears }: Waiting) {
        match clears {
            true => self.ok_when_stored(reply, self.still_queued()),
            false => reply.ok(&self.still_queued()),
        }
    }

    /// Takes a prompt out of the queue. Gives the reply back if it is neither there nor runs.
    fn take_back(&mut self, prompt_id: &str, reply: Reply, batch: &mut Batch) -> Option<Reply> {
        let place = self.queue.iter().position(|prompt| prompt.id == prompt_id);
        if let Some(prompt) = place.and_then(|at| self.queue.remove(at)) {
            self.cancel_prompt(batch, &prompt);
            self.changed = true;
            self.ok_when_stored(reply, Done { ok: true });
            return None;
        }
        if self.running.as_ref().is_none_or(|running| running.prompt.id != prompt_id) {
            return Some(reply);
        }
        reply.fail(&Error::new(Code::Conflict, "this prompt runs already: interrupt it instead"));
        None
    }

    /// Answers those who wait for the interrupt.
    pub(super) fn end_interrupt(&mut self) {
        let replies = self.interrupt.take().map(|interrupt| interrupt.replies);
        replies.into_iter().flatten().for_each(|waiting| self.interrupted(waiting));
    }

    fn still_queued(&self) -> Interrupted {
        Interrupted { ok: true, still_queued: self.queue.iter().map(|prompt| prompt.id.clone()).collect() }
    }
}

fn not_here() -> Error {
    Error::field("promptId", "is not a prompt of this session")
}
