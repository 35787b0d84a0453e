//! Agents in the background: they go on, and ask, while turns begin and end.

use serde_json::{Value, json};

use crate::{
    setup::{Setup, start},
    support::{DEADLINE, processes},
};

impl Setup {
    /// Lets Claude start an agent in the background that wants to make a directory, and gives the agent's question. The
    /// turn is over by then.
    fn ask_in_background(&self) -> Value {
        let prompt = format!("bash:mkdir {}", self.made().display());
        let agent = json!({
            "description": "makes it", "prompt": prompt, "subagent_type": "general-purpose", "run_in_background": true,
        });
        self.answer(&format!("tool:Agent:{agent}"));
        self.question(0)
    }

    fn made(&self) -> std::path::PathBuf {
        self.server.workspace().work().join("made")
    }

    fn answer_question(&self, question: &Value, fields: Value) {
        let mut data = fields;
        data["sessionId"] = json!(self.session);
        data["requestId"] = question["requestId"].clone();
        self.client.must("answerPermission", data);
    }
}

#[test]
fn a_question_of_an_agent_in_the_background_is_open_through_other_turns() {
    let on = start();
    let question = on.ask_in_background();
    assert!(question["request"]["agent_id"].is_string(), "{question}");
    assert_eq!(on.answer("say:other"), "other");
    assert!(on.client.events_named("permissionResolved").is_empty());
    let late = on.server.connect(json!({"sessionId": on.session}));
    assert_eq!(late.wait_event("permissionRequest", |_| true), question);
    on.answer_question(&question, json!({"behavior": "allow"}));
    processes::eventually("the directory is made", DEADLINE, || on.made().exists());
}

#[test]
fn to_deny_and_stop_an_agent_in_the_background_leaves_the_answer_alone() {
    let on = start();
    let question = on.ask_in_background();
    let slow = on.ask("slow:20:50");
    on.client.wait_chunk(&slow);
    on.answer_question(&question, json!({"behavior": "deny", "interrupt": true}));
    processes::eventually("the agent has ended", DEADLINE, || on.summary()["tasks"] == json!([]));
    let response = on.client.wait_response(&slow);
    assert_eq!(response["status"], "done", "{response}");
    assert!(!on.made().exists());
}

#[test]
fn a_question_ends_with_the_agent_that_asks() {
    let on = start();
    let question = on.ask_in_background();
    let task = json!({"sessionId": on.session, "taskId": question["request"]["agent_id"]});
    on.client.must("stopTask", task);
    let resolved = on.client.wait_event("permissionResolved", |data| data["requestId"] == question["requestId"]);
    assert_eq!((&resolved["behavior"], &resolved["by"]), (&json!("cancelled"), &json!("claude")));
}
