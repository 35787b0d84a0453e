//! From polling to a WebSocket.

use std::thread;
use std::time::{Duration, Instant};

use claude_session_manager::net::UPGRADE_TIMEOUT;

use crate::support::{DEADLINE, processes};
use crate::wire::{Echo, Frame, Packet, Poller, Ws, assert_json, case, frame, packets, payload, text};

/// Changes the transport as clients do: the pending poll ends before the client says that it changes.
fn upgraded(echo: &Echo) -> (Poller, Ws) {
    let poller = Poller::open(echo);
    let mut ws = Ws::beside(echo, &poller);
    ws.send_text("2probe");
    ws.expect("3probe");
    ws.send_text("5");
    ws.send_text("4hello");
    ws.expect("4hello");
    (poller, ws)
}

#[test]
fn the_transport_changes() {
    let echo = Echo::engineio();
    case("probe, answer, change, messages", || {
        let (_poller, mut ws) = upgraded(&echo);
        ws.send_bytes(&frame(0x82, b"\x01\x02"));
        assert_eq!(ws.next(), Frame::Packet(Packet::Binary(vec![1, 2])));
    });
    case("the pending poll is released with a noop", || {
        let poller = Poller::open(&echo);
        let poll = poller.start_get();
        let mut ws = Ws::beside(&echo, &poller);
        ws.send_text("2probe");
        ws.expect("3probe");
        assert_eq!(poll.join().expect("an answer").text(), "6");
        ws.send_text("5");
        ws.send_text("4a");
        ws.expect("4a");
    });
    case("polling is over then", || {
        let (poller, mut ws) = upgraded(&echo);
        assert_json(&poller.get(), 400, 3, "Bad request");
        assert_json(&poller.post(b"4a"), 400, 3, "Bad request");
        ws.send_text("4b");
        ws.expect("4b");
    });
    case("the end of the websocket is the end", || {
        let (poller, mut ws) = upgraded(&echo);
        ws.send_text("1");
        ws.closed(None);
        // The socket\'s end may be seen before its thread has crossed it out.
        processes::eventually("crossed out", DEADLINE, || poller.get().text().contains("Session ID unknown"));
    });
    for _ in 0..20 {
        case("a poll behind the change is refused, though on another connection", || {
            let poller = Poller::open(&echo);
            let mut ws = Ws::beside(&echo, &poller);
            ws.send_text("2probe");
            ws.send_text("5");
            let asked = Instant::now();
            let answer = poller.get();
            // A machine so busy that it has not read the frames by then releases the poll.
            if answer.text() != "6" || asked.elapsed() < Duration::from_millis(100) {
                assert_json(&answer, 400, 3, "Bad request");
            }
            ws.expect("3probe");
            ws.send_text("4a");
            ws.expect("4a");
        });
    }
    case("all of it right behind the handshake", || {
        let poller = Poller::open(&echo);
        let frames = [frame(0x81, b"2probe"), frame(0x81, b"5"), frame(0x81, b"4a")].concat();
        let target = echo.target(&format!("EIO=4&transport=websocket&sid={}", poller.sid));
        let (answer, mut ws) = Ws::ask(echo.port, &target, crate::wire::UPGRADE, &frames);
        assert_eq!(answer.status, 101);
        ws.expect("3probe");
        ws.expect("4a");
    });
}

#[test]
fn a_second_websocket_is_closed() {
    let echo = Echo::engineio();
    let closed = |mut second: Ws| assert_eq!(second.next(), Frame::Close(None));
    case("of a connection that has changed", || {
        let (poller, mut ws) = upgraded(&echo);
        closed(Ws::beside(&echo, &poller));
        ws.send_text("4a");
        ws.expect("4a");
    });
    case("and hears of it, though it has spoken already", || {
        let (poller, _ws) = upgraded(&echo);
        let target = echo.target(&format!("EIO=4&transport=websocket&sid={}", poller.sid));
        let spoken = frame(0x81, b"2probe").repeat(1000);
        let (answer, mut second) = Ws::ask(echo.port, &target, crate::wire::UPGRADE, &spoken);
        assert_eq!((answer.status, second.next(), second.next()), (101, Frame::Close(None), Frame::End));
    });
    case("of a connection that is about to", || {
        let poller = Poller::open(&echo);
        let mut ws = Ws::beside(&echo, &poller);
        ws.send_text("2probe");
        ws.expect("3probe");
        closed(Ws::beside(&echo, &poller));
        ws.send_text("5");
        ws.send_text("4a");
        ws.expect("4a");
    });
    case("of one that began with a websocket", || {
        let (mut ws, open) = Ws::open(&echo);
        let sid = open["sid"].as_str().expect("a sid");
        closed(Ws::upgrade(echo.port, &echo.target(&format!("EIO=4&transport=websocket&sid={sid}"))));
        ws.send_text("4a");
        ws.expect("4a");
    });
}

#[test]
fn a_client_that_connects_while_it_changes_may_send_long_messages() {
    let echo = Echo::socketio();
    case("longer than before CONNECT", || {
        let poller = Poller::open(&echo);
        // Opened while only short messages are taken.
        let mut ws = Ws::beside(&echo, &poller);
        ws.send_text("2probe");
        ws.expect("3probe");
        assert_eq!(poller.post(b"40").text(), "ok");
        ws.send_text("5");
        let long = "x".repeat(100_000);
        ws.send_text(&format!("42[\"message\",\"{long}\"]"));
        let Frame::Packet(Packet::Text(accepted)) = ws.next() else { panic!("no answer") };
        assert!(accepted.starts_with("40{\"sid\""), "{accepted}");
        ws.expect("42[\"auth\",{}]");
        ws.expect(&format!("42[\"message-back\",\"{long}\"]"));
    });
}

#[test]
fn an_upgrade_has_its_time_and_no_more() {
    let echo = Echo::engineio();
    case("whatever comes meanwhile", || {
        let opened = Instant::now();
        let mut poller = Poller::open(&echo);
        let mut ws = Ws::beside(&echo, &poller);
        ws.send_text("2probe");
        ws.expect("3probe");
        loop {
            ws.send_bytes(&frame(0x89, b""));
            match ws.next() {
                Frame::Pong(_) => thread::sleep(Duration::from_millis(100)),
                other => break assert_eq!(other, Frame::Close(None)),
            }
        }
        assert!(opened.elapsed() >= UPGRADE_TIMEOUT);
        assert_eq!(poller.post(b"4a").text(), "ok");
        while poller.next() != text("4a") {}
    });
}

#[test]
fn a_client_that_goes_as_it_changes_is_gone() {
    let echo = Echo::engineio();
    for _ in 0..20 {
        case("with messages waiting for it", || {
            let poller = Poller::open(&echo);
            for _ in 0..5 {
                assert_eq!(poller.post(b"4waits").text(), "ok");
            }
            let mut ws = Ws::beside(&echo, &poller);
            ws.send_text("2probe");
            ws.expect("3probe");
            ws.send_text("5");
            drop(ws);
            processes::eventually("the end", DEADLINE, || poller.get().text().contains("Session ID unknown"));
        });
    }
}

#[test]
fn an_unfinished_upgrade_leaves_polling_alive() {
    let echo = Echo::engineio();
    let check = |name: &str, sent: &[&str]| {
        case(name, || {
            let mut poller = Poller::open(&echo);
            let mut ws = Ws::beside(&echo, &poller);
            for packet in sent {
                ws.send_text(packet);
                if *packet == "2probe" {
                    ws.expect("3probe");
                }
            }
            ws.send_bytes(&frame(0x88, b""));
            while ws.next() != Frame::End {}
            assert_eq!(poller.post(b"4a").text(), "ok");
            while poller.next() != text("4a") {}
            // And the next attempt may succeed.
            let mut ws = Ws::beside(&echo, &poller);
            ws.send_text("2probe");
            ws.expect("3probe");
            ws.send_text("5");
            ws.send_text("4b");
            ws.expect("4b");
        });
    };
    check("nothing is said", &[]);
    check("only probed", &["2probe"]);
    check("changed without a probe", &["5"]);
    check("another word", &["2prob"]);
    check("a message in place of the probe", &["4x"]);
    check("a message in place of the change", &["2probe", "4x"]);
}

#[test]
fn nothing_is_lost_doubled_or_reordered() {
    const ROUNDS: usize = 40;
    const MESSAGES: usize = 120;
    let echo = Echo::engineio();
    for round in 0..ROUNDS {
        case("messages both ways during the upgrade", || {
            let poller = Poller::open(&echo);
            let packet = |number: usize| match number % 5 {
                0 => Packet::Binary(number.to_be_bytes().to_vec()),
                _ => text(&format!("4{number}")),
            };
            let mut ws = thread::scope(|scope| {
                // Polls until it is told to leave off.
                let polls = scope.spawn(|| {
                    let mut came = Vec::new();
                    loop {
                        let answer = poller.get();
                        assert_eq!(answer.status, 200, "{}", answer.text());
                        let packets = packets(&answer.text());
                        if packets == [text("6")] {
                            return came;
                        }
                        came.extend(packets);
                    }
                });
                let (mut ws, mut number) = (None, 0);
                while number < MESSAGES / 2 {
                    if number >= round {
                        ws.get_or_insert_with(|| {
                            let mut ws = Ws::beside(&echo, &poller);
                            ws.send_text("2probe");
                            ws
                        });
                    }
                    let size = 1 + number % 7;
                    let body: Vec<Packet> = (number..number + size).map(packet).collect();
                    assert_eq!(poller.post(&payload(&body)).text(), "ok");
                    number += size;
                }
                let mut ws = ws.expect("opened in the loop");
                ws.expect("3probe");
                // What is sent now waits for the change if the polls have ended.
                let came = polls.join().expect("polled");
                assert_eq!(poller.post(&payload(&(number..number + 30).map(packet).collect::<Vec<_>>())).text(), "ok");
                ws.send_text("5");
                for number in number + 30..MESSAGES + 60 {
                    ws.send(&packet(number));
                }
                for (number, came) in came.iter().enumerate() {
                    assert_eq!(*came, packet(number), "polled, round {round}");
                }
                for number in came.len()..MESSAGES + 60 {
                    assert_eq!(ws.next(), Frame::Packet(packet(number)), "round {round}");
                }
                ws
            });
            // Nor is there anything more.
            ws.send_text("1");
            ws.closed(None);
        });
    }
}
