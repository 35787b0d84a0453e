//! What Claude prints.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::control::{CanUseTool, control_request, control_response};
use super::message::{Context, Delta, ToolUse, assistant, delta, user};
use super::result::{Outcome, outcome};
use super::system::{RateLimit, Retry, Task, TaskNews, rate_limit, retry, task_news, tasks};
use super::values::{of, read, text};

/// One line of Claude's standard output.
#[derive(Debug)]
pub struct Line<'a> {
    /// The line as it came: one valid JSON object.
    pub raw: &'a str,
    /// The conversation it belongs to; it changes with `/clear` and forks.
    pub session_id: Option<Cow<'a, str>>,
    /// What it means to us.
    pub kind: Kind<'a>,
}

/// What a line means to the server.
#[derive(Debug)]
pub enum Kind<'a> {
    /// `system`/`init`: a turn begins.
    Init(Init<'a>),
    /// `stream_event`: a piece of the running answer, never stored.
    Delta(Delta<'a>),
    /// `assistant`: a finished content block.
    Assistant {
        /// The API message that it belongs to.
        message_id: Option<Cow<'a, str>>,
        /// Its text blocks joined, unless a sub-agent wrote it or there are none.
        text: Option<String>,
        /// Its name in Claude's record of the main conversation; a sub-agent's is not there.
        uuid: Option<Cow<'a, str>>,
        /// The tools that it wants to use.
        tool_uses: Vec<ToolUse<'a>>,
        /// What went wrong with the API, where Claude itself says this in the model's place: `authentication_failed`,
        /// `rate_limit`, `model_not_found`, …
        error: Option<Cow<'a, str>>,
        /// How much of the model's context the main conversation takes.
        context: Option<Context<'a>>,
    },
    /// `user` in the main conversation, but no echo: results of tools, and what Claude notes itself.
    User {
        /// Its name in Claude's record.
        uuid: Cow<'a, str>,
        /// The ids of the tool uses whose results it brings.
        tool_results: Vec<Cow<'a, str>>,
        /// What the tool itself has given: `tool_use_result`.
        tool_outcome: Option<&'a RawValue>,
    },
    /// `user` with `isReplay`: the echo of a prompt.
    Replay {
        /// The uuid that we gave the prompt.
        uuid: Cow<'a, str>,
    },
    /// `command_lifecycle`: what became of a prompt (2.1.330; older versions do not have it).
    Lifecycle {
        /// The uuid that we gave the prompt.
        uuid: Cow<'a, str>,
        /// `queued`, `started`, `completed`, `cancelled`.
        state: Cow<'a, str>,
    },
    /// `result`: the turn is over.
    Result(Box<Outcome<'a>>),
    /// `control_request`: Claude asks.
    ControlRequest {
        /// Names the request in the answer.
        request_id: Cow<'a, str>,
        /// The request itself.
        request: &'a RawValue,
        /// The fields of a permission question; `None` for every other subtype.
        can_use_tool: Option<Box<CanUseTool<'a>>>,
    },
    /// `control_response`: Claude answers one of our requests.
    ControlResponse {
        /// The request that it answers.
        request_id: Cow<'a, str>,
        /// The answer's payload, or the error's text.
        answer: Result<Option<&'a RawValue>, Cow<'a, str>>,
    },
    /// `control_cancel_request`: Claude no longer wants an answer.
    ControlCancel {
        /// The request that is void.
        request_id: Cow<'a, str>,
    },
    /// `system`/`task_started`, `task_progress`, `task_updated`, `task_notification`: what became of one task.
    Task {
        /// Which of the four.
        subtype: Cow<'a, str>,
        /// The rest.
        news: TaskNews<'a>,
    },
    /// `system`/`background_tasks_changed`: the whole list of background tasks (2.1.330; 2.1.197 does not have it).
    BackgroundTasks(Vec<Task<'a>>),
    /// `system`/`api_retry`: the API did not answer, Claude tries again.
    Retry(Retry<'a>),
    /// `rate_limit_event`: how much of the account's limits is used.
    RateLimit(RateLimit<'a>),
    /// `system`/`compact_boundary`: what was said until now is a summary from here on.
    Compacted,
    /// `system`/`status` with a changed permission mode.
    PermissionMode(Cow<'a, str>),
    /// `system`/`session_title_changed`: what Claude calls the conversation (2.1.330).
    Title(Cow<'a, str>),
    /// `system`/`commands_changed`: the whole list of slash commands, after one came or went.
    Commands(&'a RawValue),
    /// `keep_alive`: nothing.
    KeepAlive,
    /// Anything else: relayed, not understood.
    Other,
}

/// The first line of a turn.
#[derive(Debug)]
pub struct Init<'a> {
    /// The model in use.
    pub model: Option<Cow<'a, str>>,
    /// The permission mode in use.
    pub permission_mode: Option<Cow<'a, str>>,
    /// The CLI's own version.
    pub version: Option<Cow<'a, str>>,
}

/// The line is not a JSON object in UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct NotJson;

/// All fields that any line type steers with. Each stays raw until its type is known, so that no unexpected shape
/// can make a line unreadable.
#[derive(Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<&'a RawValue>,
    #[serde(borrow)]
    pub subtype: Option<&'a RawValue>,
    #[serde(borrow)]
    pub session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub parent_tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub event: Option<&'a RawValue>,
    #[serde(borrow)]
    pub message: Option<&'a RawValue>,
    #[serde(borrow)]
    pub request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub request: Option<&'a RawValue>,
    #[serde(borrow)]
    pub response: Option<&'a RawValue>,
    #[serde(borrow)]
    pub uuid: Option<&'a RawValue>,
    #[serde(borrow, rename = "isReplay")]
    pub is_replay: Option<&'a RawValue>,
    #[serde(borrow)]
    pub command_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    pub state: Option<&'a RawValue>,
    #[serde(borrow)]
    pub model: Option<&'a RawValue>,
    #[serde(borrow, rename = "permissionMode")]
    pub permission_mode: Option<&'a RawValue>,
    #[serde(borrow)]
    pub claude_code_version: Option<&'a RawValue>,
    #[serde(borrow)]
    pub is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub result: Option<&'a RawValue>,
    #[serde(borrow)]
    pub total_cost_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    pub duration_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    pub num_turns: Option<&'a RawValue>,
    #[serde(borrow)]
    pub usage: Option<&'a RawValue>,
    #[serde(borrow)]
    pub user_message_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    pub user_message_uuids: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tasks: Option<&'a RawValue>,
    #[serde(borrow)]
    pub title: Option<&'a RawValue>,
    #[serde(borrow)]
    pub commands: Option<&'a RawValue>,
    #[serde(borrow)]
    pub api_error_status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub terminal_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error: Option<&'a RawValue>,
    #[serde(borrow)]
    pub task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub task_type: Option<&'a RawValue>,
    #[serde(borrow)]
    pub description: Option<&'a RawValue>,
    #[serde(borrow)]
    pub status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub patch: Option<&'a RawValue>,
    #[serde(borrow)]
    pub attempt: Option<&'a RawValue>,
    #[serde(borrow)]
    pub max_retries: Option<&'a RawValue>,
    #[serde(borrow)]
    pub retry_delay_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    pub error_status: Option<&'a RawValue>,
    #[serde(borrow)]
    pub rate_limit_info: Option<&'a RawValue>,
    #[serde(borrow)]
    pub tool_use_result: Option<&'a RawValue>,
    #[serde(borrow, rename = "modelUsage")]
    pub model_usage: Option<&'a RawValue>,
}

/// Reads one line of Claude's output.
///
/// # Errors
/// [`NotJson`] when the line is not one JSON object in UTF-8; such lines are skipped and counted.
pub fn parse(line: &[u8]) -> Result<Line<'_>, NotJson> {
    let raw = std::str::from_utf8(line).map_err(|_| NotJson)?.trim_ascii();
    let fields: Fields<'_> = if raw.starts_with('{') { read(raw).ok_or(NotJson)? } else { return Err(NotJson) };
    let session_id = text(fields.session_id);
    Ok(Line { raw, session_id, kind: kind(&fields).unwrap_or(Kind::Other) })
}

/// `None` where a field that the type needs is missing or odd: then the line is one more that we do not understand.
fn kind<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    Some(match text(fields.kind)?.as_ref() {
        "stream_event" => Kind::Delta(delta(fields)),
        "system" => match text(fields.subtype)?.as_ref() {
            "init" => Kind::Init(Init {
                model: text(fields.model),
                permission_mode: text(fields.permission_mode),
                version: text(fields.claude_code_version),
            }),
            "status" => Kind::PermissionMode(text(fields.permission_mode)?),
            "commands_changed" => Kind::Commands(fields.commands?),
            "session_title_changed" => Kind::Title(text(fields.title)?),
            "background_tasks_changed" => Kind::BackgroundTasks(tasks(fields)?),
            "task_started" | "task_progress" | "task_updated" | "task_notification" => {
                Kind::Task { subtype: text(fields.subtype)?, news: task_news(fields)? }
            }
            "api_retry" => Kind::Retry(retry(fields)),
            "compact_boundary" => Kind::Compacted,
            _ => return None,
        },
        "assistant" => assistant(fields)?,
        "user" if of(fields.is_replay) == Some(true) => Kind::Replay { uuid: text(fields.uuid)? },
        "user" if in_main_conversation(fields) => user(fields)?,
        "command_lifecycle" => Kind::Lifecycle { uuid: text(fields.command_uuid)?, state: text(fields.state)? },
        "rate_limit_event" => Kind::RateLimit(rate_limit(fields)?),
        "result" => Kind::Result(Box::new(outcome(fields))),
        "control_request" => control_request(fields)?,
        "control_response" => control_response(fields)?,
        "control_cancel_request" => Kind::ControlCancel { request_id: text(fields.request_id)? },
        "keep_alive" => Kind::KeepAlive,
        _ => return None,
    })
}

/// Sub-agents' lines carry the id of the tool use that started them.
pub(super) fn in_main_conversation(fields: &Fields<'_>) -> bool {
    fields.parent_tool_use_id.is_none_or(|id| id.get() == "null")
}
