//! What Claude is told.

use serde::Serialize;
use serde_json::value::RawValue;

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

/// The line that asks `text` of Claude; `uuid` (version 4) comes back in the echo and in the result.
#[must_use]
pub fn user_line(uuid: &str, text: &str) -> String {
    #[derive(Serialize)]
    struct User<'a> {
        r#type: &'static str,
        uuid: &'a str,
        message: Message<'a>,
        parent_tool_use_id: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Message<'a> {
        role: &'static str,
        content: &'a str,
    }
    let message = Message { role: "user", content: text };
    line(&User { r#type: "user", uuid, message, parent_tool_use_id: None })
}

/// The line of a control request without further fields, such as `initialize` or `interrupt`.
#[must_use]
pub fn control_request_line(request_id: &str, subtype: &str) -> String {
    line(&serde_json::json!({"type": "control_request", "request_id": request_id, "request": {"subtype": subtype}}))
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
    let mut line = serde_json::to_string(value).expect("strings and raw JSON always serialise");
    line.push('\n');
    line
}
