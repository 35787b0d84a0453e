//! What the real CLI asks, and each way to answer it from a client.

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, start},
    support::{DEADLINE, fake_api::FakeApi, processes},
};

const QUESTIONS: &str = r#"tool:AskUserQuestion:{"questions":[
    {"question":"Which color?","header":"Color","multiSelect":false,"options":[{"label":"Red","description":"warm"},{"label":"Blue","description":"cold"}]},
    {"question":"Which fruits?","header":"Fruit","multiSelect":true,"options":[{"label":"Apple","description":"a"},{"label":"Pear","description":"p"}]}]}"#;

impl Setup {
    /// Asks, and gives the question that Claude has before it goes on.
    fn ask_for_question(&self, prompt: &str) -> (String, Value) {
        let mark = self.client.mark();
        let prompt = self.ask(prompt);
        (prompt, self.question(mark))
    }

    /// Answers a question, and waits for the end of its prompt.
    fn answer_with(&self, (prompt, question): &(String, Value), answer: Value) -> Value {
        let mut data = json!({"sessionId": self.session, "requestId": question["requestId"]});
        data.as_object_mut().expect("made above").extend(answer.as_object().cloned().expect("an object"));
        self.client.must("answerPermission", data);
        self.client.wait_response(prompt)
    }

    fn work(&self, name: &str) -> std::path::PathBuf {
        self.server.workspace().work().join(name)
    }
}

fn text(response: &Value) -> &str {
    response["fullResponse"].as_str().expect("a text")
}

#[test]
fn an_edited_input_is_the_one_that_is_used() {
    let on = start();
    let (asked, other) = (on.work("asked"), on.work("other"));
    let question = on.ask_for_question(&format!("write:{}:as it was asked", asked.display()));
    let edited = json!({"file_path": other, "content": "as the user wants it"});
    let response = on.answer_with(&question, json!({"behavior": "allow", "updatedInput": edited}));
    assert_eq!(response["status"], "done", "{response}");
    assert_eq!(std::fs::read_to_string(&other).expect("the file"), "as the user wants it");
    assert!(!asked.exists());
}

#[test]
fn always_means_that_it_is_not_asked_again_and_is_kept_where_the_suggestion_says() {
    let on = start();
    let command = format!("bash:mkdir -p {}/made", on.server.workspace().work().display());
    let question = on.ask_for_question(&command);
    let suggestions = question.1["suggestions"].as_array().expect("a list");
    let rule = suggestions.iter().find(|one| one["type"] == "addRules").expect("a rule").clone();
    assert_eq!(rule["destination"], "localSettings", "{suggestions:?}");
    let response = on.answer_with(&question, json!({"behavior": "allow", "updatedPermissions": [rule]}));
    assert_eq!(response["status"], "done", "{response}");
    let settings = std::fs::read_to_string(on.work(".claude/settings.local.json")).expect("the settings");
    let content = rule["rules"][0]["ruleContent"].as_str().expect("a text");
    assert!(settings.contains(&format!("Bash({content})")), "{settings}");
    // A mode that is suggested is followed by the summary; and neither of the two is asked again.
    let question = on.ask_for_question(&format!("write:{}:text", on.work("first").display()));
    let mode = json!([{"type": "setMode", "mode": "acceptEdits", "destination": "session"}]);
    assert!(question.1["suggestions"].as_array().is_some_and(|all| all.contains(&mode[0])), "{}", question.1);
    on.answer_with(&question, json!({"behavior": "allow", "updatedPermissions": mode}));
    assert_eq!(on.summary()["permissionMode"], "acceptEdits");
    let mark = on.client.mark();
    let response = on.ask_and_wait(&format!("write:{}:text", on.work("second").display()));
    assert_eq!(response["status"], "done", "{response}");
    assert!(on.work("second").exists());
    assert!(!on.client.events()[mark..].iter().any(|event| event.name == "permissionRequest"));
}

#[test]
fn to_deny_and_stop_ends_the_turn() {
    let on = start();
    let question = on.ask_for_question(&format!("bash:mkdir {}/made", on.server.workspace().work().display()));
    let response = on.answer_with(&question, json!({"behavior": "deny", "message": "stop it", "interrupt": true}));
    assert_eq!((&response["status"], &response["error"]), (&json!("interrupted"), &Value::Null), "{response}");
    assert!(!on.work("made").exists());
    assert_eq!(on.api.turns().len(), 1, "the model is not asked any more");
    assert_eq!(on.summary()["state"], "idle");
    assert_eq!(on.answer("say:still here"), "still here");
}

#[test]
fn a_question_does_not_outlive_its_process() {
    let on = start();
    let (prompt, question) =
        on.ask_for_question(&format!("bash:mkdir {}/made", on.server.workspace().work().display()));
    let late = on.server.connect(json!({"sessionId": on.session}));
    assert_eq!(late.wait_event("permissionRequest", |_| true), question);
    processes::signal(on.claude().pid, libc::SIGKILL);
    let resolved = on.client.wait_event("permissionResolved", |data| data["requestId"] == question["requestId"]);
    assert_eq!((&resolved["behavior"], &resolved["by"]), (&json!("cancelled"), &json!("exit")));
    assert_eq!(late.wait_event("permissionResolved", |_| true), resolved);
    assert_eq!(on.client.wait_response(&prompt)["status"], "failed");
    let yes = json!({"sessionId": on.session, "requestId": question["requestId"], "behavior": "allow"});
    assert_eq!(late.must_fail("answerPermission", yes)["code"], "stale_request");
}

#[test]
fn questions_with_choices_are_answered_with_labels_and_with_free_text() {
    let on = start();
    for (answers, expected) in [
        (json!({"Which color?": "Blue", "Which fruits?": "Apple, Pear"}), ["=\"Blue\"", "=\"Apple, Pear\""]),
        (json!({"Which color?": "a green, rather", "Which fruits?": "Pear"}), ["=\"a green, rather\"", "=\"Pear\""]),
    ] {
        let question = on.ask_for_question(QUESTIONS);
        assert_eq!(question.1["toolName"], "AskUserQuestion");
        assert_eq!(question.1["input"]["questions"][1]["options"][0]["label"], "Apple");
        let mut input = question.1["input"].clone();
        input["answers"] = answers;
        let response = on.answer_with(&question, json!({"behavior": "allow", "updatedInput": input}));
        assert_eq!(response["status"], "done", "{response}");
        for part in expected {
            assert!(text(&response).contains(part), "{part}: {response}");
        }
    }
    let question = on.ask_for_question(QUESTIONS);
    let response = on.answer_with(&question, json!({"behavior": "deny", "message": "ask me later"}));
    assert!(text(&response).contains("ask me later"), "{response}");
}

#[test]
fn a_plan_is_sent_back_with_a_word_and_then_approved() {
    let api = FakeApi::start();
    let server = builder(&api).arg("--permission-mode=plan").start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    let on = Setup { client, session, server, api };
    let question = on.ask_for_question("plan");
    assert_eq!(question.1["toolName"], "ExitPlanMode");
    let response = on.answer_with(&question, json!({"behavior": "deny", "message": "make it shorter"}));
    assert!(text(&response).contains("make it shorter"), "{response}");
    assert_eq!(on.summary()["permissionMode"], "plan");
    // 2.1.197 has the plan in the input; later ones in the text before, or in a file.
    let question = on.ask_for_question("plan");
    let response = on.answer_with(&question, json!({"behavior": "allow"}));
    assert_eq!(response["status"], "done", "{response}");
    assert!(text(&response).contains("approved"), "{response}");
    processes::eventually("the mode is left", DEADLINE, || on.summary()["permissionMode"] == "default");
}

/// A server of tools that asks the user something by itself. The request for it is answered with an error, which Claude
/// takes for a no: nothing hangs.
#[test]
fn what_a_server_of_tools_asks_is_refused_and_not_met_with_silence() {
    const ASKER: &str = r#"
import sys, json
def say(message): print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
asked = None
for line in sys.stdin:
    message = json.loads(line)
    id, method = message.get("id"), message.get("method")
    if method == "initialize":
        say({"id": id, "result": {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "asker", "version": "1"}}})
    elif method == "tools/list":
        say({"id": id, "result": {"tools": [{"name": "ask", "description": "asks", "inputSchema": {"type": "object", "properties": {}}}]}})
    elif method == "tools/call":
        asked = id
        say({"id": "e", "method": "elicitation/create", "params": {"message": "Your name?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}})
    elif id == "e":
        say({"id": asked, "result": {"content": [{"type": "text", "text": "it was told: " + json.dumps(message.get("result", message.get("error")))}]}})
    elif id is not None:
        say({"id": id, "result": {}})
"#;
    let api = FakeApi::start();
    let workspace = std::sync::Arc::new(crate::support::workspace::Workspace::new());
    let script = workspace.root().join("asker.py");
    std::fs::write(&script, ASKER).expect("written");
    let servers = json!({"mcpServers": {"asker": {"command": "python3", "args": [script]}}});
    let server = builder(&api).workspace(&workspace).arg(format!("--agent-arg=--mcp-config={servers}")).start();
    let client = server.connect(Value::Null);
    let session = client.session_id();
    let watching = server.connect(json!({"sessionId": session, "stream": "events"}));
    let on = Setup { client, session, server, api };
    // The CLI may ask the model before it has the tools of such a server.
    processes::eventually("the tool is there", DEADLINE, || {
        on.ask_and_wait("say:up");
        let told = on.api.turns().pop().expect("a turn").body["tools"].to_string();
        told.contains("mcp__asker__ask") || watching.events().iter().any(|event| event.raw.contains("mcp__asker__ask"))
    });
    let question = on.ask_for_question("tool:mcp__asker__ask:{}");
    let response = on.answer_with(&question, json!({"behavior": "allow"}));
    assert!(text(&response).contains(r#"it was told: {"action": "cancel"}"#), "{response}");
    watching.wait_event("claudeEvent", |data| data["event"]["request"]["subtype"] == "elicitation");
}
