//! Badly behaved agents: each has its expected outcome for the client and for the process table.

use std::fs;

use serde_json::{Value, json};

use crate::{
    scene::{EXE, Scene, bad, init, make, result, scene},
    support::{DEADLINE, agent::bad_agent, client, processes, server::Server, workspace::Workspace},
};

struct Failing {
    mode: &'static str,
    flags: &'static [&'static str],
    prompt: &'static str,
    message: &'static str,
    /// How the end of stderr begins and ends.
    stderr: (&'static str, &'static str),
}

#[test]
fn an_agent_that_fails_says_why_and_may_try_again() {
    const QUICK: &[&str] = &["--start-timeout=500ms", "--stop-grace=200ms"];
    let case = |mode, flags, prompt, message, stderr| Failing { mode, flags, prompt, message, stderr };
    let no_licence = "bad_agent: cannot start: no licence for bad agents";
    let gave_up = "bad_agent: gave up before init";
    let crashed = "bad_agent: crashed at a prompt";
    let as_asked = "bad_agent: crashed as asked";
    let cases = [
        case("exit-at-once", &[], "hi", "exit code 3", (no_licence, no_licence)),
        case("exit-before-init", &[], "hi", "exit code 4", (gave_up, gave_up)),
        case("hang", QUICK, "hi", "did not answer within 0.5 s of its start", ("", "")),
        case("ignore-everything", QUICK, "hi", "did not answer within 0.5 s of its start", ("", "")),
        case("crash-always", &[], "hi", "exit code 6", (crashed, crashed)),
        case("proper", &[], "crash 12", "exit code 12", (as_asked, as_asked)),
        case("flood-stderr", &[], "crash 5", "exit code 5", ("yyyyyyyy", as_asked)),
    ];
    for Failing { mode, flags, prompt, message, stderr } in cases {
        let scene = scene(bad(mode).args(flags.iter().copied()));
        // The first failure is followed by another try at once, the second too has its one answer.
        for round in 1..=2 {
            let id = scene.ask(prompt);
            let response = scene.client.wait_response(&id);
            assert_eq!(response["status"], "failed", "{mode}: {response}");
            assert_eq!(response["fullResponse"], "", "{mode}");
            let error = response["error"].as_str().expect("an error");
            assert!(error.contains(message), "{mode}: {error}");
            let summary = scene.summary_after(&id);
            assert_eq!(summary["state"], "failed", "{mode}: {summary}");
            let failure = &summary["failure"];
            assert_eq!(failure["code"], "agent_failed", "{mode}");
            assert!(failure["message"].as_str().expect("text").contains(message), "{mode}: {failure}");
            let tail = failure["stderr"].as_str().expect("text");
            assert!(tail.starts_with(stderr.0) && tail.ends_with(stderr.1), "{mode}: {tail}");
            assert!(tail.len() <= 8192, "{mode}: {}", tail.len());
            assert_eq!(scene.notices(), vec!["agent_failed"; round], "{mode}");
            let notice = scene.client.events_named("notice").pop().expect("just counted");
            assert_eq!((&notice["level"], &notice["promptId"]), (&json!("error"), &json!(id)), "{mode}");
        }
        scene.finish();
    }
}

#[test]
fn an_agent_that_cannot_be_started_is_a_failure_like_any_other() {
    let place = Workspace::new();
    let agent = place.root().join("agent");
    fs::copy(bad_agent(), &agent).expect("a copy of the agent");
    let scene = scene(Server::builder(EXE).arg(format!("--agent={}", agent.display())));
    fs::rename(&agent, place.root().join("away")).expect("moved");
    let id = scene.ask("hi");
    let response = scene.client.wait_response(&id);
    assert_eq!(response["status"], "failed");
    assert!(response["error"].as_str().expect("text").contains("cannot start"), "{response}");
    assert_eq!(scene.summary_after(&id)["state"], "failed");
    assert_eq!(scene.notices(), ["agent_failed"]);
    fs::rename(place.root().join("away"), &agent).expect("moved back");
    assert_eq!(scene.text("hi"), "you said: hi");
    scene.finish();
}

#[test]
fn an_agent_that_answers_is_heard_whatever_it_does_beside() {
    let cases = [
        ("proper", ""),
        ("ignore-eof", ""),
        ("garbage", "between "),
        ("big-line", "before "),
        ("fifteen-mib-line", "before "),
        ("flood-stderr", ""),
        ("no-replay", ""),
        ("old", ""),
        ("late-interrupt", ""),
        ("own-turn", ""),
    ];
    for (mode, before) in cases {
        let scene = scene(bad(mode).arg("--stop-grace=300ms"));
        let pid = scene.text("pid").trim_start_matches(before).to_owned();
        assert_eq!(scene.text("hi"), format!("{before}you said: hi"), "{mode}");
        let local = scene.answer("/local");
        assert_eq!((&local["status"], &local["fullResponse"]), (&json!("done"), &json!("what the command says")));
        let failed = scene.answer("fail");
        let error = format!("{before}API Error: failed as asked");
        assert_eq!((&failed["status"], &failed["error"]), (&json!("failed"), &json!(error)), "{mode}");
        assert_eq!(scene.text("history"), format!(r#"{before}["pid","hi","/local","fail"]"#), "{mode}");
        assert_eq!(scene.text("pid").trim_start_matches(before), pid, "{mode}: one process all along");
        let notices = if mode == "big-line" { vec!["line_too_long"; 5] } else { vec![] };
        assert_eq!(scene.notices(), notices, "{mode}");
        scene.finish();
    }
}

#[test]
fn a_line_of_50_mb_leaves_a_marker_and_no_memory() {
    const GROWTH_BYTES_MAX: u64 = 64 << 20;
    const PAGE_BYTES: u64 = 4096;
    let server = bad("big-line").start();
    let client = server.connect(json!({"stream": "events"}));
    let id = client.session_id();
    // The high-water mark, so that no moment is missed.
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak").trim().to_owned();
        1024 * line.trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let idle = processes::get(server.pid()).expect("it runs").rss_pages * PAGE_BYTES;
    for round in 1..=3 {
        let mark = client.mark();
        let ack = client.must("askClaudeCode", json!({"sessionId": id, "prompt": "hi"}));
        let is_result = |data: &Value| data["event"]["type"] == "result";
        let (end, result) = client.wait_event_from(mark, "claudeEvent", is_result);
        assert_eq!(result["event"]["result"], "before you said: hi", "{ack}");
        let events = &client.events()[mark..end];
        let cut: Vec<_> = events.iter().filter(|event| event.data["truncated"] == true).collect();
        assert_eq!(cut.len(), 1, "round {round}");
        let seq = cut[0].data["seq"].as_u64().expect("a number");
        assert_eq!(cut[0].data, json!({"sessionId": id, "seq": seq, "truncated": true, "bytes": 49_999_999}));
        let notice = events.iter().find(|event| event.name == "notice").expect("a notice");
        assert_eq!((&notice.data["code"], &notice.data["seq"]), (&json!("line_too_long"), &json!(seq + 1)));
    }
    let grown = peak().saturating_sub(idle);
    assert!(grown < GROWTH_BYTES_MAX, "grown by {grown} bytes");
}

#[test]
fn a_line_of_15_mib_is_had_whole_over_http() {
    let scene = scene(bad("fifteen-mib-line"));
    let viewer = scene.server.connect(json!({"sessionId": scene.id, "stream": "events"}));
    assert_eq!(scene.text("hi"), "before you said: hi");
    let cut = viewer.wait_event("claudeEvent", |data| data["truncated"] == true);
    let (seq, bytes) = (cut["seq"].as_u64().expect("a number"), cut["bytes"].as_u64().expect("a number"));
    assert_eq!(cut, json!({"sessionId": scene.id, "seq": seq, "truncated": true, "bytes": bytes}));
    let path = format!("/api/sessions/{}/events/{seq}", scene.id);
    let bearer = format!("Bearer {}", scene.server.token());
    let other = format!("Bearer {}", "x".repeat(43));
    for authorization in [None, Some(other.as_str()), Some("Bearer"), Some(&bearer["Bearer ".len()..])] {
        let headers: Vec<_> = authorization.map(|value| ("Authorization", value)).into_iter().collect();
        let refused = scene.server.http("GET", &path, &headers);
        assert_eq!(refused.status, 401, "{authorization:?}");
        assert!(refused.body.len() < 1000);
    }
    let answer = scene.server.http("GET", &path, &[("Authorization", &bearer)]);
    assert_eq!((answer.status, answer.body.len() as u64), (200, bytes));
    let (whole, line) = (answer.json(), (15 << 20) - r#"{"type":"blob","data":""}"#.len() - 1);
    assert_eq!((&whole["sessionId"], &whole["seq"]), (&json!(scene.id), &json!(seq)));
    assert_eq!(whole["event"]["type"], "blob");
    let data = whole["event"]["data"].as_str().expect("text");
    assert!(data.len() == line && data.bytes().all(|byte| byte == b'x'), "{} and not {line} bytes", data.len());
    let beyond = scene.server.http("GET", &path.replace(&format!("/{seq}"), "/999"), &[("Authorization", &bearer)]);
    assert_eq!(beyond.status, 404);
    scene.finish();
}

#[test]
fn unknown_lines_are_relayed_as_they_came_and_unknown_requests_refused() {
    let scene = scene(bad("unknown-lines"));
    let viewer = scene.server.connect(json!({"sessionId": scene.id, "stream": "events"}));
    let reply = r#"{"subtype":"error","request_id":"ours","error":"this client does not serve this request"}"#;
    assert_eq!(scene.text("hi"), format!("reply: {reply}"));
    let (end, result) = viewer.wait_event_from(0, "claudeEvent", |data| data["event"]["type"] == "result");
    let uuid = &result["event"]["session_id"];
    let events = viewer.events();
    let lines = [
        format!(r#"{{"payload":{{"deep":[1,2,{{"x":null}}]}},"session_id":{uuid},"type":"never_heard_of"}}"#),
        format!(r#"{{"session_id":{uuid},"subtype":"never_heard_of_either","type":"system"}}"#),
        r#""request":{"question":"?","subtype":"never_heard_of_request"}"#.to_owned(),
        r#""event":{"index":0,"type":"never_heard_of_event"}"#.to_owned(),
    ];
    let places: Vec<usize> = lines
        .iter()
        .map(|line| {
            let holds = |event: &client::Event| event.name == "claudeEvent" && event.raw.contains(line.as_str());
            let found: Vec<usize> = (0..end).filter(|at| holds(&events[*at])).collect();
            assert_eq!(found.len(), 1, "{line}");
            found[0]
        })
        .collect();
    for (line, at) in lines.iter().zip(places).take(2) {
        let seq = &events[at].data["seq"];
        let whole = format!(r#"42["claudeEvent",{{"sessionId":"{}","seq":{seq},"event":{line}}}]"#, scene.id);
        assert_eq!(events[at].raw, whole, "untouched, byte for byte");
    }
    scene.finish();
}

#[test]
fn a_crash_in_mid_answer_keeps_the_conversation() {
    let scene = scene(bad("crash-mid-answer"));
    let crashed = scene.answer("first");
    assert_eq!(crashed["status"], "failed");
    assert_eq!(crashed["fullResponse"], "these words end here");
    assert!(crashed["error"].as_str().expect("text").contains("exit code 9"), "{crashed}");
    assert_eq!(scene.json("history"), json!(["first"]));
    let args = scene.json("args");
    let resumes = |arg: &Value| arg.as_str().is_some_and(|arg| arg.starts_with("--resume="));
    assert!(args.as_array().expect("a list").iter().any(resumes), "{args}");
    assert_eq!(scene.notices(), ["agent_failed"]);
    assert_eq!(scene.wait_state("idle").get("failure"), None);
    scene.finish();
}

#[test]
fn a_grandchild_that_holds_stdout_does_not_hold_the_session() {
    let scene = scene(bad("grandchild"));
    for round in 1..=2 {
        assert_eq!(scene.text("hi"), "you said: hi");
        scene.wait_state("stopped");
        assert_eq!(scene.notices(), vec!["agent_exited"; round]);
        let sleeping = |process: &processes::Process| process.cmdline.iter().any(|arg| arg == "sleep-forever");
        let left: Vec<_> = scene.server.started().into_iter().filter(sleeping).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    scene.finish();
}

#[test]
fn a_crash_loop_backs_off_and_leaves_others_alone() {
    const PROMPTS: usize = 5;
    let scene = scene(bad("crash-always"));
    let ids: Vec<String> = (0..PROMPTS).map(|n| scene.ask(&format!("prompt {n}"))).collect();
    // The agent fails here too, but this session has not been seen to fail: its first start is not held up by the loop.
    let other = scene.server.connect(Value::Null);
    let theirs = other.ask_and_wait(&other.session_id(), "hi");
    assert_eq!(theirs["status"], "failed");
    for id in &ids {
        assert_eq!(scene.client.wait_response(id)["status"], "failed");
    }
    // By the server's own clock.
    let times = |what: &str| -> Vec<i64> {
        let ours = format!("session {}:", scene.id);
        let log = scene.server.stderr_text();
        log.lines().filter(|line| line.contains(&ours) && line.contains(what)).map(milliseconds).collect()
    };
    processes::eventually("the log", DEADLINE, || times("ended unexpectedly").len() == PROMPTS);
    let (starts, ends) = (times(" started, "), times("ended unexpectedly"));
    assert_eq!(starts.len(), PROMPTS);
    for (failures, at_least) in [(2, 500), (3, 1000), (4, 2000)] {
        let waited = starts[failures] - ends[failures - 1];
        // The log's clock is not the one that the wait goes by.
        assert!(waited >= at_least - 20, "after {failures} failures: {waited} ms");
    }
    assert_eq!(scene.notices().len(), PROMPTS);
    scene.finish();
}

/// The time of day of a line of the log, `2026-11-24T01:02:03.456Z …`, counted on over midnight of one day.
fn milliseconds(line: &str) -> i64 {
    let field = |from: usize, to: usize| -> i64 { line[from..to].parse().expect("digits") };
    (((field(8, 10) * 24 + field(11, 13)) * 60 + field(14, 16)) * 60 + field(17, 19)) * 1000 + field(20, 23)
}

#[test]
fn a_turn_of_the_agents_own_belongs_to_no_prompt() {
    let scene = scene(bad("own-turn"));
    // Two at once: the second prompt waits while the agent talks to itself.
    let ids = ["hi", "you"].map(|prompt| scene.ask(prompt));
    for (id, text) in ids.iter().zip(["you said: hi", "you said: you"]) {
        assert_eq!(scene.client.wait_response(id)["fullResponse"], text);
    }
    let events = scene.client.events();
    let own = |name: &str| -> Vec<Value> {
        let named = events.iter().filter(|event| event.name == name && event.data["promptId"].is_null());
        named.map(|event| event.data.clone()).collect()
    };
    let chunks = own("claudeStreamChunk");
    assert!(chunks.iter().all(|chunk| chunk.as_object().expect("an object").contains_key("promptId")));
    let text: String = chunks.iter().map(|chunk| chunk["text"].as_str().expect("text")).collect();
    assert_eq!(text, "this turn is my own");
    assert_eq!((own("claudeStreamStart").len(), own("claudeStreamEnd").len(), own("claudeResponse").len()), (1, 1, 0));
    assert_eq!(scene.wait_state("idle")["turns"], 3);
    scene.finish();
}

/// Who stops without naming a prompt means that turn, and the prompts behind it have nothing of it.
#[test]
fn a_turn_of_the_agents_own_that_does_not_end_is_stopped() {
    let scene = scene(bad("proper").args(["--interrupt-timeout=300ms", "--stop-grace=200ms"]));
    let delta = json!({"type": "stream_event", "event": {"type": "content_block_delta", "index": 0,
        "delta": {"type": "text_delta", "text": "mine"}}});
    // The prompt's turn, and one that the agent begins by itself and never ends.
    assert_eq!(scene.turn(&[init(), result(), init(), delta])["status"], "done");
    scene.client.wait_event("claudeStreamChunk", |chunk| chunk["text"] == "mine");
    let [unwanted, wanted] = ["words 2", "words 3"].map(|prompt| scene.ask(prompt));
    // Next to nothing of a client's it is the one that runs, and is stopped by its name.
    scene.client.must("interruptClaude", scene.data(json!({"promptId": unwanted})));
    let response = scene.client.wait_response(&unwanted);
    assert_eq!((&response["status"], &response["fullResponse"]), (&json!("interrupted"), &json!("")));
    assert_eq!(scene.summary()["state"], "busy");
    assert_eq!(scene.client.must("interruptClaude", scene.data(json!({})))["stillQueued"], json!([wanted]));
    let response = scene.client.wait_response(&wanted);
    assert_eq!((&response["status"], &response["fullResponse"]), (&json!("done"), &json!("w1 w2 w3")));
    assert_eq!(scene.notices(), ["prompt_cancelled", "interrupt_timeout"]);
    scene.finish();
}

#[test]
fn a_text_behind_the_result_does_not_keep_the_session_busy() {
    let scene = scene(bad("text-behind"));
    for _ in 0..3 {
        assert_eq!(scene.text("words 2"), "w1 w2");
        scene.wait_state("idle");
    }
    scene.finish();
}

#[test]
fn early_crashes_do_not_lose_the_way_to_begin() {
    let scene = scene(bad("crash-early"));
    for _ in 0..2 {
        assert_eq!(scene.answer("words 2")["status"], "failed");
    }
    for _ in 0..2 {
        assert_eq!(scene.text("words 2"), "w1 w2");
    }
    scene.finish();
}

#[test]
fn an_agent_that_turns_deaf_is_stopped_at_the_interrupt() {
    let scene = scene(bad("deaf").args(["--interrupt-timeout=300ms", "--stop-grace=200ms"]));
    for round in 1..=2 {
        let ids = ["hi", "you"].map(|prompt| scene.ask(prompt));
        scene.wait_state("busy");
        let ack = scene.client.must("interruptClaude", scene.data(json!({"clearQueue": true})));
        assert_eq!(ack["stillQueued"], json!([]));
        for id in &ids {
            let response = scene.client.wait_response(id);
            assert_eq!((&response["status"], &response["fullResponse"]), (&json!("interrupted"), &json!("")));
        }
        assert_eq!(scene.wait_state("stopped").get("failure"), None);
        let each = ["prompt_cancelled", "interrupt_timeout", "interrupted"];
        assert_eq!(scene.notices(), each.repeat(round));
    }
    scene.finish();
}

#[test]
fn a_prompt_that_an_interrupt_does_not_end_ends_with_its_process() {
    // The old CLI says nothing about a prompt that it has dropped: the interrupt is answered, and nothing follows.
    let scene = scene(bad("old").args(["--interrupt-timeout", "300ms"]));
    scene.text("words 1");
    let prompt = scene.ask("vanish");
    scene.client.must("interruptClaude", scene.data(json!({"promptId": prompt})));
    assert_eq!(scene.client.wait_response(&prompt)["status"], "interrupted");
    assert_eq!(scene.notices(), ["interrupt_timeout", "interrupted"]);
    assert_eq!(scene.json("history").as_array().map(Vec::len), Some(2), "the conversation goes on");
    scene.finish();
}

#[test]
fn a_slow_start_can_be_closed_and_opened_again() {
    let place = Workspace::new();
    let file = place.root().join("go");
    let builder = Server::builder(EXE).bad_agent(&["slow-start", &file.display().to_string()]);
    let scene = scene(builder.arg("--stop-grace=200ms"));
    let ids = ["hi", "you"].map(|prompt| scene.ask(prompt));
    scene.wait_state("starting");
    let closed = scene.close();
    assert_eq!((&closed["state"], closed.get("failure")), (&json!("stopped"), None));
    assert_eq!(agents(&scene), 0, "gone when it is acknowledged");
    for id in &ids {
        assert_eq!(scene.client.wait_response(id)["status"], "interrupted");
    }
    let refused = scene.client.must_fail("askClaudeCode", scene.data(json!({"prompt": "again"})));
    assert_eq!(refused["code"], "session_ended");
    let resumed = scene.client.must("resumeSession", scene.data(json!({})));
    assert_eq!(resumed["session"]["state"], "stopped");
    make(&file);
    assert_eq!(scene.text("history"), "[]", "what was never handed over was never asked");
    scene.finish();
}

#[test]
fn a_slow_start_can_be_interrupted() {
    let place = Workspace::new();
    let file = place.root().join("go");
    let scene = scene(Server::builder(EXE).bad_agent(&["slow-start", &file.display().to_string()]));
    let ids = ["first", "second", "history"].map(|prompt| scene.ask(prompt));
    scene.client.must("interruptClaude", scene.data(json!({"promptId": ids[0]})));
    assert_eq!(scene.client.wait_response(&ids[0])["status"], "interrupted");
    make(&file);
    assert_eq!(scene.client.wait_response(&ids[1])["fullResponse"], "you said: second");
    assert_eq!(scene.client.wait_response(&ids[2])["fullResponse"], r#"["second"]"#);
    scene.finish();
}

#[test]
fn a_process_that_nobody_needs_is_put_to_sleep() {
    let scene = scene(bad("proper").arg("--idle-timeout=300ms"));
    assert_eq!(scene.text("first"), "you said: first");
    let first = scene.process("pid");
    // Watched, it stays; so the client must go, and another look from outside the session.
    let Scene { client, id, server } = scene;
    drop(client);
    processes::eventually("the agent gone", DEADLINE, || !first.is_alive());
    server.wait_log("idle, its process is stopped");
    let client = server.connect(json!({"sessionId": id}));
    let scene = Scene { client, id, server };
    assert_eq!(scene.client.registered()["resumed"], true);
    assert_eq!(scene.wait_state("stopped").get("failure"), None);
    assert_eq!(scene.json("history"), json!(["first", "pid"]));
    assert_ne!(scene.process("pid").pid, first.pid);
    assert_eq!(scene.notices(), [""; 0]);
    scene.finish();
}

/// How many agents run.
fn agents(scene: &Scene) -> usize {
    let is_agent = |process: &processes::Process| process.cmdline.iter().any(|arg| arg == "-p");
    scene.server.started().into_iter().filter(is_agent).count()
}
