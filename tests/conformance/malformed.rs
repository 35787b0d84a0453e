//! Packets that end the connection: WebSocket with an empty close frame, polling with 400 and an id that is unknown then.

use claude_session_manager::net;

use crate::wire::{Echo, Frame, Link, Packet, TRANSPORTS, Transport, Ws, binary, case, text};

const CONNECTS_MAX: usize = net::CONNECTS_MAX as usize;

#[derive(Clone, Copy, PartialEq)]
enum When {
    Fresh,
    Connected,
}

#[test]
fn malformed_packets_close() {
    use When::{Connected, Fresh};
    let echo = Echo::socketio();
    let check = |name: &str, when: When, sent: &[Packet]| {
        for transport in TRANSPORTS {
            case(name, || {
                let mut link = match when {
                    Fresh => Link::open(&echo, transport),
                    Connected => Link::connect(&echo, transport),
                };
                link.refused(sent);
            });
        }
    };
    let digits = "1".repeat(400);
    let deep = format!("42[\"message\",{}{}]", "[".repeat(200), "]".repeat(200));
    let long_id = format!("42{digits}[\"message\"]");
    let many = format!("45{digits}-[\"message\"]");
    let texts: [(&str, When, &str); 69] = [
        ("an empty packet", Connected, ""),
        ("a ping of the client's", Connected, "2"),
        ("a probe that is none", Connected, "2probe"),
        ("an unknown Engine.IO type", Connected, "7"),
        ("a letter", Connected, "abc"),
        ("white space", Connected, " 42[\"message\"]"),
        ("a digit of another script", Connected, "\u{664}2[\"message\"]"),
        ("an empty message", Connected, "4"),
        ("an unknown Socket.IO type", Connected, "47"),
        ("type 9", Connected, "49"),
        ("a letter for a type", Connected, "4a"),
        ("an event before CONNECT", Fresh, "42[\"message\"]"),
        ("an acknowledgement before CONNECT", Fresh, "430[]"),
        ("a DISCONNECT before CONNECT", Fresh, "41"),
        ("an event in a namespace before CONNECT", Connected, "42/custom,[\"message\"]"),
        ("an event in an unknown namespace", Connected, "42/nope,[\"message\"]"),
        ("an acknowledgement in an unknown namespace", Connected, "43/nope,0[]"),
        ("leaving an unknown namespace", Connected, "41/unknown,"),
        ("leaving with a reason", Connected, "41[]"),
        ("a second CONNECT", Connected, "40"),
        ("a second CONNECT with auth", Connected, "40{\"a\":1}"),
        ("auth that is an array", Fresh, "40[]"),
        ("auth that is a string", Fresh, "40\"token\""),
        ("auth that is a number", Fresh, "401"),
        ("auth that is null", Fresh, "40null"),
        ("auth that is cut off", Fresh, "40{\"a\":"),
        ("auth and more", Fresh, "40{}x"),
        ("auth of a namespace that is an array", Fresh, "40/custom,[]"),
        ("CONNECT_ERROR from a client", Connected, "44{\"message\":\"x\"}"),
        ("no payload", Connected, "42"),
        ("no payload in a namespace", Connected, "42/,"),
        ("an empty array", Connected, "42[]"),
        ("an object", Connected, "42{}"),
        ("an object with a name", Connected, "42{\"0\":\"message\"}"),
        ("a string", Connected, "42\"message\""),
        ("null for a name", Connected, "42[null]"),
        ("an object for a name", Connected, "42[{}]"),
        ("an array for a name", Connected, "42[[\"message\"]]"),
        ("true for a name", Connected, "42[true]"),
        ("JSON that is cut off", Connected, "42[\"some\""),
        ("JSON and more", Connected, "42[\"message\"]x"),
        ("two arrays", Connected, "42[\"message\"][]"),
        ("no JSON", Connected, "42[message]"),
        ("a name that is a number without a value", Connected, "42[1e400]"),
        ("a name that is a lone surrogate", Connected, "42[\"\\ud800\"]"),
        ("a number without a value, cut off", Connected, "42[\"message\",1e400"),
        ("an acknowledgement without a value", Connected, "431[1e400]"),
        ("auth without a value", Fresh, "40{\"a\":\"\\ud800\"}"),
        ("the reserved name connect", Connected, "42[\"connect\"]"),
        ("the reserved name connect_error", Connected, "42[\"connect_error\"]"),
        ("the reserved name disconnect", Connected, "42[\"disconnect\"]"),
        ("the reserved name disconnecting", Connected, "42[\"disconnecting\"]"),
        ("the reserved name newListener", Connected, "42[\"newListener\"]"),
        ("the reserved name removeListener", Connected, "42[\"removeListener\"]"),
        ("an ack id that is no number", Connected, "42abc[\"message\"]"),
        ("an ack id with a sign", Connected, "42-1[\"message\"]"),
        ("an ack id with a point", Connected, "421.5[\"message\"]"),
        ("an acknowledgement without an id", Connected, "43[]"),
        ("an acknowledgement without arguments", Connected, "431"),
        ("an acknowledgement with an object", Connected, "431{}"),
        ("no attachment count", Connected, "45-[\"message\"]"),
        ("no attachment count and no dash", Connected, "45[\"message\"]"),
        ("an attachment count with a letter", Connected, "45a-[\"message\"]"),
        ("an attachment count with a point", Connected, "451.23-[\"message\"]"),
        ("a negative attachment count", Connected, "45-1-[\"message\"]"),
        ("eleven attachments", Connected, "4511-[\"message\"]"),
        ("a binary acknowledgement without an id", Connected, "461-[{\"_placeholder\":true,\"num\":0}]"),
        ("a reserved name with an attachment", Connected, "451-[\"disconnect\",{\"_placeholder\":true,\"num\":0}]"),
        ("a placeholder without attachments", Connected, "42[\"message\",{\"_placeholder\":true,\"num\":0}]"),
    ];
    for (name, when, packet) in texts {
        check(name, when, &[text(packet)]);
    }
    check("an ack id of 400 digits", Connected, &[text(&long_id)]);
    check("an attachment count of 400 digits", Connected, &[text(&many)]);
    check("nesting of 200", Connected, &[text(&deep)]);
    for num in ["-1", "1", "99", "\"x\"", "0.5", "null", "1e99"] {
        let packet = format!("451-[\"message\",{{\"_placeholder\":true,\"num\":{num}}}]");
        check("a bad placeholder", Connected, &[text(&packet), binary(b"x")][..1]);
    }
    let one = text("451-[\"message\",{\"_placeholder\":true,\"num\":0}]");
    check("binary that nobody announced", Connected, &[binary(b"x")]);
    check("binary before CONNECT", Fresh, &[binary(b"x")]);
    check("text while binary is awaited", Connected, &[one.clone(), text("42[\"message\"]")]);
    check("CONNECT while binary is awaited", Connected, &[one.clone(), text("40/custom,")]);
    check("leaving while binary is awaited", Connected, &[one, text("41")]);
    check("leaving a namespace before joining it", Fresh, &[text("41/custom,"), text("40/custom,")]);
}

#[test]
fn a_second_connect_closes_everything() {
    let echo = Echo::socketio();
    for transport in TRANSPORTS {
        case("in a namespace", || {
            let mut link = Link::connect(&echo, transport);
            link.join("/custom");
            link.refused(&[text("40/custom,")]);
        });
    }
}

#[test]
fn a_flood_of_connects_closes() {
    let echo = Echo::socketio();
    let check = |name: &str, round: [Packet; 2]| {
        // More than come back with the time that the server takes for them.
        let flood: Vec<Packet> = round.into_iter().cycle().take(8 * CONNECTS_MAX).collect();
        case(name, || Link::open(&echo, Transport::Polling).refused(&flood));
        case(name, || {
            let (mut ws, _) = Ws::open(&echo);
            flood.iter().for_each(|packet| ws.send(packet));
            loop {
                match ws.next() {
                    Frame::Packet(_) => {}
                    other => break assert_eq!(other, Frame::Close(None)),
                }
            }
        });
    };
    check("coming and going", [text("40"), text("41")]);
    check("an unknown namespace", [text("40/nope,"), text("40/nope,")]);
    for transport in TRANSPORTS {
        case("as many as may be", || {
            let mut link = Link::connect(&echo, transport);
            let rounds = vec![text("40/nope,"); CONNECTS_MAX - 1];
            link.send(&rounds);
            link.expect(&vec![text("44/nope,{\"message\":\"Invalid namespace\"}"); rounds.len()]);
            link.send(&[text("42[\"message\"]")]);
            link.expect(&[text("42[\"message-back\"]")]);
        });
    }
}
