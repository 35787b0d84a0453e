//! Sessions come, stay, are closed, and are had by others.

use serde_json::{Value, json};

use super::{client, go_file, health, server, settle, text_client, viewer};
use crate::support::{DEADLINE, client::Client, processes, processes::eventually, server::Server};

fn wait_sessions(server: &Server, count: u64) {
    eventually(&format!("{count} sessions"), DEADLINE, || health(server)["sessions"] == count);
}

fn listed(client: &Client) -> Vec<String> {
    let sessions = client.must("listSessions", json!({}))["sessions"].clone();
    let ids = sessions.as_array().expect("a list").iter();
    ids.map(|session| session["sessionId"].as_str().expect("an id").to_owned()).collect()
}

#[test]
fn a_reserved_session_is_gone_with_its_last_viewer() {
    let server = server();
    let (first, session) = text_client(&server);
    let second = viewer(&server, &session, "events");
    assert_eq!(second.must("listSessions", json!({}))["sessions"], json!([]), "nobody has used it");
    assert!(server.started().iter().all(|process| !process.cmdline[0].ends_with("bad_agent")), "nor started anything");
    drop(first);
    eventually("one viewer", DEADLINE, || {
        second.must("getSession", json!({"sessionId": session}))["session"]["viewers"] == 1
    });
    drop(second);
    wait_sessions(&server, 0);
    let back = server.connect(json!({"sessionId": session})).registered();
    assert_eq!((&back["resumed"], &back["requested"]), (&json!(false), &json!(session)));
    assert_ne!(back["sessionId"], *session);
}

#[test]
fn every_way_to_leave_is_leaving() {
    let server = server();
    for how in ["kill", "close", "disconnect", "engine"] {
        let (client, _) = text_client(&server);
        wait_sessions(&server, 1);
        match how {
            "kill" => client.kill(),
            "close" => client.close(),
            "disconnect" => client.disconnect(),
            _ => client.send_raw("1"),
        }
        wait_sessions(&server, 0);
    }
}

#[test]
fn a_used_session_stays_and_is_resumed_by_another() {
    let server = server();
    let (first, session) = text_client(&server);
    let pid = first.ask_and_wait(&session, "pid")["fullResponse"].clone();
    drop(first);
    eventually("nobody connected", DEADLINE, || health(&server)["connections"] == 0);
    let (second, own) = text_client(&server);
    assert_eq!(listed(&second), std::slice::from_ref(&session));
    let ack = second.must("resumeSession", json!({"sessionId": session}));
    assert_eq!((&ack["session"]["title"], &ack["session"]["viewers"]), (&json!("pid"), &json!(1)));
    let names: Vec<&str> =
        ack["events"].as_array().expect("a list").iter().filter_map(|item| item["name"].as_str()).collect();
    assert_eq!(names[0], "prompt");
    assert!(names.contains(&"claudeEvent"), "{names:?}");
    assert_eq!(second.ask_and_wait(&session, "pid")["fullResponse"], pid, "the same process");
    let third = server.connect(json!({"sessionId": session}));
    assert_eq!(third.registered()["resumed"], true);
    assert_eq!(third.ask_and_wait(&session, "history")["fullResponse"], r#"["pid","pid"]"#);
    settle(&second, &own);
    assert_eq!(second.events_named("claudeResponse").len(), 2, "it watches what the third asks");
}

#[test]
fn an_answer_goes_on_while_nobody_watches() {
    let server = server();
    let (first, session) = text_client(&server);
    let file = go_file(&server);
    let prompt = first.ask(&session, &format!("wait {}", file.display()));
    first.wait_chunk(&prompt);
    drop(first);
    eventually("nobody connected", DEADLINE, || health(&server)["connections"] == 0);
    super::go(&file);
    let (second, _) = client(&server, json!({}));
    eventually("the answer stored", DEADLINE, || {
        let history = second.must("getHistory", json!({"sessionId": session, "limit": 30}));
        history["events"]
            .as_array()
            .is_some_and(|items| items.iter().any(|item| item["data"]["event"]["result"] == "waiting no more"))
    });
}

#[test]
fn a_created_session_stays_listed() {
    let server = server();
    let (client, reserved) = text_client(&server);
    let created = client.must("createSession", json!({"title": "mine"}))["session"].clone();
    assert_eq!((&created["viewers"], &created["state"]), (&json!(1), &json!("stopped")));
    let id = created["sessionId"].as_str().expect("an id").to_owned();
    assert_ne!(id, reserved);
    client.ask_and_wait(&id, "words 2");
    assert_eq!(client.must("getSession", json!({"sessionId": id}))["session"]["title"], "mine");
    let other = client.must("createSession", json!({}))["session"]["sessionId"].clone();
    drop(client);
    wait_sessions(&server, 2);
    let again = server.connect(json!({}));
    assert_eq!(again.must("resumeSession", json!({"sessionId": other}))["events"], json!([]));
    assert_eq!(listed(&again).len(), 2);
}

#[test]
fn a_closed_session_is_listed_and_can_be_opened_again() {
    let server = server();
    let (client, session) = text_client(&server);
    let other = viewer(&server, &session, "text");
    let before = client.ask_and_wait(&session, "pid")["fullResponse"].as_str().expect("a number").to_owned();
    let with = |fields: Value| {
        let mut data = fields;
        data["sessionId"] = json!(session);
        data
    };
    let closed = client.must("closeSession", with(json!({})))["session"].clone();
    assert_eq!(closed["state"], "stopped");
    let pid: i32 = before.parse().expect("a number");
    assert!(processes::get(pid).is_none_or(|process| process.is_zombie()), "answered when it is gone");
    other.wait_event("sessionUpdated", |data| data["state"] == "stopped" && data["turns"] == 1);
    for client in [&client, &other, &server.connect(json!({"sessionId": session}))] {
        let refused = client.must_fail("askClaudeCode", with(json!({"prompt": "p"})));
        assert_eq!(refused["code"], "session_ended");
    }
    assert_eq!(listed(&other), std::slice::from_ref(&session));
    assert_eq!(client.must("closeSession", with(json!({})))["session"]["state"], "stopped", "twice is no failure");
    client.must("getHistory", with(json!({})));
    let ack = other.must("resumeSession", with(json!({})));
    assert_eq!(ack["ok"], true);
    let answer = client.ask_and_wait(&session, "history")["fullResponse"].clone();
    assert_eq!(answer, r#"["pid"]"#, "the same conversation");
    let after = client.ask_and_wait(&session, "pid")["fullResponse"].clone();
    assert_ne!(after, json!(before));
}

#[test]
fn closing_ends_what_runs_and_what_waits() {
    let server = server();
    let (client, session) = text_client(&server);
    let running = client.ask(&session, &format!("wait {}", go_file(&server).display()));
    client.wait_chunk(&running);
    let queued = client.ask(&session, "words 1");
    client.must("closeSession", json!({"sessionId": session}));
    for prompt in [running, queued] {
        assert_eq!(client.wait_response(&prompt)["status"], "interrupted");
    }
    settle(&client, &session);
    assert_eq!(client.events_named("claudeResponse").len(), 2);
}

/// A page that is loaded again: its old connection ends while the new one asks for the same session.
#[test]
fn a_session_is_kept_or_not_found_for_one_who_comes_as_the_last_leaves() {
    let server = server();
    for _ in 0..400 {
        let (first, session) = text_client(&server);
        let second = Client::open(server.port, &[]).expect("the upgrade");
        first.kill();
        second.send_raw(&format!("40{}", json!({"sessionId": session, "token": server.token()})));
        let registered = second.registered();
        drop(first);
        let id = registered["sessionId"].as_str().expect("an id");
        assert_eq!(registered["resumed"], id == session);
        second.must("getSession", json!({"sessionId": id}));
    }
    wait_sessions(&server, 0);
}
