//! Coming to a session in the middle of an answer, and coming back to one.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{builder, claude_events, go, go_file, last_word, server, settle, text_client, viewer};
use crate::support::{
    DEADLINE,
    client::{Client, Event, Frame, Received, nothing_for},
    server::Server,
    workspace::Workspace,
};

/// What a text viewer that has just come has of a prompt's answer: what it was given at first, and what followed.
fn so_far_and_rest(client: &Client, prompt: &str) -> (String, String) {
    let start = client.wait_event("claudeStreamStart", |data| data["promptId"] == prompt);
    (start["soFar"].as_str().unwrap_or_default().to_owned(), client.chunks(prompt).concat())
}

#[test]
fn a_text_viewer_gets_the_text_so_far_and_then_the_rest() {
    let server = server();
    let (asking, session) = text_client(&server);
    let file = go_file(&server);
    let prompt = asking.ask(&session, &format!("wait {}", file.display()));
    asking.wait_chunk(&prompt);
    // The three ways to come.
    let connected = viewer(&server, &session, "text");
    let resumed = server.connect(json!({}));
    resumed.must("resumeSession", json!({"sessionId": session}));
    let asked = server.connect(json!({}));
    asked.ask(&session, "words 1");
    for client in [&connected, &resumed, &asked] {
        assert_eq!(so_far_and_rest(client, &prompt), ("waiting ".to_owned(), String::new()));
    }
    go(&file);
    for client in [&connected, &resumed, &asked] {
        let response = client.wait_response(&prompt);
        let (so_far, rest) = so_far_and_rest(client, &prompt);
        assert_eq!(response["fullResponse"], format!("{so_far}{rest}"));
        assert_eq!(response["fullResponse"], "waiting no more");
        assert_eq!(client.events_named("claudeStreamStart").iter().filter(|d| d["promptId"] == *prompt).count(), 1);
    }
}

#[test]
fn text_viewers_that_come_at_any_moment_miss_nothing() {
    let server = server();
    let (asking, session) = text_client(&server);
    let prompt = asking.ask(&session, "slow 150 4");
    asking.wait_chunk(&prompt);
    let mut joiners = Vec::new();
    while !asking.events().iter().any(|event| event.name == "claudeResponse") {
        joiners.push(viewer(&server, &session, "text"));
    }
    let full = asking.wait_response(&prompt)["fullResponse"].clone();
    let mut in_the_middle = 0;
    for joiner in joiners {
        settle(&joiner, &session);
        if joiner.events_named("claudeResponse").is_empty() {
            continue; // it came after the end
        }
        let (so_far, rest) = so_far_and_rest(&joiner, &prompt);
        assert_eq!(full, format!("{so_far}{rest}"));
        in_the_middle += usize::from(!so_far.is_empty() && !rest.is_empty());
    }
    assert!(in_the_middle > 0);
}

#[test]
fn events_viewers_get_each_delta_once() {
    let server = server();
    let (asking, session) = text_client(&server);
    let from_the_start = viewer(&server, &session, "events");
    let prompt = asking.ask(&session, "slow 150 4");
    asking.wait_chunk(&prompt);
    let mut joiners = Vec::new();
    while !asking.events().iter().any(|event| event.name == "claudeResponse") {
        joiners.push(viewer(&server, &session, "events"));
        let resumer = server.connect(json!({"stream": "events"}));
        let ack = resumer.must("resumeSession", json!({"sessionId": session}));
        check_whole_history(&resumer, &ack);
        joiners.push(resumer);
    }
    settle(&from_the_start, &session);
    let all = claude_events(&from_the_start.events());
    let mut in_the_middle = 0;
    for joiner in joiners {
        settle(&joiner, &session);
        let seen = claude_events(&joiner.events());
        let Some(first) = seen.first() else { continue };
        // From the first delta since the last stored event on, it has seen what the other has.
        let at = all.iter().position(|event| event.raw == first.raw).expect("the same events");
        assert!(first.data["part"] == 1 || !first.data["part"].is_u64(), "{}", first.raw);
        let raw = |events: &[Event]| events.iter().map(|event| event.raw.clone()).collect::<Vec<_>>();
        assert_eq!(raw(&seen), raw(&all[at..]));
        in_the_middle += usize::from(seen.iter().any(|event| event.data["part"].as_u64() > Some(10)));
    }
    assert!(in_the_middle > 0);
}

#[test]
fn a_viewer_that_comes_at_the_very_end_of_an_answer_is_promised_no_deltas() {
    let place = Arc::new(Workspace::new());
    let until = place.root().join("until");
    let server = builder().workspace(&place).env("CSM_FAILPOINT", "hold:page:1");
    let server = server.env("CSM_FAILPOINT_UNTIL", until.display().to_string()).start();
    let (asking, session) = text_client(&server);
    let file = go_file(&server);
    let prompt = asking.ask(&session, &format!("wait {}", file.display()));
    asking.wait_chunk(&prompt);
    let resumer = server.connect(json!({"stream": "events"}));
    let resume = resumer.start_emit("resumeSession", json!({"sessionId": session}));
    server.wait_log("held at page");
    go(&file);
    asking.wait_response(&prompt);
    std::fs::write(&until, "").expect("a file");
    let ack = resumer.wait_ack(resume);
    assert_eq!((&ack["ok"], &ack["part"]), (&json!(true), &json!(0)), "{ack}");
    check_whole_history(&resumer, &ack);
    settle(&resumer, &session);
    let seen = claude_events(&resumer.events());
    assert!(seen.iter().all(|event| !event.data["part"].is_u64()));
    let next = ack["seq"].as_u64().expect("a number") + 1;
    assert_eq!(seqs(&seen), (next..next + seen.len() as u64).collect::<Vec<_>>());
    assert!(seen.iter().any(|event| event.data["event"]["type"] == "result"));
}

/// Its notice has the number that a client comes back with, the response has none of its own.
#[test]
fn a_response_right_behind_the_last_event_seen_is_sent_again() {
    for stored in [false, true] {
        let place = Arc::new(Workspace::new());
        let start = || builder().workspace(&place).start();
        let first = start();
        let (asking, session) = text_client(&first);
        asking.ask_and_wait(&session, "words 2");
        let done = asking.events_named("claudeResponse")[0]["seq"].clone();
        let prompt = asking.ask(&session, "crash 3");
        let response = asking.wait_response(&prompt);
        let notice = asking.events_named("notice").last().expect("why")["seq"].clone();
        assert_eq!(response["seq"], notice);
        let log_id = asking.registered()["logId"].clone();
        let server = if stored {
            first.stop();
            start()
        } else {
            first
        };
        let after = |seq: &Value, stream: &str| {
            let auth = json!({"sessionId": session, "afterSeq": seq, "logId": log_id, "stream": stream});
            let back = server.connect(auth);
            settle(&back, &session);
            back.events_named("claudeResponse")
        };
        assert_eq!(after(&notice, "text"), std::slice::from_ref(&response), "{stored}");
        assert_eq!(after(&notice, "events"), [Value::Null; 0], "{stored}");
        // Who has its number from the response itself has seen it.
        assert_eq!(after(&done, "text"), std::slice::from_ref(&response), "{stored}");
        let resumer = server.connect(json!({}));
        resumer.must("resumeSession", json!({"sessionId": session, "afterSeq": notice, "logId": log_id}));
        assert_eq!(resumer.wait_response(&prompt), response);
        server.stop();
    }
}

/// Events that came behind the acknowledgement, by their numbers.
fn seqs_behind(client: &Client, ack: u64) -> Vec<u64> {
    let text = |received: Received| match received.frame {
        Frame::Text(text) => Some(text),
        _ => None,
    };
    let texts: Vec<String> = client.frames().into_iter().filter_map(text).collect();
    let at = texts.iter().position(|text| text.starts_with(&format!("43{ack}["))).expect("the acknowledgement");
    let event = |text: &String| serde_json::from_str::<Value>(text.strip_prefix("42")?).ok();
    let numbered =
        texts[at..].iter().filter_map(event).filter(|event| event[0] != "claudeResponse" && event[1]["part"].is_null());
    numbered.filter_map(|event| event[1]["seq"].as_u64()).collect()
}

/// What was under way for it before is not sent beside what follows the new page.
#[test]
fn a_client_that_is_catching_up_may_begin_anew() {
    let place = Arc::new(Workspace::new());
    let until = place.root().join("until");
    let server = builder().workspace(&place).args(["--outbox-bytes-max=512k"]).env("CSM_FAILPOINT", "hold:page:1");
    let server = server.env("CSM_FAILPOINT_UNTIL", until.display().to_string()).start();
    let (asking, session) = text_client(&server);
    for _ in 0..30 {
        asking.ask_and_wait(&session, "words 20000");
    }
    let back = server.connect(json!({"sessionId": session, "stream": "events", "afterSeq": 0}));
    back.pause_reading();
    let resume = back.start_emit("resumeSession", json!({"sessionId": session}));
    server.wait_log("held at page");
    // So that there is something behind the page, too.
    asking.ask_and_wait(&session, "words 3");
    std::fs::write(&until, "").expect("a file");
    back.resume_reading();
    let ack = back.wait_ack(resume);
    asking.ask_and_wait(&session, "words 4");
    back.wait_event("claudeEvent", |data| data["event"]["result"] == "w1 w2 w3 w4");
    let next = ack["seq"].as_u64().expect("a number") + 1;
    let seen = seqs_behind(&back, resume);
    assert!(seen.iter().copied().eq(next..next + seen.len() as u64), "each once, in order: {next} {seen:?}");
}

#[test]
fn a_client_that_is_still_coming_hears_that_the_server_stops() {
    let place = Arc::new(Workspace::new());
    let until = place.root().join("until");
    let server = builder().workspace(&place).env("CSM_FAILPOINT", "hold:page:1");
    let server = server.env("CSM_FAILPOINT_UNTIL", until.display().to_string()).start();
    let (asking, session) = text_client(&server);
    asking.ask_and_wait(&session, "words 2");
    // It leaves its own: then it watches the one that it is on its way to, and no other.
    let coming = server.connect(json!({"stream": "events"}));
    coming.start_emit("resumeSession", json!({"sessionId": session, "leaveOthers": true}));
    server.wait_log("held at page");
    server.signal(libc::SIGTERM);
    coming.wait_event("serverShutdown", |_| true);
    std::fs::write(&until, "").expect("a file");
    assert!(server.wait_exit(DEADLINE).success());
}

/// The acknowledgement of a first `resumeSession` has everything up to its `seq`, and deltas up to its `part` follow.
fn check_whole_history(client: &Client, ack: &Value) {
    let seqs: Vec<u64> = ack["events"].as_array().expect("a list").iter().filter_map(|i| i["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=ack["seq"].as_u64().expect("a number")).collect::<Vec<_>>());
    assert_eq!(ack["more"], false);
    if let Some(part) = ack["part"].as_u64().filter(|part| *part > 0) {
        client.wait_event("claudeEvent", |data| data["seq"] == ack["seq"] && data["part"] == part);
    }
}

fn seqs(events: &[Event]) -> Vec<u64> {
    let stored = events.iter().filter(|e| e.name != "sessionRegistered" && !e.data["part"].is_u64());
    stored.filter_map(|event| event.data["seq"].as_u64()).collect()
}

/// A session with an answer in it, the client that asked, and the last number.
fn used(server: &Server) -> (Client, String, u64) {
    let (client, session) = text_client(server);
    client.ask_and_wait(&session, "words 3");
    let last = last_word(&client, &session);
    (client, session, last)
}

#[test]
fn a_client_that_comes_back_gets_what_it_has_missed() {
    let server = server();
    let (first, session, last) = used(&server);
    let log_id = first.registered()["logId"].clone();
    for after in [0, 1, 3, last - 1, last] {
        for log_id in [json!(null), log_id.clone()] {
            let wish = json!({"sessionId": session, "stream": "events", "afterSeq": after, "logId": log_id});
            let client = server.connect(wish);
            settle(&client, &session);
            assert_eq!(seqs(&client.events()), (after + 1..=last).collect::<Vec<_>>(), "CONNECT {after}");
            let resumer = server.connect(json!({}));
            let wish = json!({"sessionId": session, "afterSeq": after, "logId": log_id});
            let ack = resumer.must("resumeSession", wish);
            let got: Vec<u64> =
                ack["events"].as_array().expect("a list").iter().filter_map(|item| item["seq"].as_u64()).collect();
            assert_eq!(got, (after + 1..=last).collect::<Vec<_>>(), "resumeSession {after}");
            assert_eq!(
                (&ack["seq"], &ack["logId"], &ack["more"]),
                (&json!(last), &first.registered()["logId"], &json!(false))
            );
        }
    }
    // A text viewer gets the events that it would have got live.
    let text = server.connect(json!({"sessionId": session, "afterSeq": 0}));
    settle(&text, &session);
    let names: Vec<String> = text.events().into_iter().map(|event| event.name).collect();
    assert_eq!(names, ["sessionRegistered", "prompt", "claudeResponse"]);
}

#[test]
fn what_comes_after_a_return_follows_without_a_hole() {
    let server = server();
    let (first, session, last) = used(&server);
    let back = server.connect(json!({"sessionId": session, "stream": "events", "afterSeq": 2}));
    let resumed = server.connect(json!({"stream": "events"}));
    let ack = resumed.must("resumeSession", json!({"sessionId": session, "afterSeq": last}));
    assert_eq!(ack["events"], json!([]));
    first.ask_and_wait(&session, "words 3");
    for client in [&back, &resumed] {
        settle(client, &session);
    }
    let (back, resumed) = (seqs(&back.events()), seqs(&resumed.events()));
    let end = *back.last().expect("some");
    assert!(end > last);
    assert_eq!(back, (3..=end).collect::<Vec<_>>());
    assert_eq!(resumed, (last + 1..=end).collect::<Vec<_>>());
}

#[test]
fn numbers_of_another_run_are_a_gap() {
    let server = server();
    let (_, session, last) = used(&server);
    let client = server.connect(json!({}));
    for (wish, code, field) in [
        (json!({"afterSeq": 1, "logId": "another"}), "seq_gap", Value::Null),
        (json!({"afterSeq": last + 1, "logId": "another"}), "seq_gap", Value::Null),
        (json!({"afterSeq": last + 1}), "bad_request", json!("afterSeq")),
    ] {
        let mut data = wish.clone();
        data["sessionId"] = json!(session);
        let error = client.must_fail("resumeSession", data.clone());
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &field), "{wish}");
        let connected = server.connect(data);
        let error = connected.wait_event("serverError", |_| true);
        assert_eq!((&error["code"], &error["event"]), (&json!(code), &json!("connect")), "{wish}");
        assert_eq!(connected.registered()["resumed"], true, "it watches all the same");
    }
    // Those that were refused by resumeSession do not watch.
    let (other, _) = (server.connect(json!({"sessionId": session})), ());
    other.ask_and_wait(&session, "words 1");
    settle(&client, &session);
    assert!(client.events().iter().all(|event| event.data["sessionId"] != *session));
}

#[test]
fn a_client_may_watch_several_sessions_or_leave_the_others() {
    let server = server();
    let (one, first, _) = used(&server);
    let (two, second, _) = used(&server);
    let (both, reserved) = text_client(&server);
    for session in [&first, &second] {
        both.must("resumeSession", json!({"sessionId": session}));
    }
    let prompts = [one.ask(&first, "words 2"), two.ask(&second, "words 2")];
    for prompt in &prompts {
        both.wait_response(prompt);
    }
    let unknown = json!({"sessionId": "unknown", "leaveOthers": true});
    assert_eq!(both.must_fail("resumeSession", unknown)["code"], "invalid_session");
    let prompt = one.ask(&first, "words 2");
    both.wait_response(&prompt);
    both.must("resumeSession", json!({"sessionId": second, "leaveOthers": true}));
    let before = both.mark();
    one.ask_and_wait(&first, "words 2");
    let prompt = two.ask(&second, "words 2");
    both.wait_response(&prompt);
    let later = &both.events()[before..];
    assert!(later.iter().all(|event| event.data["sessionId"] == *second), "{later:#?}");
    assert_eq!(two.must("getSession", json!({"sessionId": second}))["session"]["viewers"], 2);
    assert_eq!(one.must("getSession", json!({"sessionId": first}))["session"]["viewers"], 1);
    // Its own was never used: nobody watches it, and it is gone.
    assert_eq!(one.must_fail("getSession", json!({"sessionId": reserved}))["code"], "invalid_session");
}

#[test]
fn resuming_twice_does_not_double_anything() {
    let server = server();
    let (client, session, _) = used(&server);
    for _ in 0..3 {
        client.must("resumeSession", json!({"sessionId": session}));
    }
    let file = go_file(&server);
    let prompt = client.ask(&session, &format!("wait {}", file.display()));
    client.wait_chunk(&prompt);
    client.must("resumeSession", json!({"sessionId": session}));
    go(&file);
    client.wait_response(&prompt);
    settle(&client, &session);
    assert!(nothing_for(&client, std::time::Duration::from_millis(50)).is_empty());
    assert_eq!(client.chunks(&prompt).concat(), "waiting no more");
    let count = |name: &str| client.events_named(name).iter().filter(|data| data["promptId"] == *prompt).count();
    assert_eq!([count("claudeStreamStart"), count("claudeStreamEnd"), count("claudeResponse")], [1, 1, 1]);
}
