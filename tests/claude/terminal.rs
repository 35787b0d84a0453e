//! Conversations of a terminal: listed, opened and gone on with here.

use std::{fs, sync::Arc};

use serde_json::{Value, json};

use crate::{
    setup::{builder, holds, said, start},
    support::{
        DEADLINE,
        agent::{Agent, claude, uuid, wait_transcript},
        client::Client,
        fake_api::FakeApi,
        processes::eventually,
        workspace::Workspace,
    },
};

/// A conversation that the CLI alone has had, or goes on with; `text` is its last answer.
fn in_a_terminal(place: &Workspace, api: &FakeApi, conversation: &str, text: &str) {
    let agent = Agent::start(place, &claude(), &[conversation], &api.env());
    agent.initialize();
    agent.turn(&format!("say:{text}"));
    let id = conversation.split_once('=').expect("an id").1;
    wait_transcript(place, id, &format!("\"text\":\"{text}\""));
    agent.finish(DEADLINE);
}

fn listed(client: &Client) -> Vec<Value> {
    client.must("listSessions", json!({}))["sessions"].as_array().expect("a list").clone()
}

/// What was asked and answered, in order.
fn history(client: &Client, id: &str) -> Vec<String> {
    let events = client.must("getHistory", json!({"sessionId": id}))["events"].as_array().expect("a list").clone();
    let text = |item: &Value| match item["name"].as_str() {
        Some("prompt") => item["data"]["text"].as_str().map(|text| format!("> {text}")),
        _ if item["data"]["event"]["type"] == "assistant" => {
            item["data"]["event"]["message"]["content"][0]["text"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    events.iter().filter_map(text).collect()
}

#[test]
fn a_terminals_conversation_goes_on_here() {
    let (place, api, id) = (Arc::new(Workspace::new()), FakeApi::start(), uuid());
    in_a_terminal(&place, &api, &format!("--session-id={id}"), "from the terminal");
    let server = builder(&api).workspace(&place).start();
    let client = server.connect(Value::Null);
    let list = listed(&client);
    assert_eq!(list.len(), 1, "{list:#?}");
    let session = &list[0];
    assert_eq!((&session["sessionId"], &session["source"]), (&json!(id), &json!("terminal")));
    assert_eq!((&session["state"], &session["title"]), (&json!("stopped"), &json!("say:from the terminal")));
    assert_eq!(session["lastWords"], "from the terminal");
    assert_eq!(client.must("listSessions", json!({"query": "nothing like it"}))["sessions"], json!([]));
    // Looking at it starts nothing, and writes nothing but here.
    let transcript = wait_transcript_bytes(&place, &id);
    assert_eq!(history(&client, &id), ["> say:from the terminal", "from the terminal"]);
    let resumed = client.must("resumeSession", json!({"sessionId": id}));
    assert_eq!(resumed["seq"], resumed["events"].as_array().map_or(0, Vec::len), "numbered from 1");
    assert_eq!(wait_transcript_bytes(&place, &id), transcript);
    // What was said there can be found now, too.
    let found = client.must("listSessions", json!({"query": "terminal from"}))["sessions"].clone();
    assert_eq!(found[0]["sessionId"], json!(id));
    let response = client.ask_and_wait(&id, "say:back");
    assert_eq!(response["fullResponse"], "back");
    assert!(holds(&said(&api.wait_for_prompt("say:back")), "assistant", "from the terminal"));
    let texts = ["> say:from the terminal", "from the terminal", "> say:back", "back"];
    assert_eq!(history(&client, &id), texts);
    let list = listed(&client);
    assert_eq!((list.len(), &list[0]["source"]), (1, &json!("terminal")), "{list:#?}");
    // Deleted here it is gone from here, and its transcript is not.
    client.must("deleteSession", json!({"sessionId": id}));
    assert_eq!(listed(&client), [] as [Value; 0]);
    assert_eq!(client.must_fail("resumeSession", json!({"sessionId": id}))["code"], "invalid_session");
    assert!(wait_transcript_bytes(&place, &id).len() > transcript.len());
}

fn wait_transcript_bytes(place: &Workspace, id: &str) -> Vec<u8> {
    let projects = place.home().join(".claude/projects");
    let folders = fs::read_dir(projects).expect("the CLI has made it");
    let files = folders.map(|folder| folder.expect("a folder").path().join(format!("{id}.jsonl")));
    let file = { files }.find(|file| file.exists()).expect("the transcript");
    fs::read(file).expect("it can be read")
}

#[test]
fn what_the_terminal_goes_on_with_is_seen_here() {
    let (place, api, id) = (Arc::new(Workspace::new()), FakeApi::start(), uuid());
    in_a_terminal(&place, &api, &format!("--session-id={id}"), "one");
    let server = builder(&api).workspace(&place).arg("--idle-timeout=50ms").start();
    let client = server.connect(Value::Null);
    assert_eq!(history(&client, &id), ["> say:one", "one"]);
    in_a_terminal(&place, &api, &format!("--resume={id}"), "two");
    let all = ["> say:one", "one", "> say:two", "two"];
    // As soon as it has left the memory, where each look keeps it for a while.
    eventually("the terminal's next turn", DEADLINE, || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        history(&client, &id) == all
    });
    assert_eq!(client.ask_and_wait(&id, "say:three")["fullResponse"], "three");
    assert!(holds(&said(&api.wait_for_prompt("say:three")), "assistant", "two"));
}

#[test]
fn what_began_here_is_not_listed_again_as_a_terminals() {
    let on = start();
    on.answer("say:first");
    on.ask_and_wait("/clear");
    on.answer("say:second");
    let fork = on.client.must("forkSession", json!({"sessionId": on.session}))["session"]["sessionId"].clone();
    let fork = fork.as_str().expect("an id");
    on.client.must("resumeSession", json!({"sessionId": fork}));
    assert_eq!(on.client.ask_and_wait(fork, "say:third")["status"], "done");
    let ids = |client: &Client| -> Vec<Value> { listed(client).iter().map(|one| one["sessionId"].clone()).collect() };
    assert_eq!(ids(&on.client), [json!(fork), json!(on.session)]);
    on.client.must("deleteSession", json!({"sessionId": on.session}));
    assert_eq!(ids(&on.client), [json!(fork)]);
    // Nor by the next server.
    let place = on.server.workspace().clone();
    on.server.stop();
    let next = builder(&on.api).workspace(&place).start();
    assert_eq!(ids(&next.connect(Value::Null)), [json!(fork)]);
}
