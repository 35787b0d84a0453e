//! How a connection opens on each transport, and every way in which it does not.

use serde_json::{Value, json};

use crate::support::client::http;
use crate::wire::{Echo, Poller, TRANSPORTS, Transport, UPGRADE, Ws, assert_json, case};

#[test]
fn the_open_packet() {
    fn check(name: &str, echo: &Echo, transport: Transport, path: &str) {
        case(name, || {
            let (open, upgrades) = match transport {
                Transport::Polling => {
                    let answer = http(echo.port, "GET", &format!("{path}EIO=4&transport=polling"), &[], b"");
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
                    assert_eq!(answer.header("cache-control"), Some("no-store"));
                    assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
                    assert_eq!(answer.header("set-cookie"), None);
                    let body = answer.text();
                    let open: Value = serde_json::from_str(&body[1..]).expect("JSON");
                    let sid = open["sid"].as_str().expect("a sid");
                    let exact = format!(
                        "0{{\"sid\":\"{sid}\",\"upgrades\":[\"websocket\"],\"pingInterval\":300,\"pingTimeout\":200,\"maxPayload\":1000000}}"
                    );
                    assert_eq!(body, exact);
                    (open, json!(["websocket"]))
                }
                Transport::WebSocket => {
                    let mut ws = Ws::upgrade(echo.port, &format!("{path}EIO=4&transport=websocket"));
                    let crate::wire::Frame::Packet(crate::wire::Packet::Text(text)) = ws.next() else {
                        panic!("no open packet")
                    };
                    (serde_json::from_str(&text[1..]).expect("JSON"), json!([]))
                }
            };
            let sid = open["sid"].as_str().expect("a sid");
            assert!(
                sid.len() == 20 && sid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'),
                "{sid}"
            );
            let expected = json!({"sid": sid, "upgrades": upgrades, "pingInterval": 300, "pingTimeout": 200, "maxPayload": 1_000_000});
            assert_eq!(open, expected);
        });
    }
    for (echo, base) in [(Echo::start(&[]), "/socket.io"), (Echo::start(&["--engine-only"]), "/engine.io")] {
        for transport in TRANSPORTS {
            check("with the last slash", &echo, transport, &format!("{base}/?"));
            check("without the last slash", &echo, transport, &format!("{base}?"));
            check("below the path", &echo, transport, &format!("{base}/x?"));
            check("with parameters that mean nothing", &echo, transport, &format!("{base}/?t=abc&j=0&b64=1&"));
        }
    }
}

#[test]
fn every_sid_is_another() {
    let echo = Echo::engineio();
    let mut sids: Vec<String> = (0..20).map(|_| Poller::open(&echo).sid).collect();
    sids.sort();
    sids.dedup();
    assert_eq!(sids.len(), 20);
}

/// What is wrong comes in the order transport, sid, method, version: the first fault is told.
#[test]
fn refusals_of_plain_requests() {
    let echo = Echo::socketio();
    let (polling, (_ws, open)) = (Poller::open(&echo), Ws::open(&echo));
    let (polls, ws) = (polling.sid.as_str(), open["sid"].as_str().expect("a sid"));
    let long = "x".repeat(5000);
    let check = |name: &str, method: &str, query: &str, code: u8, message: &str| {
        let query = query.replace("POLLS", polls).replace("WS", ws).replace("LONG", &long);
        let headers: &[_] = if method == "POST" { &[("Content-Length", "0")] } else { &[] };
        let ask = || http(echo.port, method, &echo.target(&query), headers, b"");
        case(name, || assert_json(&ask(), 400, code, message));
    };
    const TRANSPORT: &str = "Transport unknown";
    const SID: &str = "Session ID unknown";
    const METHOD: &str = "Bad handshake method";
    const REQUEST: &str = "Bad request";
    const VERSION: &str = "Unsupported protocol version";
    let rows = [
        ("no transport", "GET", "EIO=4", 0, TRANSPORT),
        ("no query", "GET", "", 0, TRANSPORT),
        ("an unknown transport", "GET", "EIO=4&transport=foo", 0, TRANSPORT),
        ("an empty transport", "GET", "EIO=4&transport=", 0, TRANSPORT),
        ("another case", "GET", "EIO=4&transport=Polling", 0, TRANSPORT),
        ("a name that every object has", "GET", "EIO=4&transport=constructor", 0, TRANSPORT),
        ("the prototype", "GET", "EIO=4&transport=__proto__", 0, TRANSPORT),
        ("transport before sid", "GET", "EIO=4&transport=foo&sid=unknown", 0, TRANSPORT),
        ("transport before method", "POST", "EIO=4&transport=foo", 0, TRANSPORT),
        ("transport before version", "GET", "EIO=3&transport=foo", 0, TRANSPORT),
        ("an unknown sid", "GET", "EIO=4&transport=polling&sid=unknown", 1, SID),
        ("an unknown sid in a POST", "POST", "EIO=4&transport=polling&sid=unknown", 1, SID),
        ("an empty sid", "GET", "EIO=4&transport=polling&sid=__", 1, SID),
        ("an overlong sid", "GET", "EIO=4&transport=polling&sid=LONG", 1, SID),
        ("sid before method", "PUT", "EIO=4&transport=polling&sid=unknown", 1, SID),
        ("sid before version", "GET", "EIO=3&transport=polling&sid=unknown", 1, SID),
        ("unknown sid on websocket", "GET", "EIO=4&transport=websocket&sid=unknown", 1, SID),
        ("POST without sid", "POST", "EIO=4&transport=polling", 2, METHOD),
        ("PUT without sid", "PUT", "EIO=4&transport=polling", 2, METHOD),
        ("DELETE without sid", "DELETE", "EIO=4&transport=polling", 2, METHOD),
        ("method before version", "POST", "EIO=3&transport=polling", 2, METHOD),
        ("websocket POST without sid", "POST", "EIO=4&transport=websocket", 2, METHOD),
        ("websocket without upgrade", "GET", "EIO=4&transport=websocket", 3, REQUEST),
        ("websocket without upgrade for a sid", "GET", "EIO=4&transport=websocket&sid=POLLS", 3, REQUEST),
        ("polling on a websocket's sid", "GET", "EIO=4&transport=polling&sid=WS", 3, REQUEST),
        ("POST on a websocket's sid", "POST", "EIO=4&transport=polling&sid=WS", 3, REQUEST),
        ("PUT with a sid", "PUT", "EIO=4&transport=polling&sid=POLLS", 3, REQUEST),
        ("version 3", "GET", "EIO=3&transport=polling", 5, VERSION),
        ("a word for a version", "GET", "EIO=abc&transport=polling", 5, VERSION),
        ("version 5", "GET", "EIO=5&transport=polling", 5, VERSION),
        ("no version", "GET", "transport=polling", 5, VERSION),
        ("version 04", "GET", "EIO=04&transport=polling", 5, VERSION),
    ];
    for (name, method, query, code, message) in rows {
        check(name, method, query, code, message);
    }
}

#[test]
fn refused_upgrades_are_plain_text() {
    let echo = Echo::socketio();
    let check = |name: &str, query: &str, from: &str, to: &str, status: u16, body: &str| {
        case(name, || {
            let headers = UPGRADE.replace(from, to);
            let (answer, mut ws) = Ws::ask(echo.port, &echo.target(query), &headers, b"");
            assert_eq!((answer.status, answer.text().as_str()), (status, body));
            assert_eq!(answer.header("connection"), Some("close"));
            assert_eq!(answer.header("content-type"), Some("text/html"));
            assert_eq!(answer.header("sec-websocket-version"), (status == 426).then_some("13"));
            assert_eq!(ws.next(), crate::wire::Frame::End);
        });
    };
    const GOOD: &str = "EIO=4&transport=websocket";
    let rows = [
        ("no transport", "EIO=4", "", "", 400, "Transport unknown"),
        ("an unknown transport", "EIO=4&transport=foo", "", "", 400, "Transport unknown"),
        ("transport before version", "EIO=3&transport=foo", "", "", 400, "Transport unknown"),
        ("an unknown sid", "EIO=4&transport=websocket&sid=unknown", "", "", 400, "Session ID unknown"),
        ("sid before version", "EIO=3&transport=websocket&sid=unknown", "", "", 400, "Session ID unknown"),
        ("polling with an upgrade", "EIO=4&transport=polling", "", "", 400, "Bad request"),
        ("version 3", "EIO=3&transport=websocket", "", "", 400, "Unsupported protocol version"),
        ("no version", "transport=websocket", "", "", 400, "Unsupported protocol version"),
        ("WebSocket 8", GOOD, "Version: 13", "Version: 8", 426, "Upgrade Required"),
        ("no WebSocket version", GOOD, "Sec-WebSocket-Version: 13\r\n", "", 426, "Upgrade Required"),
        ("no key", GOOD, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "Bad Request"),
        ("a short key", GOOD, "dGhlIHNhbXBsZSBub25jZQ==", "AAAA", 400, "Bad Request"),
        ("a key that is not base64", GOOD, "dGhlIHNhbXBsZSBub25jZQ==", "!!!!", 400, "Bad Request"),
        ("Connection does not say so", GOOD, "Connection: Upgrade", "Connection: keep-alive", 400, "Bad Request"),
    ];
    for (name, query, from, to, status, body) in rows {
        check(name, query, from, to, status, body);
    }
}

#[test]
fn other_paths_are_not_found() {
    let echo = Echo::socketio();
    for path in ["/", "/socket.iox/?EIO=4&transport=polling", "/engine.io/?EIO=4&transport=polling", "/x/socket.io/"] {
        case(path, || assert_eq!(http(echo.port, "GET", path, &[], b"").status, 404));
    }
}
