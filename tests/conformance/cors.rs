//! Which pages of other origins may read answers.

use crate::support::client::{HttpAnswer, http};
use crate::wire::{Echo, Frame, UPGRADE, Ws, assert_json, case};

const PAGE: &str = "http://page.example";
const OPEN: &str = "EIO=4&transport=polling";
const NAMES: [&str; 5] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "vary",
    "access-control-allow-methods",
    "access-control-allow-headers",
];
const METHODS: Option<&str> = Some("GET,HEAD,PUT,PATCH,POST,DELETE");

fn headers(answer: &HttpAnswer) -> [Option<&str>; 5] {
    NAMES.map(|name| answer.header(name))
}

fn check(
    name: &str,
    echo: &Echo,
    method: &str,
    query: &str,
    asked: &[(&str, &str)],
    status: u16,
    want: [Option<&str>; 5],
) {
    case(name, || {
        let answer = http(echo.port, method, &echo.target(query), asked, b"");
        assert_eq!((answer.status, headers(&answer)), (status, want));
        if status == 403 {
            assert_json(&answer, 403, 4, "Forbidden");
        }
    });
}

#[test]
fn any_origin() {
    let echo = Echo::socketio();
    let any = [Some("*"), None, None, None, None];
    let asks = ("Access-Control-Request-Headers", "x-a, x-b");
    let page = ("Origin", PAGE);
    check("a page", &echo, "GET", OPEN, &[page], 200, any);
    check("no page", &echo, "GET", OPEN, &[], 200, [None; 5]);
    check("a refusal can be read", &echo, "GET", "EIO=3&transport=polling", &[page], 400, any);
    check("preflight", &echo, "OPTIONS", OPEN, &[page], 204, [Some("*"), None, None, METHODS, None]);
    let with_headers = [Some("*"), None, None, METHODS, Some("x-a, x-b")];
    check("preflight with headers", &echo, "OPTIONS", OPEN, &[page, asks], 204, with_headers);
    check("preflight without a transport", &echo, "OPTIONS", "", &[page, asks], 204, with_headers);
    check("the opaque origin", &echo, "GET", OPEN, &[("Origin", "null")], 403, [None; 5]);
}

#[test]
fn one_origin_with_credentials() {
    let echo = Echo::start(&["--origin", PAGE]);
    let named = [Some(PAGE), Some("true"), Some("Origin"), None, None];
    let preflight = [Some(PAGE), Some("true"), Some("Origin"), METHODS, Some("x-a")];
    let page = ("Origin", PAGE);
    let asks = ("Access-Control-Request-Headers", "x-a");
    let other = ("Origin", "http://other.example");
    check("that page", &echo, "GET", OPEN, &[page], 200, named);
    check("that page is refused", &echo, "GET", "EIO=4", &[page], 400, named);
    check("its preflight", &echo, "OPTIONS", OPEN, &[page, asks], 204, preflight);
    check("another page", &echo, "GET", OPEN, &[other], 403, [None; 5]);
    check("another page's preflight", &echo, "OPTIONS", OPEN, &[other, asks], 403, [None; 5]);
    check("another port", &echo, "GET", OPEN, &[("Origin", "http://page.example:81")], 403, [None; 5]);
    check("another scheme", &echo, "GET", OPEN, &[("Origin", "https://page.example")], 403, [None; 5]);
}

#[test]
fn no_origin() {
    let echo = Echo::start(&["--origin", "none"]);
    check("no page", &echo, "GET", OPEN, &[], 200, [None; 5]);
    check("a page", &echo, "GET", OPEN, &[("Origin", PAGE)], 403, [None; 5]);
    case("a page's WebSocket", || {
        let asked = format!("Origin: {PAGE}\r\n{UPGRADE}");
        let (answer, mut ws) = Ws::ask(echo.port, &echo.target("EIO=4&transport=websocket"), &asked, b"");
        assert_eq!((answer.status, answer.text().as_str()), (403, "Forbidden"));
        assert_eq!((answer.header("content-type"), ws.next()), (Some("text/html"), Frame::End));
    });
    case("an Origin that is none", || {
        let answer = http(echo.port, "GET", &echo.target(OPEN), &[("Origin", "http://a b")], b"");
        assert_json(&answer, 400, 3, "Bad request");
    });
    case("OPTIONS is no handshake", || {
        assert_json(&http(echo.port, "OPTIONS", &echo.target(OPEN), &[], b""), 400, 2, "Bad handshake method");
    });
}
