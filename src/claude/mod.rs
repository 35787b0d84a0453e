//! The processes: how `claude` is found, started, fed, listened to, stopped, and how nothing of it is left behind.
//!
//! ```text
//!  Session ──launch──▶ spawner thread ──fork──▶ claude
//!     ▲                                          │ stdin   ◀── its writer thread ◀── Process::write
//!     ├── output, exited ◀── stdout thread ◀─────┤ stdout
//!     │                      stderr thread ◀─────┤ stderr (bounded tail)
//!     │                      reaper thread ◀─────┘ exit: sweep what it left, then reap
//! ```
//!
//! [`command`] knows the command line, [`process`] one running child, [`supervisor`] all of them, [`sweep`] the process
//! table, [`guardian`] what happens when the server itself is killed, [`demo`] the stand-in where there is no `claude`.
//! [`version`] asks which Claude Code it is. [`transcripts`] reads what `claude` keeps of its conversations, wherever they were begun.

pub mod command;
pub mod demo;
pub mod guardian;
pub mod process;
pub mod supervisor;
pub mod sweep;
pub mod transcripts;
pub mod version;
