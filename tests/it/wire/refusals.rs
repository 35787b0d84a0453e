//! What every event of a client is refused for.

use std::{fs, os::unix::fs::symlink};

use serde_json::{Value, json};

use super::{builder, client, health, keys, server, text_client};
use crate::support::{
    DEADLINE,
    client::{Client, nothing_for},
    processes::eventually,
    server::Server,
};

/// Each by a client of its own: one connection may not send so many events at once.
fn check(server: &Server, cases: Vec<(&str, Value, &str, Option<&str>)>) {
    for (event, data, code, field) in cases {
        let client = server.connect(json!({}));
        let error = client.must_fail(event, data.clone());
        let mut shown = data.to_string();
        shown.truncate(200);
        assert_eq!((error["code"].as_str(), error["field"].as_str()), (Some(code), field), "{event} {shown}: {error}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{event}: {error}");
        client.must("listSessions", json!({}));
    }
}

const BAD: &str = "bad_request";

#[test]
fn sessions_are_named_rightly() {
    let server = server();
    let mut cases = Vec::new();
    for (event, more) in [
        ("askClaudeCode", json!({"prompt": "p"})),
        ("resumeSession", json!({})),
        ("getSession", json!({})),
        ("getHistory", json!({})),
        ("interruptClaude", json!({})),
        ("cancelPrompt", json!({"promptId": "p"})),
        ("answerPermission", json!({"requestId": "r", "behavior": "allow"})),
        ("closeSession", json!({})),
    ] {
        let with = |id: Value| {
            let mut data = more.clone();
            data["sessionId"] = id;
            data
        };
        cases.push((event, more.clone(), BAD, Some("sessionId")));
        cases.push((event, with(Value::Null), BAD, Some("sessionId")));
        cases.push((event, with(json!(7)), BAD, Some("sessionId")));
        cases.push((event, with(json!({"id": "x"})), BAD, Some("sessionId")));
        cases.push((event, with(json!("")), "invalid_session", None));
        cases.push((event, with(json!("session_1_aaaaaaaaa")), "invalid_session", None));
        cases.push((event, with(json!("global-session")), "invalid_session", None));
        cases.push((event, json!([1]), BAD, Some("data")));
        cases.push((event, json!("text"), BAD, Some("data")));
    }
    check(&server, cases);
    eventually("the reserved sessions gone", DEADLINE, || health(&server)["sessions"] == 0);
}

#[test]
fn fields_are_checked_and_named() {
    let server = server();
    let (owner, session) = text_client(&server);
    owner.ask_and_wait(&session, "first");
    let with = |fields: Value| {
        let mut data = json!({"sessionId": session});
        for (name, value) in fields.as_object().expect("an object") {
            data[name] = value.clone();
        }
        data
    };
    let mut cases = Vec::new();
    let mut bad = |event: &'static str, field: &'static str, fields: Value| {
        cases.push((event, with(fields), BAD, Some(field)));
    };
    bad("askClaudeCode", "prompt", json!({}));
    for prompt in [json!(7), json!(null), json!(["p"]), json!({"text": "p"}), json!(""), json!(" \n\t"), json!("a\0b")]
    {
        bad("askClaudeCode", "prompt", json!({"prompt": prompt}));
    }
    for id in [json!(7), json!(""), json!("x".repeat(201))] {
        bad("askClaudeCode", "promptId", json!({"prompt": "p", "promptId": id}));
    }
    for context in [json!([]), json!("x"), json!(7)] {
        bad("askClaudeCode", "context", json!({"prompt": "p", "context": context}));
    }
    let context = |context: Value| json!({"prompt": "p", "context": context});
    bad("askClaudeCode", "context.documentContent", context(json!({"documentContent": 7})));
    bad("askClaudeCode", "context.selectedText.text", context(json!({"selectedText": "s"})));
    bad("askClaudeCode", "context.selectedText.text", context(json!({"selectedText": {"text": 7}})));
    bad("askClaudeCode", "context.selectedText.start", context(json!({"selectedText": {"text": "s", "start": "1"}})));
    bad("askClaudeCode", "context.selectedText.end", context(json!({"selectedText": {"text": "s", "end": -1}})));
    for seq in [json!(-1), json!("x"), json!(1.5), json!(1e30), json!(1_000_000)] {
        bad("resumeSession", "afterSeq", json!({"afterSeq": seq}));
        bad("getHistory", "afterSeq", json!({"afterSeq": seq}));
    }
    bad("resumeSession", "logId", json!({"logId": 7}));
    bad("resumeSession", "leaveOthers", json!({"leaveOthers": "yes"}));
    bad("getHistory", "beforeSeq", json!({"beforeSeq": -1}));
    bad("getHistory", "beforeSeq", json!({"beforeSeq": 2, "afterSeq": 1}));
    bad("getHistory", "limit", json!({"limit": "all"}));
    bad("getHistory", "limit", json!({"limit": -1}));
    bad("listSessions", "query", json!({"query": 7}));
    bad("listSessions", "limit", json!({"limit": "x"}));
    for cursor in [json!(7), json!(""), json!("nonsense"), json!("x:y"), json!("-1:a")] {
        bad("listSessions", "cursor", json!({"cursor": cursor}));
    }
    bad("interruptClaude", "promptId", json!({"promptId": 7}));
    bad("interruptClaude", "clearQueue", json!({"clearQueue": 1}));
    bad("cancelPrompt", "promptId", json!({}));
    bad("cancelPrompt", "promptId", json!({"promptId": 7}));
    bad("cancelPrompt", "promptId", json!({"promptId": "never heard of"}));
    bad("answerPermission", "requestId", json!({"behavior": "allow"}));
    bad("answerPermission", "requestId", json!({"requestId": 7, "behavior": "allow"}));
    bad("answerPermission", "behavior", json!({"requestId": "r"}));
    bad("answerPermission", "behavior", json!({"requestId": "r", "behavior": "maybe"}));
    let allow = |field: &str, value: Value| json!({"requestId": "r", "behavior": "allow", field: value});
    bad("answerPermission", "updatedInput", allow("updatedInput", json!("x")));
    bad("answerPermission", "updatedPermissions", allow("updatedPermissions", json!({})));
    let deny = |field: &str, value: Value| json!({"requestId": "r", "behavior": "deny", field: value});
    bad("answerPermission", "message", deny("message", json!(7)));
    bad("answerPermission", "interrupt", deny("interrupt", json!("no")));
    for field in ["cwd", "model", "permissionMode", "effort", "title"] {
        bad("createSession", field, json!({field: 7}));
    }
    check(&server, cases);
}

#[test]
fn a_session_s_options_come_from_a_list() {
    let server = server();
    let forbidden = "forbidden_option";
    let mut cases = vec![
        ("createSession", json!({"permissionMode": "bypassPermissions"}), forbidden, Some("permissionMode")),
        ("createSession", json!({"permissionMode": "yolo"}), forbidden, Some("permissionMode")),
        ("createSession", json!({"permissionMode": ""}), forbidden, Some("permissionMode")),
    ];
    for text in ["", "--model", "-p", "a\nb", "\u{1b}[2J", "\u{0}"] {
        cases.push(("createSession", json!({"model": text}), forbidden, Some("model")));
        cases.push(("createSession", json!({"effort": text}), forbidden, Some("effort")));
    }
    for text in ["High", "a b", "7"] {
        cases.push(("createSession", json!({"effort": text}), forbidden, Some("effort")));
    }
    check(&server, cases);
    let client = server.connect(json!({}));
    let wish = json!({"model": "opus", "permissionMode": "plan", "effort": "high", "title": " a\n title "});
    let session = client.must("createSession", wish)["session"].clone();
    for (field, value) in [("model", "opus"), ("permissionMode", "plan"), ("effort", "high"), ("title", "a title")] {
        assert_eq!(session[field], value, "{session}");
    }
    let id = session["sessionId"].as_str().expect("an id");
    let args = client.ask_and_wait(id, "args")["fullResponse"].to_string();
    for arg in ["--model=opus", "--permission-mode=plan", "--effort=high"] {
        assert!(args.contains(arg), "{arg}: {args}");
    }
    let server = builder().arg("--allow-bypass-permissions").start();
    let wish = json!({"permissionMode": "bypassPermissions"});
    assert_eq!(server.connect(json!({})).must("createSession", wish)["session"]["permissionMode"], "bypassPermissions");
}

#[test]
fn directories_stay_under_the_allowed_roots() {
    let server = server();
    let (root, work) = (server.workspace().root().to_owned(), server.workspace().work());
    fs::create_dir_all(work.join("in/sub")).expect("directories");
    fs::create_dir(root.join("work-sibling")).expect("a directory");
    fs::create_dir(root.join("outside")).expect("a directory");
    fs::write(work.join("file"), "").expect("a file");
    symlink(root.join("outside"), work.join("out")).expect("a link");
    symlink(work.join("in"), work.join("link")).expect("a link");
    symlink("loop", work.join("loop")).expect("a link");
    let (client, own) = text_client(&server);
    client.ask_and_wait(&own, "a process, so that there is something to compare");
    let before: Vec<i32> = server.started().iter().map(|process| process.pid).collect();
    let at = |path: &str| work.join(path).display().to_string();
    let beyond = [
        "/".to_owned(),
        "/etc".to_owned(),
        String::new(),
        ".".to_owned(),
        "in".to_owned(),
        at(".."),
        at("in/../../outside"),
        at("../work-sibling"),
        format!("{}-sibling", work.display()),
        at("out"),
        at("out/."),
        at("loop"),
        at("file"),
        at("file/x"),
        at("missing"),
        at("missing/../in"),
        format!("{}\0", at("in")),
        at(&"x".repeat(5000)),
        at(&"./".repeat(2500)),
        "~".to_owned(),
        format!("file://{}", at("in")),
    ];
    for path in beyond {
        let error = client.must_fail("createSession", json!({"cwd": path}));
        // One text for all, so that nobody learns what there is elsewhere.
        let message = "cwd is not a directory under an allowed root";
        assert_eq!(error, json!({"code": "bad_cwd", "message": message}), "{}", &path[..path.len().min(80)]);
    }
    let after: Vec<i32> = server.started().iter().map(|process| process.pid).collect();
    assert_eq!(before, after, "no process was started");
    let (client, _) = text_client(&server);
    for (path, real) in [("in", "in"), ("in/../in/sub", "in/sub"), ("link", "in"), ("link/sub/", "in/sub"), ("", "")] {
        let session = client.must("createSession", json!({"cwd": at(path)}))["session"].clone();
        let real = at(real).trim_end_matches('/').to_owned();
        assert_eq!(session["cwd"], *real, "{path}");
        let id = session["sessionId"].as_str().expect("an id");
        assert_eq!(client.ask_and_wait(id, "cwd")["fullResponse"], *real, "{path}");
    }
}

#[test]
fn several_roots_may_be_allowed() {
    // The directories are made by a first start.
    let server = server();
    let workspace = server.workspace().clone();
    server.stop();
    let (one, two) = (workspace.root().join("one"), workspace.root().join("two"));
    fs::create_dir_all(one.join("a")).expect("a directory");
    fs::create_dir(&two).expect("a directory");
    let root = |path: &std::path::Path| format!("--allow-root={}", path.display());
    let server = builder().workspace(&workspace).args([root(&one), root(&two), root(&workspace.work())]).start();
    let client = server.connect(json!({}));
    for path in [one.clone(), one.join("a"), two, workspace.work()] {
        client.must("createSession", json!({"cwd": path}));
    }
    for path in [workspace.root().to_owned(), workspace.tmp()] {
        assert_eq!(client.must_fail("createSession", json!({"cwd": path}))["code"], "bad_cwd");
    }
}

#[test]
fn an_unknown_session_is_said_in_the_plain_events_too() {
    let server = server();
    let ask = json!({"sessionId": "session_1_aaaaaaaaa", "prompt": "p"});
    let (text, _) = text_client(&server);
    assert_eq!(text.must_fail("askClaudeCode", ask.clone())["code"], "invalid_session");
    let expected = json!({"sessionId": "session_1_aaaaaaaaa", "error": "Invalid session ID", "done": true});
    assert_eq!(text.events_named("claudeResponse"), [expected]);
    let (events, _) = client(&server, json!({"stream": "events"}));
    assert_eq!(events.must_fail("askClaudeCode", ask)["code"], "invalid_session");
    assert!(events.events_named("claudeResponse").is_empty());
}

#[test]
fn unknown_and_unserved_events_have_an_answer() {
    let server = server();
    let cases: Vec<(&str, Value, &str, Option<&str>)> =
        ["unknown", "", "toString", "__proto__", "serverError", "ASKCLAUDECODE", "message", "ping"]
            .into_iter()
            .map(|event| (event, json!({}), "unknown_event", None))
            .collect();
    check(&server, cases);
}

#[test]
fn without_an_acknowledgement_an_error_is_an_event() {
    let server = server();
    let (client, session) = text_client(&server);
    for (event, data, code) in [
        ("nothing", json!({}), "unknown_event"),
        ("askClaudeCode", json!({"sessionId": session}), BAD),
        ("getSession", json!({"sessionId": "x"}), "invalid_session"),
        ("createSession", json!({"cwd": "/"}), "bad_cwd"),
        ("setModel", json!({}), BAD),
    ] {
        client.emit(event, data);
        let error = client.wait_event("serverError", |error| error["event"] == event);
        assert_eq!(keys(&error), ["code", "event", "message"]);
        assert_eq!(error["code"], code, "{error}");
    }
    // What succeeds needs no answer.
    client.emit("getSession", json!({"sessionId": session}));
    client.must("listSessions", json!({}));
    assert_eq!(client.events_named("serverError").len(), 5);
}

#[test]
fn there_are_only_so_many_sessions() {
    let server = builder().arg("--max-sessions=2").start();
    let (client, _) = text_client(&server);
    client.must("createSession", json!({}));
    assert_eq!(client.must_fail("createSession", json!({}))["code"], "too_many_sessions");
    let Err(refused) = Client::try_connect(server.port, json!({"token": server.token()})) else {
        panic!("a third session");
    };
    assert_eq!(refused["data"], json!({"code": "too_many_sessions"}));
    // Those that are there can be had.
    let listed = client.must("listSessions", json!({}));
    server.connect(json!({"sessionId": listed["sessions"][0]["sessionId"]}));
    drop(client);
    eventually("the reserved session gone", DEADLINE, || health(&server)["sessions"] == 1);
    server.connect(json!({}));
}

#[test]
fn a_flood_of_events_is_refused_and_forgiven() {
    const FLOOD: usize = 400;
    let server = server();
    let (client, other) = (server.connect(json!({})), server.connect(json!({})));
    let ids: Vec<u64> = (0..FLOOD).map(|_| client.start_emit("listSessions", json!({}))).collect();
    let acks: Vec<Value> = ids.into_iter().map(|id| client.wait_ack(id)).collect();
    let refused: Vec<_> = acks.iter().filter(|ack| ack["ok"] == false).collect();
    assert!(refused.len() <= FLOOD - 50, "50 may come at once: {} were refused", refused.len());
    assert!(!refused.is_empty(), "{FLOOD} went through");
    for ack in refused {
        assert_eq!((&ack["error"]["code"], keys(&ack["error"])), (&json!("rate_limited"), vec!["code", "message"]));
    }
    other.must("listSessions", json!({}));
    eventually("forgiven", DEADLINE, || client.emit_with_ack("listSessions", json!({}))["ok"] == true);
}

#[test]
fn a_session_that_is_deleted_unused_gives_its_place_back() {
    let server = builder().arg("--max-sessions=2").start();
    for _ in 0..5 {
        let client = server.connect(json!({}));
        client.must("deleteSession", json!({"sessionId": client.session_id()}));
        client.disconnect();
    }
    eventually("none is counted", DEADLINE, || health(&server)["sessions"] == 0);
}

/// Not so fast: at most 50 events in a second.
fn must_in_time(client: &Client, event: &str, data: &Value) -> Value {
    loop {
        let ack = client.emit_with_ack(event, data.clone());
        match ack["error"]["message"].as_str() {
            Some(message) if message.contains("in a second") => {
                drop(nothing_for(client, std::time::Duration::from_millis(20)));
            }
            None => return ack,
            Some(message) => panic!("{event}: {message}"),
        }
    }
}

#[test]
fn deleted_sessions_are_not_watched_any_more() {
    let server = server();
    let (client, other) = (server.connect(json!({})), server.connect(json!({})));
    for _ in 0..110 {
        let made = must_in_time(&client, "createSession", &json!({}));
        // By another one, so that each has half of what it may send.
        must_in_time(&other, "deleteSession", &json!({"sessionId": made["session"]["sessionId"]}));
    }
}

#[test]
fn a_connection_watches_a_bounded_number_of_sessions() {
    let server = server();
    let client = server.connect(json!({}));
    let mut created = 1;
    let refused = loop {
        let ack = client.emit_with_ack("createSession", json!({}));
        match ack["error"]["message"].as_str() {
            None => created += 1,
            Some(message) if message.contains("leaveOthers") => break ack,
            // Not so fast: at most 50 events in a second.
            Some(_) => drop(nothing_for(&client, std::time::Duration::from_millis(20))),
        }
    };
    assert_eq!((created, &refused["error"]["code"]), (100, &json!("rate_limited")));
    eventually("left", DEADLINE, || {
        let first = client.session_id();
        client.emit_with_ack("resumeSession", json!({"sessionId": first, "leaveOthers": true}))["ok"] == true
    });
    eventually("room again", DEADLINE, || client.emit_with_ack("createSession", json!({}))["ok"] == true);
}
