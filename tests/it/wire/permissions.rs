//! Questions: seen by all, answered once.

use serde_json::{Value, json};

use super::{server, settle, text_client, viewer};
use crate::support::{client::Client, server::Server};

const INPUT: &str = r#"{"command":"touch asked","description":"Ask for it"}"#;

struct Asked {
    one: Client,
    two: Client,
    session: String,
    prompt: String,
    question: Value,
}

/// A question that two viewers see, one of each kind.
fn ask(server: &Server) -> Asked {
    let (one, session) = text_client(server);
    let two = viewer(server, &session, "events");
    let prompt = one.ask(&session, "ask");
    let question = one.wait_event("permissionRequest", |_| true);
    assert_eq!(two.wait_event("permissionRequest", |_| true), question);
    Asked { one, two, session, prompt, question }
}

impl Asked {
    fn answer(&self, fields: Value) -> Value {
        let mut data = json!({"sessionId": self.session, "requestId": self.question["requestId"]});
        for (name, value) in fields.as_object().expect("an object") {
            data[name] = value.clone();
        }
        data
    }
}

#[test]
fn a_question_is_shown_whole() {
    let server = server();
    let asked = ask(&server);
    let question = &asked.question;
    assert_eq!(question["toolName"], "Bash");
    assert_eq!(question["input"].to_string(), INPUT);
    assert_eq!(question["description"], "Ask for it");
    assert_eq!(question["suggestions"][0]["type"], "addRules");
    // Claude's own is for a terminal; what any client can show is without what steers one.
    assert_eq!(question["request"]["decision_reason"], "\u{1b}[1mtouch\u{1b}[22m makes a file");
    assert_eq!(question["reason"], "touch makes a file");
    assert_eq!(question["request"]["subtype"], "can_use_tool");
    assert_eq!(question["request"]["input"], question["input"]);
    let state = |client: &Client| client.must("getSession", json!({"sessionId": asked.session}))["session"].clone();
    assert_eq!((&state(&asked.one)["state"], &state(&asked.one)["openQuestions"]), (&json!("waiting"), &json!(1)));
    asked.two.must("answerPermission", asked.answer(json!({"behavior": "deny"})));
    asked.one.wait_response(&asked.prompt);
    settle(&asked.one, &asked.session);
    assert_eq!(state(&asked.one)["openQuestions"], 0);
}

#[test]
fn an_answer_reaches_claude_as_it_was_given() {
    let server = server();
    for (answer, expected) in [
        (json!({"behavior": "allow"}), format!("asking allowed:{INPUT}")),
        (
            json!({"behavior": "allow", "updatedInput": {"command": "ls", "z": [1.5, null]}}),
            r#"asking allowed:{"command":"ls","z":[1.5,null]}"#.to_owned(),
        ),
        (json!({"behavior": "allow", "updatedInput": null, "message": "ignored"}), format!("asking allowed:{INPUT}")),
        (
            json!({"behavior": "allow", "updatedPermissions": [{"type": "addRules"}]}),
            format!(r#"asking allowed:{INPUT} permissions:[{{"type":"addRules"}}]"#),
        ),
        (
            json!({"behavior": "deny", "message": "not that, \"but\" this\n"}),
            "asking denied:not that, \"but\" this\n".to_owned(),
        ),
        (json!({"behavior": "deny"}), "asking denied:The user does not want this.".to_owned()),
    ] {
        let asked = ask(&server);
        asked.two.must("answerPermission", asked.answer(answer.clone()));
        assert_eq!(asked.one.wait_response(&asked.prompt)["fullResponse"], expected, "{answer}");
    }
}

#[test]
fn the_first_answer_wins_and_all_see_whose_it_was() {
    let server = server();
    let asked = ask(&server);
    asked.two.must("answerPermission", asked.answer(json!({"behavior": "deny", "message": "no"})));
    let late = asked.one.must_fail("answerPermission", asked.answer(json!({"behavior": "allow"})));
    let resolved = asked.one.wait_event("permissionResolved", |_| true);
    assert_eq!(asked.two.wait_event("permissionResolved", |_| true), resolved);
    assert_eq!(resolved["requestId"], asked.question["requestId"]);
    assert_eq!(resolved["behavior"], "deny");
    let by = resolved["by"].as_str().expect("somebody");
    assert!(by.strip_prefix("client-").is_some_and(|key| key.parse::<u64>().is_ok()), "{by}");
    assert_eq!(late["code"], "stale_request");
    assert_eq!((&late["by"], &late["behavior"]), (&json!(by), &json!("deny")));
    assert_eq!(asked.one.wait_response(&asked.prompt)["fullResponse"], "asking denied:no");
    // Nor does it do anything when the turn is long over.
    let late = asked.two.must_fail("answerPermission", asked.answer(json!({"behavior": "allow"})));
    assert_eq!((&late["code"], &late["by"], &late["behavior"]), (&json!("stale_request"), &json!(by), &json!("deny")));
    settle(&asked.one, &asked.session);
    assert_eq!(asked.one.events_named("permissionResolved").len(), 1);
}

#[test]
fn of_many_answers_at_once_one_counts() {
    let server = server();
    let asked = ask(&server);
    let others: Vec<Client> = (0..6).map(|_| viewer(&server, &asked.session, "text")).collect();
    let started: Vec<u64> = others
        .iter()
        .enumerate()
        .map(|(n, client)| {
            let answer = json!({"behavior": "allow", "updatedInput": {"by": n}});
            client.start_emit("answerPermission", asked.answer(answer))
        })
        .collect();
    let acks: Vec<Value> = others.iter().zip(started).map(|(client, id)| client.wait_ack(id)).collect();
    let winners: Vec<usize> = (0..acks.len()).filter(|n| acks[*n]["ok"] == true).collect();
    assert_eq!(winners.len(), 1, "{acks:?}");
    let expected = format!(r#"asking allowed:{{"by":{}}}"#, winners[0]);
    assert_eq!(asked.one.wait_response(&asked.prompt)["fullResponse"], expected);
    for ack in acks.iter().filter(|ack| ack["ok"] == false) {
        assert_eq!((&ack["error"]["code"], &ack["error"]["behavior"]), (&json!("stale_request"), &json!("allow")));
    }
}

#[test]
fn a_question_of_nobody_or_of_another_session_is_stale() {
    let server = server();
    let (asked, other) = (ask(&server), ask(&server));
    let data = json!({
        "sessionId": other.session, "requestId": asked.question["requestId"], "behavior": "allow",
    });
    let foreign = other.one.must_fail("answerPermission", data);
    // Two agents number their questions alike, but for their process numbers.
    let expected = (json!("stale_request"), Value::Null, Value::Null);
    assert_eq!((foreign["code"].clone(), foreign["by"].clone(), foreign["behavior"].clone()), expected);
    let unknown = asked.answer(json!({"requestId": "unknown", "behavior": "allow"}));
    assert_eq!(asked.one.must_fail("answerPermission", unknown)["code"], "stale_request");
    for asked in [asked, other] {
        asked.one.must("answerPermission", asked.answer(json!({"behavior": "allow"})));
        asked.one.wait_response(&asked.prompt);
    }
}

#[test]
fn one_who_comes_later_sees_the_open_question() {
    let server = server();
    let asked = ask(&server);
    for stream in ["text", "events"] {
        let late = viewer(&server, &asked.session, stream);
        assert_eq!(late.wait_event("permissionRequest", |_| true), asked.question);
    }
    let back = server.connect(json!({"sessionId": asked.session, "afterSeq": 0}));
    settle(&back, &asked.session);
    assert_eq!(back.events_named("permissionRequest"), std::slice::from_ref(&asked.question));
    let late = viewer(&server, &asked.session, "text");
    late.must("answerPermission", asked.answer(json!({"behavior": "allow"})));
    assert_eq!(asked.one.wait_response(&asked.prompt)["status"], "done");
    let later = viewer(&server, &asked.session, "text");
    settle(&later, &asked.session);
    assert!(later.events_named("permissionRequest").is_empty(), "it is not open any more");
}

#[test]
fn a_question_is_cancelled_with_its_turn() {
    let server = server();
    for (how, by) in [("interrupt", "claude"), ("deny", ""), ("close", "exit")] {
        let asked = ask(&server);
        match how {
            "interrupt" => drop(asked.two.must("interruptClaude", json!({"sessionId": asked.session}))),
            "close" => drop(asked.two.must("closeSession", json!({"sessionId": asked.session}))),
            _ => {
                let answer = asked.answer(json!({"behavior": "deny", "interrupt": true}));
                asked.two.must("answerPermission", answer);
            }
        }
        let resolved = asked.one.wait_event("permissionResolved", |_| true);
        let response = asked.one.wait_response(&asked.prompt);
        if how == "deny" {
            assert_eq!(
                (&resolved["behavior"], &response["status"]),
                (&json!("deny"), &json!("interrupted")),
                "{response}"
            );
        } else {
            assert_eq!((&resolved["behavior"], &response["status"]), (&json!("cancelled"), &json!("interrupted")));
            assert!([by, "claude"].contains(&resolved["by"].as_str().expect("who")), "{how}: {resolved}");
            let late = asked.one.must_fail("answerPermission", asked.answer(json!({"behavior": "allow"})));
            assert_eq!((&late["code"], &late["behavior"]), (&json!("stale_request"), &json!("cancelled")));
        }
    }
}
