//! Nothing that was started for a session outlives it: not a close, a signal to the server, or a crash of the agent.
//! What follows the death of the server itself is in `restart`.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    scene::{EXE, Scene, assert_gone, bad, guardian, make, on, scene},
    support::{
        DEADLINE,
        processes::{self, eventually},
        server::Server,
        workspace::Workspace,
    },
};

/// Agents that end when they are asked, and that do not.
const AGENTS: [&str; 2] = ["proper", "ignore-eof"];

#[test]
fn a_closed_session_leaves_nothing() {
    for mode in AGENTS {
        for busy in [false, true] {
            let what = format!("{mode}, busy: {busy}");
            let scene = scene(bad(mode).arg("--stop-grace=300ms"));
            let family = scene.family();
            let other = on_another_session(&scene);
            let running = busy.then(|| scene.ask("slow 100000 5"));
            let waiting = scene.ask(if busy { "hi" } else { "/local" });
            match &running {
                Some(running) => drop(scene.client.wait_chunk(running)),
                None => drop(scene.client.wait_response(&waiting)),
            }
            let closed = scene.close();
            assert_gone(&family, &what);
            assert_eq!((&closed["state"], closed.get("failure")), (&json!("stopped"), None), "{what}");
            for id in running.iter().chain(Some(&waiting).filter(|_| busy)) {
                assert_eq!(scene.client.wait_response(id)["status"], "interrupted", "{what}");
            }
            assert!(other.is_alive(), "{what}: another session's");
            assert_eq!(scene.notices(), vec!["prompt_cancelled"; usize::from(busy)], "{what}");
            scene.finish();
            assert_gone(&[other], &what);
        }
    }
}

/// What an agent of another session has started.
fn on_another_session(scene: &Scene) -> processes::Process {
    let client = scene.server.connect(Value::Null);
    let id = client.session_id();
    let response = client.ask_and_wait(&id, "spawn-orphan");
    let pid = response["fullResponse"].as_str().and_then(|text| text.parse().ok()).expect("a number");
    processes::get(pid).expect("it runs")
}

#[test]
fn a_signal_to_the_server_leaves_nothing() {
    for mode in AGENTS {
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            let what = format!("{mode}, signal {signal}");
            let scene = scene(bad(mode).arg("--stop-grace=300ms"));
            let family = scene.family();
            let (id, running, waiting) = (scene.id.clone(), scene.ask("slow 100000 5"), scene.ask("hi"));
            scene.client.wait_chunk(&running);
            assert!(scene.server.signal(signal), "{what}");
            assert_eq!(scene.server.wait_exit(DEADLINE).code(), Some(0), "{what}");
            assert_gone(&family, &what);
            assert_eq!(scene.client.wait_response(&running)["status"], "interrupted", "{what}");
            // What had not begun is for the next server.
            let again = scene.server.workspace().clone();
            scene.finish();
            let server = bad(mode).workspace(&again).start();
            let client = server.connect(json!({"sessionId": id, "afterSeq": 0}));
            assert_eq!(client.wait_response(&waiting)["fullResponse"], "you said: hi", "{what}");
            server.stop();
        }
    }
}

#[test]
fn a_signal_at_any_moment_of_a_start_leaves_nothing() {
    for seed in 0..12 {
        let mut random = fastrand::Rng::with_seed(seed);
        let server = bad(AGENTS[random.usize(..2)]).arg("--stop-grace=200ms").start();
        let scene = on(server);
        // Whatever of this is done when the signal comes.
        let prompts = random.usize(..3);
        for _ in 0..prompts {
            scene.ask("spawn");
        }
        if random.bool() && prompts > 0 {
            scene.client.wait_event("sessionUpdated", |session| session["state"] == "starting");
        }
        scene.finish();
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for mode in ["ignore-everything", "ignore-eof"] {
        // With this grace an orderly end would outlast the test.
        let scene = scene(bad(mode).arg("--stop-grace=10m"));
        let family = if mode == "ignore-eof" { scene.family() } else { Vec::new() };
        let id = scene.ask(if mode == "ignore-eof" { "slow 100000 5" } else { "hi" });
        scene.server.wait_log(" started, ");
        scene.server.signal(libc::SIGINT);
        scene.client.wait_event("serverShutdown", |_| true);
        scene.server.signal(libc::SIGINT);
        assert_eq!(scene.server.wait_exit(DEADLINE).code(), Some(130), "{mode}");
        assert_gone(&family, mode);
        let left = scene.server.started();
        assert!(left.is_empty(), "{mode}: {left:?}");
        let open = scene.assert_end(&scene.client);
        // One has never answered, so that the prompt did not begin.
        assert_eq!(open, if mode == "ignore-eof" { vec![] } else { vec![json!(id)] }, "{mode}");
        scene.assert_answered_by_the_next(&open);
    }
}

#[test]
fn a_crash_of_the_agent_leaves_nothing_and_the_conversation_goes_on() {
    for mode in AGENTS {
        let scene = scene(bad(mode).arg("--stop-grace=300ms"));
        let family = scene.family();
        let running = scene.ask("slow 100000 5");
        scene.client.wait_chunk(&running);
        assert!(processes::signal(family[0].pid, libc::SIGKILL));
        let response = scene.client.wait_response(&running);
        assert_gone(&family, mode);
        assert_eq!(response["status"], "failed", "{mode}");
        assert!(response["error"].as_str().expect("text").contains("killed by signal 9"), "{mode}: {response}");
        assert_eq!(scene.summary_after(&running)["state"], "failed", "{mode}");
        assert_eq!(scene.json("history"), json!(["pid", "spawn", "spawn-orphan", "slow 100000 5"]), "{mode}");
        scene.finish();
    }
}

#[test]
fn a_session_put_to_sleep_leaves_nothing() {
    let scene = scene(bad("proper").arg("--idle-timeout=200ms"));
    let family = scene.family();
    let Scene { client, id, server } = scene;
    drop(client);
    crate::scene::wait_gone(&family, "asleep");
    let client = server.connect(json!({"sessionId": id}));
    let scene = Scene { client, id, server };
    scene.wait_state("stopped");
    scene.finish();
}

#[test]
fn no_process_starts_on_a_conversation_before_the_last_one_is_gone() {
    for close in [true, false] {
        let flags: &[&str] = if close { &[] } else { &["--idle-timeout=200ms"] };
        let mut scene = scene(bad("ignore-eof").arg("--stop-grace=300ms").args(flags.iter().copied()));
        let family = scene.family();
        if close {
            // All at once: nobody waits for the end of the close.
            let closing = scene.client.start_emit("closeSession", scene.data(json!({})));
            scene.client.must("resumeSession", scene.data(json!({})));
            let ask = scene.client.start_emit("askClaudeCode", scene.data(json!({"prompt": "pid"})));
            assert_eq!(scene.client.wait_ack(ask)["ok"], true);
            assert_eq!(scene.client.wait_ack(closing)["ok"], true);
        } else {
            let Scene { client, id, server } = scene;
            drop(client);
            server.wait_log("idle, its process is stopped");
            let client = server.connect(json!({"sessionId": id}));
            scene = Scene { client, id, server };
            scene.ask("pid");
        }
        let known = |text: &Value| family.iter().any(|process| *text == json!(process.pid.to_string()));
        let is_answer = |data: &Value| data["status"] == "done" && !known(&data["fullResponse"]);
        scene.client.wait_event("claudeResponse", is_answer);
        assert_gone(&family, "when the next one answers");
        assert_eq!(scene.json("history"), json!(["pid", "spawn", "spawn-orphan", "pid"]), "close: {close}");
        assert_eq!(scene.notices(), [""; 0]);
        scene.finish();
    }
}

#[test]
fn the_demo_agent_ends_like_any_other() {
    let scene = scene(Server::builder(EXE).demo());
    let text = "one two three ".repeat(200);
    let running = scene.ask(&text);
    scene.client.wait_chunk(&running);
    assert_eq!(scene.close()["state"], "stopped");
    assert_eq!(scene.client.wait_response(&running)["status"], "interrupted");
    let is_agent = |process: &processes::Process| process.cmdline.iter().any(|arg| arg == "demo-agent");
    assert!(!scene.server.started().iter().any(is_agent));
    scene.client.must("resumeSession", scene.data(json!({})));
    scene.text("again");
    scene.finish();
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    // As `nohup` does.
    let place = Workspace::new();
    let scene = scene(Server::builder(script(&place, "trap '' HUP")).bad_agent(&["proper"]));
    let family = scene.family();
    assert!(scene.server.signal(libc::SIGHUP));
    assert_eq!(scene.text("hi"), "you said: hi");
    assert!(family.iter().all(processes::Process::is_alive));
    let log = scene.server.stderr_text();
    assert!(!log.contains("shutting down"), "{log}");
    scene.finish();
    assert_gone(&family, "stopped");
}

/// A shell script that does this and then becomes the server.
fn script(place: &Workspace, first: &str) -> PathBuf {
    let path = place.root().join("server");
    fs::write(&path, format!("#!/bin/sh\n{first}\nexec '{EXE}' \"$@\"\n")).expect("the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    path
}

#[test]
fn a_terminals_signals_reach_only_the_server() {
    let scene = scene(bad("proper"));
    let mut apart = scene.family();
    apart.push(guardian(&scene.server));
    let of_server = processes::get(scene.server.pid()).expect("it runs").sid;
    for process in &apart {
        assert_eq!(process.sid, process.pid, "leads a Unix session of its own: {process:?}");
        assert_ne!(process.sid, of_server);
    }
    scene.finish();
}

#[test]
fn the_agents_environment_is_the_servers_without_what_is_not_its_own() {
    let kept = [("KEPT", "1"), ("PORTS", "2"), ("LC_ALL", "C"), ("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")];
    let taken = [
        ("CLAUDECODE", "1"),
        ("NODE_OPTIONS", "--inspect"),
        ("PORT", "1"),
        ("HOST", "127.0.0.1"),
        ("CORS_ORIGIN", "http://localhost:1"),
        ("CSM_LOG", "debug"),
        ("CSM_TOKEN_FILE", "/nowhere/token"),
        ("CSM_PROCESS", "someone's"),
        ("CSM_ANYTHING", "1"),
    ];
    let place = Workspace::new();
    let mut builder = bad("proper").arg(format!("--token-file={}", place.root().join("data/token").display()));
    builder = builder.workspace(&std::sync::Arc::new(place));
    for (name, value) in kept.iter().chain(&taken) {
        builder = builder.env(*name, *value);
    }
    let scene = scene(builder);
    let names = scene.json("environ");
    let mut expected = vec!["HOME", "PATH", "TMPDIR", "CSM_PROCESS", "CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING"];
    expected.extend(kept.map(|(name, _)| name));
    expected.sort_unstable();
    assert_eq!(names, json!(expected));
    let marker = scene.text("env CSM_PROCESS");
    let parts: Vec<&str> = marker.split(':').collect();
    assert_eq!((parts.len(), parts[2]), (3, scene.id.as_str()), "{marker}");
    for (name, value) in kept {
        assert_eq!(scene.text(&format!("env {name}")), value);
    }
    let guardian = guardian(&scene.server);
    for (name, _) in taken.iter().filter(|(name, _)| *name != "CSM_PROCESS") {
        assert_eq!(guardian.env(name), None, "{name}");
    }
    scene.finish();
}

#[test]
fn every_viewer_of_every_session_is_told_of_the_end() {
    let scene = scene(bad("proper"));
    scene.text("hi");
    let others: Vec<_> =
        [json!({"sessionId": scene.id, "stream": "events"}), json!({"sessionId": scene.id}), json!({})]
            .into_iter()
            .map(|auth| scene.server.connect(auth))
            .collect();
    // One that watches two sessions is told once.
    let first = &others[2];
    first.registered();
    first.must("resumeSession", scene.data(json!({})));
    assert_eq!(scene.server.stop().code(), Some(0));
    for client in others.iter().chain([&scene.client]) {
        assert_eq!(client.wait_event("serverShutdown", |_| true), json!({"reason": "shutdown"}));
        scene.assert_end(client);
        let frames = client.frames();
        let disconnects = |received: &crate::support::client::Received| matches!(&received.frame, crate::support::client::Frame::Text(text) if text.starts_with("41"));
        assert!(!frames.iter().any(disconnects), "clients that are told to disconnect do not come back");
    }
    scene.finish();
}

#[test]
fn what_is_asked_while_it_stops_is_refused() {
    let place = Workspace::new();
    let file = place.root().join("go");
    let builder = Server::builder(EXE).bad_agent(&["slow-start", &file.display().to_string()]);
    let scene = scene(builder.arg("--stop-grace=10m"));
    scene.ask("hi");
    scene.server.wait_log(" started, ");
    scene.server.signal(libc::SIGTERM);
    scene.client.wait_event("serverShutdown", |_| true);
    scene.wait_state("stopping");
    let refused = scene.client.must_fail("askClaudeCode", scene.data(json!({"prompt": "too late"})));
    assert_eq!(refused["code"], "shutting_down");
    make(&file);
    assert_eq!(scene.server.wait_exit(DEADLINE).code(), Some(0));
    scene.finish();
}

#[test]
fn what_has_cleared_its_environment_and_left_the_tree_goes_too() {
    type End = fn(&Scene, i32);
    let ends: [(&str, End); 3] = [
        ("closeSession", |scene, _| drop(scene.client.must("closeSession", scene.data(json!({}))))),
        ("kill -9 of the agent", |scene, agent| {
            assert!(processes::signal(agent, libc::SIGKILL));
            scene.wait_state("failed");
        }),
        ("Ctrl-C", |scene, _| assert!(scene.server.signal(libc::SIGINT))),
    ];
    for (name, end) in ends {
        let scene = scene(bad("proper"));
        let other = scene.server.connect(json!({}));
        let agent = scene.process("pid");
        let orphan = scene.process("spawn-clean");
        let is_clean = |pid| processes::get(pid).is_some_and(|now| now.environ.is_empty() && now.ppid == agent.pid);
        eventually("nothing gives it away, and it left the tree", DEADLINE, || is_clean(orphan.pid));
        let kept =
            other.ask_and_wait(&other.session_id(), "spawn-clean")["fullResponse"].as_str().map(str::parse::<i32>);
        let kept = processes::get(kept.expect("text").expect("a number")).expect("it runs");
        end(&scene, agent.pid);
        eventually(name, DEADLINE, || !orphan.is_alive());
        if name != "Ctrl-C" {
            assert!(kept.is_alive(), "{name}: that of another session stays");
            scene.server.stop();
        }
        eventually(name, DEADLINE, || !kept.is_alive());
    }
}
