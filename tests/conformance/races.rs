//! Requests of one polling client that meet each other. Which of two comes first is for the machine to say: the answers
//! must be the same either way.

use std::io::{BufReader, Write};

use crate::support::{DEADLINE, client::read_answer, processes};
use crate::wire::{Echo, Poller, assert_json, case};

const ROUNDS: usize = 20;

#[test]
fn two_polls_end_the_connection() {
    let echo = Echo::engineio();
    for _ in 0..ROUNDS {
        case("the first gets a close packet, the second a refusal", || {
            let poller = Poller::open(&echo);
            let polls = [poller.start_get(), poller.start_get()].map(|poll| poll.join().expect("an answer"));
            let mut answers = polls.map(|answer| (answer.status, answer.text()));
            answers.sort();
            let refused = r#"{"code":3,"message":"Bad request"}"#;
            assert_eq!(answers, [(200, "1".to_owned()), (400, refused.to_owned())]);
            poller.gone();
        });
    }
}

#[test]
fn a_poll_after_one_whose_client_went_away() {
    let echo = Echo::engineio();
    for _ in 0..ROUNDS {
        case("is a second one", || {
            let poller = Poller::open(&echo);
            drop(poller.request("GET", ""));
            let answer = poller.get();
            // Where the new one is looked at first, it is the first.
            assert!(answer.status == 400 || answer.text() == "1", "{} {}", answer.status, answer.text());
            poller.gone();
        });
    }
}

#[test]
fn a_connection_ends_whose_poll_was_given_up() {
    let echo = Echo::engineio();
    for _ in 0..ROUNDS {
        case("what it would have got is not lost in silence", || {
            let poller = Poller::open(&echo);
            drop(poller.request("GET", ""));
            // It is taken by the poll that is waiting, or by the one that then finds nobody.
            assert_eq!(poller.post(b"4a").text(), "ok");
            processes::eventually("the end", DEADLINE, || poller.post(b"6").status == 400);
            poller.gone();
        });
    }
}

#[test]
fn a_close_releases_the_poll() {
    let echo = Echo::engineio();
    for _ in 0..ROUNDS {
        case("a poll that waits, or is on its way", || {
            let poller = Poller::open(&echo);
            let poll = poller.start_get();
            assert_eq!(poller.post(b"1").text(), "ok");
            let answer = poll.join().expect("an answer");
            assert_eq!((answer.status, answer.text().as_str()), (200, "6"));
            poller.gone();
        });
    }
    case("a poll afterwards", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(b"1").text(), "ok");
        assert_eq!(poller.get().text(), "6");
        poller.gone();
        assert_json(&poller.post(b"4a"), 400, 1, "Session ID unknown");
    });
    case("a POST afterwards", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(b"1").text(), "ok");
        assert_json(&poller.post(b"4a"), 400, 1, "Session ID unknown");
    });
    case("messages before it are handled", || {
        let poller = Poller::open(&echo);
        assert_eq!(poller.post(b"4a\x1e1").text(), "ok");
    });
}

#[test]
fn overlapping_posts_end_the_connection() {
    let echo = Echo::engineio();
    case("one that is under way and another", || {
        let poller = Poller::open(&echo);
        // The interim answer says that the server is at work with it.
        let mut first = BufReader::new(poller.request("POST", "Content-Length: 2\r\nExpect: 100-continue\r\n"));
        assert_eq!(read_answer_head(&mut first), "HTTP/1.1 100 Continue\r\n");
        assert_json(&poller.post(b"4b"), 400, 3, "Bad request");
        poller.gone();
        first.get_mut().write_all(b"4a").expect("sent");
        assert_eq!(read_answer(&mut first).expect("an answer").status, 400);
    });
    case("one that is cut off", || {
        let poller = Poller::open(&echo);
        let mut first = BufReader::new(poller.request("POST", "Content-Length: 2\r\nExpect: 100-continue\r\n"));
        assert_eq!(read_answer_head(&mut first), "HTTP/1.1 100 Continue\r\n");
        let poll = poller.start_get();
        drop(first);
        let answer = poll.join().expect("an answer");
        assert!(answer.text() == "1" || answer.status == 400, "{}", answer.text());
        poller.gone();
    });
    case("one after the other", || {
        let poller = Poller::open(&echo);
        for _ in 0..ROUNDS {
            assert_eq!(poller.post(b"4a").text(), "ok");
        }
    });
}

fn read_answer_head(stream: &mut impl std::io::BufRead) -> String {
    let (mut line, mut end) = (String::new(), String::new());
    stream.read_line(&mut line).expect("a line");
    stream.read_line(&mut end).expect("a line");
    line
}
