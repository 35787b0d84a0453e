use super::*;

#[test]
fn pages_are_cut_by_count_and_by_bytes_in_both_directions() {
    let place = Place::new();
    let (session, next) = (place.add("mine"), place.add("the next one"));
    place.write((1..=9).map(|seq| event(&session, seq, &format!(r#","x":"{}""#, "x".repeat(1000)))).collect());
    place.write(vec![event(&next, 1, "")]);
    let page = |between, descending, limits| {
        let events = place.store.events(session.key, &session.id, between, descending, limits).expect("read");
        events.into_iter().map(|event| event.seq).collect::<Vec<_>>()
    };
    let all = usize::MAX >> 1;
    for (between, descending, limits, expected) in [
        ((0, 10), false, (100, all), vec![1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ((0, 10), true, (3, all), vec![9, 8, 7]),
        ((3, 6), false, (100, all), vec![4, 5]),
        ((3, 6), true, (100, all), vec![5, 4]),
        ((0, 10), false, (100, 2500), vec![1, 2]),
        ((0, 10), true, (100, 1), vec![9]),
        ((9, 10), false, (100, all), vec![]),
        ((0, 1), true, (100, all), vec![]),
    ] {
        assert_eq!(page(between, descending, limits), expected, "{between:?} {descending} {limits:?}");
    }
    let event = place.store.event(session.key, &session.id, 4).expect("read").expect("is there");
    assert_eq!((event.seq, event.time, event.name.as_str()), (4, 1004, "notice"));
    assert!(event.data.starts_with(&event_head(&session.id, 4)) && event.data.ends_with("x\"}"));
    assert_eq!(place.store.last_seq(session.key), Ok(9));
    assert_eq!(place.store.last_seq(next.key + 1), Ok(0));
}

#[test]
fn what_is_damaged_is_shown_as_that_and_nothing_else_is() {
    let place = Place::new();
    let session = place.add("mine");
    place.write((1..=4).map(|seq| event(&session, seq, r#","a":1"#)).collect());
    place.write(vec![prompt(&session, 1, "p", "hi"), ended(&session, "p", 2, "ho")]);
    let database = place.beside();
    let update = |sql: &str| database.execute_batch(sql).expect("done");
    update("UPDATE events SET data = ',\"a\":' WHERE key & 255 = 2");
    update("UPDATE events SET data = ',\"a\":1},{\"b\":2}' WHERE key & 255 = 3");
    update("UPDATE events SET essentials = '\"a\":1}{', data = CAST(x'2c22ff223a317d' AS TEXT) WHERE key & 255 = 4");
    update("UPDATE prompts SET response = ',\"promptId\":'");
    let events = place.store.events(session.key, &session.id, (0, 9), false, (9, 9999)).expect("read");
    let shown: Vec<String> = events.iter().map(|event| event.data.to_string()).collect();
    let of = |seq, members: &str| format!("{},{members}}}", event_head(&session.id, seq));
    let damaged = |seq| of(seq, r#""damaged":true"#);
    assert_eq!(shown, [of(1, r#""a":1"#), damaged(2), damaged(3), damaged(4)]);
    assert_eq!(events[3].essentials, None);
    let response = &place.store.responses(session.key, &session.id, 0, 9).expect("read")[0];
    let response: serde_json::Value = serde_json::from_str(&response.data).expect("JSON");
    assert_eq!((&response["promptId"], &response["status"]), (&"p".into(), &"failed".into()));
}

#[test]
fn a_damaged_text_hides_no_session() {
    let place = Place::new();
    place.add("mine");
    place.add("other");
    place
        .beside()
        .execute_batch("UPDATE sessions SET title = CAST(x'6dff' AS TEXT) WHERE title = 'mine'")
        .expect("done");
    assert_eq!(place.titles(None), ["other", "m\u{fffd}"]);
}

#[test]
fn a_damaged_prompt_is_not_one_to_be_run() {
    let place = Place::new();
    let session = place.add("mine");
    place.write((1..=4).map(|number| prompt(&session, number, &format!("p{number}"), "hi")).collect());
    let database = place.beside();
    database.execute_batch("UPDATE prompts SET content = '[1]' WHERE id = 'p2'").expect("done");
    database.execute_batch("UPDATE prompts SET content = '[1' WHERE id = 'p3'").expect("done");
    database.execute_batch("UPDATE prompts SET text = CAST(x'ff' AS TEXT) WHERE id = 'p4'").expect("done");
    let open = place.store.open_prompts(session.key).expect("read");
    assert_eq!(open.iter().map(|prompt| prompt.is_damaged).collect::<Vec<_>>(), [false, false, true, true]);
}

#[test]
fn questions_are_open_until_they_are_resolved() {
    let place = Place::new();
    let session = place.add("mine");
    let question = |id: &str| Change::Question(session.key, id.into());
    place.write(vec![question("a"), question("b")]);
    place.write(vec![Change::Resolved(session.key, "a".into(), "allow", "client-7".into())]);
    assert_eq!(place.store.open_questions(session.key), Ok(vec!["b".to_owned()]));
    let resolution = |id: &str| place.store.resolution(session.key, id).expect("read");
    assert_eq!(resolution("a"), Some(("allow".into(), "client-7".into())));
    assert_eq!((resolution("b"), resolution("c")), (None, None));
    assert_eq!(place.store.unfinished(), Ok(vec![session.id]));
}

#[test]
fn a_damaged_last_number_is_not_gone_on_from() {
    let place = Place::new();
    let session = place.add("mine");
    for (events, expected) in [(0, 0), (1, 1), (3, 3)] {
        let from = place.store.last_seq(session.key).expect("read") + 1;
        place.write((from..=events).map(|seq| event(&session, seq, "")).collect());
        assert_eq!(place.store.last_seq(session.key), Ok(expected));
    }
    place.beside().execute_batch("UPDATE events SET key = key + 4096 WHERE key & 255 = 3").expect("done");
    assert_eq!(place.store.last_seq(session.key), Ok(3));
    place.beside().execute_batch("DELETE FROM events WHERE key & 255 < 3").expect("done");
    assert_eq!(place.store.last_seq(session.key), Ok(1));
}
