//! Sessions that go on from where another is.

use std::io::{Read, Write};

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, init, make, on, question, result, scene},
    support::{DEADLINE, client::Client, processes::eventually},
};

impl Scene {
    /// Forks the session, and gives the name of the fork.
    fn fork(&self) -> String {
        fork_of(&self.client, &self.id)
    }

    /// Asks another session than the client's own what must be answered well, and gives the text.
    fn text_of(&self, session: &str, prompt: &str) -> String {
        let response = self.client.ask_and_wait(session, prompt);
        assert_eq!(response["status"], "done", "{prompt}: {response}");
        response["fullResponse"].as_str().expect("text").to_owned()
    }

    /// What the flags of its process say of the conversation.
    fn flags(&self, session: &str) -> Vec<(String, String)> {
        let args: Vec<String> = serde_json::from_str(&self.text_of(session, "args")).expect("a list");
        let names = ["--session-id", "--resume", "--fork-session", "--resume-session-at"];
        let split = |arg: &String| {
            let (name, value) = arg.split_once('=').unwrap_or((arg, ""));
            names.contains(&name).then(|| (name.to_owned(), value.to_owned()))
        };
        args.iter().filter_map(split).collect()
    }

    fn flag_names(&self, session: &str) -> Vec<String> {
        self.flags(session).into_iter().map(|(name, _)| name).collect()
    }

    /// Closes a session and opens it again: its next prompt starts another process.
    fn reopen(&self, session: &str) {
        self.client.must("closeSession", json!({"sessionId": session}));
        self.client.must("resumeSession", json!({"sessionId": session}));
    }
}

fn fork_of(client: &Client, session: &str) -> String {
    let fork = client.must("forkSession", json!({"sessionId": session}))["session"].clone();
    fork["sessionId"].as_str().expect("an id").to_owned()
}

fn history(client: &Client, session: &str) -> Vec<Value> {
    let page = client.must("getHistory", json!({"sessionId": session, "afterSeq": 0}));
    assert_eq!(page["more"], false);
    page["events"].as_array().expect("a list").clone()
}

/// What the history holds, in short.
fn outline(events: &[Value]) -> Vec<String> {
    let brief = |event: &Value| {
        let data = &event["data"];
        let part = match event["name"].as_str().expect("a name") {
            "prompt" => &data["text"],
            "notice" => &data["code"],
            _ => &data["event"]["type"],
        };
        part.as_str().expect("a text").to_owned()
    };
    events.iter().map(brief).collect()
}

/// The same events, as those of that session.
fn renamed(events: &[Value], session: &str) -> Vec<Value> {
    let rename = |event: &Value| {
        let mut event = event.clone();
        event["data"]["sessionId"] = json!(session);
        event
    };
    events.iter().map(rename).collect()
}

/// Waits until the agent has nothing more to say.
fn wait_quiet(scene: &Scene) -> Vec<Value> {
    let mut events = Vec::new();
    eventually("the last word", DEADLINE, || {
        events = history(&scene.client, &scene.id);
        events.last().is_some_and(|last| last["data"]["event"]["state"] == "completed")
    });
    events
}

#[test]
fn a_fork_knows_what_was_said_before_it_and_not_what_came_after() {
    let scene = scene(bad("proper"));
    scene.text("one");
    let before = wait_quiet(&scene);
    let fork = scene.fork();
    scene.text("two");
    assert_eq!(history(&scene.client, &fork), renamed(&before, &fork));
    assert_eq!(scene.text_of(&fork, "history"), r#"["one"]"#);
    assert_eq!(scene.text("history"), r#"["one","two"]"#, "the other is none the wiser");
    let flags = scene.flags(&fork);
    let names: Vec<&str> = flags.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["--resume", "--session-id", "--resume-session-at", "--fork-session"]);
    let message = before.iter().find(|event| event["data"]["event"]["type"] == "assistant").expect("one");
    assert_eq!(json!(flags[2].1), message["data"]["event"]["uuid"]);
    // From its first turn on it is a conversation like others.
    scene.reopen(&fork);
    assert_eq!(scene.flags(&fork), [("--resume".to_owned(), flags[1].1.clone())]);
    assert_eq!(scene.text_of(&fork, "history"), r#"["one","history","args","args"]"#);
    scene.finish();
}

#[test]
fn a_fork_that_was_never_started_outlives_the_server() {
    for signal in [libc::SIGINT, libc::SIGKILL] {
        let old = scene(bad("proper"));
        old.text("one");
        let before = wait_quiet(&old);
        let fork = old.fork();
        old.text("two");
        // Acknowledged when it is on the disk, and all before it.
        old.client.must("renameSession", old.data(json!({"title": "old"})));
        old.server.signal(signal);
        old.server.wait_exit(DEADLINE);
        let new = on(bad("proper").workspace(old.server.workspace()).start());
        assert_eq!(history(&new.client, &fork), renamed(&before, &fork));
        assert_eq!(new.text_of(&fork, "history"), r#"["one"]"#);
        // And what the other's next fork goes on from is kept as well.
        let next = fork_of(&new.client, &old.id);
        assert_eq!(new.text_of(&old.id, "history"), r#"["one","two"]"#);
        assert_eq!(new.text_of(&next, "history"), r#"["one","two"]"#);
        new.finish();
    }
}

/// In the middle of an answer the fork has what was finished of it.
#[test]
fn a_fork_in_mid_answer_goes_on_after_the_last_tool() {
    let scene = scene(bad("proper"));
    let file = scene.file("go");
    scene.text("one");
    wait_quiet(&scene);
    let prompt = scene.ask(&format!("tools {}", file.display()));
    eventually("the second tool is at work", DEADLINE, || {
        let events = history(&scene.client, &scene.id);
        events.iter().any(|event| event["data"]["event"]["message"]["content"][0]["id"] == "toolu_bad_second")
    });
    let fork = scene.fork();
    let events = history(&scene.client, &fork);
    let end = ["user", "assistant", "user", "forked_in_answer"];
    assert!(outline(&events).ends_with(&end.map(str::to_owned)), "{:?}", outline(&events));
    assert_eq!(events.last().expect("a notice")["data"]["promptId"], json!(prompt));
    // One that comes back to the fork sees that the prompt is over there.
    let viewer = scene.server.connect(json!({"sessionId": fork, "afterSeq": 0}));
    let response = viewer.wait_response(&prompt);
    assert_eq!((&response["status"], &response["fullResponse"]), (&json!("interrupted"), &json!("at work ")));
    make(&file);
    assert_eq!(scene.client.wait_response(&prompt)["fullResponse"], "at work still both done");
    let asked = format!("tools {}", file.display());
    assert_eq!(scene.text_of(&fork, "history"), json!(["one", asked]).to_string());
    let listed = scene.client.must("listSessions", json!({"query": "one"}))["sessions"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(2), "{listed}");
    scene.finish();
}

#[test]
fn a_fork_before_the_first_word_of_an_answer_goes_on_before_its_prompt() {
    let scene = scene(bad("proper"));
    let files = [scene.file("first"), scene.file("second")];
    let asked = files.each_ref().map(|file| format!("wait {}", file.display()));
    let begin = |prompt: &str| {
        let id = scene.ask(prompt);
        scene.client.wait_chunk(&id);
        id
    };
    let first = begin(&asked[0]);
    // With nothing to go on from, it is a new session.
    let new = scene.fork();
    assert_eq!(history(&scene.client, &new), Vec::<Value>::new());
    make(&files[0]);
    scene.client.wait_response(&first);
    let before = wait_quiet(&scene);
    let second = begin(&asked[1]);
    let fork = scene.fork();
    assert_eq!(history(&scene.client, &fork), renamed(&before, &fork));
    assert_eq!(scene.text_of(&fork, "history"), json!([asked[0]]).to_string());
    assert_eq!(scene.flag_names(&new), ["--session-id"]);
    make(&files[1]);
    scene.client.wait_response(&second);
    scene.finish();
}

#[test]
fn a_fork_of_a_session_without_a_turn_is_a_new_one() {
    let scene = scene(bad("proper"));
    let fork = scene.fork();
    assert_eq!(history(&scene.client, &fork), Vec::<Value>::new());
    assert_eq!(scene.flag_names(&fork), ["--session-id"]);
    assert_eq!(scene.text_of(&fork, "history"), r#"["args"]"#);
    scene.finish();
}

#[test]
fn a_fork_of_a_fork_that_never_started_goes_on_from_the_first() {
    let scene = scene(bad("proper"));
    scene.text("one");
    wait_quiet(&scene);
    let fork = scene.fork();
    scene.text("two");
    let second = fork_of(&scene.client, &fork);
    assert_eq!(scene.text_of(&second, "history"), r#"["one"]"#);
    assert_eq!(scene.text_of(&fork, "three"), "you said: three");
    // Each has the other's messages up to where it left.
    let file = scene.file("go");
    let running = scene.client.ask(&second, &format!("wait {}", file.display()));
    scene.client.wait_chunk(&running);
    let third = fork_of(&scene.client, &second);
    assert_eq!(scene.text_of(&third, "history"), r#"["one","history"]"#);
    make(&file);
    scene.client.wait_response(&running);
    scene.finish();
}

#[test]
fn a_message_that_is_not_found_is_gone_on_without() {
    let scene = scene(bad("forgetful"));
    scene.text("one");
    wait_quiet(&scene);
    let fork = scene.fork();
    scene.text("two");
    assert_eq!(scene.text_of(&fork, "history"), r#"["one","two"]"#);
    let notices: Vec<Value> = scene.client.events_named("notice");
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!((&notices[0]["code"], &notices[0]["sessionId"]), (&json!("fork_point_lost"), &json!(fork)));
    assert_eq!(scene.flag_names(&fork), ["--resume", "--session-id", "--fork-session"]);
    scene.finish();
}

#[test]
fn a_conversation_that_is_not_found_is_begun_anew() {
    let scene = scene(bad("proper"));
    scene.text("one");
    wait_quiet(&scene);
    let fork = scene.fork();
    scene.client.must("deleteSession", json!({"sessionId": scene.id}));
    std::fs::remove_dir_all(scene.server.workspace().home().join(".bad-agent")).expect("the record removed");
    assert_eq!(scene.text_of(&fork, "history"), "[]");
    let notices: Vec<Value> = scene.client.events_named("notice");
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert_eq!((&notices[0]["code"], &notices[0]["sessionId"]), (&json!("conversation_lost"), &json!(fork)));
    assert_eq!(scene.flag_names(&fork), ["--session-id"]);
    scene.finish();
}

/// The server was killed after Claude had made the fork, and before it had seen a turn of it.
#[test]
fn a_fork_that_is_there_already_is_resumed() {
    let scene = scene(bad("proper"));
    scene.text("one");
    wait_quiet(&scene);
    let fork = scene.fork();
    let flags = scene.flags(&fork);
    scene.client.must("closeSession", json!({"sessionId": fork}));
    // The same as if none had been seen.
    assert_eq!(scene.server.stop().code(), Some(0));
    let db = rusqlite::Connection::open(scene.server.workspace().data().join("sessions.db")).expect("the database");
    let sql = "UPDATE sessions SET has_turns = 0, forked_from = ?1, forked_at = ?2 WHERE id = ?3";
    assert_eq!(db.execute(sql, (&flags[0].1, &flags[2].1, &fork)).expect("changed"), 1);
    drop(db);
    let new = on(bad("proper").workspace(scene.server.workspace()).start());
    new.client.must("resumeSession", json!({"sessionId": fork}));
    assert_eq!(new.text_of(&fork, "history"), r#"["one","args"]"#);
    assert!(new.client.events_named("notice").is_empty());
    new.finish();
}

/// Who asks goes on in the other session alone: in the fork there is nobody to answer to.
#[test]
fn a_question_that_is_open_ends_in_a_fork() {
    let scene = scene(bad("proper"));
    scene.turn(&[init(), question("q1", Some("a1")), result()]);
    let fork = scene.fork();
    let events = history(&scene.client, &fork);
    let resolved: Vec<_> = events.iter().filter(|event| event["name"] == "permissionResolved").collect();
    assert_eq!(resolved.len(), 1, "{events:#?}");
    let data = &resolved[0]["data"];
    assert_eq!(
        (&data["requestId"], &data["behavior"], &data["by"]),
        (&json!("q1"), &json!("cancelled"), &json!("fork"))
    );
    assert_eq!(scene.summary()["openQuestions"], 1);
    let late = json!({"sessionId": fork, "requestId": "q1", "behavior": "allow"});
    assert_eq!(scene.client.must_fail("answerPermission", late)["behavior"], "cancelled");
    scene.finish();
}

/// The fork's conversation names them by their paths.
#[test]
fn files_of_a_session_stay_as_long_as_a_fork_of_it() {
    let scene = scene(bad("proper"));
    let folder = |id: &str| scene.server.workspace().data().join("sessions").join(id);
    let file =
        json!({"name": "a.bin", "mediaType": "application/octet-stream", "data": {"_placeholder": true, "num": 0}});
    let data = scene.data(json!({"prompt": "content", "attachments": [file]}));
    let ack = scene.client.wait_ack(scene.client.start_emit_binary("askClaudeCode", data, &[b"content"]));
    scene.client.wait_response(ack["promptId"].as_str().expect("a name"));
    let lent = folder(&scene.id).join("files/a.bin");
    let fork = |of: &str| -> String {
        let made = scene.client.must("forkSession", json!({"sessionId": of}));
        made["session"]["sessionId"].as_str().expect("an id").to_owned()
    };
    let delete = |id: &str| scene.client.must("deleteSession", json!({"sessionId": id}));
    let first = fork(&scene.id);
    let of_fork = fork(&first);
    // What is uploaded when the session goes, goes with it; what is borrowed stays.
    let mut upload = std::net::TcpStream::connect(("127.0.0.1", scene.server.port)).expect("connected");
    let (id, token) = (&scene.id, scene.server.token());
    let head = format!(
        "POST /api/sessions/{id}/files?name=b.bin HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nhalf"
    );
    let (begin, rest) = head.as_bytes().split_at(head.len() - 2);
    upload.write_all(begin).expect("sent");
    let uploads = folder(&scene.id).join("uploads");
    eventually("it has begun", DEADLINE, || uploads.exists());
    delete(&scene.id);
    assert!(lent.exists());
    upload.write_all(rest).expect("sent");
    let mut answer = [0; 12];
    upload.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 404");
    assert!(lent.exists() && !uploads.exists());
    // Whatever Claude writes there leads nowhere.
    let victim = scene.server.workspace().root().join("victim");
    std::fs::create_dir(&victim).expect("a folder");
    let lenders = folder(&of_fork).join("lenders");
    let mut noted = std::fs::read_to_string(&lenders).expect("the lenders");
    noted += &format!("\n\n.\n..\n../../victim\n{}\n", victim.display());
    std::fs::write(&lenders, noted).expect("written");
    delete(&first);
    assert!(lent.exists(), "the fork's fork knows of it");
    assert!(!folder(&first).exists());
    delete(&of_fork);
    assert!(!folder(&scene.id).exists() && !folder(&of_fork).exists(), "nobody does");
    assert!(victim.exists() && scene.server.workspace().data().exists());
    scene.server.stop();
}
