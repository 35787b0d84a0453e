//! The tests' own tools: a tool that is wrong makes every test wrong that uses it.

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod clients;
mod servers;
