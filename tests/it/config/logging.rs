//! What is logged, and how.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::fd::{FromRawFd, OwnedFd},
    process::Stdio,
    sync::Arc,
};

use serde_json::{Value, json};

use super::builder;
use crate::support::{program::Program, server::LISTENING, workspace::Workspace};

#[test]
fn control_characters_are_shown_and_not_sent_to_the_terminal() {
    let server = builder().bad_agent(&["proper"]).arg("--log-level=debug").start();
    let client = server.connect(json!({}));
    let session = client.session_id();
    client.ask_and_wait(&session, "line\nbreak \u{1b}[2J \u{202e}turned \u{7}");
    client.emit_with_ack("no\nsuch\u{1b}[31mevent", json!({}));
    client.must_fail("createSession", json!({"cwd": "/no\nsuch"}));
    server.wait_log("such");
    server.stop();
    let log = server.stderr_text();
    let deceptive = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!log.contains(deceptive), "{log:?}");
    assert!(log.contains(r"\u{1b}"), "it is shown");
    for line in log.lines() {
        let (time, rest) = line.split_at(24);
        assert!(time.ends_with('Z') && time.contains('T'), "{line}");
        let levels = [" ERROR ", " WARN  ", " INFO  ", " DEBUG ", " TRACE "];
        assert!(levels.iter().any(|level| rest.starts_with(level)), "{line}");
    }
}

#[test]
fn json_lines_are_json() {
    let server = builder().bad_agent(&["proper"]).args(["--log-format=json", "--log-level=debug"]).start();
    let client = server.connect(json!({}));
    client.ask_and_wait(&client.session_id(), "quote \" back\\slash \n\u{1b}");
    server.stop();
    for line in server.stderr_text().lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let names: Vec<&String> = record.as_object().expect("an object").keys().collect();
        assert_eq!(names, ["time", "level", "target", "message"], "{line}");
    }
}

#[test]
fn prompts_are_logged_only_at_debug() {
    for (level, shown) in [("info", false), ("debug", true)] {
        let server = builder().bad_agent(&["proper"]).args(["--log-level", level]).start();
        let client = server.connect(json!({}));
        client.ask_and_wait(&client.session_id(), "the secret plan");
        server.stop();
        assert_eq!(server.stderr_text().contains("the secret plan"), shown, "{level}");
    }
}

#[test]
fn what_matters_is_logged() {
    let server = builder().bad_agent(&["proper"]).start();
    let client = server.connect(json!({}));
    let session = client.session_id();
    let pid = client.ask_and_wait(&session, "pid")["fullResponse"].as_str().expect("a number").to_owned();
    client.must("closeSession", json!({"sessionId": session}));
    server.stop();
    let log = server.stderr_text();
    let started = format!("session {session}: process {pid} started");
    for part in ["isolated mode", "agent: ", LISTENING, "the token is in ", &started, "process stopped", "stopped"] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn the_level_can_be_chosen() {
    let server = builder().demo().env("CSM_LOG", "info").start();
    server.http("GET", "/", &[("Host", "evil.com")]);
    server.wait_log("evil.com");
    assert!(!server.stderr_text().contains("DEBUG"));
}

/// Two ends of a terminal: ours and the program's.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut ours, mut theirs) = (0, 0);
    // SAFETY: the two numbers are ours; no name, mode or size is asked for.
    let opened = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
    };
    assert_eq!(opened, 0, "a terminal");
    // SAFETY: both were just opened and belong to nobody else.
    unsafe {
        // What is started by other tests meanwhile must not keep the terminal open.
        libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(theirs, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    }
}

#[test]
fn the_link_is_for_a_terminal_only() {
    let server = builder().demo().start();
    assert_eq!(server.stdout_text(), "", "what is not a terminal may be kept by somebody");
    let path = server.workspace().data().join("token");
    assert!(server.wait_log("the token is in").contains(&path.display().to_string()));
    server.stop();

    let workspace = Arc::new(Workspace::new());
    let (ours, theirs) = terminal();
    let mut command = workspace.command(env!("CARGO_BIN_EXE_claude-session-manager"));
    command.args(["--agent=demo", "--port=0"]).arg(format!("--data-dir={}", workspace.data().display()));
    command.stdin(Stdio::null()).stdout(theirs).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the server");
    // With it goes the last of our copies of the program's end.
    drop(command);
    let mut lines = BufReader::new(fs::File::from(ours)).lines();
    let link = lines.find_map(|line| {
        let line = line.ok()?;
        Some(line.trim().strip_prefix("Open ")?.to_owned())
    });
    let token = fs::read_to_string(workspace.data().join("token")).expect("a token");
    let link = link.expect("a link before the end");
    // SAFETY: the child is not reaped yet, so the number is its own.
    unsafe { libc::kill(i32::try_from(child.id()).expect("a pid"), libc::SIGINT) };
    assert!(child.wait().expect("its end").success());
    let log = std::io::read_to_string(child.stderr.take().expect("piped")).expect("the log");
    let port: String =
        log.split(LISTENING).nth(1).expect("it listened").chars().take_while(char::is_ascii_digit).collect();
    assert_eq!(link, format!("http://127.0.0.1:{port}/#token={}", token.trim()));
    assert!(!log.contains(token.trim()) && !log.contains("the token is in"));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let workspace = Arc::new(Workspace::new());
    let mut command = workspace.command("sh");
    let exe = env!("CARGO_BIN_EXE_claude-session-manager");
    let script = "\"$0\" --agent=demo --port=0 --data-dir=\"$1\" 2>&1 | head -n 1; exec sleep 0";
    command.args(["-c", script, exe]).arg(workspace.data());
    let program = Program::start("a server whose log goes to head", command);
    program.close_stdin();
    let (_, line) = program.wait_line(crate::support::program::Pipe::Stdout, 0, |line| Some(line.text()));
    assert!(line.contains("INFO"), "{line}");
    // It has lost its stderr, and goes on: its process is there until it is ended.
    let of_server = |process: &crate::support::processes::Process| {
        process.cmdline.first().is_some_and(|arg| arg == exe) && process.cmdline.iter().any(|arg| arg == "--port=0")
    };
    let server = workspace.processes().into_iter().find(of_server).expect("the server runs");
    assert!(server.is_alive());
}
