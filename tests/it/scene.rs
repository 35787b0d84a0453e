//! One server, one client and its session: what most tests of agents and of their end begin with.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    client::Client,
    processes::{self, Process},
    server::{Builder, Server},
};

/// The server under test.
pub const EXE: &str = env!("CARGO_BIN_EXE_claude-session-manager");

/// A server that is to be started, with the bad agent in this mode.
pub fn bad(mode: &str) -> Builder {
    Server::builder(EXE).bad_agent(&[mode])
}

/// A running server, a client of the stream `text`, and the session that the client has got.
pub struct Scene {
    pub client: Client,
    pub id: String,
    pub server: Server,
}

/// Starts the server and connects the client.
pub fn scene(builder: Builder) -> Scene {
    on(builder.start())
}

/// Connects the client to a server that runs.
pub fn on(server: Server) -> Scene {
    let client = server.connect(Value::Null);
    let id = client.session_id();
    Scene { client, id, server }
}

impl Scene {
    /// The data that every event about this session has, with these further fields.
    pub fn data(&self, more: Value) -> Value {
        let mut data = json!({"sessionId": self.id});
        data.as_object_mut().expect("made above").extend(more.as_object().cloned().expect("an object"));
        data
    }

    pub fn ask(&self, prompt: &str) -> String {
        self.client.ask(&self.id, prompt)
    }

    /// Asks and waits for the end of the answer.
    pub fn answer(&self, prompt: &str) -> Value {
        self.client.ask_and_wait(&self.id, prompt)
    }

    /// Asks what must be answered well, and gives the text.
    pub fn text(&self, prompt: &str) -> String {
        let response = self.answer(prompt);
        assert_eq!(response["status"], "done", "{prompt}: {response}");
        response["fullResponse"].as_str().expect("text").to_owned()
    }

    /// Asks for a turn of exactly these lines. The agent prints them at once, and its result, if there is one, is among them.
    pub fn ask_turn(&self, lines: &[Value]) -> String {
        let file = self.server.workspace().root().join(format!("turn-{:016x}", fastrand::u64(..)));
        fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("the lines");
        self.ask(&format!("turn {}", file.display()))
    }

    /// Asks for such a turn, and waits for the end of its prompt.
    pub fn turn(&self, lines: &[Value]) -> Value {
        let prompt = self.ask_turn(lines);
        self.client.wait_response(&prompt)
    }

    /// The session's summary as it is now.
    pub fn summary(&self) -> Value {
        self.client.must("getSession", self.data(json!({})))["session"].clone()
    }

    /// Asks what is answered with JSON.
    pub fn json(&self, prompt: &str) -> Value {
        let text = self.text(prompt);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{prompt}: {error}: {text}"))
    }

    /// Asks what must be answered with the number of a living process.
    pub fn process(&self, prompt: &str) -> Process {
        let text = self.text(prompt);
        let pid = text.parse().unwrap_or_else(|error| panic!("{prompt}: {error}: {text}"));
        processes::get(pid).unwrap_or_else(|| panic!("{prompt}: there is no process {pid}"))
    }

    /// The agent, and what it has started: as a child, and as nobody's. All in Unix sessions of their own.
    pub fn family(&self) -> Vec<Process> {
        ["pid", "spawn", "spawn-orphan"].map(|prompt| self.process(prompt)).into()
    }

    /// The session's summary that went out with, or after, the end of a prompt.
    pub fn summary_after(&self, prompt_id: &str) -> Value {
        let (at, _) = self.client.wait_event_from(0, "claudeResponse", |data| data["promptId"] == prompt_id);
        self.client.wait_event_from(at, "sessionUpdated", |_| true).1
    }

    /// Waits until the session is in this state, now or later.
    pub fn wait_state(&self, state: &str) -> Value {
        let mark = self.client.mark();
        let now = self.client.must("getSession", self.data(json!({})))["session"].clone();
        if now["state"] == state {
            return now;
        }
        self.client.wait_event_from(mark, "sessionUpdated", |data| data["state"] == state).1
    }

    /// The codes of all notices so far.
    pub fn notices(&self) -> Vec<String> {
        let notices = self.client.events_named("notice");
        notices.iter().map(|notice| notice["code"].as_str().expect("a code").to_owned()).collect()
    }

    /// A file in the agents' directory, not yet there.
    pub fn file(&self, name: &str) -> PathBuf {
        self.server.workspace().work().join(name)
    }

    pub fn close(&self) -> Value {
        self.client.must("closeSession", self.data(json!({})))["session"].clone()
    }

    /// Ends the server as Ctrl-C does. Clients were told, each prompt has had exactly one `claudeResponse`, whose text is
    /// its chunks joined, or has it from the next server, if it had not begun; and no process is left.
    pub fn finish(self) {
        assert_eq!(self.server.stop().code(), Some(0), "{}", self.server.stderr_text());
        let open = self.assert_end(&self.client);
        let left = self.server.started();
        assert!(left.is_empty(), "left by the server: {left:?}");
        self.server.wait_log("INFO  stopped");
        let log = self.server.stderr_text();
        assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
        self.assert_answered_by_the_next(&open);
    }

    /// A server that is started on the same data answers these prompts.
    pub fn assert_answered_by_the_next(&self, open: &[Value]) {
        if open.is_empty() {
            return;
        }
        let server = bad("proper").workspace(self.server.workspace()).start();
        let client = server.connect(json!({"sessionId": self.id, "afterSeq": 0}));
        for prompt in open {
            let id = prompt.as_str().expect("a name");
            assert_eq!(client.wait_response(id)["status"], "done", "{id}");
        }
        server.stop();
        let left = server.started();
        assert!(left.is_empty(), "left by the next server: {left:?}");
    }

    /// What holds for any client once the server has ended. Returns the prompts that had not begun: they have no response
    /// yet.
    pub fn assert_end(&self, client: &Client) -> Vec<Value> {
        assert_eq!(client.wait_closed(), Some(1001));
        assert_eq!(client.events_named("serverShutdown").len(), 1);
        let responses = client.events_named("claudeResponse");
        let mut asked: Vec<Value> = client.events_named("prompt").iter().map(|data| data["promptId"].clone()).collect();
        for response in &responses {
            let id = response["promptId"].as_str().expect("of a prompt");
            assert_eq!(responses.iter().filter(|other| other["promptId"] == id).count(), 1, "{id}: {responses:#?}");
            assert_eq!(response["fullResponse"], client.chunks(id).concat(), "{id}");
            asked.retain(|asked| asked != id);
        }
        for id in &asked {
            assert!(client.chunks(id.as_str().expect("a name")).is_empty(), "{id} was begun and has no response");
        }
        asked
    }
}

/// The first line of a turn.
pub fn init() -> Value {
    json!({"type": "system", "subtype": "init"})
}

/// The last line of a turn that answers its prompt.
pub fn result() -> Value {
    json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "result": "",
        "user_message_uuids": ["$UUID"]})
}

/// A question of that name, of the main conversation or of an agent.
pub fn question(request_id: &str, agent: Option<&str>) -> Value {
    let mut request = json!({"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": request_id},
        "permission_suggestions": []});
    if let Some(agent) = agent {
        request["agent_id"] = json!(agent);
    }
    json!({"type": "control_request", "request_id": request_id, "request": request})
}

/// Makes a file for which an agent waits.
pub fn make(file: &PathBuf) {
    fs::write(file, "").expect("the file");
}

/// Asserts that none of them lives, now.
pub fn assert_gone(family: &[Process], when: &str) {
    let left: Vec<_> = family.iter().filter(|process| process.is_alive()).collect();
    assert!(left.is_empty(), "{when}: {left:#?}");
}

/// Waits until none of them lives.
pub fn wait_gone(family: &[Process], when: &str) {
    processes::eventually(when, DEADLINE, || family.iter().all(|process| !process.is_alive()));
}

/// The server's guardian, once there is one.
pub fn guardian(server: &Server) -> Process {
    let mut found = None;
    processes::eventually("a guardian", DEADLINE, || {
        let is_guardian = |process: &Process| process.cmdline.get(1).is_some_and(|arg| arg == "guardian");
        found = server.started().into_iter().find(|process| process.ppid == server.pid() && is_guardian(process));
        found.is_some()
    });
    found.expect("waited for")
}
