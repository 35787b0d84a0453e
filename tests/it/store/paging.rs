//! A history that is partly in memory and partly on the disk is read as one.

use serde_json::{Value, json};

use super::{answered, client, history, kill, on, place, seqs, stop, summary};
use crate::support::{
    DEADLINE,
    client::{Client, Event},
    server::Server,
};

/// Several times what is kept in memory of one session.
const MUCH: &str = "lines 300 4000";

fn bearer(server: &Server) -> String {
    format!("Bearer {}", server.token())
}

/// An event as it is had by HTTP.
fn by_http(server: &Server, session: &str, seq: u64) -> Value {
    let path = format!("/api/sessions/{session}/events/{seq}");
    let answer = server.http("GET", &path, &[("Authorization", &bearer(server))]);
    assert_eq!(answer.status, 200, "{path}");
    answer.json()
}

/// Reads the whole history in pages of at most `limit`, forwards and backwards: both are `whole`.
fn check_pages(server: &Server, session: &str, whole: &[Value], limit: usize) {
    // A connection may send only so many events in a second.
    let page = |client: &mut (Client, usize), mut data: Value| {
        if client.1 == 40 {
            *client = (server.connect(json!({})), 0);
        }
        client.1 += 1;
        data["sessionId"] = json!(session);
        data["limit"] = json!(limit);
        let page = client.0.must("getHistory", data);
        let items = page["events"].as_array().expect("a list").clone();
        assert!(!items.is_empty() && items.len() <= limit, "{} of {limit}", items.len());
        (items, page["more"] == true)
    };
    let mut client = (server.connect(json!({})), 0);
    let (mut forward, mut more) = (Vec::new(), true);
    while more {
        let (items, rest) = page(&mut client, json!({"afterSeq": forward.len()}));
        forward.extend(items);
        more = rest;
    }
    assert!(forward == whole, "forwards by {limit}: {:?}", seqs(&forward));
    let (mut backward, mut rest) = page(&mut client, json!({}));
    while rest {
        let (items, more) = page(&mut client, json!({"beforeSeq": backward[0]["seq"]}));
        backward.splice(0..0, items);
        rest = more;
    }
    assert!(backward == whole, "backwards by {limit}: {:?}", seqs(&backward));
}

#[test]
fn pages_meet_where_memory_ends() {
    let place = place();
    let first = on(&place).start();
    let (asking, session) = client(&first, json!({"stream": "events"}));
    asking.must("askClaudeCode", json!({"sessionId": session, "prompt": MUCH, "promptId": "much"}));
    asking.wait_event("sessionUpdated", |data| data["turns"] == 1);
    super::on_the_disk(&asking, &session, "much", MUCH);
    // What a viewer has seen from the beginning, against what is read.
    let live: Vec<Value> = numbered(&asking.events()).into_iter().map(|event| event.data.clone()).collect();
    let whole = history(&asking, &session);
    assert!(whole.len() > 300);
    assert!(live.iter().eq(whole.iter().map(|item| &item["data"])), "live {:?}", live.len());
    for limit in [29, 150, 500] {
        check_pages(&first, &session, &whole, limit);
    }
    for at in [0, 1, 150, whole.len() - 30, whole.len() - 1] {
        assert_eq!(by_http(&first, &session, whole[at]["seq"].as_u64().expect("a number")), whole[at]["data"], "{at}");
    }
    kill(first);
    // Nothing in memory, then a little.
    let second = on(&place).start();
    check_pages(&second, &session, &whole, 150);
    let (asking, _) = client(&second, json!({"sessionId": session}));
    answered(&asking, &session, "little", "lines 5 100");
    let more = history(&asking, &session);
    assert!(more.len() > whole.len() && more.starts_with(&whole));
    for limit in [33, 500] {
        check_pages(&second, &session, &more, limit);
    }
    let last = more.len() as u64;
    for (data, field) in
        [(json!({"afterSeq": last + 1}), "afterSeq"), (json!({"afterSeq": last, "beforeSeq": 1}), "beforeSeq")]
    {
        let mut data = data;
        data["sessionId"] = json!(session);
        assert_eq!(asking.must_fail("getHistory", data)["code"], "bad_request", "{field}");
    }
    stop(second);
}

/// Events with a number of their own, and no answers.
fn numbered(events: &[Event]) -> Vec<&Event> {
    let others = ["sessionRegistered", "claudeResponse"];
    let numbered = events.iter().filter(|event| event.data["seq"].is_u64() && event.data["part"].is_null());
    numbered.filter(|event| !others.contains(&event.name.as_str())).collect()
}

#[test]
fn a_session_that_has_left_the_memory_is_as_it_was() {
    let place = place();
    let server = on(&place).args(["--idle-timeout=100ms", "--log-level=debug"]).start();
    let (asking, session) = client(&server, json!({}));
    answered(&asking, &session, "much", MUCH);
    let (whole, known) = (history(&asking, &session), summary(&asking, &session));
    asking.must("closeSession", json!({"sessionId": session}));
    asking.must("resumeSession", json!({"sessionId": session}));
    let registered = asking.registered();
    drop(asking);
    server.wait_log(&format!("session {session}: leaves the memory"));
    // The list is from the disk now.
    let (looking, _) = client(&server, json!({}));
    let listed = looking.must("listSessions", json!({}))["sessions"][0].clone();
    assert_eq!(
        (&listed["sessionId"], &listed["turns"], &listed["state"]),
        (&json!(session), &known["turns"], &json!("stopped"))
    );
    let after = json!({"sessionId": session, "stream": "events", "afterSeq": 10, "logId": registered["logId"]});
    let (back, _) = client(&server, after);
    assert_eq!(history(&looking, &session)[..whole.len()], whole);
    check_pages(&server, &session, &history(&looking, &session), 100);
    back.must("getSession", json!({"sessionId": session}));
    let came: Vec<u64> = numbered(&back.events()).iter().filter_map(|event| event.data["seq"].as_u64()).collect();
    assert!(came.iter().copied().eq(11..=10 + came.len() as u64) && came.len() >= whole.len() - 10, "{came:?}");
    let prompt = back.must("askClaudeCode", json!({"sessionId": session, "prompt": "history"}))["promptId"].clone();
    back.wait_event("sessionUpdated", |data| data["running"].is_null() && data["turns"] == 2);
    let (text, _) = client(&server, json!({"sessionId": session, "afterSeq": 0}));
    assert_eq!(text.wait_response(prompt.as_str().expect("a name"))["fullResponse"], format!(r#"["{MUCH}"]"#));
    stop(server);
}

/// The data of those events in a history that a viewer of that stream gets, with their names.
fn wanted(history: &[Value], stream: &str) -> Vec<(String, Value)> {
    let wanted = history.iter().filter(|item| stream == "events" || item["name"] != "claudeEvent");
    wanted.map(|item| (item["name"].as_str().expect("a name").to_owned(), item["data"].clone())).collect()
}

#[test]
fn each_catches_up_at_its_own_pace() {
    const PROMPTS: u64 = 20;
    let place = place();
    let first = on(&place).start();
    let (asking, session) = client(&first, json!({}));
    for number in 1..=PROMPTS {
        answered(&asking, &session, &format!("p{number}"), &format!("lines 40 5000 {number}"));
    }
    kill(first);
    let second = on(&place).arg("--outbox-bytes-max=256k").start();
    let (asking, _) = client(&second, json!({"sessionId": session}));
    let whole = history(&asking, &session);
    let come =
        |stream: &str, after: u64| second.connect(json!({"sessionId": session, "stream": stream, "afterSeq": after}));
    let slow: Vec<(&str, u64, Client)> = [("events", 0), ("text", 0), ("events", whole.len() as u64 / 2)]
        .into_iter()
        .map(|(stream, after)| {
            let client = come(stream, after);
            client.pause_reading();
            (stream, after, client)
        })
        .collect();
    // Those that read are not held up, nor is who asks.
    for stream in ["events", "text"] {
        let fast = come(stream, 0);
        check_caught_up(&fast, &session, stream, 0, &whole);
    }
    answered(&asking, &session, "last", "words 3");
    let whole = history(&asking, &session);
    for (stream, after, client) in slow {
        client.resume_reading();
        check_caught_up(&client, &session, stream, after, &whole);
    }
    stop(second);
}

/// Waits until a viewer has got the last of these events, and checks that it has got all of them behind `after`, once; as
/// a text viewer each answer too, behind the events of its turn and before the next prompt.
fn check_caught_up(client: &Client, session: &str, stream: &str, after: u64, whole: &[Value]) {
    let expected = wanted(&whole[usize::try_from(after).expect("small")..], stream);
    let last = expected.last().expect("some").1["seq"].clone();
    client.try_wait_event_from(0, DEADLINE, |event| event.data["seq"] == last && event.name != "sessionRegistered");
    client.must("getSession", json!({"sessionId": session}));
    let events = client.events();
    let came: Vec<(String, Value)> =
        numbered(&events).into_iter().map(|event| (event.name.clone(), event.data.clone())).collect();
    assert!(came == expected, "{stream} after {after}: {} of {}", came.len(), expected.len());
    if stream == "text" {
        let told = events.iter().filter(|event| ["prompt", "claudeResponse"].contains(&event.name.as_str()));
        let told: Vec<(&str, &Value)> = told.map(|event| (event.name.as_str(), &event.data["promptId"])).collect();
        let prompts = expected.iter().filter(|(name, _)| name == "prompt").map(|(_, data)| &data["promptId"]);
        let expected: Vec<_> = prompts.flat_map(|id| [("prompt", id), ("claudeResponse", id)]).collect();
        assert_eq!(told, expected);
    }
}

#[test]
fn what_is_too_large_for_the_wire_is_had_whole_from_memory_and_from_the_disk() {
    const LARGE: usize = 1_000_000;
    let place = place();
    let first = on(&place).start();
    let (watching, session) = client(&first, json!({"stream": "events"}));
    let prompt = format!("lines 3 {LARGE}");
    watching.must("askClaudeCode", json!({"sessionId": session, "prompt": prompt, "promptId": "large"}));
    let short = watching.wait_event("claudeEvent", |data| data["truncated"] == true);
    let seq = short["seq"].as_u64().expect("a number");
    let bytes = short["bytes"].as_u64().expect("a number");
    assert_eq!(short, json!({"sessionId": session, "seq": seq, "truncated": true, "bytes": bytes}));
    watching.wait_event("sessionUpdated", |data| data["turns"] == 1);
    super::on_the_disk(&watching, &session, "large", &prompt);
    let check = |server: &Server| {
        let (asking, _) = client(server, json!({"sessionId": session}));
        let items = history(&asking, &session);
        let shown: Vec<&Value> = items.iter().filter(|item| item["data"]["truncated"] == true).collect();
        assert_eq!((shown.len(), &shown[0]["data"]), (3, &short));
        let whole = by_http(server, &session, seq);
        assert_eq!((&whole["seq"], &whole["event"]["count"]), (&json!(seq), &json!(1)));
        assert_eq!(whole["event"]["data"].as_str().map(str::len), Some(LARGE));
        let back = server.connect(json!({"sessionId": session, "stream": "events", "afterSeq": seq - 1}));
        back.must("getSession", json!({"sessionId": session}));
        assert_eq!(numbered(&back.events())[0].data, short, "who comes back gets the same");
    };
    check(&first);
    // Pushed out of memory by what followed.
    let (asking, _) = client(&first, json!({"sessionId": session}));
    answered(&asking, &session, "much", MUCH);
    check(&first);
    kill(first);
    let second = on(&place).start();
    check(&second);
    stop(second);
}
