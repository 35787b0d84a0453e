//! Both modes behind the one interface: the same expectations, and what differs in a table.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    client::Client,
    processes::{self, Process, eventually},
    server::Server,
};

/// What a mode is expected to do.
struct Mode {
    name: &'static str,
    /// All clients have one session and one process.
    one_for_all: bool,
}

const MODES: [Mode; 2] = [Mode { name: "shared", one_for_all: true }, Mode { name: "isolated", one_for_all: false }];

const GLOBAL: &str = "global-session";

fn start(mode: &Mode) -> Server {
    let server = Server::builder(env!("CARGO_BIN_EXE_claude-session-manager"));
    server.bad_agent(&["proper"]).arg(format!("--mode={}", mode.name)).start()
}

/// Runs `test` in each mode.
fn check(test: impl Fn(&Mode, &Server)) {
    for mode in MODES {
        test(&mode, &start(&mode));
    }
}

/// The processes of the agent that run.
fn agents(server: &Server) -> Vec<Process> {
    let is_agent = |process: &Process| process.cmdline.first().is_some_and(|exe| exe.ends_with("bad_agent"));
    server.started().into_iter().filter(is_agent).collect()
}

fn client(server: &Server) -> (Client, String) {
    let client = server.connect(json!({}));
    let session = client.session_id();
    (client, session)
}

fn pid(client: &Client, session: &str) -> String {
    client.ask_and_wait(session, "pid")["fullResponse"].as_str().expect("a number").to_owned()
}

fn is_generated_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split('_').collect();
    let random = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match parts[..] {
        ["session", ms, rest] => {
            ms.len() == 13 && ms.parse::<u64>().is_ok() && rest.len() == 9 && rest.bytes().all(random)
        }
        _ => false,
    }
}

#[test]
fn who_gets_which_session_and_process() {
    check(|mode, server| {
        let clients: Vec<(Client, String)> = (0..3).map(|_| client(server)).collect();
        let ids: HashSet<&str> = clients.iter().map(|(_, session)| session.as_str()).collect();
        let pids: HashSet<String> = clients.iter().map(|(client, session)| pid(client, session)).collect();
        let expected = if mode.one_for_all { 1 } else { 3 };
        assert_eq!((ids.len(), pids.len()), (expected, expected), "{}: {ids:?} {pids:?}", mode.name);
        let running: HashSet<String> = agents(server).iter().map(|process| process.pid.to_string()).collect();
        assert_eq!(running, pids, "{}", mode.name);
        for id in ids {
            assert!(if mode.one_for_all { id == GLOBAL } else { is_generated_id(id) }, "{}: {id}", mode.name);
        }
        for (client, _) in &clients {
            let registered = client.registered();
            assert_eq!((&registered["mode"], &registered["resumed"]), (&json!(mode.name), &json!(false)));
            assert_eq!(registered["session"]["mode"], mode.name);
        }
        let listed = clients[0].0.must("listSessions", json!({}))["sessions"].as_array().map(Vec::len);
        assert_eq!(listed, Some(expected), "{}", mode.name);
    });
}

#[test]
fn when_the_process_starts() {
    check(|mode, server| {
        if mode.one_for_all {
            eventually("the process of the one session", DEADLINE, || agents(server).len() == 1);
        }
        let before: Vec<i32> = agents(server).iter().map(|process| process.pid).collect();
        let (client, session) = client(server);
        client.must("getSession", json!({"sessionId": session}));
        let now: Vec<i32> = agents(server).iter().map(|process| process.pid).collect();
        assert_eq!((now.len(), &now), (usize::from(mode.one_for_all), &before), "{}: by connecting", mode.name);
        let answered = pid(&client, &session);
        if mode.one_for_all {
            assert_eq!(answered, before[0].to_string(), "the one from the start");
        }
    });
}

#[test]
fn a_process_outlives_its_clients() {
    check(|mode, server| {
        let (first, session) = client(server);
        let before = pid(&first, &session);
        drop(first);
        eventually("nobody connected", DEADLINE, || server.http("GET", "/health", &[]).json()["connections"] == 0);
        let second = server.connect(json!({"sessionId": session}));
        assert_eq!(second.registered()["resumed"], true, "{}", mode.name);
        assert_eq!(pid(&second, &session), before, "{}", mode.name);
        assert!(processes::get(before.parse().expect("a number")).is_some_and(|process| process.is_alive()));
    });
}

#[test]
fn several_clients_on_one_session_see_the_same() {
    check(|mode, server| {
        let (first, session) = client(server);
        let second = server.connect(json!({"sessionId": session}));
        let events = server.connect(json!({"sessionId": session, "stream": "events"}));
        assert_eq!(pid(&first, &session), pid(&second, &session), "{}", mode.name);
        let prompt = second.ask(&session, "words 20");
        let response = first.wait_response(&prompt);
        assert_eq!(second.wait_response(&prompt), response);
        let result = events.wait_event("claudeEvent", |data| data["event"]["result"] == response["fullResponse"]);
        assert_eq!(result["sessionId"], *session);
        assert_eq!(first.chunks(&prompt), second.chunks(&prompt));
        let viewers = |count: u64| {
            eventually("the viewers counted", DEADLINE, || {
                first.must("getSession", json!({"sessionId": session}))["session"]["viewers"] == count
            });
        };
        viewers(3);
        drop(events);
        viewers(2);
    });
}

#[test]
fn what_may_be_done_with_sessions() {
    check(|mode, server| {
        let (client, session) = client(server);
        let before = pid(&client, &session);
        let code = |event: &str, data: Value| {
            let ack = client.emit_with_ack(event, data);
            if ack["ok"] == true { "ok".to_owned() } else { ack["error"]["code"].as_str().expect("a code").to_owned() }
        };
        let created = client.must("createSession", json!({"title": "another"}))["session"]["sessionId"].clone();
        assert_eq!(created == *session, mode.one_for_all, "{}", mode.name);
        let unknown = json!({"sessionId": "unknown"});
        let (shared, isolated) = match mode.one_for_all {
            true => ("not_in_shared_mode", "ok"),
            false => ("ok", "invalid_session"),
        };
        assert_eq!(code("resumeSession", unknown.clone()), isolated, "{}", mode.name);
        assert_eq!(code("getSession", unknown.clone()), isolated, "{}", mode.name);
        let close_unknown = if mode.one_for_all { shared } else { isolated };
        assert_eq!(code("closeSession", unknown), close_unknown, "{}", mode.name);
        assert_eq!(code("closeSession", json!({"sessionId": session})), shared, "{}", mode.name);
        if mode.one_for_all {
            assert_eq!(pid(&client, &session), before, "the process goes on");
        } else {
            assert_eq!(code("askClaudeCode", json!({"sessionId": session, "prompt": "p"})), "session_ended");
            processes::wait_gone(before.parse().expect("a number"));
        }
    });
}

#[test]
fn a_wish_for_a_session_that_is_not_there() {
    check(|mode, server| {
        let registered = server.connect(json!({"sessionId": "session_1_aaaaaaaaa"})).registered();
        assert_eq!(registered["resumed"], false, "{}", mode.name);
        assert_eq!(registered["requested"], "session_1_aaaaaaaaa", "{}", mode.name);
        assert_eq!(registered["sessionId"] == GLOBAL, mode.one_for_all, "{}", mode.name);
        let global = server.connect(json!({"sessionId": GLOBAL})).registered();
        assert_eq!(global["resumed"], mode.one_for_all, "{}", mode.name);
        assert_eq!(global["requested"].is_null(), mode.one_for_all, "{}", mode.name);
    });
}

#[test]
fn prompts_of_different_clients() {
    check(|mode, server| {
        let file = server.workspace().root().join("go");
        let ((one, first), (two, second)) = (client(server), client(server));
        let waiting = one.ask(&first, &format!("wait {}", file.display()));
        one.wait_chunk(&waiting);
        let ack = two.must("askClaudeCode", json!({"sessionId": second, "prompt": "words 2"}));
        let prompt = ack["promptId"].as_str().expect("an id");
        // Behind the other's in the one session; beside it in another.
        assert_eq!(ack["position"], u64::from(mode.one_for_all), "{}", mode.name);
        if !mode.one_for_all {
            assert_eq!(two.wait_response(prompt)["fullResponse"], "w1 w2");
        }
        std::fs::write(&file, "").expect("the file made");
        assert_eq!(one.wait_response(&waiting)["fullResponse"], "waiting no more");
        assert_eq!(two.wait_response(prompt)["fullResponse"], "w1 w2");
        assert_eq!(two.events_named("prompt").len(), if mode.one_for_all { 2 } else { 1 }, "{}", mode.name);
    });
}

#[test]
fn nothing_is_left_when_the_server_stops() {
    check(|mode, server| {
        let (client, session) = client(server);
        pid(&client, &session);
        assert_eq!(server.stop().code(), Some(0), "{}", mode.name);
        assert_eq!(client.wait_closed(), Some(1001), "{}", mode.name);
        server.workspace().wait_no_processes();
    });
}

#[test]
fn the_demo_agent_serves_both_modes() {
    for mode in MODES {
        let server = Server::builder(env!("CARGO_BIN_EXE_claude-session-manager"));
        let server = server.demo().arg(format!("--mode={}", mode.name)).start();
        let (client, session) = client(&server);
        assert_eq!(client.registered()["session"]["agent"], "demo", "{}", mode.name);
        let response = client.ask_and_wait(&session, "hello");
        assert_eq!(response["status"], "done");
        let prompt = response["promptId"].as_str().expect("an id");
        assert_eq!(response["fullResponse"], client.chunks(prompt).concat());
        assert!(client.chunks(prompt).len() > 1, "word by word");
        let asked = client.ask(&session, "please /ask");
        let question = client.wait_event("permissionRequest", |_| true);
        let answer = json!({"sessionId": session, "requestId": question["requestId"], "behavior": "allow"});
        client.must("answerPermission", answer);
        assert_eq!(client.wait_response(&asked)["status"], "done");
        assert!(server.stderr_text().contains("DEMO AGENT"));
    }
}
