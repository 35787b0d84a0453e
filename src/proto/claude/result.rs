//! The end of a turn.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::read::Fields;
use super::values::{of, text};

/// A `result` line.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// `success`, `error_during_execution`, `error_max_turns`, …
    pub subtype: Cow<'a, str>,
    /// A failed API call can be `subtype: "success"` with this set.
    pub is_error: bool,
    /// The final text; often absent after an interrupt.
    pub result: Option<Cow<'a, str>>,
    /// Dollars since the process started.
    pub total_cost_usd: Option<f64>,
    /// Milliseconds of this turn.
    pub duration_ms: Option<f64>,
    /// How often the model was asked in this turn: not at all where Claude ran a slash command itself.
    pub num_turns: Option<u64>,
    /// Tokens of this turn, in Claude's own form.
    pub usage: Option<&'a RawValue>,
    /// The prompts that this turn answered, where the version names them.
    pub prompts: Vec<Cow<'a, str>>,
}

pub(super) fn outcome<'a>(fields: &Fields<'a>) -> Outcome<'a> {
    let mut prompts: Vec<Cow<'a, str>> = of(fields.user_message_uuids).unwrap_or_default();
    prompts.extend(text(fields.user_message_uuid));
    Outcome {
        subtype: text(fields.subtype).unwrap_or_default(),
        is_error: of(fields.is_error).unwrap_or(false),
        result: text(fields.result),
        total_cost_usd: of(fields.total_cost_usd),
        duration_ms: of(fields.duration_ms),
        num_turns: of(fields.num_turns),
        usage: fields.usage,
        prompts,
    }
}
