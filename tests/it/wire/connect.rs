//! From the open packet to the answer to CONNECT, and the heartbeat.

use serde_json::{Value, json};

use super::{builder, health, keys, server, text_client};
use crate::support::{
    DEADLINE,
    client::{Client, Frame},
    processes::eventually,
    server::Server,
};

fn open(server: &Server) -> Client {
    Client::open(server.port, &[]).expect("the upgrade")
}

/// Sends a packet and gives the next one that is no ping.
fn exchange(client: &Client, packet: &str) -> String {
    client.send_raw(packet);
    loop {
        match client.next_frame() {
            Frame::Text(text) if text == "2" => {}
            Frame::Text(text) => return text,
            other => panic!("{packet}: {other:?}"),
        }
    }
}

fn is_sid(sid: &Value) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    sid.as_str().is_some_and(|sid| sid.len() == 20 && sid.bytes().all(plain))
}

#[test]
fn the_open_packet_and_the_answer_to_connect() {
    let server = builder().args(["--ping-interval-ms=4321", "--ping-timeout-ms=1234", "--max-payload=54321"]).start();
    let client = server.connect(json!({}));
    let Frame::Text(raw) = client.frames()[0].frame.clone() else { panic!("no text") };
    let sid = client.open["sid"].as_str().expect("a sid");
    let expected =
        format!(r#"0{{"sid":"{sid}","upgrades":[],"pingInterval":4321,"pingTimeout":1234,"maxPayload":54321}}"#);
    assert_eq!(raw, expected);
    assert!(is_sid(&client.open["sid"]), "{raw}");
    assert_eq!(keys(&client.connected), ["sid"]);
    assert!(is_sid(&client.connected["sid"]) && client.connected["sid"] != sid, "{}", client.connected);
    let other = server.connect(json!({}));
    assert!(other.open["sid"] != sid && other.connected["sid"] != client.connected["sid"]);
}

#[test]
fn the_server_pings_and_a_silent_client_is_gone() {
    let server = builder().args(["--ping-interval-ms=300", "--ping-timeout-ms=200"]).start();
    let (client, other) = (server.connect(json!({})), server.connect(json!({})));
    client.wait_pings(3);
    client.must("listSessions", json!({}));
    client.stop_pongs();
    assert_eq!(client.wait_closed(), None);
    // One whose network is gone takes nothing any more, not even the end.
    other.must("listSessions", json!({}));
    other.pause_reading();
    eventually("the connection given up", DEADLINE, || health(&server)["connections"] == 0);
}

#[test]
fn a_refused_connect_has_its_code_and_leaves_the_connection_usable() {
    let server = server();
    let token = server.token();
    let check = |auth: &str, expected: &str| {
        let client = open(&server);
        let shown = &auth[..auth.len().min(60)];
        assert_eq!(exchange(&client, &format!("40{auth}")), format!("44{expected}"), "{shown}");
        let answer = exchange(&client, &format!("40{}", json!({"token": token})));
        assert!(answer.starts_with(r#"40{"sid":""#), "{shown}: {answer}");
    };
    let unauthorized = r#"{"message":"unauthorized","data":{"code":"unauthorized"}}"#;
    let long = json!({"token": "x".repeat(10_000)}).to_string();
    let almost = json!({"token": token[..token.len() - 1]}).to_string();
    let more = json!({"token": format!("{token} ")}).to_string();
    for auth in ["", "{}", r#"{"token":null}"#, r#"{"token":7}"#, r#"{"token":{"a":1}}"#, r#"{"token":["x"]}"#]
        .into_iter()
        .chain([r#"{"token":""}"#, r#"{"token":"wrong"}"#, &long, &almost, &more])
    {
        check(auth, unauthorized);
    }
    let with = |field: &str, value: Value| json!({"token": token, field: value}).to_string();
    for (field, value, message) in [
        ("stream", json!("all"), "stream is neither text nor events"),
        ("stream", json!(7), "stream is not a string"),
        ("sessionId", json!(7), "sessionId is not a string"),
        ("afterSeq", json!(-1), "afterSeq is not a whole number from 0 up"),
        ("afterSeq", json!("x"), "afterSeq is not a whole number from 0 up"),
        ("logId", json!([]), "logId is not a string"),
    ] {
        let expected = format!(r#"{{"message":"{message}","data":{{"code":"bad_request","field":"{field}"}}}}"#);
        check(&with(field, value), &expected);
    }
}

#[test]
fn other_namespaces_do_not_exist() {
    let server = server();
    for (packet, answer) in [
        ("40/nope,", r#"44/nope,{"message":"Invalid namespace"}"#),
        ("40/nope", r#"44/nope,{"message":"Invalid namespace"}"#),
        (r#"40/nope?a=b,{"token":"x"}"#, r#"44/nope,{"message":"Invalid namespace"}"#),
        (r#"40/a"b,{}"#, r#"44/a"b,{"message":"Invalid namespace"}"#),
    ] {
        let mut client = open(&server);
        assert_eq!(exchange(&client, packet), answer, "{packet}");
        client.send_connect(&json!({"token": server.token()})).expect("the main namespace");
        assert_eq!(exchange_connected(&client, packet), answer, "{packet} when connected");
        client.must("listSessions", json!({}));
    }
}

/// As [`exchange`], where events may come in between.
fn exchange_connected(client: &Client, packet: &str) -> String {
    let mut answer = exchange(client, packet);
    while !answer.starts_with("44") {
        match client.next_frame() {
            Frame::Text(text) => answer = text,
            other => panic!("{packet}: {other:?}"),
        }
    }
    answer
}

#[test]
fn guessing_is_limited_and_the_right_token_always_works() {
    let server = server();
    let wrong = json!({"token": "a".repeat(43)});
    let mut client = open(&server);
    let mut refused = || client.send_connect(&wrong).expect_err("a wrong token")["data"]["code"].clone();
    let codes: Vec<Value> = (0..12).map(|_| refused()).collect();
    assert_eq!(codes, [vec![json!("unauthorized"); 10], vec![json!("rate_limited"); 2]].concat());
    let answer = exchange(&open(&server), &format!("40{wrong}"));
    assert_eq!(answer, r#"44{"message":"rate_limited","data":{"code":"rate_limited"}}"#);
    client.send_connect(&json!({"token": server.token()})).expect("the right token");
    client.must("listSessions", json!({}));
    server.connect(json!({}));
    assert!(!server.stderr_text().contains(&"a".repeat(43)), "a guess may be nearly right: it is not logged");
}

#[test]
fn the_token_may_come_in_the_authorization_header() {
    let server = server();
    let token = server.token();
    for (header, auth, fits) in [
        (format!("Bearer {token}"), json!(null), true),
        (format!("bearer {token}"), json!({}), true),
        (format!("Bearer {token}"), json!({"stream": "events"}), true),
        ("Bearer wrong".to_owned(), json!({"token": token}), true),
        ("Bearer wrong".to_owned(), json!(null), false),
        (format!("Basic {token}"), json!(null), false),
        (token.clone(), json!(null), false),
        (format!("Bearer {token}"), json!({"token": "wrong"}), false),
    ] {
        let mut client = Client::open(server.port, &[("Authorization", &header)]).expect("the upgrade");
        assert_eq!(client.send_connect(&auth).is_ok(), fits, "{} {auth}", header.replace(&token, "TOKEN"));
    }
    let path = format!("/socket.io/?EIO=4&transport=websocket&token={token}");
    let mut client = Client::open_path(server.port, &path, &[]).expect("the upgrade");
    client.send_connect(&json!({})).expect_err("no token is taken from a query");
}

/// The one test here that takes its ten seconds: there is no flag for that time.
#[test]
fn a_connection_without_a_successful_connect_ends() {
    let server = server();
    let (silent, mut refused, mut connected) = (open(&server), open(&server), open(&server));
    refused.send_connect(&json!({"token": "wrong"})).expect_err("refused");
    connected.send_connect(&json!({"token": server.token()})).expect("accepted");
    assert_eq!((silent.wait_closed(), refused.wait_closed()), (None, None));
    for client in [&silent, &refused] {
        assert!(client.frames().iter().any(|received| received.frame == Frame::Close(None)), "an orderly end");
    }
    connected.must("listSessions", json!({}));
}

#[test]
fn a_server_that_was_stopped_and_goes_on_keeps_its_clients() {
    let server = server();
    let (client, session) = text_client(&server);
    for _ in 0..20 {
        // Just after a message the server waits for the next one in another way than later.
        client.must("getSession", json!({"sessionId": session}));
        assert!(server.signal(libc::SIGSTOP));
        let stat = || std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it lives");
        eventually("the server is stopped", DEADLINE, || stat().contains(") T "));
        assert!(server.signal(libc::SIGCONT));
    }
    client.must("getSession", json!({"sessionId": session}));
    assert!(!client.is_closed());
}
