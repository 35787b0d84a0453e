//! The HTTP front and who is let in.

use std::{
    io::{BufReader, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    client::{Client, HttpAnswer, PATH, http, http_raw, read_answer},
    server::{Builder, Server},
};

mod frames;
mod policy;

fn builder() -> Builder {
    Server::builder(env!("CARGO_BIN_EXE_claude-session-manager")).demo()
}

fn server() -> Server {
    builder().start()
}

/// Writes these bytes on a connection of their own and gives the status of the answer.
fn status(server: &Server, request: &[u8]) -> u16 {
    http_raw(server.port, request).status
}

fn json_of(answer: &HttpAnswer) -> Value {
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

#[test]
fn health_has_its_fields() {
    let server = server();
    let health = || json_of(&server.http("GET", "/health", &[]));
    let version = env!("CARGO_PKG_VERSION");
    let mut expected = json!({
        "status": "ok", "version": version, "agent": "demo", "agentVersion": null, "sessions": 0, "connections": 0,
    });
    assert_eq!(health(), expected);
    let client = server.connect(json!({}));
    client.ask_and_wait(&client.session_id(), "hello");
    expected["sessions"] = json!(1);
    expected["connections"] = json!(1);
    let mut now = health();
    assert!(now["agentVersion"].is_string(), "{now}");
    now["agentVersion"] = Value::Null;
    assert_eq!(now, expected);
}

#[test]
fn the_page_is_served_with_headers_that_keep_it_safe() {
    let server = server();
    let page = server.http("GET", "/", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=UTF-8")));
    for (name, value) in
        [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer"), ("connection", "close")]
    {
        assert_eq!(page.header(name), Some(value), "{name}");
    }
    assert!(page.header("content-security-policy").is_some_and(|policy| policy.contains("frame-ancestors 'none'")));
    // Whether or not the build had npm's packages for the page: nothing of another version is shown.
    assert!(matches!(page.header("cache-control"), Some("no-cache" | "no-store")));
    assert!(page.header("set-cookie").is_none());
    assert!(!page.text().contains(&server.token()), "the page never holds the token");
}

#[test]
fn engine_io_refuses_in_json() {
    let server = server();
    let check = |method: &str, query: &str, code: u64, message: &str| {
        let answer = server.http(method, &format!("/socket.io/{query}"), &[("Content-Length", "0")]);
        assert_eq!(answer.status, 400, "{method} {query}");
        let expected = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        assert_eq!((answer.text(), answer.header("content-type")), (expected, Some("application/json")), "{query}");
    };
    for query in [
        "",
        "?",
        "?EIO=4",
        "?EIO=4&transport=",
        "?EIO=4&transport=foo",
        "?transport=constructor",
        "?transport=__proto__",
        "?EIO=4&transport=WebSocket",
        "?EIO=4&transport=websocket2",
    ] {
        check("GET", query, 0, "Transport unknown");
    }
    let long = format!("?EIO=4&transport=websocket&sid={}", "x".repeat(5000));
    for query in ["?EIO=4&transport=websocket&sid=x", "?EIO=4&transport=websocket&sid=", &long] {
        check("GET", query, 1, "Session ID unknown");
    }
    for method in ["POST", "OPTIONS", "PUT"] {
        check(method, "?EIO=4&transport=websocket", 2, "Bad handshake method");
    }
    check("GET", "?EIO=4&transport=websocket", 3, "Bad request");
    check("GET", "?EIO=3&transport=websocket", 3, "Bad request");
}

#[test]
fn an_upgrade_is_refused_as_the_reference_server_does() {
    let server = server();
    let check = |path: &str, headers: &[(&str, &str)], status: u16, body: &str| {
        let mut all = vec![
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| other == name));
        all.extend(headers.iter().filter(|(_, value)| !value.is_empty()));
        let answer = server.http("GET", path, &all);
        assert_eq!((answer.status, answer.text().as_str()), (status, body), "{path} {headers:?}");
        assert_eq!(answer.header("connection"), Some(if status == 101 { "Upgrade" } else { "close" }));
        answer
    };
    let sample = check(PATH, &[], 101, "");
    assert_eq!(sample.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let offered = [("Sec-WebSocket-Extensions", "permessage-deflate"), ("Sec-WebSocket-Protocol", "chat")];
    let plain = check(PATH, &offered, 101, "");
    assert!(plain.header("sec-websocket-extensions").is_none() && plain.header("sec-websocket-protocol").is_none());
    check(PATH, &[("Connection", "keep-alive, Upgrade")], 101, "");
    check("/socket.io?EIO=4&transport=websocket", &[], 101, "");
    check("/socket.io/?transport=websocket&t=x&EIO=4&EIO=3", &[], 101, "");
    check("/socket.io/?EIO=3&transport=websocket", &[], 400, "Unsupported protocol version");
    check("/socket.io/?transport=websocket", &[], 400, "Unsupported protocol version");
    check("/socket.io/?EIO=44&transport=websocket", &[], 400, "Unsupported protocol version");
    check("/socket.io/?EIO=4&transport=foo", &[], 400, "Transport unknown");
    check("/socket.io/?EIO=4&transport=websocket&sid=x", &[], 400, "Session ID unknown");
    for key in ["", "x", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZSE=====", "c2hvcnQ="] {
        check(PATH, &[("Sec-WebSocket-Key", key)], 400, "Bad Request");
    }
    check(PATH, &[("Connection", "close")], 400, "Bad Request");
    for version in ["", "8", "12", "130"] {
        let answer = check(PATH, &[("Sec-WebSocket-Version", version)], 426, "Upgrade Required");
        assert_eq!(answer.header("sec-websocket-version"), Some("13"));
    }
}

#[test]
fn bad_heads_are_refused() {
    let server = server();
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(100));
    let fits = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(99));
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(8200));
    let endless_line = "x".repeat(20_000);
    let long_head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(17_000));
    let full_head = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "y".repeat(16_000));
    let cases: &[(&str, u16)] = &[
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        (&fits, 200),
        (&full_head, 200),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: \r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: localhost\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n: b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("G\0T / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET /\r\n\r\n", 400),
        ("\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00", 400),
        (&long_line, 414),
        (&endless_line, 414),
        (&long_head, 431),
        (&many, 431),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5,5\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 18446744073709551616\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: localhost\r\n\r\n", 411),
    ];
    for (request, expected) in cases {
        let shown = &request[..request.len().min(80)];
        assert_eq!(status(&server, request.as_bytes()), *expected, "{shown:?}");
    }
    assert_eq!(server.http("GET", "/health", &[]).status, 200);
}

#[test]
fn paths_and_methods() {
    let server = server();
    for path in [
        "/nothing",
        "/health/",
        "/Health",
        "//",
        "/../etc/passwd",
        "/..%5c..%5c",
        "/%2e%2e%2f",
        "/socket.iox",
        "/.env",
        "/index.html",
        "/api/sessions",
        "/metrics",
        "/socket%2eio/?EIO=4&transport=websocket",
    ] {
        let answer = server.http("GET", path, &[]);
        assert_eq!((answer.status, answer.text().as_str()), (404, "Not Found\n"), "{path}");
    }
    assert_eq!(server.http("GET", "/health?x=1", &[]).status, 200);
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "get", "BREW"] {
        for path in ["/", "/health"] {
            let answer = server.http(method, path, &[("Content-Length", "0")]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    let with_body = http(server.port, "POST", "/", &[], b"some body");
    assert_eq!(with_body.status, 405);
}

#[test]
fn head_is_get_without_a_body() {
    let server = server();
    for path in ["/", "/health", "/nothing"] {
        let (get, head) = (server.http("GET", path, &[]), headers_only(&server, path));
        assert_eq!(head.0, get.status, "{path}");
        assert_eq!(head.1.as_deref(), get.header("content-length"), "{path}");
    }
}

/// The answer to HEAD: its status and the length that it names. It must end with its head.
fn headers_only(server: &Server, path: &str) -> (u16, Option<String>) {
    let request = format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut stream = connect(server);
    stream.write_all(request.as_bytes()).expect("written");
    let answer = std::io::read_to_string(stream).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, "");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).map(str::to_owned);
    (head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status"), length)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server takes connections");
    stream.set_read_timeout(Some(DEADLINE)).expect("a live socket");
    stream
}

#[test]
fn one_connection_serves_several_requests() {
    let server = server();
    let mut stream = connect(&server);
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let get = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    // One after the other, in pieces, and all at once.
    for path in ["/health", "/", "/nothing"] {
        let request = get(path, "");
        let (front, back) = request.split_at(9);
        stream.write_all(front.as_bytes()).expect("written");
        stream.write_all(back.as_bytes()).expect("written");
        let answer = read_answer(&mut reader).expect("an answer");
        assert_eq!((answer.status == 404, answer.header("connection")), (path == "/nothing", Some("keep-alive")));
    }
    let refused = get("/socket.io/?transport=polling", "");
    let all = [get("/health", ""), refused, get("/health", "Connection: close\r\n")].concat();
    stream.write_all(all.as_bytes()).expect("written");
    let statuses: Vec<u16> = (0..3).map(|_| read_answer(&mut reader).expect("an answer").status).collect();
    assert_eq!(statuses, [200, 400, 200]);
    assert_eq!(std::io::read_to_string(reader).expect("the end"), "", "closed, as asked");
    // A request whose body is not read cannot be followed by another.
    let mut stream = connect(&server);
    let body = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nabcd{}", get("/", ""));
    stream.write_all(body.as_bytes()).expect("written");
    let mut reader = BufReader::new(stream);
    assert_eq!(read_answer(&mut reader).expect("an answer").header("connection"), Some("close"));
}

#[test]
fn a_connection_may_become_a_websocket_after_other_requests() {
    let server = server();
    let mut stream = connect(&server);
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("written");
    assert_eq!(read_answer(&mut reader).expect("an answer").status, 200);
    stream.write_all(&frames::handshake()).expect("written");
    assert_eq!(read_answer(&mut reader).expect("an answer").status, 101);
    assert!(frames::read_text(&mut reader).starts_with("0{"));
}

#[test]
fn there_are_only_so_many_connections() {
    let server = builder().arg("--max-connections=3").start();
    let open: Vec<Client> = (0..3).map(|_| server.connect(json!({}))).collect();
    assert_eq!(server.http("GET", "/health", &[]).status, 503);
    drop(open);
    crate::support::processes::eventually("room again", DEADLINE, || server.http("GET", "/health", &[]).status == 200);
}

#[test]
fn sockets_that_are_about_to_end_keep_nobody_out() {
    let server = builder().arg("--max-connections=1").start();
    let statuses: Vec<u16> = (0..200).map(|_| server.http("GET", "/health", &[]).status).collect();
    assert_eq!(statuses, [200; 200]);
}

#[test]
fn clients_that_poll_count_without_a_socket_of_their_own() {
    let server = builder().arg("--max-connections=4").start();
    let open = || server.http("GET", "/socket.io/?EIO=4&transport=polling", &[]);
    let connect = format!("40{}", json!({"token": server.token()}));
    for _ in 0..4 {
        let open: Value = serde_json::from_str(&open().text()[1..]).expect("an open packet");
        let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("a sid"));
        assert_eq!(http(server.port, "POST", &target, &[], connect.as_bytes()).text(), "ok");
    }
    assert_eq!(open().status, 503);
    let websocket = Client::open(server.port, &[]).err().expect("refused as well");
    assert_eq!(websocket.status, 503, "{}", websocket.text());
    assert_eq!(server.http("GET", "/health", &[]).json()["connections"], 4);
}

#[test]
fn sockets_that_say_nothing_keep_nobody_out() {
    let server = builder().arg("--max-connections=5").start();
    let client = server.connect(json!({}));
    let mut silent: Vec<TcpStream> = (0..20).map(|_| connect(&server)).collect();
    assert_eq!(server.http("GET", "/health", &[]).json()["connections"], 1);
    let other = server.connect(json!({}));
    for client in [&client, &other] {
        client.must("listSessions", json!({}));
    }
    // The oldest had to go; what has just come may still say something.
    assert_eq!(std::io::Read::read(&mut silent[0], &mut [0]).expect("its end"), 0);
}
