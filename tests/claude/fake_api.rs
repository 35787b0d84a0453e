//! The CLI driven directly, with no server between: what these tests find, the tests of the server stand on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    DEADLINE,
    agent::{Agent, claude, uuid, wait_transcript},
    fake_api::{FakeApi, conversation},
    processes,
    workspace::Workspace,
};

/// Kept whole by each test: taking one part out of it would drop, and so end, the others.
struct Setup {
    agent: Agent,
    api: FakeApi,
    workspace: Workspace,
}

fn start(args: &[&str]) -> Setup {
    let (api, workspace) = (FakeApi::start(), Workspace::new());
    let session = format!("--session-id={}", uuid());
    let args: Vec<&str> = [session.as_str()].iter().chain(args).copied().collect();
    let agent = Agent::start(&workspace, &claude(), &args, &api.env());
    let answer = agent.initialize();
    assert_eq!(answer["subtype"], "success", "{answer}");
    Setup { agent, api, workspace }
}

#[test]
fn an_answer_streams_word_by_word() {
    let on = start(&[]);
    let turn = on.agent.turn("say:one two three");
    assert_eq!(turn.text, "one two three");
    assert_eq!(turn.deltas, 3);
    assert_eq!(turn.result["result"], "one two three");
    assert_eq!(turn.result["is_error"], false);
    assert_eq!(on.agent.turn("just words").text, "you said: just words");
    let last = on.api.turns().pop().expect("a turn");
    let said: Vec<(String, String)> = conversation(&last).into_iter().filter(|(role, _)| role != "system").collect();
    let expected = [("user", "say:one two three"), ("assistant", "one two three"), ("user", "just words")];
    assert_eq!(said, expected.map(|(role, text)| (role.to_owned(), text.to_owned())));
    assert_eq!(on.agent.finish(DEADLINE).code(), Some(0));
}

#[test]
fn a_tool_runs_when_it_is_allowed() {
    let on = start(&[]);
    let file = on.workspace.work().join("made");
    let mark = on.agent.mark();
    on.agent.send_prompt(&format!("write:{}:the text", file.display()));
    let (_, question) = on.agent.wait_question(mark);
    assert_eq!(question["request"]["tool_name"], "Write");
    assert!(!file.exists());
    on.agent.allow(&question);
    let turn = on.agent.wait_turn(mark);
    assert!(turn.text.starts_with("tool said: "), "{}", turn.text);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "the text");
}

#[test]
fn a_tool_does_not_run_when_it_is_denied() {
    let on = start(&[]);
    let file = on.workspace.work().join("made");
    let mark = on.agent.mark();
    on.agent.send_prompt(&format!("bash:touch {}", file.display()));
    let (_, question) = on.agent.wait_question(mark);
    assert_eq!(question["request"]["tool_name"], "Bash");
    on.agent.deny(&question, "not today");
    let turn = on.agent.wait_turn(mark);
    assert!(turn.text.contains("not today"), "{}", turn.text);
    assert!(!file.exists());
}

#[test]
fn an_interrupt_ends_the_turn() {
    let on = start(&[]);
    let mark = on.agent.mark();
    on.agent.send_prompt("hang");
    on.agent.wait_delta(mark);
    assert_eq!(on.agent.request(json!({"subtype": "interrupt"}))["subtype"], "success");
    let turn = on.agent.wait_turn(mark);
    assert_eq!(turn.result["subtype"], "error_during_execution");
    on.api.wait_abandoned(1);
    assert_eq!(on.agent.turn("say:still here").text, "still here");
}

#[test]
fn an_interrupt_ends_a_running_tool() {
    let on = start(&[]);
    let (mark, started) = (on.agent.mark(), on.workspace.work().join("started"));
    on.agent.send_prompt(&format!("bash:touch {} && tail -f /dev/null", started.display()));
    on.agent.allow(&on.agent.wait_question(mark).1);
    processes::eventually("the tool runs", DEADLINE, || started.exists());
    let tails = || on.workspace.processes().into_iter().filter(|process| process.name == "tail").count();
    processes::eventually("its tail too", DEADLINE, || tails() == 1);
    on.agent.request(json!({"subtype": "interrupt"}));
    on.agent.wait_turn(mark);
    processes::eventually("tail ended", DEADLINE, || tails() == 0);
    on.agent.finish(DEADLINE);
    on.workspace.wait_no_processes();
}

/// An interrupt that comes while the prompt is only queued must not be taken for its end.
///
/// 2.1.330 then names the prompt in `still_queued` and goes on to run it; 2.1.197 ends it at once.
#[test]
fn an_early_interrupt_is_repeated_while_the_prompt_is_queued() {
    let on = start(&[]);
    let mark = on.agent.mark();
    let uuid = on.agent.send_prompt("hang");
    let queued = || {
        let answer = on.agent.request(json!({"subtype": "interrupt"}));
        assert_eq!(answer["subtype"], "success", "{answer}");
        let queued = answer["response"]["still_queued"].as_array().cloned().unwrap_or_default();
        queued.contains(&json!(uuid))
    };
    while queued() {
        on.agent.wait(mark, |line| line["type"] == "system" && line["subtype"] == "init");
    }
    let turn = on.agent.wait_turn(mark);
    assert_eq!(turn.result["subtype"], "error_during_execution", "{}", turn.result);
    assert_eq!(on.agent.turn("say:still here").text, "still here");
}

/// A slash command that Claude runs itself: the answer is in `assistant` and `result` and was never a delta.
#[test]
fn a_local_command_streams_nothing() {
    let on = start(&[]);
    let turn = on.agent.turn("/cost");
    assert_eq!(turn.deltas, 0);
    assert!(turn.result["result"].as_str().is_some_and(|text| text.contains("cost")), "{}", turn.result);
    assert!(turn.lines.iter().any(|line| line["type"] == "assistant"));
    assert_eq!(on.api.turns().len(), 0);
}

#[test]
fn an_interrupt_takes_an_open_question_back() {
    let on = start(&[]);
    let mark = on.agent.mark();
    on.agent.send_prompt(&format!("bash:touch {}/x", on.workspace.work().display()));
    let (_, question) = on.agent.wait_question(mark);
    on.agent.request(json!({"subtype": "interrupt"}));
    let turn = on.agent.wait_turn(mark);
    let taken_back =
        |line: &Value| line["type"] == "control_cancel_request" && line["request_id"] == question["request_id"];
    assert!(turn.lines.iter().any(taken_back), "{:#?}", turn.lines);
}

#[test]
fn a_question_is_answered() {
    let on = start(&[]);
    let mark = on.agent.mark();
    on.agent.send_prompt("askq");
    let (_, question) = on.agent.wait_question(mark);
    assert_eq!(question["request"]["tool_name"], "AskUserQuestion");
    let mut input = question["request"]["input"].clone();
    input["answers"] = json!({"Which color?": "Blue"});
    on.agent.answer(&question, json!({"behavior": "allow", "updatedInput": input}));
    let turn = on.agent.wait_turn(mark);
    assert!(turn.text.contains("Blue"), "{}", turn.text);
}

#[test]
fn a_plan_is_approved() {
    let on = start(&["--permission-mode=plan"]);
    let mark = on.agent.mark();
    on.agent.send_prompt("plan");
    let (_, question) = on.agent.wait_question(mark);
    assert_eq!(question["request"]["tool_name"], "ExitPlanMode");
    on.agent.allow(&question);
    let turn = on.agent.wait_turn(mark);
    assert!(turn.text.contains("# Plan"), "{}", turn.text);
    assert!(turn.text.contains("tool said: "), "{}", turn.text);
}

#[test]
fn a_prompt_is_echoed_with_its_uuid() {
    let on = start(&[]);
    let mark = on.agent.mark();
    let uuid = on.agent.send_prompt("say:hello");
    let turn = on.agent.wait_turn(mark);
    let echoes = |line: &&Value| line["type"] == "user" && line["isReplay"] == true && line["uuid"] == uuid.as_str();
    assert_eq!(turn.lines.iter().filter(echoes).count(), 1, "{:#?}", turn.lines);
}

#[test]
fn an_api_error_is_a_result() {
    let on = start(&[]);
    let turn = on.agent.turn("error:400:no such thing");
    assert_eq!(turn.result["is_error"], true, "{}", turn.result);
    assert_eq!(on.agent.turn("say:fine").text, "fine");
}

#[test]
fn a_conversation_goes_on_after_a_kill() {
    let (api, workspace, id) = (FakeApi::start(), Workspace::new(), uuid());
    let first = Agent::start(&workspace, &claude(), &[&format!("--session-id={id}")], &api.env());
    first.initialize();
    first.turn("say:remember me");
    wait_transcript(&workspace, &id, "\"text\":\"remember me\"");
    let mark = first.mark();
    first.send_prompt("hang");
    first.wait_delta(mark);
    first.program.signal(libc::SIGKILL);
    first.program.wait_exit(DEADLINE);
    let second = Agent::start(&workspace, &claude(), &[&format!("--resume={id}")], &api.env());
    second.initialize();
    assert_eq!(second.turn("say:back").text, "back");
    let said = conversation(&api.wait_for_prompt("say:back"));
    assert!(said.contains(&("assistant".to_owned(), "remember me".to_owned())), "{said:?}");
    assert!(second.finish(Duration::from_secs(60)).success());
}
