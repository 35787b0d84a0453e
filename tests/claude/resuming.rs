//! Conversations that outlive their process.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, claudes, conversation_of, holds, script, start},
    support::{agent::wait_transcript, fake_api::FakeApi, processes, workspace::Workspace},
};

impl Setup {
    /// Closes the session and opens it again: the next prompt starts another process.
    fn reopen(&self) {
        let session = json!({"sessionId": self.session});
        assert_eq!(self.client.must("closeSession", session.clone())["session"]["state"], "stopped");
        assert_eq!(claudes(self.server.workspace()).len(), 0);
        self.client.must("resumeSession", session);
    }

    fn wait_transcript(&self, text: &str) {
        let (uuid, _) = conversation_of(&self.claude());
        wait_transcript(self.server.workspace(), &uuid, text);
    }
}

#[test]
fn a_closed_session_is_resumed_with_its_conversation() {
    let on = start();
    on.answer("say:remember me");
    on.wait_transcript("\"text\":\"remember me\"");
    let first = conversation_of(&on.claude());
    assert!(!first.1);
    on.client.must("closeSession", json!({"sessionId": on.session}));
    let ask = json!({"sessionId": on.session, "prompt": "say:closed"});
    assert_eq!(on.client.must_fail("askClaudeCode", ask)["code"], "session_ended");
    let resumed = on.client.must("resumeSession", json!({"sessionId": on.session}));
    assert_eq!(resumed["session"]["sessionId"], on.session.as_str());
    assert_eq!(on.answer("say:back"), "back");
    assert_eq!(conversation_of(&on.claude()), (first.0, true));
    assert!(holds(&on.told("say:back"), "assistant", "remember me"));
}

#[test]
fn a_conversation_goes_on_after_claude_was_killed() {
    let on = start();
    on.answer("say:remember me");
    // 2.1.197 writes its record after the result: what it has not written it cannot resume.
    on.wait_transcript("\"text\":\"remember me\"");
    let first = conversation_of(&on.claude());
    let (mark, prompt) = (on.client.mark(), on.ask("hang"));
    on.client.wait_chunk(&prompt);
    processes::signal(on.claude().pid, libc::SIGKILL);
    let response = on.client.wait_response(&prompt);
    assert_eq!(response["status"], "failed", "{response}");
    assert_eq!(response["fullResponse"], "thinking");
    assert!(response["error"].as_str().is_some_and(|error| error.contains("signal 9")), "{response}");
    let (_, notice) = on.client.wait_event_from(mark, "notice", |_| true);
    assert_eq!((&notice["level"], &notice["code"]), (&json!("error"), &json!("agent_failed")), "{notice}");
    let summary = on.summary();
    assert_eq!((&summary["state"], &summary["failure"]["code"]), (&json!("failed"), &json!("agent_failed")));
    assert_eq!(on.answer("say:back"), "back");
    assert_eq!(conversation_of(&on.claude()), (first.0, true));
    assert!(holds(&on.told("say:back"), "assistant", "remember me"), "{:?}", on.told("say:back"));
    assert!(on.summary()["failure"].is_null());
}

/// `/clear` begins another conversation, with a uuid of its own.
#[test]
fn a_cleared_conversation_is_not_the_one_that_is_resumed() {
    let on = start();
    on.answer("say:forget me");
    let before = conversation_of(&on.claude()).0;
    assert_eq!(on.ask_and_wait("/clear")["status"], "done");
    on.answer("say:remember me");
    assert!(!holds(&on.told("say:remember me"), "assistant", "forget me"));
    let line = on.server.wait_log("Claude's conversation is now ");
    let after = line.rsplit(' ').next().expect("its uuid").trim().to_owned();
    assert_ne!(before, after);
    wait_transcript(on.server.workspace(), &after, "\"text\":\"remember me\"");
    on.reopen();
    on.answer("say:back");
    assert_eq!(conversation_of(&on.claude()), (after, true));
    let told = on.told("say:back");
    assert!(holds(&told, "assistant", "remember me") && !holds(&told, "assistant", "forget me"), "{told:?}");
}

#[test]
fn a_conversation_that_is_gone_begins_anew() {
    let on = start();
    on.answer("say:forget me");
    on.wait_transcript("\"text\":\"forget me\"");
    let uuid = conversation_of(&on.claude()).0;
    on.client.must("closeSession", json!({"sessionId": on.session}));
    std::fs::remove_dir_all(on.server.workspace().home().join(".claude/projects")).expect("the record removed");
    on.client.must("resumeSession", json!({"sessionId": on.session}));
    assert_eq!(on.answer("say:back"), "back");
    assert_eq!(conversation_of(&on.claude()), (uuid, false));
    assert!(!holds(&on.told("say:back"), "assistant", "forget me"));
    let notices = on.client.events_named("notice");
    assert_eq!(notices.iter().map(|notice| &notice["code"]).collect::<Vec<_>>(), ["conversation_lost"], "{notices:?}");
}

/// The server has seen no turn of the conversation, and yet there is one. A program between it and the CLI makes it so,
/// before the first start.
#[test]
fn a_conversation_that_exists_already_is_resumed() {
    let (api, workspace) = (FakeApi::start(), Arc::new(Workspace::new()));
    let body = r#"
for arg; do
    case $arg in --session-id=*) claude -p "$arg" 'say:remember me' < /dev/null > "$TMPDIR/earlier" 2>&1 ;; esac
done
claude "$@""#;
    let between = script(&workspace, body);
    let server = builder(&api).arg(format!("--agent={}", between.display())).workspace(&workspace).start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    assert_eq!(client.ask_and_wait(&session, "say:back")["fullResponse"], "back");
    assert_eq!(std::fs::read_to_string(workspace.tmp().join("earlier")).expect("it ran").trim(), "remember me");
    let on = Setup { client, session, server, api };
    assert!(holds(&on.told("say:back"), "assistant", "remember me"));
    assert!(conversation_of(&on.claude()).1);
    assert!(on.client.events_named("notice").is_empty());
}

/// A process without viewers and without work is stopped after a while; the next prompt resumes.
#[test]
fn an_idle_process_is_stopped_and_started_again() {
    let api = FakeApi::start();
    let server = builder(&api).arg("--idle-timeout=200ms").start();
    let first = server.connect(Value::Null);
    let session = first.session_id();
    first.ask_and_wait(&session, "say:remember me");
    let uuid = conversation_of(&claudes(server.workspace())[0]).0;
    wait_transcript(server.workspace(), &uuid, "\"text\":\"remember me\"");
    drop(first);
    server.wait_log("process stopped");
    assert_eq!(claudes(server.workspace()).len(), 0);
    let client = server.connect(json!({"sessionId": session}));
    assert_eq!(client.registered()["resumed"], true);
    assert_eq!(client.registered()["session"]["state"], "stopped");
    assert_eq!(client.ask_and_wait(&session, "say:back")["fullResponse"], "back");
    let on = Setup { client, session, server, api };
    assert!(holds(&on.told("say:back"), "assistant", "remember me"));
}

/// A name that the user gives stands in the CLI's own list as well.
#[test]
fn claude_is_told_the_sessions_title() {
    let on = start();
    on.answer("say:hello");
    let watching = on.server.connect(json!({"sessionId": on.session, "stream": "events"}));
    on.client.must("renameSession", json!({"sessionId": on.session, "title": "A fine name"}));
    on.wait_transcript("\"customTitle\":\"A fine name\"");
    if on.summary()["agentVersion"] != "2.1.197" {
        let event = watching.wait_event("claudeEvent", |data| data["event"]["subtype"] == "session_title_changed");
        assert_eq!(event["event"]["title"], "A fine name");
    }
    on.reopen();
    assert_eq!(on.answer("say:back"), "back");
    assert_eq!(on.summary()["title"], "A fine name");
}
