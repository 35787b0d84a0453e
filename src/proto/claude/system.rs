//! What Claude tells beside the conversation: background tasks, limits, an API that does not answer.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::Fields;
use super::values::{count, of, text};

/// A background task, as the whole list of them has it.
#[derive(Debug)]
pub struct Task<'a> {
    /// Its name.
    pub id: Cow<'a, str>,
    /// `local_bash`, `local_agent`, …
    pub kind: Option<Cow<'a, str>>,
    /// What it is for.
    pub description: Option<Cow<'a, str>>,
}

/// What became of one task.
#[derive(Debug)]
pub struct TaskNews<'a> {
    /// The task, with what this line says of it.
    pub task: Task<'a>,
    /// The use of a tool that has started it.
    pub tool_use_id: Option<Cow<'a, str>>,
    /// `running`, `completed`, `failed`, `killed`, `stopped`, …
    pub status: Option<Cow<'a, str>>,
}

/// The API did not answer as it should, and Claude tries again.
#[derive(Debug, PartialEq, Eq)]
pub struct Retry<'a> {
    /// Counts from 1.
    pub attempt: u64,
    /// How often it tries at most.
    pub attempts_max: u64,
    /// How long it waits before that.
    pub delay_ms: u64,
    /// The status that the API answered with, if it answered at all.
    pub status: Option<u16>,
    /// The same words as those of an `assistant` line's `error`.
    pub error: Cow<'a, str>,
}

/// How much of the account's limits is used.
#[derive(Debug, PartialEq)]
pub struct RateLimit<'a> {
    /// `allowed`, `allowed_warning`, `rejected`.
    pub status: Cow<'a, str>,
    /// `five_hour`, `seven_day`, …
    pub kind: Option<Cow<'a, str>>,
    /// Unix seconds.
    pub resets_at: Option<u64>,
    /// From 0 to 1.
    pub utilization: Option<f64>,
}

pub(super) fn tasks<'a>(fields: &Fields<'a>) -> Option<Vec<Task<'a>>> {
    #[derive(Deserialize)]
    struct Listed<'a> {
        #[serde(borrow)]
        task_id: Option<&'a RawValue>,
        #[serde(borrow)]
        task_type: Option<&'a RawValue>,
        #[serde(borrow)]
        description: Option<&'a RawValue>,
    }
    let listed: Vec<Listed<'a>> = of(fields.tasks)?;
    let task = |task: Listed<'a>| Task {
        // One without a name is one all the same: it keeps the process from being put to sleep.
        id: text(task.task_id).unwrap_or_default(),
        kind: text(task.task_type),
        description: text(task.description),
    };
    Some(listed.into_iter().map(task).collect())
}

pub(super) fn task_news<'a>(fields: &Fields<'a>) -> Option<TaskNews<'a>> {
    #[derive(Deserialize)]
    struct Patch<'a> {
        #[serde(borrow)]
        status: Option<&'a RawValue>,
        #[serde(borrow)]
        description: Option<&'a RawValue>,
    }
    let patch: Option<Patch<'a>> = of(fields.patch);
    let patched = |field: fn(&Patch<'a>) -> Option<&'a RawValue>| patch.as_ref().and_then(field);
    let id = text(fields.task_id)?;
    let description = text(fields.description.or_else(|| patched(|patch| patch.description)));
    Some(TaskNews {
        task: Task { id, kind: text(fields.task_type), description },
        tool_use_id: text(fields.tool_use_id),
        status: text(fields.status.or_else(|| patched(|patch| patch.status))),
    })
}

pub(super) fn retry<'a>(fields: &Fields<'a>) -> Retry<'a> {
    Retry {
        attempt: count(fields.attempt).unwrap_or_default(),
        attempts_max: count(fields.max_retries).unwrap_or_default(),
        delay_ms: count(fields.retry_delay_ms).unwrap_or_default(),
        status: of(fields.error_status),
        error: text(fields.error).unwrap_or_default(),
    }
}

pub(super) fn rate_limit<'a>(fields: &Fields<'a>) -> Option<RateLimit<'a>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info<'a> {
        #[serde(borrow)]
        status: Option<&'a RawValue>,
        #[serde(borrow)]
        rate_limit_type: Option<&'a RawValue>,
        #[serde(borrow)]
        resets_at: Option<&'a RawValue>,
        #[serde(borrow)]
        utilization: Option<&'a RawValue>,
    }
    let info: Info<'a> = of(fields.rate_limit_info)?;
    Some(RateLimit {
        status: text(info.status)?,
        kind: text(info.rate_limit_type),
        resets_at: count(info.resets_at),
        utilization: of(info.utilization),
    })
}
