//! A client that does not read costs nobody else anything, and memory only so much.

use serde_json::json;

use super::{builder, health, text_client, viewer};
use crate::support::{
    DEADLINE,
    client::{Client, Frame},
    processes,
    processes::eventually,
    server::Server,
};

/// Far more than the kernel keeps for one connection and `--outbox-bytes-max` together, as `claudeEvent`s.
const WORDS: u64 = 100_000;

/// A viewer that has stopped reading.
fn stuck(server: &Server, session: &str) -> Client {
    let client = viewer(server, session, "events");
    client.must("getSession", json!({"sessionId": session}));
    client.pause_reading();
    client
}

#[test]
fn a_slow_client_delays_nobody_and_is_sent_away() {
    let server = builder().arg("--outbox-bytes-max=1MiB").start();
    let (fast, session) = text_client(&server);
    let slow = stuck(&server, &session);
    let prompt = fast.ask(&session, &format!("words {WORDS}"));
    server.wait_log("a client is too slow");
    // It has only so long to see why: whoever takes nothing for too long is gone without a word.
    slow.resume_reading();
    assert_eq!(slow.wait_closed(), Some(1013));
    let response = fast.wait_response(&prompt);
    assert_eq!(response["status"], "done");
    assert_eq!(fast.chunks(&prompt).len() as u64, WORDS);
    // Nor those of other sessions.
    let (other, elsewhere) = text_client(&server);
    assert_eq!(other.ask_and_wait(&elsewhere, "words 3")["fullResponse"], "w1 w2 w3");
    // Up to then it has got whole packets, in order and without a hole.
    let mut last = (0, 0);
    for event in slow.events().iter().filter(|event| event.name == "claudeEvent") {
        let (seq, part) = (event.data["seq"].as_u64().expect("a number"), event.data["part"].as_u64().unwrap_or(0));
        let whole = seq == last.0 && part == last.1 + 1 || seq > last.0 && part <= 1;
        assert!(whole, "{:?} after {last:?}", (seq, part));
        last = (seq, part);
    }
    assert!(last.1 > 0);
    let closes = slow.frames().iter().filter(|received| matches!(received.frame, Frame::Close(_))).count();
    assert_eq!(closes, 1);
    fast.must("getSession", json!({"sessionId": session}));
}

/// Whether the process is in a `write` (number 1 on x86-64) that does not return.
fn writes(pid: i32) -> bool {
    let blocked =
        |_| std::fs::read_to_string(format!("/proc/{pid}/syscall")).ok().filter(|call| call.starts_with("1 "));
    let calls: Vec<_> = (0..20).map(blocked).collect();
    calls[0].is_some() && calls.windows(2).all(|pair| pair[0] == pair[1])
}

/// How many bytes the process has written so far.
fn written(pid: i32) -> u64 {
    let io = std::fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok()).unwrap_or(0)
}

/// Whether the process has a thread of that name.
fn has_thread(pid: i32, name: &str) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok()).any(|comm| comm.trim_end() == name)
}

#[test]
fn a_lone_slow_client_paces_the_agent_and_loses_nothing() {
    for stream in ["text", "events"] {
        let server = builder().arg("--outbox-bytes-max=256k").start();
        let client = server.connect(json!({"stream": stream}));
        let session = client.session_id();
        client.emit("askClaudeCode", json!({"sessionId": session, "prompt": "words 1"}));
        client.wait_event("sessionUpdated", |data| data["turns"] == 1);
        client.pause_reading();
        client.emit("askClaudeCode", json!({"sessionId": session, "prompt": format!("words {WORDS}")}));
        // The agent has far more to say than fits between it and the client: it is made to wait, and is not done.
        eventually("the agent is made to wait", DEADLINE, || server.started().iter().any(|agent| writes(agent.pid)));
        client.resume_reading();
        client.wait_event("sessionUpdated", |data| data["turns"] == 2);
        let texts: Vec<String> = match stream {
            "text" => client.events_named("claudeStreamChunk").iter().map(|data| data["text"].to_string()).collect(),
            _ => {
                let deltas = client.events_named("claudeEvent");
                let texts = deltas.iter().filter_map(|data| data["event"]["event"]["delta"]["text"].as_str());
                texts.map(|text| format!("{text:?}")).collect()
            }
        };
        assert_eq!(texts.len() as u64, WORDS + 1);
        let in_order = |(at, text): (usize, &String)| text.trim_matches('"').trim() == format!("w{}", at + 1);
        assert!(texts[1..].iter().enumerate().all(in_order), "{stream}: in order");
        assert!(!client.is_closed());
    }
}

/// What is there already waits for it, and what is not there yet as well.
#[test]
fn a_lone_client_that_catches_up_paces_the_agent_too() {
    // 8 MB: more than the kernel keeps for one connection and what an outbox holds of it. What has been said of the answer by
    // the time at which the client is live, 2 MiB at most, fits in as well.
    const HISTORY: u64 = 30;
    let server = builder().arg("--outbox-bytes-max=4MiB").start();
    let (asking, session) = text_client(&server);
    for _ in 0..HISTORY {
        asking.ask_and_wait(&session, "words 20000");
    }
    let back = server.connect(json!({"sessionId": session, "stream": "events", "afterSeq": 0}));
    back.pause_reading();
    eventually("it waits for room", DEADLINE, || has_thread(server.pid(), "catch-up"));
    asking.emit("askClaudeCode", json!({"sessionId": session, "prompt": "words 60000"}));
    asking.wait_event("sessionUpdated", |data| data["state"] == "busy" && data["turns"] == HISTORY);
    asking.disconnect();
    let (observer, _) = text_client(&server);
    eventually("the agent stands still", DEADLINE, || {
        let written = || server.started().iter().map(|agent| written(agent.pid)).sum::<u64>();
        let before = written();
        std::thread::sleep(std::time::Duration::from_millis(600));
        written() == before
    });
    assert_eq!(observer.must("getSession", json!({"sessionId": session}))["session"]["state"], "busy");
    back.resume_reading();
    back.wait_event("sessionUpdated", |data| data["turns"] == HISTORY + 1);
    assert!(!back.is_closed());
}

#[test]
fn a_stuck_client_s_memory_is_bounded() {
    const GROWTH_MAX_BYTES: u64 = 40 << 20;
    let page = 4096;
    let server = builder().args(["--outbox-bytes-max=256k", "--ping-interval-ms=60000"]).start();
    let (asking, session) = text_client(&server);
    asking.ask_and_wait(&session, "words 10");
    let memory = || processes::get(server.pid()).expect("the server").rss_pages * page;
    let before = memory();
    let _stuck: Vec<Client> = (0..4).map(|_| stuck(&server, &session)).collect();
    let mut bytes = 0;
    for _ in 0..2 {
        let response = asking.ask_and_wait(&session, &format!("words {WORDS}"));
        bytes += response["fullResponse"].to_string().len();
    }
    // Each word travels as an event of more than 200 bytes.
    assert!(bytes as u64 > WORDS);
    let growth = memory().saturating_sub(before);
    assert!(growth < GROWTH_MAX_BYTES, "{growth} bytes for what four clients did not read");
}

#[test]
fn a_stuck_client_is_given_up_in_the_end() {
    let args = ["--outbox-bytes-max=256k", "--ping-interval-ms=500", "--ping-timeout-ms=500"];
    let server = builder().args(args).start();
    let (asking, session) = text_client(&server);
    let slow = stuck(&server, &session);
    asking.ask_and_wait(&session, "words 20000");
    eventually("given up", DEADLINE, || health(&server)["connections"] == 1);
    slow.resume_reading();
    slow.wait_closed();
}

#[test]
fn a_long_replay_waits_for_the_client_and_then_goes_live() {
    let server = builder().arg("--outbox-bytes-max=1MiB").start();
    let (asking, session) = text_client(&server);
    // What is stored of each answer: about 140 kB, twice.
    const ANSWERS: u64 = 30;
    for _ in 0..ANSWERS {
        asking.ask_and_wait(&session, "words 20000");
    }
    let back = server.connect(json!({"sessionId": session, "stream": "events", "afterSeq": 0}));
    back.pause_reading();
    asking.ask_and_wait(&session, "words 3");
    back.resume_reading();
    asking.ask_and_wait(&session, "words 4");
    back.wait_event("claudeEvent", |data| data["event"]["result"] == "w1 w2 w3 w4");
    let numbered = back.events().into_iter().filter(|event| event.data["part"].is_null());
    let seqs: Vec<u64> = numbered.filter_map(|event| event.data["seq"].as_u64()).collect();
    let last = back.registered()["seq"].as_u64().expect("a number");
    // The first is the position in `sessionRegistered`.
    let seqs: Vec<u64> = seqs.into_iter().skip_while(|seq| *seq == last).collect();
    assert!(seqs.iter().copied().eq(1..=*seqs.last().expect("some")), "each once, in order, live ones too");
    assert!(*seqs.last().expect("some") > last && !back.is_closed());
}
