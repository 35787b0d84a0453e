//! Claude Code's stream-json, as far as this server must understand it.
//!
//! One JSON object a line in both directions. Lines are relayed as they came; only the few fields that steer are
//! looked at, and leniently: a field of an unexpected shape is as good as absent, a line of unknown type is
//! [`Kind::Other`]. New types appear with every release of the CLI. The order of keys is not fixed: on 2.1.330 the
//! `type` of a `result` line comes nineteenth.

mod read;
mod request;
#[cfg(test)]
mod tests;
mod text_delta;
mod write;

pub use read::{CanUseTool, Delta, Init, Kind, Line, NotJson, Outcome, parse};
pub(crate) use read::{of, text as string};
pub use request::{FlagSettings, Request};
pub use text_delta::TextDelta;
pub use write::{
    Content, Permission, control_error_line, control_line, control_request_line, permission_line, rename_line,
    user_line,
};
