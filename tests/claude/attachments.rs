//! Files that come with a prompt, as the real CLI hands them on.

use std::fs;

use data_encoding::BASE64;
use serde_json::{Value, json};

use crate::{
    setup::{Setup, start},
    support::client::http,
};

/// Eight by eight pixels, all red: a CLI that looks into images must find nothing wrong.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mP4z8CAFTEMLQkAKP8/wc53yE8AAAAASUVORK5CYII=";

/// Asks with these files (name, type, content), and gives the answer.
fn ask(on: &Setup, prompt: &str, files: &[(&str, &str, &[u8])]) -> Value {
    let entry = |(at, (name, media_type, _)): (usize, &(&str, &str, &[u8]))| json!({"name": name, "mediaType": media_type, "data": {"_placeholder": true, "num": at}});
    let attachments: Value = files.iter().enumerate().map(entry).collect();
    let data = json!({"sessionId": on.session, "prompt": prompt, "attachments": attachments});
    let contents: Vec<&[u8]> = files.iter().map(|(_, _, content)| *content).collect();
    let ack = on.client.wait_ack(on.client.start_emit_binary("askClaudeCode", data, &contents));
    let prompt_id = ack["promptId"].as_str().unwrap_or_else(|| panic!("refused: {ack}"));
    let response = on.client.wait_response(prompt_id);
    assert_eq!(response["status"], "done", "{response}");
    response
}

/// The content blocks of the last user message of the last turn.
fn last_blocks(on: &Setup) -> Vec<Value> {
    let turns = on.api.turns();
    let messages = turns.last().expect("a turn").body["messages"].as_array().cloned().expect("messages");
    let last = messages.iter().rev().find(|message| message["role"] == "user").expect("one of the user");
    last["content"].as_array().cloned().expect("blocks")
}

#[test]
fn the_model_sees_images_and_texts() {
    let on = start();
    let png = BASE64.decode(PNG.as_bytes()).expect("base64");
    let files: [(&str, &str, &[u8]); 2] =
        [("dot.png", "image/png", &png), ("notes.txt", "text/plain", "ä\n\"漢字\"".as_bytes())];
    let text = "say:seen\n\n<file name=\"dot.png\" type=\"image/png\" image=\"1\"/>\n\n\
                <file name=\"notes.txt\" type=\"text/plain\">\nä\n\"漢字\"\n</file>";
    ask(&on, "say:seen", &files);
    let blocks = last_blocks(&on);
    let image = blocks.iter().find(|block| block["type"] == "image").unwrap_or_else(|| panic!("no image: {blocks:#?}"));
    let source = &image["source"];
    assert_eq!((&source["type"], &source["media_type"]), (&json!("base64"), &json!("image/png")), "{source}");
    assert_eq!(source["data"], PNG);
    // Claude ends it in a newline where it adds something of its own.
    let is_text = |block: &Value| block["text"].as_str().is_some_and(|found| found.trim_end() == text);
    assert!(blocks.iter().any(is_text), "{blocks:#?}");
    // The conversation goes on, with the image in it.
    assert_eq!(on.answer("say:next"), "next");
    let turns = on.api.turns();
    assert!(turns.last().expect("a turn").body.to_string().contains(PNG));
}

#[test]
fn the_model_is_told_the_context() {
    let on = start();
    let context =
        json!({"documentContent": "the document", "selectedText": {"text": "of it", "start": 4, "end": 9}, "line": 7});
    let data = json!({"sessionId": on.session, "prompt": "say:seen", "context": context});
    let ack = on.client.must("askClaudeCode", data);
    assert_eq!(on.client.wait_response(ack["promptId"].as_str().expect("a name"))["status"], "done");
    let text = "say:seen\n\n<document>\nthe document\n</document>\n\n<selection start=\"4\" end=\"9\">\nof it\n</selection>\n\n\
                <context>\n{\"line\":7}\n</context>";
    let blocks = last_blocks(&on);
    let is_text = |block: &Value| block["text"].as_str().is_some_and(|found| found.trim_end() == text);
    assert!(blocks.iter().any(is_text), "{blocks:#?}");
}

#[test]
fn claude_can_read_what_was_stored() {
    let on = start();
    let stored = on.server.workspace().data().join("sessions").join(&on.session).join("files/table.conf");
    let mark = on.client.mark();
    let response = ask(&on, "say:stored", &[("table.conf", "application/octet-stream", b"one\ntwo\n")]);
    let expected = format!(
        "stored\n\n<file name=\"table.conf\" type=\"application/octet-stream\" path=\"{}\"/>",
        stored.display()
    );
    assert_eq!(response["fullResponse"], expected);
    assert_eq!(fs::read(&stored).expect("stored"), b"one\ntwo\n");
    let prompt = on.ask(&format!("read:{}", stored.display()));
    on.allow(&on.question(mark));
    let response = on.client.wait_response(&prompt);
    assert!(response["fullResponse"].as_str().is_some_and(|text| text.contains("two")), "{response}");
}

/// The same, sent ahead by HTTP.
#[test]
fn uploads_reach_the_model_like_attachments() {
    let on = start();
    let token = format!("Bearer {}", on.server.token());
    let upload = |name: &str, media_type: &str, body: &[u8]| {
        let headers = [("Authorization", token.as_str()), ("Content-Type", media_type)];
        let path = format!("/api/sessions/{}/files?name={name}", on.session);
        let answer = http(on.server.port, "POST", &path, &headers, body);
        json!({"fileId": answer.json()["fileId"]})
    };
    let png = BASE64.decode(PNG.as_bytes()).expect("base64");
    let files = json!([
        upload("dot.png", "image/png", &png),
        upload("notes.txt", "text/plain", b"in the prompt"),
        upload("large.csv", "text/csv", &b"a,b\n".repeat(100_000)),
    ]);
    let asked = json!({"sessionId": on.session, "prompt": "say:seen", "attachments": files});
    let prompt = on.client.must("askClaudeCode", asked)["promptId"].clone();
    assert_eq!(on.client.wait_response(prompt.as_str().expect("an id"))["status"], "done");
    let blocks = last_blocks(&on);
    assert!(blocks.iter().any(|block| block["source"]["data"] == PNG), "{blocks:#?}");
    let stored = on.server.workspace().data().join("sessions").join(&on.session).join("files/large.csv");
    let named = format!("path=\"{}\"", stored.display());
    let has = |text: &str| blocks.iter().any(|block| block["text"].as_str().is_some_and(|found| found.contains(text)));
    assert!(has("in the prompt") && has(&named), "{blocks:#?}");
}
