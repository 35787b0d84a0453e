//! Conversations that outlive the server, and processes that are not there all the time.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, claudes, conversation_of, holds, start},
    support::{
        DEADLINE,
        agent::{Agent, claude, wait_transcript},
        client::Client,
        fake_api::FakeApi,
        processes::{self, eventually},
        server::Server,
    },
};

/// Ctrl-C, and what leaves nobody time for anything.
const ENDS: [i32; 2] = [libc::SIGINT, libc::SIGKILL];

/// How often a hibernated session is woken for the measurement.
const WAKES: usize = 5;

impl Setup {
    /// Ends the server in this way and starts another on what it has left, to which the client comes back.
    pub fn restart(self, signal: i32) -> Setup {
        self.server.signal(signal);
        self.server.wait_exit(DEADLINE);
        let server = builder(&self.api).workspace(self.server.workspace()).start();
        let client = server.connect(json!({"sessionId": self.session, "afterSeq": 0}));
        assert_eq!(client.registered()["resumed"], true);
        Setup { client, session: self.session, server, api: self.api }
    }

    /// Says something and waits until it is in Claude's own record, and so in every later conversation.
    fn remember(&self) -> String {
        self.answer("say:remember me");
        let uuid = conversation_of(&self.claude()).0;
        wait_transcript(self.server.workspace(), &uuid, "\"text\":\"remember me\"");
        uuid
    }

    /// Waits until all that happened so far is on the disk: this is acknowledged when it is.
    pub fn settle(&self) {
        self.client.must("renameSession", json!({"sessionId": self.session, "title": "kept"}));
    }

    fn history(&self) -> Vec<Value> {
        let page = self.client.must("getHistory", json!({"sessionId": self.session, "afterSeq": 0}));
        page["events"].as_array().expect("a list").clone()
    }

    /// How often the model was asked this.
    fn times_asked(&self, prompt: &str) -> usize {
        self.api.turns().iter().filter(|turn| turn.prompt() == prompt).count()
    }
}

#[test]
fn a_conversation_outlives_the_server() {
    for signal in ENDS {
        let on = start();
        let uuid = on.remember();
        on.settle();
        let before = on.history();
        let on = on.restart(signal);
        assert_eq!(on.history()[..before.len()], before);
        let summary = on.summary();
        assert_eq!((&summary["title"], &summary["lastWords"]), (&json!("kept"), &json!("remember me")), "{summary}");
        assert_eq!(on.answer("say:back"), "back");
        assert_eq!(conversation_of(&on.claude()), (uuid, true));
        assert!(holds(&on.told("say:back"), "assistant", "remember me"), "{:?}", on.told("say:back"));
    }
}

#[test]
fn what_ran_is_interrupted_and_what_waited_runs() {
    for signal in ENDS {
        let on = start();
        on.remember();
        let running = on.ask("hang");
        on.client.wait_chunk(&running);
        let waiting = on.ask("say:waited");
        let on = on.restart(signal);
        assert_eq!(on.client.wait_response(&running)["status"], "interrupted");
        let waited = on.client.wait_response(&waiting);
        assert_eq!((&waited["status"], &waited["fullResponse"]), (&json!("done"), &json!("waited")), "{waited}");
        let told = on.told("say:waited");
        assert!(holds(&told, "assistant", "remember me"), "{told:?}");
        assert_eq!((on.times_asked("hang"), on.times_asked("say:waited")), (1, 1));
    }
}

#[test]
fn a_question_does_not_outlive_the_server() {
    for signal in ENDS {
        let on = start();
        on.remember();
        let (mark, file) = (on.client.mark(), on.server.workspace().work().join("made"));
        let prompt = on.ask(&format!("write:{}:text", file.display()));
        let question = on.question(mark);
        on.settle();
        let on = on.restart(signal);
        let resolved = on.client.wait_event("permissionResolved", |_| true);
        assert_eq!((&resolved["requestId"], &resolved["behavior"]), (&question["requestId"], &json!("cancelled")));
        assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
        let late = json!({"sessionId": on.session, "requestId": question["requestId"], "behavior": "allow"});
        assert_eq!(on.client.must_fail("answerPermission", late)["code"], "stale_request");
        assert_eq!(on.answer("say:back"), "back");
        assert!(holds(&on.told("say:back"), "assistant", "remember me"));
        assert!(!file.exists(), "nobody has allowed it");
    }
}

/// Waits until the session's process was stopped, and comes back to it.
fn sleep(server: &Server, client: Client, session: &str) -> Client {
    drop(client);
    eventually("no process", DEADLINE, || claudes(server.workspace()).is_empty());
    let client = server.connect(json!({"sessionId": session}));
    assert_eq!(client.registered()["resumed"], true);
    client
}

/// How long the CLI alone takes from its start to the first delta of an answer.
fn alone(server: &Server, api: &FakeApi, uuid: &str) -> Duration {
    let began = Instant::now();
    let agent = Agent::start(server.workspace(), &claude(), &[&format!("--resume={uuid}")], &api.env());
    agent.initialize();
    let first = agent.turn("say:alone").first_delta_at.expect("a delta");
    assert!(agent.finish(DEADLINE).success());
    first.duration_since(began)
}

/// Prints how long a prompt to a hibernated session takes to its first chunk, and what of that is Claude's own.
#[test]
fn a_hibernated_session_wakes_with_its_conversation() {
    let api = FakeApi::start();
    let server = builder(&api).args(["--idle-timeout=200ms", "--prestart=0"]).start();
    let mut client = server.connect(Value::Null);
    let session = client.session_id();
    client.ask_and_wait(&session, "say:remember me");
    let uuid = conversation_of(&claudes(server.workspace())[0]).0;
    wait_transcript(server.workspace(), &uuid, "\"text\":\"remember me\"");
    let (mut took, mut of_claude) = (Vec::new(), Vec::new());
    for round in 0..WAKES {
        client = sleep(&server, client, &session);
        assert_eq!(claudes(server.workspace()).len(), 0, "looking starts nothing");
        of_claude.push(alone(&server, &api, &uuid));
        let text = format!("say:awake {round}");
        let asked = Instant::now();
        let prompt = client.ask(&session, &text);
        client.wait_chunk(&prompt);
        let chunk = client.events().into_iter().find(|event| event.name == "claudeStreamChunk").expect("waited for");
        took.push(chunk.at.duration_since(asked));
        assert_eq!(client.wait_response(&prompt)["fullResponse"], format!("awake {round}"));
        let told = crate::setup::said(&api.wait_for_prompt(&text));
        assert!(holds(&told, "assistant", "remember me"), "{told:?}");
        let process = claudes(server.workspace()).pop().expect("it is awake");
        assert_eq!(conversation_of(&process), (uuid.clone(), true));
        wait_transcript(server.workspace(), &uuid, &format!("\"text\":\"awake {round}\""));
    }
    for (what, times) in
        [("a prompt to a hibernated session", &mut took), ("the start of Claude alone", &mut of_claude)]
    {
        times.sort();
        println!("from {what} to the first chunk: median {:?} of {times:?}", times[WAKES / 2]);
    }
}

/// A server that stops while a session goes to sleep, or wakes, leaves nothing, and the next one answers.
#[test]
fn a_restart_in_hibernation_or_waking_loses_nothing() {
    for signal in ENDS {
        let on = start();
        on.remember();
        on.client.must("closeSession", json!({"sessionId": on.session}));
        on.client.must("resumeSession", json!({"sessionId": on.session}));
        // It only starts when the server ends.
        let prompt = on.ask("say:woken");
        let on = on.restart(signal);
        let response = on.client.wait_response(&prompt);
        assert_eq!((&response["status"], &response["fullResponse"]), (&json!("done"), &json!("woken")), "{response}");
        assert!(holds(&on.told("say:woken"), "assistant", "remember me"));
        assert_eq!(on.times_asked("say:woken"), 1);
        processes::eventually("one process", DEADLINE, || claudes(on.server.workspace()).len() == 1);
    }
}
