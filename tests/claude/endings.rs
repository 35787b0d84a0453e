//! What Claude's Bash tool started is gone after each way of stopping. It runs in a Unix session of its own, so that
//! neither Claude's end nor its process group's reaches it.

use serde_json::json;

use crate::{
    setup::{builder, claudes, start, tails},
    support::{DEADLINE, processes},
};

#[test]
fn closing_the_session_ends_a_running_tool() {
    let on = start();
    let prompt = on.run_tail();
    on.client.must("closeSession", json!({"sessionId": on.session}));
    // The answer comes when nothing of the session runs any more.
    assert_eq!(tails(on.server.workspace()).len(), 0);
    assert_eq!(claudes(on.server.workspace()).len(), 0);
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
}

#[test]
fn an_interrupt_ends_a_running_tool() {
    let on = start();
    let prompt = on.run_tail();
    let pid = on.claude().pid;
    on.interrupt();
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    processes::eventually("tail ended", DEADLINE, || tails(on.server.workspace()).is_empty());
    assert_eq!(on.answer("say:still here"), "still here");
    assert_eq!(on.claude().pid, pid);
}

#[test]
fn sigint_to_the_server_ends_a_running_tool() {
    a_signal_ends_a_running_tool(libc::SIGINT);
}

#[test]
fn sigterm_to_the_server_ends_a_running_tool() {
    a_signal_ends_a_running_tool(libc::SIGTERM);
}

fn a_signal_ends_a_running_tool(signal: i32) {
    let on = start();
    let prompt = on.run_tail();
    on.server.signal(signal);
    assert_eq!(on.client.wait_event("serverShutdown", |_| true)["reason"], "shutdown");
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    assert_eq!(on.server.wait_exit(DEADLINE).code(), Some(0));
    // The server leaves nothing behind: the guardian, too, has gone before it.
    assert!(on.server.started().is_empty(), "{:#?}", on.server.started());
}

#[test]
fn a_killed_claude_leaves_no_tool_running() {
    let on = start();
    let prompt = on.run_tail();
    processes::signal(on.claude().pid, libc::SIGKILL);
    assert_eq!(on.client.wait_response(&prompt)["status"], "failed");
    // The exit is reported when what was left is swept.
    assert_eq!(tails(on.server.workspace()).len(), 0);
    assert_eq!(on.answer("say:still here"), "still here");
}

#[test]
fn a_killed_server_leaves_no_tool_running() {
    let on = start();
    on.run_tail();
    on.server.signal(libc::SIGKILL);
    on.server.wait_exit(DEADLINE);
    on.server.workspace().wait_no_processes();
}

/// The kernel tells Claude of the server's death, and it cleans up; where it cannot, the guardian does.
#[test]
fn a_killed_server_leaves_no_tool_running_when_claude_is_stuck() {
    let on = start();
    on.run_tail();
    processes::signal(on.claude().pid, libc::SIGSTOP);
    on.server.signal(libc::SIGKILL);
    on.server.wait_exit(DEADLINE);
    on.server.workspace().wait_no_processes();
}

/// With the guardian gone as well, and Claude stopped so that it cannot clean up after itself, only the next server can.
#[test]
fn the_next_server_ends_what_a_killed_one_and_its_guardian_left() {
    let on = start();
    on.run_tail();
    let left = tails(on.server.workspace());
    let claude = on.claude();
    let guardian = on.server.started().into_iter().find(|process| process.cmdline.iter().any(|arg| arg == "guardian"));
    let guardian = guardian.expect("a guardian");
    processes::signal(claude.pid, libc::SIGSTOP);
    processes::signal(guardian.pid, libc::SIGSTOP);
    processes::signal(on.server.pid(), libc::SIGKILL);
    processes::signal(guardian.pid, libc::SIGKILL);
    on.server.wait_exit(DEADLINE);
    processes::wait_gone(guardian.pid);
    assert!(left.iter().all(processes::Process::is_alive), "{left:?}");
    let next = builder(&on.api).workspace(on.server.workspace()).start();
    processes::eventually("what the first server left is gone", DEADLINE, || {
        !claude.is_alive() && !left.iter().any(processes::Process::is_alive)
    });
    let client = next.connect(json!({"sessionId": on.session}));
    assert_eq!(client.registered()["resumed"], true);
    assert_eq!(client.ask_and_wait(&on.session, "say:new")["fullResponse"], "new");
}

/// The same with the new server started in the same moment, without waiting for anything.
#[test]
fn a_restart_at_once_leaves_nothing_of_the_first() {
    let on = start();
    on.run_tail();
    let (left, claude) = (tails(on.server.workspace()), on.claude());
    on.server.signal(libc::SIGKILL);
    let next = builder(&on.api).workspace(on.server.workspace()).start();
    let client = next.connect(serde_json::Value::Null);
    let session = client.session_id();
    assert_eq!(client.ask_and_wait(&session, "say:new")["fullResponse"], "new");
    // No process is started before those of the earlier server are gone.
    assert!(!claude.is_alive() && !left.iter().any(processes::Process::is_alive), "{left:?}");
    assert_eq!(claudes(next.workspace()).len(), 1);
}

#[test]
fn a_background_task_ends_with_its_session() {
    let on = start();
    let mark = on.client.mark();
    let prompt = on.ask("bg:tail -f /dev/null");
    on.allow(&on.question(mark));
    assert_eq!(on.client.wait_response(&prompt)["status"], "done");
    processes::eventually("the task's tail runs", DEADLINE, || !tails(on.server.workspace()).is_empty());
    on.client.must("closeSession", json!({"sessionId": on.session}));
    assert_eq!(tails(on.server.workspace()).len(), 0);
}
