//! What Claude asks, and what it answers.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{Fields, Kind};
use super::values::{of, read, text};

/// A permission question.
#[derive(Debug)]
pub struct CanUseTool<'a> {
    /// The tool's name.
    pub tool_name: Cow<'a, str>,
    /// What Claude wants to give the tool.
    pub input: &'a RawValue,
    /// One line that says what for.
    pub description: Option<Cow<'a, str>>,
    /// Why it has to be asked; it may hold a terminal's escapes.
    pub reason: Option<Cow<'a, str>>,
    /// The agent that asks, by the name of its task; none where it is the main conversation.
    pub agent_id: Option<Cow<'a, str>>,
    /// What can be allowed for good, in Claude's own form: an array.
    pub suggestions: Option<&'a RawValue>,
}

pub(super) fn control_request<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        subtype: Option<&'a RawValue>,
        #[serde(borrow)]
        tool_name: Option<&'a RawValue>,
        #[serde(borrow)]
        input: Option<&'a RawValue>,
        #[serde(borrow)]
        description: Option<&'a RawValue>,
        #[serde(borrow)]
        decision_reason: Option<&'a RawValue>,
        #[serde(borrow)]
        agent_id: Option<&'a RawValue>,
        #[serde(borrow)]
        permission_suggestions: Option<&'a RawValue>,
    }
    // Whatever it is, it has a name, under which it gets an answer.
    let (request_id, request) = (text(fields.request_id)?, fields.request.unwrap_or(RawValue::NULL));
    let can_use_tool = || {
        let asked: Request<'a> = read(request.get())?;
        (text(asked.subtype)?.as_ref() == "can_use_tool").then_some(())?;
        Some(Box::new(CanUseTool {
            tool_name: text(asked.tool_name)?,
            input: asked.input?,
            description: text(asked.description),
            reason: text(asked.decision_reason),
            agent_id: text(asked.agent_id),
            suggestions: asked.permission_suggestions.filter(|raw| raw.get().starts_with('[')),
        }))
    };
    Some(Kind::ControlRequest { request_id, request, can_use_tool: can_use_tool() })
}

pub(super) fn control_response<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        subtype: Cow<'a, str>,
        #[serde(borrow)]
        request_id: Cow<'a, str>,
        #[serde(borrow)]
        response: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<&'a RawValue>,
    }
    let response: Response<'a> = of(fields.response)?;
    let answer = match response.subtype.as_ref() {
        "success" => Ok(response.response),
        _ => Err(text(response.error).unwrap_or_default()),
    };
    Some(Kind::ControlResponse { request_id: response.request_id, answer })
}
