//! A server with the real CLI behind it, and what the tests of both look for.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    agent::claude,
    client::Client,
    fake_api::{FakeApi, Request, conversation},
    processes::{self, Process},
    server::{Builder, Server},
    workspace::Workspace,
};

/// Dropped in this order: the client, then the server with what it started, then the API.
pub struct Setup {
    pub client: Client,
    pub session: String,
    pub server: Server,
    pub api: FakeApi,
}

/// How to start the server with the real CLI.
pub fn builder(api: &FakeApi) -> Builder {
    Server::builder(env!("CARGO_BIN_EXE_claude-session-manager")).claude(api)
}

/// A server, and a client with a session of its own.
pub fn start() -> Setup {
    let api = FakeApi::start();
    let server = builder(&api).start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    Setup { client, session, server, api }
}

impl Setup {
    pub fn ask(&self, prompt: &str) -> String {
        self.client.ask(&self.session, prompt)
    }

    pub fn ask_and_wait(&self, prompt: &str) -> Value {
        self.client.ask_and_wait(&self.session, prompt)
    }

    /// Asks and gives the answer's text; the prompt must end well.
    pub fn answer(&self, prompt: &str) -> String {
        let response = self.ask_and_wait(prompt);
        assert_eq!(response["status"], "done", "{response}");
        response["fullResponse"].as_str().expect("a text").to_owned()
    }

    pub fn interrupt(&self) -> Value {
        self.client.must("interruptClaude", json!({"sessionId": self.session}))
    }

    /// The permission question that comes after the `from`th event.
    pub fn question(&self, from: usize) -> Value {
        self.client.wait_event_from(from, "permissionRequest", |_| true).1
    }

    pub fn allow(&self, question: &Value) {
        let answer = json!({"sessionId": self.session, "requestId": question["requestId"], "behavior": "allow"});
        self.client.must("answerPermission", answer);
    }

    /// How the session is now.
    pub fn summary(&self) -> Value {
        self.client.must("getSession", json!({"sessionId": self.session}))["session"].clone()
    }

    /// The one Claude process that runs.
    pub fn claude(&self) -> Process {
        let mut found = claudes(self.server.workspace());
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// Lets Claude's Bash tool start a `tail` that never ends, and gives the prompt's name.
    pub fn run_tail(&self) -> String {
        let mark = self.client.mark();
        let prompt = self.ask("bash:tail -f /dev/null");
        self.allow(&self.question(mark));
        let workspace = self.server.workspace();
        processes::eventually("the tool's tail runs", DEADLINE, || !tails(workspace).is_empty());
        prompt
    }

    /// What Claude asked the API when it was given this prompt: role and text of each message.
    pub fn told(&self, prompt: &str) -> Vec<(String, String)> {
        said(&self.api.wait_for_prompt(prompt))
    }
}

/// The messages of a request, without those that Claude puts in itself.
pub fn said(request: &Request) -> Vec<(String, String)> {
    conversation(request).into_iter().filter(|(role, _)| role != "system").collect()
}

/// Whether one of the messages is exactly this.
pub fn holds(said: &[(String, String)], role: &str, text: &str) -> bool {
    said.iter().any(|(who, what)| who == role && what == text)
}

/// The Claude processes that were started in these directories.
pub fn claudes(workspace: &Arc<Workspace>) -> Vec<Process> {
    let path = claude().display().to_string();
    let mut found = workspace.processes();
    // The CLI executes itself as other tools, too.
    found.retain(|process| {
        process.cmdline.first() == Some(&path) && process.cmdline.iter().any(|arg| arg.starts_with("--input-format"))
    });
    found
}

/// What [`Setup::run_tail`] started and still lives.
pub fn tails(workspace: &Arc<Workspace>) -> Vec<Process> {
    let mut found = workspace.processes();
    found.retain(|process| process.name == "tail");
    found
}

/// Which conversation a Claude process was started for, and whether it resumes it; of a fork, the new one.
pub fn conversation_of(process: &Process) -> (String, bool) {
    let value = |flag: &str| process.cmdline.iter().find_map(|arg| arg.strip_prefix(flag)).map(str::to_owned);
    match (value("--resume="), value("--session-id=")) {
        (Some(uuid), None) => (uuid, true),
        (_, Some(uuid)) => (uuid, false),
        _ => panic!("neither resumed nor begun: {:?}", process.cmdline),
    }
}

/// Writes a program into the workspace that stands between the server and the CLI: a shell script, in which `claude`
/// is the CLI.
pub fn script(workspace: &Arc<Workspace>, body: &str) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = workspace.root().join("between");
    let text = format!("#!/bin/sh\nclaude() {{ '{}' \"$@\"; }}\n{body}\n", claude().display());
    // Another test's fork may hold a file that was just written open, and then it cannot be executed yet: so it is
    // written under another name by a process that has ended.
    let written = std::process::Command::new("sh")
        .args(["-c", "printf %s \"$1\" > \"$2\"", "sh", &text])
        .arg(&path)
        .status()
        .expect("sh runs");
    assert!(written.success());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("it can be executed");
    path
}
