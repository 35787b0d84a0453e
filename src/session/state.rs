//! What a session is, under its lock.
//!
//! ```text
//!  stopped ──prompt──▶ starting ──initialize answered──▶ idle ──prompt written, or a turn begins──▶ busy ◀──▶ waiting
//!     ▲  ▲                │ exit                          ▲ │                                        │ │
//!     │  └── failed ◀─────┴──────────────crash────────────┼─┼────────────────────────────────────────┘ │
//!     │         ▲                                         └─┼─────────────────── result ◀──────────────┘
//!     └──────── stopping ◀─── close, hibernation, a process that does not answer ─┘
//! ```
//!
//! `waiting` is `busy` with an open question. Prompts that come while the session is `stopping` wait; the next process
//! starts only when the last one is reaped and swept: never two on one conversation.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::value::RawValue;

use super::account::Account;
use super::catchup::Joining;
use super::control::Asked;
use super::conversation::{Conversation, uuid_v4};
use super::deltas::Deltas;
use super::ending::WhenStopped;
use super::events::{Failure, Retrying, now_ms};
use super::fanout::Viewer;
use super::interrupt::Interrupt;
use super::live::Live;
use super::log::Log;
use super::place::Place;
use super::prompt::{Accepting, Prompt, Running};
use super::questions::{Question, Resolved};
use super::slots::Slots;
use super::tasks::Tasks;
use super::todos::Todos;
use super::turn::Turn;
use crate::claude::process::Process;
use crate::claude::supervisor::Supervisor;
use crate::claude::transcripts::Transcripts;
use crate::net::Room;
use crate::store::{Change, Done, Key, Store};
use crate::threads::Threads;
use crate::timer::Timer;

/// What all sessions share.
pub struct Context {
    /// Starts the processes.
    pub supervisor: Supervisor,
    /// Where deadlines go.
    pub timer: Timer,
    /// Those that send what was missed.
    pub threads: Threads,
    /// Where Claude's output waits while all its viewers are behind.
    pub room: Arc<Room>,
    /// `shared` or `isolated`, for the summary.
    pub mode: &'static str,
    /// What outlives the server.
    pub store: Arc<Store>,
    /// Where the store is, and under it the files that came with prompts.
    pub data_dir: PathBuf,
    /// The sessions that are in memory.
    pub live: Live,
    /// How many processes there may be.
    pub slots: Slots,
    /// What a `claude` in a terminal has left, if this server's agent can go on with it.
    pub transcripts: Option<Transcripts>,
    /// Held by whoever brings one of them in.
    pub importing: Mutex<()>,
    /// The version that the last process has told.
    pub agent_version: Mutex<Option<String>>,
    /// Whether there may be sessions without permission questions.
    pub allow_bypass_permissions: bool,
    /// How long a process may take to answer `initialize`, and what clients ask of it.
    pub start_timeout: Duration,
    /// How long Claude may take to answer an interrupt.
    pub interrupt_timeout: Duration,
    /// After this long without viewers and work the process stops.
    pub idle_timeout: Option<Duration>,
    /// After this long without anybody and anything a session leaves the memory.
    pub unload_after: Option<Duration>,
}

impl Context {
    /// Whether there is a session of that name; if in doubt, there is.
    pub(super) fn is_known(&self, id: &str) -> bool {
        // In this order: one that leaves the memory in between is in the store.
        self.live.get(id).is_some() || !matches!(self.store.session(id), Ok(None))
    }
}

/// What a client may choose for a new session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Choices {
    /// Where Claude works: canonical, under an allowed root.
    pub cwd: PathBuf,
    /// Claude's own where absent.
    pub model: Option<String>,
    /// Claude's own where absent.
    pub permission_mode: Option<String>,
    /// Claude's own where absent.
    pub effort: Option<String>,
    /// Made from the first prompt where absent.
    pub title: Option<String>,
}

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Stopped,
    Starting,
    Idle,
    Busy,
    Stopping,
    Failed,
}

/// Everything about one session; see the module.
pub struct State {
    pub(super) id: Arc<str>,
    /// Its number in the store.
    pub(super) key: Key,
    /// `here`, or `terminal`.
    pub(super) source: &'static str,
    pub(super) created_at: u64,
    pub(super) last_activity: u64,
    pub(super) choices: Choices,
    /// The title is the user's own: no other takes its place by itself.
    pub(super) title_given: bool,
    pub(super) conversation: Conversation,
    pub(super) phase: Phase,
    /// Nothing was ever asked: it is gone with its last viewer, and nothing of it is stored.
    pub(super) reserved: bool,
    /// Closed by a client: prompts are refused until it is resumed.
    pub(super) ended: bool,
    pub(super) log: Log,
    pub(super) viewers: Vec<Viewer>,
    /// Those that are still being sent what they have missed.
    pub(super) catching_up: Vec<Joining>,
    /// How many viewers have come.
    pub(super) joined: u64,
    /// Viewers that were let in and are on their way.
    pub(super) arriving: usize,
    /// It went with its last viewer: nobody may come to it any more.
    pub(super) gone: bool,
    /// The store has got something of it.
    pub(super) wrote: bool,
    pub(super) accepting: Vec<Accepting>,
    pub(super) queue: VecDeque<Prompt>,
    pub(super) running: Option<Running>,
    pub(super) turn: Option<Turn>,
    pub(super) questions: Vec<Question>,
    pub(super) resolved: VecDeque<Resolved>,
    /// How many prompts it has had.
    pub(super) prompts: u64,
    /// The end of the last answer.
    pub(super) last_words: Option<String>,
    /// How much of a terminal's transcript its history has.
    pub(super) imported_bytes: u64,
    pub(super) place: Place,
    pub(super) process: Option<Arc<Process>>,
    /// Counts the starts: what an older process still says is told apart.
    pub(super) launch: u64,
    pub(super) start_until: Option<Instant>,
    pub(super) interrupt: Option<Interrupt>,
    /// What clients have asked of Claude beside prompts, and wait for.
    pub(super) asked: Vec<Asked>,
    /// If the interrupted turn has not ended by then, its process is stopped: Claude may answer an interrupt and go on all
    /// the same.
    pub(super) end_until: Option<Instant>,
    /// `closeSession` and `deleteSession` are answered when the process is gone.
    pub(super) on_stopped: Vec<WhenStopped>,
    pub(super) failure: Option<Failure>,
    /// The API does not answer as it should, and Claude tries again.
    pub(super) retrying: Option<Retrying>,
    /// Crashes since the last turn that ended well.
    pub(super) crashes: u32,
    pub(super) retry_at: Option<Instant>,
    /// What this process does in the background.
    pub(super) tasks: Tasks,
    /// What Claude has to do.
    pub(super) todos: Todos,
    /// Those that are nearly used up, as viewers were told.
    pub(super) limits_warned: Vec<Option<String>>,
    pub(super) idle_since: Instant,
    pub(super) agent_version: Option<String>,
    /// From `initialize`: JSON arrays.
    pub(super) commands: Option<Box<RawValue>>,
    pub(super) models: Option<Box<RawValue>>,
    pub(super) agents: Option<Box<RawValue>>,
    /// This process tells when it begins a prompt (2.1.330).
    pub(super) tells_lifecycle: bool,
    /// This process tells, or echoes, which prompt it answers: a result without that is of a turn of its own.
    pub(super) names_prompts: bool,
    /// What Claude says it uses, where that is not what was chosen (an alias, a default).
    pub(super) model_in_use: Option<String>,
    pub(super) permission_mode_in_use: Option<String>,
    /// Why the process is being stopped, if that is a failure.
    pub(super) stop_reason: Option<String>,
    /// Makes the events of what Claude says just now.
    pub(super) deltas: Deltas,
    /// Memory for the next batch, while Claude talks.
    pub(super) spare: Vec<u8>,
    pub(super) turns: u64,
    pub(super) account: Account,
    pub(super) bad_lines: u64,
    pub(super) control_requests: u64,
    pub(super) shutting_down: bool,
    /// Somebody was here since the row was last stored.
    pub(super) touched: bool,
    /// It is deleted, or on its way to be.
    pub(super) deleted: bool,
    /// What the store is to get, in this order, when the lock is released.
    pub(super) pending: Vec<Change>,
    /// What happens when that is on the disk.
    pub(super) on_stored: Vec<Done>,
    /// Held by everything that is on its way to the disk.
    pub(super) on_its_way: Arc<()>,
    /// The summary has changed since it was last sent.
    pub(super) changed: bool,
}

impl State {
    pub(super) fn new(id: Arc<str>, key: Key, choices: Choices, reserved: bool) -> State {
        let now = now_ms();
        State {
            id,
            key,
            source: "here",
            created_at: now,
            last_activity: now,
            title_given: choices.title.is_some(),
            choices,
            conversation: Conversation::new(uuid_v4()),
            phase: Phase::Stopped,
            reserved,
            ended: false,
            log: Log::default(),
            viewers: Vec::new(),
            catching_up: Vec::new(),
            joined: 0,
            arriving: 0,
            gone: false,
            wrote: false,
            accepting: Vec::new(),
            queue: VecDeque::new(),
            running: None,
            turn: None,
            questions: Vec::new(),
            resolved: VecDeque::new(),
            prompts: 0,
            last_words: None,
            imported_bytes: 0,
            place: Place::None,
            process: None,
            launch: 0,
            start_until: None,
            interrupt: None,
            asked: Vec::new(),
            end_until: None,
            on_stopped: Vec::new(),
            failure: None,
            retrying: None,
            crashes: 0,
            retry_at: None,
            tasks: Tasks::default(),
            todos: Todos::default(),
            limits_warned: Vec::new(),
            idle_since: Instant::now(),
            agent_version: None,
            commands: None,
            models: None,
            agents: None,
            tells_lifecycle: false,
            names_prompts: false,
            model_in_use: None,
            permission_mode_in_use: None,
            stop_reason: None,
            deltas: Deltas::new(),
            spare: Vec::new(),
            turns: 0,
            account: Account::default(),
            bad_lines: 0,
            control_requests: 0,
            shutting_down: false,
            touched: false,
            deleted: false,
            pending: Vec::new(),
            on_stored: Vec::new(),
            on_its_way: Arc::default(),
            changed: false,
        }
    }

    /// Whether a prompt runs, or Claude does something by itself.
    pub(super) fn is_at_work(&self) -> bool {
        self.running.is_some() || self.turn.is_some()
    }

    /// Whether it is deleted, or will be as soon as its process is gone: then it is not opened again.
    pub(super) fn is_going(&self) -> bool {
        self.deleted || self.on_stopped.iter().any(|waiting| matches!(waiting, WhenStopped::Delete(_)))
    }

    /// Whether there is nothing to be done, nor to be waited for.
    pub(super) fn is_quiet(&self) -> bool {
        self.running.is_none()
            && self.turn.is_none()
            && self.queue.is_empty()
            && self.accepting.is_empty()
            && self.questions.is_empty()
            && self.interrupt.is_none()
            && self.asked.is_empty()
            && self.tasks.is_empty()
    }

    /// Whether nobody is here and nothing goes on, so that it need not be in memory.
    pub(super) fn is_at_rest(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Failed)
            && self.viewers.is_empty()
            && self.catching_up.is_empty()
            && self.arriving == 0
            && self.is_quiet()
            && self.on_stopped.is_empty()
    }

    pub(super) fn next_control_id(&mut self) -> String {
        self.control_requests += 1;
        format!("csm-{}-{}", self.launch, self.control_requests)
    }
}
