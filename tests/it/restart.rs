//! The server is killed, with and without its guardian, and started again: what it had started ends, and a new server
//! starts nothing before that.

use std::{collections::HashSet, fs::File, sync::Arc};

use serde_json::{Value, json};

use crate::{
    scene::{EXE, Scene, assert_gone, bad, guardian, on, scene, wait_gone},
    support::{
        DEADLINE,
        processes::{self, Process},
        server::Server,
        workspace::Workspace,
    },
};

/// Agents that end at the SIGINT that they get when the server dies, and that do not.
const AGENTS: [&str; 2] = ["proper", "ignore-eof"];

/// A scene with all that an agent may leave behind, in mid-answer.
fn busy(mode: &str) -> (Scene, Vec<Process>) {
    let scene = scene(bad(mode));
    let family = scene.family();
    let running = scene.ask("slow 100000 5");
    scene.client.wait_chunk(&running);
    (scene, family)
}

fn kill(pids: &[i32]) {
    for pid in pids {
        assert!(processes::signal(*pid, libc::SIGKILL), "{pid} runs");
    }
}

/// The same directories, without keeping the server.
fn workspace(scene: &Scene) -> Arc<Workspace> {
    scene.server.workspace().clone()
}

#[test]
fn the_guardian_cleans_up_behind_a_server_that_was_killed() {
    for mode in AGENTS {
        let (scene, _) = busy(mode);
        kill(&[scene.server.pid()]);
        scene.server.workspace().wait_no_processes();
        assert_eq!(scene.client.wait_closed(), None, "killed, it said nothing");
    }
}

#[test]
fn a_guardian_that_was_killed_is_replaced() {
    for mode in AGENTS {
        let (scene, family) = busy(mode);
        let first = guardian(&scene.server);
        kill(&[first.pid]);
        scene.server.wait_log("the guardian has ended, another one takes over");
        let second = guardian(&scene.server);
        assert_ne!((second.pid, second.start_time), (first.pid, first.start_time));
        assert!(family.iter().all(Process::is_alive), "nobody else has noticed");
        kill(&[scene.server.pid()]);
        scene.server.workspace().wait_no_processes();
    }
}

#[test]
fn the_guardian_shrugs_off_the_signals_that_end_a_server() {
    let (scene, family) = busy("ignore-eof");
    let guardian = guardian(&scene.server);
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        assert!(processes::signal(guardian.pid, signal));
    }
    kill(&[scene.server.pid()]);
    wait_gone(&family, "swept");
    scene.server.workspace().wait_no_processes();
}

#[test]
fn a_new_server_ends_what_an_old_one_left_before_it_starts_anything() {
    for mode in AGENTS {
        let (old, family) = busy(mode);
        // Stopped, the server does not replace the guardian in between.
        let guardian = guardian(&old.server).pid;
        assert!(old.server.signal(libc::SIGSTOP));
        let state = || processes::get(old.server.pid()).expect("it is there").state;
        processes::eventually("the server stopped", DEADLINE, || state() == 'T');
        kill(&[guardian, old.server.pid()]);
        assert!(family[1..].iter().all(Process::is_alive), "{mode}: nobody was left to end them");
        let new = scene(bad("proper").workspace(&workspace(&old)));
        assert_eq!(new.text("hi"), "you said: hi");
        assert_gone(&family, mode);
        new.server.wait_log(" started, ");
        let log = new.server.stderr_text();
        let (swept, started) = (log.find("that an earlier server left behind"), log.find(" started, "));
        assert!(swept.is_some() && swept < started, "{mode}: {log}");
        new.finish();
    }
}

#[test]
fn a_guardian_that_hangs_is_ended_by_the_next_server() {
    let (old, family) = busy("ignore-eof");
    let guardian = guardian(&old.server);
    assert!(processes::signal(guardian.pid, libc::SIGSTOP));
    kill(&[old.server.pid()]);
    let new = scene(bad("proper").workspace(&workspace(&old)));
    assert_eq!(new.text("hi"), "you said: hi");
    assert_gone(&family, "swept");
    assert_gone(&[guardian], "swept");
    new.server.wait_log("an earlier server's processes are still being ended");
    new.finish();
}

/// Holds what a guardian at work holds.
fn lock(place: &Workspace) -> File {
    std::fs::create_dir_all(place.data()).expect("the directory");
    let file = File::create(place.data().join("processes.lock")).expect("the lock's file");
    file.lock().expect("the lock");
    file
}

#[test]
fn a_server_serves_before_it_may_start_processes() {
    let place = Arc::new(Workspace::new());
    let held = lock(&place);
    let scene = scene(bad("proper").workspace(&place));
    let ids = ["first", "history"].map(|prompt| scene.ask(prompt));
    assert_eq!(scene.wait_state("starting")["running"], json!(ids[0]));
    assert_eq!(scene.server.http("GET", "/health", &[]).json()["status"], "ok");
    let started = scene.server.started();
    assert!(started.is_empty(), "no process, no guardian: {started:?}");
    drop(held);
    assert_eq!(scene.client.wait_response(&ids[0])["fullResponse"], "you said: first");
    assert_eq!(scene.client.wait_response(&ids[1])["fullResponse"], r#"["first"]"#);
    scene.finish();
}

#[test]
fn a_server_that_waits_for_the_lock_can_be_stopped() {
    let place = Arc::new(Workspace::new());
    let held = lock(&place);
    let scene = scene(bad("proper").workspace(&place));
    let id = scene.ask("first");
    scene.wait_state("starting");
    assert_eq!(scene.server.stop().code(), Some(0));
    drop(held);
    assert_eq!(scene.assert_end(&scene.client), [json!(id)]);
    scene.finish();
}

#[test]
fn a_lock_that_is_freed_while_the_server_stops_leaves_nothing() {
    let place = Arc::new(Workspace::new());
    let held = lock(&place);
    let scene = scene(bad("proper").workspace(&place));
    let id = scene.ask("first");
    scene.wait_state("starting");
    scene.server.signal(libc::SIGINT);
    scene.client.wait_event("serverShutdown", |_| true);
    drop(held);
    scene.server.wait_exit(DEADLINE);
    assert_eq!(scene.assert_end(&scene.client), [json!(id)]);
    scene.finish();
}

#[test]
fn a_restart_at_the_very_moment_of_the_kill_never_runs_two_incarnations() {
    const ROUNDS: u64 = 8;
    let mut server = bad("proper").start();
    for seed in 0..ROUNDS {
        let mut random = fastrand::Rng::with_seed(seed);
        let old = on(server);
        // More or less of this is done when the server dies.
        let sessions: Vec<_> = (0..random.usize(..3)).map(|_| old.server.connect(Value::Null)).collect();
        let mut asked = Vec::new();
        for client in sessions.iter().chain([&old.client]) {
            let id = client.session_id();
            for prompt in ["spawn", "spawn-orphan", "slow 100000 5"].iter().take(random.usize(1..4)) {
                asked.push((client, client.ask(&id, prompt)));
            }
        }
        if random.bool() {
            let (client, id) = &asked[random.usize(..asked.len())];
            if random.bool() {
                client.wait_event("prompt", |data| data["promptId"] == id.as_str());
            } else if asked.len() < 3 {
                client.wait_chunk(id);
            }
        }
        let mode = AGENTS[random.usize(..2)];
        let next = bad(mode).arg("--stop-grace=200ms").workspace(&workspace(&old));
        kill(&[old.server.pid()]);
        let new = on(next.start());
        assert_eq!(new.server.http("GET", "/health", &[]).status, 200, "seed {seed}");
        assert_eq!(new.text("hi"), "you said: hi", "seed {seed}");
        let incarnations: HashSet<String> = (new.server.started().iter())
            .filter_map(|process| process.env("CSM_PROCESS"))
            .map(|marker| marker.split(':').nth(1).expect("its incarnation").to_owned())
            .collect();
        assert_eq!(incarnations.len(), 1, "seed {seed}: {:#?}", new.server.started());
        server = new.server;
    }
    assert_eq!(server.stop().code(), Some(0));
    let left = server.started();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn two_servers_do_not_share_a_data_directory() {
    let first = scene(bad("proper"));
    assert_eq!(first.text("hi"), "you said: hi");
    let second = bad("proper").workspace(&workspace(&first)).run();
    assert_eq!(second.code, Some(5));
    let data = first.server.workspace().data();
    let line = format!("claude-session-manager: another server uses the data directory {}\n", data.display());
    assert_eq!((second.stdout.as_str(), second.stderr), ("", line));
    // By another name it is the same directory.
    let link = first.server.workspace().root().join("link");
    std::os::unix::fs::symlink(&data, &link).expect("a link");
    let by_link =
        Server::builder(EXE).demo().workspace(&workspace(&first)).arg(format!("--data-dir={}", link.display()));
    assert_eq!(by_link.run().code, Some(5));
    assert_eq!(first.json("history"), json!(["hi"]), "the first is none the worse");
    first.finish();
}
