//! What a session costs and holds, in its summary: as the agent tells it, and still there when the server is new.

use serde_json::{Value, json};

use super::{builder, server, text_client};
use crate::support::{DEADLINE, client::Client, server::Server};

/// A turn that is made of these lines, and the summary behind it.
fn turn(server: &Server, client: &Client, session: &str, lines: &[Value]) -> (Value, Value) {
    turn_of(server, client, session, &lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// The same, of lines as they are written.
fn turn_of(server: &Server, client: &Client, session: &str, lines: &str) -> (Value, Value) {
    let file = server.workspace().root().join(format!("turn-{:016x}", fastrand::u64(..)));
    std::fs::write(&file, lines).expect("the lines");
    let response = client.ask_and_wait(session, &format!("turn {}", file.display()));
    (response, summary(client, session))
}

fn summary(client: &Client, session: &str) -> Value {
    client.must("getSession", json!({"sessionId": session}))["session"].clone()
}

fn said(text: &str, input: u64, cached: u64) -> Value {
    json!({"type": "assistant", "parent_tool_use_id": null, "message": {
        "id": "msg_1", "role": "assistant", "model": "claude-x", "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": input, "cache_read_input_tokens": cached, "cache_creation_input_tokens": 0, "output_tokens": 1},
    }})
}

/// A result; `tokens` of the main model since the process started.
fn result(cost: f64, tokens: u64) -> Value {
    json!({
        "type": "result", "subtype": "success", "is_error": false, "num_turns": 1, "result": "", "total_cost_usd": cost,
        "usage": {"input_tokens": 1}, "user_message_uuids": ["$UUID"],
        "modelUsage": {
            "claude-x[1m]": {"inputTokens": tokens, "outputTokens": 5, "cacheReadInputTokens": 7, "cacheCreationInputTokens": 3,
                "contextWindow": 1_000_000},
            "claude-small": {"inputTokens": 100, "outputTokens": 1, "contextWindow": 200_000},
        },
    })
}

fn used_tool(id: &str, name: &str, input: Value) -> Value {
    let content = json!([{"type": "tool_use", "id": id, "name": name, "input": input}]);
    json!({"type": "assistant", "parent_tool_use_id": null, "message": {"id": "msg_2", "role": "assistant", "content": content}})
}

fn tool_gave(id: &str, outcome: Value) -> Value {
    let content = json!([{"type": "tool_result", "tool_use_id": id, "content": "…"}]);
    json!({
        "type": "user", "uuid": "00000000-0000-4000-8000-000000000001", "parent_tool_use_id": null,
        "message": {"role": "user", "content": content}, "tool_use_result": outcome,
    })
}

/// Waits until all that happened so far is on the disk: this is acknowledged when it is.
fn settle_on_disk(client: &Client, session: &str) {
    client.must("renameSession", json!({"sessionId": session, "title": "kept"}));
}

fn assert_cost(session: &Value, expected: f64) {
    let cost = session["costUsd"].as_f64().expect("a number");
    assert!((cost - expected).abs() < 1e-9, "{cost} and not {expected}");
}

#[test]
fn dollars_and_tokens_are_added_up_over_processes_and_servers() {
    let first = server();
    let (client, session) = text_client(&first);
    assert_eq!(summary(&client, &session)["usage"]["inputTokens"], 0);
    let (response, after) = turn(&first, &client, &session, &[said("a", 10, 90), result(0.5, 20)]);
    assert_eq!(response["costUsd"], 0.5);
    assert_cost(&after, 0.5);
    let usage = json!({"inputTokens": 120, "outputTokens": 6, "cacheReadTokens": 7, "cacheCreationTokens": 3});
    assert_eq!(after["usage"], usage);
    assert_eq!((&after["contextTokens"], &after["contextWindow"]), (&json!(100), &json!(1_000_000)));
    // The same process goes on counting.
    let (response, after) = turn(&first, &client, &session, &[said("b", 10, 190), result(0.75, 30)]);
    assert_eq!(response["costUsd"], 0.25);
    assert_cost(&after, 0.75);
    assert_eq!((&after["usage"]["inputTokens"], &after["contextTokens"]), (&json!(130), &json!(200)));
    // It begins anew within the process, as 2.1.330 does after `/clear`.
    let mut anew = result(0.0, 0);
    anew["modelUsage"] = json!({});
    assert_eq!(turn(&first, &client, &session, &[anew]).0["costUsd"], 0.0);
    let (response, after) = turn(&first, &client, &session, &[result(0.25, 7)]);
    assert_eq!(response["costUsd"], 0.25);
    assert_cost(&after, 1.0);
    assert_eq!(after["usage"]["inputTokens"], 237);
    first.stop();
    // Another server, another process.
    let second = builder().workspace(first.workspace()).start();
    let client = second.connect(json!({"sessionId": session}));
    let stored = summary(&client, &session);
    for name in ["usage", "contextTokens", "contextWindow", "costUsd", "todos"] {
        assert_eq!(stored[name], after[name], "{name}");
    }
    let (_, after) = turn(&second, &client, &session, &[said("c", 5, 0), result(0.5, 3)]);
    assert_cost(&after, 1.5);
    assert_eq!((&after["usage"]["inputTokens"], &after["contextTokens"]), (&json!(340), &json!(5)));
}

/// 2.1.330 goes on from what its last process had, if that ended by itself, as it does when the server is killed.
#[test]
fn what_was_told_before_the_server_was_killed_is_counted_once() {
    let killed = |server: &Server, session: &str| {
        server.signal(libc::SIGKILL);
        server.wait_exit(DEADLINE);
        let next = builder().workspace(server.workspace()).start();
        let client = next.connect(json!({"sessionId": session}));
        (next, client)
    };
    let first = server();
    let (client, session) = text_client(&first);
    turn(&first, &client, &session, &[result(0.5, 20)]);
    settle_on_disk(&client, &session);
    let (second, client) = killed(&first, &session);
    let (response, after) = turn(&second, &client, &session, &[result(0.75, 30)]);
    assert_eq!(response["costUsd"], 0.25);
    assert_cost(&after, 0.75);
    assert_eq!(after["usage"]["inputTokens"], 130);
    settle_on_disk(&client, &session);
    // This one had kept nothing: what the one before it had kept is still there.
    let (third, client) = killed(&second, &session);
    let (response, after) = turn(&third, &client, &session, &[result(0.625, 25)]);
    assert_eq!(response["costUsd"], 0.125);
    assert_cost(&after, 0.875);
    assert_eq!(after["usage"]["inputTokens"], 135);
    settle_on_disk(&client, &session);
    // And 2.1.197 keeps nothing, ever.
    let (fourth, client) = killed(&third, &session);
    let (response, after) = turn(&fourth, &client, &session, &[result(0.25, 7)]);
    assert_eq!(response["costUsd"], 0.25);
    assert_cost(&after, 1.125);
    assert_eq!(after["usage"]["inputTokens"], 242);
}

/// Of the other session the fork's first process knows what it had counted when that process started.
#[test]
fn a_fork_is_not_charged_for_what_the_other_has_asked_since() {
    for restarts in [false, true] {
        let mut server = server();
        let (mut client, session) = text_client(&server);
        turn(&server, &client, &session, &[result(0.5, 20)]);
        let fork = client.must("forkSession", json!({"sessionId": session}))["session"].clone();
        turn(&server, &client, &session, &[result(0.75, 30)]);
        client.must("closeSession", json!({"sessionId": session}));
        if restarts {
            server.stop();
            server = builder().workspace(server.workspace()).start();
            client = server.connect(json!({"sessionId": fork["sessionId"]}));
        }
        let id = fork["sessionId"].as_str().expect("a name");
        let (response, after) = turn(&server, &client, id, &[result(0.875, 40)]);
        assert_eq!(response["costUsd"], 0.125, "restarts: {restarts}");
        assert_cost(&after, 0.125);
        assert_eq!(after["usage"]["inputTokens"], 10, "restarts: {restarts}");
    }
}

/// A result with this member in place of its own, as it would be written.
fn odd_result(name: &str, value: &str) -> String {
    let mut odd = result(0.5, 20);
    odd[name] = json!("ODD");
    odd.to_string().replace(r#""ODD""#, value) + "\n"
}

#[test]
fn costs_that_are_none_are_passed_over() {
    let first = server();
    let (client, session) = text_client(&first);
    turn(&first, &client, &session, &[result(0.5, 20)]);
    for cost in ["-1", "-1e308", "1e999", "\"NaN\"", "null", "{}"] {
        let (response, after) = turn_of(&first, &client, &session, &odd_result("total_cost_usd", cost));
        assert_eq!((&response["status"], &response["costUsd"]), (&json!("done"), &json!(0.0)), "{cost}");
        assert_cost(&after, 0.5);
        assert_eq!(after["usage"]["inputTokens"], 120, "{cost}");
    }
    let (_, after) = turn(&first, &client, &session, &[result(0.75, 30)]);
    assert_cost(&after, 0.75);
    // More than a number holds, each from zero.
    for cost in ["1e308", "0", "1e308", "0"] {
        turn_of(&first, &client, &session, &odd_result("total_cost_usd", cost));
    }
    let most = summary(&client, &session)["costUsd"].clone();
    assert_eq!(most.as_f64(), Some(f64::MAX));
    first.stop();
    let second = builder().workspace(first.workspace()).start();
    let client = second.connect(json!({"sessionId": session}));
    assert_eq!(summary(&client, &session)["costUsd"], most);
    assert_eq!(turn(&second, &client, &session, &[result(0.5, 20)]).0["status"], "done");
}

#[test]
fn tokens_that_are_not_told_stay_as_they_were() {
    let server = server();
    let (client, session) = text_client(&server);
    turn(&server, &client, &session, &[result(0.5, 20)]);
    let odd = ["null", "7", "[]", r#"{"claude-x":8}"#, r#"{"claude-x":{"inputTokens":"x"}}"#]
        .into_iter()
        .chain([r#"{"claude-x":{"inputTokens":-1}}"#, r#"{"claude-x":{"inputTokens":18446744073709551616}}"#]);
    for usage in odd {
        let (response, after) = turn_of(&server, &client, &session, &odd_result("modelUsage", usage));
        assert_eq!(response["status"], "done", "{usage}");
        assert_eq!(after["usage"]["inputTokens"], 120, "{usage}");
    }
    let mut without = result(0.625, 0);
    without.as_object_mut().expect("made above").remove("modelUsage");
    let (response, _) = turn(&server, &client, &session, &[without]);
    assert_eq!(response["costUsd"], 0.125);
    let (_, after) = turn(&server, &client, &session, &[result(0.75, 30)]);
    assert_eq!(after["usage"]["inputTokens"], 130);
    assert_cost(&after, 0.75);
}

#[test]
fn the_list_of_what_is_to_be_done_is_followed_and_kept() {
    let first = server();
    let (client, session) = text_client(&first);
    let whole = json!([{"content": "one", "status": "in_progress", "activeForm": "…"}, {"content": "two", "status": "pending"}]);
    let lines = [
        used_tool("toolu_1", "TodoWrite", json!({"todos": whole})),
        tool_gave("toolu_1", json!({"oldTodos": [], "newTodos": whole})),
        used_tool("toolu_2", "TodoWrite", json!({"todos": []})),
        tool_gave("toolu_2", json!("Error: no such tool")),
        result(0.0, 0),
    ];
    let (_, after) = turn(&first, &client, &session, &lines);
    let expected = json!([{"text": "one", "status": "in_progress"}, {"text": "two", "status": "pending"}]);
    assert_eq!(after["todos"], expected);
    first.stop();
    let second = builder().workspace(first.workspace()).start();
    let client = second.connect(json!({"sessionId": session}));
    assert_eq!(summary(&client, &session)["todos"], expected);
    let lines = [
        used_tool("toolu_3", "TaskCreate", json!({"subject": "three"})),
        tool_gave("toolu_3", json!({"task": {"id": "7", "subject": "three"}})),
        used_tool("toolu_4", "TaskUpdate", json!({"taskId": "7", "status": "completed"})),
        tool_gave(
            "toolu_4",
            json!({"success": true, "taskId": "7", "statusChange": {"from": "pending", "to": "completed"}}),
        ),
        result(0.0, 0),
    ];
    let (_, after) = turn(&second, &client, &session, &lines);
    assert_eq!(after["todos"][2], json!({"id": "7", "text": "three", "status": "completed"}));
}

#[test]
fn background_tasks_are_listed_while_their_process_lives() {
    let server = server();
    let (client, session) = text_client(&server);
    let task = |subtype: &str, more: Value| {
        let mut line = json!({"type": "system", "subtype": subtype, "task_id": "t1"});
        line.as_object_mut().expect("made above").extend(more.as_object().cloned().expect("an object"));
        line
    };
    let started =
        task("task_started", json!({"description": "long\nwork", "task_type": "local_bash", "tool_use_id": "toolu_1"}));
    let (_, after) = turn(&server, &client, &session, &[started.clone(), result(0.0, 0)]);
    let expected = json!([{"taskId": "t1", "type": "local_bash", "description": "long work", "toolUseId": "toolu_1"}]);
    assert_eq!(after["tasks"], expected);
    // Progress tells nobody anything through the summary.
    let mark = client.mark();
    let progress = task("task_progress", json!({"description": "step", "usage": {"total_tokens": 1}}));
    let mut lines = vec![progress; 500];
    lines.push(result(0.0, 0));
    turn(&server, &client, &session, &lines);
    let updates = client.events()[mark..].iter().filter(|event| event.name == "sessionUpdated").count();
    assert!(updates < 20, "{updates} summaries for 500 steps");
    let ended = task("task_notification", json!({"status": "completed", "summary": "done"}));
    assert_eq!(turn(&server, &client, &session, &[ended, result(0.0, 0)]).1["tasks"], json!([]));
    assert_eq!(turn(&server, &client, &session, &[started, result(0.0, 0)]).1["tasks"], expected);
    client.must("closeSession", json!({"sessionId": session}));
    assert_eq!(summary(&client, &session)["tasks"], json!([]));
}

#[test]
fn a_limit_that_comes_near_is_told_once_and_shown() {
    let server = server();
    let (client, session) = text_client(&server);
    let limit = |status: &str, used: f64| {
        let info =
            json!({"status": status, "resetsAt": 1_795_681_618, "rateLimitType": "five_hour", "utilization": used});
        json!({"type": "rate_limit_event", "rate_limit_info": info})
    };
    let (_, after) = turn(&server, &client, &session, &[limit("allowed", 0.5), result(0.0, 0)]);
    let shown = |status: &str, used: f64| json!({"status": status, "type": "five_hour", "resetsAt": 1_795_681_618_000_u64, "utilization": used});
    assert_eq!(after["rateLimit"], shown("allowed", 0.5));
    assert!(client.events_named("notice").is_empty());
    // Claude may tell of several limits in turn.
    let mut weekly = limit("allowed", 0.2);
    weekly["rate_limit_info"]["rateLimitType"] = json!("seven_day");
    let lines = [limit("allowed_warning", 0.9), weekly, limit("allowed_warning", 0.95), result(0.0, 0)];
    let (_, after) = turn(&server, &client, &session, &lines);
    assert_eq!(after["rateLimit"], shown("allowed_warning", 0.95));
    let notices = client.events_named("notice");
    assert_eq!(notices.iter().map(|notice| notice["code"].as_str()).collect::<Vec<_>>(), [Some("rate_limit_warning")]);
}
