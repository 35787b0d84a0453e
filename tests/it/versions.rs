//! Which version of Claude Code there is: known before any session has a process, and told where it is too old.

use std::sync::Arc;

use serde_json::json;

use crate::{
    scene::{EXE, Scene, bad, scene},
    support::{DEADLINE, agent::bad_agent, processes, server::Server, workspace::Workspace},
};

/// A server with a program that is called `claude`: asked for its version it does this, otherwise it is the bad agent.
fn start(asked_for_version: &str) -> Scene {
    let workspace = Arc::new(Workspace::new());
    let path = workspace.root().join("claude");
    let bad_agent = bad_agent().display().to_string();
    let script = format!(
        "#!/bin/sh\nagent='{bad_agent}'\n[ \"$1\" = --version ] && {{ {asked_for_version}; }}\nexec \"$agent\" \"$@\"\n"
    );
    // Written by a process that has ended: otherwise another test's fork may hold it open when it is to be executed.
    let write = "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"";
    let written = std::process::Command::new("sh").args(["-c", write, "sh", &script]).arg(&path).status();
    assert!(written.expect("sh runs").success());
    scene(Server::builder(EXE).workspace(&workspace).arg(format!("--agent={}", path.display())))
}

#[test]
fn the_version_is_known_before_any_process_and_an_old_one_is_told() {
    for (version, is_old) in [("2.1.196", true), ("2.1.197", false), ("2.1.330", false)] {
        let scene = start(&format!("exec echo '{version} (Claude Code)'"));
        let health = || scene.server.http("GET", "/health", &[]).json();
        processes::eventually("the version", DEADLINE, || health()["agentVersion"] == version);
        assert_eq!(health()["agentWarning"].is_string(), is_old, "{}", health());
        scene.server.wait_log(&format!("agent: version {version}"));
        if is_old {
            scene.server.wait_log("WARN  Claude Code 2.1.196 is older than 2.1.197");
        } else {
            assert!(!scene.server.stderr_text().contains("is older than"), "{}", scene.server.stderr_text());
        }
        // Its process says that it is 0.0.0: the session hears of that once.
        assert_eq!((scene.text("one").as_str(), scene.text("two").as_str()), ("you said: one", "you said: two"));
        assert_eq!(scene.notices(), ["agent_too_old"]);
        assert_eq!(health()["agentVersion"], "0.0.0-bad-agent");
        scene.finish();
    }
}

/// Here the program does not tell its version by itself, and the session knows it from the server before.
#[test]
fn the_version_is_known_from_a_session_of_the_server_before() {
    let first = scene(bad("proper"));
    first.text("hi");
    let (id, workspace) = (first.id.clone(), first.server.workspace().clone());
    first.finish();
    let server = bad("proper").workspace(&workspace).start();
    let client = server.connect(json!({"sessionId": id}));
    client.ask_and_wait(&id, "hi");
    let health = server.http("GET", "/health", &[]).json();
    assert_eq!(health["agentVersion"], "0.0.0-bad-agent", "{health}");
}

/// It neither holds up the server nor outlives it.
#[test]
fn a_program_that_does_not_tell_its_version_does_not_matter() {
    for asked in ["exec \"$agent\" sleep-forever", "exit 3", "exec echo none", "\"$agent\" sleep-forever & exit 0"] {
        let scene = start(asked);
        assert_eq!(scene.text("hello"), "you said: hello", "{asked}");
        scene.finish();
    }
}
