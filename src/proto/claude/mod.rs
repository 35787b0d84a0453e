//! Claude Code's stream-json, as far as this server must understand it.
//!
//! One JSON object a line in both directions. Lines are relayed as they came; only the few fields that steer are
//! looked at, and leniently: a field of an unexpected shape is as good as absent, a line of unknown type is
//! [`Kind::Other`]. New types appear with every release of the CLI. The order of keys is not fixed: on 2.1.330 the
//! `type` of a `result` line comes nineteenth.

mod control;
mod message;
mod read;
mod request;
mod result;
mod system;
#[cfg(test)]
mod tests;
mod text_delta;
mod values;
mod write;

pub use control::CanUseTool;
pub use message::{Context, Delta, ToolUse};
pub use read::{Init, Kind, Line, NotJson, parse};
pub use request::{FlagSettings, Request};
pub use result::{ModelUsage, Outcome};
pub use system::{RateLimit, Retry, Task, TaskNews};
pub use text_delta::TextDelta;
pub(crate) use values::{of, text as string};
pub use write::{
    Content, Permission, control_error_line, control_line, control_request_line, permission_line, rename_line,
    user_line,
};
