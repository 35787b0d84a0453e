//! What clients were told of their prompts, and whether it is so.

use std::{collections::HashMap, fmt, ops::AddAssign, sync::Arc};

use serde_json::{Value, json};

use super::clients::{Sent, open_question};
use crate::{
    store::{ask_as, history, ledger},
    support::{DEADLINE, client::Client, server::Server, workspace::Workspace},
};

/// A prompt as its client knows it.
struct Prompt {
    session: String,
    id: String,
    text: String,
    acked: bool,
    /// Its response, once it was seen.
    response: Option<Value>,
}

#[derive(Default, Clone, Copy)]
pub struct Counts {
    prompts: usize,
    done: usize,
    interrupted: usize,
    asked_again: usize,
    refused: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.prompts += other.prompts;
        self.done += other.done;
        self.interrupted += other.interrupted;
        self.asked_again += other.asked_again;
        self.refused += other.refused;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { prompts, done, interrupted, asked_again, refused } = self;
        write!(f, "{prompts} prompts: {done} done, {interrupted} interrupted; ")?;
        write!(f, "{asked_again} were asked again, {refused} refused in between")
    }
}

pub struct Ledger {
    place: Arc<Workspace>,
    prompts: Vec<Prompt>,
    /// The history of each session as it was when all of it was on the disk.
    histories: HashMap<String, Vec<Value>>,
    pub counts: Counts,
}

impl Ledger {
    pub fn new(place: &Arc<Workspace>) -> Ledger {
        Ledger { place: place.clone(), prompts: Vec::new(), histories: HashMap::new(), counts: Counts::default() }
    }

    /// A prompt of that kind, which nobody has asked before: its place here, and the fields to ask it with.
    pub fn new_prompt(&mut self, session: &str, kind: &str) -> (usize, Value) {
        let at = self.prompts.len();
        let id = format!("p{at}");
        // A command must be that alone.
        let text = if kind.starts_with('/') { format!("words 1 {id}") } else { format!("{kind} {id}") };
        let data = json!({"prompt": text, "promptId": id});
        self.prompts.push(Prompt { session: session.to_owned(), id, text, acked: false, response: None });
        self.counts.prompts += 1;
        (at, data)
    }

    /// The name of some prompt of a session.
    pub fn some_prompt(&self, session: &str, random: &mut fastrand::Rng) -> Option<String> {
        let of_session: Vec<_> = self.prompts.iter().filter(|prompt| prompt.session == session).collect();
        (!of_session.is_empty()).then(|| of_session[random.usize(..of_session.len())].id.clone())
    }

    /// Notes whether it was acknowledged. The connection has ended.
    pub fn note(&mut self, sent: Sent, client: &Client) {
        let ack = client.try_wait_ack(sent.ack);
        let Some(prompt) = sent.prompt.map(|at| &mut self.prompts[at]) else { return };
        match ack {
            None => {}
            Some(ack) if ack["ok"] == true => prompt.acked = true,
            Some(refused) => {
                assert_eq!(refused["error"]["code"], "storage_full", "{}: {refused}", prompt.text);
                let asked = ledger(&self.place).contains(&prompt.text);
                assert!(!asked, "{} was refused, and has reached an agent", prompt.text);
                self.counts.refused += 1;
            }
        }
    }

    /// Asks again what was not acknowledged, as clients do.
    pub fn ask_again(&mut self, server: &Server, what: &str) {
        let mut clients: HashMap<String, Client> = HashMap::new();
        for prompt in self.prompts.iter_mut().filter(|prompt| !prompt.acked) {
            let connect = || server.connect(json!({"sessionId": prompt.session}));
            let client = clients.entry(prompt.session.clone()).or_insert_with(connect);
            let data = json!({"sessionId": prompt.session, "prompt": prompt.text, "promptId": prompt.id});
            let ack = client.emit_with_ack("askClaudeCode", data);
            assert_eq!((&ack["ok"], &ack["promptId"]), (&json!(true), &json!(prompt.id)), "{what}: {ack}");
            prompt.acked = true;
            self.counts.asked_again += 1;
        }
    }

    /// Waits until everything that was asked in a session has ended, as a client sees it that has seen nothing before, and
    /// checks that each has ended once, and as it had ended before.
    pub fn check_session(&mut self, server: &Server, session: &str, what: &str) {
        let client = server.connect(json!({"sessionId": session, "afterSeq": 0}));
        for prompt in self.prompts.iter_mut().filter(|prompt| prompt.session == session) {
            let response = wait_response(&client, &prompt.id, what);
            let status = response["status"].as_str().expect("a status");
            match &prompt.response {
                Some(before) => assert_eq!(&response, before, "{what}: {}", prompt.text),
                None if status == "done" => self.counts.done += 1,
                None => {
                    assert_eq!(status, "interrupted", "{what}: {}: {response}", prompt.text);
                    self.counts.interrupted += 1;
                }
            }
            prompt.response = Some(response);
        }
        // What an agent says behind its last answer, and a turn that it begins by itself.
        crate::support::processes::eventually(what, DEADLINE, || {
            let summary = client.must("getSession", json!({"sessionId": session}))["session"].clone();
            if summary["openQuestions"] != 0 {
                answer_open(&client, session);
            }
            ["idle", "stopped"].iter().any(|state| summary["state"] == *state)
        });
        // Only then it is certain that it stays so: what is asked again is looked up behind all that was to be stored.
        if let Some(last) = self.prompts.iter().rfind(|prompt| prompt.session == session) {
            assert_eq!(ask_as(&client, session, &last.id, &last.text)["ok"], true, "{what}");
        }
        for name in ["claudeResponse", "prompt"] {
            let mut ids: Vec<_> = client.events_named(name).iter().map(|data| data["promptId"].to_string()).collect();
            let count = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), count, "{what}: {session}: a {name} came twice");
        }
        let history = history(&client, session);
        if let Some(before) = self.histories.get(session) {
            assert!(history.starts_with(before), "{what}: {session}: what was stored has changed");
        }
        self.histories.insert(session.to_owned(), history);
    }

    /// No agent has got anything twice, and what is done has reached one.
    pub fn check_agents(&self, what: &str) {
        let mut asked: HashMap<String, usize> = HashMap::new();
        for text in ledger(&self.place) {
            *asked.entry(text).or_default() += 1;
        }
        let twice: Vec<_> = asked.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "{what}: {twice:?}");
        for prompt in &self.prompts {
            let done = prompt.response.as_ref().is_some_and(|response| response["status"] == "done");
            assert!(!done || asked.contains_key(&prompt.text), "{what}: {} is done, and no agent got it", prompt.text);
        }
    }
}

/// The response to that prompt; questions that are asked meanwhile are answered.
fn wait_response(client: &Client, id: &str, what: &str) -> Value {
    let mut from = 0;
    loop {
        let wanted = |event: &crate::support::client::Event| {
            event.name == "permissionRequest" || (event.name == "claudeResponse" && event.data["promptId"] == id)
        };
        let (at, event) =
            client.try_wait_event_from(from, DEADLINE, wanted).unwrap_or_else(|| panic!("{what}: no end of {id}"));
        if event.name == "claudeResponse" {
            return event.data;
        }
        from = at + 1;
        let session = event.data["sessionId"].as_str().expect("an id");
        answer_open(client, session);
    }
}

fn answer_open(client: &Client, session: &str) {
    if let Some(question) = open_question(client) {
        // Another may have been faster, or the agent has ended.
        client.emit_with_ack(
            "answerPermission",
            json!({"sessionId": session, "requestId": question, "behavior": "allow"}),
        );
    }
}
