//! The shapes of what the server sends, as the wire contract has them. Times are Unix milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::account::Usage;
use super::attachments::Attached;
use super::tasks::BackgroundTask;
use super::todos::Todo;

/// No event or acknowledgement is larger: what would be goes out as `{seq, truncated, bytes}`.
pub const EVENT_BYTES_MAX: usize = 900_000;

/// The present, in Unix milliseconds.
#[must_use]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `session`: what a list shows of a session.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct Summary {
    pub session_id: String,
    pub title: Option<String>,
    pub state: &'static str,
    pub source: &'static str,
    pub agent: String,
    pub agent_version: Option<String>,
    pub mode: &'static str,
    pub cwd: String,
    pub model: Option<String>,
    pub permission_mode: Option<String>,
    pub effort: Option<String>,
    pub created_at: u64,
    pub last_activity: u64,
    pub viewers: usize,
    pub running: Option<String>,
    pub queue: Vec<Queued>,
    pub open_questions: usize,
    pub turns: u64,
    pub cost_usd: f64,
    pub usage: Usage,
    pub context_tokens: Option<u64>,
    pub context_window: Option<u64>,
    pub rate_limit: Option<RateLimited>,
    pub tasks: Vec<BackgroundTask>,
    pub todos: Vec<Todo>,
    pub last_words: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrying: Option<Retrying>,
}

/// A prompt that waits.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the wire contract says what each field is")]
pub struct Queued {
    pub prompt_id: String,
    pub text: String,
}

/// Why a session is `failed`, or why Claude could not ask the model, for a person to act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// `agent_failed`, `internal`; or what the API had against the last turn, such as `not_logged_in`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// The last that the process said on stderr.
    pub stderr: String,
}

/// How much of the account's limits is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RateLimited {
    /// `allowed`, `allowed_warning`, `rejected`.
    pub status: String,
    /// Which limit: `five_hour`, `seven_day`, …
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When it is renewed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resets_at: Option<u64>,
    /// How much of it is used, from 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub utilization: Option<f64>,
}

/// Claude waits, and then asks the API once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retrying {
    /// Why: one of the codes of [`Failure`].
    pub code: &'static str,
    /// Counts from 1.
    pub attempt: u64,
    /// How often it tries at most.
    pub attempts_max: u64,
    /// Until then it waits.
    pub until: u64,
}

/// Where a viewer stands in a session's numbering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The last numbered event.
    pub seq: u64,
    /// Deltas since.
    pub part: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SessionRegistered<'a> {
    pub session_id: &'a str,
    pub mode: &'static str,
    pub resumed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requested: Option<&'a str>,
    pub log_id: &'a str,
    pub seq: u64,
    pub part: u64,
    pub session: &'a Summary,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StreamMark<'a> {
    pub session_id: &'a str,
    pub prompt_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub so_far: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StreamChunk<'a> {
    pub session_id: &'a str,
    pub prompt_id: Option<&'a str>,
    pub text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Response<'a> {
    pub session_id: &'a str,
    pub prompt_id: &'a str,
    pub seq: u64,
    pub status: &'static str,
    pub full_response: &'a str,
    pub done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub truncated: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// The answer to a prompt for a session that does not exist.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvalidSession<'a> {
    pub session_id: &'a str,
    pub error: &'static str,
    pub done: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromptAsked<'a> {
    pub session_id: &'a str,
    pub seq: u64,
    pub prompt_id: &'a str,
    /// Claude's name for it, for `rewindFiles`; where it never got it, there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_message_id: Option<&'a str>,
    pub text: &'a str,
    #[serde(skip_serializing_if = "<[Attached]>::is_empty")]
    pub attachments: &'a [Attached],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PermissionRequest<'a> {
    pub session_id: &'a str,
    pub seq: u64,
    pub request_id: &'a str,
    pub tool_name: &'a str,
    pub input: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a str>,
    pub suggestions: &'a RawValue,
    pub request: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PermissionResolved<'a> {
    pub session_id: &'a str,
    pub seq: u64,
    pub request_id: &'a str,
    pub behavior: &'a str,
    pub by: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notice<'a> {
    pub session_id: &'a str,
    pub seq: u64,
    pub level: &'static str,
    pub code: &'static str,
    pub text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_id: Option<&'a str>,
}

/// `serverError`: the refusal of an event that asked for no acknowledgement.
#[derive(Serialize)]
pub(crate) struct ServerError<'a> {
    pub code: &'static str,
    pub message: &'a str,
    pub event: &'a str,
}

#[derive(Serialize)]
pub(crate) struct ServerShutdown {
    pub reason: &'static str,
}

/// The same as [`json`] for what holds a session's summary, about a kilobyte: it need not grow to that step by step, and
/// leaves a connection's thread no cache of the smaller steps, which would be most of what it holds when it is idle.
pub(crate) fn long_json(value: &impl Serialize) -> String {
    const BYTES: usize = 2048;
    let mut bytes = Vec::with_capacity(BYTES);
    serde_json::to_writer(&mut bytes, value).expect("plain data always serialises");
    String::from_utf8(bytes).expect("JSON is UTF-8")
}

/// JSON of a value that cannot fail to serialise: strings, numbers and JSON that was checked before.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data always serialises")
}

/// The answer to what opens, closes or changes a session.
#[derive(Clone, Serialize)]
pub(super) struct WithSession {
    pub ok: bool,
    pub session: Summary,
}
