//! `claude-session-manager`: use Claude Code from any Socket.IO client.
//!
//! One small server on plain OS threads, without an async runtime. It owns sessions; each is a conversation with one
//! `claude` process behind it, watched and steered by any number of connected clients. This page is the map.
//!
//! ```text
//!  client ──socket──▶ net ──▶ proto ──▶ session::api ──▶ SessionManager ──▶ Session ──▶ claude::Supervisor
//!                   (threads) (pure)    (the contract)   (a map, a mutex)  (a mutex)    │ spawner, reaper
//!                                                                             │  ▲      ▼
//!                                                                             │  └── stdout thread ◀── claude
//!  client ◀──socket── outbox ◀──────────── fan-out (encoded once) ◀───────────┘ log (gives every event its number)
//! ```
//!
//! | where | what |
//! |---|---|
//! | [`proto`] | the packet formats, pure: HTTP, Engine.IO, Socket.IO, WebSocket frames, Claude's stream-json |
//! | [`net`] | a Socket.IO server that knows nothing of Claude: both transports, push, ping, recovery; usable on its own |
//! | [`session`] | the sessions: the wire contract ([`session::api`]), both modes ([`session::manager`]), one conversation ([`session::session`]) |
//! | [`claude`] | the processes: command line, pipes, death, the guardian, the demo agent; the conversations that the CLI keeps itself |
//! | [`config`], [`auth`], [`logging`] | what was asked for, who is let in, what is told |
//! | [`routes`] | plain HTTP: the page, health, single events, exports |
//! | [`server`], [`shutdown`] | everything put together, started and stopped in order |
//! | [`timer`], [`threads`] | every deadline on one thread; threads that are counted and waited for |
//!
//! # An answer's way
//!
//! Claude prints a line. The process's stdout thread reads it (with all others that are there), takes the session's
//! lock, finds out what the line means ([`proto::claude`]), numbers it, appends it to the log, encodes it once for each
//! kind of viewer that is present, and pushes the result into each viewer's outbox, which hands it to the kernel at once.
//! One wake-up, no second thread. Only a client that is behind gets a writer thread, for as long as it is behind; and only
//! while every viewer is behind, the thread that reads Claude waits for them, holding no lock ([`net::Room`]).
//!
//! # Locks
//!
//! In this order: the manager's map, one session's state, what is kept for one client that may recover, one connection's
//! outbox. None is held across a send that can block, a spawn, a join, or I/O other than the outbox's non-blocking send.
//!
//! # Threads
//!
//! | thread | blocks on | ends when |
//! |---|---|---|
//! | main | signals | everything is stopped |
//! | `accept` | `accept` | shutdown |
//! | `conn`, one a socket | its socket, or a parked poll | the client is gone, or the heartbeat is lost |
//! | `writer`, one a client that is behind | its socket | the backlog is sent |
//! | `writers`, `leavers` | the next client that falls behind; the next polling one that is gone | shutdown |
//! | `timer` | the next deadline | shutdown |
//! | `catch-up`, one a client that comes back to a long backlog | room in its outbox | it is live, or gone |
//! | `stdin-PID`, `stdout-PID`, `stderr-PID` | one pipe each | the process has exited and is swept |
//! | `spawner` | the next order; forks every child | shutdown, after the last child |
//! | `reaper` | any child's exit | shutdown, after the last child |

pub mod auth;
pub mod claude;
pub mod config;
pub mod failpoint;
pub mod logging;
pub mod net;
pub mod proto;
pub mod routes;
pub mod server;
pub mod session;
pub mod shutdown;
pub mod store;
pub mod threads;
pub mod timer;
