//! What the badly behaved agent does, mode by mode, and that a workspace ends what it left.

use std::fs;

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    agent::{Agent, bad_agent, uuid},
    processes,
    program::Pipe,
    workspace::Workspace,
};

fn start(workspace: &Workspace, mode: &[&str]) -> Agent {
    let session = format!("--session-id={}", uuid());
    let args: Vec<&str> = mode.iter().copied().chain([session.as_str()]).collect();
    Agent::start(workspace, &bad_agent(), &args, &[])
}

fn initialized(workspace: &Workspace, mode: &[&str]) -> Agent {
    let agent = start(workspace, mode);
    assert_eq!(agent.initialize()["subtype"], "success");
    agent
}

#[test]
fn modes_that_answer() {
    // What is misbehaved around it, the answer is the same.
    for mode in
        ["proper", "garbage", "flood-stderr", "big-line", "fifteen-mib-line", "no-replay", "own-turn", "ignore-eof"]
    {
        let workspace = Workspace::new();
        let agent = initialized(&workspace, &[mode]);
        let mark = agent.mark();
        let uuid = agent.send_prompt("hello there");
        let turn = agent.wait_turn(mark);
        assert!(turn.text.ends_with("you said: hello there"), "{mode}: {}", turn.text);
        assert_eq!(turn.result["result"], turn.text, "{mode}");
        let named = turn.result["user_message_uuid"] == uuid.as_str();
        let echoed = turn.lines.iter().any(|line| line["isReplay"] == true && line["uuid"] == uuid.as_str());
        assert_eq!((named, echoed), (mode != "no-replay", mode != "no-replay"), "{mode}");
    }
}

#[test]
fn modes_that_end_by_themselves() {
    for (mode, prompt, code) in [
        ("exit-at-once", None, 3),
        ("exit-before-init", Some("anything"), 4),
        ("crash-always", Some("anything"), 6),
        ("crash-mid-answer", Some("anything"), 9),
        ("proper", Some("crash"), 7),
        ("proper", Some("crash 11"), 11),
        ("grandchild", Some("anything"), 0),
        ("grandchild", Some("crash"), 7),
    ] {
        let workspace = Workspace::new();
        let agent = start(&workspace, &[mode]);
        if let Some(prompt) = prompt {
            agent.send_prompt(prompt);
        }
        assert_eq!(agent.program.wait_exit(DEADLINE).code(), Some(code), "{mode} {prompt:?}");
    }
}

#[test]
fn a_proper_agent_ends_at_eof_once_its_turn_is_over() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &[]);
    let mark = agent.mark();
    agent.send_prompt("slow 5 20");
    agent.wait_delta(mark);
    assert_eq!(agent.finish(DEADLINE).code(), Some(0));
    assert_eq!(agent.wait_turn(mark).text, "w1 w2 w3 w4 w5");
}

#[test]
fn stubborn_modes_end_by_sigkill_only() {
    for mode in ["ignore-everything", "ignore-eof"] {
        let workspace = Workspace::new();
        let agent = start(&workspace, &[mode]);
        if mode == "ignore-eof" {
            agent.initialize();
        } else {
            let ignores = || {
                let status = fs::read_to_string(format!("/proc/{}/status", agent.program.pid)).unwrap_or_default();
                let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap_or("0");
                let mask = u64::from_str_radix(ignored.trim(), 16).unwrap_or(0);
                mask & (1 << (libc::SIGTERM - 1)) != 0 && mask & (1 << (libc::SIGINT - 1)) != 0
            };
            processes::eventually("it has begun to ignore signals", DEADLINE, ignores);
        }
        for signal in [libc::SIGTERM, libc::SIGINT] {
            assert!(agent.program.signal(signal));
        }
        agent.program.close_stdin();
        if mode == "ignore-eof" {
            let ignored = |text: String| text.contains("end of input ignored").then_some(());
            agent.program.wait_line(Pipe::Stderr, 0, |line| ignored(line.text()));
        }
        assert_eq!(agent.program.exit_status(), None, "{mode}");
        agent.program.signal(libc::SIGKILL);
        agent.program.wait_exit(DEADLINE);
    }
}

#[test]
fn garbage_is_not_utf_8() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &["garbage"]);
    agent.turn("hello");
    let lines = agent.program.lines(Pipe::Stdout);
    assert!(lines.iter().any(|line| std::str::from_utf8(&line.bytes).is_err()));
    assert!(lines.iter().any(|line| serde_json::from_slice::<Value>(&line.bytes).is_err()));
}

#[test]
fn long_lines_have_their_length() {
    for (mode, bytes) in [("big-line", 50_000_000), ("fifteen-mib-line", 15 << 20)] {
        let workspace = Workspace::new();
        let agent = initialized(&workspace, &[mode]);
        agent.turn("hello");
        let longest = agent.program.lines(Pipe::Stdout).iter().map(|line| line.bytes.len()).max();
        assert_eq!(longest, Some(bytes), "{mode}");
    }
}

#[test]
fn an_interrupt_ends_a_slow_answer() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &[]);
    let mark = agent.mark();
    agent.send_prompt("slow 1000000 20");
    agent.wait_delta(mark);
    assert_eq!(agent.request(json!({"subtype": "interrupt"}))["response"], json!({"still_queued": []}));
    assert_eq!(agent.wait_turn(mark).result["subtype"], "error_during_execution");
    assert_eq!(agent.turn("next").text, "you said: next");
}

#[test]
fn a_late_interrupt_takes_two() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &["late-interrupt"]);
    let mark = agent.mark();
    let uuid = agent.send_prompt("slow 1000000 20");
    agent.wait_delta(mark);
    let interrupt = || agent.request(json!({"subtype": "interrupt"}))["response"]["still_queued"].clone();
    assert_eq!(interrupt(), json!([uuid]));
    assert_eq!(interrupt(), json!([]));
    assert_eq!(agent.wait_turn(mark).result["subtype"], "error_during_execution");
}

#[test]
fn an_old_one_names_a_prompt_by_its_late_echo_only() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &["old"]);
    let mark = agent.mark();
    let uuid = agent.send_prompt("slow 1000000 20");
    agent.wait_delta(mark);
    assert_eq!(agent.request(json!({"subtype": "interrupt"}))["response"], Value::Null);
    let turn = agent.wait_turn(mark);
    let naming: Vec<&Value> = turn.lines.iter().filter(|line| line.to_string().contains(&uuid)).collect();
    assert_eq!(naming.len(), 1, "{naming:#?}");
    assert_eq!((&naming[0]["type"], &naming[0]["isReplay"]), (&json!("user"), &json!(true)));
}

#[test]
fn a_vanished_prompt_has_no_result() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &[]);
    let mark = agent.mark();
    let uuid = agent.send_prompt("vanish");
    agent.send_prompt("/local");
    let turn = agent.wait_turn(mark);
    let states: Vec<&Value> =
        turn.lines.iter().filter(|line| line["command_uuid"] == uuid.as_str()).map(|line| &line["state"]).collect();
    assert_eq!(states, ["queued", "cancelled"]);
    assert_eq!((turn.deltas, &turn.result["result"]), (0, &json!("what the command says")));
}

#[test]
fn a_permission_is_asked() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &[]);
    let ask = |answer: Value| {
        let mark = agent.mark();
        agent.send_prompt("ask");
        let (_, question) = agent.wait_question(mark);
        agent.answer(&question, answer);
        agent.wait_turn(mark).text
    };
    assert_eq!(ask(json!({"behavior": "allow", "updatedInput": {"a": 1}})), "asking allowed:{\"a\":1}");
    assert_eq!(ask(json!({"behavior": "deny", "message": "no way"})), "asking denied:no way");
}

#[test]
fn an_unknown_request_is_answered() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &["unknown-lines"]);
    let mark = agent.mark();
    agent.send_prompt("hello");
    let (_, request) = agent.wait(mark, |line| line["type"] == "control_request");
    agent.send(&json!({
        "type": "control_response",
        "response": {"subtype": "error", "request_id": request["request_id"], "error": "unsupported"},
    }));
    assert!(agent.wait_turn(mark).text.contains("unsupported"));
}

#[test]
fn a_turn_of_its_own_names_no_prompt() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &["own-turn"]);
    let mark = agent.mark();
    agent.send_prompt("hello");
    let (first, _) = agent.wait(mark, |line| line["type"] == "result");
    let own = agent.wait_turn(first + 1);
    assert_eq!(own.text, "this turn is my own");
    assert_eq!(own.result["user_message_uuid"], Value::Null);
}

#[test]
fn a_slow_start_waits_for_its_file() {
    let workspace = Workspace::new();
    let go = workspace.work().join("go");
    let agent = start(&workspace, &["slow-start", &go.to_string_lossy()]);
    agent.send(&json!({"type": "control_request", "request_id": "1", "request": {"subtype": "initialize"}}));
    fs::write(&go, "").expect("the file");
    agent.wait(0, |line| line["type"] == "control_response");
}

#[test]
fn a_conversation_is_kept_as_by_the_real_one() {
    let (workspace, id) = (Workspace::new(), uuid());
    let (new, resume) = (format!("--session-id={id}"), format!("--resume={id}"));
    let agent = |arg: &str| Agent::start(&workspace, &bad_agent(), &[arg], &[]);
    assert_eq!(agent(&resume).program.wait_exit(DEADLINE).code(), Some(1));
    let first = agent(&new);
    first.turn("one");
    first.finish(DEADLINE);
    let again = agent(&new);
    assert_eq!(again.program.wait_exit(DEADLINE).code(), Some(1));
    again.program.wait_line(Pipe::Stderr, 0, |line| line.text().contains("is already in use").then_some(()));
    assert_eq!(agent(&resume).turn("history").text, "[\"one\"]");
}

#[test]
fn a_fork_begins_where_it_is_told() {
    let workspace = Workspace::new();
    let (old, forks) = (uuid(), [uuid(), uuid(), uuid()]);
    let agent = |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Agent::start(&workspace, &bad_agent(), &args, &[])
    };
    let fork = |new: &str, at: &[String]| {
        agent(&[&[format!("--resume={old}"), format!("--session-id={new}"), "--fork-session".to_owned()], at].concat())
    };
    let first = agent(&[format!("--session-id={old}")]);
    let message = first.turn("one").lines.iter().find(|line| line["type"] == "assistant").expect("one")["uuid"].clone();
    first.turn("two");
    let pin = |uuid: &str| [format!("--resume-session-at={uuid}")];
    let lost = fork(&forks[0], &pin(&forks[0]));
    assert_eq!(lost.program.wait_exit(DEADLINE).code(), Some(1));
    lost.program.wait_line(Pipe::Stderr, 0, |line| line.text().contains("No message found").then_some(()));
    assert!(fork(&forks[0], &[]).finish(DEADLINE).success(), "it leaves nothing without a prompt");
    assert_eq!(fork(&forks[0], &[]).turn("history").text, r#"["one","two"]"#);
    let pinned = fork(&forks[1], &pin(message.as_str().expect("a uuid")));
    assert_eq!(pinned.turn("history").text, r#"["one"]"#);
    pinned.finish(DEADLINE);
    let again = fork(&forks[1], &[]);
    assert_eq!(again.program.wait_exit(DEADLINE).code(), Some(1));
    again.program.wait_line(Pipe::Stderr, 0, |line| line.text().contains("is already in use").then_some(()));
    let resumed = agent(&[format!("--resume={}", forks[1])]);
    assert_eq!(resumed.turn("history").text, r#"["one","history"]"#);
}

#[test]
fn after_a_crash_in_mid_answer_the_next_process_goes_on() {
    let (workspace, id) = (Workspace::new(), uuid());
    let run = |how: &str| {
        let conversation = format!("--{how}={id}");
        Agent::start(&workspace, &bad_agent(), &["crash-mid-answer", &conversation], &[])
    };
    let first = run("session-id");
    first.send_prompt("one");
    assert_eq!(first.program.wait_exit(DEADLINE).code(), Some(9));
    assert_eq!(run("resume").turn("history").text, "[\"one\"]");
}

#[test]
fn what_was_spawned_is_seen_and_ends_with_the_workspace() {
    let workspace = Workspace::new();
    let agent = initialized(&workspace, &[]);
    let spawned = |how: &str| -> i32 { agent.turn(how).text.parse().expect("a pid") };
    let (child, orphan) = (spawned("spawn"), spawned("spawn-orphan"));
    let me = agent.program.pid;
    assert!(processes::descendants(me).iter().any(|process| process.pid == child));
    assert!(processes::descendants(me).iter().all(|process| process.pid != orphan));
    for pid in [child, orphan] {
        let leads = || processes::get(pid).is_some_and(|process| process.sid == pid);
        processes::eventually("in a session of its own", DEADLINE, leads);
        assert!(workspace.processes().iter().any(|process| process.pid == pid));
    }
    agent.finish(DEADLINE);
    assert!(processes::get(child).is_some_and(|process| process.is_alive()), "it outlives the agent");
    drop(workspace);
    processes::wait_gone(child);
    processes::wait_gone(orphan);
}
