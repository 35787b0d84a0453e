//! Files that are sent ahead of their prompt.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, scene},
    support::{
        DEADLINE,
        client::{self, HttpAnswer},
        processes::eventually,
    },
};

const MIB: usize = 1 << 20;

fn bearer(scene: &Scene) -> String {
    format!("Bearer {}", scene.server.token())
}

fn post(scene: &Scene, query: &str, media_type: &str, body: &[u8]) -> HttpAnswer {
    let (bearer, length) = (bearer(scene), body.len().to_string());
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", media_type), ("Content-Length", &length)];
    client::http(scene.server.port, "POST", &format!("/api/sessions/{}/files{query}", scene.id), &headers, body)
}

fn upload(scene: &Scene, name: &str, media_type: &str, body: &[u8]) -> String {
    let answer = post(scene, &format!("?name={name}"), media_type, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["fileId"].as_str().expect("an id").to_owned()
}

fn ask(scene: &Scene, prompt: &str, ids: &[&str]) -> Value {
    let files: Vec<Value> = ids.iter().map(|id| json!({"fileId": id})).collect();
    scene.client.emit_with_ack("askClaudeCode", scene.data(json!({"prompt": prompt, "attachments": files})))
}

/// The content that Claude gets.
fn content(scene: &Scene, ids: &[&str]) -> Value {
    let ack = ask(scene, "content", ids);
    let response = scene.client.wait_response(ack["promptId"].as_str().unwrap_or_else(|| panic!("refused: {ack}")));
    serde_json::from_str(response["fullResponse"].as_str().expect("a text")).expect("JSON")
}

/// Where the session's files lie.
fn folder(scene: &Scene) -> PathBuf {
    scene.server.workspace().data().join("sessions").join(&scene.id)
}

/// A page elsewhere asks first, since it sends the token; and may read what comes of it, refusals too.
#[test]
fn a_page_of_an_allowed_origin_can_upload_and_read() {
    let scene = scene(bad("proper").arg("--cors-origin=http://page.example"));
    scene.text("words 1");
    let (bearer, page) = (bearer(&scene), ("Origin", "http://page.example"));
    let files = format!("/api/sessions/{}/files?name=a.txt", scene.id);
    let export = format!("/api/sessions/{}/export.md", scene.id);
    let allowed = |answer: &HttpAnswer| answer.header("access-control-allow-origin").map(str::to_owned);
    let asks = [page, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "authorization")];
    for target in [&files, &export] {
        let answer = client::http(scene.server.port, "OPTIONS", target, &asks, b"");
        assert_eq!((answer.status, allowed(&answer).as_deref()), (204, Some(page.1)), "{target}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization"));
        assert!(answer.header("access-control-allow-methods").expect("methods").contains("POST"));
    }
    let token = ("Authorization", bearer.as_str());
    for (method, target, headers, status) in [
        ("POST", files.as_str(), &[page, token, ("Content-Length", "2")][..], 200),
        ("POST", &files, &[page, ("Content-Length", "2")], 401),
        ("GET", &export, &[page, token], 200),
        ("GET", &export, &[page], 401),
    ] {
        let body: &[u8] = if method == "POST" { b"hi" } else { b"" };
        let answer = client::http(scene.server.port, method, target, headers, body);
        assert_eq!((answer.status, allowed(&answer).as_deref()), (status, Some(page.1)), "{method} {target}");
    }
    scene.finish();
}

#[test]
fn each_kind_reaches_claude_as_if_it_had_come_with_the_prompt() {
    let scene = scene(bad("proper"));
    let png = b"\x89PNG\r\n\x1a\n and more";
    let answer = post(&scene, "?name=a%20b.png", "Image/PNG", png);
    let told = answer.json();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(
        told,
        json!({"ok": true, "fileId": told["fileId"], "name": "a b.png", "mediaType": "image/png", "bytes": png.len()})
    );
    let image = told["fileId"].as_str().expect("an id");
    let text = upload(&scene, "n%C3%B6tes.txt", "text/plain; charset=utf-8", "ä\n".as_bytes());
    let large = upload(&scene, "large.txt", "text/plain", &vec![b'x'; 300 << 10]);
    let other = upload(&scene, "report.pdf", "application/pdf", b"%PDF");
    let got = content(&scene, &[image, &text, &large, &other]);
    assert_eq!(got[0]["source"]["media_type"], "image/png");
    let files = folder(&scene).join("files");
    let expected = format!(
        "content\n\n<file name=\"a b.png\" type=\"image/png\" image=\"1\"/>\n\n\
         <file name=\"nötes.txt\" type=\"text/plain\">\nä\n\n</file>\n\n\
         <file name=\"large.txt\" type=\"text/plain\" path=\"{0}/large.txt\"/>\n\n\
         <file name=\"report.pdf\" type=\"application/pdf\" path=\"{0}/report.pdf\"/>",
        files.display()
    );
    assert_eq!(got[1]["text"], expected);
    assert_eq!(fs::read(files.join("report.pdf")).expect("the file"), b"%PDF");
    assert_eq!(files.join("report.pdf").metadata().expect("it").permissions().mode() & 0o777, 0o600);
    let asked = scene.client.wait_event("prompt", |_| true);
    let shown = json!({"name": "report.pdf", "mediaType": "application/pdf", "bytes": 4});
    assert_eq!(asked["attachments"][3], shown);
    scene.finish();
}

/// An acknowledgement may be lost, and then the prompt comes again.
#[test]
fn the_same_prompt_may_come_again() {
    let scene = scene(bad("proper"));
    let id = upload(&scene, "a.bin", "application/x-a", b"data");
    let data = scene.data(json!({"prompt": "content", "promptId": "p", "attachments": [{"fileId": id}]}));
    assert_eq!(scene.client.must("askClaudeCode", data.clone())["promptId"], "p");
    let first = scene.client.wait_response("p");
    assert_eq!(scene.client.must("askClaudeCode", data)["promptId"], "p");
    assert_eq!(scene.client.events_named("claudeResponse"), [first]);
    assert_eq!(fs::read_dir(folder(&scene).join("files")).expect("a folder").count(), 1);
    // Also by the next server, and by another prompt.
    let workspace = scene.server.workspace().clone();
    let session = scene.id.clone();
    scene.finish();
    let server = bad("proper").workspace(&workspace).start();
    let scene = Scene { client: server.connect(json!({"sessionId": session})), id: session, server };
    assert!(content(&scene, &[&id]).as_str().is_some_and(|text| text.ends_with("/files/a.bin\"/>")));
    scene.client.must("deleteSession", scene.data(json!({})));
    assert!(!folder(&scene).exists());
    scene.server.stop();
}

#[test]
fn an_id_is_good_in_its_own_session_only() {
    let scene = scene(bad("proper"));
    let id = upload(&scene, "a", "a/b", b"data");
    let other = scene.server.connect(Value::Null);
    for (client, session, file) in [
        (&other, other.session_id(), id.clone()),
        (&scene.client, scene.id.clone(), format!("../{}/uploads/{id}", scene.id)),
        (&scene.client, scene.id.clone(), "../../token".to_owned()),
        (&scene.client, scene.id.clone(), format!("{id}.json")),
        (&scene.client, scene.id.clone(), format!("file_{:032x}", 7)),
        (&scene.client, scene.id.clone(), String::new()),
    ] {
        let data = json!({"sessionId": session, "prompt": "p", "attachments": [{"fileId": file}]});
        let error = client.must_fail("askClaudeCode", data);
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!("bad_request"), &json!("attachments[0].fileId")),
            "{file}"
        );
    }
    let not_png = upload(&scene, "a.png", "image/png", b"no image");
    let error = ask(&scene, "p", &[&id, &not_png])["error"].clone();
    assert_eq!(error["field"], "attachments[1].fileId");
    scene.finish();
}

#[test]
fn what_is_wrong_with_an_upload_is_said() {
    let scene = scene(bad("proper"));
    let long = "x".repeat(256);
    for query in ["", "?name=", "?name=a%2Fb", "?name=..%2F..%2Ftoken", "?name=a%00", &format!("?name={long}")] {
        let answer = post(&scene, query, "text/plain", b"x");
        assert_eq!((answer.status, &answer.json()["error"]["field"]), (400, &json!("name")), "{query}");
    }
    assert_eq!(post(&scene, "?name=a", "text", b"x").json()["error"]["field"], "Content-Type");
    let (port, token, path) = (scene.server.port, bearer(&scene), format!("/api/sessions/{}/files?name=a", scene.id));
    let with = |method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]| {
        client::http(port, method, path, headers, body).status
    };
    let good = [("Authorization", token.as_str())];
    assert_eq!(with("POST", &path, &[], b"x"), 401);
    assert_eq!(with("POST", &path, &[("Authorization", "Bearer wrong")], b"x"), 401);
    assert_eq!(with("POST", "/api/sessions/session_1_aaaaaaaaa/files?name=a", &good, b"x"), 404);
    assert_eq!(with("POST", "/api/sessions/..%2F..%2Fx/files?name=a", &good, b"x"), 404);
    assert_eq!(with("GET", &path, &good, b""), 405);
    assert_eq!(with("POST", "/health", &good, b"x"), 405);
    assert_eq!(with("POST", &path, &good, b""), 411, "without a length");
    let foreign = [good[0], ("Origin", "http://evil.example")];
    assert_eq!(with("POST", &path, &foreign, b"x"), 403);
    assert!(!folder(&scene).exists());
    scene.finish();
}

#[test]
fn up_to_25_mib_and_not_one_byte_more() {
    let scene = scene(bad("proper"));
    let most = vec![7; 25 * MIB];
    let id = upload(&scene, "most.bin", "a/b", &most);
    let chunked = |bytes: &[u8]| {
        let head = format!(
            "POST /api/sessions/{}/files?name=chunked HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {}\r\n\
             Transfer-Encoding: chunked\r\n\r\n",
            scene.id,
            scene.server.port,
            bearer(&scene)
        );
        let mut request = head.into_bytes();
        for chunk in bytes.chunks(MIB) {
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
        }
        request.extend(b"0\r\n\r\n");
        client::http_raw(scene.server.port, &request)
    };
    assert_eq!(chunked(&most).json()["bytes"], 25 * MIB);
    let more = vec![7; 25 * MIB + 1];
    assert_eq!(post(&scene, "?name=more", "a/b", &more).status, 413);
    assert_eq!(chunked(&more).status, 413);
    let text = content(&scene, &[&id]);
    assert!(text.as_str().is_some_and(|text| text.contains("most.bin\" type=\"a/b\" path=")), "{text}");
    assert_eq!(fs::read(folder(&scene).join("files/most.bin")).expect("the file").len(), 25 * MIB);
    // What was refused has left nothing: two files, each with what is known of it.
    assert_eq!(fs::read_dir(folder(&scene).join("uploads")).expect("a folder").count(), 4);
    scene.finish();
}

#[test]
fn a_client_that_goes_in_the_middle_leaves_nothing() {
    let scene = scene(bad("proper"));
    let mut stream = TcpStream::connect(("127.0.0.1", scene.server.port)).expect("connected");
    let head = format!(
        "POST /api/sessions/{}/files?name=half HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nAuthorization: {}\r\n\
         Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n",
        scene.id,
        scene.server.port,
        bearer(&scene)
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut go_on = String::new();
    BufReader::new(&stream).read_line(&mut go_on).expect("an answer");
    assert_eq!(go_on, "HTTP/1.1 100 Continue\r\n");
    stream.write_all(b"half of it").expect("sent");
    let uploads = folder(&scene).join("uploads");
    let files = || fs::read_dir(&uploads).map_or(0, Iterator::count);
    eventually("begun", DEADLINE, || files() == 1);
    drop(stream);
    eventually("nothing left", DEADLINE, || files() == 0);
    scene.finish();
}

/// A session that was never asked anything goes with its last viewer, and so does what was sent for it.
#[test]
fn uploads_go_with_a_session_that_was_never_used() {
    let scene = scene(bad("proper"));
    upload(&scene, "a", "a/b", b"x");
    assert!(folder(&scene).exists());
    scene.client.disconnect();
    eventually("gone", DEADLINE, || !folder(&scene).exists());
    scene.server.stop();
}

#[test]
fn in_shared_mode_there_is_one_place_for_all() {
    let scene = scene(bad("proper").arg("--mode=shared"));
    let id = upload(&scene, "a.txt", "text/plain", b"shared");
    let other = scene.server.connect(Value::Null);
    let data = json!({"sessionId": scene.id, "prompt": "content", "attachments": [{"fileId": id}]});
    let prompt = other.must("askClaudeCode", data)["promptId"].clone();
    let response = other.wait_response(prompt.as_str().expect("an id"));
    assert!(response["fullResponse"].as_str().is_some_and(|text| text.contains("shared")), "{response}");
    scene.finish();
}
