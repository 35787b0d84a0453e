//! What the real CLI tells of costs, context, tasks and to-do lists, in the summary.

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, conversation_of, start},
    support::{DEADLINE, agent::wait_transcript, fake_api::FakeApi, processes},
};

fn cost(summary: &Value) -> f64 {
    summary["costUsd"].as_f64().expect("a number")
}

fn assert_cost(of: &Value, expected: f64) {
    assert!((cost(of) - expected).abs() < 1e-9, "not {expected}: {of}");
}

#[test]
fn costs_and_tokens_are_added_up_through_clear_and_over_processes() {
    let on = start();
    on.answer("say:one");
    let first = on.summary();
    assert!(cost(&first) > 0.0, "{first}");
    // What the fake API says of each answer.
    assert_eq!((&first["usage"]["inputTokens"], &first["usage"]["outputTokens"]), (&json!(10), &json!(5)));
    assert_eq!(first["contextTokens"], 10);
    assert!(first["contextWindow"].as_u64().is_some_and(|window| window >= 200_000), "{first}");
    on.answer("say:two");
    assert!((cost(&on.summary()) - 2.0 * cost(&first)).abs() < 1e-9, "{}", on.summary());
    // 2.1.330 counts anew from here, 2.1.197 does not.
    on.ask_and_wait("/clear");
    on.answer("say:three");
    assert!((cost(&on.summary()) - 3.0 * cost(&first)).abs() < 1e-9, "{}", on.summary());
    // And goes on from there in another process, if this one ends well.
    on.client.must("closeSession", json!({"sessionId": on.session}));
    on.client.must("resumeSession", json!({"sessionId": on.session}));
    let response = on.ask_and_wait("say:four");
    assert!((response["costUsd"].as_f64().expect("a number") - cost(&first)).abs() < 1e-9, "{response}");
    let summary = on.summary();
    assert!((cost(&summary) - 4.0 * cost(&first)).abs() < 1e-9, "{summary}");
    assert_eq!((&summary["usage"]["inputTokens"], &summary["usage"]["outputTokens"]), (&json!(40), &json!(20)));
    wait_transcript(on.server.workspace(), &conversation_of(&on.claude()).0, "four");
    processes::signal(on.claude().pid, libc::SIGKILL);
    processes::eventually("the crash is seen", DEADLINE, || on.summary()["state"] == "failed");
    on.answer("say:five");
    assert!((cost(&on.summary()) - 5.0 * cost(&first)).abs() < 1e-9, "{}", on.summary());
}

/// Claude ends by itself when the server is killed, and 2.1.330 keeps what it has counted.
#[test]
fn what_was_counted_before_the_server_was_killed_is_counted_once() {
    let on = start();
    on.answer("say:one");
    let first = cost(&on.summary());
    on.answer("say:two");
    wait_transcript(on.server.workspace(), &conversation_of(&on.claude()).0, "two");
    on.settle();
    let mut on = on.restart(libc::SIGKILL);
    for (answers, prompt) in [(3.0, "say:three"), (4.0, "say:four")] {
        assert_cost(&on.ask_and_wait(prompt), first);
        let summary = on.summary();
        assert_cost(&summary, answers * first);
        assert_eq!(summary["usage"]["inputTokens"].as_f64(), Some(answers * 10.0), "{summary}");
        on.settle();
        on = on.restart(libc::SIGKILL);
    }
}

/// 2.1.330 counts a fork's dollars from what the other's last process had kept when the fork's first one starts.
#[test]
fn a_fork_has_cost_only_what_it_has_asked_itself() {
    type Meanwhile = fn(&Setup);
    let close = |on: &Setup| drop(on.client.must("closeSession", json!({"sessionId": on.session})));
    let cases: [(&str, Meanwhile, Meanwhile); 5] = [
        ("the other has ended", close, |_| ()),
        ("the other goes on", |_| (), |_| ()),
        ("the other ends", |_| (), close),
        ("the other has ended, goes on, and ends again", close, |on| {
            on.client.must("resumeSession", json!({"sessionId": on.session}));
            on.answer("say:more");
            on.client.must("closeSession", json!({"sessionId": on.session}));
        }),
        (
            "the other goes on and ends",
            |_| (),
            |on| {
                on.answer("say:more");
                on.client.must("closeSession", json!({"sessionId": on.session}));
            },
        ),
    ];
    for (name, before, after) in cases {
        let on = start();
        on.answer("say:one");
        let first = cost(&on.summary());
        before(&on);
        let fork = on.client.must("forkSession", json!({"sessionId": on.session}))["session"].clone();
        assert_cost(&fork, 0.0);
        after(&on);
        let id = fork["sessionId"].as_str().expect("a name");
        let response = on.client.ask_and_wait(id, "say:two");
        let more = cost(&response);
        assert!((more - first).abs() < 1e-9, "{name}: {more} and not {first}");
    }
}

/// 2.1.197 tells only what becomes of each task, later ones the whole list as well.
#[test]
fn a_background_task_is_listed_while_it_runs() {
    let on = start();
    let go = on.server.workspace().work().join("go");
    let mark = on.client.mark();
    let prompt = on.ask(&format!("bg:until [ -e {} ]; do tail -n 1 /dev/null; done", go.display()));
    on.allow(&on.question(mark));
    on.client.wait_response(&prompt);
    let summary = on.summary();
    let tasks = summary["tasks"].as_array().expect("a list");
    assert_eq!(tasks.len(), 1, "{summary}");
    assert_eq!((&tasks[0]["type"], &tasks[0]["description"]), (&json!("local_bash"), &json!("asked for by a test")));
    assert!(tasks[0]["taskId"].is_string() && tasks[0]["toolUseId"].is_string(), "{summary}");
    std::fs::write(&go, "").expect("a file");
    processes::eventually("the task is over", DEADLINE, || on.summary()["tasks"] == json!([]));
}

/// Which tools for it there are depends on the version and the environment.
#[test]
fn the_list_of_what_is_to_be_done_is_followed() {
    for whole in [false, true] {
        let api = FakeApi::start();
        let tasks = if whole { "0" } else { "1" };
        let server =
            builder(&api).env("CLAUDE_CODE_ENABLE_TODO_TOOLS", "1").env("CLAUDE_CODE_ENABLE_TASKS", tasks).start();
        let client = server.connect(Value::Null);
        let session = client.session_id();
        let on = Setup { client, session, server, api };
        if whole {
            let list = json!({"todos": [
                {"content": "one", "status": "completed", "activeForm": "doing one"},
                {"content": "two", "status": "in_progress", "activeForm": "doing two"},
            ]});
            on.ask_and_wait(&format!("tool:TodoWrite:{list}"));
            let expected = json!([{"text": "one", "status": "completed"}, {"text": "two", "status": "in_progress"}]);
            assert_eq!(on.summary()["todos"], expected);
        } else {
            on.ask_and_wait(r#"tool:TaskCreate:{"subject":"one","description":"the first"}"#);
            on.ask_and_wait(r#"tool:TaskCreate:{"subject":"two","description":"the second"}"#);
            on.ask_and_wait(r#"tool:TaskUpdate:{"taskId":"1","status":"completed"}"#);
            on.ask_and_wait(r#"tool:TaskUpdate:{"taskId":"2","status":"deleted"}"#);
            assert_eq!(on.summary()["todos"], json!([{"id": "1", "text": "one", "status": "completed"}]));
        }
    }
}

/// Only accounts with a plan have limits: there is a token in place of the key.
#[test]
fn the_limits_of_a_plan_are_shown() {
    let api = FakeApi::start();
    let server = builder(&api).env("ANTHROPIC_API_KEY", "").env("CLAUDE_CODE_OAUTH_TOKEN", "sk-ant-oat01-fake").start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    let on = Setup { client, session, server, api };
    assert_eq!(on.answer("limit:0.5"), "used 0.5");
    let limit = on.summary()["rateLimit"].clone();
    assert_eq!((&limit["status"], &limit["type"]), (&json!("allowed"), &json!("five_hour")), "{limit}");
    assert!(limit["resetsAt"].as_u64() > on.summary()["lastActivity"].as_u64(), "{limit}");
}
