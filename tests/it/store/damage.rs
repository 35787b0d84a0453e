//! Bits of the database flip, and it is cut: the server refuses it, or has all that there was.
//!
//! `CSM_TEST_FLIPS=N` tries N times (200), `CSM_TEST_SEED=N` repeats a run from a failure's message on.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use super::{answered, client, ids, kill, on, place, stop};
use crate::support::{server::Server, workspace::Workspace};

/// Flips and cuts in the suite.
const FLIPS: u64 = 200;

const SESSIONS: usize = 8;

/// A database file, and the write-ahead log that a killed server has left beside it.
struct Files(Vec<(&'static str, Vec<u8>)>);

impl Files {
    fn of(end: fn(Server)) -> Files {
        let place = place();
        let server = on(&place).start();
        let (asking, _) = client(&server, json!({}));
        for number in 0..SESSIONS {
            let wish = json!({"title": format!("session {number}")});
            let session =
                asking.must("createSession", wish)["session"]["sessionId"].as_str().expect("an id").to_owned();
            answered(&asking, &session, &format!("p{number}"), &format!("lines {} 1500", number * 2));
        }
        end(server);
        let read = |name: &'static str| Some((name, fs::read(place.data().join(name)).ok()?));
        let mut files: Vec<_> = ["sessions.db", "sessions.db-wal"].into_iter().filter_map(read).collect();
        files.retain(|(_, bytes)| !bytes.is_empty());
        Files(files)
    }

    /// Puts them in place, damaged somewhere, and says where.
    fn damaged(&self, place: &Workspace, random: &mut fastrand::Rng) -> String {
        fs::create_dir_all(place.data()).expect("the directory");
        let target = random.usize(..self.0.len());
        let mut what = String::new();
        for (at, (name, bytes)) in self.0.iter().enumerate() {
            let mut bytes = bytes.clone();
            if at == target {
                let place = match random.u8(..4) {
                    0 => random.usize(..bytes.len().min(4096)),
                    _ => random.usize(..bytes.len()),
                };
                // A log that was cut is one that was not finished.
                let cut = *name == "sessions.db" && random.u8(..8) == 0;
                if cut {
                    bytes.truncate(place);
                } else {
                    bytes[place] ^= 1 << random.u8(..8);
                }
                what = format!("{name} {} at {place}", if cut { "cut" } else { "flipped" });
            }
            fs::write(data_file(place, name), bytes).expect("written");
        }
        what
    }
}

fn data_file(place: &Workspace, name: &str) -> PathBuf {
    place.data().join(name)
}

#[test]
fn a_flipped_bit_in_a_stopped_servers_database_is_refused_or_harmless() {
    run(stop, 3);
}

#[test]
fn a_flipped_bit_behind_a_kill_is_refused_or_harmless() {
    run(kill, 1);
}

/// Tries this many quarters of all.
fn run(end: fn(Server), quarters: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let flips = number("CSM_TEST_FLIPS").unwrap_or(FLIPS) * quarters / 4;
    let first = number("CSM_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 40));
    let files = Files::of(end);
    let (mut refused, mut sound) = (0, 0);
    for seed in first..first + flips {
        let place = place();
        let mut random = fastrand::Rng::with_seed(seed);
        let what = format!("CSM_TEST_SEED={seed}: {}", files.damaged(&place, &mut random));
        match on(&place).try_start() {
            Err(ended) => {
                refused += 1;
                assert_eq!(ended.code, Some(3), "{what}: {}", ended.stderr);
                let told = ended.stderr.lines().count() == 1 && ended.stderr.contains("--recover");
                assert!(told, "{what}: {}", ended.stderr);
            }
            Ok(server) => {
                sound += 1;
                check(&server, &what);
                kill(server);
            }
        }
    }
    assert!(refused > 0 && sound > 0, "{refused} refused, {sound} sound");
}

/// All sessions are there, and something is said of each.
fn check(server: &Server, what: &str) {
    let (looking, _) = client(server, json!({}));
    let listed = ids(&looking.must("listSessions", json!({})));
    assert_eq!(listed.len(), SESSIONS, "{what}: {}", server.stderr_text());
    for session in &listed {
        let ack = looking.emit_with_ack("getHistory", json!({"sessionId": session}));
        let events = ack["events"].as_array().map_or(0, Vec::len);
        let told = if ack["ok"] == true { events > 0 } else { ack["error"]["code"] == "storage_damaged" };
        assert!(told, "{what}: {ack}: {}", server.stderr_text());
        let numbers: Vec<&Value> = ack["events"].as_array().into_iter().flatten().map(|item| &item["seq"]).collect();
        let numbers: Vec<u64> = numbers.into_iter().filter_map(Value::as_u64).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{what}: {numbers:?}");
    }
    let back = server.connect(json!({"sessionId": listed[0], "afterSeq": 0}));
    assert_eq!(back.registered()["resumed"], true, "{what}");
    back.emit_with_ack("listSessions", json!({"query": "session lines"}));
    let log = server.stderr_text();
    assert!(!log.contains("panicked"), "{what}: {log}");
}
