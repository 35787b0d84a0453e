//! How long a question is open: until it is answered, withdrawn, or nobody is left who wants to know.

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, init, question, result, scene},
    support::client::Client,
};

impl Scene {
    fn answer_question(&self, request_id: &str, fields: Value) -> Value {
        let mut data = self.data(fields);
        data["requestId"] = json!(request_id);
        self.client.emit_with_ack("answerPermission", data)
    }

    fn wait_question(&self, request_id: &str) -> Value {
        self.client.wait_event("permissionRequest", |data| data["requestId"] == request_id)
    }

    fn wait_resolved(&self, request_id: &str) -> Value {
        self.client.wait_event("permissionResolved", |data| data["requestId"] == request_id)
    }

    /// What the agent was told of questions that it did not wait for: name and answer of each.
    fn told(&self) -> Vec<(Value, Value)> {
        let answers: Vec<Value> = serde_json::from_value(self.json("answers")).expect("a list");
        answers.iter().map(|answer| (answer["request_id"].clone(), answer["response"]["behavior"].clone())).collect()
    }
}

fn how(resolved: &Value) -> (&str, &str) {
    (resolved["behavior"].as_str().expect("how"), resolved["by"].as_str().expect("who"))
}

#[test]
fn a_question_of_the_conversation_ends_with_its_turn_and_claude_is_told() {
    let scene = scene(bad("proper"));
    scene.turn(&[init(), question("q1", None), result()]);
    assert_eq!(how(&scene.wait_resolved("q1")), ("cancelled", "claude"));
    assert_eq!(scene.told(), [(json!("q1"), json!("deny"))]);
    scene.finish();
}

#[test]
fn a_question_of_an_agent_outlives_turns() {
    let scene = scene(bad("proper"));
    scene.turn(&[init(), question("q1", Some("a1")), result()]);
    scene.wait_question("q1");
    scene.text("hi");
    let now = scene.summary();
    assert_eq!((&now["openQuestions"], &now["state"]), (&json!(1), &json!("idle")));
    assert_eq!(scene.answer_question("q1", json!({"behavior": "allow"}))["ok"], true);
    assert_eq!(scene.told(), [(json!("q1"), json!("allow"))]);
    assert_eq!(scene.summary()["openQuestions"], 0);
    scene.finish();
}

#[test]
fn a_question_of_an_agent_ends_with_its_task() {
    let scene = scene(bad("proper"));
    let over = |id: &str, subtype: &str, more: Value| {
        let mut line = json!({"type": "system", "subtype": subtype, "task_id": id});
        line.as_object_mut().expect("made above").extend(more.as_object().cloned().expect("an object"));
        line
    };
    scene.turn(&[init(), question("q1", Some("a1")), question("q2", Some("a2")), question("q3", Some("a3")), result()]);
    scene.turn(&[
        init(),
        over("a1", "task_progress", json!({"description": "half way"})),
        over("a2", "task_updated", json!({"patch": {"status": "killed"}})),
        over("a3", "task_notification", json!({"status": "completed"})),
        result(),
    ]);
    for id in ["q2", "q3"] {
        assert_eq!(how(&scene.wait_resolved(id)), ("cancelled", "claude"), "{id}");
    }
    assert_eq!(scene.summary()["openQuestions"], 1);
    assert_eq!(scene.told(), [(json!("q2"), json!("deny")), (json!("q3"), json!("deny"))]);
    scene.close();
    assert_eq!(how(&scene.wait_resolved("q1")), ("cancelled", "exit"));
    scene.finish();
}

#[test]
fn a_withdrawn_question_ends_before_what_claude_says_next() {
    let scene = scene(bad("proper"));
    let watching = scene.server.connect(json!({"sessionId": scene.id, "stream": "events"}));
    watching.registered();
    let withdrawn = json!({"type": "control_cancel_request", "request_id": "q1"});
    scene.turn(&[init(), question("q1", None), withdrawn, json!({"type": "behind"}), result()]);
    watching.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    let seen: Vec<String> = watching
        .events()
        .iter()
        .filter_map(|event| {
            let of_claude = event.data["event"]["type"].as_str().filter(|kind| *kind == "behind");
            of_claude.or(Some(&*event.name).filter(|name| name.starts_with("permission"))).map(str::to_owned)
        })
        .collect();
    assert_eq!(seen, ["permissionRequest", "permissionResolved", "behind"]);
    assert_eq!(how(&scene.wait_resolved("q1")), ("cancelled", "claude"));
    let late = scene.answer_question("q1", json!({"behavior": "allow"}));
    assert_eq!((&late["error"]["code"], &late["error"]["behavior"]), (&json!("stale_request"), &json!("cancelled")));
    assert!(scene.told().is_empty(), "who withdraws a question needs no answer");
    scene.finish();
}

#[test]
fn to_deny_and_stop_an_agent_stops_nothing_else() {
    // The agent's question, and one of the conversation outside of any turn.
    for (lines, agent) in
        [([init(), question("q1", Some("a1")), result()], "a1"), ([init(), result(), question("q1", None)], "")]
    {
        let scene = scene(bad("proper").arg("--interrupt-timeout=200ms"));
        scene.turn(&lines);
        scene.wait_question("q1");
        let stop = json!({"behavior": "deny", "interrupt": true});
        let slow = if agent.is_empty() {
            assert_eq!(scene.answer_question("q1", stop)["ok"], true);
            scene.ask("slow 20 50")
        } else {
            let slow = scene.ask("slow 20 50");
            scene.client.wait_chunk(&slow);
            assert_eq!(scene.answer_question("q1", stop)["ok"], true);
            slow
        };
        let response = scene.client.wait_response(&slow);
        assert_eq!((&response["status"], scene.notices()), (&json!("done"), Vec::new()), "{agent}: {response}");
        scene.finish();
    }
}

/// Claude may use a name again.
#[test]
fn a_late_answer_is_told_of_the_last_question_of_that_name() {
    let scene = scene(bad("proper"));
    for behavior in ["deny", "allow"] {
        let mark = scene.client.mark();
        scene.turn(&[init(), question("q1", Some("a1")), result()]);
        scene.client.wait_event_from(mark, "permissionRequest", |_| true);
        assert_eq!(scene.answer_question("q1", json!({"behavior": behavior}))["ok"], true);
        let late = scene.answer_question("q1", json!({"behavior": "allow"}));
        assert_eq!(late["error"]["behavior"], behavior, "{late}");
    }
    scene.finish();
}

#[test]
fn whoever_comes_is_told_once_of_an_open_question() {
    let scene = scene(bad("proper"));
    scene.turn(&[init(), question("q1", Some("a1")), result()]);
    let asked = scene.wait_question("q1");
    let told = |client: &Client, when: &str| {
        // Everything that was sent for the last event has come when this is answered.
        client.must("getSession", scene.data(json!({})));
        assert_eq!(client.events_named("permissionRequest"), std::slice::from_ref(&asked), "{when}");
    };
    // As long as the page has it, that is enough; and then it is behind, in what follows.
    let late = scene.server.connect(Value::Null);
    let page = late.must("resumeSession", scene.data(json!({})))["events"].clone();
    let in_page = |event: &Value| event["name"] == "permissionRequest" && event["data"] == asked;
    assert!(page.as_array().expect("a list").iter().any(in_page), "{page}");
    late.must("getSession", scene.data(json!({})));
    assert!(late.events_named("permissionRequest").is_empty());
    scene.text("lines 600 10");
    for (when, wish) in [("newest page", json!({})), ("later page", json!({"afterSeq": 100}))] {
        let late = scene.server.connect(Value::Null);
        let page = late.must("resumeSession", scene.data(wish))["events"].clone();
        assert!(!page.as_array().expect("a list").iter().any(in_page), "{when}");
        told(&late, when);
        late.must("resumeSession", scene.data(json!({})));
        told(&late, "it was there already");
    }
    let gap = scene.server.connect(scene.data(json!({"afterSeq": 3, "logId": "0123456789abcdef"})));
    assert_eq!(gap.wait_event("serverError", |_| true)["code"], "seq_gap");
    told(&gap, "a gap");
    let asking = scene.server.connect(Value::Null);
    asking.ask_and_wait(&scene.id, "hi");
    told(&asking, "by asking something");
    scene.finish();
}
