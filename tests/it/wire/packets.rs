//! Every packet that must close the connection, and those that must not.

use serde_json::json;

use super::{server, text_client};
use crate::support::{
    client::{Client, Frame},
    server::Server,
};

/// Sends these and expects the server to end the connection with an empty close frame.
fn check_closes(client: &Client, messages: &[&str], binary: Option<&[u8]>) {
    for message in messages {
        client.send_raw(message);
    }
    if let Some(bytes) = binary {
        client.send_raw_binary(bytes);
    }
    let shown: Vec<_> = messages.iter().map(|message| &message[..message.len().min(60)]).collect();
    assert_eq!(client.wait_closed(), None, "{shown:?}");
    let frames = client.frames();
    assert!(frames.iter().any(|received| received.frame == Frame::Close(None)), "{shown:?}: {frames:?}");
}

fn open(server: &Server) -> Client {
    Client::open(server.port, &[]).expect("the upgrade")
}

#[test]
fn malformed_packets_close_the_connection() {
    let server = server();
    let digits = format!("42{}[\"a\"]", "1".repeat(400));
    let deep = format!("42[\"a\",{}{}]", "[".repeat(200), "]".repeat(200));
    let cases = [
        // Engine.IO
        "",
        "2",
        "2probe",
        "7",
        "9",
        "x",
        "é",
        "1",
        "4",
        // types and payloads
        "47",
        "49",
        "4x",
        "42",
        "42{}",
        "42[]",
        "42[null]",
        "42[true]",
        "42[{}]",
        "42[[\"a\"]]",
        "42\"a\"",
        "42[\"a\"",
        "42[\"a\"]x",
        "42[\"some\"",
        "42[\"a\",]",
        "42[\"a\",NaN]",
        &deep,
        // reserved names
        "42[\"connect\"]",
        "42[\"connect_error\"]",
        "42[\"disconnect\"]",
        "42[\"disconnecting\"]",
        "42[\"newListener\"]",
        "42[\"removeListener\"]",
        "421[\"connect\"]",
        // acknowledgement ids
        "42x[\"a\"]",
        "42-1[\"a\"]",
        "421.5[\"a\"]",
        "42 1[\"a\"]",
        &digits,
        "4299999999999999999999[\"a\"]",
        // namespaces
        "40",
        "40{}",
        "40/,{}",
        "41/unknown,",
        "42/unknown,[\"a\"]",
        "43/unknown,1[]",
        "41{}",
        "41[1]",
        // acknowledgements and errors
        "43",
        "43[]",
        "431",
        "431{}",
        "43x[]",
        "44",
        "44{\"message\":\"x\"}",
        // attachments
        "45",
        "45-",
        "45-[\"a\"]",
        "45a-[\"a\"]",
        "45[\"a\"]",
        "451.23-[\"a\"]",
        "45-1-[\"a\"]",
        "4511-[\"a\"]",
        "4599999999999999999999-[\"a\"]",
        "46-1[]",
        "461-[]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":-1}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":99}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":\"x\"}]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":0.5}]",
        "451-[\"a\",{\"_placeholder\":true}]",
        "42[\"a\",{\"_placeholder\":true,\"num\":0}]",
    ];
    for case in cases {
        check_closes(&server.connect(json!({})), &[case], None);
    }
    server.connect(json!({})).must("listSessions", json!({}));
}

#[test]
fn values_that_are_none_here_are_bad_requests() {
    let server = server();
    let (client, session) = text_client(&server);
    let ask = |id: u64, fields: &str| {
        client.send_raw(&format!("42{id}[\"askClaudeCode\",{{\"sessionId\":\"{session}\",{fields}}}]"));
        client.wait_ack(id)
    };
    for (id, field, value) in [
        (1, "prompt", r#""cut within an emoji \ud83d""#),
        (2, "prompt", "1e400"),
        (3, "promptId", r#""\udc00""#),
        (4, "context", r#"{"selectedText":{"start":-1e999}}"#),
        (5, "ignored", "1e400"),
    ] {
        let prompt = if field == "prompt" { "" } else { "\"prompt\":\"p\"," };
        let ack = ask(id, &format!("{prompt}\"{field}\":{value}"));
        assert_eq!((&ack["error"]["code"], &ack["error"]["field"]), (&json!("bad_request"), &json!(field)), "{ack}");
    }
    client.send_raw("427[\"listSessions\",1e400]");
    assert_eq!(client.wait_ack(7)["error"]["field"], "data");
    client.send_raw("42[\"listSessions\",{\"query\":\"\\ud800\"}]");
    let error = client.wait_event("serverError", |error| error["event"] == "listSessions");
    assert_eq!(error["code"], "bad_request");
    client.must("listSessions", json!({}));
}

#[test]
fn what_comes_at_the_wrong_time_closes_the_connection() {
    let server = server();
    for first in ["42[\"a\"]", "420[\"listSessions\",{}]", "430[]", "41", "451-[\"a\"]", "40[1]", "40\"x\"", "407"] {
        let binary: Option<&[u8]> = first.starts_with("45").then_some(b"x");
        check_closes(&open(&server), &[first], binary);
    }
    check_closes(&open(&server), &["40{\"token\":"], None);
    check_closes(&open(&server), &[], Some(b"unasked"));
    let awaited = "451-[\"a\",{\"_placeholder\":true,\"num\":0}]";
    for messages in [&["41", "42[\"a\"]"][..], &["41", "41"], &["41", "430[]"], &[awaited, "3", "42[\"a\"]"]] {
        check_closes(&server.connect(json!({})), messages, None);
    }
    check_closes(&server.connect(json!({})), &[], Some(b"unasked"));
}

#[test]
fn what_means_nothing_is_ignored() {
    let server = server();
    for packet in ["0", "0{}", "3", "3probe", "6", "5", "430[1]", "4312345[]", "42[7]", "42[\"nobody\"]", "42[\"\"]"] {
        let (client, _) = text_client(&server);
        client.send_raw(packet);
        client.must("listSessions", json!({}));
    }
    let (client, _) = text_client(&server);
    client.send_raw("461-5[{\"_placeholder\":true,\"num\":0}]");
    client.send_raw_binary(b"an acknowledgement of nothing");
    client.must("listSessions", json!({}));
}

#[test]
fn events_with_attachments_are_events() {
    let server = server();
    let (client, session) = text_client(&server);
    let data = json!({"sessionId": session, "ignored": {"_placeholder": true, "num": 0}});
    let ack = client.wait_ack(client.start_emit_binary("getSession", data, &[b"\x00\xff"]));
    assert_eq!(ack["ok"], true, "{ack}");
    // Numeric names are legal, and an id may have as many digits as fit.
    client.send_raw("4218446744073709551615[7,{}]");
    assert_eq!(client.wait_ack(u64::MAX)["error"]["code"], "unknown_event");
}

#[test]
fn a_client_may_leave_and_come_back_on_one_connection() {
    let server = server();
    let (mut client, first) = text_client(&server);
    client.disconnect();
    client.send_connect(&json!({"token": server.token()})).expect("a second CONNECT");
    let (_, second) = client.wait_event_from(1, "sessionRegistered", |_| true);
    assert_ne!(second["sessionId"], *first);
    client.must("listSessions", json!({}));
}

#[test]
fn a_long_message_of_a_stranger_is_refused() {
    let server = server();
    let stranger = open(&server);
    stranger.send_raw(&format!("40{}", json!({"token": "x".repeat(20_000)})));
    assert_eq!(stranger.wait_closed(), Some(1009));
    let (client, _) = text_client(&server);
    client.must("listSessions", json!({"ignored": "x".repeat(900_000)}));
    client.send_raw(&format!("42[\"a\",\"{}\"]", "x".repeat(1_000_001)));
    assert_eq!(client.wait_closed(), Some(1009));
}
