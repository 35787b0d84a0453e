//! The wire contract.

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    client::{Client, Event},
    processes::eventually,
    server::{Builder, Server},
};

mod accounts;
mod attachments;
mod connect;
mod history;
mod joining;
mod order;
mod packets;
mod permissions;
mod prompts;
mod refusals;
mod sessions;
mod shapes;
mod slow;
mod troubles;
mod untouched;

fn builder() -> Builder {
    Server::builder(env!("CARGO_BIN_EXE_claude-session-manager")).bad_agent(&["proper"])
}

fn server() -> Server {
    builder().start()
}

/// The names of an object's members, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let object = value.as_object().unwrap_or_else(|| panic!("not an object: {value}"));
    let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// A client that connects with these fields of `auth`, and its session.
fn client(server: &Server, auth: Value) -> (Client, String) {
    let client = server.connect(auth);
    let session = client.session_id();
    (client, session)
}

/// A text viewer with a session of its own.
fn text_client(server: &Server) -> (Client, String) {
    client(server, json!({}))
}

/// One more viewer of that session.
fn viewer(server: &Server, session: &str, stream: &str) -> Client {
    let client = server.connect(json!({"sessionId": session, "stream": stream}));
    assert_eq!(client.registered()["resumed"], true);
    client
}

/// Waits until everything that the server had for this client before now has come.
fn settle(client: &Client, session: &str) {
    client.must("getSession", json!({"sessionId": session}));
}

/// Waits for the agent's last word on the prompts so far, which comes after their results, and gives its number.
fn last_word(client: &Client, session: &str) -> u64 {
    let mut last = 0;
    eventually("the last event is there", DEADLINE, || {
        let page = client.must("getHistory", json!({"sessionId": session, "limit": 1}));
        last = page["events"][0]["seq"].as_u64().expect("a number");
        page["events"][0]["data"]["event"]["type"] == "command_lifecycle"
            && page["events"][0]["data"]["event"]["state"] != "queued"
            && client.must("getSession", json!({"sessionId": session}))["session"]["state"] == "idle"
    });
    last
}

/// The `claudeEvent`s that a viewer has seen.
fn claude_events(events: &[Event]) -> Vec<Event> {
    events.iter().filter(|event| event.name == "claudeEvent").cloned().collect()
}

/// An unused path for the prompt `wait FILE`.
fn go_file(server: &Server) -> std::path::PathBuf {
    server.workspace().root().join(format!("go-{:016x}", fastrand::u64(..)))
}

fn go(file: &std::path::Path) {
    std::fs::write(file, "").expect("the file made");
}

/// What `/health` says.
fn health(server: &Server) -> Value {
    server.http("GET", "/health", &[]).json()
}
