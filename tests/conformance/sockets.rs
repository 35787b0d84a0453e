//! The WebSocket protocol itself: what breaks it, and with which code the server says so.

use claude_session_manager::net::CONTROL_FRAMES_MAX;
use claude_session_manager::proto::fragments::FRAGMENTS_MAX;

use crate::wire::{Echo, Frame, Link, Packet, Transport, UPGRADE, Ws, case, frame, text};

fn connected(echo: &Echo) -> Ws {
    let Link::WebSocket(ws) = Link::connect(echo, Transport::WebSocket) else { panic!("a websocket") };
    ws
}

#[test]
fn faults_and_their_codes() {
    let echo = Echo::socketio();
    let check = |name: &str, code: u16, frames: &[Vec<u8>]| {
        case(name, || {
            let mut ws = connected(&echo);
            ws.send_bytes(&frames.concat());
            assert_eq!(ws.next(), Frame::Close(Some(code)));
            ws.send_bytes(&frame(0x88, &code.to_be_bytes()));
            assert_eq!(ws.next(), Frame::End);
        });
    };
    const EVENT: &[u8] = b"42[\"message\"]";
    check("a frame without a mask", 1002, &[[b"\x81\x0d", EVENT].concat()]);
    for (name, first) in [
        ("the first reserved bit", 0xc1),
        ("the second reserved bit", 0xa1),
        ("the third reserved bit", 0x91),
        ("the reserved opcode 3", 0x83),
        ("the reserved opcode 7", 0x87),
        ("the reserved opcode 11", 0x8b),
        ("the reserved opcode 15", 0x8f),
        ("a continuation of nothing", 0x80),
        ("a continuation of nothing that goes on", 0x00),
        ("a ping in fragments", 0x09),
        ("a pong in fragments", 0x0a),
        ("a close in fragments", 0x08),
    ] {
        check(name, 1002, &[frame(first, b"")]);
    }
    check("a text inside a text", 1002, &[frame(0x01, b"42"), frame(0x81, EVENT)]);
    check("bytes inside a text", 1002, &[frame(0x01, b"42"), frame(0x82, EVENT)]);
    check("a long ping", 1002, &[frame(0x89, &[0; 126])]);
    check("a long pong", 1002, &[frame(0x8a, &[0; 126])]);
    check("a long close", 1002, &[frame(0x88, &[3; 126])]);
    check("a close of one byte", 1002, &[frame(0x88, &[3])]);
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        check(&format!("a close with {code}"), 1002, &[frame(0x88, &code.to_be_bytes())]);
    }
    check("text that is not UTF-8", 1007, &[frame(0x81, b"42[\"\xff\"]")]);
    check("an encoded surrogate", 1007, &[frame(0x81, b"42[\"\xed\xa0\x80\"]")]);
    check("an overlong form", 1007, &[frame(0x81, b"42[\"\xc0\xaf\"]")]);
    check("text cut off", 1007, &[frame(0x81, b"4\xe2\x82")]);
    check("text that is not UTF-8 in its second fragment", 1007, &[frame(0x01, b"4\xe2\x82"), frame(0x80, b"4")]);
    let declared = |length: u64| [b"\x82\xff".as_slice(), &length.to_be_bytes(), &[0; 4]].concat();
    check("a declared length of 2^63-1", 1009, &[declared(u64::MAX >> 1)]);
    check("a declared length over the limit", 1009, &[declared(1_000_001)]);
    check("a message over the limit", 1009, &[frame(0x81, &vec![b'4'; 1_000_001])]);
    let third = vec![b'4'; 400_000];
    check("fragments over the limit", 1009, &[frame(0x01, &third), frame(0x00, &third), frame(0x80, &third)]);
    case("a message at the limit", || {
        let mut ws = connected(&echo);
        let body = format!("42[\"message\",\"{}\"]", "x".repeat(1_000_000 - 16));
        assert_eq!(body.len(), 1_000_000);
        ws.send_text(&body);
        assert_eq!(ws.next(), Frame::Packet(text(&body.replacen("message", "message-back", 1))));
    });
    case("before CONNECT 16 KiB are the limit", || {
        let (mut ws, _) = Ws::open(&echo);
        ws.send_text(&format!("40{{\"token\":\"{}\"}}", "x".repeat(16 * 1024)));
        assert_eq!(ws.next(), Frame::Close(Some(1009)));
    });
}

#[test]
fn what_is_allowed() {
    let echo = Echo::socketio();
    case("fragments with a ping between them", || {
        let mut ws = connected(&echo);
        let frames =
            [frame(0x01, b"42[\"mess"), frame(0x89, b"!"), frame(0x00, b""), frame(0x80, b"age\",\"\xe2\x82\xac\"]")];
        ws.send_bytes(&frames.concat());
        assert_eq!(ws.next(), Frame::Pong(b"!".to_vec()));
        ws.expect("42[\"message-back\",\"\u{20ac}\"]");
    });
    case("a character cut by a fragment", || {
        let mut ws = connected(&echo);
        ws.send_bytes(&[frame(0x01, b"42[\"message\",\"\xe2"), frame(0x80, b"\x82\xac\"]")].concat());
        ws.expect("42[\"message-back\",\"\u{20ac}\"]");
    });
    case("bytes in fragments", || {
        let mut ws = connected(&echo);
        ws.send_text("451-[\"message\",{\"_placeholder\":true,\"num\":0}]");
        ws.send_bytes(&[frame(0x02, b"\x01"), frame(0x00, b"\x02"), frame(0x80, b"\x03")].concat());
        ws.expect("451-[\"message-back\",{\"_placeholder\":true,\"num\":0}]");
        assert_eq!(ws.next(), Frame::Packet(Packet::Binary(vec![1, 2, 3])));
    });
    case("a frame that comes byte by byte", || {
        let mut ws = connected(&echo);
        frame(0x81, b"42[\"message\"]").iter().for_each(|byte| ws.send_bytes(&[*byte]));
        ws.expect("42[\"message-back\"]");
    });
    case("a ping of 125 bytes", || {
        let mut ws = connected(&echo);
        ws.send_bytes(&frame(0x89, &[7; 125]));
        assert_eq!(ws.next(), Frame::Pong(vec![7; 125]));
    });
    case("a pong that nobody asked for", || {
        let mut ws = connected(&echo);
        ws.send_bytes(&frame(0x8a, b"x"));
        ws.send_text("42[\"message\"]");
        ws.expect("42[\"message-back\"]");
    });
    case("frames right behind the handshake", || {
        let target = echo.target("EIO=4&transport=websocket");
        let frames = [frame(0x81, b"40"), frame(0x81, b"42[\"message\"]")].concat();
        let (answer, mut ws) = Ws::ask(echo.port, &target, UPGRADE, &frames);
        assert_eq!(answer.status, 101);
        assert!(matches!(ws.next(), Frame::Packet(Packet::Text(open)) if open.starts_with("0{")));
        assert!(matches!(ws.next(), Frame::Packet(Packet::Text(sid)) if sid.starts_with("40{")));
        ws.expect("42[\"auth\",{}]");
        ws.expect("42[\"message-back\"]");
    });
    case("compression is not agreed to", || {
        let headers = format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n");
        let (answer, _ws) = Ws::ask(echo.port, &echo.target("EIO=4&transport=websocket"), &headers, b"");
        assert_eq!((answer.status, answer.header("sec-websocket-extensions")), (101, None));
    });
}

#[test]
fn floods_of_small_frames_are_stopped() {
    const MILLION: usize = 1_000_000;
    let echo = Echo::socketio();
    let control = CONTROL_FRAMES_MAX as usize;
    let check = |name: &str, first: &[u8], flood: &[u8], count: usize| {
        case(name, || {
            let mut ws = connected(&echo);
            ws.send_bytes(first);
            // Whoever floods does not see all of it taken.
            (0..count / 1000).for_each(|_| ws.send_bytes(&flood.repeat(1000)));
            loop {
                match ws.next() {
                    Frame::Pong(_) => {}
                    other => break assert_eq!(other, Frame::Close(Some(1008))),
                }
            }
        });
    };
    check("a million empty fragments", &frame(0x01, b"4"), &frame(0x00, b""), MILLION);
    check("fragments of one byte", &frame(0x02, b""), &frame(0x00, b"x"), MILLION);
    check(
        "fragments with pings between them",
        &frame(0x01, b""),
        &[frame(0x00, b""), frame(0x89, b"")].concat(),
        MILLION,
    );
    check("pings", b"", &frame(0x89, b"x"), 2 * control);
    check("pongs", b"", &frame(0x8a, b"x"), 2 * control);
    case("as many as may be", || {
        let mut ws = connected(&echo);
        ws.send_bytes(&frame(0x8a, b"").repeat(control));
        let middle = frame(0x00, b"").repeat(FRAGMENTS_MAX - 2);
        ws.send_bytes(&[frame(0x01, b"42[\"mess"), middle, frame(0x80, b"age\"]")].concat());
        ws.expect("42[\"message-back\"]");
    });
}
