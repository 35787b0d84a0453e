//! What clients are shown of a session: what lists have of it, and its details.

use serde::Serialize;
use serde_json::value::RawValue;

use super::events::{Queued, Summary, json};
use super::fanout::Reply;
use super::history::room_beside;
use super::plain::shortened;
use super::prompt::Prompt;
use super::session::Session;
use super::state::{Context, Phase, State};
use crate::config::{BYPASS_PERMISSIONS, PERMISSION_MODES};

/// What is shown of Claude's tasks and of its list of what it has to do, in bytes of JSON: it goes out whenever anything
/// changes, and has to fit into acknowledgements beside the history.
const TASKS_AND_TODOS_BYTES_MAX: usize = 32 << 10;

impl Session {
    /// What lists show.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.peek(|state| state.summary(&self.context))
    }

    /// What lists show, if it belongs there.
    #[must_use]
    pub fn listed(&self) -> Option<Summary> {
        self.peek(|state| (!state.reserved && !state.deleted).then(|| state.summary(&self.context)))
    }

    /// Details for `getSession`.
    pub fn details(&self, reply: Reply) {
        self.with(|state, _| {
            let session = state.summary(&self.context);
            let lists = [&state.commands, &state.models, &state.agents];
            let lists: usize = lists.into_iter().flatten().map(|list| list.get().len()).sum();
            let (room, mut bytes) = (room_beside(&session).saturating_sub(lists), 0);
            let questions: Vec<_> = (state.questions.iter())
                .take_while(|question| {
                    bytes += question.data.len();
                    bytes <= room
                })
                .filter_map(|question| RawValue::from_string(question.data.to_string()).ok())
                .collect();
            reply.ok(&Details {
                ok: true,
                session,
                commands: state.commands.as_deref(),
                models: state.models.as_deref(),
                agents: state.agents.as_deref(),
                permission_modes: permission_modes(self.context.allow_bypass_permissions),
                questions: &questions,
            });
        });
    }
}

impl State {
    /// The state's name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.phase {
            Phase::Stopped => "stopped",
            Phase::Starting => "starting",
            Phase::Idle => "idle",
            Phase::Busy if self.questions.is_empty() => "busy",
            Phase::Busy => "waiting",
            Phase::Stopping => "stopping",
            Phase::Failed => "failed",
        }
    }

    /// What lists show.
    #[must_use]
    pub fn summary(&self, context: &Context) -> Summary {
        let mut room = TASKS_AND_TODOS_BYTES_MAX;
        let (tasks, todos) = (first_in(&mut room, self.tasks.list()), first_in(&mut room, self.todos.list()));
        let queued = |prompt: &Prompt| Queued { prompt_id: prompt.id.clone(), text: shortened(&prompt.text, 200) };
        Summary {
            session_id: self.id.to_string(),
            title: self.choices.title.clone(),
            state: self.name(),
            source: self.source,
            agent: context.supervisor.agent().name.clone(),
            agent_version: self.agent_version.clone(),
            mode: context.mode,
            cwd: self.choices.cwd.to_string_lossy().into_owned(),
            model: self.model_in_use.clone().or_else(|| self.choices.model.clone()),
            permission_mode: self.permission_mode_in_use.clone().or_else(|| self.choices.permission_mode.clone()),
            effort: self.choices.effort.clone(),
            created_at: self.created_at,
            last_activity: self.last_activity,
            viewers: self.viewers.len() + self.catching_up.len(),
            running: self.running.as_ref().map(|running| running.prompt.id.clone()),
            queue: self.queue.iter().map(queued).collect(),
            open_questions: self.questions.len(),
            turns: self.turns,
            cost_usd: self.account.cost_usd,
            usage: self.account.usage,
            context_tokens: self.account.context_tokens,
            context_window: self.account.context_window,
            rate_limit: self.account.rate_limit.clone(),
            tasks,
            todos,
            last_words: self.last_words.clone(),
            deleted: self.deleted,
            failure: self.failure.clone(),
            retrying: self.retrying.clone(),
        }
    }
}

/// Those that a client may choose.
fn permission_modes(all: bool) -> Vec<&'static str> {
    PERMISSION_MODES.iter().copied().filter(|mode| all || *mode != BYPASS_PERMISSIONS).collect()
}

/// The first of `all` whose JSON has room; there is less of it then.
fn first_in<T: Clone + Serialize>(room: &mut usize, all: &[T]) -> Vec<T> {
    let fits = |one: &&T| {
        let left = room.checked_sub(json(one).len() + 1);
        *room = left.unwrap_or_default();
        left.is_some()
    };
    all.iter().take_while(fits).cloned().collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Details<'a> {
    ok: bool,
    session: Summary,
    commands: Option<&'a RawValue>,
    models: Option<&'a RawValue>,
    agents: Option<&'a RawValue>,
    permission_modes: Vec<&'static str>,
    questions: &'a [Box<RawValue>],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_room_is_left_out() {
        let mut room = 13;
        let words = ["abc".to_owned(), "\u{1}".to_owned(), "x".to_owned()];
        assert_eq!(first_in(&mut room, &words[..1]), ["abc"]);
        assert_eq!(room, 7);
        assert!(first_in(&mut room, &words[1..]).is_empty(), "nor what is behind it");
        assert_eq!(room, 0);
    }
}
