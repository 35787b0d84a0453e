//! Numbers without holes, and one order for all who watch.

use serde_json::json;

use super::{claude_events, client, keys, last_word, server, settle, text_client, viewer};
use crate::support::client::{Client, Event};

const MIXTURE: [&str; 5] = ["words 40", "/local", "fail", "ask", "words 1"];

/// Asks one prompt of each kind, all at once, and waits for the last answer.
fn ask_mixture(asking: &Client, session: &str) {
    let prompts: Vec<String> = MIXTURE.iter().map(|prompt| asking.ask(session, prompt)).collect();
    let question = asking.wait_event("permissionRequest", |_| true);
    let answer = json!({"sessionId": session, "requestId": question["requestId"], "behavior": "deny"});
    asking.must("answerPermission", answer);
    for prompt in prompts {
        asking.wait_response(&prompt);
    }
    last_word(asking, session);
}

/// `(seq, part)` of each numbered event, in the order of arrival; `part` is 0 on stored ones.
fn numbers(events: &[Event]) -> Vec<(u64, u64)> {
    let numbered = events.iter().filter(|event| event.name != "sessionRegistered");
    numbered.filter_map(|event| Some((event.data["seq"].as_u64()?, event.data["part"].as_u64().unwrap_or(0)))).collect()
}

fn raw(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.raw.as_str()).collect()
}

#[test]
fn numbers_have_no_holes_and_deltas_count_since_the_last() {
    let server = server();
    let (asking, session) = text_client(&server);
    let events = viewer(&server, &session, "events");
    ask_mixture(&asking, &session);
    settle(&events, &session);
    let seen = numbers(&events.events());
    let mut last = (0, 0);
    for number in &seen {
        let next = [(last.0 + 1, 0), (last.0, last.1 + 1)];
        assert!(next.contains(number), "{number:?} after {last:?}");
        last = *number;
    }
    assert!(seen.iter().filter(|(_, part)| *part > 0).count() > 40, "{seen:?}");
    // A text viewer has its part of the same numbers, in the same order.
    settle(&asking, &session);
    let text = numbers(&asking.events());
    assert!(text.is_sorted() && !text.is_empty() && text.iter().all(|(_, part)| *part == 0), "{text:?}");
    // The history is what went out live.
    let history = events.must("getHistory", json!({"sessionId": session}));
    let stored = history["events"].as_array().expect("a list");
    let live: Vec<Event> = events
        .events()
        .into_iter()
        .filter(|event| event.data["seq"].is_u64() && !event.data["part"].is_u64())
        .collect();
    assert_eq!((stored.len(), live.len()), (usize::try_from(last.0).expect("few"), stored.len()));
    for (item, event) in stored.iter().zip(&live) {
        assert_eq!((&item["name"], &item["data"]), (&json!(event.name), &event.data));
        assert!(item["time"].is_u64());
    }
}

#[test]
fn all_viewers_see_the_same_in_the_same_order() {
    let server = server();
    let (text, session) = text_client(&server);
    let (one, two) = (viewer(&server, &session, "events"), viewer(&server, &session, "events"));
    let other_text = viewer(&server, &session, "text");
    ask_mixture(&text, &session);
    for client in [&text, &one, &two, &other_text] {
        settle(client, &session);
    }
    let seen = |client: &Client| -> Vec<Event> {
        client.events().into_iter().filter(|event| event.name != "sessionRegistered").collect()
    };
    let (text, one, two, other_text) = (seen(&text), seen(&one), seen(&two), seen(&other_text));
    assert_eq!(raw(&one), raw(&two), "events and events");
    assert_eq!(raw(&text), raw(&other_text), "text and text");
    let shared = |events: &[Event]| -> Vec<String> {
        let plain = |name: &str| name.starts_with("claude");
        events.iter().filter(|event| !plain(&event.name)).map(|event| event.raw.clone()).collect()
    };
    assert_eq!(shared(&text), shared(&one), "text and events");
    assert!(shared(&text).len() > MIXTURE.len() && !claude_events(&one).is_empty() && claude_events(&text).is_empty());
}

#[test]
fn an_answer_is_one_start_its_chunks_one_end_and_one_response() {
    let server = server();
    let (client, session) = text_client(&server);
    let prompts: Vec<String> = (1..=4).map(|count| client.ask(&session, &format!("words {}", count * 7))).collect();
    for prompt in &prompts {
        client.wait_response(prompt);
    }
    let events = client.events();
    let mut at = 0;
    for prompt in &prompts {
        let mine = events.iter().enumerate().filter(|(_, event)| event.data["promptId"] == **prompt);
        let (places, mine): (Vec<usize>, Vec<&Event>) = mine.unzip();
        let chunks = mine.len() - 4;
        let mut expected = vec!["prompt", "claudeStreamStart"];
        expected.extend(vec!["claudeStreamChunk"; chunks]);
        expected.extend(["claudeStreamEnd", "claudeResponse"]);
        assert_eq!(mine.iter().map(|event| event.name.as_str()).collect::<Vec<_>>(), expected);
        assert!(places[0] >= at && chunks > 0, "one after the other");
        at = *places.last().expect("some");
        let text: Vec<&str> = mine.iter().filter_map(|event| event.data["text"].as_str()).skip(1).collect();
        assert_eq!(mine[mine.len() - 1].data["fullResponse"], text.concat());
    }
}

#[test]
fn clients_do_not_see_the_sessions_of_others() {
    let server = server();
    let (one, first) = text_client(&server);
    let (two, second) = client(&server, json!({"stream": "events"}));
    one.ask_and_wait(&first, "words 5");
    two.ask(&second, "words 5");
    two.wait_event("claudeEvent", |data| data["event"]["type"] == "result");
    settle(&one, &first);
    for (client, session) in [(&one, &first), (&two, &second)] {
        for event in client.events() {
            assert_eq!(event.data["sessionId"], **session, "{}", event.raw);
        }
    }
    assert_eq!(keys(&one.registered()["session"]), keys(&two.registered()["session"]));
}
