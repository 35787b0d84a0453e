//! Places for processes: who waits, who makes room, who gets one early, and what becomes of sessions that nobody uses.

use std::{sync::Arc, thread::sleep, time::Duration};

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, make, on, scene},
    support::{
        DEADLINE,
        client::Client,
        processes::eventually,
        server::{Builder, Server},
        workspace::Workspace,
    },
};

/// Another client with a session of its own.
fn another(server: &Server) -> (Client, String) {
    let client = server.connect(Value::Null);
    let id = client.session_id();
    (client, id)
}

fn state(client: &Client, id: &str) -> String {
    let details = client.must("getSession", json!({"sessionId": id}));
    details["session"]["state"].as_str().expect("a state").to_owned()
}

fn wait_state(client: &Client, id: &str, wanted: &str) {
    eventually(wanted, DEADLINE, || state(client, id) == wanted);
}

/// The agents that run, but not the guardian.
fn agents(server: &Server) -> usize {
    let is_agent = |process: &&crate::support::processes::Process| process.cmdline[0].ends_with("bad_agent");
    server.started().iter().filter(is_agent).count()
}

fn answer(client: &Client, id: &str, prompt: &str) -> String {
    let response = client.ask_and_wait(id, prompt);
    assert_eq!(response["status"], "done", "{response}");
    response["fullResponse"].as_str().expect("text").to_owned()
}

#[test]
fn the_one_that_was_idle_for_longest_makes_room() {
    let first = scene(bad("proper").arg("--max-processes=2"));
    let (second, second_id) = another(&first.server);
    let (third, third_id) = another(&first.server);
    assert_eq!(first.text("hi"), "you said: hi");
    assert_eq!(answer(&second, &second_id, "hi"), "you said: hi");
    // Used again, the first is not the oldest any more.
    assert_eq!(first.text("you"), "you said: you");
    assert_eq!(answer(&third, &third_id, "hi"), "you said: hi");
    assert_eq!(state(&second, &second_id), "stopped");
    assert_eq!(state(&third, &first.id), "idle");
    assert_eq!(answer(&second, &second_id, "history"), r#"["hi"]"#, "its conversation goes on");
    assert!(agents(&first.server) <= 2);
    first.finish();
}

#[test]
fn where_all_are_busy_a_prompt_waits_and_says_so() {
    let first = scene(bad("proper").arg("--max-processes=1"));
    let file = first.file("go");
    let running = first.ask(&format!("wait {}", file.display()));
    first.client.wait_chunk(&running);
    let (second, second_id) = another(&first.server);
    let waiting = second.ask(&second_id, "hi");
    let notice = second.wait_event("notice", |_| true);
    assert_eq!((&notice["code"], &notice["promptId"]), (&json!("waiting_for_process"), &json!(waiting)));
    assert_eq!(state(&second, &second_id), "stopped");
    // One that is cancelled gives its place in line to the next.
    let (third, third_id) = another(&first.server);
    let cancelled = third.ask(&third_id, "hi");
    third.wait_event("notice", |notice| notice["code"] == "waiting_for_process");
    third.must("interruptClaude", json!({"sessionId": third_id}));
    assert_eq!(third.wait_response(&cancelled)["status"], "interrupted");
    let (fourth, fourth_id) = another(&first.server);
    let last = fourth.ask(&fourth_id, "hi");
    assert_eq!(agents(&first.server), 1);
    make(&file);
    for (client, id) in [(&first.client, &running), (&second, &waiting), (&fourth, &last)] {
        assert_eq!(client.wait_response(id)["status"], "done");
    }
    assert_eq!(agents(&first.server), 1);
    first.finish();
}

#[test]
fn nobody_makes_room_for_what_was_taken_back() {
    let first = scene(bad("proper").arg("--max-processes=1"));
    let pid = first.text("pid");
    for interrupts in [true, false] {
        let file = first.file(if interrupts { "go" } else { "onward" });
        let running = first.ask(&format!("wait {}", file.display()));
        first.client.wait_chunk(&running);
        let (second, second_id) = another(&first.server);
        let waiting = second.ask(&second_id, "hi");
        second.wait_event("notice", |notice| notice["code"] == "waiting_for_process");
        let event = if interrupts { "interruptClaude" } else { "closeSession" };
        second.must(event, json!({"sessionId": second_id}));
        assert_eq!(second.wait_response(&waiting)["status"], "interrupted");
        make(&file);
        assert_eq!(first.client.wait_response(&running)["status"], "done");
        first.wait_state("idle");
        for _ in 0..3 {
            assert_eq!(first.text("pid"), pid);
            first.wait_state("idle");
        }
    }
    assert!(!first.server.stderr_text().contains("makes room"));
    first.finish();
}

#[test]
fn a_session_with_something_to_do_is_never_put_to_sleep() {
    let first = scene(bad("proper").arg("--max-processes=1"));
    let asked = first.ask("ask");
    let question = first.client.wait_event("permissionRequest", |_| true);
    let (second, second_id) = another(&first.server);
    let waiting = second.ask(&second_id, "hi");
    second.wait_event("notice", |notice| notice["code"] == "waiting_for_process");
    assert_eq!(state(&second, &first.id), "waiting");
    let allow = first.data(json!({"requestId": question["requestId"], "behavior": "allow"}));
    first.client.must("answerPermission", allow);
    assert_eq!(first.client.wait_response(&asked)["status"], "done");
    assert_eq!(second.wait_response(&waiting)["status"], "done");
    first.finish();
}

#[test]
fn sessions_just_opened_get_their_process_early() {
    let server = bad("proper").args(["--prestart=2", "--max-processes=3"]).start();
    let first = on(server);
    first.client.wait_event("sessionUpdated", |session| session["state"] == "idle");
    let (second, second_id) = another(&first.server);
    wait_state(&second, &second_id, "idle");
    let (third, third_id) = another(&first.server);
    assert_eq!(state(&third, &third_id), "stopped", "two are enough");
    // One that has been asked something is no longer early, so that the next may be.
    let text = first.text("pid");
    let (fourth, fourth_id) = another(&first.server);
    wait_state(&fourth, &fourth_id, "idle");
    assert_eq!(first.text("pid"), text, "the process that was started early");
    // An early one that nobody needs makes room for who does.
    assert_eq!(answer(&third, &third_id, "hi"), "you said: hi");
    assert!(agents(&first.server) <= 3);
    // Those that go with their last viewer take their process along.
    fourth.disconnect();
    second.disconnect();
    eventually("their processes gone", DEADLINE, || agents(&first.server) <= 2);
    first.finish();
}

#[test]
fn an_early_process_is_not_held_for_those_who_only_look() {
    let scene = scene(bad("proper").args(["--prestart=1", "--idle-timeout=100ms"]));
    scene.client.wait_event("sessionUpdated", |session| session["state"] == "idle");
    scene.wait_state("stopped");
    assert_eq!(scene.text("hi"), "you said: hi");
    scene.finish();
}

#[test]
fn a_prompt_that_meets_the_hibernation_is_answered_by_the_next_process() {
    // It ends only when it is interrupted by signal, so that the prompt comes while it stops.
    let scene = scene(bad("ignore-eof").args(["--idle-timeout=50ms", "--stop-grace=500ms"]));
    let first = scene.text("pid");
    let id = scene.id.clone();
    let server = scene.server;
    scene.client.disconnect();
    let observer = server.connect(Value::Null);
    eventually("stopping", DEADLINE, || state(&observer, &id) == "stopping");
    let asked = observer.ask(&id, "pid");
    let response = observer.wait_response(&asked);
    assert_ne!(response["fullResponse"], first.as_str());
    assert_eq!(response["status"], "done");
    server.stop();
}

#[test]
fn a_session_may_be_resumed_while_it_closes() {
    let scene = scene(bad("ignore-eof").arg("--stop-grace=300ms"));
    let first = scene.text("pid");
    let closing = scene.client.start_emit("closeSession", scene.data(json!({})));
    scene.client.wait_event("sessionUpdated", |session| session["state"] == "stopping");
    let refused = scene.client.must_fail("askClaudeCode", scene.data(json!({"prompt": "hi"})));
    assert_eq!(refused["code"], "session_ended");
    scene.client.must("resumeSession", scene.data(json!({})));
    let asked = scene.ask("pid");
    assert_eq!(scene.client.wait_ack(closing)["ok"], true);
    let response = scene.client.wait_response(&asked);
    assert!(response["status"] == "done" && response["fullResponse"] != first.as_str(), "{response}");
    scene.finish();
}

#[test]
fn what_nobody_has_used_for_long_is_deleted_and_not_what_is_watched() {
    let scene = scene(bad("proper").args(["--session-ttl=1s", "--idle-timeout=100ms"]));
    assert_eq!(scene.text("words 1"), "w1");
    let (second, second_id) = another(&scene.server);
    assert_eq!(answer(&second, &second_id, "words 1"), "w1");
    second.disconnect();
    let ids = || -> Vec<String> {
        let listed = scene.client.must("listSessions", json!({}));
        let sessions = listed["sessions"].as_array().expect("a list");
        sessions.iter().map(|session| session["sessionId"].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids().len(), 2);
    eventually("the unused one deleted", DEADLINE, || ids() == [scene.id.clone()]);
    scene.server.wait_log("it is deleted");
    let gone = scene.client.must_fail("getSession", json!({"sessionId": second_id}));
    assert_eq!(gone["code"], "invalid_session");
    scene.finish();
}

/// A session with some history that nobody uses any more, and that has left the memory.
fn unloaded(builder: Builder) -> (Server, String, Value) {
    let Scene { client, id, server } = scene(builder.arg("--idle-timeout=50ms"));
    client.ask_and_wait(&id, "words 3");
    client.must("renameSession", json!({"sessionId": id, "title": "to be found again"}));
    let history = client.must("getHistory", json!({"sessionId": id}))["events"].clone();
    client.disconnect();
    (server, id, history)
}

#[test]
fn a_session_that_left_the_memory_comes_back_as_it_was() {
    let place = Arc::new(Workspace::new());
    for round in 0..10 {
        let (server, id, history) = unloaded(bad("proper").workspace(&place));
        let client = server.connect(Value::Null);
        wait_state(&client, &id, "stopped");
        // Again and again in the moment in which it may be leaving.
        for _ in 0..20 {
            let back = server.connect(json!({"sessionId": id, "afterSeq": 0, "stream": "events"}));
            let registered = back.registered();
            assert_eq!((&registered["resumed"], &registered["sessionId"]), (&json!(true), &json!(id)), "{round}");
            assert_eq!(registered["session"]["title"], "to be found again");
            back.disconnect();
        }
        let page = client.must("getHistory", json!({"sessionId": id}))["events"].clone();
        // The agent may have said something of its new name meanwhile.
        let (page, history) = (page.as_array().expect("a list"), history.as_array().expect("a list"));
        assert!(page.starts_with(history), "{round}: {page:#?} {history:#?}");
        assert_eq!(answer(&client, &id, "history"), r#"["words 3"]"#);
        server.stop();
    }
}

/// What the server's thread of that name has used of a processor, in clock ticks.
fn ticks(server: &Server, thread: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", server.pid())).expect("its threads");
    let of = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.rsplit_once(") ")?;
        let times = rest.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
        name.ends_with(&format!("({thread}")).then(|| times.sum::<u64>())
    };
    tasks.filter_map(|task| of(task.ok()?)).sum()
}

#[cfg(target_os = "linux")]
#[test]
fn whoever_makes_room_does_not_wait_at_full_speed() {
    let first = scene(bad("ignore-eof").args(["--max-processes=3", "--stop-grace=1500ms"]));
    assert_eq!(first.answer("pid")["status"], "done");
    let others: Vec<_> = (0..2).map(|_| another(&first.server)).collect();
    for (client, id) in &others {
        assert_eq!(client.ask_and_wait(id, "pid")["status"], "done");
    }
    let before = ticks(&first.server, "keeper");
    let (last, id) = another(&first.server);
    assert_eq!(last.ask_and_wait(&id, "pid")["status"], "done", "the first has made room");
    let used = ticks(&first.server, "keeper") - before;
    assert!(used < 30, "{used} ticks of 10 ms, while a process took 1.5 s to stop and two others were idle");
    first.server.stop();
}

#[test]
fn a_session_is_not_opened_again_while_it_is_being_deleted() {
    let scene = scene(bad("ignore-eof").arg("--stop-grace=300ms"));
    scene.text("pid");
    let deleting = scene.client.start_emit("deleteSession", scene.data(json!({})));
    scene.client.wait_event("sessionUpdated", |session| session["state"] == "stopping");
    let refused = scene.client.must_fail("resumeSession", scene.data(json!({})));
    assert_eq!(refused["code"], "invalid_session");
    let refused = scene.client.must_fail("askClaudeCode", scene.data(json!({"prompt": "hi"})));
    assert_eq!(refused["code"], "session_ended");
    assert_eq!(scene.client.wait_ack(deleting)["ok"], true);
    eventually("no process left", DEADLINE, || agents(&scene.server) == 0);
    scene.server.stop();
}

#[test]
fn the_shared_session_is_not_deleted_although_nobody_has_used_it_for_long() {
    let server = bad("exit-at-once").args(["--mode=shared", "--session-ttl=300ms"]).start();
    let client = server.connect(Value::Null);
    assert_eq!(client.session_id(), "global-session");
    // It ends at its start, and is not started again before somebody asks.
    server.wait_log("ended unexpectedly");
    client.disconnect();
    sleep(Duration::from_millis(1200));
    let client = server.connect(json!({"sessionId": "global-session"}));
    assert_eq!(client.registered()["resumed"], true);
    client.must("getSession", json!({"sessionId": "global-session"}));
    assert!(!server.stderr_text().contains("it is deleted"));
    server.stop();
}
