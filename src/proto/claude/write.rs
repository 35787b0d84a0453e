//! What Claude is told.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::request::Request;

/// What Claude is to do with the tool that it asked about.
#[derive(Debug, Serialize)]
#[serde(tag = "behavior", rename_all = "lowercase")]
pub enum Permission<'a> {
    /// Run it. `updatedInput` is always sent: older versions deny without it.
    Allow {
        /// The input to run it with.
        #[serde(rename = "updatedInput")]
        updated_input: &'a RawValue,
        /// Rules to keep, taken from the question's suggestions.
        #[serde(rename = "updatedPermissions", skip_serializing_if = "Option::is_none")]
        updated_permissions: Option<&'a RawValue>,
    },
    /// Do not run it.
    Deny {
        /// What Claude reads as the reason.
        message: &'a str,
        /// Whether the turn ends as well.
        interrupt: bool,
    },
}

/// What a message to Claude says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// A text.
    Text(&'a str),
    /// JSON, on one line: a string, or an array of content blocks.
    Json(&'a str),
}

/// The line that asks `content` of Claude; `uuid` (version 4) comes back in the echo and in the result.
#[must_use]
pub fn user_line(uuid: &str, content: Content<'_>) -> String {
    let content = match content {
        Content::Text(text) => Cow::Owned(json(text)),
        Content::Json(json) => Cow::Borrowed(json),
    };
    let uuid = json(uuid);
    // Put together by hand: there may be megabytes of images, which are not to be read again.
    format!(
        r#"{{"type":"user","uuid":{uuid},"message":{{"role":"user","content":{content}}},"parent_tool_use_id":null}}{}"#,
        '\n'
    )
}

/// The line of a control request without further fields, such as `initialize` or `interrupt`.
#[must_use]
pub fn control_request_line(request_id: &str, subtype: &str) -> String {
    request_line(request_id, &serde_json::json!({"subtype": subtype}))
}

/// The line that tells Claude what the conversation is called.
#[must_use]
pub fn rename_line(request_id: &str, title: &str) -> String {
    request_line(request_id, &serde_json::json!({"subtype": "rename_session", "title": title}))
}

/// The line of a control request.
#[must_use]
pub fn control_line(request_id: &str, request: &Request<'_>) -> String {
    request_line(request_id, request)
}

fn request_line(request_id: &str, request: &impl Serialize) -> String {
    line(&serde_json::json!({"type": "control_request", "request_id": request_id, "request": request}))
}

/// The line that answers a permission question.
#[must_use]
pub fn permission_line(request_id: &str, permission: &Permission<'_>) -> String {
    control_response_line(request_id, "success", "response", permission)
}

/// The line that tells Claude that a request is not served here: silence would leave it waiting.
#[must_use]
pub fn control_error_line(request_id: &str, error: &str) -> String {
    control_response_line(request_id, "error", "error", &error)
}

fn control_response_line(request_id: &str, subtype: &str, key: &'static str, payload: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Response<'a, T> {
        r#type: &'static str,
        response: Inner<'a, T>,
    }
    struct Inner<'a, T> {
        subtype: &'a str,
        request_id: &'a str,
        key: &'static str,
        payload: &'a T,
    }
    impl<T: Serialize> Serialize for Inner<'_, T> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            let mut inner = serializer.serialize_struct("response", 3)?;
            inner.serialize_field("subtype", self.subtype)?;
            inner.serialize_field("request_id", self.request_id)?;
            inner.serialize_field(self.key, self.payload)?;
            inner.end()
        }
    }
    line(&Response { r#type: "control_response", response: Inner { subtype, request_id, key, payload } })
}

fn line(value: &impl Serialize) -> String {
    let mut line = json(value);
    line.push('\n');
    line
}

fn json(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_string(value).expect("strings and raw JSON always serialise")
}
