//! Conversations that go on from where another is.

use serde_json::{Value, json};

use crate::{
    setup::{Setup, claudes, conversation_of, said, start},
    support::{
        DEADLINE,
        agent::{Agent, claude, uuid, wait_transcript},
        fake_api::FakeApi,
        program::Pipe,
        workspace::Workspace,
    },
};

impl Setup {
    fn fork(&self) -> String {
        let fork = self.client.must("forkSession", json!({"sessionId": self.session}))["session"].clone();
        fork["sessionId"].as_str().expect("an id").to_owned()
    }

    /// Asks this of the fork, and gives what the API was told with it.
    fn told_by(&self, fork: &str, prompt: &str) -> Vec<(String, String)> {
        let response = self.client.ask_and_wait(fork, prompt);
        assert_eq!(response["status"], "done", "{response}");
        said(&self.api.wait_for_prompt(prompt))
    }
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(role, text)| ((*role).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn a_fork_knows_what_was_said_before_it_and_not_what_came_after() {
    let on = start();
    on.answer("say:one");
    let fork = on.fork();
    on.answer("say:two");
    let first = conversation_of(&on.claude()).0;
    let expected = [("user", "say:one"), ("assistant", "one"), ("user", "say:forked")];
    assert_eq!(on.told_by(&fork, "say:forked"), pairs(&expected));
    let forked = claudes(on.server.workspace()).iter().map(conversation_of).find(|(uuid, _)| *uuid != first);
    let (uuid, resumed) = forked.expect("a process of its own");
    assert!(!resumed);
    wait_transcript(on.server.workspace(), &uuid, "\"text\":\"forked\"");
    // The other goes on as if nothing had been.
    on.answer("say:three");
    let expected = ["say:one", "one", "say:two", "two", "say:three"];
    assert_eq!(on.told("say:three").iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected);
    // From its first turn on the fork is resumed as others are.
    on.client.must("closeSession", json!({"sessionId": fork}));
    on.client.must("resumeSession", json!({"sessionId": fork}));
    let told = on.told_by(&fork, "say:again");
    assert_eq!(told[2..], pairs(&[("user", "say:forked"), ("assistant", "forked"), ("user", "say:again")]));
    assert!(claudes(on.server.workspace()).iter().any(|process| conversation_of(process) == (uuid.clone(), true)));
    assert!(on.client.events_named("notice").is_empty(), "{:?}", on.client.events_named("notice"));
}

#[test]
fn a_fork_of_a_fork_goes_on_from_the_first() {
    let on = start();
    on.answer("say:one");
    let fork = on.fork();
    let never_started =
        on.client.must("forkSession", json!({"sessionId": fork}))["session"]["sessionId"].as_str().map(str::to_owned);
    on.answer("say:two");
    let told = on.told_by(&never_started.expect("an id"), "say:second");
    assert_eq!(told, pairs(&[("user", "say:one"), ("assistant", "one"), ("user", "say:second")]));
    // The messages of the first have the same names in the fork.
    let running = on.client.ask(&fork, "hang");
    on.client.wait_chunk(&running);
    let third = on.client.must("forkSession", json!({"sessionId": fork}))["session"]["sessionId"].clone();
    let told = on.told_by(third.as_str().expect("an id"), "say:third");
    assert_eq!(told, pairs(&[("user", "say:one"), ("assistant", "one"), ("user", "say:third")]));
    assert!(on.client.events_named("notice").is_empty(), "{:?}", on.client.events_named("notice"));
}

/// What a tool has done is known, and Claude makes nothing up to end the answer.
#[test]
fn a_fork_in_mid_answer_goes_on_after_the_last_tool() {
    let on = start();
    on.answer("say:one");
    let prompt = on.ask("bash:echo then:hang");
    on.client.wait_chunk(&prompt);
    let fork = on.fork();
    let told = on.told_by(&fork, "say:forked");
    let expected = [
        ("user", "say:one"),
        ("assistant", "one"),
        ("user", "bash:echo then:hang"),
        ("assistant", r#"[tool_use Bash {"command":"echo then:hang","description":"asked for by a test"}]"#),
        ("user", "[tool_result then:hang]\nsay:forked"),
    ];
    assert_eq!(told, pairs(&expected));
    let notices: Vec<Value> =
        on.client.must("getHistory", json!({"sessionId": fork}))["events"].as_array().expect("a list").clone();
    assert!(notices.iter().any(|event| event["data"]["code"] == "forked_in_answer"));
    on.interrupt();
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
}

#[test]
fn a_fork_while_claude_asks_goes_on_before_the_prompt() {
    let on = start();
    on.answer("say:one");
    let mark = on.client.mark();
    let prompt = on.ask(&format!("bash:touch {}/x", on.server.workspace().work().display()));
    let question = on.question(mark);
    let fork = on.fork();
    let told = on.told_by(&fork, "say:forked");
    assert_eq!(told, pairs(&[("user", "say:one"), ("assistant", "one"), ("user", "say:forked")]));
    on.allow(&question);
    assert_eq!(on.client.wait_response(&prompt)["status"], "done");
}

#[test]
fn an_interrupted_prompt_is_known_to_a_fork() {
    let on = start();
    on.answer("say:one");
    let prompt = on.ask("hang-before");
    on.api.wait_for_prompt("hang-before");
    on.interrupt();
    on.client.wait_response(&prompt);
    let told = on.told_by(&on.fork(), "say:forked");
    let interrupted = "hang-before\n\n[Request interrupted by user]\n\nsay:forked";
    assert_eq!(told, pairs(&[("user", "say:one"), ("assistant", "one"), ("user", interrupted)]));
}

#[test]
fn a_fork_of_a_conversation_that_is_gone_begins_anew() {
    let on = start();
    on.answer("say:one");
    let uuid = conversation_of(&on.claude()).0;
    wait_transcript(on.server.workspace(), &uuid, "\"text\":\"one\"");
    let fork = on.fork();
    on.client.must("deleteSession", json!({"sessionId": on.session}));
    std::fs::remove_dir_all(on.server.workspace().home().join(".claude/projects")).expect("the record removed");
    assert_eq!(on.told_by(&fork, "say:forked"), pairs(&[("user", "say:forked")]));
    let codes: Vec<Value> = on.client.events_named("notice").iter().map(|notice| notice["code"].clone()).collect();
    assert_eq!(codes, ["conversation_lost"]);
}

/// What the server tells apart when a fork does not start.
#[test]
fn a_fork_that_cannot_begin_says_why() {
    let (workspace, api) = (Workspace::new(), FakeApi::start());
    let agent = |args: &[String]| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Agent::start(&workspace, &claude(), &args, &api.env())
    };
    let fork = |old: &str, new: &str, more: &[String]| {
        let flags = [format!("--resume={old}"), format!("--session-id={new}"), "--fork-session".to_owned()];
        agent(&[&flags[..], more].concat())
    };
    let (old, new) = (uuid(), uuid());
    let first = agent(&[format!("--session-id={old}")]);
    first.initialize();
    first.turn("say:one");
    wait_transcript(&workspace, &old, "\"text\":\"one\"");
    let fails = |agent: &Agent, why: &str| {
        agent.send(&json!({"type": "control_request", "request_id": "r", "request": {"subtype": "initialize"}}));
        assert_eq!(agent.program.wait_exit(DEADLINE).code(), Some(1), "{why}");
        agent.program.wait_end(Pipe::Stderr);
        agent.program.wait_end(Pipe::Stdout);
        assert!(agent.program.text(Pipe::Stderr).contains(why), "{}", agent.program.text(Pipe::Stderr));
        assert!(!agent.program.text(Pipe::Stdout).contains("control_response"), "{why}");
    };
    let pin = format!("--resume-session-at={}", uuid());
    fails(&fork(&old, &new, std::slice::from_ref(&pin)), "No message found");
    fails(&fork(&uuid(), &new, &[pin]), "No conversation found");
    // One that ends before its first prompt leaves nothing.
    for _ in 0..2 {
        let early = fork(&old, &new, &[]);
        early.initialize();
        assert!(early.finish(DEADLINE).success());
    }
    let begun = fork(&old, &new, &[]);
    begun.initialize();
    begun.turn("say:two");
    wait_transcript(&workspace, &new, "\"text\":\"two\"");
    fails(&fork(&old, &new, &[]), "already in use");
}
