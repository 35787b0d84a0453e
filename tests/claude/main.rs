//! The real Claude Code CLI, with a fake Messages API behind it.
//!
//! It runs with an emptied environment and a temporary home, always. Which one is run says `support::agent::claude`.

#[path = "../support/mod.rs"]
mod support;

mod accounts;
mod agents;
mod asking;
mod attachments;
mod controls;
mod endings;
mod fake_api;
mod forks;
mod persistence;
mod resuming;
mod server;
mod setup;
mod terminal;
mod transcripts;
mod troubles;
