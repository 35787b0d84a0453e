//! What outlives the server: sessions, prompts and events, through stops, kills, full disks and damage.

use std::{path::PathBuf, sync::Arc};

use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

use crate::{
    scene::EXE,
    support::{
        DEADLINE,
        client::Client,
        server::{Builder, Server},
        workspace::Workspace,
    },
};

mod damage;
mod faults;
mod kill_loop;
mod listing;
mod paging;
mod restarting;

/// A server on these directories whose agent behaves, and enters each prompt that it gets in the ledger.
fn on(place: &Arc<Workspace>) -> Builder {
    on_with(place, "proper")
}

/// The same with another mode of the agent.
fn on_with(place: &Arc<Workspace>, agent: &str) -> Builder {
    let ledger = ledger_file(place).display().to_string();
    Server::builder(EXE).workspace(place).bad_agent(&[agent]).env("BAD_AGENT_LEDGER", ledger)
}

fn place() -> Arc<Workspace> {
    Arc::new(Workspace::new())
}

fn ledger_file(place: &Workspace) -> PathBuf {
    place.root().join("ledger")
}

/// The prompts that agents have got here.
fn ledger(place: &Workspace) -> Vec<String> {
    let text = std::fs::read_to_string(ledger_file(place)).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect()
}

/// Ends the server as a power cut would.
fn kill(server: Server) {
    assert!(server.signal(libc::SIGKILL));
    server.wait_exit(DEADLINE);
}

/// Ends the server as Ctrl-C does.
fn stop(server: Server) {
    assert_eq!(server.stop().code(), Some(0), "{}", server.stderr_text());
}

/// Both ways to end a server; `true`: it has told its clients, and has stored what they know.
const ENDS: [(fn(Server), bool); 2] = [(stop, true), (kill, false)];

const MODES: [&str; 2] = ["isolated", "shared"];

/// Runs `test` in both modes, with both ends: it gets the mode's flag, how to end the server, and whether that is clean.
fn in_all_ways(test: impl Fn(&str, fn(Server), bool)) {
    for mode in MODES {
        for (end, clean) in ENDS {
            test(&format!("--mode={mode}"), end, clean);
        }
    }
}

/// A client with these fields of `auth`, and its session.
fn client(server: &Server, auth: Value) -> (Client, String) {
    let client = server.connect(auth);
    let session = client.session_id();
    (client, session)
}

/// Asks under that name; the acknowledgement.
fn ask_as(client: &Client, session: &str, prompt_id: &str, prompt: &str) -> Value {
    client.emit_with_ack("askClaudeCode", json!({"sessionId": session, "prompt": prompt, "promptId": prompt_id}))
}

/// Asks under that name and waits for the answer, and until all of it is on the disk.
fn answered(client: &Client, session: &str, prompt_id: &str, prompt: &str) -> Value {
    assert_eq!(ask_as(client, session, prompt_id, prompt)["ok"], true);
    let response = client.wait_response(prompt_id);
    on_the_disk(client, session, prompt_id, prompt);
    response
}

/// Waits until all that has happened in a session up to now is on the disk. Its process has said its last word, and what
/// is asked again is looked up behind everything that waits to be written.
fn on_the_disk(client: &Client, session: &str, prompt_id: &str, prompt: &str) {
    crate::support::processes::eventually("the agent is idle", DEADLINE, || {
        client.must("getSession", json!({"sessionId": session}))["session"]["state"] == "idle"
    });
    assert_eq!(ask_as(client, session, prompt_id, prompt)["ok"], true);
}

/// Everything that a session's history has, page by page, whose numbers have no hole and no repeat.
fn history(client: &Client, session: &str) -> Vec<Value> {
    let mut items: Vec<Value> = Vec::new();
    loop {
        let page = client.must("getHistory", json!({"sessionId": session, "afterSeq": items.len()}));
        items.extend(page["events"].as_array().expect("a list").iter().cloned());
        let numbers = items.iter().map(|item| item["seq"].as_u64().expect("a number"));
        assert!(numbers.eq(1..=items.len() as u64), "{session}: {:?}", seqs(&items));
        if page["more"] == false {
            return items;
        }
    }
}

fn seqs(items: &[Value]) -> Vec<u64> {
    items.iter().filter_map(|item| item["seq"].as_u64()).collect()
}

/// The names of the sessions on a page of the list.
fn ids(ack: &Value) -> Vec<String> {
    let sessions = ack["sessions"].as_array().expect("a list");
    sessions.iter().map(|session| session["sessionId"].as_str().expect("an id").to_owned()).collect()
}

fn summary(client: &Client, session: &str) -> Value {
    client.must("getSession", json!({"sessionId": session}))["session"].clone()
}

fn database_file(place: &Workspace) -> PathBuf {
    place.data().join("sessions.db")
}

/// The database, to be looked at while a server has it.
fn database(place: &Workspace) -> Connection {
    Connection::open_with_flags(database_file(place), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the database")
}

/// The last number of a session that was stored under a numbering or an earlier one.
fn stored_up_to(place: &Workspace, session: &str, log_id: &str) -> u64 {
    let sql = "SELECT ifnull(max(events.key), sessions.key << 32) - (sessions.key << 32) FROM sessions
               LEFT JOIN events ON events.key >> 32 = sessions.key
               AND events.log <= (SELECT ordinal FROM logs WHERE logs.id = ?2) WHERE sessions.id = ?1";
    database(place).query_row(sql, [session, log_id], |row| row.get(0)).expect("the session")
}
