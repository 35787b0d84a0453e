//! The CLI behind the whole server, asked by a Socket.IO client.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::{
    agents::Answering,
    direct::{PAUSE, PROMPT},
    report::Samples,
    support::{
        DEADLINE,
        agent::text_delta,
        client::{Client, Event, Frame},
        processes::{self, Process},
        server::Server,
        workspace::Workspace,
    },
};

/// What a client may want to see of an answer.
pub const STREAMS: [&str; 2] = ["text", "events"];

/// How sessions hibernate soon, and stay so when somebody opens them.
const HIBERNATING: [&str; 2] = ["--idle-timeout=200ms", "--prestart=0"];

const MB: f64 = 1_000_000.0;

/// Two servers with their defaults, but that the one's sessions hibernate.
pub struct Served<'a> {
    answering: &'a Answering,
    open: Server,
    hibernating: Server,
}

impl Served<'_> {
    pub fn start<'a>(exe: &Path, answering: &'a Answering) -> Served<'a> {
        let start = |args: &[&str]| start(exe, answering, args);
        Served { answering, open: start(&[]), hibernating: start(&HIBERNATING) }
    }

    /// One run of all measures with a client of that stream.
    pub fn run(&self, stream: &str, samples: &mut Samples) {
        let agent = self.answering.name;
        let mut add = |name, asked: Asked| {
            samples.add_time(&format!("{agent}/{stream}/{name}"), asked.first_text);
            samples.add_time(&format!("{agent}/ack/{name}"), asked.ack);
        };
        let opened = Conversation::open(&self.open, stream);
        add("at once", opened.ask());
        opened.delete();

        let opened = Conversation::open(&self.open, stream);
        opened.wait_state("idle");
        for number in 0..self.answering.prompts {
            thread::sleep(PAUSE);
            add(if number == 0 { "first" } else { "later" }, opened.ask());
        }
        opened.delete();

        let asleep = self.hibernated(stream);
        add("hibernated", asleep.ask());
        asleep.delete();
    }

    /// A conversation that has had a turn and whose process was stopped.
    fn hibernated(&self, stream: &str) -> Conversation {
        let before = Conversation::open(&self.hibernating, stream);
        before.ask();
        let session = before.session.clone();
        drop(before);
        processes::eventually("no process", DEADLINE, || agents_of(&self.hibernating).is_empty());
        let client = self.hibernating.connect(json!({"stream": stream, "sessionId": session}));
        let again = Conversation { client, session };
        // What the process may have left behind is looked for before its session is at rest.
        if again.client.registered()["session"]["state"] != "stopped" {
            again.wait_state("stopped");
        }
        again
    }

    /// The resident memory now, of the server and of its guardian.
    pub fn measure_memory(&self, when: &str, samples: &mut Samples) {
        let server = processes::get(self.open.pid()).expect("the server runs");
        samples.add(&format!("memory/{when}/server"), resident_mb(&server));
        let is_guardian = |process: &Process| process.cmdline.iter().any(|arg| arg == "guardian");
        let mut guardian = None;
        processes::eventually("a guardian", DEADLINE, || {
            guardian = self.open.started().into_iter().find(is_guardian);
            guardian.is_some()
        });
        samples.add(&format!("memory/{when}/guardian"), guardian.as_ref().map_or(0.0, resident_mb));
    }
}

fn start(exe: &Path, answering: &Answering, args: &[&str]) -> Server {
    let place = Arc::new(Workspace::new());
    let places = [format!("--data-dir={}", place.data().display()), format!("--cwd={}", place.work().display())];
    let mut server = Server::builder(exe).without_defaults().workspace(&place).arg("--port=0").arg(&answering.flag);
    for (name, value) in &answering.env {
        server = server.env(name, value);
    }
    server.args(places).args(args.iter().copied()).start()
}

/// The agents of that server. The CLI executes itself as other tools, too.
fn agents_of(server: &Server) -> Vec<Process> {
    let mut found = server.started();
    found.retain(|process| process.cmdline.iter().any(|arg| arg.starts_with("--input-format")));
    found
}

fn resident_mb(process: &Process) -> f64 {
    // SAFETY: sysconf takes a number and touches no memory.
    let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    process.rss_pages as f64 * page_bytes as f64 / MB
}

/// What one prompt took.
struct Asked {
    ack: Duration,
    first_text: Duration,
}

/// A session and one client of it.
struct Conversation {
    client: Client,
    session: String,
}

impl Conversation {
    /// A new session.
    fn open(server: &Server, stream: &str) -> Conversation {
        let client = server.connect(json!({"stream": stream}));
        let session = client.session_id();
        Conversation { client, session }
    }

    /// Waits until the session has come into that state since it was opened.
    fn wait_state(&self, state: &str) {
        self.client.wait_event("sessionUpdated", |session| session["state"] == state);
    }

    /// Asks, and waits until the answer has ended and the session is ready for another prompt.
    fn ask(&self) -> Asked {
        let mark = self.client.mark();
        let began = Instant::now();
        let ack = self.client.start_emit("askClaudeCode", json!({"sessionId": self.session, "prompt": PROMPT}));
        let (text, first) = self.wait(mark, is_text);
        let answer = self.client.wait_ack(ack);
        assert_eq!(answer["ok"], true, "{answer}");
        let (end, _) = self.wait(text, is_end);
        self.wait(end, |event| event.name == "sessionUpdated" && event.data["state"] == "idle");
        Asked { ack: acknowledged(&self.client, ack).duration_since(began), first_text: first.at.duration_since(began) }
    }

    fn wait(&self, from: usize, wanted: impl FnMut(&Event) -> bool) -> (usize, Event) {
        let found = self.client.try_wait_event_from(from, DEADLINE, wanted);
        found.unwrap_or_else(|| panic!("not what was waited for: {:#?}", self.client.events()))
    }

    /// Forgets the session: when this is acknowledged, nothing of it runs any more.
    fn delete(self) {
        self.client.must("deleteSession", json!({"sessionId": self.session}));
    }
}

/// Whether this is a piece of an answer's text, as either stream has it.
fn is_text(event: &Event) -> bool {
    match event.name.as_str() {
        "claudeStreamChunk" => true,
        "claudeEvent" => text_delta(&event.data["event"]).is_some(),
        _ => false,
    }
}

/// Whether this is the end of an answer, as either stream has it.
fn is_end(event: &Event) -> bool {
    event.name == "claudeResponse" || event.data["event"]["type"] == "result"
}

/// When an acknowledgement came.
fn acknowledged(client: &Client, id: u64) -> Instant {
    let head = format!("43{id}[");
    let is_it = |frame: &Frame| matches!(frame, Frame::Text(text) if text.starts_with(&head));
    client.frames().into_iter().find(|received| is_it(&received.frame)).expect("it was waited for").at
}
