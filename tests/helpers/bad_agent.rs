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

use std::{
    collections::VecDeque,
    env, fs,
    io::{self, BufRead, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio, exit},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

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

/// How long the reply to its own control request may take.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

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

fn sleep_forever() -> ! {
    loop {
        thread::park();
    }
}

fn ignore_signals() {
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: SIG_IGN is no handler of ours, so no code runs in a signal's context.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Starts this program again as a process that lives until it is killed, in a session of its own, with our stdout.
/// Whether this is one of the first two crashes; counted in the home directory.
fn crashes_early() -> bool {
    let file = PathBuf::from(env::var_os("HOME").expect("a home")).join(".bad-agent-crashes");
    let before = fs::read_to_string(&file).unwrap_or_default();
    fs::write(&file, format!("{before}x")).expect("counted");
    before.len() < 2
}

/// An orphan in a session of its own, that nothing in its environment gives away.
fn spawn_clean() -> u32 {
    let script = "env -i setsid \"$0\" sleep-forever </dev/null >/dev/null 2>&1 & echo $!";
    let me = env::current_exe().expect("own path");
    let output = Command::new("sh").arg("-c").arg(script).arg(me).output().expect("sh");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of the orphan")
}

fn spawn_sleeper(orphan: bool) -> u32 {
    let me = env::current_exe().expect("own path");
    if orphan {
        // The shell in between ends at once and leaves its child to whoever takes orphans.
        let script = "setsid \"$0\" sleep-forever </dev/null >/dev/null 2>&1 & echo $!";
        let output = Command::new("sh").arg("-c").arg(script).arg(me).output().expect("sh");
        return String::from_utf8_lossy(&output.stdout).trim().parse().expect("the number of the orphan");
    }
    let mut command = Command::new(me);
    command.arg("sleep-forever").stdin(Stdio::null());
    // SAFETY: setsid may be called between fork and exec, and nothing else is done there.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            Ok(())
        });
    }
    command.spawn().expect("a grandchild").id()
}

/// Where a conversation is kept: a JSON string for each prompt, `{"message":UUID}` for each message.
fn conversation_file(session_id: &str) -> PathBuf {
    let home = env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from);
    home.join(".bad-agent").join(session_id)
}

/// The conversation's name, and what a fork begins with.
fn conversation_or_exit(new: Option<String>, resume: Option<String>, fork: bool, at: Option<&str>) -> (String, String) {
    if let Some(id) = &resume
        && !conversation_file(id).exists()
    {
        say(&json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "session_id": id,
            "errors": [format!("No conversation found with session ID: {id}")],
        }));
        eprintln!("No conversation found with session ID: {id}");
        exit(1)
    }
    if let Some(id) = &new
        && conversation_file(id).exists()
    {
        eprintln!("Error: Session ID {id} is already in use.");
        exit(1)
    }
    match (new, resume, fork) {
        (new, Some(old), true) => {
            let id = new.unwrap_or_else(uuid);
            // Read now, and written with the first prompt.
            let record = fs::read_to_string(conversation_file(&old)).expect("the conversation");
            let kept = match at {
                None => record.as_str(),
                Some(at) => {
                    let message = json!({"message": at}).to_string();
                    let Some(found) = record.find(&message) else {
                        eprintln!("No message found with message.uuid of: {at}");
                        exit(1)
                    };
                    &record[..=found + message.len()]
                }
            };
            (id, kept.to_owned())
        }
        (_, Some(id), false) | (Some(id), None, _) => (id, String::new()),
        (None, None, _) => (uuid(), String::new()),
    }
}

fn uuid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// The lines of stdin. A deaf agent stops taking them after the first, which is `initialize`.
fn read_stdin(deaf: bool) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            let Ok(value) = serde_json::from_str(&line) else {
                eprintln!("Error parsing streaming input line: {line}");
                exit(1)
            };
            if sender.send(value).is_err() {
                return;
            }
            if deaf {
                sleep_forever();
            }
        }
    });
    receiver
}

fn say(value: &Value) {
    say_bytes(format!("{value}\n").as_bytes());
}

fn say_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        // Nobody listens any more. As the real one, that is the end.
        exit(1)
    }
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

    /// Answers a control request; true where it was an interrupt.
    fn control(&mut self, line: &Value, in_turn: bool) -> bool {
        let request = &line["request"];
        if let Some(error) = refusal(request) {
            self.refuse(line, error);
            return false;
        }
        let response = match request["subtype"].as_str().unwrap_or_default() {
            subtype if self.mode == "mute" && !matches!(subtype, "initialize" | "interrupt") => return false,
            "initialize" => {
                if let Some(file) = &self.go_file {
                    wait_for_file(file);
                }
                json!({
                    "commands": [{"name": "compact", "description": "Say it shorter", "argumentHint": ""}],
                    "models": [{"value": "default", "displayName": "Default", "description": "The only one"}],
                    "agents": [], "output_style": "default", "available_output_styles": ["default"],
                    "account": {}, "pid": std::process::id(), "claude_code_version": "0.0.0-bad-agent",
                })
            }
            "interrupt" => {
                self.interrupts += 1;
                if in_turn && self.interrupts == 1 && self.mode == "late-interrupt" {
                    self.reply(line, Some(json!({"still_queued": [self.running]})));
                    return false;
                }
                if self.mode == "old" {
                    self.reply(line, None);
                    return in_turn;
                }
                json!({"still_queued": []})
            }
            "set_permission_mode" => {
                self.permission_mode = request["mode"].as_str().unwrap_or_default().to_owned();
                say(&json!({
                    "type": "system", "subtype": "status", "status": null,
                    "permissionMode": self.permission_mode, "session_id": self.session_id,
                }));
                json!({"mode": self.permission_mode})
            }
            "set_model" => {
                // An alias means another model, as with the real one.
                self.model = format!("bad-{}", request["model"].as_str().unwrap_or("default"));
                json!({})
            }
            "apply_flag_settings" => {
                // As the real one, it takes no notice of what it does not know.
                if let Some(known @ ("low" | "medium" | "high")) = request["settings"]["effortLevel"].as_str() {
                    self.effort = known.to_owned();
                }
                json!({})
            }
            "get_settings" if self.mode != "old" => {
                // Some models have none.
                let effort = Some(&self.effort).filter(|_| self.model != "bad-effortless");
                json!({"applied": {"model": self.model, "effort": effort}, "effective": {}, "sources": []})
            }
            "file_suggestions" => {
                let query = request["query"].as_str().unwrap_or_default();
                json!({"suggestions": [{"path": format!("src/{query}")}], "cwd": env::current_dir().ok()})
            }
            "rewind_files" if request["dry_run"] == true => {
                json!({"canRewind": true, "filesChanged": [request["user_message_id"]], "insertions": 1, "deletions": 2})
            }
            "rewind_files" => json!({"canRewind": true}),
            "rename_session" => {
                self.call_it(request["title"].as_str().unwrap_or_default());
                json!({})
            }
            "stop_task" => json!({}),
            "get_context_usage" => {
                json!({"categories": [], "totalTokens": 10, "maxTokens": 200_000, "percentage": 0})
            }
            other => {
                self.refuse(line, &format!("Unsupported control request subtype: {other}"));
                return false;
            }
        };
        self.reply(line, Some(response));
        in_turn && request["subtype"] == "interrupt"
    }

    /// The oldest do not say it.
    fn call_it(&mut self, title: &str) {
        self.title = Some(title.to_owned());
        if self.mode != "old" {
            say(&json!({
                "type": "system", "subtype": "session_title_changed", "title": title, "session_id": self.session_id,
                "uuid": uuid(),
            }));
        }
    }

    fn refuse(&self, request: &Value, error: &str) {
        say(&json!({
            "type": "control_response",
            "response": {"subtype": "error", "request_id": request["request_id"], "error": error},
        }));
    }

    fn reply(&self, to: &Value, response: Option<Value>) {
        let mut whole = json!({"subtype": "success", "request_id": to["request_id"]});
        if let Some(response) = response {
            whole["response"] = response;
        }
        say(&json!({"type": "control_response", "response": whole}));
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

    /// Adds a prompt to the conversation, and gives those before it.
    fn remember(&self, prompt: &str) -> Vec<String> {
        let before = self.record(&json!(prompt));
        before.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Adds a line to the record of the conversation, and gives what it was before.
    fn record(&self, line: &Value) -> String {
        let path = conversation_file(&self.session_id);
        let before = fs::read_to_string(&path).unwrap_or_else(|_| self.forked.clone());
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of conversations");
        fs::write(&path, format!("{before}{line}\n")).expect("the conversation kept");
        before
    }

    /// Prints a message of the conversation, and keeps its name.
    fn say_message(&self, kind: &str, message: &Value) {
        let uuid = uuid();
        if self.mode != "forgetful" {
            self.record(&json!({"message": uuid}));
        }
        say(&json!({
            "type": kind, "message": message, "parent_tool_use_id": null, "session_id": self.session_id, "uuid": uuid,
        }));
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

    fn answer(
        &mut self,
        answer: &mut Answer,
        prompt: &str,
        line: &Value,
        history: &[String],
    ) -> Result<(), Interrupted> {
        match self.mode.as_str() {
            "garbage" => {
                self.delta(answer, "between ");
                say_bytes(b"\xf0\x9f\x92 half a character\nnot JSON either\n");
            }
            "big-line" => self.line_of(answer, 50_000_000),
            "fifteen-mib-line" => self.line_of(answer, 15 << 20),
            "crash-mid-answer" if history.is_empty() => {
                self.delta(answer, "these words");
                self.delta(answer, " end here");
                eprintln!("bad_agent: crashed in mid-answer");
                exit(9)
            }
            "unknown-lines" => return self.unknown_lines(answer),
            _ => {}
        }
        let mut parts = prompt.split_whitespace();
        let (word, first, second) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let number = |text: Option<&str>, otherwise: u64| text.and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let now = Duration::ZERO;
        match word {
            "pid" => self.words(answer, &std::process::id().to_string(), now),
            "cwd" => self.words(answer, &env::current_dir().unwrap_or_default().to_string_lossy(), now),
            "args" => self.words(answer, &json!(env::args().collect::<Vec<_>>()).to_string(), now),
            "env" => {
                let value = env::var(first.unwrap_or_default()).unwrap_or_else(|_| "<unset>".to_owned());
                self.words(answer, &value, now)
            }
            "environ" => {
                let mut names: Vec<String> =
                    env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
                names.sort();
                self.words(answer, &json!(names).to_string(), now)
            }
            "blocks" => {
                let blocks = line["message"]["content"].as_array().cloned().unwrap_or_default();
                let kinds: Vec<&Value> = blocks.iter().map(|block| &block["type"]).collect();
                self.words(answer, &json!(kinds).to_string(), now)
            }
            "content" => self.words(answer, &line["message"]["content"].to_string(), now),
            "title" => {
                self.call_it(prompt["title".len()..].trim());
                self.words(answer, "said", now)
            }
            "called" => {
                let title = self.title.clone().unwrap_or_else(|| "<nothing>".to_owned());
                self.words(answer, &title, now)
            }
            "history" => self.words(answer, &json!(history).to_string(), now),
            "words" => self.words(answer, &counted(number(first, 10)), now),
            "slow" => self.words(answer, &counted(number(first, 10)), Duration::from_millis(number(second, 50))),
            "lines" => {
                let data = "x".repeat(usize::try_from(number(second, 100)).unwrap_or(0));
                for count in 1..=number(first, 10) {
                    say(&json!({"type": "blob", "count": count, "data": data, "session_id": self.session_id}));
                }
                self.words(answer, "done", now)
            }
            "wait" => self.wait_in_turn(answer, Path::new(first.unwrap_or("/"))),
            "answers" => {
                let answers = json!(std::mem::take(&mut self.answers));
                self.words(answer, &answers.to_string(), now)
            }
            "ask" => self.ask(answer),
            "raw" => {
                say_bytes(&fs::read(first.unwrap_or("/")).expect("lines"));
                self.words(answer, "done", now)
            }
            "request" => {
                let request = serde_json::from_str(prompt["request".len()..].trim()).expect("a request in JSON");
                let reply = self.reply_to(&request)?;
                self.words(answer, &reply, now)
            }
            "tools" => self.tools(answer, Path::new(first.unwrap_or("/"))),
            "spawn" => self.words(answer, &spawn_sleeper(false).to_string(), now),
            "spawn-clean" => self.words(answer, &spawn_clean().to_string(), now),
            "spawn-orphan" => self.words(answer, &spawn_sleeper(true).to_string(), now),
            "crash" => {
                eprintln!("bad_agent: crashed as asked");
                exit(i32::try_from(number(first, 7)).unwrap_or(7))
            }
            "fail" => {
                answer.error = true;
                self.words(answer, "API Error: failed as asked", now)
            }
            "endless" if self.mode == "endless-line" => {
                say_bytes(b"{\"type\":\"blob\",\"data\":\"");
                loop {
                    say_bytes(&[b'x'; 65536]);
                }
            }
            _ => self.words(answer, &format!("you said: {prompt}"), now),
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

    fn words(&mut self, answer: &mut Answer, text: &str, pause: Duration) -> Result<(), Interrupted> {
        for word in text.split_inclusive(' ') {
            self.listen(pause)?;
            self.delta(answer, word);
        }
        Ok(())
    }

    /// A line of exactly that many bytes, its end included, in the middle of the answer.
    fn line_of(&self, answer: &mut Answer, bytes: usize) {
        self.delta(answer, "before ");
        let (head, tail) = ("{\"type\":\"blob\",\"data\":\"", "\"}\n");
        let data = "x".repeat(bytes - head.len() - tail.len());
        say_bytes(format!("{head}{data}{tail}").as_bytes());
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

    fn wait_in_turn(&mut self, answer: &mut Answer, file: &Path) -> Result<(), Interrupted> {
        self.delta(answer, "waiting ");
        while !file.exists() {
            self.listen(LOOK_EVERY)?;
        }
        self.words(answer, "no more", Duration::ZERO)
    }

    fn tools(&mut self, answer: &mut Answer, file: &Path) -> Result<(), Interrupted> {
        self.delta(answer, "at work ");
        self.use_tool("first", |_| Ok(()))?;
        self.delta(answer, "still ");
        self.use_tool("second", |agent| {
            while !file.exists() {
                agent.listen(LOOK_EVERY)?;
            }
            Ok(())
        })?;
        self.words(answer, "both done", Duration::ZERO)
    }

    fn use_tool(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Agent) -> Result<(), Interrupted>,
    ) -> Result<(), Interrupted> {
        let id = format!("toolu_bad_{name}");
        let uses = json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": name}}]);
        self.say_message("assistant", &json!({"role": "assistant", "content": uses}));
        work(self)?;
        let result = json!([{"type": "tool_result", "tool_use_id": id, "content": format!("{name} result")}]);
        self.say_message("user", &json!({"role": "user", "content": result}));
        Ok(())
    }

    /// Sends a control request and waits for the reply to it, up to a deadline.
    fn request(&mut self, request: &Value, deadline: Option<Duration>) -> Result<Option<Value>, Interrupted> {
        self.count += 1;
        let id = format!("bad-{}-{}", std::process::id(), self.count);
        say(&json!({"type": "control_request", "request_id": id, "request": request}));
        let until = deadline.map(|deadline| Instant::now() + deadline);
        loop {
            let received = match until {
                Some(until) => self.input.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
                None => self.input.recv().ok(),
            };
            let Some(line) = received else {
                return Ok(None);
            };
            if line["type"] == "control_response" && line["response"]["request_id"] == id.as_str() {
                return Ok(Some(line["response"].clone()));
            }
            if let Err(interrupted) = self.take_in(line) {
                say(&json!({"type": "control_cancel_request", "request_id": id}));
                return Err(interrupted);
            }
        }
    }

    fn ask(&mut self, answer: &mut Answer) -> Result<(), Interrupted> {
        self.delta(answer, "asking ");
        let rule = json!({
            "type": "addRules", "behavior": "allow", "destination": "localSettings",
            "rules": [{"toolName": "Bash", "ruleContent": "touch:*"}],
        });
        let request = json!({
            "subtype": "can_use_tool", "tool_name": "Bash", "display_name": "Bash",
            "input": {"command": "touch asked", "description": "Ask for it"}, "description": "Ask for it",
            "decision_reason": "\u{1b}[1mtouch\u{1b}[22m makes a file", "permission_suggestions": [rule], "tool_use_id": format!("toolu_bad{}", uuid()),
        });
        let reply = self.request(&request, None)?.unwrap_or_default();
        let reply = &reply["response"];
        let text = match reply["behavior"].as_str() {
            Some("allow") if reply["updatedPermissions"].is_array() => {
                format!("allowed:{} permissions:{}", reply["updatedInput"], reply["updatedPermissions"])
            }
            Some("allow") => format!("allowed:{}", reply["updatedInput"]),
            Some("deny") => format!("denied:{}", reply["message"].as_str().unwrap_or_default()),
            _ => format!("no answer: {reply}"),
        };
        if reply["behavior"] == "deny" && reply["interrupt"] == true {
            return Err(Interrupted);
        }
        self.words(answer, &text, Duration::ZERO)
    }

    fn unknown_lines(&mut self, answer: &mut Answer) -> Result<(), Interrupted> {
        say(&json!({"type": "keep_alive"}));
        say(
            // The type does not always come first.
            &json!({"payload": {"deep": [1, 2, {"x": null}]}, "session_id": self.session_id, "type": "never_heard_of"}),
        );
        say(&json!({"session_id": self.session_id, "subtype": "never_heard_of_either", "type": "system"}));
        self.stream_event(&json!({"index": 0, "type": "never_heard_of_event"}));
        self.delta(answer, "reply: ");
        let reply = self.reply_to(&json!({"question": "?", "subtype": "never_heard_of_request"}))?;
        self.words(answer, &reply, Duration::ZERO)
    }

    /// What a control request of its own is answered, or `none`.
    fn reply_to(&mut self, request: &Value) -> Result<String, Interrupted> {
        let reply = self.request(request, Some(REPLY_DEADLINE))?;
        // The number in it would differ from run to run.
        let reply = reply.map(|mut reply| {
            reply["request_id"] = json!("ours");
            reply
        });
        Ok(reply.map_or_else(|| "none".to_owned(), |reply| reply.to_string()))
    }
}

/// What it does not do, and why.
fn refusal(request: &Value) -> Option<&'static str> {
    match (request["subtype"].as_str()?, request) {
        ("rename_session", request) if request["title"] == "no such name" => Some("no, this one is not liked"),
        ("set_model", request) if request["model"] == "refused" => Some("there is no such model"),
        ("set_permission_mode", request) if request["mode"] == "auto" => Some("auto is not for everybody"),
        _ => None,
    }
}

/// In one write, so that agents of several sessions do not mix their lines.
fn enter_in_ledger(prompt: &str) {
    let Some(ledger) = env::var_os("BAD_AGENT_LEDGER") else { return };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(ledger).expect("the ledger");
    file.write_all(format!("{}\n", json!(prompt)).as_bytes()).expect("entered");
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

fn counted(count: u64) -> String {
    let words: Vec<String> = (1..=count).map(|n| format!("w{n}")).collect();
    words.join(" ")
}

fn wait_for_file(file: &Path) {
    while !file.exists() {
        thread::sleep(LOOK_EVERY);
    }
}

fn flood_stderr() {
    let mut err = io::stderr().lock();
    let line = format!("{}\n", "stderr ".repeat(14));
    for _ in 0..90_000 {
        let _ = err.write_all(line.as_bytes());
    }
    // The last megabyte is one line.
    let _ = err.write_all("y".repeat(1_000_000).as_bytes());
    let _ = err.write_all(b"\nthe flood is over\n");
}
