//! `claude-session-manager`: use Claude Code from any Socket.IO client.
pub mod proto;
pub mod timer;
