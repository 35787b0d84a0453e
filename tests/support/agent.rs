//! An agent driven directly over stdin and stdout, with no server between: the real CLI, or the badly behaved one.

use std::{
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    DEADLINE, processes,
    program::{Pipe, Program},
    workspace::Workspace,
};

/// The flags with which the CLI speaks stream-json on both sides.
pub const STREAM_JSON: [&str; 7] = [
    "-p",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    "--permission-prompt-tool=stdio",
    "--replay-user-messages",
];

/// The real CLI that the tests run: `CSM_TEST_CLAUDE`, else the one that npm put beside the tests.
///
/// # Panics
/// When there is none.
pub fn claude() -> PathBuf {
    if let Some(path) = std::env::var_os("CSM_TEST_CLAUDE") {
        return path.into();
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/claude/node_modules/@anthropic-ai/claude-code-linux-x64/claude");
    assert!(
        path.exists(),
        "the Claude Code CLI for the tests is not installed: run scripts/test once, or name one in CSM_TEST_CLAUDE"
    );
    path
}

/// The badly behaved agent, which cargo builds as an example beside the test binaries.
///
/// # Panics
/// When it is not built, or older than its source.
pub fn bad_agent() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let target = test.ancestors().nth(2).expect("the test is in target/<profile>/deps");
    let path = target.join("examples/bad_agent");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/helpers/bad_agent");
    let modified = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let sources = sources.read_dir().expect("its sources").map(|source| source.expect("a source").path());
    let newest = sources.filter_map(|source| modified(&source)).max();
    // `cargo test --test NAME` builds no examples.
    assert!(
        modified(&path) >= newest,
        "{} is not built from its source: run `cargo build --example bad_agent`",
        path.display()
    );
    path
}

/// A running agent.
pub struct Agent {
    /// The process.
    pub program: Program,
}

/// What one turn brought.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Every line from the one after the mark on, the `result` being the last.
    pub lines: Vec<Value>,
    /// The `result` line.
    pub result: Value,
    /// The text deltas joined.
    pub text: String,
    /// How many text deltas there were.
    pub deltas: usize,
    /// When the first text delta had been read.
    pub first_delta_at: Option<Instant>,
}

impl Agent {
    /// Starts `exe` with [`STREAM_JSON`] behind `args`, in a workspace, with this environment and no other.
    pub fn start(workspace: &Workspace, exe: &Path, args: &[&str], env: &[(String, String)]) -> Agent {
        let mut command = workspace.command(exe);
        command.args(args).args(STREAM_JSON).envs(env.iter().cloned());
        let name = exe.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Agent { program: Program::start(&name, command) }
    }

    /// How many lines it has printed: a place to look from.
    pub fn mark(&self) -> usize {
        self.program.line_count(Pipe::Stdout)
    }

    /// Sends one line; false when it does not read any more.
    pub fn send(&self, line: &Value) -> bool {
        self.program.write(format!("{line}\n").as_bytes())
    }

    /// Sends a prompt with a new uuid, and gives the uuid.
    pub fn send_prompt(&self, text: &str) -> String {
        let uuid = uuid();
        self.send(&json!({
            "type": "user", "uuid": uuid, "parent_tool_use_id": null, "message": {"role": "user", "content": text},
        }));
        uuid
    }

    /// Waits for a line (from the `from`th on) that is JSON and `wanted`, and gives its number and itself.
    ///
    /// # Panics
    /// When none came within the deadline.
    pub fn wait(&self, from: usize, mut wanted: impl FnMut(&Value) -> bool) -> (usize, Value) {
        self.program.wait_line(Pipe::Stdout, from, |line| {
            let value = serde_json::from_slice(&line.bytes).ok()?;
            wanted(&value).then_some(value)
        })
    }

    /// Sends a control request and waits for its answer: the `response` of the `control_response`.
    pub fn request(&self, request: Value) -> Value {
        let (id, mark) = (format!("req-{}", uuid()), self.mark());
        self.send(&json!({"type": "control_request", "request_id": id, "request": request}));
        let answers =
            |line: &Value| line["type"] == "control_response" && line["response"]["request_id"] == id.as_str();
        self.wait(mark, answers).1["response"].clone()
    }

    /// The first thing to say to an agent.
    pub fn initialize(&self) -> Value {
        self.request(json!({"subtype": "initialize", "hooks": null}))
    }

    /// Waits for the next permission question from `from` on: the whole `control_request` line.
    pub fn wait_question(&self, from: usize) -> (usize, Value) {
        self.wait(from, |line| line["type"] == "control_request" && line["request"]["subtype"] == "can_use_tool")
    }

    /// Answers a question, with `{"behavior": …}`.
    pub fn answer(&self, question: &Value, answer: Value) {
        self.send(&json!({
            "type": "control_response",
            "response": {"subtype": "success", "request_id": question["request_id"], "response": answer},
        }));
    }

    /// Answers a question by allowing what it asks.
    pub fn allow(&self, question: &Value) {
        self.answer(question, json!({"behavior": "allow", "updatedInput": question["request"]["input"]}));
    }

    /// Answers a question with no, and why.
    pub fn deny(&self, question: &Value, why: &str) {
        self.answer(question, json!({"behavior": "deny", "message": why}));
    }

    /// Waits for the end of the turn that began after `from`.
    pub fn wait_turn(&self, from: usize) -> Turn {
        let (end, result) = self.wait(from, |line| line["type"] == "result");
        let read: Vec<(Instant, Value)> = self.program.lines(Pipe::Stdout)[from..=end]
            .iter()
            .filter_map(|line| Some((line.at, serde_json::from_slice(&line.bytes).ok()?)))
            .collect();
        let deltas: Vec<(Instant, &str)> =
            read.iter().filter_map(|(at, line)| Some((*at, text_delta(line)?))).collect();
        Turn {
            result,
            text: deltas.iter().map(|(_, text)| *text).collect(),
            deltas: deltas.len(),
            first_delta_at: deltas.first().map(|(at, _)| *at),
            lines: read.into_iter().map(|(_, line)| line).collect(),
        }
    }

    /// Sends a prompt and waits for its whole turn.
    pub fn turn(&self, text: &str) -> Turn {
        let mark = self.mark();
        self.send_prompt(text);
        self.wait_turn(mark)
    }

    /// Waits until a text delta has come from the `from`th line on.
    pub fn wait_delta(&self, from: usize) -> usize {
        self.wait(from, |line| text_delta(line).is_some()).0
    }

    /// Closes its standard input and waits for its end.
    pub fn finish(&self, deadline: Duration) -> ExitStatus {
        self.program.close_stdin();
        self.program.wait_exit(deadline)
    }
}

/// Waits until the CLI's own record of a conversation holds `text`.
///
/// 2.1.197 writes it 60 to 90 ms *after* the `result` line (2.1.330 before it): whoever kills it in between takes the
/// last answer with it, and all of the conversation where that was the first.
///
/// # Panics
/// When it does not within [`DEADLINE`].
pub fn wait_transcript(workspace: &Workspace, session_id: &str, text: &str) {
    let name = format!("{session_id}.jsonl");
    let holds = || {
        let folders = std::fs::read_dir(workspace.home().join(".claude/projects")).ok()?;
        let mut files = folders.filter_map(|folder| Some(folder.ok()?.path().join(&name)));
        let transcript = files.find_map(|file| std::fs::read_to_string(file).ok())?;
        transcript.contains(text).then_some(())
    };
    processes::eventually("the transcript written", DEADLINE, || holds().is_some());
}

/// The text of a line that is a text delta.
pub fn text_delta(line: &Value) -> Option<&str> {
    let delta = &line["event"]["delta"];
    (line["type"] == "stream_event" && delta["type"] == "text_delta").then(|| delta["text"].as_str()).flatten()
}

/// A random version 4 UUID.
pub fn uuid() -> String {
    let bits = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
