//! The raw client, against a WebSocket server that plays a script.

use std::{
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

use serde_json::json;
use tungstenite::{
    Message, WebSocket,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::client::{Client, Frame, http};

/// Serves one connection with `script`; gives the port.
fn serve(script: impl FnOnce(WebSocket<TcpStream>) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let thread = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        let mut socket = tungstenite::accept(stream).expect("a handshake");
        socket.send(Message::text("0{\"sid\":\"abc\",\"upgrades\":[]}")).expect("sent");
        script(socket);
    });
    (port, thread)
}

fn expect(socket: &mut WebSocket<TcpStream>, text: &str) {
    assert_eq!(socket.read().expect("a message"), Message::text(text));
}

#[test]
fn events_acknowledgements_and_pings() {
    let (port, server) = serve(|mut socket| {
        expect(&mut socket, "40{\"token\":\"t\"}");
        socket.send(Message::text("40{\"sid\":\"s\"}")).expect("sent");
        socket.send(Message::text("2")).expect("sent");
        expect(&mut socket, "3");
        expect(&mut socket, "420[\"ask\",{\"a\":1}]");
        socket.send(Message::text("42[\"first\",{\"n\":1}]")).expect("sent");
        socket.send(Message::text("430[{\"ok\":true}]")).expect("sent");
        expect(&mut socket, "451-1[\"file\",{\"_placeholder\":true,\"num\":0}]");
        assert_eq!(socket.read().expect("a message"), Message::binary(b"\x01\x02".as_slice()));
        socket.send(Message::text("431[{\"ok\":false,\"error\":{\"code\":\"x\"}}]")).expect("sent");
        socket.send(Message::text("451-[\"back\",{\"_placeholder\":true,\"num\":0}]")).expect("sent");
        socket.send(Message::binary(b"\x03".as_slice())).expect("sent");
        socket.send(Message::text("42[\"first\",{\"n\":2}]")).expect("sent");
        let frame = CloseFrame { code: CloseCode::Away, reason: "".into() };
        socket.close(Some(frame)).expect("closed");
        while socket.read().is_ok() {}
    });
    let client = Client::connect(port, json!({"token": "t"}));
    assert_eq!(client.connected["sid"], "s");
    assert_eq!(client.open["sid"], "abc");
    client.wait_pings(1);
    assert_eq!(client.must("ask", json!({"a": 1})), json!({"ok": true}));
    let id = client.start_emit_binary("file", json!({"_placeholder": true, "num": 0}), &[b"\x01\x02"]);
    assert_eq!(client.wait_ack(id)["error"]["code"], "x");
    assert_eq!(client.wait_event("first", |data| data["n"] == 2)["n"], 2);
    let names: Vec<String> = client.events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["first", "back", "first"]);
    assert_eq!(client.events()[1].attachments, [vec![3]]);
    assert_eq!(client.wait_closed(), Some(1001));
    // The open packet was the first frame and is taken already.
    assert_eq!(client.next_frame(), Frame::Text("40{\"sid\":\"s\"}".to_owned()));
    server.join().expect("the script went to its end");
}

#[test]
fn a_refused_connect_is_an_answer() {
    let (port, server) = serve(|mut socket| {
        expect(&mut socket, "40{}");
        socket.send(Message::text("44{\"message\":\"unauthorized\"}")).expect("sent");
        while socket.read().is_ok() {}
    });
    let refusal = Client::try_connect(port, json!({})).err();
    assert_eq!(refusal, Some(json!({"message": "unauthorized"})));
    server.join().expect("the script went to its end");
}

#[test]
fn a_plain_http_answer() {
    let api = crate::support::fake_api::FakeApi::start();
    let answer = http(api.port, "POST", "/v1/messages/count_tokens", &[], b"{}");
    assert_eq!((answer.status, answer.json()), (200, json!({"input_tokens": 10})));
    assert_eq!(api.wait_for(|request| request.method == "POST").body, json!({}));
}
