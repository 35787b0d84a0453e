//! Messages both ways over both transports: Engine.IO alone, and Socket.IO's events, acknowledgements and namespaces.

use std::io::{BufReader, Write};
use std::thread;
use std::time::Instant;

use claude_session_manager::net::HEAD_TIMEOUT;

use crate::support::client::{http, http_raw, read_answer};
use crate::wire::{
    Echo, Link, Packet, Poller, TRANSPORTS, Transport, assert_json, binary, case, packets, payload, text,
};

const MAX_PAYLOAD: usize = 1_000_000;

#[test]
fn engineio_echoes() {
    let echo = Echo::engineio();
    let check = |name: &str, sent: &[Packet]| {
        for transport in TRANSPORTS {
            case(name, || {
                let mut link = Link::open(&echo, transport);
                link.send(sent);
                link.expect(sent);
            });
        }
    };
    check("a text", &[text("4hello")]);
    check("an empty text", &[text("4")]);
    check("more than ASCII", &[text("4\u{e9}\u{20ac}\u{1f600}\u{0}")]);
    check("JSON and line ends", &[text("4{\"a\":\"b\\n\"}\r\n\n")]);
    check("bytes", &[binary(&[0, 1, 2, 253, 254, 255])]);
    check("no bytes", &[binary(b"")]);
    check("one byte", &[binary(b"\x04")]);
    check("two bytes", &[binary(b"ab")]);
    check("all bytes", &[binary(&(0..=255).collect::<Vec<u8>>())]);
    check("several texts", &[text("4a"), text("4b"), text("4c")]);
    check("texts and bytes", &[text("4a"), binary(b"1"), binary(b"2"), text("4b"), binary(b"")]);
    for length in [125, 126, 127, 65_534, 65_535, 65_536, MAX_PAYLOAD - 1] {
        check("a long text", &[text(&format!("4{}", "x".repeat(length)))]);
    }
    check("many bytes", &[binary(&vec![9; 700_000])]);
    let hundred: Vec<Packet> = (0..100).map(|number| text(&format!("4{number}"))).collect();
    check("more than one payload holds", &hundred);
}

#[test]
fn packets_that_mean_nothing_are_ignored() {
    for (echo, hello) in [(Echo::engineio(), "4x"), (Echo::socketio(), "42[\"message-with-ack\"]")] {
        for ignored in ["0", "0{}", "3", "3probe", "6", "6x", "5"] {
            for transport in TRANSPORTS {
                case(ignored, || {
                    let mut link = Link::open(&echo, transport);
                    if hello != "4x" {
                        link.join("/");
                    }
                    link.send(&[text(ignored)]);
                    let (hello, answer) =
                        if hello == "4x" { (hello, hello) } else { ("421[\"message-with-ack\"]", "431[]") };
                    link.send(&[text(hello)]);
                    link.expect(&[text(answer)]);
                });
            }
        }
    }
}

#[test]
fn payloads() {
    let echo = Echo::engineio();
    case("a payload has no more than it may", || {
        let poller = Poller::open(&echo);
        let (mut sent, mut came) = (Vec::new(), Vec::new());
        for number in 0..7 {
            let packet = if number % 3 == 2 {
                binary(&vec![number; 300_000])
            } else {
                text(&format!("4{number}{}", "x".repeat(400_000)))
            };
            assert_eq!(poller.post(&payload(std::slice::from_ref(&packet))).text(), "ok");
            sent.push(packet);
        }
        while came.len() < sent.len() {
            let answer = poller.get();
            assert!(answer.status == 200 && answer.body.len() <= MAX_PAYLOAD, "{} bytes", answer.body.len());
            came.extend(packets(&answer.text()));
        }
        assert!(came == sent, "the same in the same order");
    });
    case("what fits comes in one payload, binary as b and base64", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(b"4a\x1ebAQIDBA==\x1e4b\x1eb").text(), "ok");
        assert_eq!(poller.get().text(), "4a\x1ebAQIDBA==\x1e4b\x1eb");
    });
    case("no more than 16 packets in one payload", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(["4"; 40].join("\x1e").as_bytes()).text(), "ok");
        let counts: Vec<usize> = (0..3).map(|_| packets(&poller.get().text()).len()).collect();
        assert_eq!(counts, [16, 16, 8]);
    });
    case("a poll's answer", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(b"4\xe2\x82\xac").text(), "ok");
        let answer = poller.get();
        assert_eq!((answer.status, answer.text().as_str()), (200, "4\u{20ac}"));
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=UTF-8"));
        assert_eq!((answer.header("content-length"), answer.header("cache-control")), (Some("4"), Some("no-store")));
    });
    case("a POST's answer", || {
        let answer = Poller::open(&echo).post(b"4a");
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(answer.header("content-type").map(|kind| &kind[..9]), Some("text/html"));
    });
    case("a chunked POST", || {
        let poller = Poller::open(&echo);
        let body = b"2\r\n4a\r\n3;x=y\r\n\x1e4b\r\n0\r\n\r\n";
        let answer = http(
            poller.port,
            "POST",
            &poller.target,
            &[("Transfer-Encoding", "chunked"), ("Content-Length", "")],
            body,
        );
        assert_eq!(answer.status, 400, "with an empty length beside it");
        let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", poller.target);
        let answer = http_raw(poller.port, &[head.as_bytes(), body].concat());
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        assert_eq!(poller.get().text(), "4a\x1e4b");
    });
    case("two requests on one connection", || {
        let poller = Poller::open(&echo);
        let head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n4a", poller.target);
        let get = format!("GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", poller.target);
        let mut stream =
            std::io::BufReader::new(std::net::TcpStream::connect(("127.0.0.1", poller.port)).expect("connected"));
        std::io::Write::write_all(stream.get_mut(), (head + &get).as_bytes()).expect("sent");
        let mut answer = || crate::support::client::read_answer(&mut stream).expect("an answer");
        assert_eq!((answer().text().as_str(), answer().text().as_str()), ("ok", "4a"));
    });
}

#[test]
fn a_body_may_come_slowly() {
    let echo = Echo::socketio();
    case("slower than a head may, from a client that is accepted", || {
        let mut link = Link::connect(&echo, Transport::Polling);
        let Link::Polling(poller) = &mut link else { panic!("a poller") };
        let body = format!("42[\"message\",\"{}\"]", "x".repeat(110));
        let mut stream = BufReader::new(poller.request("POST", &format!("Content-Length: {}\r\n", body.len())));
        let begun = Instant::now();
        for byte in body.as_bytes() {
            stream.get_mut().write_all(&[*byte]).expect("taken");
            thread::sleep((HEAD_TIMEOUT + HEAD_TIMEOUT / 10) / u32::try_from(body.len()).expect("few"));
        }
        assert!(begun.elapsed() > HEAD_TIMEOUT);
        assert_eq!(read_answer(&mut stream).expect("an answer").text(), "ok");
        link.expect(&[text(&body.replacen("message", "message-back", 1))]);
    });
}

#[test]
fn bodies_that_are_refused() {
    let echo = Echo::engineio();
    // Whether the connection is over.
    let check = |name: &str, headers: &str, body: &[u8], status: u16, over: bool| {
        case(name, || {
            let poller = Poller::open(&echo);
            let length = if headers.contains("LENGTH") { "" } else { &format!("Content-Length: {}\r\n", body.len()) };
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\n{length}{}\r\n",
                poller.target,
                headers.replace("LENGTH", "")
            );
            let answer = http_raw(poller.port, &[head.as_bytes(), body].concat());
            assert_eq!(answer.status, status);
            if over {
                assert_json(&answer, 400, 3, "Bad request");
                poller.gone();
            } else {
                assert_eq!((poller.post(b"4a").text().as_str(), poller.get().text().as_str()), ("ok", "4a"));
            }
        });
    };
    check("no packet", "", b"abc", 400, true);
    check("a bad packet behind a good one", "", b"4a\x1eabc", 400, true);
    check("an unknown type", "", b"7", 400, true);
    check("nothing", "", b"", 400, true);
    check("an empty packet", "", b"4a\x1e", 400, true);
    check("bad base64", "", b"b!!!!", 400, true);
    check("base64 cut off", "", b"bAQI", 400, true);
    check("base64 of URLs", "", b"b-_8=", 400, true);
    check("not UTF-8", "", b"4\xff", 400, true);
    check("octets", "Content-Type: application/octet-stream\r\n", b"4a", 400, true);
    check("too many packets", "", &b"6\x1e".repeat(10_000), 400, true);
    check("as many packets as may be, and one more", "", ["6"; 10_001].join("\x1e").as_bytes(), 400, true);
    check("too long", "", &vec![b'4'; MAX_PAYLOAD + 1], 413, false);
    check("far too long, by what it says", "LENGTHContent-Length: 99999999999\r\n", b"", 413, false);
    check("no length", "LENGTH", b"", 411, false);
    check("too long in chunks", "LENGTHTransfer-Encoding: chunked\r\n", b"F4241\r\n", 413, false);
    check("an overflowing chunk", "LENGTHTransfer-Encoding: chunked\r\n", b"FFFFFFFFFFFFFFFF\r\n", 413, false);
    check("a bad chunk", "LENGTHTransfer-Encoding: chunked\r\n", b"x\r\n", 400, false);
    check("length and chunks", "Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", 400, false);
    check("two lengths", "LENGTHContent-Length: 2\r\nContent-Length: 3\r\n", b"4a", 400, false);
    check("a length with a sign", "LENGTHContent-Length: +2\r\n", b"4a", 400, false);
    check("another coding", "LENGTHTransfer-Encoding: gzip\r\n", b"4a", 400, false);
    case("too long, from a client that sends all of it before it reads", || {
        let poller = Poller::open(&echo);
        let answer = poller.post_all(&vec![b'4'; 3 * MAX_PAYLOAD]);
        assert_eq!((answer.status, poller.post(b"4a").text().as_str()), (413, "ok"));
    });
    case("as many packets as may be", || {
        assert_eq!(Poller::open(&echo).post(["6"; 10_000].join("\x1e").as_bytes()).status, 200);
    });
}

#[test]
fn connecting() {
    let echo = Echo::socketio();
    let check = |name: &str, sent: &str, answer: &str, then: &[&str]| {
        for transport in TRANSPORTS {
            case(name, || {
                let mut link = Link::open(&echo, transport);
                link.send(&[text(sent)]);
                let came = link.next_text();
                if let Some((before, after)) = answer.split_once("SID") {
                    let sid = came.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                    assert_eq!(sid.map(str::len), Some(20), "{came}");
                } else {
                    assert_eq!(came, answer);
                }
                link.expect(&then.iter().map(|then| text(then)).collect::<Vec<_>>());
                // It goes on, whatever the answer was.
                link.send(&[text(if sent.starts_with("40/custom") || sent.starts_with("40/n") {
                    "40"
                } else {
                    "40/custom,"
                })]);
                assert!(link.next_text().contains("\"sid\""));
            });
        }
    };
    check("without auth", "40", "40{\"sid\":\"SID\"}", &["42[\"auth\",{}]"]);
    check("with empty auth", "40{}", "40{\"sid\":\"SID\"}", &["42[\"auth\",{}]"]);
    check(
        "with auth",
        "40{\"token\":\"123\",\"n\":[1]}",
        "40{\"sid\":\"SID\"}",
        &["42[\"auth\",{\"token\":\"123\",\"n\":[1]}]"],
    );
    check("to a namespace", "40/custom,", "40/custom,{\"sid\":\"SID\"}", &["42/custom,[\"auth\",{}]"]);
    check("to a namespace without its comma", "40/custom", "40/custom,{\"sid\":\"SID\"}", &["42/custom,[\"auth\",{}]"]);
    check(
        "to a namespace with auth",
        "40/custom,{\"a\":\"b\"}",
        "40/custom,{\"sid\":\"SID\"}",
        &["42/custom,[\"auth\",{\"a\":\"b\"}]"],
    );
    check("to a namespace with a query", "40/custom?a=b,", "40/custom,{\"sid\":\"SID\"}", &["42/custom,[\"auth\",{}]"]);
    check("to an unknown namespace", "40/nope,", "44/nope,{\"message\":\"Invalid namespace\"}", &[]);
    check("to an unknown namespace without its comma", "40/nope", "44/nope,{\"message\":\"Invalid namespace\"}", &[]);
    check("to an unknown namespace with auth", "40/nope,{\"a\":1}", "44/nope,{\"message\":\"Invalid namespace\"}", &[]);
    for transport in TRANSPORTS {
        case("each namespace has its own id, and none is the transport's", || {
            let mut link = Link::open(&echo, transport);
            let (main, custom) = (link.join("/"), link.join("/custom"));
            assert_ne!(main, custom);
            if let Link::Polling(poller) = &link {
                assert!(poller.sid != main && poller.sid != custom);
            }
        });
        case("events stay in their namespace", || {
            let mut link = Link::connect(&echo, transport);
            link.join("/custom");
            link.send(&[
                text("42/custom,[\"message\",1]"),
                text("42[\"message\",2]"),
                text("42/custom,[\"message\",3]"),
            ]);
            link.expect(&[
                text("42/custom,[\"message-back\",1]"),
                text("42[\"message-back\",2]"),
                text("42/custom,[\"message-back\",3]"),
            ]);
        });
    }
}

const P0: &str = "{\"_placeholder\":true,\"num\":0}";
const P1: &str = "{\"_placeholder\":true,\"num\":1}";

#[test]
fn events_and_acknowledgements() {
    let echo = Echo::socketio();
    let check = |name: &str, sent: &[Packet], came: &[Packet]| {
        for transport in TRANSPORTS {
            case(name, || {
                let mut link = Link::connect(&echo, transport);
                link.send(sent);
                link.expect(came);
                // Nothing else comes before this.
                link.send(&[text("4299[\"message-with-ack\"]")]);
                link.expect(&[text("4399[]")]);
            });
        }
    };
    for args in [
        "",
        ",1",
        ",\"a\"",
        ",null",
        ",1,\"2\",{\"3\":[true]}",
        ",-1.5,1e-7",
        ",{\"z\":2,\"a\":{\"y\":[{\"c\":1,\"b\":2}],\"x\":0}}",
        ",{\"10\":1,\"9\":2,\"\":3}",
        ",\"\\u0000\u{1f600}\"",
        ",[]",
        ",{\"message\":[[[]]]}",
    ] {
        let list = args.trim_start_matches(',');
        check("an event", &[text(&format!("42[\"message\"{args}]"))], &[text(&format!("42[\"message-back\"{args}]"))]);
        check(
            "an acknowledgement",
            &[text(&format!("42456[\"message-with-ack\"{args}]"))],
            &[text(&format!("43456[{list}]"))],
        );
    }
    check("ids from 0", &[text("420[\"message-with-ack\"]")], &[text("430[]")]);
    check("a large id", &[text("429007199254740991[\"message-with-ack\",1]")], &[text("439007199254740991[1]")]);
    check("no handler, no answer", &[text("421[\"unheard-of\",1]")], &[]);
    check("a number for a name", &[text("42[1,2]")], &[]);
    check("no acknowledgement unless asked", &[text("42[\"message-with-ack\",1]")], &[]);
    check("an acknowledgement of nothing", &[text("43123[1]")], &[]);
    check("a name that is only like a reserved one", &[text("42[\"Connect\"]"), text("42[\"reconnect\"]")], &[]);
    // The reference server takes these: the client is not cut off, though here they have no value to send back.
    for bad in ["1e400", "\"\\ud800\"", "{\"a\":[\"\\udc00\"]}"] {
        check("a value that is none here", &[text(&format!("421[\"message-with-ack\",{bad}]"))], &[]);
        let with_bytes = text(&format!("451-[\"message\",{bad},{P0}]"));
        check("beside an attachment", &[with_bytes, binary(b"x")], &[]);
    }
    check("white space", &[text("42[ \"message\" , 1 ]")], &[text("42[\"message-back\",1]")]);
    check(
        "several at once",
        &[text("42[\"message\",1]"), text("427[\"message-with-ack\",2]"), text("42[\"message\",3]")],
        &[text("42[\"message-back\",1]"), text("437[2]"), text("42[\"message-back\",3]")],
    );
    // Attachments follow their packet in order.
    let rows: [(&str, String, usize); 7] = [
        ("one attachment", P0.into(), 1),
        ("behind a text", format!("\"a\",{P0}"), 1),
        ("in front of a text", format!("{P0},\"a\""), 1),
        ("deep inside", format!("{{\"a\":[1,{{\"b\":{P0}}}]}},[[{P1}]]"), 2),
        ("in another order", format!("{P1},{P0}"), 2),
        ("one twice", format!("{P0},{P0},{P1}"), 2),
        ("ten", (0..10).map(|num| P0.replace('0', &num.to_string())).collect::<Vec<_>>().join(","), 10),
    ];
    for (name, args, count) in rows {
        let attachments: Vec<Packet> =
            (0..count).map(|number| binary(&vec![u8::try_from(number).expect("few"); number])).collect();
        let with = |packet: String| [vec![text(&packet)], attachments.clone()].concat();
        check(
            name,
            &with(format!("45{count}-[\"message\",{args}]")),
            &with(format!("45{count}-[\"message-back\",{args}]")),
        );
        check(
            name,
            &with(format!("45{count}-12[\"message-with-ack\",{args}]")),
            &with(format!("46{count}-12[{args}]")),
        );
    }
    check("an announcement of none", &[text("450-[\"message\",1]")], &[text("42[\"message-back\",1]")]);
    check("a binary acknowledgement of nothing", &[text(&format!("461-5[{P0}]")), binary(b"x")], &[]);
}

#[test]
fn the_server_asks_for_acknowledgements() {
    let echo = Echo::socketio();
    for transport in TRANSPORTS {
        case("ids count from 0 in each namespace, text and binary", || {
            let mut link = Link::connect(&echo, transport);
            link.join("/custom");
            for id in 0..3 {
                link.send(&[text("42[\"emit-with-ack\",1,\"a\"]")]);
                link.expect(&[text(&format!("42{id}[\"with-ack\",1,\"a\"]"))]);
                link.send(&[text(&format!("43{id}[\"yes\",{id}]"))]);
                link.expect(&[text(&format!("42[\"ack-back\",\"yes\",{id}]"))]);
            }
            link.send(&[text("42/custom,[\"emit-with-ack\"]")]);
            link.expect(&[text("42/custom,0[\"with-ack\"]")]);
            link.send(&[text("43/custom,0[]")]);
            link.expect(&[text("42/custom,[\"ack-back\"]")]);
            let bytes = [binary(b"\x00\xff"), binary(b"")];
            let with = |packet: &str| [vec![text(packet)], bytes.to_vec()].concat();
            link.send(&with(&format!("452-[\"emit-with-ack\",{P0},{P1}]")));
            link.expect(&with(&format!("452-3[\"with-ack\",{P0},{P1}]")));
            link.send(&with(&format!("462-3[{P1},{P0}]")));
            link.expect(&with(&format!("452-[\"ack-back\",{P1},{P0}]")));
        });
        case("an answer counts once", || {
            let mut link = Link::connect(&echo, transport);
            link.send(&[text("42[\"emit-with-ack\"]")]);
            link.expect(&[text("420[\"with-ack\"]")]);
            link.send(&[text("430[1]"), text("430[2]"), text("42[\"message\",3]")]);
            link.expect(&[text("42[\"ack-back\",1]"), text("42[\"message-back\",3]")]);
        });
        case("an answer in another namespace is none", || {
            let mut link = Link::connect(&echo, transport);
            link.join("/custom");
            link.send(&[text("42[\"emit-with-ack\"]")]);
            link.expect(&[text("420[\"with-ack\"]")]);
            link.send(&[text("43/custom,0[1]"), text("430[2]")]);
            link.expect(&[text("42[\"ack-back\",2]")]);
        });
    }
}
