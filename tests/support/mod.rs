//! What the test binaries share: a fake Messages API, the server and the agents as child processes, a raw
//! Socket.IO client, and a view of the process table.
//!
//! A test binary takes it in with
//!
//! ```ignore
//! #[path = "../support/mod.rs"]
//! mod support;
//! ```
//!
//! Nothing here sleeps in place of a condition: every wait is for an event, with a deadline that is far longer
//! than the event needs, so that a slow machine is slow and not red.

// Each test binary compiles this module anew and uses its own part of it.
#![allow(dead_code)]

use std::time::Duration;

pub mod agent;
pub mod client;
pub mod fake_api;
pub mod processes;
pub mod program;
pub mod server;
pub mod workspace;

/// How long a wait may take before the test has failed. It only ever costs time when something is broken.
pub const DEADLINE: Duration = Duration::from_secs(60);
