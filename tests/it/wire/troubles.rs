//! What the API has against a turn: a code, a sentence, and the summary until a turn ends well.

use serde_json::{Value, json};

use super::{builder, server, settle, text_client};
use crate::support::{client::Client, server::Server};

fn turn(server: &Server, client: &Client, session: &str, lines: &[Value]) -> Value {
    let file = server.workspace().root().join(format!("turn-{:016x}", fastrand::u64(..)));
    std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).expect("the lines");
    client.ask_and_wait(session, &format!("turn {}", file.display()))
}

fn init() -> Value {
    json!({"type": "system", "subtype": "init"})
}

/// As the CLI says it in the model's place.
fn refusal(error: &str, status: Value, text: &str) -> [Value; 3] {
    let message = json!({"id": "x", "role": "assistant", "model": "<synthetic>", "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": 0, "output_tokens": 0}});
    [
        init(),
        json!({"type": "assistant", "message": message, "parent_tool_use_id": null, "error": error}),
        json!({
            "type": "result", "subtype": "success", "is_error": true, "api_error_status": status, "result": text,
            "num_turns": 1, "terminal_reason": "completed", "user_message_uuids": ["$UUID"],
        }),
    ]
}

fn summary(client: &Client, session: &str) -> Value {
    client.must("getSession", json!({"sessionId": session}))["session"].clone()
}

#[test]
fn a_refusal_has_a_code_and_a_sentence_until_a_turn_ends_well() {
    let first = server();
    let (client, session) = text_client(&first);
    let cases = [
        ("authentication_failed", Value::Null, "not_logged_in", "log in"),
        ("authentication_failed", json!(401), "bad_key", "log in"),
        ("rate_limit", json!(429), "api_rate_limited", "wait"),
        ("server_error", json!(529), "overloaded", "ask again"),
        ("server_error", Value::Null, "no_network", "network"),
        ("model_not_found", json!(404), "model_refused", "choose another"),
        ("invalid_request", json!(400), "api_error", "the words of Claude"),
    ];
    for (error, status, code, part) in cases {
        let mark = client.mark();
        let response = turn(&first, &client, &session, &refusal(error, status, "the words of Claude"));
        assert_eq!((&response["status"], &response["code"]), (&json!("failed"), &json!(code)), "{response}");
        assert_eq!(response["fullResponse"], "the words of Claude");
        let sentence = response["error"].as_str().expect("a sentence");
        assert!(sentence.contains(part) && sentence.contains("the words of Claude"), "{sentence}");
        let (_, notice) = client.wait_event_from(mark, "notice", |_| true);
        assert_eq!(
            [&notice["code"], &notice["level"], &notice["text"]],
            [&json!(code), &json!("error"), &json!(sentence)]
        );
        assert_eq!(notice["promptId"], response["promptId"]);
        let summary = summary(&client, &session);
        assert_eq!(summary["failure"], json!({"code": code, "message": sentence, "stderr": ""}));
        assert_eq!(summary["state"], "idle", "the process is well");
    }
    // Not of the process: it neither hinders the next server's nor is it forgotten by it.
    first.stop();
    let second = builder().workspace(first.workspace()).start();
    let client = second.connect(json!({"sessionId": session}));
    let stored = summary(&client, &session);
    assert_eq!((&stored["state"], &stored["failure"]["code"]), (&json!("stopped"), &json!("api_error")));
    // What Claude answers without the model says nothing about it.
    let local = [
        init(),
        json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 0, "user_message_uuids": ["$UUID"]}),
    ];
    assert_eq!(turn(&second, &client, &session, &local)["status"], "done");
    assert_eq!(summary(&client, &session)["failure"]["code"], "api_error");
    assert_eq!(client.ask_and_wait(&session, "fine")["status"], "done");
    assert_eq!(summary(&client, &session)["failure"], Value::Null);
}

#[test]
fn while_claude_tries_again_viewers_see_why() {
    let server = server();
    let (client, session) = text_client(&server);
    let retry = |attempt: u64, status: u16, error: &str| {
        json!({"type": "system", "subtype": "api_retry", "attempt": attempt, "max_retries": 10, "retry_delay_ms": 60_000.5,
            "error_status": status, "error": error})
    };
    let message = json!({"type": "stream_event", "event": {"type": "message_start", "message": {"id": "msg_1"}}});
    let end = json!({"type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "user_message_uuids": ["$UUID"]});
    let mark = client.mark();
    let lines = [
        init(),
        retry(1, 529, "overloaded"),
        retry(2, 529, "overloaded"),
        retry(3, 429, "rate_limit"),
        message,
        end.clone(),
    ];
    assert_eq!(turn(&server, &client, &session, &lines)["status"], "done");
    let notices = client.events_named("notice");
    let codes: Vec<_> = notices.iter().map(|notice| (notice["code"].as_str(), notice["level"].as_str())).collect();
    assert_eq!(codes, [(Some("overloaded"), Some("warning")), (Some("api_rate_limited"), Some("warning"))]);
    assert!(notices[0]["text"].as_str().is_some_and(|text| text.contains("10 times")), "{}", notices[0]);
    settle(&client, &session);
    assert_eq!(summary(&client, &session)["retrying"], Value::Null);
    // The lines may come in one read, so that not each of them is seen.
    let file = server.workspace().root().join("waiting");
    std::fs::write(&file, format!("{}\n", retry(4, 401, "authentication_failed"))).expect("the lines");
    let prompt = client.ask(&session, &format!("turn {}", file.display()));
    let (_, told) = client.wait_event_from(mark, "sessionUpdated", |data| data["retrying"]["attempt"] == 4);
    let retrying = &told["retrying"];
    assert_eq!((&retrying["code"], &retrying["attemptsMax"]), (&json!("bad_key"), &json!(10)));
    assert!(retrying["until"].as_u64() > told["lastActivity"].as_u64(), "{told}");
    client.must("interruptClaude", json!({"sessionId": session, "promptId": prompt}));
    settle(&client, &session);
}

#[test]
fn an_answer_ends_a_retry_that_has_been_made_and_no_other() {
    let server = server();
    let (client, session) = text_client(&server);
    for (delay_ms, ends) in [(0, true), (60_000, false)] {
        let retry = json!({"type": "system", "subtype": "api_retry", "attempt": 1, "max_retries": 10,
            "retry_delay_ms": delay_ms, "error_status": 529, "error": "overloaded"});
        let usage = json!({"input_tokens": 1000 + delay_ms, "output_tokens": 0});
        // Of an agent, or a message that did not come in pieces.
        let answer = json!({"type": "assistant", "message": {"id": "msg_1", "model": "m", "role": "assistant",
            "content": [{"type": "tool_use", "id": "t", "name": "Task", "input": {}}], "usage": usage}});
        let file = server.workspace().root().join("retry");
        std::fs::write(&file, [init(), retry, answer].map(|line| format!("{line}\n")).concat()).expect("the lines");
        let prompt = client.ask(&session, &format!("turn {}", file.display()));
        let told = client.wait_event("sessionUpdated", |data| data["contextTokens"] == 1000 + delay_ms);
        assert_eq!(told["retrying"].is_null(), ends, "{told}");
        client.must("interruptClaude", json!({"sessionId": session, "promptId": prompt}));
        settle(&client, &session);
    }
}

#[test]
fn a_limit_of_turns_is_no_trouble_with_the_api() {
    let server = server();
    let (client, session) = text_client(&server);
    let end = json!({"type": "result", "subtype": "error_max_turns", "is_error": true, "num_turns": 3, "user_message_uuids": ["$UUID"]});
    let response = turn(&server, &client, &session, &[init(), end]);
    assert_eq!((&response["status"], &response["error"]), (&json!("failed"), &json!("error_max_turns")));
    assert_eq!(response["code"], Value::Null);
    assert_eq!(summary(&client, &session)["failure"], Value::Null);
}
