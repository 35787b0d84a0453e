//! What this server does not know: passed on byte for byte, and answered, never met with silence.

use serde_json::json;

use super::{client, server, text_client, viewer};
use crate::support::client::{Client, Frame, Received};

/// Lines that a reader and writer of JSON would change, or that a strict one would refuse.
const ODD: [&str; 9] = [
    r#"{"z":1,"type":"never_heard_of","a":2,"z2":{"b":1,"a":2}}"#,
    r#"{"type":"never_heard_of","n":[123456789012345678901234567890,1.10,1e2,-0,0.1e-7,1E+400]}"#,
    r#"{"type":"never_heard_of","s":"\u0041\/\u00e4 ä \ud83d\ude00 \u2028"}"#,
    r#"{ "type" : "never_heard_of" , "spaces" : [ 1 , 2 ] }"#,
    r#"{"type":"never_heard_of","half":"\ud83d"}"#,
    r#"{"type":"system","subtype":"never_heard_of","twice":1,"twice":2}"#,
    r#"{"type":"assistant","message":7,"new_field":{"deep":[[[[null]]]]}}"#,
    r#"{"type":"result_of_another_kind","subtype":"success","is_error":true,"total_cost_usd":"free"}"#,
    r#"{"type":"rate_limit_event","rate_limit_info":"none"}"#,
];

/// What came, as it came: the client's own reader of JSON refuses some of it.
fn texts(client: &Client) -> Vec<String> {
    let text = |received: Received| match received.frame {
        Frame::Text(text) => Some(text),
        _ => None,
    };
    client.frames().into_iter().filter_map(text).collect()
}

#[test]
fn lines_of_unknown_kinds_reach_events_viewers_byte_for_byte() {
    let server = server();
    let (asking, session) = text_client(&server);
    let watching = viewer(&server, &session, "events");
    let file = server.workspace().root().join("lines");
    std::fs::write(&file, ODD.map(|line| format!("{line}\n")).concat()).expect("the lines");
    let prompt = asking.ask(&session, &format!("raw {}", file.display()));
    assert_eq!(asking.wait_response(&prompt)["fullResponse"], "done");
    watching.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    let seen = texts(&watching);
    let places: Vec<_> =
        ODD.iter().map(|line| seen.iter().position(|event| event.contains(&format!(r#","event":{line}}}"#)))).collect();
    assert!(places.iter().all(Option::is_some), "{places:?} of {ODD:#?}\nin {seen:#?}");
    assert!(places.is_sorted(), "{places:?}");
    // The same from the store.
    let (later, _) = client(&server, json!({"sessionId": session, "stream": "events", "afterSeq": 0}));
    later.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    let again = texts(&later);
    for line in ODD {
        assert!(again.iter().any(|event| event.contains(&format!(r#","event":{line}}}"#))), "{line}");
    }
}

#[test]
fn requests_that_are_not_served_get_an_error_at_once() {
    let server = server();
    let (asking, session) = text_client(&server);
    let watching = viewer(&server, &session, "events");
    for request in [
        json!({"subtype": "hook_callback", "callback_id": "c", "input": {}}),
        json!({"subtype": "mcp_message", "server_name": "s", "message": {"jsonrpc": "2.0", "method": "ping", "id": 1}}),
        json!({"subtype": "elicitation", "mcp_server_name": "s", "message": "Your name?", "mode": "form"}),
        json!({"subtype": "request_user_dialog", "dialog": "d"}),
        json!({"subtype": "never_heard_of"}),
        json!({"subtype": {}}),
        json!({}),
        // A permission question without what makes it one.
        json!({"subtype": "can_use_tool", "tool_name": "Bash"}),
    ] {
        let prompt = asking.ask(&session, &format!("request {request}"));
        let response = asking.wait_response(&prompt);
        let reply: serde_json::Value =
            serde_json::from_str(response["fullResponse"].as_str().expect("a text")).expect("JSON");
        assert_eq!((&reply["subtype"], &reply["request_id"]), (&json!("error"), &json!("ours")), "{request}: {reply}");
        assert!(reply["error"].as_str().is_some_and(|error| !error.is_empty()), "{request}: {reply}");
        watching.wait_event("claudeEvent", |data| data["event"]["request"] == request);
    }
    assert!(asking.events_named("permissionRequest").is_empty());
}
