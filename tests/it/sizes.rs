//! What stands in one acknowledgement together: none is larger than an event may be.

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, init, question, result, scene},
    support::client::{Client, Frame},
};

const FRAME_BYTES_MAX: usize = 900_000;

/// A turn with as many tasks and things to do as there can be, all called after `text`.
fn busy_turn(text: &str) -> Vec<Value> {
    let todos: Vec<Value> = (0..100).map(|n| json!({"content": format!("{n}{text}"), "status": text})).collect();
    let tasks: Vec<Value> = (0..100)
        .map(|n| json!({"task_id": format!("{n}{text}"), "task_type": text, "description": format!("{n}{text}")}))
        .collect();
    let uses = json!([{"type": "tool_use", "id": "t", "name": "TodoWrite", "input": {}}]);
    let results = json!([{"type": "tool_result", "tool_use_id": "t"}]);
    vec![
        init(),
        json!({"type": "assistant", "parent_tool_use_id": null, "message": {"id": "m", "content": uses}}),
        json!({"type": "user", "uuid": "00000000-0000-4000-8000-000000000001", "parent_tool_use_id": null,
            "message": {"role": "user", "content": results}, "tool_use_result": {"newTodos": todos}}),
        json!({"type": "system", "subtype": "background_tasks_changed", "tasks": tasks}),
        result(),
    ]
}

fn largest(client: &Client) -> usize {
    let bytes = |received: crate::support::client::Received| match received.frame {
        Frame::Text(text) => text.len(),
        _ => 0,
    };
    client.frames().into_iter().map(bytes).max().unwrap_or(0)
}

/// Asks for all that has a summary in it, and gives the history that `resumeSession` gave.
fn look(scene: &Scene) -> Vec<Value> {
    let late = scene.server.connect(Value::Null);
    let resumed = late.must("resumeSession", scene.data(json!({})));
    late.must("getSession", scene.data(json!({})));
    late.must("listSessions", json!({}));
    for client in [&scene.client, &late] {
        assert!(largest(client) <= FRAME_BYTES_MAX, "{}", largest(client));
    }
    resumed["events"].as_array().expect("a list").clone()
}

#[test]
fn a_summary_has_what_fits_of_tasks_and_todos() {
    for (text, least) in [("\u{1}\u{2}", 200), ("\u{6f22}".repeat(250).as_str(), 15), ("\"\\".repeat(125).as_str(), 15)]
    {
        let scene = scene(bad("proper"));
        scene.turn(&busy_turn(text));
        for _ in 0..3 {
            scene.text("lines 300 1800");
        }
        let summary = scene.summary();
        let count = |list: &str| summary[list].as_array().map_or(0, Vec::len);
        assert!(count("tasks") + count("todos") >= least, "{summary}");
        assert!(summary.to_string().len() < 35_000, "{}", summary.to_string().len());
        assert!(look(&scene).len() > 300);
        scene.finish();
    }
}

#[test]
fn the_history_leaves_room_for_a_long_queue() {
    let scene = scene(bad("proper"));
    let questions = (0..10).map(|n| {
        let mut line = question(&format!("q{n}"), Some("a1"));
        line["request"]["input"] = json!({"command": "x".repeat(40_000)});
        line
    });
    scene.turn(&[vec![init()], questions.collect(), vec![result()]].concat());
    for _ in 0..3 {
        scene.text("lines 300 1800");
    }
    let watching = scene.server.connect(json!({"sessionId": scene.id, "stream": "events"}));
    watching.registered();
    scene.text("lines 1 880000");
    let large = |data: &Value| data["event"]["data"].as_str().is_some_and(|data| data.len() == 880_000);
    let seq = watching.wait_event("claudeEvent", large)["seq"].as_u64();
    let go = scene.file("go");
    let first = scene.ask(&format!("wait {}", go.display()));
    scene.client.wait_chunk(&first);
    // Several, since one may not ask so much at once.
    let asking: Vec<Client> = (0..4).map(|_| scene.server.connect(Value::Null)).collect();
    for n in 0..100 {
        let id = format!("{n:03}{}", "\u{1}".repeat(197));
        let prompt = scene.data(json!({"prompt": "\u{6f22}".repeat(1000), "promptId": id}));
        asking[n % asking.len()].must("askClaudeCode", prompt);
    }
    let summary = scene.summary().to_string().len();
    assert!(summary > 150_000, "{summary}");
    assert!(look(&scene).len() > 1);
    // One event alone that is more than there is room for.
    let after = seq.expect("a number") - 1;
    let late = scene.server.connect(Value::Null);
    let resumed = late.must("resumeSession", scene.data(json!({"afterSeq": after})));
    let only = &resumed["events"][0];
    assert_eq!(
        (&only["seq"], &only["data"]["seq"], &only["data"]["truncated"]),
        (&json!(seq), &json!(seq), &json!(true))
    );
    assert!(largest(&late) <= FRAME_BYTES_MAX);
    scene.client.must("interruptClaude", scene.data(json!({"clearQueue": true})));
    scene.client.wait_response(&first);
    scene.finish();
}

#[test]
fn open_questions_take_only_so_much_memory() {
    let scene = scene(bad("proper"));
    let questions = (0..3).map(|n| {
        let mut line = question(&format!("q{n}"), Some("a1"));
        line["request"]["input"] = json!({"command": "x".repeat(7 << 20)});
        line
    });
    scene.turn(&[vec![init()], questions.collect(), vec![result()]].concat());
    assert_eq!(scene.summary()["openQuestions"], 2);
    let told = &scene.json("answers")[0];
    assert_eq!((&told["request_id"], &told["error"]), (&json!("q2"), &json!("too many questions are open")));
    assert_eq!(scene.notices(), ["question_refused"]);
    scene.finish();
}
