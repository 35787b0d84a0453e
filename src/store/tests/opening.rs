use std::hash::{DefaultHasher, Hash, Hasher};

use super::*;

#[test]
fn what_was_stored_is_there_after_a_stop_and_after_a_kill() {
    let place = Place::new();
    let session = place.add("mine");
    place.write(vec![event(&session, 1, r#","a":1"#), event(&session, 2, "")]);
    let log_id = place.store.log_id().to_owned();
    let killed = Place::at(place.killed());
    assert_eq!(killed.store.session(&session.id).expect("read").as_ref(), Some(&session));
    assert_eq!((numbers(&killed.store, &session), killed.store.sessions()), (vec![1, 2], 1));
    assert_ne!(killed.store.log_id(), log_id, "numbers may have been told that were not stored");
    // Of the older numbering two are known, of the newer one three, of an unknown one nothing is.
    killed.write(vec![event(&session, 3, "")]);
    let last = |log_id: &str| killed.store.last_seq_of(session.key, log_id).expect("read");
    assert_eq!([last(&log_id), last(killed.store.log_id()), last("unknown")], [Some(2), Some(3), None]);
    let stopped = Place::at(place.stopped());
    assert_eq!(stopped.store.session(&session.id).expect("read"), Some(session));
    assert_eq!(stopped.store.log_id(), log_id);
}

#[test]
fn a_number_is_never_given_twice() {
    let place = Place::new();
    let (first, second) = (place.add("first"), place.add("second"));
    place.write(vec![Change::Delete(second.key)]);
    let killed = Place::at(place.killed());
    assert_eq!((killed.store.new_key(), killed.store.sessions()), (second.key + 1, 1));
    // Not even where only an event is left, which should not be.
    killed.write(vec![event(&row(77, ""), 1, "")]);
    let again = Place::at(killed.killed());
    assert_eq!(again.store.new_key(), 78);
    assert_eq!(again.titles(None), [first.title.expect("one")]);
}

/// The name, the size and a hash of all files of a directory that hold something, but for SQLite's index of its log, which
/// is made anew each time.
fn files(dir: &Path) -> Vec<(String, usize, u64)> {
    let entries = fs::read_dir(dir).expect("a directory");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let describe = |path: PathBuf| {
        let bytes = fs::read(&path).expect("bytes");
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        (path.file_name().expect("a name").to_string_lossy().into_owned(), bytes.len(), hasher.finish())
    };
    let mut files: Vec<_> = paths.map(describe).collect();
    files.retain(|(name, size, _)| !name.ends_with("-shm") && (*size > 0 || !name.ends_with("-wal")));
    files.sort();
    files
}

#[test]
fn a_damaged_database_is_left_as_it_is_and_can_be_set_aside() {
    type Damage = fn(&Path);
    let sql = |path: &Path, sql: &str| {
        let database = Connection::open(path).expect("opened");
        database.execute_batch(&format!("PRAGMA writable_schema = on; {sql}")).expect("done");
    };
    let cases: [(&str, &str, Damage); 10] = [
        ("empty", "is empty", |path| fs::write(path, "").expect("written")),
        ("another's file", "no SQLite database", |path| fs::write(path, [b'x'; 5000]).expect("written")),
        ("cut", "", |path| {
            let bytes = fs::read(path).expect("read");
            fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
        }),
        ("half a header", "cut off", |path| {
            let bytes = fs::read(path).expect("read");
            fs::write(path, &bytes[..60]).expect("written");
        }),
        ("another's database", "not a database of this program", |path| {
            fs::remove_file(path).expect("removed");
            let database = Connection::open(path).expect("opened");
            database.execute_batch("CREATE TABLE t (x)").expect("done");
        }),
        ("only the log", "only its write-ahead log", |path| {
            fs::rename(path, open::beside(path, "-wal")).expect("renamed");
        }),
        ("a version that differs", "its version is 2, or 7", |_| {}),
        ("another list", "lists 1 sessions in place of 3", |_| {}),
        ("an unknown conversation", "a conversation of an unknown name", |_| {}),
        ("another schema", "not those of this program", |_| {}),
    ];
    for (name, part, damage) in cases {
        let place = Place::new();
        place.add("mine");
        let dir = place.stopped();
        let path = dir.path().join(FILE_NAME);
        match name {
            "a version that differs" => sql(&path, "UPDATE meta SET value = 7 WHERE name = 'version'"),
            "another list" => sql(&path, "UPDATE meta SET value = 3 WHERE name = 'sessions'"),
            "an unknown conversation" => sql(&path, "UPDATE conversations SET uuid = 'another'"),
            "another schema" => {
                sql(&path, "UPDATE sqlite_schema SET sql = replace(sql, '+ 1', '+ 2') WHERE name = 'sessions_more'");
            }
            _ => damage(&path),
        }
        let before = files(dir.path());
        match open(dir.path()) {
            Err(OpenError::Damaged(what)) if what.contains(part) => {}
            Err(other) => panic!("{name}: {other:?}"),
            Ok(_) => panic!("{name}: opened"),
        }
        assert_eq!(files(dir.path()), before, "{name}: untouched");
        let aside = Store::set_aside(dir.path()).expect("set aside");
        let store = open(dir.path()).expect("a new one");
        assert_eq!(store.sessions(), 0, "{name}");
        store.close();
        let aside = aside.file_name().expect("a name").to_string_lossy().into_owned();
        let kept = files(dir.path()).into_iter().filter_map(|(name, size, hash)| {
            let tail = name.strip_prefix(&aside)?;
            Some((format!("{FILE_NAME}{tail}"), size, hash))
        });
        assert_eq!(kept.collect::<Vec<_>>(), before, "{name}: set aside whole");
    }
}

#[test]
fn damage_behind_a_kill_leaves_the_log_too() {
    let place = Place::new();
    place.add("mine");
    place.beside().execute_batch("UPDATE meta SET value = 3 WHERE name = 'sessions'").expect("done");
    let dir = place.killed();
    let before = files(dir.path());
    assert!(before.iter().any(|(name, ..)| name.ends_with("-wal")), "{before:?}");
    assert!(matches!(open(dir.path()), Err(OpenError::Damaged(_))));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_newer_database_is_told_from_a_damaged_one() {
    let dir = Place::new().stopped();
    let database = Connection::open(dir.path().join(FILE_NAME)).expect("opened");
    database.execute_batch("PRAGMA user_version = 9; UPDATE meta SET value = 9 WHERE name = 'version'").expect("done");
    drop(database);
    let before = files(dir.path());
    assert!(matches!(open(dir.path()), Err(OpenError::Newer(what)) if what.contains("schema 9")));
    assert_eq!(files(dir.path()), before);
}

/// As the first release left it.
#[test]
fn an_older_database_is_brought_up_to_date_and_keeps_what_it_has() {
    let place = Place::new();
    let session = place.add("mine");
    place.write(vec![event(&session, 1, ""), prompt(&session, 1, "p1", "words")]);
    let dir = place.stopped();
    let database = Connection::open(dir.path().join(FILE_NAME)).expect("opened");
    let older = "ALTER TABLE sessions DROP COLUMN account; ALTER TABLE prompts DROP COLUMN uuid; \
                 PRAGMA user_version = 1; UPDATE meta SET value = 1 WHERE name = 'version'";
    database.execute_batch(older).expect("done");
    drop(database);
    let place = Place::at(dir);
    assert_eq!(place.store.session(&session.id).expect("read").as_ref(), Some(&session));
    assert_eq!(numbers(&place.store, &session), [1]);
    place.write(vec![prompt(&session, 2, "p2", "more words")]);
    let open = place.store.open_prompts(session.key).expect("read");
    let ids: Vec<_> = open.iter().map(|prompt| prompt.id.as_str()).collect();
    let names: Vec<_> = open.iter().map(|prompt| prompt.uuid.clone().expect("a name")).collect();
    assert_eq!((ids.as_slice(), names[1].as_str()), (["p1", "p2"].as_slice(), "uuid of p2"));
    // Claude's name for a prompt that waits is given once: viewers are told it.
    let shape: String = names[0].chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
    assert_eq!(shape, "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx");
    assert_eq!((&names[0][14..15], &names[0][19..20]), ("4", "8"));
    let place = Place::at(place.stopped());
    assert_eq!(place.store.open_prompts(session.key).expect("read")[0].uuid.as_ref(), Some(&names[0]));
    let with_account = SessionRow { account: Some("{}".into()), ..session };
    place.write(vec![Change::Session(with_account.clone().into())]);
    let stopped = Place::at(place.stopped());
    assert_eq!(stopped.store.session(&with_account.id).expect("read"), Some(with_account));
}

#[test]
fn a_copy_that_another_program_has_made_is_good() {
    let place = Place::new();
    let session = place.add("mine");
    let copy = directory();
    let target = copy.path().join(FILE_NAME);
    place.beside().execute("VACUUM INTO ?1", [target.to_str().expect("a path")]).expect("copied");
    let place = Place::at(copy);
    assert_eq!(place.titles(None), ["mine"]);
    place.write(vec![event(&session, 1, "")]);
    let mode: String = place.beside().query_row("PRAGMA journal_mode", [], |row| row.get(0)).expect("read");
    assert_eq!(mode, "wal");
}

#[test]
fn a_database_that_was_not_finished_is_begun_again() {
    let dir = directory();
    for tail in ["", "-journal", "-wal"] {
        fs::write(dir.path().join(format!("sessions.new{tail}")), "half").expect("written");
    }
    let place = Place::at(dir);
    place.add("mine");
    assert!(!fs::exists(place.dir.path().join("sessions.new")).expect("looked"));
}

#[test]
fn what_a_start_and_a_list_read_is_found_by_index() {
    let place = Place::new();
    let database = place.beside();
    let plan = |sql: &str| -> String {
        let mut statement = database.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let values = vec![rusqlite::types::Null; statement.parameter_count()];
        let lines = statement.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3));
        lines.expect("a plan").map(|line| line.expect("a line")).collect::<Vec<_>>().join("; ")
    };
    for (sql, index) in [
        (list::list_sql().as_str(), "INDEX sessions_by_activity"),
        (list::SEARCH_SQL, "COVERING INDEX sessions_by_activity"),
        (query::UNFINISHED, "INDEX prompts_open"),
        (query::UNFINISHED, "INDEX questions_open"),
        (query::LAST_SEQ, "SEARCH events USING INTEGER PRIMARY KEY"),
        (query::OPEN_PROMPTS, "INDEX prompts_open"),
        (query::RESPONSES, "SEARCH prompts USING INTEGER PRIMARY KEY"),
    ] {
        let plan = plan(sql);
        assert!(plan.contains(index), "{sql}: {plan}");
        let scans_all = plan.split("; ").any(|step| step.starts_with("SCAN") && !step.contains("INDEX"));
        assert!(!scans_all, "{sql}: {plan}");
    }
    assert!(!plan(&list::list_sql()).contains("TEMP B-TREE"), "sorted by the index");
}

#[test]
fn what_was_said_is_nobody_elses_business() {
    use std::os::unix::fs::PermissionsExt;
    let dir = directory();
    let store = open(dir.path()).expect("a new database");
    for name in ["sessions.db", "sessions.db-wal"] {
        let metadata = std::fs::metadata(dir.path().join(name)).expect("it is there");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    store.close();
}
