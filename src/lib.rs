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
//! | [`store`] | what outlives the server: rows of one SQLite file, one thread that writes them |
//! | [`claude`] | the processes: command line, pipes, death, the guardian, the demo agent; the conversations that the CLI keeps itself |
//! | [`config`], [`auth`], [`logging`] | what was asked for, who is let in, what is told |
//! | [`routes`], [`web`] | plain HTTP: health, single events, exports, uploads; the page |
//! | [`server`], [`shutdown`] | everything put together, started and stopped in order |
//! | [`timer`], [`threads`] | every deadline on one thread; threads that are counted and waited for |
//!
//! # An answer's way
//!
//! Claude prints a line. The process's stdout thread reads it (with all others that are there), takes the session's
//! lock, finds out what the line means ([`proto::claude`]), numbers it, appends it to the log, encodes it once for each
//! kind of viewer that is present, and pushes the result into each viewer's outbox, which hands it to the kernel at once.
//! One wake-up, no second thread. Only a client that is behind gets a writer thread, for as long as it is behind. Only while
//! every viewer is behind, or for a moment where one would be sent away, the thread that reads Claude waits for them, holding
//! no lock ([`net::Room`]).
//!
//! # A prompt's way
//!
//! A client asks. Under the session's lock the prompt is handed to the store, and the lock released. When it is on the
//! disk, the store's thread acknowledges it and gives it its turn: if Claude has nothing to do, it was stored as written in
//! the same commit, and goes to the process's stdin thread; otherwise it waits in the queue, and is marked as written when
//! its turn comes. So after a crash what was acknowledged runs once ([`session::prompt`], [`store`]).
//!
//! # Locks
//!
//! In this order: the map of the sessions in memory, one session's state, the places for processes, what is kept for one
//! client that may recover, one connection's outbox. None is held across a send that can block, a spawn, a join, or I/O
//! other than the outbox's non-blocking send; the database is read with no lock held. The one exception is taken by whoever
//! opens a terminal's conversation, and waited for by nobody else (`session::terminal`).
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
//! | `store` | what is to be written; the disk | the server has stopped all else |
//! | `keeper` | a session that waits for a process; the oldest session's expiry | shutdown |
//! | `catch-up`, one a client that comes back to a long backlog | room in its outbox | it is live, or gone |
//! | `stdin-PID`, `stdout-PID`, `stderr-PID` | one pipe each | the process has exited and is swept |
//! | `spawner` | the next order; forks every child | shutdown, after the last child |
//! | `refuse`, `remove`, `tidy` | an answer that must not be given on the asking thread; files of deleted sessions | at once |
//! | `version` | what the program says of its version, at the start | it has, or 10 s have passed |
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
pub mod web;
