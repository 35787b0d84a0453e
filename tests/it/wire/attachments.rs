//! Files that come with a prompt: what Claude gets, what viewers see, what is refused.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::{builder, server, settle, text_client, viewer};
use crate::support::{client::Client, server::Server};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\xff and more";

/// Name, type, content.
type File<'a> = (&'a str, &'a str, &'a [u8]);

/// The data of a prompt with files, whose contents come behind the packet.
fn with_files(session: &str, prompt: &str, files: &[File<'_>]) -> Value {
    let entry = |(at, (name, media_type, _)): (usize, &File<'_>)| json!({"name": name, "mediaType": media_type, "data": {"_placeholder": true, "num": at}});
    let entries: Value = files.iter().enumerate().map(entry).collect();
    json!({"sessionId": session, "prompt": prompt, "attachments": entries})
}

fn send(client: &Client, data: Value, files: &[File<'_>]) -> Value {
    let contents: Vec<&[u8]> = files.iter().map(|(_, _, content)| *content).collect();
    client.wait_ack(client.start_emit_binary("askClaudeCode", data, &contents))
}

/// Asks the stand-in for the content that it got for this prompt.
fn content(client: &Client, session: &str, files: &[File<'_>]) -> Value {
    let ack = send(client, with_files(session, "content", files), files);
    let response = client.wait_response(ack["promptId"].as_str().unwrap_or_else(|| panic!("refused: {ack}")));
    serde_json::from_str(response["fullResponse"].as_str().expect("a text")).expect("JSON")
}

fn folder(server: &Server, session: &str) -> std::path::PathBuf {
    server.workspace().data().join("sessions").join(session).join("files")
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

#[test]
fn an_image_is_a_block_of_the_prompt() {
    let server = server();
    let (client, session) = text_client(&server);
    let got = content(&client, &session, &[("a.png", "image/png", PNG), ("b.gif", "IMAGE/GIF", b"GIF89a")]);
    let image = |media_type: &str, data: &[u8]| json!({"type": "image", "source": {"type": "base64", "media_type": media_type, "data": BASE64.encode(data)}});
    let text = "content\n\n<file name=\"a.png\" type=\"image/png\" image=\"1\"/>\n\n\
                <file name=\"b.gif\" type=\"image/gif\" image=\"2\"/>";
    let expected = json!([image("image/png", PNG), image("image/gif", b"GIF89a"), {"type": "text", "text": text}]);
    assert_eq!(got, expected);
    assert!(!folder(&server, &session).exists());
}

#[test]
fn a_text_is_part_of_the_prompt() {
    let server = server();
    let (client, session) = text_client(&server);
    let files: [File<'_>; 2] =
        [("nötes \"1\".txt", "text/plain", "ä\n漢字\n".as_bytes()), ("a.json", "application/json", b"{}")];
    let expected = "content\n\n<file name=\"nötes &#34;1&#34;.txt\" type=\"text/plain\">\nä\n漢字\n\n</file>\n\n\
                    <file name=\"a.json\" type=\"application/json\">\n{}\n</file>";
    assert_eq!(content(&client, &session, &files), expected);
    // Behind the context.
    let mut data = with_files(&session, "content", &files[1..]);
    data["context"] = json!({"documentContent": "doc"});
    let ack = send(&client, data, &files[1..]);
    let response = client.wait_response(ack["promptId"].as_str().expect("an id"));
    let expected =
        "content\n\n<document>\ndoc\n</document>\n\n<file name=\"a.json\" type=\"application/json\">\n{}\n</file>";
    assert_eq!(response["fullResponse"], json!(expected).to_string());
    assert!(!folder(&server, &session).exists());
}

#[test]
fn anything_else_is_a_private_file_named_in_the_prompt() {
    let server = server();
    let (client, session) = text_client(&server);
    let files: [File<'_>; 4] = [
        ("report 1.pdf", "application/pdf", b"%PDF\0\xff"),
        ("..", "application/octet-stream", b"other"),
        ("latin1.txt", "text/plain", b"\xe4"),
        ("report 1.pdf", "application/pdf", b"another"),
    ];
    let got = content(&client, &session, &files);
    let folder = folder(&server, &session);
    let mut expected = "content".to_owned();
    for ((name, media_type, data), stored) in files.iter().zip(["report_1.pdf", "file", "latin1.txt", "report_1-2.pdf"])
    {
        let path = folder.join(stored);
        expected += &format!("\n\n<file name=\"{name}\" type=\"{media_type}\" path=\"{}\"/>", path.display());
        assert_eq!((fs::read(&path).expect("stored").as_slice(), mode(&path)), (*data, 0o600));
    }
    assert_eq!(got, expected);
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 4);
    for directory in [&folder, folder.parent().expect("one"), &server.workspace().data().join("sessions")] {
        assert_eq!(mode(directory), 0o700);
    }
    // Each session has a folder of its own.
    let (other, elsewhere) = text_client(&server);
    content(&other, &elsewhere, &files[..1]);
    assert_eq!(fs::read_dir(self::folder(&server, &elsewhere)).expect("a folder").count(), 1);
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 4);
}

#[test]
fn viewers_see_what_came_with_a_prompt() {
    let server = server();
    let (client, session) = text_client(&server);
    let other = viewer(&server, &session, "events");
    let files: [File<'_>; 3] = [("a.png", "image/png", PNG), ("b", "x/y", b""), ("c.md", "text/markdown", b"# c")];
    content(&client, &session, &files);
    let expected = json!([
        {"name": "a.png", "mediaType": "image/png", "bytes": PNG.len()},
        {"name": "b", "mediaType": "x/y", "bytes": 0},
        {"name": "c.md", "mediaType": "text/markdown", "bytes": 3},
    ]);
    for viewer in [&client, &other] {
        let shown = viewer.wait_event("prompt", |_| true);
        assert_eq!((&shown["text"], &shown["attachments"]), (&json!("content"), &expected));
    }
    let history = client.must("getHistory", json!({"sessionId": session, "afterSeq": 0}));
    assert_eq!(history["events"][0]["data"]["attachments"], expected);
    let plain = client.ask(&session, "words 1");
    let shown = client.wait_event("prompt", |data| data["promptId"] == plain);
    assert_eq!(
        super::keys(&shown),
        ["promptId", "seq", "sessionId", "text", "userMessageId"],
        "without attachments nothing is said of them"
    );
}

#[test]
fn the_same_files_are_asked_once() {
    let server = server();
    let (client, session) = text_client(&server);
    let files: [File<'_>; 3] = [("a.png", "image/png", PNG), ("b.bin", "x/y", b"b"), ("c.md", "text/markdown", b"c")];
    let ask = |files: &[File<'_>]| {
        let mut data = with_files(&session, "words 2", files);
        data["promptId"] = json!("mine");
        send(&client, data, files)
    };
    let first = ask(&files);
    assert_eq!(first, json!({"ok": true, "promptId": "mine", "position": 0}));
    assert_eq!(ask(&files), first);
    client.wait_response("mine");
    assert_eq!(ask(&files), first);
    let mut others: Vec<Vec<File<'_>>> = vec![vec![], files[..2].to_vec(), files.iter().rev().copied().collect()];
    for at in 0..files.len() {
        let mut change = |file: File<'static>| {
            let mut changed = files.to_vec();
            changed[at] = file;
            others.push(changed);
        };
        match at {
            0 => change(("a.png", "image/png", b"\x89PNG\r\n\x1a\nother")),
            1 => change(("b.bin", "x/y", b"c")),
            _ => change(("c.md", "text/markdown", b"d")),
        }
        let (name, media_type, data) = files[at];
        others.push([&files[..at], &[("renamed", media_type, data)], &files[at + 1..]].concat());
        let other_type = if at == 0 { "x/y" } else { "text/x-other" };
        others.push([&files[..at], &[(name, other_type, data)], &files[at + 1..]].concat());
    }
    for other in others {
        let refused = ask(&other);
        assert_eq!(refused["error"]["code"], "conflict", "{other:?}: {refused}");
    }
    settle(&client, &session);
    assert_eq!(client.events_named("prompt").len(), 1);
    assert_eq!(fs::read(folder(&server, &session).join("b.bin")).expect("stored"), b"b");
}

#[test]
fn wrong_attachments_are_refused_and_named() {
    let server = server();
    let (owner, session) = text_client(&server);
    owner.ask_and_wait(&session, "words 1");
    let check = |attachments: Value, binary: &[&[u8]], code: &str, field: &str| {
        let client = viewer(&server, &session, "text");
        let data = json!({"sessionId": session, "prompt": "p", "attachments": attachments});
        let ack = match binary {
            [] => client.emit_with_ack("askClaudeCode", data),
            some => client.wait_ack(client.start_emit_binary("askClaudeCode", data, some)),
        };
        assert_eq!(
            (&ack["error"]["code"], &ack["error"]["field"]),
            (&json!(code), &json!(field)),
            "{attachments}: {ack}"
        );
    };
    let hole = || json!({"_placeholder": true, "num": 0});
    let entry = |name: &str, media_type: &str| json!({"name": name, "mediaType": media_type, "data": hole()});
    let bad = "bad_request";
    check(json!("x"), &[], bad, "attachments");
    check(json!({"0": {}}), &[], bad, "attachments");
    check(json!(["x"]), &[], bad, "attachments[0]");
    check(hole(), &[b"x"], bad, "attachments");
    check(json!([hole()]), &[b"x"], bad, "attachments[0].name");
    check(Value::Array(vec![entry("a", "x/y"); 11]), &[b"x"], bad, "attachments");
    for name in ["", "a/b", "../a", "/etc/passwd", "a\0b", &"x".repeat(256)] {
        check(json!([entry("a", "x/y"), entry(name, "x/y")]), &[b"x"], bad, "attachments[1].name");
    }
    for media_type in ["", "png", "a/b/c", "text/pl ain", "text/\n"] {
        check(json!([entry("a", media_type)]), &[b"x"], bad, "attachments[0].mediaType");
    }
    for data in [json!(null), json!("eA=="), json!([120]), json!({"type": "Buffer", "data": [120]})] {
        check(
            json!([entry("a", "x/y"), {"name": "a", "mediaType": "x/y", "data": data}]),
            &[b"x"],
            bad,
            "attachments[1].data",
        );
    }
    check(json!([{"name": "a", "mediaType": "x/y", "data": "eA=="}]), &[], bad, "attachments[0].data");
    for media_type in ["image/png", "image/jpeg", "image/gif", "image/webp"] {
        check(json!([entry("a", media_type)]), &[b"<svg/>"], bad, "attachments[0].data");
    }
    check(json!([entry("a", "image/jpeg")]), &[PNG], bad, "attachments[0].data");
    check(json!([{"fileId": "f"}]), &[], "bad_request", "attachments[0].fileId");
    // Nothing was asked, and nothing stored.
    owner.ask_and_wait(&session, "words 1");
    assert_eq!(owner.events_named("prompt").len(), 2);
    assert!(!folder(&server, &session).exists());
    // Nor for a session that does not exist.
    let ack = send(&owner, with_files("../x", "p", &[("a", "x/y", b"x")]), &[("a", "x/y", b"x")]);
    assert_eq!(ack["error"]["code"], "invalid_session");
    assert!(!server.workspace().data().join("sessions").exists());
}

#[test]
fn a_prompt_may_be_as_large_as_the_queue_but_no_larger() {
    let server = builder().arg("--max-payload=20000000").start();
    let (client, session) = text_client(&server);
    // What Claude does not take in a prompt is stored.
    let large = [PNG, &vec![0; 4_000_000]].concat();
    let files: [File<'_>; 3] = [
        ("a.png", "image/png", &large),
        ("b.txt", "text/plain", &vec![b'x'; 300_000]),
        ("c", "x/y", &vec![1; 9_000_000]),
    ];
    let got = content(&client, &session, &files);
    assert_eq!(got.as_str().map(|text| text.matches(" path=").count()), Some(3), "{got}");
    // The prompt and its context are not.
    let data = json!({"sessionId": session, "prompt": "p".repeat(5_000_000), "context": {"a": 1}});
    assert_eq!(client.must_fail("askClaudeCode", data)["code"], "too_large");
}

#[test]
fn a_file_that_cannot_be_stored_is_an_error_and_nothing_is_asked() {
    let server = server();
    let (client, session) = text_client(&server);
    let sessions = server.workspace().data().join("sessions");
    fs::write(&sessions, "in the way").expect("a file");
    let files: [File<'_>; 2] = [("a.txt", "text/plain", b"x"), ("a", "x/y", b"x")];
    let ack = send(&client, with_files(&session, "words 1", &files), &files);
    assert_eq!((&ack["error"]["code"], &ack["error"]["field"]), (&json!("storage_full"), &json!("attachments[1]")));
    fs::remove_file(&sessions).expect("removed");
    let ack = send(&client, with_files(&session, "words 1", &files), &files);
    client.wait_response(ack["promptId"].as_str().expect("an id"));
    assert_eq!(client.events_named("prompt").len(), 1);
}

/// Nobody would ever look for it there.
#[test]
fn a_file_for_a_session_that_is_closed_is_not_stored() {
    let server = server();
    let (client, session) = text_client(&server);
    client.must("closeSession", json!({"sessionId": session}));
    let files: [File<'_>; 1] = [("a.pdf", "application/pdf", b"%PDF")];
    let refusal = send(&client, with_files(&session, "read", &files), &files);
    assert_eq!(refusal["error"]["code"], "session_ended", "{refusal}");
    assert!(!folder(&server, &session).exists());
    client.must("resumeSession", json!({"sessionId": session}));
    assert_eq!(send(&client, with_files(&session, "read", &files), &files)["ok"], true);
    assert!(folder(&server, &session).exists());
}
