//! Conversations of a `claude` in a terminal, as their records have them. The real CLI's are in the tests with it.

use std::{fs, sync::Arc};

use serde_json::{Value, json};

use crate::{
    scene::bad,
    support::{DEADLINE, client::Client, processes::eventually, workspace::Workspace},
};

const CONVERSATION: &str = "0b1f4a6e-6f5a-4a3d-9a57-0f4a4f1e2d3c";

/// Lines of a record: each a text, and the line that it follows. Questions begin with a capital.
fn lines(place: &Workspace, told: &[(usize, Option<usize>, &str)]) -> String {
    let uuid = |number: usize| format!("00000000-0000-4000-8000-{number:012}");
    let line = |(number, parent, text): &(usize, Option<usize>, &str)| {
        let asks = text.starts_with(char::is_uppercase);
        let (kind, content) =
            if asks { ("user", json!(text)) } else { ("assistant", json!([{"type": "text", "text": text}])) };
        let line = json!({"type": kind, "uuid": uuid(*number), "parentUuid": parent.map(uuid),
            "timestamp": "2026-11-24T01:02:03.456Z", "cwd": place.work(), "sessionId": CONVERSATION, "version": "1",
            "isSidechain": false, "message": {"role": kind, "content": content}});
        format!("{line}\n")
    };
    told.iter().map(line).collect()
}

fn texts(events: &Value) -> Vec<String> {
    let text = |item: &Value| {
        let data = &item["data"];
        let said = data["text"].as_str().or(data["event"]["message"]["content"][0]["text"].as_str());
        said.expect("a text").to_owned()
    };
    events.as_array().expect("a list").iter().map(text).collect()
}

/// A client that comes back would be sent what follows in the new copy what it has seen in the old one.
#[test]
fn numbers_of_a_copy_that_was_made_anew_are_not_taken_for_those_of_the_last() {
    let place = Arc::new(Workspace::new());
    let name: String =
        place.work().display().to_string().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let folder = place.home().join(".claude/projects").join(name);
    fs::create_dir_all(&folder).expect("the folder of records");
    let record = folder.join(format!("{CONVERSATION}.jsonl"));
    let mut told = lines(&place, &[(0, None, "Q0"), (1, Some(0), "a0"), (2, Some(1), "Q1"), (3, Some(2), "a1")]);
    fs::write(&record, &told).expect("the record");
    let server = bad("proper").workspace(&place).args(["--prestart=0", "--idle-timeout=10ms"]).start();
    let resume = |client: &Client, data: Value| client.emit_with_ack("resumeSession", data);
    let client = server.connect(Value::Null);
    let first = resume(&client, json!({"sessionId": CONVERSATION}));
    assert_eq!(texts(&first["events"]), ["Q0", "a0", "Q1", "a1"]);
    let seen = json!({"sessionId": CONVERSATION, "afterSeq": first["seq"], "logId": first["logId"]});
    // As long as nothing was copied anew, its numbers are good.
    assert_eq!(resume(&client, seen.clone())["events"], json!([]));
    client.disconnect();
    // In the terminal one goes back to the first answer, and on from there.
    told += &lines(&place, &[(4, Some(1), "X1"), (5, Some(4), "x1"), (6, Some(5), "X2"), (7, Some(6), "x2")]);
    fs::write(&record, &told).expect("the record");
    // When nobody has it in memory any more.
    eventually("it is copied anew", DEADLINE, || {
        let looking = server.connect(Value::Null);
        let now = resume(&looking, json!({"sessionId": CONVERSATION}));
        looking.disconnect();
        texts(&now["events"]) == ["Q0", "a0", "X1", "x1", "X2", "x2"]
    });
    let back = server.connect(Value::Null);
    assert_eq!(resume(&back, seen.clone())["error"]["code"], "seq_gap");
    let mut auth = seen;
    auth["stream"] = json!("events");
    let returning = server.connect(auth);
    let error = returning.wait_event("serverError", |_| true);
    assert_eq!((&error["code"], &error["event"]), (&json!("seq_gap"), &json!("connect")));
    server.stop();
}
