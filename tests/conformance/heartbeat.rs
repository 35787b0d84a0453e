//! Pings, pongs, and what happens without them. Only lower bounds are exact: a busy machine may be late, never early.

use std::thread;
use std::time::{Duration, Instant};

use crate::wire::{Echo, Frame, Poller, Ws, case, text};

const INTERVAL: Duration = Duration::from_millis(300);
const UNTIL_DEAD: Duration = Duration::from_millis(500);
/// The answers here may take their time.
const PATIENT: [&str; 2] = ["--pings", "300/60000"];

fn at_least(since: Instant, pause: Duration) {
    assert!(since.elapsed() >= pause, "only {:?} after {pause:?} were due", since.elapsed());
}

fn servers(more: &[&str]) -> [Echo; 2] {
    [Echo::start(more), Echo::start(&[more, &["--engine-only"]].concat())]
}

#[test]
fn pings_and_pongs() {
    for echo in servers(&PATIENT) {
        case("websocket", || {
            let opened = Instant::now();
            let (mut ws, _) = Ws::open(&echo);
            ws.expect("2");
            at_least(opened, INTERVAL);
            for _ in 0..3 {
                let answered = Instant::now();
                ws.send_text("3");
                ws.expect("2");
                at_least(answered, INTERVAL);
            }
        });
        case("polling", || {
            let opened = Instant::now();
            let mut poller = Poller::open(&echo);
            assert_eq!(poller.next(), text("2"));
            at_least(opened, INTERVAL);
            for _ in 0..3 {
                let answered = Instant::now();
                assert_eq!(poller.post(b"3").text(), "ok");
                assert_eq!(poller.next(), text("2"));
                at_least(answered, INTERVAL);
            }
        });
    }
}

#[test]
fn a_silent_client_is_gone() {
    for echo in servers(&[]) {
        case("websocket", || {
            let opened = Instant::now();
            let (mut ws, _) = Ws::open(&echo);
            ws.expect("2");
            assert!(matches!(ws.next(), Frame::End | Frame::Close(None)));
            at_least(opened, UNTIL_DEAD);
        });
        case("polling, with a poll pending", || {
            let opened = Instant::now();
            let poller = Poller::open(&echo);
            // A late machine may find the connection dead already.
            if poller.get().text() == "2" {
                let last = poller.get();
                assert!(last.text() == "1" || last.status == 400, "{}", last.text());
            }
            at_least(opened, UNTIL_DEAD);
            poller.gone();
        });
        case("polling, without a poll", || {
            let opened = Instant::now();
            let poller = Poller::open(&echo);
            // A packet that means nothing tells whether the connection is there.
            while poller.post(b"6").status == 200 {}
            at_least(opened, UNTIL_DEAD);
            // The ping that nobody fetched is not served any more.
            poller.gone();
        });
        for _ in 0..5 {
            case("polling, asked as soon as it must be gone", || {
                let poller = Poller::open(&echo);
                thread::sleep(UNTIL_DEAD);
                poller.gone();
            });
        }
        case("a pong that nobody asked for does not help", || {
            let opened = Instant::now();
            let (mut ws, _) = Ws::open(&echo);
            ws.send_text("3");
            ws.expect("2");
            assert!(matches!(ws.next(), Frame::End | Frame::Close(None)));
            at_least(opened, UNTIL_DEAD);
        });
    }
}

#[test]
fn the_client_must_not_ping() {
    for echo in servers(&PATIENT) {
        case("websocket", || {
            let (mut ws, _) = Ws::open(&echo);
            ws.send_text("2");
            ws.closed(None);
        });
        case("polling", || {
            let poller = Poller::open(&echo);
            assert_eq!(poller.post(b"2").status, 400);
            poller.gone();
        });
    }
}
