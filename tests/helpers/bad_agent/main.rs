//! A stand-in for `claude`: it speaks the same stream-json on stdin and stdout, and misbehaves in one chosen way.
//!
//! The first argument that names a mode chooses the way; without one it behaves.
//!
//! | mode | what it does |
//! |---|---|
//! | `proper` | nothing wrong |
//! | `exit-at-once` | writes to stderr and exits with 3, having read nothing |
//! | `exit-before-init` | exits with 4 after the first line it reads |
//! | `hang` | reads nothing and says nothing; a signal ends it |
//! | `ignore-everything` | the same, and neither SIGTERM nor SIGINT ends it |
//! | `ignore-eof` | behaves, but EOF, SIGTERM and SIGINT do not end it |
//! | `deaf` | answers `initialize`, then reads nothing any more |
//! | `garbage` | non-JSON, JSON that is no object, and invalid UTF-8 before, within and after each answer |
//! | `big-line` | a line of 50 MB, of unknown type, in the middle of each answer |
//! | `fifteen-mib-line` | the same of 15 MiB |
//! | `endless-line` | at the prompt `endless`, a line that never ends, until it is killed |
//! | `flood-stderr` | 10 MB on stderr before each answer |
//! | `grandchild` | starts a process in a session of its own that holds its stdout, and exits with 0 after the first answer |
//! | `crash-mid-answer` | exits with 9 after two deltas of a conversation's first answer; the next process behaves |
//! | `crash-always` | answers `initialize`, then exits with 6 at each prompt |
//! | `unknown-lines` | lines and a control request of unknown kinds in each answer; the answer says what reply it got |
//! | `no-replay` | neither echoes a prompt nor names its uuid in the result |
//! | `old` | as 2.1.197: no `command_lifecycle`, a late echo, no uuid in the result, an empty reply to `interrupt` |
//! | `late-interrupt` | the first interrupt of each turn finds the prompt `still_queued` and changes nothing |
//! | `mute` | answers `initialize`, `interrupt` and prompts, but no other request |
//! | `own-turn` | begins a turn of its own after the first answer |
//! | `text-behind` | prints another text after each result, in no turn |
//! | `forgetful` | remembers no messages: a fork cannot begin at one |
//! | `crash-early` | crashes twice at the first prompt, when its turn has begun and before it is remembered |
//! | `slow-start FILE` | answers `initialize` when FILE exists (or that of `BAD_AGENT_GO_FILE`) |
//! | `sleep-forever` | no agent: does nothing until it is killed |
//!
//! Prompts that every mode understands; anything else is answered `you said: …`, a delta for each word:
//!
//! | prompt | answer |
//! |---|---|
//! | `pid`, `cwd`, `args`, `env NAME` | its process number; directory; arguments as JSON; that variable or `<unset>` |
//! | `environ` | the names of its variables, sorted, as JSON |
//! | `blocks`, `content` | the kinds of the prompt's content blocks; its content; as JSON |
//! | `title TEXT`, `called` | calls the conversation so, and answers `said`; what it is called, or `<nothing>` |
//! | `history` | the earlier prompts of the conversation as JSON, of earlier processes too |
//! | `words N`, `slow N MS` | `w1 w2 … wN`, at once or with MS milliseconds between |
//! | `lines N BYTES` | N lines of unknown type and of BYTES bytes each, then `done` |
//! | `wait FILE` | one delta, then the rest when FILE exists |
//! | `tools FILE` | uses two tools, of which the second ends when FILE exists, then `both done` |
//! | `answers` | the answers to questions that it does not wait for (those of `turn FILE`), as JSON; then it forgets them |
//! | `ask` | asks a permission; `allowed:INPUT` or `denied:MESSAGE`, with ` permissions:…` where the answer had some |
//! | `spawn`, `spawn-orphan` | the number of a new process in a session of its own; its child, or nobody's |
//! | `spawn-clean` | as `spawn-orphan`, without anything in its environment |
//! | `crash N` | none: exits with N (7 without) |
//! | `fail` | a result with `is_error` |
//! | `raw FILE` | the lines of that file as they are, then `done` |
//! | `turn FILE` | the lines of that file are the whole turn, its result included; `$UUID` in them is the prompt's |
//! | `request JSON` | sends that control request; the reply as JSON |
//! | `vanish` | none: `command_lifecycle` says `cancelled`, and there is neither a turn nor a result |
//! | `/model NAME`, `/effort NAME` | as `/local`; it uses that from now on |
//! | `/local` | a text in `assistant` and `result`, but no delta: what a slash command gives |
//!
//! Every prompt that it gets is appended to the file that `BAD_AGENT_LEDGER` names, one JSON string a line, before anything
//! else is done with it: what was asked twice is there twice.
//!
//! As the real one, it refuses a `--session-id` that exists, a `--resume` of one that does not (it keeps
//! them under `$HOME/.bad-agent`) and a `--resume-session-at` that is not there, ends at EOF when its turn is over, and
//! can be interrupted.

mod answers;
mod controls;
mod conversation;
mod lines;
mod processes;

use std::{
    collections::VecDeque,
    env, fs,
    io::{self, BufRead},
    path::PathBuf,
    process::exit,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    conversation::{conversation_or_exit, enter_in_ledger, uuid},
    lines::{flood_stderr, read_stdin, say, say_bytes},
    processes::{ignore_signals, sleep_forever, spawn_sleeper},
};

const MODES: [&str; 26] = [
    "proper",
    "exit-at-once",
    "exit-before-init",
    "hang",
    "ignore-everything",
    "ignore-eof",
    "deaf",
    "garbage",
    "big-line",
    "fifteen-mib-line",
    "endless-line",
    "flood-stderr",
    "grandchild",
    "crash-mid-answer",
    "crash-always",
    "unknown-lines",
    "no-replay",
    "old",
    "late-interrupt",
    "mute",
    "own-turn",
    "text-behind",
    "forgetful",
    "crash-early",
    "slow-start",
    "sleep-forever",
];

/// How often a file is looked for. std has no event for a file that appears, and this is no test.
const LOOK_EVERY: Duration = Duration::from_millis(5);

fn main() {
    let args: Vec<String> = env::args().skip(1).collect();
    let mode_at = args.iter().position(|arg| MODES.contains(&arg.as_str()));
    let mode = mode_at.map_or("proper", |at| args[at].as_str());
    match mode {
        "exit-at-once" => {
            eprintln!("bad_agent: cannot start: no licence for bad agents");
            exit(3)
        }
        "exit-before-init" => {
            let _ = io::stdin().lock().read_line(&mut String::new());
            eprintln!("bad_agent: gave up before init");
            exit(4)
        }
        "hang" | "sleep-forever" => sleep_forever(),
        "ignore-everything" => {
            ignore_signals();
            sleep_forever()
        }
        "ignore-eof" => ignore_signals(),
        _ => {}
    }
    let go_file = (mode == "slow-start").then(|| {
        let named = mode_at.and_then(|at| args.get(at + 1)).filter(|next| !next.starts_with('-')).map(PathBuf::from);
        named.or_else(|| env::var_os("BAD_AGENT_GO_FILE").map(PathBuf::from)).expect("slow-start needs a file")
    });
    let flag = |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
    let fork = args.iter().any(|arg| arg == "--fork-session");
    let (session_id, forked) =
        conversation_or_exit(flag("--session-id"), flag("--resume"), fork, flag("--resume-session-at").as_deref());
    let mut agent = Agent {
        mode: mode.to_owned(),
        session_id,
        forked,
        model: flag("--model").unwrap_or_else(|| "bad-agent-1".to_owned()),
        permission_mode: flag("--permission-mode").unwrap_or_else(|| "default".to_owned()),
        effort: flag("--effort").unwrap_or_else(|| "medium".to_owned()),
        title: None,
        replay: args.iter().any(|arg| arg == "--replay-user-messages"),
        input: read_stdin(mode == "deaf"),
        waiting: VecDeque::new(),
        ended: false,
        go_file,
        turns: 0,
        interrupts: 0,
        running: None,
        count: 0,
        answers: Vec::new(),
    };
    if mode == "grandchild" {
        spawn_sleeper(false);
    }
    agent.run();
    if mode == "ignore-eof" {
        eprintln!("bad_agent: end of input ignored");
        sleep_forever();
    }
}

/// Whether this is one of the first two crashes; counted in the home directory.
fn crashes_early() -> bool {
    let file = PathBuf::from(env::var_os("HOME").expect("a home")).join(".bad-agent-crashes");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{before}x")).expect("counted");
    before.len() < 2
}

struct Agent {
    mode: String,
    session_id: String,
    /// What a fork has of the other conversation.
    forked: String,
    model: String,
    permission_mode: String,
    effort: String,
    title: Option<String>,
    replay: bool,
    input: Receiver<Value>,
    /// Prompts that came during a turn.
    waiting: VecDeque<Value>,
    /// Stdin has ended.
    ended: bool,
    go_file: Option<PathBuf>,
    turns: u32,
    /// Those of this turn.
    interrupts: u32,
    /// The uuid of the prompt that runs.
    running: Option<String>,
    count: u32,
    /// What came although nobody waited for it.
    answers: Vec<Value>,
}

/// Why a turn is not going on.
struct Interrupted;

/// One answer on its way out.
struct Answer {
    uuid: Option<String>,
    text: String,
    error: bool,
    /// A slash command that it runs itself does not.
    asks_model: bool,
}

impl Agent {
    fn run(&mut self) {
        while let Some(line) = self.next_line() {
            match line["type"].as_str() {
                Some("user") => self.turn(&line),
                Some("control_request") => {
                    self.control(&line, false);
                }
                Some("control_response") => self.answers.push(line["response"].clone()),
                _ => {}
            }
        }
    }

    fn next_line(&mut self) -> Option<Value> {
        if let Some(line) = self.waiting.pop_front() {
            return Some(line);
        }
        self.input.recv().ok()
    }

    fn lifecycle(&self, uuid: Option<&String>, state: &str) {
        if let Some(uuid) = uuid
            && !matches!(self.mode.as_str(), "old" | "no-replay")
        {
            say(&json!({
                "type": "command_lifecycle", "command_uuid": uuid, "state": state, "session_id": self.session_id,
            }));
        }
    }

    fn echo(&self, line: &Value) {
        if self.replay && self.mode != "no-replay" {
            let mut echo = line.clone();
            echo["isReplay"] = json!(true);
            echo["session_id"] = json!(self.session_id);
            say(&echo);
        }
    }

    fn turn(&mut self, line: &Value) {
        self.turns += 1;
        let prompt = prompt_text(line);
        enter_in_ledger(&prompt);
        let uuid = line["uuid"].as_str().map(str::to_owned);
        if self.mode == "crash-early" && crashes_early() {
            self.init_line();
            eprintln!("bad_agent: crashed early");
            exit(8)
        }
        let history = self.remember(&prompt);
        self.lifecycle(uuid.as_ref(), "queued");
        if prompt == "vanish" {
            return self.lifecycle(uuid.as_ref(), "cancelled");
        }
        self.lifecycle(uuid.as_ref(), "started");
        self.init_line();
        if self.mode != "old" {
            self.echo(line);
        }
        if self.mode == "crash-always" {
            eprintln!("bad_agent: crashed at a prompt");
            exit(6)
        }
        (self.running, self.interrupts) = (uuid.clone(), 0);
        let chooses = self.choose(&prompt);
        let done = if let Some(file) = prompt.strip_prefix("turn ") {
            let lines = fs::read_to_string(file).expect("the lines of a turn");
            say_bytes(lines.replace("$UUID", uuid.as_deref().unwrap_or_default()).as_bytes());
            true
        } else if chooses || prompt == "/local" {
            self.local_command(uuid.clone());
            true
        } else {
            let late_echo = (self.mode == "old").then_some(line);
            self.whole_answer(uuid.clone(), late_echo, |agent, answer| agent.answer(answer, &prompt, line, &history))
        };
        self.running = None;
        self.lifecycle(uuid.as_ref(), if done { "completed" } else { "cancelled" });
        if self.turns == 1 && self.mode == "own-turn" {
            self.init_line();
            self.whole_answer(None, None, |agent, answer| agent.words(answer, "this turn is my own", Duration::ZERO));
        }
        if self.mode == "text-behind" {
            let content = json!([{"type": "text", "text": "one word more"}]);
            say(&json!({"type": "assistant", "message": {"id": "msg_behind", "role": "assistant", "content": content},
                "parent_tool_use_id": null, "session_id": self.session_id}));
        }
        if self.turns == 1 && self.mode == "grandchild" {
            exit(0)
        }
    }

    fn init_line(&self) {
        say(&json!({
            "type": "system", "subtype": "init", "session_id": self.session_id, "cwd": env::current_dir().ok(),
            "tools": ["Bash"], "mcp_servers": [], "model": self.model, "permissionMode": self.permission_mode,
            "slash_commands": ["compact"], "apiKeySource": "none", "uuid": uuid(),
        }));
    }

    /// Everything from `message_start` to `result`; false where it was interrupted.
    fn whole_answer(
        &mut self,
        prompt_uuid: Option<String>,
        late_echo: Option<&Value>,
        work: impl FnOnce(&mut Agent, &mut Answer) -> Result<(), Interrupted>,
    ) -> bool {
        let began = Instant::now();
        self.before_answer();
        let message_id = format!("msg_bad{}", uuid());
        let message = json!({
            "id": message_id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "usage": {"input_tokens": 1, "output_tokens": 1},
        });
        self.stream_event(&json!({"type": "message_start", "message": message}));
        let block = json!({"type": "text", "text": ""});
        self.stream_event(&json!({"type": "content_block_start", "index": 0, "content_block": block}));
        let mut answer = Answer { uuid: prompt_uuid, text: String::new(), error: false, asks_model: true };
        let done = work(self, &mut answer);
        if let Some(line) = late_echo {
            self.echo(line);
        }
        let mut message = message;
        message["content"] = json!([{"type": "text", "text": answer.text}]);
        self.say_message("assistant", &message);
        if done.is_ok() {
            self.stream_event(&json!({"type": "content_block_stop", "index": 0}));
            let delta = json!({"stop_reason": "end_turn", "stop_sequence": null});
            self.stream_event(&json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 2}}));
            self.stream_event(&json!({"type": "message_stop"}));
        } else {
            let notice = json!([{"type": "text", "text": "[Request interrupted by user]"}]);
            self.say_message("user", &json!({"role": "user", "content": notice}));
        }
        self.result_line(&answer, done.is_ok(), began.elapsed());
        if self.mode == "garbage" {
            say_bytes(b"npm warn something\n\xff\xfe\n{\"type\":\"tail\"\n");
        }
        done.is_ok()
    }

    /// Takes a slash command that chooses.
    fn choose(&mut self, prompt: &str) -> bool {
        match prompt.split_once(' ') {
            Some(("/model", name)) => self.model = format!("bad-{name}"),
            Some(("/effort", name)) => name.clone_into(&mut self.effort),
            _ => return false,
        }
        true
    }

    fn local_command(&self, prompt_uuid: Option<String>) {
        let answer =
            Answer { uuid: prompt_uuid, text: "what the command says".to_owned(), error: false, asks_model: false };
        let content = json!([{"type": "text", "text": answer.text}]);
        self.say_message("assistant", &json!({"role": "assistant", "content": content}));
        self.result_line(&answer, true, Duration::ZERO);
    }

    fn result_line(&self, answer: &Answer, done: bool, took: Duration) {
        // As the real one: `type` is not the first key.
        let mut result = json!({
            "duration_api_ms": 1, "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "num_turns": u32::from(answer.asks_model), "total_cost_usd": 0.001, "usage": {"input_tokens": 1, "output_tokens": 2},
            "modelUsage": {}, "permission_denials": [], "session_id": self.session_id, "uuid": uuid(), "type": "result",
        });
        if done {
            result["subtype"] = json!("success");
            result["is_error"] = json!(answer.error);
            result["result"] = json!(answer.text);
        } else {
            result["subtype"] = json!("error_during_execution");
            result["is_error"] = json!(true);
        }
        if let Some(uuid) = answer.uuid.as_ref().filter(|_| !matches!(self.mode.as_str(), "no-replay" | "old")) {
            result["user_message_uuid"] = json!(uuid);
            result["user_message_uuids"] = json!([uuid]);
        }
        say(&result);
    }

    fn before_answer(&self) {
        match self.mode.as_str() {
            "garbage" => {
                say_bytes(b"this is no JSON\n");
                say_bytes(b"\n\r\n   \n42\nnull\n[]\n\"text\"\n{}\n{\"type\":7}\n");
                say_bytes(b"\xff\xfe\x00\xc3\x28 not UTF-8 \x80\n");
                say_bytes(b"{\"type\":\"system\",\"subtype\":\"bad\",\"text\":\"\xc3\x28\"}\n");
                say_bytes(b"{\"type\":\"result\",\n");
            }
            "flood-stderr" => flood_stderr(),
            _ => {}
        }
    }

    fn stream_event(&self, event: &Value) {
        say(&json!({
            "type": "stream_event", "event": event, "parent_tool_use_id": null,
            "session_id": self.session_id, "uuid": uuid(),
        }));
    }

    fn delta(&self, answer: &mut Answer, text: &str) {
        answer.text.push_str(text);
        let delta = json!({"type": "text_delta", "text": text});
        self.stream_event(&json!({"type": "content_block_delta", "index": 0, "delta": delta}));
    }

    /// Takes in what comes within `pause` (at least what is there already).
    fn listen(&mut self, pause: Duration) -> Result<(), Interrupted> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.ended {
                // EOF in mid-turn changes nothing; the pause is still to be kept.
                thread::sleep(left);
                return Ok(());
            }
            match self.input.recv_timeout(left) {
                Ok(line) => self.take_in(line)?,
                Err(RecvTimeoutError::Timeout) => return Ok(()),
                Err(RecvTimeoutError::Disconnected) => self.ended = true,
            }
        }
    }

    fn take_in(&mut self, line: Value) -> Result<(), Interrupted> {
        match line["type"].as_str() {
            Some("control_request") if self.control(&line, true) => Err(Interrupted),
            Some("user") => {
                self.waiting.push_back(line);
                Ok(())
            }
            Some("control_response") => {
                self.answers.push(line["response"].clone());
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn prompt_text(line: &Value) -> String {
    match &line["message"]["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let texts: Vec<&str> = blocks.iter().filter_map(|block| block["text"].as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}
