//! The disk is full, fails, or is not there; the directory of a session is gone; the database is not what it was.

use std::{
    fs,
    os::unix::fs::{FileExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::{answered, ask_as, client, database_file, history, ids, kill, ledger, on, place, stop, summary};
use crate::{
    scene::EXE,
    support::{
        DEADLINE,
        client::Client,
        processes::eventually,
        server::{Builder, Server},
        workspace::Workspace,
    },
};

/// The same server, started by a shell script that does this first.
fn on_behind(place: &Arc<Workspace>, first: &str, exec: &str) -> Builder {
    let path = place.root().join("server");
    fs::write(&path, format!("#!/bin/sh\n{first}\nexec {exec} '{EXE}' \"$@\"\n")).expect("the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    let ledger = super::ledger_file(place).display().to_string();
    Server::builder(path).workspace(place).bad_agent(&["proper"]).env("BAD_AGENT_LEDGER", ledger)
}

/// No file that the server writes may grow beyond this; none: as large as it likes.
fn limit_files(server: &Server, bytes: Option<u64>) {
    let limit = libc::rlimit { rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY), rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is read during the call, nothing is written.
    let done = unsafe { libc::prlimit(server.pid(), libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

/// How the disk of a server fails, and works again.
enum Disk {
    /// Files cannot grow any more.
    Full,
    /// Its syncs fail.
    Failing(PathBuf),
}

impl Disk {
    fn start(&self, place: &Arc<Workspace>) -> Server {
        match self {
            // What a full disk is to others, a limit is to one process; the signal that comes with it is no part of it.
            Disk::Full => on_behind(place, "trap '' XFSZ", "").start(),
            Disk::Failing(armed) => {
                let server = on(place).env("CSM_FAILPOINT", "io:commit:1");
                server.env("CSM_FAILPOINT_SINCE", armed.display().to_string()).start()
            }
        }
    }

    fn fail(&self, server: &Server) {
        match self {
            Disk::Full => limit_files(server, Some(1)),
            Disk::Failing(armed) => fs::write(armed, "").expect("a file"),
        }
    }

    fn heal(&self, server: &Server) {
        match self {
            Disk::Full => limit_files(server, None),
            Disk::Failing(armed) => fs::remove_file(armed).expect("the file"),
        }
    }
}

fn on_bad_disks(test: impl Fn(&Disk, &Arc<Workspace>)) {
    for failing in [false, true] {
        let place = place();
        let disk = if failing { Disk::Failing(place.root().join("failing")) } else { Disk::Full };
        test(&disk, &place);
    }
}

#[test]
fn a_full_disk_refuses_what_it_cannot_keep_and_holds_back_what_runs() {
    on_bad_disks(|disk, place| {
        let server = disk.start(place);
        let (asking, session) = client(&server, json!({}));
        let (new, reserved) = client(&server, json!({}));
        answered(&asking, &session, "before", "words 1");
        let go = place.root().join("go");
        let running = format!("wait {}", go.display());
        assert_eq!(ask_as(&asking, &session, "running", &running)["ok"], true);
        asking.wait_chunk("running");
        assert_eq!(ask_as(&asking, &session, "waiting", "words 2")["ok"], true);

        disk.fail(&server);
        let refused = ask_as(&asking, &session, "refused", "words 3");
        assert_eq!(refused["error"]["code"], "storage_full");
        assert!(refused["error"]["message"].as_str().is_some_and(|text| text.contains("make room")));
        let agents = server.started().len();
        assert_eq!(ask_as(&new, &reserved, "refused", "words 3")["error"]["code"], "storage_full");
        assert_eq!(new.must_fail("createSession", json!({}))["code"], "storage_full");
        assert_eq!(new.must_fail("forkSession", json!({"sessionId": session}))["code"], "storage_full");
        assert_eq!(server.started().len(), agents, "nothing is started for what cannot be kept");
        server.wait_log("cannot write to the data directory");
        // What is there can be read, and what runs goes on before the viewers' eyes; the next one is not begun.
        assert_eq!(ids(&new.must("listSessions", json!({}))), [session.as_str()]);
        assert!(!history(&new, &session).is_empty());
        fs::write(&go, "").expect("the file");
        assert_eq!(asking.wait_response("running")["status"], "done");
        assert_eq!(summary(&new, &session)["running"], "waiting");
        assert_eq!(ledger(place), ["words 1", running.as_str()]);
        assert_eq!(server.http("GET", "/health", &[]).json()["status"], "ok");

        disk.heal(&server);
        assert_eq!(asking.wait_response("waiting")["fullResponse"], "w1 w2");
        server.wait_log("the data directory can be written again");
        assert_eq!(answered(&asking, &session, "refused", "words 3")["fullResponse"], "w1 w2 w3");
        assert_eq!(answered(&new, &reserved, "refused", "words 4")["status"], "done");
        let whole = history(&asking, &session);
        kill(server);
        // Nothing of it was lost.
        let next = on(place).start();
        let (back, _) = client(&next, json!({"sessionId": session, "afterSeq": 0}));
        for id in ["before", "running", "waiting", "refused"] {
            assert_eq!(back.wait_response(id)["status"], "done", "{id}");
        }
        assert_eq!(history(&back, &session), whole);
        assert_eq!(ledger(place), ["words 1", running.as_str(), "words 2", "words 3", "words 4"]);
        stop(next);
    });
}

#[test]
fn what_was_acknowledged_before_the_disk_was_full_survives_a_kill() {
    on_bad_disks(|disk, place| {
        let server = disk.start(place);
        let (asking, session) = client(&server, json!({}));
        let go = place.root().join("go");
        assert_eq!(ask_as(&asking, &session, "running", &format!("wait {}", go.display()))["ok"], true);
        asking.wait_chunk("running");
        for id in ["one", "two"] {
            assert_eq!(ask_as(&asking, &session, id, &format!("words 2 {id}"))["ok"], true);
        }
        disk.fail(&server);
        assert_eq!(ask_as(&asking, &session, "refused", "words 3")["error"]["code"], "storage_full");
        fs::write(&go, "").expect("the file");
        asking.wait_response("running");
        kill(server);
        let _ = fs::remove_file(place.root().join("failing"));
        let next = on(place).start();
        let (back, _) = client(&next, json!({"sessionId": session, "afterSeq": 0}));
        // Its end was seen, but never kept.
        assert_eq!(back.wait_response("running")["status"], "interrupted");
        for id in ["one", "two"] {
            assert_eq!(back.wait_response(id)["status"], "done");
        }
        history(&back, &session);
        assert_eq!(ledger(place)[1..], ["words 2 one", "words 2 two"], "what was refused has not run");
        stop(next);
    });
}

#[test]
fn nothing_is_told_to_be_stopped_that_the_next_server_would_run() {
    let stops = [("cancelPrompt", json!({"promptId": "waiting"}), "busy"), ("closeSession", json!({}), "stopped")];
    for (event, data, state) in stops {
        on_bad_disks(|disk, place| {
            let server = disk.start(place);
            let (asking, session) = client(&server, json!({}));
            let go = place.root().join("go");
            assert_eq!(ask_as(&asking, &session, "running", &format!("wait {}", go.display()))["ok"], true);
            asking.wait_chunk("running");
            assert_eq!(ask_as(&asking, &session, "waiting", "words 2")["ok"], true);
            disk.fail(&server);
            let mut data = data.clone();
            data["sessionId"] = json!(session);
            let stopping = asking.start_emit(event, data);
            assert_eq!(asking.wait_response("waiting")["status"], "interrupted");
            eventually(state, DEADLINE, || summary(&asking, &session)["state"] == state);
            kill(server);
            assert_eq!(asking.try_wait_ack(stopping), None, "{event}: it is not on the disk");
            let next = on(place).start();
            let (back, _) = client(&next, json!({"sessionId": session, "afterSeq": 0}));
            assert_eq!(back.wait_response("waiting")["status"], "done");
            stop(next);
        });
    }
}

#[test]
fn a_server_stops_in_time_although_its_disk_is_full() {
    on_bad_disks(|disk, place| {
        let server = disk.start(place);
        let (asking, session) = client(&server, json!({}));
        answered(&asking, &session, "before", "words 1");
        let go = place.root().join("go");
        assert_eq!(ask_as(&asking, &session, "running", &format!("wait {}", go.display()))["ok"], true);
        asking.wait_chunk("running");
        disk.fail(&server);
        assert_eq!(server.stop().code(), Some(0));
        server.wait_log("changes could not be stored before the end");
        let _ = fs::remove_file(place.root().join("failing"));
        // Which was no clean end: numbers were told that are not known.
        let next = on(place).start();
        let (back, _) = client(&next, json!({"sessionId": session, "afterSeq": 0}));
        assert_ne!(back.registered()["logId"], asking.registered()["logId"]);
        assert_eq!(back.wait_response("running")["status"], "interrupted");
        assert_eq!(back.wait_response("before")["status"], "done");
        stop(next);
    });
}

#[test]
fn a_data_directory_that_cannot_be_written_is_told_in_one_line() {
    // Root may write anywhere, unless it gives that up.
    let root = "test \"$(id -u)\" = 0 && exec setpriv --bounding-set=-dac_override,-dac_read_search -- ";
    let first = format!("{root}'{EXE}' \"$@\"");
    for fresh in [true, false] {
        let place = place();
        if !fresh {
            stop(on(&place).start());
        }
        fs::create_dir_all(place.data()).expect("the directory");
        let token = place.root().join("token");
        fs::write(&token, "x".repeat(43)).expect("a token");
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("private");
        fs::set_permissions(place.data(), fs::Permissions::from_mode(0o555)).expect("read-only");
        let token = format!("--token-file={}", token.display());
        let ended = on_behind(&place, &first, "").arg(token).run();
        fs::set_permissions(place.data(), fs::Permissions::from_mode(0o755)).expect("writable");
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        let data = place.data().display().to_string();
        assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains(&data), "fresh: {fresh}: {}", ended.stderr);
    }
}

/// A place with a database in which something was said, and that session.
fn used() -> (Arc<Workspace>, String) {
    let place = place();
    let server = on(&place).start();
    let (asking, session) = client(&server, json!({}));
    answered(&asking, &session, "p1", "words 3");
    stop(server);
    (place, session)
}

/// The names and the content of everything in the data directory but the locks and what SQLite makes anew each time.
fn content(place: &Workspace) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(place.data()).expect("the directory").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let read = |path: PathBuf| (name(&path), fs::read(&path).unwrap_or_default());
    let mut content: Vec<_> = entries.map(read).collect();
    let comes_anew = |name: &str, bytes: &[u8]| name.ends_with("-shm") || name.ends_with("-wal") && bytes.is_empty();
    content.retain(|(name, bytes)| name.starts_with("sessions.") && !comes_anew(name, bytes));
    content.sort();
    content
}

#[test]
fn a_damaged_database_is_not_touched_and_can_be_set_aside() {
    let change = |place: &Workspace, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(database_file(place)).expect("the database");
        change(&mut bytes);
        fs::write(database_file(place), bytes).expect("written");
    };
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 5] = [
        ("empty", Vec::clear),
        ("cut", |bytes| bytes.truncate(bytes.len() / 2)),
        ("not a database", |bytes| bytes.fill(b'x')),
        ("its header", |bytes| bytes[20] = 1),
        ("its first page", |bytes| bytes[104..140].fill(0xff)),
    ];
    for (what, damage) in cases {
        let (place, session) = used();
        change(&place, &damage);
        let before = content(&place);
        let ended = on(&place).run();
        assert_eq!(ended.code, Some(3), "{what}: {}", ended.stderr);
        let lines: Vec<&str> = ended.stderr.lines().collect();
        let file = database_file(&place).display().to_string();
        assert!(
            lines.len() == 1 && lines[0].contains(&file) && lines[0].contains("--recover"),
            "{what}: {}",
            ended.stderr
        );
        assert!(content(&place) == before, "{what}: it was touched");
        // The data directory is free again.
        let ended = on(&place).run();
        assert_eq!(ended.code, Some(3), "{what}: {}", ended.stderr);

        let server = on(&place).arg("--recover").start();
        let line = server.wait_log("the database is damaged");
        let (asking, other) = client(&server, json!({"sessionId": session}));
        assert!(other != session && asking.must("listSessions", json!({}))["sessions"] == json!([]), "{what}");
        answered(&asking, &other, "p1", "words 1");
        stop(server);
        let aside: Vec<_> = content(&place).into_iter().filter(|(name, _)| name.contains(".damaged-")).collect();
        assert!(aside.len() == before.len() && aside[0].1 == before[0].1, "{what}: set aside as it was");
        assert!(line.contains(&aside[0].0), "{what}: {line}");
        // Once is enough, and again changes nothing.
        let server = on(&place).arg("--recover").start();
        let (asking, _) = client(&server, json!({}));
        assert_eq!(ids(&asking.must("listSessions", json!({}))), [other], "{what}");
        stop(server);
    }
}

#[test]
fn damage_is_found_behind_a_kill_too() {
    let place = place();
    let server = on(&place).start();
    let (asking, session) = client(&server, json!({}));
    for number in 0..5 {
        answered(&asking, &session, &format!("p{number}"), "words 3");
    }
    kill(server);
    let log = place.data().join("sessions.db-wal");
    let mut bytes = fs::read(&log).expect("the log");
    bytes[3000] ^= 4;
    fs::write(&log, bytes).expect("written");
    let before = content(&place);
    let ended = on(&place).run();
    assert!(ended.code == Some(3) && ended.stderr.contains("write-ahead log is damaged"), "{}", ended.stderr);
    assert!(content(&place) == before, "it was touched");
}

#[test]
fn a_newer_database_is_left_alone() {
    let (place, _) = used();
    let database = rusqlite::Connection::open(database_file(&place)).expect("the database");
    database.execute_batch("PRAGMA user_version = 9; UPDATE meta SET value = 9 WHERE name = 'version'").expect("newer");
    drop(database);
    let before = content(&place);
    for recover in [false, true] {
        let builder = if recover { on(&place).arg("--recover") } else { on(&place) };
        let ended = builder.run();
        assert_eq!(ended.code, Some(4), "{}", ended.stderr);
        assert!(ended.stderr.lines().count() == 1 && ended.stderr.contains("newer version"), "{}", ended.stderr);
        assert!(content(&place) == before, "it was touched");
    }
}

#[test]
fn a_session_whose_directory_has_vanished_waits_for_it() {
    let place = place();
    let server = on(&place).start();
    let (asking, _) = client(&server, json!({}));
    let folder = place.work().join("project");
    fs::create_dir(&folder).expect("a directory");
    let wish = json!({"cwd": folder.display().to_string()});
    let id = asking.must("createSession", wish)["session"]["sessionId"].as_str().expect("an id").to_owned();
    answered(&asking, &id, "p1", "cwd");
    stop(server);
    fs::rename(&folder, place.work().join("elsewhere")).expect("moved");

    let server = on(&place).start();
    let (asking, _) = client(&server, json!({"sessionId": id}));
    let (other, plain) = client(&server, json!({}));
    assert!(!history(&asking, &id).is_empty(), "what was said can be read");
    let failed = |client: &Client, prompt_id: &str| {
        assert_eq!(ask_as(client, &id, prompt_id, "cwd")["ok"], true);
        let response = client.wait_response(prompt_id);
        assert_eq!(response["status"], "failed");
        let error = response["error"].as_str().expect("a reason").to_owned();
        assert!(error.contains(&folder.display().to_string()), "{error}");
    };
    failed(&asking, "p2");
    let summary_now = summary(&asking, &id);
    assert_eq!((&summary_now["state"], &summary_now["failure"]["code"]), (&json!("failed"), &json!("agent_failed")));
    assert!(summary_now["failure"]["message"].as_str().is_some_and(|text| text.contains("directory")), "{summary_now}");
    let notices = asking.events_named("notice");
    assert_eq!(notices.last().map(|notice| &notice["code"]), Some(&json!("agent_failed")));
    // Others are none the worse, and it is the same when it is there again.
    assert_eq!(answered(&other, &plain, "p1", "words 1")["status"], "done");
    fs::rename(place.work().join("elsewhere"), &folder).expect("moved back");
    let response = answered(&asking, &id, "p3", "history");
    assert_eq!(response["fullResponse"], r#"["cwd"]"#);
    assert_eq!(summary(&asking, &id)["state"], "idle");
    stop(server);
}

/// Writes other bytes over a part of a table, as a bad disk would, while no server has it.
fn spoil(place: &Workspace, sql: &str) {
    let database = rusqlite::Connection::open(database_file(place)).expect("the database");
    database.execute_batch(sql).expect("spoiled");
}

#[test]
fn where_sessions_may_not_work_any_more_nothing_is_started() {
    let place = place();
    let [first, second] = ["first", "second"].map(|name| place.root().join(name));
    for folder in [&first, &second] {
        fs::create_dir(folder).expect("a folder");
    }
    let allow = |folder: &Path| format!("--allow-root={}", folder.display());
    let server = on(&place).args([allow(&place.work()), allow(&first)]).start();
    let (asking, _) = client(&server, json!({}));
    let made = asking.must("createSession", json!({"cwd": first}))["session"]["sessionId"].clone();
    let session = made.as_str().expect("an id");
    assert_eq!(answered(&asking, session, "p1", "cwd")["fullResponse"], first.display().to_string());
    stop(server);
    let server = on(&place).args([allow(&place.work()), allow(&second)]).start();
    let (asking, _) = client(&server, json!({}));
    ask_as(&asking, session, "p2", "cwd");
    let response = asking.wait_response("p2");
    assert_eq!(response["status"], "failed");
    assert!(response["error"].as_str().expect("why").contains("is not below any --allow-root"), "{response}");
    stop(server);
    let server = on(&place).args([allow(&place.work()), allow(&first)]).start();
    let (asking, _) = client(&server, json!({}));
    assert_eq!(answered(&asking, session, "p3", "cwd")["status"], "done");
    stop(server);
}

/// Who is refused does not watch: or the session would have a viewer that never goes.
#[test]
fn whoever_cannot_be_shown_a_session_does_not_watch_it() {
    let place = place();
    let server = on(&place).start();
    let (asking, first) = client(&server, json!({}));
    answered(&asking, &first, "p1", "lines 80 50000");
    stop(server);
    let server = on(&place).start();
    let (asking, _) = client(&server, json!({}));
    assert_eq!(summary(&asking, &first)["viewers"], 0);
    let database = fs::OpenOptions::new().write(true).open(database_file(&place)).expect("the database");
    let bytes = usize::try_from(database.metadata().expect("its size").len()).expect("not much");
    // The first pages say which tables there are.
    database.write_all_at(&vec![0xff; bytes - 80_000], 80_000).expect("spoiled");
    let refused = asking.must_fail("resumeSession", json!({"sessionId": first}));
    assert_eq!(refused["code"], "storage_damaged");
    assert_eq!(summary(&asking, &first)["viewers"], 0);
}

#[test]
fn damage_that_shows_late_stops_nothing_else() {
    let place = place();
    let server = on(&place).start();
    let (asking, first) = client(&server, json!({}));
    let other: Value = asking.must("createSession", json!({}))["session"]["sessionId"].clone();
    let other = other.as_str().expect("an id").to_owned();
    answered(&asking, &first, "p1", "words 3");
    answered(&asking, &first, "p2", "words 2");
    answered(&asking, &other, "p1", "words 3");
    let whole = history(&asking, &first);
    stop(server);
    let events = "SELECT key FROM sessions WHERE id = (SELECT id FROM sessions ORDER BY key LIMIT 1)";
    spoil(&place, &format!("DELETE FROM events WHERE key = (({events}) << 32) + 3"));
    spoil(&place, &format!("UPDATE events SET data = ',\"x' WHERE key = (({events}) << 32) + 4"));
    spoil(&place, "UPDATE prompts SET response = '{' WHERE id = 'p2'");
    spoil(&place, "UPDATE search_data SET block = x'ffffffffff'");

    let server = on(&place).start();
    let (asking, _) = client(&server, json!({"sessionId": first, "afterSeq": 0}));
    let now = history(&asking, &first);
    assert_eq!(now.len(), whole.len(), "no hole");
    for (at, item) in now.iter().enumerate() {
        match at {
            2 => assert_eq!((&item["name"], &item["data"]["code"]), (&json!("notice"), &json!("storage_damaged"))),
            3 => assert_eq!(item["data"], json!({"sessionId": first, "seq": 4, "damaged": true})),
            _ => assert_eq!(item, &whole[at]),
        }
    }
    // A viewer that has caught up has got them too, and each answer.
    assert_eq!(asking.wait_response("p1")["status"], "done");
    assert_eq!(asking.wait_response("p2")["status"], "failed");
    assert_eq!(asking.events_named("notice")[0]["seq"], 3);
    // Only what needs the index says so.
    assert_eq!(asking.must("listSessions", json!({}))["sessions"].as_array().map(Vec::len), Some(2));
    assert_eq!(asking.must_fail("listSessions", json!({"query": "words"}))["code"], "storage_damaged");
    assert_eq!(answered(&asking, &first, "p3", "history")["fullResponse"], r#"["words 3","words 2"]"#);
    assert_eq!(answered(&asking, &other, "q2", "history")["fullResponse"], r#"["words 3"]"#);
    asking.must("renameSession", json!({"sessionId": other, "title": "other"}));
    asking.must("deleteSession", json!({"sessionId": other}));
    eventually("it is only one", DEADLINE, || ids(&asking.must("listSessions", json!({}))) == [first.as_str()]);
    let log = server.stderr_text();
    assert!(!log.contains("panicked"), "{log}");
    stop(server);
}
