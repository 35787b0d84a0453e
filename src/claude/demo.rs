//! The demo agent: a stand-in for `claude` inside this same binary, for machines without Claude Code or an account.
//!
//! It speaks the same stream-json protocol as a child process, so that everything between a client and Claude works and
//! can be tried: answers that come word by word, permission questions (a prompt with `/ask`), interrupts, and
//! conversations that are resumed. It is no language model and does not pretend to be one.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use serde_json::{Value, json};

/// Between two words: quick, but visibly streaming.
const WORD_PAUSE: Duration = Duration::from_millis(15);

/// Requests read ahead while an answer is streaming.
const REQUESTS_MAX: usize = 64;

/// The agent's `main`. `args` are those of `claude`, and `--state-dir=DIR` for its conversations.
#[must_use]
pub fn run(args: &[OsString]) -> ExitCode {
    match Conversation::open(args) {
        Ok(conversation) => Demo { conversation, requests: read_requests(), turns: 0 }.run(),
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Which conversation this is, and what was said in it before.
struct Conversation {
    id: String,
    /// A line for each prompt, and one with its uuid for each answer: all that has to be remembered of them.
    file: Option<PathBuf>,
    /// What a fork has of the other one's lines; they are written with its first prompt.
    forked: String,
    asked: usize,
    cwd: String,
    /// Changed by requests that come while an answer is streaming.
    model: RefCell<String>,
    permission_mode: RefCell<String>,
}

impl Conversation {
    fn open(args: &[OsString]) -> Result<Conversation, String> {
        let value =
            |flag: &str| args.iter().filter_map(|arg| arg.to_str()?.strip_prefix(flag)?.strip_prefix('=')).next_back();
        let forks = args.iter().any(|arg| arg == "--fork-session");
        // The name of the new one, and that of the old one.
        let (new, old) = match (value("--session-id"), value("--resume")) {
            (None, None) => {
                return Err("demo-agent is started by the server: it needs --session-id or --resume".into());
            }
            (Some(_), Some(_)) if !forks => {
                return Err("Error: --session-id goes with --resume only to --fork-session".into());
            }
            both => both,
        };
        let file = |id: &str| match id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            true if !id.is_empty() => Ok(value("--state-dir").map(|dir| Path::new(dir).join(format!("{id}.txt")))),
            _ => Err(format!("Error: Invalid session ID: {id}")),
        };
        if let Some(id) = new
            && file(id)?.is_some_and(|file| file.exists())
        {
            return Err(format!("Error: Session ID {id} is already in use."));
        }
        let before = match old.map(|id| Ok::<_, String>((id, file(id)?))).transpose()? {
            Some((id, Some(file))) => {
                fs::read_to_string(file).map_err(|_| format!("No conversation found with session ID: {id}"))?
            }
            _ => String::new(),
        };
        let mut before: Vec<&str> = before.lines().collect();
        if let Some(at) = value("--resume-session-at") {
            let answer = answer_line(at).to_string();
            let found = before.iter().position(|line| *line == answer);
            before.truncate(1 + found.ok_or_else(|| format!("No message found with message.uuid of: {at}"))?);
        }
        let id = new.or(old).unwrap_or_default();
        Ok(Conversation {
            id: id.to_owned(),
            file: file(id)?,
            forked: before.iter().filter(|_| forks).map(|line| format!("{line}\n")).collect(),
            asked: before.iter().filter(|line| line.starts_with('"')).count(),
            cwd: std::env::current_dir().map(|dir| dir.display().to_string()).unwrap_or_default(),
            model: value("--model").unwrap_or("demo").to_owned().into(),
            permission_mode: value("--permission-mode").unwrap_or("default").to_owned().into(),
        })
    }

    fn remember_prompt(&mut self, prompt: &str) {
        self.asked += 1;
        self.remember(&json!(prompt));
    }

    fn remember_answer(&self, uuid: &str) {
        self.remember(&answer_line(uuid));
    }

    fn remember(&self, line: &Value) {
        let Some(file) = &self.file else { return };
        let forked = if file.exists() { "" } else { &self.forked };
        let written = file
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| writeln!(OpenOptions::new().create(true).append(true).open(file)?, "{forked}{line}"));
        if let Err(error) = written {
            eprintln!("the demo agent cannot remember this conversation: {error}");
        }
    }
}

fn answer_line(uuid: &str) -> Value {
    json!({"answer": uuid})
}

/// Reads requests on a thread of its own, since an interrupt comes while an answer is streaming.
fn read_requests() -> Receiver<Value> {
    let (send, requests) = bounded(REQUESTS_MAX);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let Ok(request) = serde_json::from_str(&line) else {
                eprintln!("Error parsing streaming input line");
                std::process::exit(1);
            };
            if send.send(request).is_err() {
                return;
            }
        }
    });
    requests
}

struct Demo {
    conversation: Conversation,
    requests: Receiver<Value>,
    turns: u64,
}

/// The text of a prompt; images are all the same to the demo agent.
fn text_of(content: &Value) -> String {
    match content {
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        text => text.as_str().unwrap_or_default().to_owned(),
    }
}

/// How a turn ended.
enum End {
    Done,
    Interrupted,
    /// The input is closed, or nobody reads the output.
    Gone,
}

impl Demo {
    fn run(&mut self) -> ExitCode {
        while let Ok(request) = self.requests.recv() {
            let alive = match request["type"].as_str() {
                Some("user") => self.turn(&request, &text_of(&request["message"]["content"])),
                _ => self.control(&request).is_some(),
            };
            if !alive {
                break;
            }
        }
        ExitCode::SUCCESS
    }

    /// Answers a control request. `Some(true)`: it was an interrupt. `None`: nobody reads the answer.
    fn control(&self, request: &Value) -> Option<bool> {
        let id = &request["request_id"];
        if request["type"] != "control_request" {
            return Some(false);
        }
        let subtype = request["request"]["subtype"].as_str().unwrap_or_default();
        let response = match subtype {
            "initialize" => json!({"subtype": "success", "request_id": id, "response": {
                "commands": [{"name": "ask", "description": "Makes the demo agent ask for a permission", "argumentHint": ""}],
                "models": [{"value": "demo", "displayName": "Demo", "description": "No language model at all"}],
                "claude_code_version": env!("CARGO_PKG_VERSION"),
            }}),
            "interrupt" => json!({"subtype": "success", "request_id": id, "response": {"still_queued": []}}),
            "set_model" => {
                let model = request["request"]["model"].as_str().unwrap_or("demo");
                self.conversation.model.replace(model.to_owned());
                json!({"subtype": "success", "request_id": id})
            }
            "set_permission_mode" => {
                let mode = request["request"]["mode"].as_str().unwrap_or("default");
                self.conversation.permission_mode.replace(mode.to_owned());
                json!({"subtype": "success", "request_id": id, "response": {"mode": mode}})
            }
            "apply_flag_settings" => json!({"subtype": "success", "request_id": id}),
            _ => json!({"subtype": "error", "request_id": id,
                        "error": format!("Unsupported control request subtype: {subtype}")}),
        };
        self.print(json!({"type": "control_response", "response": response})).then_some(subtype == "interrupt")
    }

    fn turn(&mut self, request: &Value, prompt: &str) -> bool {
        let started = Instant::now();
        let uuid = request["uuid"].clone();
        self.turns += 1;
        self.conversation.remember_prompt(prompt);
        let lifecycle = |state: &str| json!({"type": "command_lifecycle", "command_uuid": uuid, "state": state});
        let conversation = &self.conversation;
        let opening = [
            lifecycle("queued"),
            lifecycle("started"),
            json!({"type": "system", "subtype": "init", "cwd": conversation.cwd, "tools": ["Demo"],
                   "model": conversation.model, "permissionMode": conversation.permission_mode,
                   "slash_commands": ["ask"], "claude_code_version": env!("CARGO_PKG_VERSION")}),
            json!({"type": "user", "message": request["message"], "parent_tool_use_id": null,
                   "uuid": uuid, "isReplay": true}),
        ];
        let opened = opening.into_iter().all(|line| self.print(line));
        let (end, said) = if opened { self.answer(prompt) } else { (End::Gone, String::new()) };
        let (subtype, state) = match end {
            End::Done => ("success", "completed"),
            End::Interrupted => ("error_during_execution", "cancelled"),
            End::Gone => return false,
        };
        let mut result = json!({"type": "result", "subtype": subtype, "is_error": subtype != "success",
            "duration_ms": u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX), "num_turns": 1,
            "total_cost_usd": 0.0, "usage": {"input_tokens": 0, "output_tokens": said.split_whitespace().count()},
            "user_message_uuid": uuid, "user_message_uuids": [uuid]});
        if subtype == "success" {
            result["result"] = said.into();
        }
        self.print(result) && self.print(lifecycle(state))
    }

    fn answer(&self, prompt: &str) -> (End, String) {
        let mut said = String::new();
        let permission = if prompt.contains("/ask") { Some(self.ask()) } else { None };
        let opening = match permission {
            Some(Ok(answer)) => answer,
            Some(Err(end)) => return (end, said),
            None => format!("You said: {prompt}"),
        };
        let count = self.conversation.asked;
        let text = format!(
            "{opening}\n\nThis is the demo agent, not Claude: there is no `claude` on this machine's PATH, or the server \
             was started with --agent demo. It was asked {count} time{} in this conversation. Write /ask to be asked \
             for a permission.",
            if count == 1 { "" } else { "s" }
        );
        let message_id = format!("msg_demo_{:016x}", fastrand::u64(..));
        let event =
            |event: Value| self.print(json!({"type": "stream_event", "event": event, "parent_tool_use_id": null}));
        let message = |content: Value| json!({"id": message_id, "type": "message", "role": "assistant", "model": self.conversation.model, "content": content});
        let mut open = event(json!({"type": "message_start", "message": message(json!([]))}))
            && event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
        let mut end = End::Done;
        for word in text.split_inclusive(' ') {
            open = open
                && event(
                    json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
                );
            said.push_str(word);
            if self.pause() {
                end = End::Interrupted;
                break;
            }
        }
        let uuid = format!("{:08x}-0000-4000-8000-{:012x}", fastrand::u32(..), fastrand::u64(..1 << 48));
        self.conversation.remember_answer(&uuid);
        open = open
            && self.print(json!({"type": "assistant", "message": message(json!([{"type": "text", "text": said}])),
                                 "parent_tool_use_id": null, "uuid": uuid}))
            && event(json!({"type": "content_block_stop", "index": 0}))
            && event(json!({"type": "message_stop"}));
        (if open { end } else { End::Gone }, said)
    }

    /// Waits a moment; `true`: an interrupt came.
    fn pause(&self) -> bool {
        let until = Instant::now() + WORD_PAUSE;
        loop {
            match self.requests.recv_deadline(until) {
                Ok(request) if request["type"] == "control_request" => {
                    if self.control(&request) == Some(true) {
                        return true;
                    }
                }
                // The server sends one prompt at a time.
                Ok(_) => {}
                Err(_) if Instant::now() >= until => return false,
                // Input that is closed in mid-turn lets the turn end, as with Claude.
                Err(_) => std::thread::sleep(until.saturating_duration_since(Instant::now())),
            }
        }
    }

    /// Asks for a permission and waits for the answer, as long as it takes.
    fn ask(&self) -> Result<String, End> {
        let request_id = format!("demo-{:016x}", fastrand::u64(..));
        let input = json!({"command": "echo hello", "description": "Say hello"});
        let asked = self.print(json!({"type": "control_request", "request_id": request_id, "request": {
            "subtype": "can_use_tool", "tool_name": "Demo", "display_name": "Demo", "input": input,
            "description": "The demo agent asks, so that you can answer: nothing will be run",
            "permission_suggestions": [{"type": "addRules", "rules": [{"toolName": "Demo", "ruleContent": "echo hello"}],
                                        "behavior": "allow", "destination": "session"}],
            "tool_use_id": format!("toolu_{request_id}"),
        }}));
        if !asked {
            return Err(End::Gone);
        }
        loop {
            let request = self.requests.recv().map_err(|_| End::Gone)?;
            if request["type"] == "control_response" && request["response"]["request_id"] == request_id.as_str() {
                let answer = &request["response"]["response"];
                return Ok(match answer["behavior"].as_str() {
                    Some("allow") => format!("You allowed it, with the input {}.", answer["updatedInput"]),
                    _ => format!("You denied it: {}", answer["message"].as_str().unwrap_or_default()),
                });
            }
            match self.control(&request) {
                Some(true) => {
                    self.print(json!({"type": "control_cancel_request", "request_id": request_id}));
                    return Err(End::Interrupted);
                }
                Some(false) => {}
                None => return Err(End::Gone),
            }
        }
    }

    /// `false`: nobody reads any more.
    fn print(&self, mut line: Value) -> bool {
        if line.get("session_id").is_none() && line["type"] != "control_response" && line["type"] != "control_request" {
            line["session_id"] = self.conversation.id.as_str().into();
        }
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{line}").and_then(|()| stdout.flush()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(args: &[&str]) -> Result<usize, String> {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        Conversation::open(&args).map(|conversation| conversation.asked)
    }

    #[test]
    fn a_prompt_s_text_is_found_in_every_form() {
        let blocks = json!([{"type": "image", "source": {}}, {"type": "text", "text": "a\nb"}]);
        for (content, text) in [(json!("a\nb"), "a\nb"), (blocks, "a\nb"), (json!([]), ""), (Value::Null, "")] {
            assert_eq!(text_of(&content), text, "{content}");
        }
    }

    #[test]
    fn conversations_begin_once_and_are_resumed_after() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = format!("--state-dir={}", dir.path().display());
        assert_eq!(open(&["--resume=a-1", &state]), Err("No conversation found with session ID: a-1".into()));
        let args: Vec<OsString> = [&state, "--session-id=a-1"].map(OsString::from).into();
        let mut first = Conversation::open(&args).expect("begins");
        first.remember_prompt("two\nlines");
        first.remember_answer("m-1");
        first.remember_prompt("\"more\"");
        assert_eq!(open(&["--resume=a-1", &state]), Ok(2));
        assert_eq!(open(&["--session-id=a-1", &state]), Err("Error: Session ID a-1 is already in use.".into()));
        assert_eq!(open(&["--session-id=../x", &state]), Err("Error: Invalid session ID: ../x".into()));
        assert!(open(&[&state]).is_err());
    }

    #[test]
    fn a_fork_begins_where_it_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = format!("--state-dir={}", dir.path().display());
        let args = |args: &[&str]| -> Vec<OsString> { args.iter().copied().chain([&*state]).map(Into::into).collect() };
        let mut old = Conversation::open(&args(&["--session-id=a-1"])).expect("begins");
        old.remember_prompt("one");
        old.remember_answer("m-1");
        old.remember_prompt("two");
        let fork = ["--resume=a-1", "--session-id=a-2", "--fork-session"];
        let pinned = |at| [&fork[..], &[at]].concat();
        let asked = |args: &[OsString]| Conversation::open(args).map(|conversation| conversation.asked);
        assert_eq!(asked(&args(&fork)), Ok(2));
        assert!(asked(&args(&fork[..2])).is_err());
        let lost = "No message found with message.uuid of: m-2".to_owned();
        assert_eq!(asked(&args(&pinned("--resume-session-at=m-2"))), Err(lost));
        let mut new = Conversation::open(&args(&pinned("--resume-session-at=m-1"))).expect("forks");
        assert_eq!((new.id.as_str(), new.asked), ("a-2", 1));
        new.remember_prompt("three");
        assert_eq!(asked(&args(&["--resume=a-2"])), Ok(2));
        assert_eq!(asked(&args(&["--resume=a-1"])), Ok(2), "the other is as it was");
        assert_eq!(asked(&args(&fork)), Err("Error: Session ID a-2 is already in use.".into()));
    }
}
