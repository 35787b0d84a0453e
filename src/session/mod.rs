//! The sessions: conversations with one Claude process behind each, watched and steered by any number of viewers.
//!
//! ```text
//!  net ──▶ api ──▶ manager ──▶ session ──▶ life (start, stop, exit)   ──▶ claude
//!                                 │        control (what is asked beside prompts) ──▶ claude
//!                                 │        turn (what Claude's lines mean), questions (what it asks) ◀── claude
//!                                 ▼
//!                    log (gives every event its number) ──▶ fanout (encodes once, pushes to every viewer)
//!                                 └──▶ store (whole events, prompts, the session's row)
//! ```
//!
//! A session is in memory while somebody is there or something goes on ([`live`]); otherwise it is rows in the store, from
//! which it comes back (`stored`), and from which its past is read (`history`, `catchup`). Processes are scarce: `slots`
//! says how many there may be, the [`keeper`] sees that those who wait get theirs.
//!
//! Beside the answer Claude tells what it costs and holds (`aside`): `account`, `tasks`, `todos`; and why it could not ask
//! the model (`trouble`). All of that stands in the summary.
//!
//! A session is one mutex around its [`state::State`]. Whatever happens to it, from a client or from Claude, happens under
//! that lock: it is numbered, appended to the log and pushed to every viewer's outbox, which never blocks. So the order
//! on every wire is the order of `seq`.

mod account;
pub mod api;
mod aside;
pub mod attachments;
mod catchup;
pub mod control;
mod conversation;
mod deltas;
mod directories;
pub mod error;
pub mod events;
pub mod export;
pub mod fanout;
mod fields;
mod files;
mod fork;
mod history;
mod interrupt;
pub mod keeper;
mod life;
pub mod live;
pub mod log;
pub mod manager;
mod plain;
pub mod prompt;
pub mod questions;
pub mod rules;
#[expect(
    clippy::module_inception,
    reason = "the folder holds all that sessions are made of, the file the session itself"
)]
pub mod session;
pub mod slots;
pub mod state;
mod stored;
mod tasks;
mod terminal;
mod title;
mod todos;
mod trouble;
mod turn;
pub mod uploads;
