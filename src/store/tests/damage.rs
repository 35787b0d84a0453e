use super::*;

/// Flips and cuts; more with `CSM_TEST_FLIPS`.
const ROUNDS: u64 = 300;

/// Sessions in the database.
const SESSIONS: usize = 30;

/// A database with something in every table, in one file.
fn database() -> TempDir {
    let place = Place::new();
    for number in 0..SESSIONS {
        let session = place.add(&format!("Session number {number}"));
        place.write(vec![prompt(&session, 1, "p", "What is it?"), Change::Said(session.key, "What is it?".into())]);
        place.write((1..=20).map(|seq| event(&session, seq, &format!(r#","x":"{}""#, "x".repeat(100)))).collect());
        place.write(vec![ended(&session, "p", 20, "It is that."), Change::Said(session.key, "It is that.".into())]);
        place.write(vec![prompt(&session, 2, "q", "What else?"), Change::Question(session.key, "r".into())]);
    }
    place.stopped()
}

/// All that a server does with what it has.
fn use_all(place: &Place, what: &str) {
    let rows = place.store.list(None, None, 2 * SESSIONS).unwrap_or_else(|trouble| panic!("{what}: {trouble:?}"));
    assert_eq!((rows.len(), place.store.sessions()), (SESSIONS, SESSIONS), "{what}");
    let _ = place.store.query("what").and_then(|query| place.store.list(Some(&query), None, 5));
    let _ = place.store.unfinished().expect("found");
    for row in &rows {
        let _ = place.store.events(row.key, &row.id, (0, 30), true, (100, 100_000));
        let _ = place.store.responses(row.key, &row.id, 0, 30);
        let _ = place.store.open_prompts(row.key);
        let _ = place.store.open_questions(row.key);
        let _ = place.store.last_seq(row.key);
    }
    // What is asked is kept or refused, and either way what was there stays.
    for row in rows.iter().take(3) {
        let _ = place.submit_as(vec![prompt(row, 3, "new", "new"), Change::Said(row.key, "new".into())], true).wait();
        let _ = place.submit(vec![event(row, 21, "")]).wait();
    }
    assert_eq!(place.store.list(None, None, 2 * SESSIONS).map(|rows| rows.len()), Ok(SESSIONS), "{what}");
}

#[test]
fn a_damaged_database_is_refused_or_has_a_whole_list() {
    let rounds = std::env::var("CSM_TEST_FLIPS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let seed = std::env::var("CSM_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..1 << 32));
    let sound = database();
    let bytes = fs::read(sound.path().join(FILE_NAME)).expect("read");
    let (mut refused, mut served) = (0, 0);
    for round in 0..rounds {
        let mut random = fastrand::Rng::with_seed(seed + round);
        let mut damaged = bytes.clone();
        let at = match random.u8(..10) {
            // The first page holds the most that matters.
            0..3 => random.usize(..4096),
            _ => random.usize(..bytes.len()),
        };
        let cut = random.u8(..10) == 0;
        let what =
            format!("CSM_TEST_SEED={} {}: {at} of {}", seed + round, if cut { "cut" } else { "flip" }, bytes.len());
        if cut {
            damaged.truncate(at);
        } else {
            damaged[at] ^= 1 << random.u8(..8);
        }
        let dir = directory();
        fs::write(dir.path().join(FILE_NAME), &damaged).expect("written");
        match open(dir.path()) {
            Err(OpenError::Damaged(_)) => {
                refused += 1;
                assert!(fs::read(dir.path().join(FILE_NAME)).expect("read") == damaged, "{what}: it was touched");
            }
            Err(other) => panic!("{what}: {other:?}"),
            Ok(store) => {
                served += 1;
                use_all(&Place { store, dir }, &what);
            }
        }
    }
    assert!(refused > 0 && served > 0, "{refused} refused, {served} served");
}
