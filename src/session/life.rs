//! How a session's process starts and ends.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::aside::known;
use super::events::Failure;
use super::fanout::Batch;
use super::place::Place;
use super::prompt::Running;
use super::response::End;
use super::session::Session;
use super::state::{Context, Phase, State};
use crate::claude::command::{Begin, Launch};
use crate::claude::process::{Exit, Owner, Process};
use crate::claude::version;
use crate::proto::claude;
use crate::proto::ndjson::Splitter;

/// The second start in a row that fails waits this long before the third, then twice as long each time.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);

/// And never longer than this.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// One start of a session's process: what it says is told apart from what an older one still says.
struct Started {
    session: Arc<Session>,
    launch: u64,
}

impl Started {
    fn with(&self, work: impl FnOnce(&mut State, &mut Batch)) {
        self.session.with(|state, batch| {
            if state.launch == self.launch {
                work(state, batch);
            }
        });
    }
}

impl Owner for Started {
    fn launched(&self, outcome: Result<Arc<Process>, String>) {
        match outcome {
            Ok(process) => {
                let bases = self.session.bases_of_fork();
                let mut taken = false;
                self.with(|state, _| {
                    taken = true;
                    bases.into_iter().for_each(|bases| state.account.begin_fork(bases));
                    state.on_launched(process.clone());
                });
                if !taken {
                    process.stop();
                }
            }
            Err(error) => self.with(|state, batch| state.on_not_launched(error, batch, &self.session)),
        }
    }

    fn output(&self, lines: &mut Splitter) {
        self.with(|state, batch| state.on_output(lines, batch, &self.session));
        // An older process's output is of no use.
        while lines.next_line().is_some() {}
        self.session.wait_for_room();
    }

    fn exited(&self, exit: Exit) {
        self.with(|state, batch| state.on_exit(&exit, batch, &self.session));
    }
}

impl Session {
    /// Starts the process without a prompt, if there is none.
    pub fn start_early(&self) {
        self.with(|state, batch| {
            if state.phase == Phase::Stopped {
                state.start(batch, self);
            }
        });
    }

    /// Whether its process is on its way out.
    pub(super) fn is_stopping(&self) -> bool {
        self.peek(|state| state.phase == Phase::Stopping)
    }
}

impl State {
    /// Orders a process, or waits until there is a place for it, or until the back-off is over.
    pub(super) fn start(&mut self, batch: &mut Batch, session: &Session) {
        let now = Instant::now();
        if self.shutting_down || self.retry_at.is_some_and(|at| now < at) || !self.take_place(batch, session) {
            return;
        }
        let Some(owner) = session.itself.upgrade() else { return };
        self.retry_at = None;
        self.phase = Phase::Starting;
        self.launch += 1;
        self.start_until = Some(now + session.context.start_timeout);
        self.account.begin_process();
        self.tasks.clear();
        (self.tells_lifecycle, self.names_prompts) = (false, false);
        self.changed = true;
        let launch = Launch {
            conversation: self.conversation.uuid.clone(),
            begin: self.conversation.begin(),
            cwd: self.choices.cwd.clone(),
            model: self.choices.model.clone(),
            permission_mode: self.choices.permission_mode.clone(),
            effort: self.choices.effort.clone(),
            marker: session.context.supervisor.marker(&self.id),
        };
        session.context.supervisor.launch(launch, Arc::new(Started { session: owner, launch: self.launch }));
    }

    fn on_launched(&mut self, process: Arc<Process>) {
        let (pid, uuid) = (process.pid(), &self.conversation.uuid);
        let how = match self.conversation.begin() {
            Begin::New => "begins",
            Begin::Resume => "resumes",
            Begin::Fork(_) => "forks into",
        };
        log::info!("session {}: process {pid} started, it {how} conversation {uuid}", self.id);
        self.process = Some(process);
        if self.phase == Phase::Starting {
            let line = claude::control_request_line(&self.initialize_id(), "initialize");
            self.write(line);
        } else if let Some(process) = &self.process {
            // Closed in the meantime.
            process.stop();
        }
    }

    fn on_not_launched(&mut self, error: String, batch: &mut Batch, session: &Session) {
        if self.phase == Phase::Starting {
            self.stop_reason = Some(error);
        }
        self.on_gone(None, batch, session);
    }

    pub(super) fn initialize_id(&self) -> String {
        format!("csm-{}-initialize", self.launch)
    }

    pub(super) fn on_initialized(
        &mut self,
        answer: &Result<Option<&RawValue>, Cow<'_, str>>,
        batch: &mut Batch,
        session: &Session,
    ) {
        #[derive(Deserialize)]
        struct Answer<'a> {
            #[serde(borrow)]
            commands: Option<&'a RawValue>,
            #[serde(borrow)]
            models: Option<&'a RawValue>,
            #[serde(borrow)]
            agents: Option<&'a RawValue>,
            #[serde(borrow)]
            claude_code_version: Option<&'a RawValue>,
        }
        match answer {
            Ok(answer) => {
                if let Some(answer) = answer.and_then(|raw| serde_json::from_str::<Answer<'_>>(raw.get()).ok()) {
                    self.commands = answer.commands.and_then(known);
                    self.models = answer.models.and_then(known);
                    self.agents = answer.agents.and_then(known);
                    let version = answer.claude_code_version.and_then(|raw| serde_json::from_str(raw.get()).ok());
                    self.on_version(version, batch, session);
                }
            }
            Err(error) => log::warn!("session {}: initialize was refused: {error}", self.id),
        }
        self.start_until = None;
        self.conversation.tried_other = false;
        self.phase = Phase::Idle;
        // What the API has against it holds until a turn ends well.
        self.failure.take_if(|failure| failure.is_of_process());
        self.idle_since = Instant::now();
        self.changed = true;
        self.send_waiting_controls(session);
        self.advance(batch, session);
    }

    /// The process has told its version, which `GET /health` tells too. The session's viewers hear of one that is too old.
    pub(super) fn on_version(&mut self, version: Option<String>, batch: &mut Batch, session: &Session) {
        let Some(version) = version else { return };
        let context = &session.context;
        // Also one that this session has told before: the server may have been started since, or updated.
        *context.agent_version.lock() = Some(version.clone());
        if self.agent_version.as_ref() == Some(&version) {
            return;
        }
        if let Some(warning) = version::warning(context.supervisor.agent(), &version) {
            self.notice(batch, "warning", "agent_too_old", &warning);
        }
        self.agent_version = Some(version);
    }

    /// Stops the process: interrupt, end of input, and what follows if that does not help.
    pub(super) fn stop(&mut self, batch: &mut Batch, session: &Session) {
        match self.running.take_if(|running| !running.written && self.shutting_down) {
            Some(Running { prompt, .. }) => self.leave_to_the_next(prompt),
            None => {
                let written = self.running.as_mut().map(|running| {
                    running.interrupted = true;
                    running.written
                });
                if written == Some(false) {
                    self.finish_unwritten(batch);
                }
            }
        }
        match self.phase {
            Phase::Stopped | Phase::Failed => return self.end_waiting(session),
            Phase::Stopping => return,
            // Without it Claude would go on to the end of the turn, and leave running tools behind.
            Phase::Busy => {
                let request_id = self.next_control_id();
                self.write(claude::control_request_line(&request_id, "interrupt"));
            }
            Phase::Starting | Phase::Idle => {}
        }
        self.phase = Phase::Stopping;
        self.start_until = None;
        self.changed = true;
        if let Some(process) = &self.process {
            process.stop();
        }
        session.context.room.ring();
    }

    fn on_exit(&mut self, exit: &Exit, batch: &mut Batch, session: &Session) {
        if self.phase == Phase::Starting && self.mend_fork(exit, batch) {
            self.process = None;
            return self.start(batch, session);
        }
        let other_way = match self.conversation.has_turns {
            true => "No conversation found",
            false => "already in use",
        };
        if self.phase == Phase::Starting && exit.stderr.contains(other_way) && !self.conversation.tried_other {
            log::info!("session {}: {other_way}: starting the other way", self.id);
            // There is none of one in which nothing was said.
            if self.conversation.has_turns && self.conversation.last_message.take().is_some() {
                let text = "Claude does not find the conversation of this session any more: it begins anew, and knows \
                            nothing of what is above";
                self.notice(batch, "warning", "conversation_lost", text);
                self.forget_asides();
            }
            self.conversation.has_turns = !self.conversation.has_turns;
            self.conversation.tried_other = true;
            self.process = None;
            return self.start(batch, session);
        }
        if self.phase == Phase::Starting && self.conversation.tried_other {
            // Neither way goes: the next start begins with the first again.
            self.conversation.has_turns = !self.conversation.has_turns;
            self.conversation.tried_other = false;
        }
        self.on_gone(Some(exit), batch, session);
    }

    /// There is no process any more. `exit`: how it ended, if it ever ran.
    fn on_gone(&mut self, exit: Option<&Exit>, batch: &mut Batch, session: &Session) {
        self.process = None;
        self.retrying = None;
        self.tasks.clear();
        self.give_place_back(session);
        self.start_until = None;
        self.end_until = None;
        self.end_interrupt();
        self.end_controls(session);
        self.cancel_questions(batch, "exit");
        let wanted = self.phase == Phase::Stopping;
        // Ended by itself, with nothing to do and nothing to complain about.
        let quietly = self.phase == Phase::Idle && exit.is_some_and(|exit| exit.code == Some(0));
        let ended = exit.map(ToString::to_string).unwrap_or_default();
        let (id, name) = (self.id.clone(), session.context.supervisor.agent().name.clone());
        let reason = match self.stop_reason.take() {
            Some(reason) => Some(reason),
            None if wanted || quietly => None,
            None => Some(format!("{name} ended unexpectedly ({ended})")),
        };
        match reason {
            None => {
                if exit.is_some() {
                    log::info!("session {id}: process stopped ({ended})");
                }
                self.phase = Phase::Stopped;
                if quietly {
                    self.notice(batch, "warning", "agent_exited", &format!("{name} has ended by itself ({ended})"));
                } else if self.running.as_ref().is_some_and(|running| running.written) {
                    self.notice(batch, "info", "interrupted", "the process was stopped in the middle of the answer");
                }
                self.end_turn_at_exit(batch, "interrupted", None);
            }
            Some(message) => {
                let stderr = exit.map(|exit| exit.stderr.clone()).unwrap_or_default();
                log::warn!("session {id}: {message}; it last said: {}", last_line(&stderr));
                self.phase = Phase::Failed;
                self.crashes += 1;
                self.retry_at = back_off(self.crashes).map(|wait| Instant::now() + wait);
                let text =
                    if stderr.is_empty() { message.clone() } else { format!("{message}: {}", last_line(&stderr)) };
                self.notice(batch, "error", "agent_failed", &text);
                let interrupted = self.running.as_ref().is_some_and(|running| running.interrupted);
                let status = if interrupted { "interrupted" } else { "failed" };
                self.end_turn_at_exit(batch, status, Some(text.as_str()).filter(|_| !interrupted));
                self.failure = Some(Failure { code: "agent_failed".into(), message, stderr });
            }
        }
        self.changed = true;
        self.idle_since = Instant::now();
        self.end_waiting(session);
        if !self.ended {
            self.advance(batch, session);
            self.restart_for_controls(batch, session);
        }
    }

    fn end_turn_at_exit(&mut self, batch: &mut Batch, status: &'static str, error: Option<&str>) {
        self.mark_stream_end(batch);
        self.finish_prompt(batch, &End::unaccounted(status, error));
        self.turn = None;
    }

    /// The next moment at which something is due.
    pub(super) fn next_deadline(&self, context: &Context) -> Option<Instant> {
        let waits_for_start = matches!(self.phase, Phase::Stopped | Phase::Failed) && self.running.is_some();
        let deadlines = [
            self.start_until,
            self.interrupt_ends(),
            self.control_ends(),
            self.retry_at.filter(|_| waits_for_start),
            self.hibernates_at(context),
            self.unloads_at(context),
        ];
        deadlines.into_iter().flatten().min()
    }

    /// By when an interrupt must have been answered, and must have ended the prompt.
    fn interrupt_ends(&self) -> Option<Instant> {
        let answered = self.interrupt.as_ref().map(|interrupt| interrupt.until);
        let ended = self.end_until.filter(|_| self.phase == Phase::Busy);
        answered.into_iter().chain(ended).min()
    }

    fn hibernates_at(&self, context: &Context) -> Option<Instant> {
        // One that nobody has asked anything is not held for those who only look.
        let unneeded = self.viewers.is_empty() || self.place == (Place::Taken { early: true });
        let idle = self.phase == Phase::Idle && unneeded && self.is_quiet();
        context.idle_timeout.filter(|_| idle).and_then(|timeout| self.idle_since.checked_add(timeout))
    }

    /// When it need not be in memory any more.
    pub(super) fn unloads_at(&self, context: &Context) -> Option<Instant> {
        let rests = context.unload_after.filter(|_| self.is_at_rest());
        rests.and_then(|after| self.idle_since.checked_add(after))
    }

    pub(super) fn on_deadline(&mut self, now: Instant, batch: &mut Batch, session: &Session) {
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if due(self.start_until) {
            let seconds = session.context.start_timeout.as_secs_f32();
            let name = &session.context.supervisor.agent().name;
            self.stop_reason = Some(format!("{name} did not answer within {seconds} s of its start"));
            self.start_until = None;
            self.phase = Phase::Stopping;
            self.changed = true;
            if let Some(process) = &self.process {
                process.stop();
            }
            session.context.room.ring();
        }
        if due(self.interrupt_ends()) {
            let text = "the interrupt has not ended the turn: the process is stopped";
            self.notice(batch, "warning", "interrupt_timeout", text);
            self.end_interrupt();
            self.stop(batch, session);
        }
        if due(self.control_ends()) {
            self.expire_controls(now, session);
        }
        if due(self.retry_at) {
            self.retry_at = None;
            self.advance(batch, session);
        }
        if due(self.hibernates_at(&session.context)) {
            log::info!("session {}: idle, its process is stopped", self.id);
            self.stop(batch, session);
        }
    }
}

/// How long to wait after this many failures in a row. The first is tried again at once.
fn back_off(crashes: u32) -> Option<Duration> {
    let doublings = crashes.checked_sub(2)?.min(16);
    Some((BACK_OFF_FIRST * 2u32.pow(doublings)).min(BACK_OFF_MAX))
}

fn last_line(text: &str) -> &str {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crash_loops_back_off() {
        let waits: Vec<_> =
            [1, 2, 3, 4, 8, 9, u32::MAX].map(|crashes| back_off(crashes).map(|wait| wait.as_millis())).into();
        assert_eq!(waits, [None, Some(500), Some(1000), Some(2000), Some(30_000), Some(30_000), Some(30_000)]);
    }
}
