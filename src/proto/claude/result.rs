//! The end of a turn.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::read::Fields;
use super::values::{count, number, of, text};

/// A `result` line.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// `success`, `error_during_execution`, `error_max_turns`, …
    pub subtype: Cow<'a, str>,
    /// A failed API call can be `subtype: "success"` with this set.
    pub is_error: bool,
    /// The final text; often absent after an interrupt.
    pub result: Option<Cow<'a, str>>,
    /// Dollars that Claude has counted up to now, never less than nothing.
    pub total_cost_usd: Option<f64>,
    /// Milliseconds of this turn.
    pub duration_ms: Option<f64>,
    /// How often the model was asked in this turn: not at all where Claude ran a slash command itself.
    pub num_turns: Option<u64>,
    /// Tokens of this turn, in Claude's own form; it can be read as a [`ModelUsage`].
    pub usage: Option<&'a RawValue>,
    /// Tokens that Claude has counted up to now, by model; `None` where a part of that cannot be read.
    pub model_usage: Option<Vec<(Cow<'a, str>, ModelUsage)>>,
    /// The status that the API answered with, if that was why the turn failed.
    pub api_error_status: Option<u16>,
    /// What ended the turn: `completed`, `api_error`, `prompt_too_long`, …
    pub terminal_reason: Option<Cow<'a, str>>,
    /// The prompts that this turn answered, where the version names them.
    pub prompts: Vec<Cow<'a, str>>,
}

/// Claude counts in numbers of JavaScript: what they do not hold exactly is no count.
const COUNT_MAX: u64 = (1 << 53) - 1;

/// What one model has done, also for sub-agents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelUsage {
    /// Tokens that were read, without those from the cache.
    #[serde(alias = "input_tokens", deserialize_with = "counted")]
    pub input_tokens: u64,
    /// Tokens that were written.
    #[serde(alias = "output_tokens", deserialize_with = "counted")]
    pub output_tokens: u64,
    /// Tokens that came from the cache.
    #[serde(alias = "cache_read_input_tokens", deserialize_with = "counted")]
    pub cache_read_input_tokens: u64,
    /// Tokens that went into the cache.
    #[serde(alias = "cache_creation_input_tokens", deserialize_with = "counted")]
    pub cache_creation_input_tokens: u64,
    /// How much the model can hold in all.
    #[serde(deserialize_with = "number")]
    pub context_window: u64,
}

pub(super) fn outcome<'a>(fields: &Fields<'a>) -> Outcome<'a> {
    let mut prompts: Vec<Cow<'a, str>> = of(fields.user_message_uuids).unwrap_or_default();
    prompts.extend(text(fields.user_message_uuid));
    Outcome {
        subtype: text(fields.subtype).unwrap_or_default(),
        is_error: of(fields.is_error).unwrap_or(false),
        result: text(fields.result),
        total_cost_usd: of(fields.total_cost_usd).filter(|dollars: &f64| dollars.is_finite() && *dollars >= 0.0),
        duration_ms: of(fields.duration_ms),
        num_turns: of(fields.num_turns),
        usage: fields.usage,
        model_usage: model_usage(fields.model_usage),
        api_error_status: of(fields.api_error_status),
        terminal_reason: text(fields.terminal_reason),
        prompts,
    }
}

fn model_usage(raw: Option<&RawValue>) -> Option<Vec<(Cow<'_, str>, ModelUsage)>> {
    let models: BTreeMap<Cow<'_, str>, &RawValue> = of(raw)?;
    models.into_iter().map(|(name, usage)| Some((name, of(Some(usage))?))).collect()
}

/// A count. One of another shape is an error, and not 0, which would be taken for a count that begins anew.
fn counted<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let Some(raw) = Option::<&RawValue>::deserialize(deserializer)? else { return Ok(0) };
    let is_negative = of::<f64>(Some(raw)).is_some_and(|count| count < 0.0);
    let count = count(Some(raw)).filter(|count| !is_negative && *count <= COUNT_MAX);
    count.ok_or_else(|| D::Error::custom("not a count"))
}
