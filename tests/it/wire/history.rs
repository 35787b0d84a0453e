//! `getHistory` and `listSessions`: pages in both directions.

use serde_json::{Value, json};

use super::{client, last_word, server, settle, text_client};
use crate::support::client::Client;

fn seqs(ack: &Value) -> Vec<u64> {
    ack["events"].as_array().expect("a list").iter().map(|item| item["seq"].as_u64().expect("a number")).collect()
}

#[test]
fn the_history_is_read_in_both_directions() {
    let server = server();
    let (client, session) = text_client(&server);
    for _ in 0..3 {
        client.ask_and_wait(&session, "words 2");
    }
    last_word(&client, &session);
    let page = |fields: Value| {
        let mut data = fields;
        data["sessionId"] = json!(session);
        client.must("getHistory", data)
    };
    let whole = page(json!({}));
    let all = seqs(&whole);
    let last = all.len() as u64;
    assert_eq!((&all, &whole["more"]), (&(1..=last).collect(), &json!(false)));
    let range = |from: u64, to: u64| (from..=to).collect::<Vec<u64>>();
    for (fields, expected, more) in [
        (json!({"limit": 5}), range(last - 4, last), true),
        (json!({"limit": last}), range(1, last), false),
        (json!({"limit": 1_000_000_000_000_u64}), range(1, last), false),
        (json!({"limit": 0}), range(last, last), true),
        (json!({"limit": null, "beforeSeq": null}), range(1, last), false),
        (json!({"afterSeq": 0, "limit": 4}), range(1, 4), true),
        (json!({"afterSeq": 4, "limit": 4}), range(5, 8), true),
        (json!({"afterSeq": last - 2, "limit": 2}), range(last - 1, last), false),
        (json!({"afterSeq": last}), vec![], false),
        (json!({"beforeSeq": 6, "limit": 3}), range(3, 5), true),
        (json!({"beforeSeq": 3, "limit": 3}), range(1, 2), false),
        (json!({"beforeSeq": 1}), vec![], false),
        (json!({"beforeSeq": 0}), vec![], false),
        (json!({"beforeSeq": u64::MAX, "limit": 2}), range(last - 1, last), true),
    ] {
        let got = page(fields.clone());
        assert_eq!((seqs(&got), &got["more"]), (expected, &json!(more)), "{fields}");
    }
    // Back to the beginning page by page, then forward: the same events.
    let items = |ack: &Value| ack["events"].as_array().expect("a list").clone();
    let (mut back, mut before) = (Vec::new(), last + 1);
    while before > 1 {
        let got = items(&page(json!({"beforeSeq": before, "limit": 4})));
        before = got[0]["seq"].as_u64().expect("a number");
        back.splice(0..0, got);
    }
    let mut forward = Vec::new();
    while (forward.len() as u64) < last {
        forward.extend(items(&page(json!({"afterSeq": forward.len(), "limit": 4}))));
    }
    assert_eq!((&back, &forward), (&items(&whole), &items(&whole)));
}

#[test]
fn reading_the_history_does_not_attach() {
    let server = server();
    let (owner, session) = text_client(&server);
    owner.ask_and_wait(&session, "words 1");
    let (reader, own) = text_client(&server);
    reader.must("getHistory", json!({"sessionId": session}));
    reader.must("getSession", json!({"sessionId": session}));
    owner.ask_and_wait(&session, "words 1");
    settle(&reader, &own);
    assert!(reader.events().iter().all(|event| event.data["sessionId"] == *own));
}

fn ids(ack: &Value) -> Vec<String> {
    let sessions = ack["sessions"].as_array().expect("a list");
    sessions.iter().map(|session| session["sessionId"].as_str().expect("an id").to_owned()).collect()
}

fn create(client: &Client, wish: Value) -> String {
    client.must("createSession", wish)["session"]["sessionId"].as_str().expect("an id").to_owned()
}

#[test]
fn sessions_are_listed_newest_first_found_and_paged() {
    const SESSIONS: usize = 12;
    let server = server();
    let (client, reserved) = text_client(&server);
    let created: Vec<String> =
        (0..SESSIONS).map(|n| create(&client, json!({"title": format!("Title number {n:02}.")}))).collect();
    let list = |fields: Value| client.must("listSessions", fields);
    let all = list(json!({}));
    let mut sorted = ids(&all);
    sorted.sort();
    let mut expected = created.clone();
    expected.sort();
    assert_eq!(sorted, expected, "all of them once, and not the reserved one");
    assert!(!ids(&all).contains(&reserved) && all["cursor"].is_null());
    let times: Vec<u64> =
        all["sessions"].as_array().expect("a list").iter().filter_map(|one| one["lastActivity"].as_u64()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    for limit in [1, 5, SESSIONS - 1, SESSIONS, 1000] {
        let (mut paged, mut cursor) = (Vec::new(), Value::Null);
        loop {
            let page = list(json!({"limit": limit, "cursor": cursor}));
            assert!(ids(&page).len() <= limit);
            paged.extend(ids(&page));
            cursor = page["cursor"].clone();
            if cursor.is_null() {
                break;
            }
            // Not so fast: at most 50 events in a second are served.
            server.connect(json!({}));
        }
        assert_eq!(paged, ids(&all), "{limit}");
    }
    for (query, expected) in [
        ("number 07", vec![created[7].clone()]),
        ("NUMBER 07.", vec![created[7].clone()]),
        ("title number", ids(&all)),
        ("", ids(&all)),
        ("/work", ids(&all)),
        ("nothing like it", vec![]),
    ] {
        assert_eq!(ids(&list(json!({"query": query}))), expected, "{query:?}");
    }
    assert_eq!(ids(&list(json!({"query": "number 0", "limit": 3}))).len(), 3);
}

#[test]
fn the_one_used_last_is_listed_first_under_its_first_prompt() {
    let server = server();
    let (client, reserved) = text_client(&server);
    let (first, second) = (create(&client, json!({})), create(&client, json!({})));
    for session in [&second, &first, &reserved] {
        client.ask_and_wait(session, &format!("  pid\n and {}  ", "long ".repeat(40)));
        settle(&client, session);
    }
    let listed = server.connect(json!({})).must("listSessions", json!({}));
    assert_eq!(ids(&listed), [reserved, first, second]);
    let title = listed["sessions"][0]["title"].as_str().expect("a title").to_owned();
    assert_eq!(title, format!("pid and {}…", &"long ".repeat(20)[..72]));
}

#[test]
fn a_whole_event_is_had_by_http() {
    let server = server();
    let (client, session) = client(&server, json!({"stream": "events"}));
    client.ask(&session, "words 1");
    let result = client.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    let path = format!("/api/sessions/{session}/events/{}", result["seq"]);
    let bearer = format!("Bearer {}", server.token());
    let answer = server.http("GET", &path, &[("Authorization", &bearer)]);
    assert_eq!((answer.status, answer.json()), (200, result));
    for (path, headers, status) in [
        (path.as_str(), &[][..], 401),
        (&path, &[("Authorization", "Bearer wrong")], 401),
        (&format!("/api/sessions/{session}/events/0"), &[("Authorization", &bearer)], 404),
        (&format!("/api/sessions/{session}/events/99999"), &[("Authorization", &bearer)], 404),
        (&format!("/api/sessions/{session}/events/x"), &[("Authorization", &bearer)], 404),
        ("/api/sessions/unknown/events/1", &[("Authorization", &bearer)], 404),
    ] {
        assert_eq!(server.http("GET", path, headers).status, status, "{path} {}", headers.len());
    }
}
