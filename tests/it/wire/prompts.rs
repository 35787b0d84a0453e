//! Prompts: queued, asked once, stopped.

use serde_json::{Value, json};

use super::{client, go, go_file, server, settle, text_client, viewer};
use crate::support::client::Client;

/// A prompt that runs until the file is there, and has begun.
fn waiting(client: &Client, session: &str, file: &std::path::Path) -> String {
    let prompt = client.ask(session, &format!("wait {}", file.display()));
    client.wait_chunk(&prompt);
    prompt
}

fn ask(client: &Client, session: &str, prompt: &str) -> (String, u64) {
    let ack = client.must("askClaudeCode", json!({"sessionId": session, "prompt": prompt}));
    (ack["promptId"].as_str().expect("an id").to_owned(), ack["position"].as_u64().expect("a number"))
}

fn summary(client: &Client, session: &str) -> Value {
    client.must("getSession", json!({"sessionId": session}))["session"].clone()
}

#[test]
fn prompts_wait_their_turn() {
    let server = server();
    let (client, session) = text_client(&server);
    let file = go_file(&server);
    let first = waiting(&client, &session, &file);
    let (second, at_second) = ask(&client, &session, "words 1");
    let (third, at_third) = ask(&viewer(&server, &session, "text"), &session, "words 2");
    assert_eq!((at_second, at_third), (1, 2));
    let now = summary(&client, &session);
    assert_eq!((&now["running"], &now["state"]), (&json!(first), &json!("busy")));
    let queue = json!([{"promptId": second, "text": "words 1"}, {"promptId": third, "text": "words 2"}]);
    assert_eq!(now["queue"], queue);
    go(&file);
    for (prompt, text) in [(&first, "waiting no more"), (&second, "w1"), (&third, "w1 w2")] {
        assert_eq!(client.wait_response(prompt)["fullResponse"], text);
    }
    settle(&client, &session);
    let answered: Vec<Value> =
        client.events_named("claudeResponse").into_iter().map(|data| data["promptId"].clone()).collect();
    assert_eq!(answered, [json!(first), json!(second), json!(third)]);
    assert_eq!(ask(&client, &session, "words 1").1, 0);
}

#[test]
fn all_prompts_of_a_session_go_to_one_process() {
    let server = server();
    let (client, session) = text_client(&server);
    let pid = client.ask_and_wait(&session, "pid")["fullResponse"].clone();
    assert_eq!(client.ask_and_wait(&session, "pid")["fullResponse"], pid);
    let history = client.ask_and_wait(&session, "history")["fullResponse"].clone();
    assert_eq!(history, r#"["pid","pid"]"#);
}

#[test]
fn a_prompt_is_asked_once_however_often_it_is_sent() {
    let server = server();
    let (client, session) = text_client(&server);
    let file = go_file(&server);
    let running = waiting(&client, &session, &file);
    let data = |id: &str, prompt: &str| json!({"sessionId": session, "prompt": prompt, "promptId": id});
    let queued = client.must("askClaudeCode", data("mine", "words 3"));
    assert_eq!(queued, json!({"ok": true, "promptId": "mine", "position": 1}));
    let other = viewer(&server, &session, "text");
    assert_eq!(client.must("askClaudeCode", data("mine", "words 3")), queued);
    assert_eq!(other.must("askClaudeCode", data("mine", "words 3")), queued);
    assert_eq!(client.must_fail("askClaudeCode", data("mine", "words 4"))["code"], "conflict");
    let with_context = json!({"sessionId": session, "prompt": "words 3", "promptId": "mine", "context": {"a": 1}});
    assert_eq!(client.must_fail("askClaudeCode", with_context)["code"], "conflict");
    let text = format!("wait {}", file.display());
    assert_eq!(client.must("askClaudeCode", data(&running, &text))["position"], 0);
    go(&file);
    assert_eq!(client.wait_response("mine")["fullResponse"], "w1 w2 w3");
    assert_eq!(client.must("askClaudeCode", data("mine", "words 3"))["position"], 0, "it is over");
    assert_eq!(client.must_fail("askClaudeCode", data("mine", "words 4"))["code"], "conflict");
    let history = client.ask_and_wait(&session, "history")["fullResponse"].to_string();
    assert_eq!(history.matches("words 3").count(), 1, "{history}");
    assert_eq!(client.events_named("prompt").iter().filter(|data| data["promptId"] == "mine").count(), 1);
    // Each session has names of its own.
    let (other, elsewhere) = text_client(&server);
    let data = json!({"sessionId": elsewhere, "prompt": "words 1", "promptId": "mine"});
    other.must("askClaudeCode", data);
    assert_eq!(other.wait_response("mine")["fullResponse"], "w1");
}

#[test]
fn prompts_reach_claude_as_they_are() {
    let server = server();
    let (client, session) = text_client(&server);
    for prompt in [
        "--help",
        "-p x",
        "--dangerously-skip-permissions",
        "$(id) `id` ; | &",
        "a\"b\\c\n\td",
        "ünï 漢字 🦀 \u{1b}[2J",
        "{\"type\":\"user\"}",
        "\u{feff}\u{202e}x",
        "/unknown-command",
    ] {
        assert_eq!(client.ask_and_wait(&session, prompt)["fullResponse"], format!("you said: {prompt}"), "{prompt:?}");
    }
    let long = "long ".repeat(150_000);
    let asked = client.ask(&session, &format!("words 1 {long}"));
    assert_eq!(client.wait_response(&asked)["fullResponse"], "w1");
    let shown = client.wait_event("prompt", |data| data["promptId"] == asked);
    assert_eq!(shown["text"], format!("words 1 {long}"));
    let context = json!({"documentContent": "doc", "selectedText": {"text": "sel", "start": 1, "end": 4}, "n": 1});
    let data = json!({"sessionId": session, "prompt": "look", "context": context, "ignored": {"a": [1]}});
    let ack = client.must("askClaudeCode", data);
    let id = ack["promptId"].as_str().expect("an id");
    let expected = "you said: look\n\n<document>\ndoc\n</document>\n\n<selection start=\"1\" end=\"4\">\nsel\n\
                    </selection>\n\n<context>\n{\"n\":1}\n</context>";
    assert_eq!(client.wait_response(id)["fullResponse"], expected);
    // Viewers see what the user typed.
    assert_eq!(client.wait_event("prompt", |data| data["promptId"] == id)["text"], "look");
    // None of it is in any process's arguments.
    let shown = |arg: &String| arg.contains("skip-permissions") || arg.contains("look");
    assert!(!server.started().iter().any(|process| process.cmdline.iter().any(shown)));
}

#[test]
fn an_interrupt_stops_what_runs_and_the_next_follows() {
    let server = server();
    let (client, session) = text_client(&server);
    let never = go_file(&server);
    let running = waiting(&client, &session, &never);
    let (queued, _) = ask(&client, &session, "words 2");
    let other = viewer(&server, &session, "events");
    let wrong = json!({"sessionId": session, "promptId": queued});
    assert_eq!(other.must("interruptClaude", wrong)["stillQueued"], json!([queued]), "that one does not run");
    assert_eq!(summary(&client, &session)["running"], running);
    let ack = other.must("interruptClaude", json!({"sessionId": session, "promptId": running}));
    assert_eq!(ack["stillQueued"], json!([queued]));
    let stopped = client.wait_response(&running);
    assert_eq!((&stopped["status"], &stopped["fullResponse"]), (&json!("interrupted"), &json!("waiting ")));
    let next = client.wait_response(&queued);
    assert_eq!((&next["status"], &next["fullResponse"]), (&json!("done"), &json!("w1 w2")));
    settle(&client, &session);
    let late = json!({"sessionId": session, "promptId": running});
    assert_eq!(client.must("interruptClaude", late)["stillQueued"], json!([]), "it has ended: as wanted");
    assert_eq!(client.must("interruptClaude", json!({"sessionId": session}))["stillQueued"], json!([]), "nothing runs");
    assert_eq!(client.ask_and_wait(&session, "words 1")["status"], "done");
}

#[test]
fn an_interrupt_may_clear_the_queue() {
    let server = server();
    let (client, session) = text_client(&server);
    let running = waiting(&client, &session, &go_file(&server));
    let queued: Vec<String> = (0..3).map(|_| client.ask(&session, "words 2")).collect();
    let ack = client.must("interruptClaude", json!({"sessionId": session, "clearQueue": true}));
    assert_eq!(ack["stillQueued"], json!([]));
    for prompt in queued.iter().chain([&running]) {
        let response = client.wait_response(prompt);
        assert_eq!((&response["status"], &response["done"]), (&json!("interrupted"), &json!(true)));
    }
    assert_eq!(client.ask_and_wait(&session, "words 1")["status"], "done");
    settle(&client, &session);
    assert_eq!(client.events_named("claudeResponse").len(), 5, "one for each prompt");
    assert_eq!(client.events_named("prompt").len(), 2, "those that ran");
}

#[test]
fn a_waiting_prompt_can_be_cancelled() {
    let server = server();
    let (client, session) = text_client(&server);
    let file = go_file(&server);
    let running = waiting(&client, &session, &file);
    let (second, third) = (client.ask(&session, "words 2"), client.ask(&session, "words 3"));
    let cancel = |prompt: &str| json!({"sessionId": session, "promptId": prompt});
    client.must("cancelPrompt", cancel(&second));
    assert_eq!(client.wait_response(&second)["status"], "interrupted");
    assert_eq!(summary(&client, &session)["queue"], json!([{"promptId": third, "text": "words 3"}]));
    assert_eq!(client.must_fail("cancelPrompt", cancel(&second))["code"], "conflict");
    assert_eq!(client.must_fail("cancelPrompt", cancel(&running))["code"], "conflict");
    go(&file);
    assert_eq!(client.wait_response(&third)["fullResponse"], "w1 w2 w3");
    assert_eq!(client.must_fail("cancelPrompt", cancel(&third))["code"], "conflict");
    assert_eq!(client.events_named("prompt").len(), 2);
}

#[test]
fn only_so_many_prompts_wait() {
    let server = server();
    let (asking, session) = text_client(&server);
    waiting(&asking, &session, &go_file(&server));
    let mut accepted = 0;
    let refused = loop {
        // One connection may send 50 events at once.
        let (more, _) = client(&server, json!({"sessionId": session}));
        let acks: Vec<Value> = (0..40)
            .map(|_| more.emit_with_ack("askClaudeCode", json!({"sessionId": session, "prompt": "words 1"})))
            .collect();
        accepted += acks.iter().filter(|ack| ack["ok"] == true).count();
        if let Some(refused) = acks.into_iter().find(|ack| ack["ok"] == false) {
            break refused;
        }
    };
    assert_eq!((accepted, &refused["error"]["code"]), (100, &json!("rate_limited")));
    asking.must("interruptClaude", json!({"sessionId": session, "clearQueue": true}));
}
