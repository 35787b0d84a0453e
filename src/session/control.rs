//! What clients ask of Claude beside prompts: another model, mode or effort, and what it knows.
//!
//! ```text
//!  client ──▶ no process: a choice is kept for the next start, everything else starts one
//!             starting:   it waits until Claude is up
//!             stopping:   it waits for the next process
//!             up:         control_request ──▶ Claude ──▶ control_response ──▶ (settings in use?) ──▶ the client
//! ```
//!
//! Each is acknowledged once: with what Claude says, or with why there is no answer. Model and effort are taken by Claude
//! without a word on what comes of them (an alias is another model, an unknown effort is left out), so that it is asked
//! afterwards for what is in use.

use std::time::Instant;

use serde::Deserialize;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::error::{Code, Error};
use super::events::EVENT_BYTES_MAX;
use super::fanout::{Batch, Reply};
use super::place::Place;
use super::plain::{NAME_CHARS_MAX, shortened};
use super::session::Session;
use super::state::{Phase, State};
use crate::config::{BYPASS_PERMISSIONS, EFFORTS, is_effort, is_model, is_permission_mode};
use crate::proto::claude::{self, FlagSettings, Request};

/// Requests that may wait for Claude's answer in one session.
pub const CONTROLS_MAX: usize = 32;

/// A larger answer of Claude's would not fit into an acknowledgement.
const ANSWER_BYTES_MAX: usize = EVENT_BYTES_MAX - 1000;

/// What Claude says about a refusal is told in so many characters.
const REFUSAL_CHARS_MAX: usize = 2000;

/// What Claude is asked, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// To use another of these from now on; a later process does, too.
    Choose(Choice, String),
    /// What fills its context.
    ContextUsage,
    /// Files and directories for what was typed behind an `@`.
    FileSuggestions {
        /// What was typed.
        query: String,
    },
    /// To end a background task.
    StopTask {
        /// Its name.
        task_id: String,
    },
    /// To put files back to what they were before a prompt.
    Rewind {
        /// Claude's name of the prompt.
        user_message_id: String,
        /// Only to tell what would change.
        dry_run: bool,
    },
}

/// What of a session can be chosen while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name on the wire")]
pub enum Choice {
    Model,
    PermissionMode,
    Effort,
}

/// A request that is not answered yet.
pub(super) struct Asked {
    control: Control,
    /// Nobody waits where a slash command has chosen.
    reply: Option<Reply>,
    stage: Stage,
}

/// How far it is.
enum Stage {
    /// It waits for the process to be gone that is being stopped: the next one gets it.
    ForNext,
    /// It waits for Claude to be up.
    ForStart,
    Sent(Sent),
}

struct Sent {
    request_id: String,
    until: Instant,
    /// Claude has taken the choice, and is asked what is in use.
    confirms: bool,
}

impl Asked {
    fn sent(&self) -> Option<&Sent> {
        if let Stage::Sent(sent) = &self.stage { Some(sent) } else { None }
    }
}

/// An acknowledgement with one thing in it.
struct Told<T>(&'static str, T);

impl<T: Serialize> Serialize for Told<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("ok", &true)?;
        map.serialize_entry(self.0, &self.1)?;
        map.end()
    }
}

/// What is really in use, of Claude's settings.
#[derive(Default, Deserialize)]
struct Applied {
    model: Option<String>,
    effort: Option<String>,
}

type Answer<'a> = Result<Option<&'a RawValue>, std::borrow::Cow<'a, str>>;

impl Choice {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Choice::Model => "model",
            Choice::PermissionMode => "permissionMode",
            Choice::Effort => "effort",
        }
    }
}

impl Control {
    fn request(&self) -> Request<'_> {
        match self {
            Control::Choose(Choice::Model, model) => Request::SetModel { model },
            Control::Choose(Choice::PermissionMode, mode) => Request::SetPermissionMode { mode },
            Control::Choose(Choice::Effort, effort_level) => {
                Request::ApplyFlagSettings { settings: FlagSettings { effort_level } }
            }
            Control::ContextUsage => Request::GetContextUsage,
            Control::FileSuggestions { query } => Request::FileSuggestions { query },
            Control::StopTask { task_id } => Request::StopTask { task_id },
            Control::Rewind { user_message_id, dry_run } => Request::RewindFiles { user_message_id, dry_run: *dry_run },
        }
    }
}

impl Session {
    /// Whether anything may be asked here just now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_be_asked(&self) -> Result<(), Error> {
        self.peek(State::may_be_asked)
    }

    /// Asks this of Claude. The reply comes when Claude has answered, or cannot.
    pub fn control(&self, control: Control, reply: Reply) {
        self.with(|state, batch| {
            if let Err(error) = state.may_control(&control) {
                return reply.fail(&error);
            }
            state.idle_since = Instant::now();
            match (state.phase, control) {
                (Phase::Idle | Phase::Busy, control) => state.send_control(control, false, Some(reply), self),
                (Phase::Starting, control) => state.wait(control, Some(reply), Stage::ForStart),
                (_, Control::Choose(choice, value)) => state.choose(choice, value, None, Some(reply)),
                // Without a process there is none: as wanted.
                (_, Control::StopTask { .. }) => reply.ok(&Told("stopped", true)),
                (Phase::Stopping, control) => state.wait(control, Some(reply), Stage::ForNext),
                (Phase::Stopped | Phase::Failed, control) => state.start_for(control, Some(reply), batch, self),
            }
        });
    }
}

impl State {
    fn may_be_asked(&self) -> Result<(), Error> {
        if self.shutting_down {
            return Err(Error::new(Code::ShuttingDown, "the server is shutting down"));
        }
        if self.ended {
            return Err(Error::new(Code::SessionEnded, "this session was closed: resume it first"));
        }
        Ok(())
    }

    fn may_control(&self, control: &Control) -> Result<(), Error> {
        self.may_be_asked()?;
        if self.asked.len() >= CONTROLS_MAX {
            let message = format!("{CONTROLS_MAX} requests wait already for Claude in this session");
            return Err(Error::new(Code::RateLimited, message));
        }
        if matches!(control, Control::Rewind { dry_run: false, .. }) && self.is_at_work() {
            return Err(Error::new(Code::Conflict, "files are not rewound under a running answer: interrupt it first"));
        }
        Ok(())
    }

    /// Starts a process for that, if there is a place which no prompt waits for.
    fn start_for(&mut self, control: Control, reply: Option<Reply>, batch: &mut Batch, session: &Session) {
        if self.place == Place::None && session.context.slots.take_free() {
            self.place = Place::Taken { early: false };
        }
        if !matches!(self.place, Place::Taken { .. }) {
            let message = "as many processes as there may be are busy: ask again later";
            return fail(reply, &Error::new(Code::RateLimited, message));
        }
        self.start(batch, session);
        if self.phase == Phase::Starting {
            return self.wait(control, reply, Stage::ForStart);
        }
        self.give_place_back(session);
        fail(reply, &ended("keeps failing, and is not started again yet: ask again later", session));
    }

    fn wait(&mut self, control: Control, reply: Option<Reply>, stage: Stage) {
        self.asked.push(Asked { control, reply, stage });
    }

    /// Claude is up: it gets what has waited for that, in its order, before the next prompt.
    pub(super) fn send_waiting_controls(&mut self, session: &Session) {
        for Asked { control, reply, .. } in std::mem::take(&mut self.asked) {
            self.send_control(control, false, reply, session);
        }
    }

    fn send_control(&mut self, control: Control, confirms: bool, reply: Option<Reply>, session: &Session) {
        let request_id = self.next_control_id();
        let request = if confirms { Request::GetSettings } else { control.request() };
        if !self.write(claude::control_line(&request_id, &request)) {
            return fail(reply, &ended("takes no requests any more", session));
        }
        let until = Instant::now() + session.context.start_timeout;
        self.wait(control, reply, Stage::Sent(Sent { request_id, until, confirms }));
    }

    /// Claude answers. `false`: not one of these requests.
    pub(super) fn on_control_answer(&mut self, request_id: &str, answer: &Answer<'_>, session: &Session) -> bool {
        let is_it = |sent: &Sent| sent.request_id == request_id;
        let Some(at) = self.asked.iter().position(|asked| asked.sent().is_some_and(is_it)) else { return false };
        let asked = self.asked.remove(at);
        let confirms = asked.sent().is_some_and(|sent| sent.confirms);
        let Asked { control, reply, .. } = asked;
        match (control, answer) {
            // An agent that does not tell its settings: what it has taken is what it uses.
            (Control::Choose(choice, value), _) if confirms => {
                let applied = answer.as_ref().ok().copied().flatten().and_then(applied);
                self.confirm(choice, value, applied, reply, session);
            }
            (_, Err(refusal)) => fail(reply, &refused(refusal)),
            (Control::Choose(Choice::PermissionMode, mode), Ok(answer)) => {
                #[derive(Deserialize)]
                struct Answer {
                    mode: String,
                }
                let told = answer.and_then(|raw| serde_json::from_str::<Answer>(raw.get()).ok());
                let in_use = told.map_or_else(|| mode.clone(), |told| told.mode);
                self.choose(Choice::PermissionMode, mode, Some(in_use), reply);
            }
            (control @ Control::Choose(..), Ok(_)) => self.send_control(control, true, reply, session),
            (control, Ok(answer)) => reply.into_iter().for_each(|reply| tell(&control, *answer, reply)),
        }
        true
    }

    /// Claude has taken a choice, and these settings are in use.
    fn confirm(
        &mut self,
        choice: Choice,
        mut value: String,
        applied: Option<Applied>,
        reply: Option<Reply>,
        session: &Session,
    ) {
        let in_use = match (choice, applied) {
            (_, None) => Some(value.clone()),
            (Choice::Effort, Some(Applied { effort, .. })) => effort,
            (_, Some(Applied { model, .. })) => model.or_else(|| Some(value.clone())),
        };
        // A model without efforts confirms none.
        if choice == Choice::Effort && in_use.is_none() && (reply.is_none() || !EFFORTS.contains(&value.as_str())) {
            let name = &session.context.supervisor.agent().name;
            return fail(reply, &refused(&format!("{name} does not take the effort {value}")));
        }
        if choice == Choice::Effort
            && let Some(other) = in_use.as_ref().filter(|in_use| **in_use != value)
        {
            // That of a choice that was sent behind this one?
            if !self.awaits(choice) {
                let name = &session.context.supervisor.agent().name;
                return fail(reply, &refused(&format!("{name} does not take the effort {value}")));
            }
            value.clone_from(other);
        }
        if reply.is_none() && choice == Choice::Model && in_use == self.model_in_use {
            // The command was none here, or has chosen what was in use already.
            return;
        }
        self.choose(choice, value, in_use, reply);
    }

    /// Whether another choice of that kind is with Claude.
    fn awaits(&self, choice: Choice) -> bool {
        self.asked.iter().any(|asked| matches!(asked.control, Control::Choose(other, _) if other == choice))
    }

    /// The running prompt has ended well. Where it was a slash command that chooses, Claude's own word is what counts.
    pub(super) fn follow_command(&mut self, session: &Session) {
        let chosen = self.running.as_ref().and_then(|running| chosen_by(&running.prompt.text));
        let Some((choice, value)) = chosen.filter(|_| self.asked.len() < CONTROLS_MAX) else { return };
        self.send_control(Control::Choose(choice, value.to_owned()), true, None, session);
    }

    /// Keeps a choice for later processes; `in_use`: what it means to the one that runs. The reply comes when it is stored.
    fn choose(&mut self, choice: Choice, value: String, in_use: Option<String>, reply: Option<Reply>) {
        let in_use = in_use.map(|name| shortened(&name, NAME_CHARS_MAX));
        let answer = serde_json::json!({"ok": true, choice.name(): in_use.as_ref().unwrap_or(&value)});
        match choice {
            Choice::Model => (self.choices.model, self.model_in_use) = (Some(value), in_use),
            Choice::PermissionMode => {
                (self.choices.permission_mode, self.permission_mode_in_use) = (Some(value), in_use);
            }
            Choice::Effort => self.choices.effort = Some(value),
        }
        self.changed = true;
        if let Some(reply) = reply {
            self.ok_when_stored(reply, answer);
        }
    }

    /// Claude has changed its permission mode: by a plan that was approved, or a rule that came with an answer. Later
    /// processes keep it, as nobody wants to approve the same plan again; but never without any questions, which only a
    /// client may choose.
    pub(super) fn follow_permission_mode(&mut self, mode: &str) {
        if mode == BYPASS_PERMISSIONS {
            // Nor the one that it has left.
            self.choices.permission_mode.take_if(|chosen| chosen != BYPASS_PERMISSIONS);
        } else if is_permission_mode(mode) {
            self.choices.permission_mode = Some(mode.to_owned());
        }
        self.permission_mode_in_use = Some(shortened(mode, NAME_CHARS_MAX));
        self.changed = true;
    }

    /// There is no process any more, and so no answer, but to what came while it was being stopped.
    pub(super) fn end_controls(&mut self, session: &Session) {
        let over = self.ended || self.shutting_down;
        for asked in self.asked.extract_if(.., |asked| over || !matches!(asked.stage, Stage::ForNext)) {
            fail(asked.reply, &ended("has ended before it answered", session));
        }
    }

    /// What came while the last process was being stopped goes to the next.
    pub(super) fn restart_for_controls(&mut self, batch: &mut Batch, session: &Session) {
        for Asked { control, reply, .. } in std::mem::take(&mut self.asked) {
            match self.phase {
                Phase::Starting => self.wait(control, reply, Stage::ForStart),
                _ => self.start_for(control, reply, batch, session),
            }
        }
    }

    /// By when the first of them must be answered.
    pub(super) fn control_ends(&self) -> Option<Instant> {
        self.asked.iter().filter_map(|asked| Some(asked.sent()?.until)).min()
    }

    /// Tells those that Claude has not answered in time; what it still says is of no use to them.
    pub(super) fn expire_controls(&mut self, now: Instant, session: &Session) {
        let is_due = |asked: &mut Asked| asked.sent().is_some_and(|sent| now >= sent.until);
        let seconds = session.context.start_timeout.as_secs_f32();
        for asked in self.asked.extract_if(.., is_due) {
            fail(asked.reply, &ended(&format!("did not answer within {seconds} s"), session));
        }
    }
}

/// What a prompt chooses, if it is `/model NAME` or `/effort NAME`.
fn chosen_by(prompt: &str) -> Option<(Choice, &str)> {
    let mut words = prompt.split_whitespace();
    let choice = match words.next()? {
        "/model" => Choice::Model,
        "/effort" => Choice::Effort,
        _ => return None,
    };
    let value =
        words.next().filter(|value| if choice == Choice::Model { is_model(value) } else { is_effort(value) })?;
    words.next().is_none().then_some((choice, value))
}

fn fail(reply: Option<Reply>, error: &Error) {
    if let Some(reply) = reply {
        reply.fail(error);
    }
}

/// Passes on what Claude says, under the name that the wire contract has for it.
fn tell(control: &Control, answer: Option<&RawValue>, reply: Reply) {
    #[derive(Deserialize)]
    struct Suggestions<'a> {
        #[serde(borrow)]
        suggestions: &'a RawValue,
    }
    if answer.is_some_and(|answer| answer.get().len() > ANSWER_BYTES_MAX) {
        return reply.fail(&Error::new(Code::TooLarge, "what Claude answers is too large"));
    }
    match control {
        Control::ContextUsage => reply.ok(&Told("usage", answer)),
        Control::Rewind { .. } => reply.ok(&Told("rewind", answer)),
        Control::StopTask { .. } => reply.ok(&Told("stopped", true)),
        Control::FileSuggestions { .. } => {
            let found = answer.and_then(|answer| serde_json::from_str::<Suggestions<'_>>(answer.get()).ok());
            match found {
                Some(found) => reply.ok(&Told("suggestions", found.suggestions)),
                None => reply.ok(&Told::<[(); 0]>("suggestions", [])),
            }
        }
        Control::Choose(..) => unreachable!("choices are confirmed"),
    }
}

fn applied(settings: &RawValue) -> Option<Applied> {
    #[derive(Deserialize)]
    struct Settings {
        applied: Applied,
    }
    serde_json::from_str::<Settings>(settings.get()).ok().map(|settings| settings.applied)
}

fn refused(sentence: &str) -> Error {
    Error::new(Code::AgentFailed, shortened(sentence, REFUSAL_CHARS_MAX))
}

/// Why there is no answer: the agent `how`.
fn ended(how: &str, session: &Session) -> Error {
    Error::new(Code::AgentFailed, format!("{} {how}", session.context.supervisor.agent().name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_commands_choose() {
        let cases = [
            ("/model haiku", Some((Choice::Model, "haiku"))),
            (" /effort  high\n", Some((Choice::Effort, "high"))),
            ("/model", None),
            ("/model a b", None),
            ("/model --help", None),
            ("/effort Very", None),
            ("/models haiku", None),
            ("say /model haiku", None),
            ("", None),
        ];
        for (prompt, expected) in cases {
            assert_eq!(chosen_by(prompt), expected, "{prompt:?}");
        }
    }
}
