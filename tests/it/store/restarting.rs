//! A server ends, cleanly or killed, and another one goes on from where it was.

use std::fs;

use serde_json::{Value, json};

use super::{
    answered, ask_as, client, history, ids, in_all_ways, kill, ledger, on, place, stop, stored_up_to, summary,
};
use crate::support::{client::Client, server::Server, workspace::Workspace};

#[test]
fn what_was_said_and_spent_is_there() {
    in_all_ways(|mode, end, clean| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        answered(&asking, &session, "p1", "words 3");
        answered(&asking, &session, "p2", "words 2");
        let (before, known) = (history(&asking, &session), summary(&asking, &session));
        let log_id = asking.registered()["logId"].clone();
        end(first);
        let second = on(&place).arg(mode).start();
        let back = second.connect(json!({"sessionId": session, "stream": "events"}));
        assert_eq!((&back.registered()["resumed"], &back.registered()["seq"]), (&json!(true), &json!(before.len())));
        assert_eq!(back.registered()["logId"] == log_id, clean, "{mode}");
        let listed = back.must("listSessions", json!({}));
        assert_eq!(ids(&listed), std::slice::from_ref(&session), "{mode}");
        for field in ["title", "costUsd", "turns", "createdAt", "lastWords", "cwd", "model", "source"] {
            assert_eq!(listed["sessions"][0][field], known[field], "{mode}, clean: {clean}: {field}");
        }
        assert_eq!(
            (&known["title"], &known["turns"], &known["lastWords"]),
            (&json!("words 3"), &json!(2), &json!("w1 w2"))
        );
        assert_eq!(history(&back, &session), before, "{mode}, clean: {clean}");
        // The conversation goes on, and so do the numbers.
        let (text, _) = client(&second, json!({"sessionId": session}));
        let response = answered(&text, &session, "p3", "history");
        assert_eq!(response["fullResponse"], r#"["words 3","words 2"]"#, "{mode}, clean: {clean}");
        assert_eq!(history(&back, &session)[..before.len()], before);
        assert!(summary(&back, &session)["costUsd"].as_f64() > known["costUsd"].as_f64());
        stop(second);
    });
}

#[test]
fn a_prompt_keeps_its_name() {
    in_all_ways(|mode, end, _| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        answered(&asking, &session, "mine", "words 3");
        end(first);
        let second = on(&place).arg(mode).start();
        let (asking, _) = client(&second, json!({"sessionId": session}));
        let again = ask_as(&asking, &session, "mine", "words 3");
        assert_eq!(again, json!({"ok": true, "promptId": "mine", "position": 0}), "{mode}");
        let other = ask_as(&asking, &session, "mine", "words 4");
        assert_eq!(other["error"]["code"], "conflict", "{mode}");
        answered(&asking, &session, "another", "words 4");
        assert_eq!(ledger(&place), ["words 3", "words 4"], "{mode}");
        stop(second);
    });
}

#[test]
fn a_closed_session_stays_closed() {
    for (end, _) in super::ENDS {
        let place = place();
        let first = on(&place).start();
        let (asking, session) = client(&first, json!({}));
        answered(&asking, &session, "p1", "words 1");
        asking.must("closeSession", json!({"sessionId": session}));
        // What is acknowledged behind it is stored behind it.
        asking.must("renameSession", json!({"sessionId": session, "title": "closed"}));
        end(first);
        let second = on(&place).start();
        let (asking, _) = client(&second, json!({"sessionId": session}));
        assert_eq!(ask_as(&asking, &session, "p2", "words 2")["error"]["code"], "session_ended");
        assert_eq!(asking.must("resumeSession", json!({"sessionId": session}))["session"]["title"], "closed");
        assert_eq!(answered(&asking, &session, "p3", "words 2")["status"], "done");
        stop(second);
    }
}

/// What comes to a text viewer that comes back to a session with what it knows.
struct Back {
    client: Client,
}

impl Back {
    fn to(server: &Server, session: &str, after: u64, log_id: &Value) -> Back {
        let auth = json!({"sessionId": session, "afterSeq": after, "logId": log_id});
        let client = server.connect(auth);
        assert_eq!(client.registered()["resumed"], true);
        Back { client }
    }

    /// `name` of the events with that promptId or requestId, with what matters of them, in their order.
    fn about(&self, id: &str) -> Vec<String> {
        let events = self.client.events();
        let about = events.iter().filter(|event| event.data["promptId"] == id || event.data["requestId"] == id);
        let describe = |data: &Value| {
            let parts =
                ["code", "status", "behavior", "by"].map(|field| data[field].as_str().unwrap_or_default().to_owned());
            parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
        };
        about.map(|event| format!("{} {}", event.name, describe(&event.data)).trim().to_owned()).collect()
    }
}

#[test]
fn what_was_with_the_agent_is_interrupted_and_what_waited_runs() {
    in_all_ways(|mode, end, clean| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        let go = place.root().join("go");
        assert_eq!(ask_as(&asking, &session, "with", &format!("wait {}", go.display()))["ok"], true);
        asking.wait_chunk("with");
        assert_eq!(ask_as(&asking, &session, "first", "words 2")["position"], 1, "{mode}");
        assert_eq!(ask_as(&asking, &session, "second", "words 3")["position"], 2, "{mode}");
        let (seen, log_id) =
            (asking.wait_event("prompt", |_| true)["seq"].as_u64(), asking.registered()["logId"].clone());
        end(first);
        let second = on(&place).arg(mode).start();
        let back = Back::to(&second, &session, seen.expect("a number"), &log_id);
        assert_eq!(back.client.wait_response("second")["fullResponse"], "w1 w2 w3", "{mode}");
        assert_eq!(back.client.wait_response("first")["fullResponse"], "w1 w2", "{mode}");
        // A server that stops by itself interrupts what runs, as a client does.
        let expected = ["notice interrupted_by_restart", "claudeResponse interrupted"];
        assert_eq!(back.about("with"), expected[usize::from(clean)..], "{mode}, clean: {clean}");
        for id in ["first", "second"] {
            let about = back.about(id);
            assert_eq!(
                (about.first().map(String::as_str), about.last().map(String::as_str)),
                (Some("prompt"), Some("claudeResponse done")),
                "{mode}, clean: {clean}, {id}: {about:?}"
            );
        }
        let wait = format!("wait {}", go.display());
        assert_eq!(ledger(&place), [wait.as_str(), "words 2", "words 3"], "{mode}, clean: {clean}: each once");
        // Who asks again is told that it was asked.
        assert_eq!(ask_as(&back.client, &session, "with", &wait)["ok"], true);
        assert_eq!(ledger(&place).len(), 3);
        stop(second);
    });
}

#[test]
fn what_the_agent_has_not_got_runs_by_itself_before_anybody_comes() {
    for (end, clean) in super::ENDS {
        let place = place();
        let never = place.root().join("never").display().to_string();
        let first = Server::builder(crate::scene::EXE).workspace(&place).bad_agent(&["slow-start", &never]).start();
        let (asking, session) = client(&first, json!({}));
        assert_eq!(ask_as(&asking, &session, "p1", "words 2")["ok"], true);
        let asked = asking.wait_event("prompt", |_| true);
        end(first);
        let second = on(&place).start();
        second.wait_log("takes up 1 prompt(s)");
        // Somebody else sees it, and the same event of it.
        let looking = second.connect(json!({}));
        crate::support::processes::eventually("it has run", crate::support::DEADLINE, || ledger(&place) == ["words 2"]);
        let back = second.connect(json!({"sessionId": session, "afterSeq": 0}));
        assert_eq!(back.wait_response("p1")["fullResponse"], "w1 w2");
        assert_eq!(back.events_named("prompt"), [asked], "clean: {clean}");
        assert!(back.events_named("notice").is_empty());
        assert_eq!(ids(&looking.must("listSessions", json!({}))), [session]);
        stop(second);
    }
}

#[test]
fn a_question_that_was_answered_stays_answered() {
    in_all_ways(|mode, end, clean| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        assert_eq!(ask_as(&asking, &session, "p1", "ask")["ok"], true);
        let question = asking.wait_event("permissionRequest", |_| true);
        let request = question["requestId"].as_str().expect("a name").to_owned();
        let answer = |behavior: &str| json!({"sessionId": session, "requestId": request, "behavior": behavior});
        asking.must("answerPermission", answer("deny"));
        let resolved = asking.wait_event("permissionResolved", |_| true);
        asking.wait_response("p1");
        super::on_the_disk(&asking, &session, "p1", "ask");
        end(first);
        let second = on(&place).arg(mode).start();
        let (asking, _) = client(&second, json!({"sessionId": session}));
        let refused = asking.must_fail("answerPermission", answer("allow"));
        assert_eq!(
            (&refused["code"], &refused["behavior"], &refused["by"]),
            (&json!("stale_request"), &json!("deny"), &resolved["by"]),
            "{mode}, clean: {clean}"
        );
        assert!(asking.events_named("permissionRequest").is_empty(), "it is not asked again");
        let unknown =
            asking.must_fail("answerPermission", json!({"sessionId": session, "requestId": "?", "behavior": "deny"}));
        assert_eq!((&unknown["code"], &unknown["by"]), (&json!("stale_request"), &json!(null)));
        stop(second);
    });
}

#[test]
fn a_question_that_was_open_is_cancelled() {
    in_all_ways(|mode, end, clean| {
        let place = place();
        let first = on(&place).arg(mode).start();
        let (asking, session) = client(&first, json!({}));
        assert_eq!(ask_as(&asking, &session, "p1", "ask")["ok"], true);
        let question = asking.wait_event("permissionRequest", |_| true);
        // What is acknowledged behind the question is stored behind it.
        asking.must("renameSession", json!({"sessionId": session, "title": "asking"}));
        let (request, seq) =
            (question["requestId"].as_str().expect("a name"), question["seq"].as_u64().expect("a number"));
        let log_id = asking.registered()["logId"].clone();
        end(first);
        let second = on(&place).arg(mode).start();
        let back = Back::to(&second, &session, seq, &log_id);
        assert_eq!(back.client.wait_response("p1")["status"], "interrupted");
        // Before it ends, the agent that is interrupted takes its question back.
        let by = if clean { "claude" } else { "restart" };
        assert_eq!(back.about(request), [format!("permissionResolved cancelled {by}")], "{mode}, clean: {clean}");
        let data = json!({"sessionId": session, "requestId": request, "behavior": "allow"});
        let refused = back.client.must_fail("answerPermission", data);
        assert_eq!(
            (&refused["code"], &refused["behavior"], &refused["by"]),
            (&json!("stale_request"), &json!("cancelled"), &json!(by)),
            "{mode}, clean: {clean}"
        );
        assert_eq!(summary(&back.client, &session)["openQuestions"], 0);
        assert_eq!(answered(&back.client, &session, "p2", "words 1")["status"], "done", "{mode}: it goes on");
        stop(second);
    });
}

#[test]
fn numbers_of_before_are_good_as_far_as_they_were_stored() {
    for mode in super::MODES {
        let mode = format!("--mode={mode}");
        let place = place();
        let (failing, go) = (place.root().join("failing"), place.root().join("go"));
        let first = on(&place).arg(&mode).env("CSM_FAILPOINT", "io:commit:1");
        let first = first.env("CSM_FAILPOINT_SINCE", failing.display().to_string()).start();
        let (asking, session) = client(&first, json!({}));
        let watching = first.connect(json!({"sessionId": session, "stream": "events"}));
        watching.registered();
        assert_eq!(ask_as(&asking, &session, "p1", &format!("wait {}", go.display()))["ok"], true);
        asking.wait_chunk("p1");
        asking.must("renameSession", json!({"sessionId": session, "title": "stored up to here"}));
        // From now on viewers see more than the disk has.
        fs::write(&failing, "").expect("the disk fails");
        fs::write(&go, "").expect("the agent goes on");
        asking.wait_response("p1");
        let seen = watching.wait_event("claudeEvent", |data| data["event"]["type"] == "result")["seq"].as_u64();
        let (seen, log_id) = (seen.expect("a number"), asking.registered()["logId"].clone());
        kill(first);

        let second = on(&place).arg(&mode).start();
        let stored = stored_up_to(&place, &session, log_id.as_str().expect("a name"));
        assert!(stored > 0 && stored < seen, "{stored} {seen}");
        for (after, good) in [(0, true), (1, true), (stored, true), (stored + 1, false), (seen, false)] {
            let data = json!({"sessionId": session, "afterSeq": after, "logId": log_id, "stream": "events"});
            let connected = second.connect(data.clone());
            let ack = connected.emit_with_ack("resumeSession", data);
            if good {
                let first_seq = ack["events"][0]["seq"].as_u64();
                assert_eq!(first_seq, Some(after + 1), "{mode}: {after} of {stored}: {ack}");
                let numbered = connected.events().into_iter().filter(|event| event.name != "sessionRegistered");
                let first_seq = numbered.filter_map(|event| event.data["seq"].as_u64()).next();
                assert_eq!(first_seq, Some(after + 1), "{mode}: {after} of {stored}");
                assert!(connected.events_named("serverError").is_empty());
            } else {
                assert_eq!(ack["error"]["code"], "seq_gap", "{mode}: {after} of {stored}");
                assert_eq!(connected.wait_event("serverError", |_| true)["code"], "seq_gap");
            }
        }
        // What came instead has those numbers now, and is not taken for what was seen.
        let (text, _) = client(&second, json!({"sessionId": session, "afterSeq": stored, "logId": log_id}));
        assert_eq!(text.wait_response("p1")["status"], "interrupted", "{mode}");
        let lost =
            watching.events().into_iter().find(|event| event.data["seq"] == stored + 1 && event.data["part"].is_null());
        let there = &history(&text, &session)[usize::try_from(stored).expect("small")];
        assert_ne!(Some(&there["data"]), lost.map(|event| event.data).as_ref(), "{mode}");
        stop(second);
    }
}

#[test]
fn what_came_with_a_prompt_is_kept_with_it() {
    for (end, clean) in super::ENDS {
        let place = place();
        let never = place.root().join("never").display().to_string();
        let first = Server::builder(crate::scene::EXE).workspace(&place).bad_agent(&["slow-start", &never]).start();
        let (asking, session) = client(&first, json!({}));
        let with = |content: &[u8], text: &str, client: &Client| {
            let file = |num: u8, name: &str, kind: &str| json!({"name": name, "mediaType": kind, "data": {"_placeholder": true, "num": num}});
            let files = [file(0, "a.txt", "text/plain"), file(1, "b.bin", "application/octet-stream")];
            let data = json!({"sessionId": session, "prompt": text, "promptId": "p1", "attachments": files});
            client.wait_ack(client.start_emit_binary("askClaudeCode", data, &[content, b"\x00\x01"]))
        };
        assert_eq!(with(b"inside", "content", &asking)["ok"], true);
        let asked = asking.wait_event("prompt", |_| true);
        assert_eq!(asked["attachments"].as_array().map(Vec::len), Some(2));
        end(first);
        let second = on(&place).start();
        let (back, _) = client(&second, json!({"sessionId": session, "afterSeq": 0}));
        let got = back.wait_response("p1")["fullResponse"].as_str().expect("text").to_owned();
        assert_eq!(back.events_named("prompt"), [asked], "clean: {clean}");
        let path = place.data().join("sessions").join(&session).join("files/b.bin");
        assert!(got.contains("inside") && got.contains(&path.display().to_string()), "clean: {clean}: {got}");
        assert_eq!(fs::read(path).expect("the file"), [0, 1]);
        assert_eq!(with(b"inside", "content", &back)["ok"], true, "the same");
        assert_eq!(with(b"another", "content", &back)["error"]["code"], "conflict");
        stop(second);
    }
}

#[test]
fn a_prompt_that_waited_in_a_closed_session_does_not_run() {
    let place = place();
    let never = place.root().join("never").display().to_string();
    let first = Server::builder(crate::scene::EXE).workspace(&place).bad_agent(&["slow-start", &never]).start();
    let (asking, session) = client(&first, json!({}));
    assert_eq!(ask_as(&asking, &session, "p1", "words 2")["ok"], true);
    kill(first);
    // As a kill leaves it between the end of the session and that of the prompt.
    let database = rusqlite::Connection::open(super::database_file(&place)).expect("the database");
    database.execute_batch("UPDATE sessions SET ended = 1").expect("closed");
    drop(database);
    let second = on(&place).start();
    let (back, _) = client(&second, json!({"sessionId": session, "afterSeq": 0}));
    assert_eq!(back.wait_response("p1")["status"], "interrupted");
    back.must("resumeSession", json!({"sessionId": session}));
    answered(&back, &session, "p2", "words 1");
    assert_eq!(ledger(&place), ["words 1"]);
    stop(second);
}

/// The directories of a server of the other mode, left as they are.
fn sessions_in(place: &Workspace) -> i64 {
    super::database(place).query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).expect("counted")
}

#[test]
fn one_mode_leaves_the_others_sessions_alone() {
    let place = place();
    let isolated = on(&place).start();
    let (asking, session) = client(&isolated, json!({}));
    answered(&asking, &session, "p1", "words 1");
    stop(isolated);
    let shared = on(&place).arg("--mode=shared").start();
    let (asking, global) = client(&shared, json!({"sessionId": session}));
    assert_eq!(global, "global-session");
    assert_eq!(ids(&asking.must("listSessions", json!({}))), [global.as_str()]);
    answered(&asking, &global, "p1", "words 2");
    stop(shared);
    assert_eq!(sessions_in(&place), 2);
    let isolated = on(&place).start();
    let (asking, _) = client(&isolated, json!({"sessionId": session}));
    assert_eq!(answered(&asking, &session, "p2", "history")["fullResponse"], r#"["words 1"]"#);
    stop(isolated);
}
