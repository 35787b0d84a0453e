//! The server from outside: the real binary, driven over its wire and by signals.

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod config;
mod controls;
mod death;
mod export;
mod forks;
mod http;
mod modes;
mod places;
mod questions;
mod queue;
mod restart;
mod scene;
mod sizes;
mod store;
mod terminal;
mod titles;
mod uploads;
mod versions;
mod wire;
