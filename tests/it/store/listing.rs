//! The list of sessions, whether they are in memory or only on the disk: paged, searched, renamed, forked, deleted.

use std::{collections::HashSet, fs};

use claude_session_manager::session::events::now_ms;
use serde_json::{Value, json};

use super::{answered, ask_as, client, history, ids, in_all_ways, ledger, on, place, stop, summary};
use crate::support::{DEADLINE, client::Client, processes::eventually, server::Server};

/// Waits until the clock has moved on: what happens in the same millisecond has no order that a test knows.
fn next_millisecond() {
    let now = now_ms();
    eventually("the next millisecond", DEADLINE, || now_ms() > now);
}

fn create(client: &Client, wish: Value) -> String {
    let created = client.must("createSession", wish);
    next_millisecond();
    created["session"]["sessionId"].as_str().expect("an id").to_owned()
}

/// The whole list in pages of `limit`; nothing changes meanwhile.
fn paged(server: &Server, limit: usize, query: Option<&str>) -> Vec<Value> {
    let (mut sessions, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let client = server.connect(json!({}));
        let page = client.must("listSessions", json!({"limit": limit, "cursor": cursor, "query": query}));
        let found = page["sessions"].as_array().expect("a list");
        assert!(found.len() <= limit);
        sessions.extend(found.iter().cloned());
        cursor = page["cursor"].clone();
        if cursor.is_null() {
            return sessions;
        }
    }
}

fn names(sessions: &[Value]) -> Vec<&str> {
    sessions.iter().map(|session| session["sessionId"].as_str().expect("an id")).collect()
}

#[test]
fn stored_and_live_sessions_are_one_list() {
    const STORED: usize = 25;
    let place = place();
    let first = on(&place).start();
    let (creating, _) = client(&first, json!({}));
    let mut all: Vec<String> =
        (0..STORED).map(|number| create(&creating, json!({"title": format!("stored {number}")}))).collect();
    stop(first);
    let second = on(&place).start();
    let (using, _) = client(&second, json!({}));
    // Some of them come into memory, some only because they are looked at; and there are new ones.
    for at in [3, 7, 11] {
        answered(&using, &all[at], &format!("p{at}"), "words 1");
    }
    for at in [5, 20] {
        next_millisecond();
        using.must("getHistory", json!({"sessionId": all[at]}));
    }
    next_millisecond();
    all.extend((0..5).map(|number| create(&using, json!({"title": format!("new {number}")}))));
    let whole = paged(&second, 200, None);
    let times: Vec<u64> = whole.iter().filter_map(|session| session["lastActivity"].as_u64()).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "{times:?}");
    let (listed, expected): (HashSet<&str>, HashSet<&str>) =
        (names(&whole).into_iter().collect(), all.iter().map(String::as_str).collect());
    assert_eq!(listed, expected);
    assert_eq!(names(&whole).len(), all.len(), "each once");
    let newest: Vec<&str> = all[STORED..].iter().rev().chain([&all[20], &all[5]]).map(String::as_str).collect();
    assert_eq!(names(&whole)[..7], newest, "what was used last is first");
    for limit in [1, 4, 29, 30, 31] {
        assert_eq!(names(&paged(&second, limit, None)), names(&whole), "by {limit}");
    }
    let stored = paged(&second, 4, Some("stored"));
    assert_eq!(stored.len(), STORED);
    let expected: Vec<&str> = names(&whole).into_iter().filter(|id| names(&stored).contains(id)).collect();
    assert_eq!(names(&stored), expected, "in the same order");
    // And after a clean restart, when all of them are only on the disk.
    stop(second);
    let third = on(&place).start();
    assert_eq!(names(&paged(&third, 200, None)), names(&whole));
    stop(third);
}

#[test]
fn what_was_said_is_found_in_memory_and_on_the_disk() {
    let place = place();
    let first = on(&place).start();
    let (asking, plain) = client(&first, json!({}));
    let other = create(&asking, json!({"title": "Größere \"Dinge\" (50 %)"}));
    let work = place.work().join("Schöne Straße");
    fs::create_dir(&work).expect("a directory");
    let there = create(&asking, json!({"cwd": work.display().to_string(), "title": "elsewhere"}));
    answered(&asking, &plain, "p1", "the prompt mentions a Zebra");
    answered(&asking, &other, "p2", "words 12");
    let cases: [(&str, &[&String]); 19] = [
        ("zebra", &[&plain]),
        ("ZEB", &[&plain]),
        ("zebra mentions", &[&plain]),
        ("ebra", &[&plain]),
        ("you said", &[&plain]),
        ("w11 w12", &[&other]),
        ("w12 zebra", &[]),
        ("grossere", &[]),
        ("groß", &[&other]),
        ("grö", &[&other]),
        ("gro", &[&other]),
        ("\"Dinge\"", &[&other]),
        ("dinge AND größere", &[]),
        ("(50 %)", &[&other]),
        ("Schöne Stra", &[&there]),
        ("elsewhere", &[&there]),
        ("NEAR(zebra", &[]),
        ("zebra*", &[&plain]),
        ("nothing like it", &[]),
    ];
    let check = |server: &Server, when: &str| {
        for (query, expected) in &cases {
            let (client, _) = client(server, json!({}));
            let found = client.must("listSessions", json!({"query": query}));
            let expected: Vec<String> = expected.iter().map(|id| (*id).clone()).collect();
            assert_eq!(ids(&found), expected, "{when}: {query:?}");
        }
    };
    check(&first, "in memory");
    stop(first);
    let second = on(&place).start();
    check(&second, "on the disk");
    stop(second);
}

#[test]
fn a_title_is_kept_and_found() {
    in_all_ways(|mode, end, _| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        let watching = first.connect(json!({"sessionId": session}));
        watching.registered();
        answered(&asking, &session, "p1", "words 1");
        assert_eq!(summary(&asking, &session)["title"], "words 1", "the first prompt");
        let renamed = asking.must("renameSession", json!({"sessionId": session, "title": "  Another\nname "}));
        assert_eq!(renamed["session"]["title"], "Another name");
        watching.wait_event("sessionUpdated", |data| data["title"] == "Another name");
        answered(&asking, &session, "p2", "words 2");
        end(first);
        let second = on(&place).arg(mode).start();
        let (asking, _) = client(&second, json!({"sessionId": session}));
        assert_eq!(summary(&asking, &session)["title"], "Another name", "{mode}");
        let found = |query: &str| ids(&asking.must("listSessions", json!({"query": query})));
        assert_eq!(found("another"), [session.as_str()], "{mode}");
        assert_eq!(asking.must_fail("renameSession", json!({"sessionId": session, "title": " \n"}))["field"], "title");
        stop(second);
    });
}

#[test]
fn a_deleted_session_is_gone_with_its_files() {
    let place = place();
    let first = on(&place).start();
    let (asking, session) = client(&first, json!({}));
    let other = create(&asking, json!({"title": "stays"}));
    let watching = first.connect(json!({"sessionId": session}));
    watching.registered();
    let file =
        json!({"name": "a.bin", "mediaType": "application/octet-stream", "data": {"_placeholder": true, "num": 0}});
    for id in [&session, &other] {
        let data = json!({"sessionId": id, "prompt": "words 1", "attachments": [file]});
        let ack = asking.wait_ack(asking.start_emit_binary("askClaudeCode", data, &[b"content"]));
        asking.wait_response(ack["promptId"].as_str().expect("accepted"));
    }
    let folder = |id: &str| place.data().join("sessions").join(id);
    assert!(folder(&session).join("files/a.bin").exists());
    // In the middle of an answer, with another one waiting.
    let running =
        asking.must("askClaudeCode", json!({"sessionId": session, "prompt": "slow 100000 5"}))["promptId"].clone();
    asking.wait_chunk(running.as_str().expect("an id"));
    assert_eq!(ask_as(&asking, &session, "waits", "words 2")["ok"], true);
    let gone = asking.must("deleteSession", json!({"sessionId": session}))["session"].clone();
    assert_eq!((&gone["sessionId"], &gone["deleted"]), (&json!(session), &json!(true)));
    assert!(!folder(&session).exists() && folder(&other).exists(), "its files are gone, no other's are");
    watching.wait_event("sessionUpdated", |data| data["deleted"] == true);
    assert_eq!(watching.wait_response("waits")["status"], "interrupted");
    let check = |server: &Server, when: &str| {
        let (client, _) = client(server, json!({}));
        assert_eq!(ids(&client.must("listSessions", json!({}))), std::slice::from_ref(&other), "{when}");
        assert_eq!(ids(&client.must("listSessions", json!({"query": "slow"}))), Vec::<String>::new(), "{when}");
        for (event, data) in [
            ("getSession", json!({})),
            ("getHistory", json!({})),
            ("resumeSession", json!({})),
            ("renameSession", json!({"title": "x"})),
            ("forkSession", json!({})),
            ("deleteSession", json!({})),
            ("askClaudeCode", json!({"prompt": "words 1"})),
        ] {
            let mut data = data;
            data["sessionId"] = json!(session);
            assert_eq!(client.must_fail(event, data)["code"], "invalid_session", "{when}: {event}");
        }
        let back = server.connect(json!({"sessionId": session})).registered();
        assert_eq!((&back["resumed"], &back["requested"]), (&json!(false), &json!(session)), "{when}");
        let bearer = format!("Bearer {}", server.token());
        let event = server.http("GET", &format!("/api/sessions/{session}/events/1"), &[("Authorization", &bearer)]);
        assert_eq!(event.status, 404, "{when}");
    };
    check(&first, "at once");
    // What a crash in the middle of a deletion leaves of the files.
    fs::create_dir_all(folder(&session).join("files")).expect("a folder");
    fs::write(folder(&session).join("files/a.bin"), "content").expect("a file");
    super::kill(first);
    let second = on(&place).start();
    check(&second, "after a restart");
    eventually("what was left is removed", DEADLINE, || !folder(&session).exists());
    assert!(folder(&other).join("files/a.bin").exists());
    stop(second);
}

#[test]
fn files_of_a_session_that_was_never_used_go_with_it() {
    let place = place();
    let failing = place.root().join("failing");
    let server = on(&place).env("CSM_FAILPOINT", "io:commit:1");
    let server = server.env("CSM_FAILPOINT_SINCE", failing.display().to_string()).start();
    let (asking, session) = client(&server, json!({}));
    let folder = place.data().join("sessions").join(&session);
    // The file is stored, and then the prompt cannot be.
    fs::write(&failing, "").expect("the disk fails");
    let file =
        json!({"name": "a.bin", "mediaType": "application/octet-stream", "data": {"_placeholder": true, "num": 0}});
    let data = json!({"sessionId": session, "prompt": "words 1", "attachments": [file]});
    let ack = asking.wait_ack(asking.start_emit_binary("askClaudeCode", data, &[b"content"]));
    assert_eq!(ack["error"]["code"], "storage_full");
    assert!(folder.join("files/a.bin").exists());
    drop(asking);
    eventually("its folder is removed", DEADLINE, || !folder.exists());
    assert_eq!(server.stop().code(), Some(0));
}

/// Not even what a process says that was started before there was anything to do.
#[test]
fn nothing_is_kept_of_a_session_that_was_never_used() {
    let place = place();
    let server = super::on_with(&place, "exit-at-once").arg("--prestart=2").start();
    for _ in 0..3 {
        let (client, session) = client(&server, json!({}));
        client.wait_event("notice", |_| true);
        client.must("renameSession", json!({"sessionId": session, "title": "not used"}));
        client.disconnect();
    }
    let (asking, session) = client(&server, json!({}));
    super::ask_as(&asking, &session, "p1", "hi");
    asking.wait_response("p1");
    let others = |table: &str| -> u64 {
        let of = "SELECT count(*) FROM events WHERE key >> 32 NOT IN (SELECT key FROM sessions)";
        let sql = if table == "events" {
            of.to_owned()
        } else {
            format!("SELECT count(*) FROM {table} WHERE search MATCH 'used'")
        };
        super::database(&place).query_row(&sql, [], |row| row.get(0)).expect("a number")
    };
    eventually("no rows of others", DEADLINE, || others("events") == 0 && others("search") == 0);
    stop(server);
}

#[test]
fn a_fork_has_the_past_and_its_own_future() {
    for (end, _) in super::ENDS {
        let place = place();
        let first = on(&place).start();
        let (asking, session) = client(&first, json!({}));
        answered(&asking, &session, "p1", "words 3");
        answered(&asking, &session, "p2", "the past has a Yak");
        let past = history(&asking, &session);
        let fork = asking.must("forkSession", json!({"sessionId": session}))["session"].clone();
        let id = fork["sessionId"].as_str().expect("an id").to_owned();
        assert_eq!(
            (&fork["title"], &fork["turns"], &fork["state"]),
            (&json!("words 3 (fork)"), &json!(2), &json!("stopped"))
        );
        assert_eq!(fork["costUsd"], 0.0, "what it costs itself");
        let in_fork = history(&asking, &id);
        let without_id = |items: &[Value], id: &str| serde_json::to_string(items).expect("JSON").replace(id, "ID");
        assert_eq!(without_id(&in_fork, &id), without_id(&past, &session));
        let found = |client: &Client, query: &str| {
            let mut found = ids(&client.must("listSessions", json!({"query": query})));
            found.sort();
            found
        };
        let mut both = vec![session.clone(), id.clone()];
        both.sort();
        assert_eq!(found(&asking, "yak"), both);
        end(first);
        let second = on(&place).start();
        let (asking, _) = client(&second, json!({}));
        assert_eq!(found(&asking, "yak"), both);
        // A text viewer gets the answers of the past, as those of the fork.
        let (text, _) = client(&second, json!({"sessionId": id, "afterSeq": 0}));
        let response = text.wait_response("p2");
        assert_eq!(
            (&response["sessionId"], &response["fullResponse"]),
            (&json!(id), &json!("you said: the past has a Yak"))
        );
        // Each goes on by itself, and a name of a prompt is taken in each.
        answered(&asking, &session, "p3", "only in the old one: Ibex");
        answered(&text, &id, "p3", "only in the fork: Okapi");
        assert_eq!(ask_as(&text, &id, "p1", "words 4")["error"]["code"], "conflict");
        assert_eq!((found(&asking, "ibex"), found(&asking, "okapi")), (vec![session.clone()], vec![id.clone()]));
        let (old, new) = (history(&asking, &session), history(&text, &id));
        assert!(
            old.starts_with(&past) && new.starts_with(&in_fork) && old.len() > past.len() && new.len() > in_fork.len()
        );
        asking.must("deleteSession", json!({"sessionId": session}));
        assert_eq!(history(&text, &id), new);
        assert_eq!(found(&asking, "yak"), [id.as_str()]);
        assert_eq!(ledger(&place).len(), 4);
        stop(second);
    }
}

#[test]
fn a_closed_session_is_listed_and_takes_nothing_until_it_is_resumed() {
    let place = place();
    let server = on(&place).start();
    let (asking, session) = client(&server, json!({}));
    answered(&asking, &session, "p1", "words 1");
    let closed = asking.must("closeSession", json!({"sessionId": session}))["session"].clone();
    assert_eq!(closed["state"], "stopped");
    assert_eq!(ids(&asking.must("listSessions", json!({}))), [session.as_str()]);
    // Looking at it, or coming to it, does not open it.
    let (other, _) = client(&server, json!({"sessionId": session}));
    history(&other, &session);
    for client in [&asking, &other] {
        assert_eq!(ask_as(client, &session, "p2", "words 2")["error"]["code"], "session_ended");
        assert_eq!(ask_as(client, &session, "p1", "words 1")["error"]["code"], "session_ended");
    }
    other.must("resumeSession", json!({"sessionId": session}));
    assert_eq!(answered(&asking, &session, "p3", "history")["fullResponse"], r#"["words 1"]"#);
    stop(server);
}
