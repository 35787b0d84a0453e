//! `claude-session-manager`: use Claude Code from any Socket.IO client.
pub mod auth;
pub mod claude;
pub mod config;
pub mod logging;
pub mod net;
pub mod proto;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod threads;
pub mod timer;
