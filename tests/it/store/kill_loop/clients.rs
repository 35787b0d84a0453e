//! The clients: what they send, what they have seen, and how they come back.

use serde_json::{Value, json};

use super::{Ledger, seq};
use crate::{
    store::stored_up_to,
    support::{client::Client, server::Server, workspace::Workspace},
};

/// A viewer of one session, which comes back to each next server with what it has seen.
pub struct Viewer {
    pub session: String,
    stream: &'static str,
    pub client: Option<Client>,
    /// Numbered events that came live or were caught up with, in the order in which they came.
    seen: Vec<(u64, String, Value)>,
    /// The numbering that they belong to.
    log_id: Value,
    /// How many it had seen when it came back, and whether they were known.
    returned: Option<(u64, bool)>,
}

impl Viewer {
    pub fn new(session: &str, stream: &'static str) -> Viewer {
        let session = session.to_owned();
        Viewer { session, stream, client: None, seen: Vec::new(), log_id: Value::Null, returned: None }
    }

    fn last(&self) -> u64 {
        self.seen.last().map_or(0, |(seq, ..)| *seq)
    }

    /// Comes back with the last number that it has seen. What was not stored of that numbering is a gap.
    pub fn come_back(&mut self, server: &Server, place: &Workspace, what: &str) {
        let (after, log_id) = (self.last(), self.log_id.clone());
        let known = log_id.as_str().is_none_or(|log_id| after <= stored_up_to(place, &self.session, log_id));
        let auth = json!({"sessionId": self.session, "stream": self.stream, "afterSeq": after, "logId": log_id});
        let client = server.connect(auth);
        assert_eq!(client.registered()["resumed"], true, "{what}: {} is lost", self.session);
        self.log_id = client.registered()["logId"].clone();
        self.returned = Some((after, known));
        if !known {
            let error = client.wait_event("serverError", |_| true);
            assert_eq!(error["code"], "seq_gap", "{what}");
            self.seen.clear();
        }
        self.client = Some(client);
    }

    /// What has come to it since: exactly what it had missed, and what happened then. Nothing runs any more.
    pub fn check_return(&mut self, server: &Server, what: &str) {
        let Some((client, (after, known))) = self.client.as_ref().zip(self.returned.take()) else { return };
        // Everything that was there for it has come when this is answered.
        client.must("getSession", json!({"sessionId": self.session}));
        let history = crate::store::history(client, &self.session);
        let came: Vec<(u64, String, Value)> = numbered(client);
        let events = client.events();
        let registered = client.registered()["seq"].as_u64().expect("a number");
        let from = if known { after } else { registered };
        let wanted = |item: &&Value| {
            item["seq"].as_u64() > Some(from) && (self.stream == "events" || item["name"] != "claudeEvent")
        };
        let expected: Vec<_> = history.iter().filter(wanted).map(triple).collect();
        // To whom nothing is replayed, the questions are told that were open when it came.
        let (open, came): (Vec<_>, Vec<_>) = came.into_iter().partition(|(seq, ..)| !known && *seq <= registered);
        for (asked, name, data) in open {
            let item = &history[usize::try_from(asked - 1).expect("small")];
            assert_eq!((name.as_str(), &item["data"]), ("permissionRequest", &data), "{what}");
            let ends =
                |item: &&Value| item["name"] == "permissionResolved" && item["data"]["requestId"] == data["requestId"];
            let ended = history.iter().find(ends).and_then(|item| item["seq"].as_u64());
            assert!(ended > Some(registered), "{what}: {name} {asked} had ended with {ended:?} before {registered}");
        }
        assert_eq!(came, expected, "{what}: {} after {after}, known: {known}", self.stream);
        let gaps = events.iter().filter(|event| event.name == "serverError").count();
        assert_eq!(gaps, usize::from(!known), "{what}");
        // What it knew from before is still so.
        let before = &self.seen;
        for (number, name, data) in before {
            let item = &history[usize::try_from(number - 1).expect("small")];
            assert_eq!((name, data), (&name_of(item), &item["data"]), "{what}: {} number {number}", self.stream);
        }
        let _ = server;
    }

    /// Keeps what came until the connection ended.
    pub fn note_what_came(&mut self) {
        if let Some(client) = &self.client {
            client.wait_closed();
            self.seen.extend(numbered(client));
        }
    }
}

fn name_of(item: &Value) -> String {
    item["name"].as_str().unwrap_or_default().to_owned()
}

fn triple(item: &Value) -> (u64, String, Value) {
    (item["seq"].as_u64().unwrap_or(0), name_of(item), item["data"].clone())
}

/// The numbered events that a viewer has got, without the answers, which share their number with an event.
fn numbered(client: &Client) -> Vec<(u64, String, Value)> {
    let names = ["claudeEvent", "prompt", "permissionRequest", "permissionResolved", "notice"];
    let events = client.events().into_iter().filter(|event| names.contains(&event.name.as_str()));
    events.filter_map(|event| Some((seq(&event.data)?, event.name, event.data))).collect()
}

/// Something that was sent, and is acknowledged, or not.
pub struct Sent {
    pub viewer: usize,
    pub ack: u64,
    /// Its place in the ledger.
    pub prompt: Option<usize>,
}

impl Sent {
    /// Sends something: mostly a prompt.
    pub fn send(
        client: &Client,
        session: &str,
        viewer: usize,
        random: &mut fastrand::Rng,
        ledger: &mut Ledger,
    ) -> Option<Sent> {
        let about = |more: Value| {
            let mut data = json!({"sessionId": session});
            data.as_object_mut().expect("made above").extend(more.as_object().cloned().expect("an object"));
            data
        };
        let (name, data, prompt) = match random.u8(..20) {
            0..12 => {
                let kind = ["words 3", "words 1", "slow 6 3", "ask", "pid", "/local"][random.usize(..6)];
                let (at, data) = ledger.new_prompt(session, kind);
                ("askClaudeCode", about(data), Some(at))
            }
            12..17 => {
                let question = open_question(client)?;
                let behavior = ["allow", "deny"][random.usize(..2)];
                ("answerPermission", about(json!({"requestId": question, "behavior": behavior})), None)
            }
            17 => ("interruptClaude", about(json!({"clearQueue": random.bool()})), None),
            18 => ("cancelPrompt", about(json!({"promptId": ledger.some_prompt(session, random)?})), None),
            _ => ("renameSession", about(json!({"title": format!("title {}", random.u16(..))})), None),
        };
        Some(Sent { viewer, ack: client.start_emit(name, data), prompt })
    }
}

/// A question that this client has seen and knows of no answer to.
pub fn open_question(client: &Client) -> Option<String> {
    let resolved = client.events_named("permissionResolved");
    let asked = client.events_named("permissionRequest");
    let open = |question: &&Value| !resolved.iter().any(|resolved| resolved["requestId"] == question["requestId"]);
    Some(asked.iter().find(open)?["requestId"].as_str()?.to_owned())
}
