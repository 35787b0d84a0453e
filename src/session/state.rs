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
use serde::Serialize;
use serde_json::value::RawValue;

use super::account::Account;
use super::attachments::Attached;
use super::control::Asked;
use super::conversation::Conversation;
use super::deltas::Deltas;
use super::error::Error;
use super::events::{EVENT_BYTES_MAX, Failure, Notice, Queued, Retrying, Summary, json, now_ms};
use super::fanout::{Audience, Batch, Reply, Viewer};
use super::interrupt::{Stop, Waiting};
use super::live::Live;
use super::log::Log;
use super::questions::{Question, Resolved};
use super::slots::Slots;
use super::tasks::Tasks;
use super::todos::Todos;
use crate::claude::process::Process;
use crate::claude::supervisor::Supervisor;
use crate::claude::transcripts::Transcripts;
use crate::net::Room;
use crate::proto::claude::Content;
use crate::store::{Change, Done, EventRow, Key, Store, Submission, event_head};
use crate::threads::Threads;
use crate::timer::Timer;

/// A title is no longer than this.
pub const TITLE_CHARS_MAX: usize = 200;

/// Prompts that may wait in one session.
pub const QUEUE_PROMPTS_MAX: usize = 100;

/// What Claude gets for them, in bytes.
pub const QUEUE_BYTES_MAX: usize = 8 << 20;

/// What Claude calls a model, a mode, a tool: longer names are cut.
pub const NAME_CHARS_MAX: usize = 200;

/// The running answer's text that is kept for `fullResponse` and `soFar`, in bytes of JSON; beyond it only the chunks have
/// it.
pub const TURN_TEXT_BYTES_MAX: usize = EVENT_BYTES_MAX - 50_000;

/// What is shown of Claude's tasks and of its list of what it has to do, in bytes of JSON: it goes out whenever anything
/// changes, and has to fit into acknowledgements beside the history.
const TASKS_AND_TODOS_BYTES_MAX: usize = 32 << 10;

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

/// Whether the session may have a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    None,
    /// It waits in line.
    Waiting,
    /// It has, or may start, one.
    Taken {
        /// Nobody has asked anything yet.
        early: bool,
    },
}

/// A prompt that was accepted.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    /// Counts the session's prompts from 1.
    pub number: u64,
    /// The store has it as written: after a crash it is not run again.
    pub marked: bool,
    /// The number of its event, once that went out.
    pub asked: Option<u64>,
    /// Claude's name for it. It is stored from the beginning: its event may be seen, then lost in a crash and sent again.
    pub uuid: String,
    /// The client's name for it.
    pub id: String,
    /// What the user typed: what viewers see.
    pub text: String,
    /// What Claude gets, where that is not the text alone: the JSON of a message's `content`, on one line.
    pub content: Option<String>,
    /// The files that came with it: what viewers see of them.
    pub attachments: Vec<Attached>,
}

impl Prompt {
    /// What Claude gets.
    pub fn for_claude(&self) -> Content<'_> {
        self.content.as_deref().map_or(Content::Text(&self.text), Content::Json)
    }

    /// Its size, for the queue's limit.
    pub fn bytes(&self) -> usize {
        self.text.len() + self.content.as_ref().map_or(0, String::len)
    }
}

/// A prompt that is on its way to the disk. Whoever asked is answered when it is there.
pub(super) struct Accepting {
    pub prompt: Prompt,
    pub replies: Vec<Reply>,
    /// What came behind it and may mean it.
    pub stops: Vec<Stop>,
}

/// The prompt that is with Claude, or is next.
pub(super) struct Running {
    pub prompt: Prompt,
    /// It is being marked as written in the store.
    pub marking: bool,
    /// It was handed to the process.
    pub written: bool,
    /// Claude has said that it has begun (2.1.330), or has echoed it.
    pub begun: bool,
    /// Somebody asked to stop it.
    pub interrupted: bool,
}

/// What Claude is doing right now.
pub(super) struct Turn {
    /// The prompt it answers; none if Claude began it itself.
    pub prompt_id: Option<String>,
    /// The answer's text so far.
    pub text: String,
    /// Its length as JSON.
    pub text_json_bytes: usize,
    /// There was more text than is kept.
    pub text_lost: bool,
    /// The message that comes in pieces just now.
    pub message_id: Option<String>,
    /// Some of its text has come, so its finished block is not sent again.
    pub streamed: bool,
    /// What went wrong with the API, where Claude has just said so in the model's place: its word for it.
    pub error: Option<String>,
}

/// An interrupt that Claude has not answered yet.
pub(super) struct Interrupt {
    pub request_id: String,
    pub until: Instant,
    pub replies: Vec<Waiting>,
}

/// What is to be done when no process is left.
pub(super) enum WhenStopped {
    Tell(Reply),
    /// The session goes; nobody is told where it has expired.
    Delete(Option<Reply>),
}

impl WhenStopped {
    pub fn reply(self) -> Option<Reply> {
        match self {
            WhenStopped::Tell(reply) => Some(reply),
            WhenStopped::Delete(reply) => reply,
        }
    }
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
    pub(super) catching_up: Vec<u64>,
    /// Viewers that were let in and are on their way.
    pub(super) arriving: usize,
    /// It went with its last viewer: nobody may come to it any more.
    pub(super) gone: bool,
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
            arriving: 0,
            gone: false,
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

    /// The state's name on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self.phase {
            Phase::Stopped => "stopped",
            Phase::Starting => "starting",
            Phase::Idle => "idle",
            Phase::Busy if self.questions.is_empty() => "busy",
            Phase::Busy => "waiting",
            Phase::Stopping => "stopping",
            Phase::Failed => "failed",
        }
    }

    /// What lists show.
    #[must_use]
    pub fn summary(&self, context: &Context) -> Summary {
        let mut room = TASKS_AND_TODOS_BYTES_MAX;
        let (tasks, todos) = (first_in(&mut room, self.tasks.list()), first_in(&mut room, self.todos.list()));
        let queued = |prompt: &Prompt| Queued { prompt_id: prompt.id.clone(), text: shortened(&prompt.text, 200) };
        Summary {
            session_id: self.id.to_string(),
            title: self.choices.title.clone(),
            state: self.name(),
            source: self.source,
            agent: context.supervisor.agent().name.clone(),
            agent_version: self.agent_version.clone(),
            mode: context.mode,
            cwd: self.choices.cwd.to_string_lossy().into_owned(),
            model: self.model_in_use.clone().or_else(|| self.choices.model.clone()),
            permission_mode: self.permission_mode_in_use.clone().or_else(|| self.choices.permission_mode.clone()),
            effort: self.choices.effort.clone(),
            created_at: self.created_at,
            last_activity: self.last_activity,
            viewers: self.viewers.len() + self.catching_up.len(),
            running: self.running.as_ref().map(|running| running.prompt.id.clone()),
            queue: self.queue.iter().map(queued).collect(),
            open_questions: self.questions.len(),
            turns: self.turns,
            cost_usd: self.account.cost_usd,
            usage: self.account.usage,
            context_tokens: self.account.context_tokens,
            context_window: self.account.context_window,
            rate_limit: self.account.rate_limit.clone(),
            tasks,
            todos,
            last_words: self.last_words.clone(),
            deleted: self.deleted,
            failure: self.failure.clone(),
            retrying: self.retrying.clone(),
        }
    }

    /// Numbers an event, adds it to the log, the batch and what the store is to get. Returns its data as viewers see it.
    ///
    /// `data` makes its JSON from its number. Where that is too large for the wire, viewers get `essentials` (JSON
    /// members, such as `"requestId":"r"`) and the size, and the whole of it stays in the log.
    pub(super) fn record(
        &mut self,
        batch: &mut Batch,
        audience: Audience,
        name: &'static str,
        essentials: &str,
        data: impl FnOnce(u64) -> String,
    ) -> Arc<str> {
        let (seq, time) = (self.log.next_seq(), now_ms());
        let whole: Arc<str> = data(seq).into();
        let too_large = whole.len() > EVENT_BYTES_MAX;
        let data = if too_large { short_form(&self.id, seq, essentials, whole.len()).into() } else { whole.clone() };
        batch.event(audience, name, &[&data]);
        self.pending.push(Change::Event(EventRow {
            session: self.key,
            seq,
            time,
            name,
            data: whole.clone(),
            rest_at: event_head(&self.id, seq).len(),
            essentials: Some(essentials).filter(|_| too_large).map(Into::into),
            stored: self.log.stored().clone(),
        }));
        self.log.append(time, name, data.clone(), Some(whole).filter(|_| too_large));
        data
    }

    /// Hands what has happened to the store; its order is the order of the calls, under the session's lock.
    pub(super) fn submit(&mut self, store: &Store) {
        let changes = std::mem::take(&mut self.pending);
        let done = std::mem::take(&mut self.on_stored);
        if !changes.is_empty() || !done.is_empty() {
            store.submit(Submission { changes, done, refusable: false, on_its_way: self.on_its_way.clone() });
        }
    }

    /// Whether the store has all of it.
    pub(super) fn is_stored(&self) -> bool {
        Arc::strong_count(&self.on_its_way) == 1
    }

    /// Stores when somebody was here last: for that alone it is not written each time.
    pub(super) fn store_touch(&mut self) {
        if std::mem::take(&mut self.touched) && !self.reserved && !self.deleted {
            self.pending.push(Change::Session(Box::new(self.row())));
        }
    }

    pub(super) fn notice(&mut self, batch: &mut Batch, level: &'static str, code: &'static str, text: &str) {
        let prompt_id = self.running.as_ref().map(|running| running.prompt.id.clone());
        self.notice_of(batch, level, code, text, prompt_id.as_deref());
    }

    /// A notice about that prompt.
    pub(super) fn notice_of(
        &mut self,
        batch: &mut Batch,
        level: &'static str,
        code: &'static str,
        text: &str,
        prompt_id: Option<&str>,
    ) {
        let id = self.id.clone();
        self.record(batch, Audience::All, "notice", "", |seq| {
            json(&Notice { session_id: &id, seq, level, code, text, prompt_id })
        });
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

/// What viewers get of an event that is too large for the wire.
pub(super) fn short_form(id: &str, seq: u64, essentials: &str, bytes: usize) -> String {
    let comma = if essentials.is_empty() { "" } else { "," };
    format!(r#"{}{comma}{essentials},"truncated":true,"bytes":{bytes}}}"#, event_head(id, seq))
}

/// A refusal because the store is in trouble.
pub(super) fn storage_error(trouble: crate::store::Trouble) -> Error {
    use super::error::Code;
    match trouble {
        crate::store::Trouble::Full => Error::new(
            Code::StorageFull,
            "the server's data directory cannot be written: make room there, then ask again",
        ),
        crate::store::Trouble::Damaged => {
            Error::new(Code::StorageDamaged, "what the server has stored of this cannot be read")
        }
    }
}

/// The first `chars` characters, on one line. Control characters go as white space does: nobody sees them, and each takes
/// six bytes in JSON.
pub(super) fn shortened(text: &str, chars: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let mut words = words.collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(chars) {
        words.truncate(at);
        words.push('…');
    }
    words
}

/// The first of `all` whose JSON has room; there is less of it then.
fn first_in<T: Clone + Serialize>(room: &mut usize, all: &[T]) -> Vec<T> {
    let fits = |one: &&T| {
        let left = room.checked_sub(json(one).len() + 1);
        *room = left.unwrap_or_default();
        left.is_some()
    };
    all.iter().take_while(fits).cloned().collect()
}

/// A random uuid of version 4.
pub(super) fn uuid_v4() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_of_version_4() {
        for _ in 0..1000 {
            let uuid = uuid_v4();
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }

    #[test]
    fn what_has_no_room_is_left_out() {
        let mut room = 13;
        let words = ["abc".to_owned(), "\u{1}".to_owned(), "x".to_owned()];
        assert_eq!(first_in(&mut room, &words[..1]), ["abc"]);
        assert_eq!(room, 7);
        assert!(first_in(&mut room, &words[1..]).is_empty(), "nor what is behind it");
        assert_eq!(room, 0);
    }

    #[test]
    fn titles_are_one_short_line() {
        let cases = [
            ("", 5, ""),
            (" a\n b\t", 5, "a b"),
            ("äöüäöü", 5, "äöüäö…"),
            ("12345", 5, "12345"),
            ("\u{1}a\u{0}\u{1b} b\u{7f}\u{9b}", 5, "a b"),
        ];
        for (text, chars, expected) in cases {
            assert_eq!(shortened(text, chars), expected);
        }
    }
}
