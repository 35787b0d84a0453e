//! Host and Origin, on every way in.

use serde_json::json;

use super::{builder, server};
use crate::support::{
    client::{Client, HttpAnswer},
    server::Server,
};

/// The status with these headers on the page, on `/health`, in polling, and on the upgrade with a valid token.
fn statuses(server: &Server, headers: &[(&str, &str)]) -> [u16; 4] {
    let bearer = format!("Bearer {}", server.token());
    let with_token = [headers, &[("Authorization", bearer.as_str())]].concat();
    let upgrade = match Client::open(server.port, &with_token) {
        Ok(mut client) => {
            client.send_connect(&json!({})).expect("the token is right");
            101
        }
        Err(HttpAnswer { status, body, .. }) => {
            assert_eq!(String::from_utf8_lossy(&body), if status == 403 { "Forbidden" } else { "Bad request" });
            status
        }
    };
    let polling = "/socket.io/?EIO=4&transport=polling";
    let plain = ["/", "/health", polling].map(|path| {
        let answer = server.http("GET", path, headers);
        if answer.status == 403 {
            let body = if path == polling { r#"{"code":4,"message":"Forbidden"}"# } else { "Forbidden\n" };
            assert_eq!(answer.text(), body, "a constant body");
        }
        // Neither the page nor health is for pages of other origins; Engine.IO is, for those that are let in.
        let shared = path == polling && answer.status == 200;
        assert!(shared || answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{headers:?}");
        answer.status
    });
    [plain[0], plain[1], plain[2], upgrade]
}

const SERVED: [u16; 4] = [200, 200, 200, 101];

fn check(server: &Server, headers: &[(&str, &str)], status: u16) {
    let expected = if status == 200 { SERVED } else { [status; 4] };
    assert_eq!(statuses(server, headers), expected, "{headers:?}");
}

#[test]
fn hosts() {
    let server = server();
    let port = server.port;
    for (host, status) in [
        ("localhost", 200),
        (&format!("localhost:{port}"), 200),
        (&format!("127.0.0.1:{port}"), 200),
        ("LOCALHOST:1", 200),
        ("[::1]:9", 200),
        ("127.9.9.9", 200),
        ("evil.com", 403),
        (&format!("evil.com:{port}"), 403),
        ("localhost.evil.com", 403),
        ("127.0.0.1.evil.com", 403),
        ("evil.localhost", 403),
        ("0.0.0.0", 403),
        ("10.0.0.1", 403),
        ("localhost@evil.com", 400),
        ("localhost:99999", 400),
        ("localhost:x", 400),
        ("[::1", 400),
        ("a/b", 400),
    ] {
        check(&server, &[("Host", host)], status);
    }
    assert!(server.wait_log("evil.com").contains("--allow-host evil.com"));
}

#[test]
fn origins() {
    let server = server();
    let port = server.port;
    let host = format!("localhost:{port}");
    for (origin, status) in [
        (format!("http://localhost:{port}"), 200),
        (format!("HTTP://LOCALHOST:{port}"), 200),
        ("http://evil.com".to_owned(), 403),
        (format!("http://evil.com:{port}"), 403),
        ("null".to_owned(), 403),
        ("http://localhost".to_owned(), 403),
        ("http://localhost:1".to_owned(), 403),
        (format!("https://localhost:{port}"), 403),
        (format!("http://127.0.0.1:{port}"), 403),
        (format!("http://localhost:{port}.evil.com"), 400),
        (format!("http://localhost:{port}@evil.com"), 400),
        ("file://".to_owned(), 400),
        (String::new(), 400),
    ] {
        check(&server, &[("Host", &host), ("Origin", &origin)], status);
    }
    assert!(server.wait_log("http://evil.com").contains("--cors-origin http://evil.com"));
}

#[test]
fn more_hosts_and_origins_can_be_allowed() {
    let args = ["--allow-host=my.box", "--cors-origin=http://app.example:8080", "--cors-origin=https://b.example"];
    let server = builder().args(args).arg("--public-url=https://claude.example/prefix").start();
    let port = server.port;
    for (host, origin, status) in [
        ("my.box:80", "http://my.box", 200),
        ("MY.BOX", "http://my.box:80", 200),
        ("claude.example", "https://claude.example", 200),
        ("localhost", "https://claude.example:443", 200),
        ("localhost", "http://app.example:8080", 200),
        ("localhost", "https://b.example", 200),
        ("localhost", "http://app.example", 403),
        ("localhost", "http://b.example", 403),
        ("app.example:8080", "http://app.example:8080", 403),
        ("your.box", "http://your.box", 403),
    ] {
        check(&server, &[("Host", host), ("Origin", origin)], status);
    }
    check(&server, &[("Host", &format!("my.box:{port}"))], 200);
    let open = builder().arg("--cors-origin=*").start();
    check(&open, &[("Origin", "http://any.example")], 200);
    check(&open, &[("Origin", "null")], 403);
    check(&open, &[("Host", "any.example")], 403);
}

#[test]
fn a_refused_preflight_tells_a_foreign_page_nothing() {
    let server = server();
    for path in ["/", "/health", "/socket.io/?EIO=4&transport=polling"] {
        let headers = [("Origin", "http://evil.com"), ("Access-Control-Request-Method", "GET")];
        let answer = server.http("OPTIONS", path, &headers);
        assert_eq!(answer.status, 403, "{path}");
        assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control")), "{path}");
    }
}

#[test]
fn a_refusal_in_the_log_is_one_line_whatever_was_sent() {
    let server = server();
    let long = "x".repeat(4000);
    for origin in ["http://evil.com/\u{1b}[2J", "http://\u{202e}evil.com", &long] {
        let answer = server.http("GET", "/", &[("Origin", origin)]);
        assert!([400, 403].contains(&answer.status), "{origin:?}: {}", answer.status);
    }
    server.http("GET", "/", &[("Host", "last.example")]);
    server.wait_log("last.example");
    let log = server.stderr_text();
    assert!(!log.contains('\u{1b}') && !log.contains('\u{202e}'), "{log:?}");
}
