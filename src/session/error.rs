//! What a client is told when its event cannot be served.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::Value;

/// The codes of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is its own name on the wire")]
pub enum Code {
    Unauthorized,
    RateLimited,
    BadRequest,
    UnknownEvent,
    InvalidSession,
    SessionEnded,
    NotInSharedMode,
    Conflict,
    StaleRequest,
    BadCwd,
    ForbiddenOption,
    TooManySessions,
    StorageFull,
    StorageDamaged,
    SeqGap,
    TooLarge,
    NotSupported,
    AgentFailed,
    ShuttingDown,
}

impl Code {
    /// The name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Code::Unauthorized => "unauthorized",
            Code::RateLimited => "rate_limited",
            Code::BadRequest => "bad_request",
            Code::UnknownEvent => "unknown_event",
            Code::InvalidSession => "invalid_session",
            Code::SessionEnded => "session_ended",
            Code::NotInSharedMode => "not_in_shared_mode",
            Code::Conflict => "conflict",
            Code::StaleRequest => "stale_request",
            Code::BadCwd => "bad_cwd",
            Code::ForbiddenOption => "forbidden_option",
            Code::TooManySessions => "too_many_sessions",
            Code::StorageFull => "storage_full",
            Code::StorageDamaged => "storage_damaged",
            Code::SeqGap => "seq_gap",
            Code::TooLarge => "too_large",
            Code::NotSupported => "not_supported",
            Code::AgentFailed => "agent_failed",
            Code::ShuttingDown => "shutting_down",
        }
    }
}

/// A refusal: `{code, message, …}` on the wire.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// For programs.
    pub code: Code,
    /// For people: one sentence.
    pub message: String,
    /// What the code promises beside these, such as `field`.
    pub details: BTreeMap<String, Value>,
}

impl Error {
    /// A refusal without details.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), details: BTreeMap::new() }
    }

    /// Adds a detail.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Error {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// A missing or wrongly typed field.
    pub fn field(field: &str, problem: impl std::fmt::Display) -> Error {
        Error::new(Code::BadRequest, format!("{field} {problem}")).with("field", field)
    }

    /// No such session.
    #[must_use]
    pub fn invalid_session() -> Error {
        Error::new(Code::InvalidSession, "Invalid session ID")
    }
}

impl Serialize for Error {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 + self.details.len()))?;
        map.serialize_entry("code", self.code.name())?;
        map.serialize_entry("message", &self.message)?;
        for (key, value) in &self.details {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
