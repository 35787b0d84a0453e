use super::*;

/// As [`Place::new`], with a writer that waits no longer than a moment for another one.
fn impatient() -> Place {
    let dir = directory();
    open(dir.path()).expect("made").close();
    let path = dir.path().join(FILE_NAME);
    let opened = open::open(&path).expect("sound");
    opened.connection.busy_timeout(Duration::from_millis(1)).expect("set");
    Place { store: start(path, opened, Arc::default()).expect("started"), dir }
}

#[test]
fn a_prompt_is_accepted_once_under_its_name() {
    let place = Place::new();
    let (one, two) = (place.add("one"), place.add("two"));
    let cases = [
        (&one, "a", "hi", Accepted::New),
        (&one, "a", "hi", Accepted::Again),
        (&one, "a", "ho", Accepted::Conflict),
        (&one, "b", "hi", Accepted::New),
        (&two, "a", "ho", Accepted::New),
    ];
    for (number, (session, id, text, expected)) in (1..).zip(cases) {
        let found = place.write(vec![prompt(session, number, id, text), Change::Said(session.key, id.into())]);
        assert_eq!(found, expected, "{} {id} {text}", session.id);
    }
    // What comes with one that is not new is not written either.
    let indexed: i64 = place.beside().query_row("SELECT count(*) FROM search", [], |row| row.get(0)).expect("counted");
    assert_eq!(indexed, 4, "a title and a stretch of each");
    let sql = "SELECT body FROM stretches ORDER BY session";
    let bodies: Vec<String> = (place.beside().prepare(sql).expect("prepared").query_map([], |row| row.get(0)))
        .expect("read")
        .collect::<Result<_, _>>()
        .expect("texts");
    assert_eq!(bodies, ["a\nb", "a"], "each once");
    let mut other = prompt(&one, 9, "a", "hi");
    if let Change::Accept(prompt) = &mut other {
        prompt.content = Some("[]".into());
    }
    assert_eq!(place.write(vec![other]), Accepted::Conflict, "the same words with something else");
}

#[test]
fn the_states_of_a_prompt_go_one_way() {
    let place = Place::new();
    let session = place.add("mine");
    place.write((1..=3).map(|number| prompt(&session, number, &format!("p{number}"), "hi")).collect());
    let written = |id: &str| Change::Written(session.key, id.into());
    let not_written = |id: &str| Change::NotWritten(session.key, id.into());
    place.write(vec![written("p1"), written("p2"), not_written("p2"), Change::Asked(session.key, "p1".into(), 4)]);
    let open = || {
        let prompts = place.store.open_prompts(session.key).expect("read");
        prompts.into_iter().map(|prompt| (prompt.id, prompt.number, prompt.state, prompt.seq)).collect::<Vec<_>>()
    };
    let state = |id: &str| place.store.prompt(session.key, id).expect("read").map(|prompt| prompt.state);
    assert_eq!(
        open(),
        [
            ("p1".into(), 1, PromptState::Written, Some(4)),
            ("p2".into(), 2, PromptState::Accepted, None),
            ("p3".into(), 3, PromptState::Accepted, None),
        ]
    );
    // One that is over stays over.
    place.write(vec![ended(&session, "p1", 5, "ho"), written("p1"), not_written("p1")]);
    assert_eq!((open().len(), state("p1"), state("p9")), (2, Some(PromptState::Done), None));
    assert_eq!(place.store.unfinished().expect("read"), [session.id]);
}

#[test]
fn all_that_waits_is_written_together_in_its_order() {
    const SUBMISSIONS: u64 = 500;
    let place = impatient();
    let session = place.add("mine");
    let lock = place.beside();
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let (told, order) = crossbeam_channel::unbounded();
    let on_its_way = Arc::new(());
    for seq in 1..=SUBMISSIONS {
        let told = told.clone();
        let done: Done = Box::new(move |outcome| told.send((seq, outcome)).expect("somebody listens"));
        let changes = vec![event(&session, seq, "")];
        place.store.submit(Submission { changes, done: vec![done], refusable: false, on_its_way: on_its_way.clone() });
    }
    assert!(Arc::strong_count(&on_its_way) > 1 && order.is_empty());
    lock.execute_batch("COMMIT").expect("unlocked");
    let outcomes: Vec<_> = (0..SUBMISSIONS).map(|_| order.recv_timeout(DEADLINE).expect("an outcome")).collect();
    assert_eq!(outcomes, (1..=SUBMISSIONS).map(|seq| (seq, Ok(Accepted::New))).collect::<Vec<_>>());
    // A later one is done when everything of them is.
    place.write(vec![]);
    assert_eq!(Arc::strong_count(&on_its_way), 1, "nothing of it is on its way");
    assert_eq!(numbers(&place.store, &session), (1..=SUBMISSIONS).collect::<Vec<_>>());
}

#[test]
fn in_trouble_what_can_be_refused_is_and_the_rest_is_held_back() {
    let place = impatient();
    let session = place.add("mine");
    let lock = place.beside();
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let held = place.submit(vec![event(&session, 1, "")]);
    let refused = place.submit_as(vec![prompt(&session, 1, "p", "hi")], true);
    assert_eq!(refused.wait(), Err(Trouble::Full));
    let held_too = place.submit(vec![event(&session, 2, ""), ended(&session, "p", 2, "")]);
    let refused = place.submit_as(vec![prompt(&session, 2, "q", "hi")], true);
    assert_eq!(refused.wait(), Err(Trouble::Full));
    assert!(place.store.in_trouble() && held.is_pending() && held_too.is_pending());
    assert_eq!(place.store.session(&session.id), Ok(Some(session.clone())), "what is there can be read");
    lock.execute_batch("ROLLBACK").expect("unlocked");
    assert_eq!((held.wait(), held_too.wait()), (Ok(Accepted::New), Ok(Accepted::New)));
    assert_eq!(place.submit_as(vec![prompt(&session, 3, "p", "hi")], true).wait(), Ok(Accepted::New));
    assert_eq!((numbers(&place.store, &session), place.store.in_trouble()), (vec![1, 2], false));
}

#[test]
fn what_waits_is_counted() {
    let place = impatient();
    let session = place.add("mine");
    let lock = place.beside();
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let megabyte = format!(r#","text":"{}""#, "x".repeat(1 << 20));
    let waiting: Vec<Pending> = (1..=17).map(|seq| place.submit(vec![event(&session, seq, &megabyte)])).collect();
    assert!(place.store.is_behind());
    lock.execute_batch("COMMIT").expect("unlocked");
    waiting.iter().for_each(|pending| assert_eq!(pending.wait(), Ok(Accepted::New)));
    assert!(!place.store.is_behind());
}

#[test]
fn a_session_whose_part_is_damaged_takes_no_other_with_it() {
    let place = impatient();
    let (sound, damaged) = (place.add("sound"), place.add("damaged"));
    // Its next event's place is taken.
    place.write(vec![event(&damaged, 1, ""), event(&damaged, 3, "")]);
    let lock = place.beside();
    lock.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let outcomes = [
        place.submit(vec![event(&sound, 1, "")]),
        place.submit(vec![event(&damaged, 2, ""), event(&damaged, 3, "")]),
        place.submit(vec![event(&damaged, 4, "")]),
        place.submit(vec![event(&sound, 2, "")]),
    ];
    lock.execute_batch("COMMIT").expect("unlocked");
    drop(lock);
    let (good, bad) = (Ok(Accepted::New), Err(Trouble::Damaged));
    assert_eq!(outcomes.map(|pending| pending.wait()), [good, bad, bad, good]);
    assert_eq!(place.submit(vec![event(&damaged, 4, "")]).wait(), bad, "no hole");
    assert_eq!(place.submit_as(vec![prompt(&damaged, 1, "p", "hi")], true).wait(), bad);
    assert_eq!(place.submit(vec![event(&sound, 3, "")]).wait(), good);
    assert_eq!((numbers(&place.store, &sound), numbers(&place.store, &damaged)), (vec![1, 2, 3], vec![1, 3]));
    assert_eq!(place.submit(vec![Change::Delete(damaged.key)]).wait(), good, "it can be deleted");
    let place = Place::at(place.stopped());
    assert_eq!(place.titles(None), ["sound"]);
}

#[test]
fn without_its_index_everything_but_the_search_goes_on() {
    let place = Place::new();
    let session = place.add("before");
    place.beside().execute_batch("UPDATE search_data SET block = x'ff'; DELETE FROM search_idx").expect("broken");
    let dir = place.killed();
    let place = Place::at(dir);
    let accept = |number, id| vec![prompt(&session, number, id, "hi"), Change::Said(session.key, "hi".into())];
    assert_eq!(place.submit_as(accept(1, "p"), true).wait(), Ok(Accepted::New));
    assert_eq!(place.submit_as(accept(2, "q"), true).wait(), Ok(Accepted::New));
    assert_eq!(place.submit_as(accept(3, "q"), true).wait(), Ok(Accepted::Again));
    let other = place.add("after");
    place.write(vec![Change::Delete(other.key)]);
    assert_eq!(place.titles(None), ["before"]);
}

#[test]
fn a_deleted_session_leaves_nothing_but_the_name_of_its_conversation() {
    let place = Place::new();
    let (gone, stays) = (place.add("gone away"), place.add("stays here"));
    for session in [&gone, &stays] {
        place.write(vec![
            event(session, 1, ""),
            prompt(session, 1, "p", "words of the prompt"),
            Change::Said(session.key, "words of the prompt".into()),
            ended(session, "p", 1, "words of the reply"),
            Change::Said(session.key, "words of the reply".into()),
            Change::Question(session.key, "r".into()),
        ]);
    }
    place.write(vec![Change::Delete(gone.key)]);
    assert_eq!((place.store.sessions(), place.titles(None)), (1, vec!["stays here".to_owned()]));
    assert_eq!(place.titles(Some("words")), ["stays here"]);
    assert!(place.titles(Some("gone")).is_empty());
    assert_eq!((numbers(&place.store, &gone), numbers(&place.store, &stays)), (vec![], vec![1]));
    let left = |sql: &str| -> i64 { place.beside().query_row(sql, [], |row| row.get(0)).expect("counted") };
    for table in ["events", "prompts", "questions", "sessions"] {
        assert_eq!(left(&format!("SELECT count(*) FROM {table}")), 1, "{table}");
    }
    assert_eq!((left("SELECT count(*) FROM search"), left("SELECT count(*) FROM stretches")), (2, 1));
    assert_eq!(place.store.is_known_conversation(&gone.uuid), Ok(true));
    assert_eq!(place.store.session_of(&gone.uuid), Ok(None));
}

#[test]
fn a_session_is_found_by_the_conversation_that_it_is_in() {
    let place = Place::new();
    let before = place.add("one");
    place.add("other");
    assert_eq!(place.store.session_of(&before.uuid), Ok(Some(before.clone())));
    let after = SessionRow { uuid: "another conversation".into(), ..before.clone() };
    place.write(vec![Change::Session(Box::new(after.clone()))]);
    assert_eq!(place.store.session_of(&before.uuid), Ok(None));
    assert_eq!(place.store.session_of(&after.uuid), Ok(Some(after)));
}

#[test]
fn a_fork_has_what_was_said_and_goes_its_own_way() {
    let place = Place::new();
    let old = place.add("old");
    place.write(vec![
        event(&old, 1, r#","n":1"#),
        prompt(&old, 1, "p", "an apple"),
        ended(&old, "p", 1, "a pear"),
        event(&old, 2, r#","n":2"#),
        prompt(&old, 2, "q", "a cherry"),
        event(&old, 3, r#","n":3"#),
    ]);
    let new = row(place.store.new_key(), "new");
    let fork = Change::Fork { to: new.key, from: old.key, seq: 2 };
    place.write(vec![Change::Session(new.clone().into()), fork]);
    let data = |session: &SessionRow, seq| {
        let event = place.store.event(session.key, &session.id, seq).expect("read");
        event.map(|event| event.data.to_string())
    };
    assert_eq!(data(&new, 2), Some(format!(r#"{},"n":2}}"#, event_head(&new.id, 2))));
    assert_eq!(data(&new, 3), None);
    let responses = place.store.responses(new.key, &new.id, 0, 9).expect("read");
    assert_eq!(responses.len(), 1);
    assert!(responses[0].data.starts_with(&response_head(&new.id)) && responses[0].data.contains("a pear"));
    for (query, expected) in [("apple", vec!["new"]), ("pear", vec!["new"]), ("cherry", vec![])] {
        assert_eq!(place.titles(Some(query)), expected, "{query}: what is copied is indexed, the old one was not here");
    }
    place.write(vec![event(&new, 3, ""), Change::Delete(old.key)]);
    assert_eq!(numbers(&place.store, &new), [1, 2, 3]);
    assert_eq!(place.titles(Some("apple")), ["new"]);
}
