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
//! A session is one mutex around its [`state::State`]. Whatever happens to it, from a client or from Claude, happens under
//! that lock: it is numbered, appended to the log and pushed to every viewer's outbox, which never blocks. So the order
//! on every wire is the order of `seq`.
//!
//! | what | where |
//! |---|---|
//! | the contract with clients | [`api`] (events), `fields`, [`rules`] (what is checked), [`events`] (what goes out), [`error`] |
//! | which sessions there are | [`manager`] (both modes), [`live`] (in memory), `stored` (as rows), `terminal` (of a `claude` in a terminal), `fork`, [`keeper`] (who waits, and who expires) |
//! | one session | [`session`] (the lock), [`state`], `summary` (what is shown of it), `viewers` (who watches), `ending` |
//! | what is asked | [`prompt`] (up to Claude), `response` (how it ends), `interrupt`, [`control`] (all but prompts), [`questions`] (what Claude asks), `title` |
//! | the process | `life`, `place` and [`slots`] (how many there may be), `conversation` (whose words it knows) |
//! | what Claude says | `turn`; beside the answer (`aside`) `account`, `tasks`, `todos`, and `trouble` with the model |
//! | what has been said | `record` (a number, the viewers, the store), [`log`], `deltas`, [`fanout`]; `history`, `catchup`, [`export`] |
//! | files | `files`, [`uploads`], [`attachments`]; `directories` to choose from |
//!
//! A session is in memory while somebody is there or something goes on; otherwise it is rows in the store, from which it
//! comes back, and from which its past is read.

mod account;
pub mod api;
mod aside;
pub mod attachments;
mod catchup;
pub mod control;
mod conversation;
mod deltas;
mod directories;
mod ending;
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
mod place;
mod plain;
pub mod prompt;
pub mod questions;
mod record;
mod response;
pub mod rules;
#[expect(
    clippy::module_inception,
    reason = "the folder holds all that sessions are made of, the file the session itself"
)]
pub mod session;
pub mod slots;
pub mod state;
mod stored;
mod summary;
mod tasks;
mod terminal;
mod title;
mod todos;
mod trouble;
mod turn;
pub mod uploads;
mod viewers;
