//! Every event and acknowledgement has exactly the fields of the contract.

use serde_json::{Value, json};

use super::{builder, client, go, go_file, keys, server, text_client, viewer};
use crate::support::client::Client;

const SESSION: [&str; 26] = [
    "agent",
    "agentVersion",
    "contextTokens",
    "contextWindow",
    "costUsd",
    "createdAt",
    "cwd",
    "effort",
    "lastActivity",
    "lastWords",
    "mode",
    "model",
    "openQuestions",
    "permissionMode",
    "queue",
    "rateLimit",
    "running",
    "sessionId",
    "source",
    "state",
    "tasks",
    "title",
    "todos",
    "turns",
    "usage",
    "viewers",
];

fn check_session(session: &Value) {
    let mut expected = SESSION.to_vec();
    if session["state"] == "failed" {
        expected.insert(8, "failure");
        assert_eq!(keys(&session["failure"]), ["code", "message", "stderr"]);
    }
    assert_eq!(keys(session), expected);
    for prompt in session["queue"].as_array().expect("a queue") {
        assert_eq!(keys(prompt), ["promptId", "text"]);
    }
    let name = session["state"].as_str().expect("a state");
    assert!(["stopped", "starting", "idle", "busy", "waiting", "stopping", "failed"].contains(&name), "{name}");
}

fn fields(name: &str, data: &Value) -> Vec<&'static str> {
    match name {
        "sessionRegistered" => vec!["logId", "mode", "part", "resumed", "seq", "session", "sessionId"],
        "claudeStreamStart" if data["soFar"].is_string() => vec!["promptId", "sessionId", "soFar"],
        "claudeStreamStart" | "claudeStreamEnd" => vec!["promptId", "sessionId"],
        "claudeStreamChunk" => vec!["promptId", "sessionId", "text"],
        "claudeResponse" => match data["status"].as_str() {
            Some("done" | "interrupted") if data["usage"].is_object() => {
                vec!["costUsd", "done", "durationMs", "fullResponse", "promptId", "seq", "sessionId", "status", "usage"]
            }
            Some("failed") if data["usage"].is_null() => {
                vec!["done", "error", "fullResponse", "promptId", "seq", "sessionId", "status"]
            }
            Some("failed") => {
                let (front, back) = (["costUsd", "done", "durationMs", "error"], ["fullResponse", "promptId", "seq"]);
                [&front[..], &back, &["sessionId", "status", "usage"]].concat()
            }
            _ => vec!["done", "fullResponse", "promptId", "seq", "sessionId", "status"],
        },
        "claudeEvent" if data["event"]["type"] == "stream_event" => vec!["event", "part", "seq", "sessionId"],
        "claudeEvent" => vec!["event", "seq", "sessionId"],
        "prompt" => vec!["promptId", "seq", "sessionId", "text", "userMessageId"],
        "permissionRequest" => {
            vec![
                "description",
                "input",
                "reason",
                "request",
                "requestId",
                "seq",
                "sessionId",
                "suggestions",
                "toolName",
            ]
        }
        "permissionResolved" => vec!["behavior", "by", "requestId", "seq", "sessionId"],
        // While a prompt runs a notice names it, beyond the contract.
        "notice" if data["promptId"].is_string() => vec!["code", "level", "promptId", "seq", "sessionId", "text"],
        "notice" => vec!["code", "level", "seq", "sessionId", "text"],
        "serverShutdown" => vec!["reason"],
        _ => panic!("an event that the contract does not know: {name} {data}"),
    }
}

fn check_events(client: &Client, session: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for event in client.events() {
        assert_eq!(event.args.len(), 1, "{}", event.raw);
        match event.name.as_str() {
            "sessionUpdated" => check_session(&event.data),
            name => assert_eq!(keys(&event.data), fields(name, &event.data), "{}", event.raw),
        }
        if event.name != "serverShutdown" {
            assert_eq!(event.data["sessionId"], session, "{}", event.raw);
        }
        names.push(event.name);
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_event_has_its_fields() {
    let server = server();
    let (text, session) = text_client(&server);
    let events = viewer(&server, &session, "events");
    for prompt in ["words 3", "fail", "/local"] {
        text.ask_and_wait(&session, prompt);
    }
    let asked = text.ask(&session, "ask");
    let question = text.wait_event("permissionRequest", |_| true);
    let answer = json!({"sessionId": session, "requestId": question["requestId"], "behavior": "allow"});
    text.must("answerPermission", answer);
    text.wait_response(&asked);
    let (file, never) = (go_file(&server), go_file(&server));
    let waiting = text.ask(&session, &format!("wait {}", file.display()));
    text.wait_chunk(&waiting);
    let late = viewer(&server, &session, "text");
    late.wait_event("claudeStreamStart", |data| data["soFar"].is_string());
    go(&file);
    text.wait_response(&waiting);
    let stopped = text.ask(&session, &format!("wait {}", never.display()));
    text.wait_chunk(&stopped);
    text.must("interruptClaude", json!({"sessionId": session}));
    text.wait_response(&stopped);
    let crashed = text.ask(&session, "crash 5");
    assert_eq!(text.wait_response(&crashed)["status"], "failed");
    server.signal(libc::SIGINT);
    for client in [&text, &events, &late] {
        assert_eq!(client.wait_event("serverShutdown", |_| true), json!({"reason": "shutdown"}));
        assert_eq!(client.wait_closed(), Some(1001));
    }
    let common = ["notice", "permissionRequest", "permissionResolved", "prompt"];
    let plain = ["claudeResponse", "claudeStreamChunk", "claudeStreamEnd", "claudeStreamStart"];
    let about = ["serverShutdown", "sessionRegistered", "sessionUpdated"];
    assert_eq!(check_events(&text, &session), [&plain[..], &common, &about].concat());
    assert_eq!(check_events(&events, &session), [&["claudeEvent"][..], &common, &about].concat());
    check_events(&late, &session);
}

#[test]
fn the_values_of_an_answer() {
    let server = server();
    let (text, session) = text_client(&server);
    let prompt = text.ask(&session, "words 2");
    let response = text.wait_response(&prompt);
    assert!(response["durationMs"].is_u64(), "{response}");
    let cost = response["costUsd"].as_f64().expect("a number");
    assert!((cost - 0.001).abs() < 1e-9, "{response}");
    assert_eq!(response["usage"], json!({"input_tokens": 1, "output_tokens": 2}));
    let shown = ["sessionId", "promptId", "status", "fullResponse", "done"].map(|name| response[name].clone());
    assert_eq!(shown, [json!(session), json!(prompt), json!("done"), json!("w1 w2"), json!(true)]);
    assert_eq!(text.chunks(&prompt), ["w1 ", "w2"]);
    // Claude counts up through its process; a prompt is told what it cost itself.
    let second = text.ask_and_wait(&session, "fail");
    assert_eq!(second["error"], "API Error: failed as asked");
    assert_eq!(second["costUsd"].as_f64(), Some(0.0), "the agent's total stays the same");
    let asked = text.events_named("prompt");
    assert_eq!((&asked[0]["text"], &asked[0]["promptId"]), (&json!("words 2"), &json!(prompt)));
}

#[test]
fn what_claude_says_is_relayed_untouched() {
    let server = server();
    let (events, session) = client(&server, json!({"stream": "events"}));
    events.ask(&session, "words 1");
    let result = events.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    assert_eq!(result["event"]["result"], "w1");
    let raw = events.events().into_iter().find(|event| event.data == result).expect("it has come").raw;
    // The agent's own order of members, not one of a re-encoding.
    let start = format!(r#"42["claudeEvent",{{"sessionId":"{session}","seq":{},"event":{{"#, result["seq"]);
    assert!(raw.starts_with(&start), "{raw}");
}

#[test]
fn every_acknowledgement_has_its_fields() {
    let server = builder().arg("--max-sessions=50").start();
    let (client, session) = text_client(&server);
    let check = |event: &str, data: Value, expected: &[&str]| {
        let ack = client.must(event, data);
        assert_eq!(keys(&ack), expected, "{event}");
        if ack["session"].is_object() {
            check_session(&ack["session"]);
        }
        ack
    };
    let with = |fields: Value| {
        let mut data = fields;
        data["sessionId"] = json!(session);
        data
    };
    let asked = check("askClaudeCode", with(json!({"prompt": "words 2"})), &["ok", "position", "promptId"]);
    client.wait_response(asked["promptId"].as_str().expect("an id"));
    check("createSession", json!({}), &["ok", "session"]);
    let resumed = check("resumeSession", with(json!({})), &["events", "logId", "more", "ok", "part", "seq", "session"]);
    let details = check(
        "getSession",
        with(json!({})),
        &["agents", "commands", "models", "ok", "permissionModes", "questions", "session"],
    );
    assert_eq!(details["commands"][0]["name"], "compact");
    assert_eq!(details["models"][0]["value"], "default");
    assert_eq!(details["questions"], json!([]));
    for session in check("listSessions", json!({}), &["ok", "sessions"])["sessions"].as_array().expect("a list") {
        check_session(session);
    }
    check("listSessions", json!({"limit": 1}), &["cursor", "ok", "sessions"]);
    let history = check("getHistory", with(json!({})), &["events", "more", "ok"]);
    assert_eq!(history["events"], resumed["events"]);
    for item in history["events"].as_array().expect("a list") {
        assert_eq!(keys(item), ["data", "name", "seq", "time"]);
        assert_eq!(item["seq"], item["data"]["seq"]);
        assert_eq!(keys(&item["data"]), fields(item["name"].as_str().expect("a name"), &item["data"]));
    }
    let asked = check("askClaudeCode", with(json!({"prompt": "ask"})), &["ok", "position", "promptId"]);
    let question = client.wait_event("permissionRequest", |_| true);
    let open = check(
        "getSession",
        with(json!({})),
        &["agents", "commands", "models", "ok", "permissionModes", "questions", "session"],
    );
    assert_eq!((&open["questions"], &open["session"]["state"]), (&json!([question]), &json!("waiting")));
    let waiting = check("askClaudeCode", with(json!({"prompt": "p"})), &["ok", "position", "promptId"]);
    check("cancelPrompt", with(json!({"promptId": waiting["promptId"]})), &["ok"]);
    let answer = with(json!({"requestId": question["requestId"], "behavior": "allow"}));
    check("answerPermission", answer, &["ok"]);
    client.wait_response(asked["promptId"].as_str().expect("an id"));
    check("interruptClaude", with(json!({})), &["ok", "stillQueued"]);
    check("setModel", with(json!({"model": "m"})), &["model", "ok"]);
    check("setPermissionMode", with(json!({"permissionMode": "plan"})), &["ok", "permissionMode"]);
    check("setEffort", with(json!({"effort": "high"})), &["effort", "ok"]);
    check("getContextUsage", with(json!({})), &["ok", "usage"]);
    check("fileSuggestions", with(json!({"query": ""})), &["ok", "suggestions"]);
    check("rewindFiles", with(json!({"userMessageId": "u", "dryRun": true})), &["ok", "rewind"]);
    check("listDirectories", json!({}), &["directories", "more", "ok", "parent", "path", "roots"]);
    check("stopTask", with(json!({"taskId": "t"})), &["ok", "stopped"]);
    let closed = check("closeSession", with(json!({})), &["ok", "session"]);
    assert_eq!(closed["session"]["state"], "stopped");
}

#[test]
fn a_session_registered_says_what_was_asked_for() {
    let server = server();
    let (first, session) = text_client(&server);
    let registered = first.registered();
    assert_eq!(registered["mode"], "isolated");
    assert_eq!(
        (&registered["resumed"], &registered["seq"], &registered["part"]),
        (&json!(false), &json!(0), &json!(0))
    );
    check_session(&registered["session"]);
    first.ask_and_wait(&session, "words 1");
    super::last_word(&first, &session);
    let second = server.connect(json!({"sessionId": session})).registered();
    let last = first.must("getHistory", json!({"sessionId": session}))["events"].as_array().map(Vec::len);
    assert_eq!((&second["resumed"], second["seq"].as_u64()), (&json!(true), last.map(|count| count as u64)));
    assert_eq!(second["logId"], registered["logId"]);
    let unknown = server.connect(json!({"sessionId": "gone"})).registered();
    assert_eq!((&unknown["resumed"], &unknown["requested"]), (&json!(false), &json!("gone")));
    assert_ne!(unknown["sessionId"], "gone");
    assert!(unknown["requested"].is_string() && !second["requested"].is_string());
}
