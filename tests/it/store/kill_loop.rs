//! The server is killed again and again, at random moments and at named points, while clients work with it. What they
//! were told is then held against what the next server has, what the disk has, and what the agents got.
//!
//! `CSM_TEST_KILLS=N` kills N times (100), `CSM_TEST_SEED=N` repeats a run from a failure's message on.

mod clients;
mod ledger;

use std::{fs, path::PathBuf, sync::Arc, thread, time::Duration};

use clients::{Sent, Viewer};
use ledger::Ledger;
use serde_json::{Value, json};

use super::{database, on_with, place};
use crate::support::{
    DEADLINE,
    client::Client,
    processes::{self, Process},
    server::{Builder, Server},
    workspace::Workspace,
};

/// Kills in the suite.
const KILLS: u64 = 100;

/// In one workspace, before it is thrown away.
const KILLS_EACH: u64 = 10;

const ISOLATED_SESSIONS: usize = 3;

/// What clients send between two kills.
const EVENTS_MAX: usize = 16;

/// Where the server may die, and within how many passes.
const POINTS: [(&str, u64); 5] =
    [("before-commit", 15), ("committed", 15), ("sent", 50), ("written", 3), ("resolved", 2)];

/// Agents that end when the server does, and differ in what they tell.
const AGENTS: [&str; 3] = ["proper", "old", "own-turn"];

#[test]
fn nothing_is_lost_or_done_twice_in_isolated_mode() {
    run("isolated", 3, 5);
}

#[test]
fn nothing_is_lost_or_done_twice_in_shared_mode() {
    run("shared", 2, 5);
}

/// Runs this share of all kills.
fn run(mode: &'static str, share: u64, of: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("CSM_TEST_KILLS").unwrap_or(KILLS) * share / of;
    let first = number("CSM_TEST_SEED").unwrap_or_else(|| fastrand::u64(..1 << 40));
    let mut total = ledger::Counts::default();
    for at in 0..kills.div_ceil(KILLS_EACH) {
        let seed = first + at;
        let told = TellSeed(seed);
        let mut place = Loop::new(mode, seed);
        for round in 0..KILLS_EACH.min(kills - at * KILLS_EACH) {
            place.round(round);
        }
        total += place.finish();
        drop(told);
    }
    println!("{mode}: {kills} kills, {total}");
}

/// Says in a failure how to repeat it.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("repeat it with CSM_TEST_SEED={}", self.0);
        }
    }
}

/// How a server's life ends.
#[derive(Debug)]
enum End {
    /// At some moment after its clients have sent something.
    Anytime(Duration),
    /// When it comes to that point for the so manieth time since its clients began to send.
    Point(&'static str, u64),
    /// The same, after its disk has begun to fail.
    FullDisk(Duration),
}

/// One workspace with its sessions and clients.
struct Loop {
    place: Arc<Workspace>,
    mode: &'static str,
    agent: &'static str,
    random: fastrand::Rng,
    sessions: Vec<String>,
    viewers: Vec<Viewer>,
    ledger: Ledger,
}

impl Loop {
    fn new(mode: &'static str, seed: u64) -> Loop {
        let mut random = fastrand::Rng::with_seed(seed);
        let (place, agent) = (place(), AGENTS[random.usize(..AGENTS.len())]);
        let ledger = Ledger::new(&place);
        let mut it = Loop { place, mode, agent, random, sessions: Vec::new(), viewers: Vec::new(), ledger };
        let server = it.builder().start();
        let client = server.connect(json!({}));
        it.sessions = match mode {
            "shared" => vec![client.session_id()],
            _ => (0..ISOLATED_SESSIONS).map(|_| create(&client)).collect(),
        };
        for session in &it.sessions {
            it.viewers.push(Viewer::new(session, "text"));
            it.viewers.push(Viewer::new(session, "events"));
        }
        super::kill(server);
        it
    }

    fn builder(&self) -> Builder {
        on_with(&self.place, self.agent).arg(format!("--mode={}", self.mode)).arg("--stop-grace=300ms")
    }

    /// Exists when the server's failure is wanted.
    fn armed(&self) -> PathBuf {
        self.place.root().join("armed")
    }

    fn with_failure(&self, what: &str) -> Builder {
        self.builder().env("CSM_FAILPOINT", what).env("CSM_FAILPOINT_SINCE", self.armed().display().to_string())
    }

    fn round(&mut self, round: u64) {
        let _ = fs::remove_file(self.armed());
        if round > 0 && self.random.u8(..4) == 0 {
            self.die_early();
        }
        let pause = Duration::from_micros(self.random.u64(..40_000));
        let end = match self.random.u8(..10) {
            0..4 => End::Anytime(pause),
            4..9 => {
                let (point, passes) = POINTS[self.random.usize(..POINTS.len())];
                End::Point(point, self.random.u64(1..=passes))
            }
            _ => End::FullDisk(pause),
        };
        let server = match &end {
            End::Anytime(_) => self.builder(),
            End::Point(name, count) => self.with_failure(&format!("{name}:{count}")),
            End::FullDisk(_) => self.with_failure("io:commit:1"),
        }
        .start();
        let what = format!("{} {}, round {round}, then {end:?}", self.mode, self.agent);
        self.check(&server, &what);
        self.work(&server, &end);
    }

    /// A server that dies while it takes up what the one before has left.
    fn die_early(&mut self) {
        let (point, passes) = POINTS[self.random.usize(..3)];
        let count = self.random.u64(1..=passes.min(6));
        fs::write(self.armed(), "").expect("armed");
        let server = self.with_failure(&format!("{point}:{count}")).try_start();
        if let Ok(server) = server {
            thread::sleep(Duration::from_micros(self.random.u64(..60_000)));
            // If it is not dead already.
            server.signal(libc::SIGKILL);
            server.wait_exit(DEADLINE);
        }
        fs::remove_file(self.armed()).expect("disarmed");
    }

    /// Everybody comes back; all that was acknowledged ends, and everything fits together.
    fn check(&mut self, server: &Server, what: &str) {
        for viewer in &mut self.viewers {
            viewer.come_back(server, &self.place, what);
        }
        self.ledger.ask_again(server, what);
        for session in &self.sessions {
            self.ledger.check_session(server, session, what);
        }
        self.ledger.check_agents(what);
        for viewer in &mut self.viewers {
            viewer.check_return(server, what);
        }
        let sound: String =
            database(&self.place).query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
        assert_eq!(sound, "ok", "{what}");
        let of_others = |process: &Process| {
            let incarnation = |process: &Process| process.env("CSM_PROCESS")?.split(':').nth(1).map(str::to_owned);
            let own = server.started().iter().find(|process| process.ppid == server.pid()).and_then(incarnation);
            incarnation(process) != own
        };
        processes::eventually(what, DEADLINE, || !server.started().iter().any(of_others));
        let log = server.stderr_text();
        assert!(!log.contains("panicked") && !log.contains("fault in this server"), "{what}: {log}");
    }

    /// Clients send this and that, until the server is dead.
    fn work(&mut self, server: &Server, end: &End) {
        let mut sent = Vec::new();
        let events = self.random.usize(1..=EVENTS_MAX);
        let arm_at = self.random.usize(..events);
        for at in 0..events {
            if at == arm_at {
                fs::write(self.armed(), "").expect("armed");
            }
            let viewer = self.random.usize(..self.viewers.len());
            let Some(client) = self.viewers[viewer].client.as_ref() else { continue };
            let session = &self.viewers[viewer].session;
            if let Some(one) = Sent::send(client, session, viewer, &mut self.random, &mut self.ledger) {
                sent.push(one);
            }
            if self.random.u8(..3) == 0 {
                Self::look(client, &mut self.random);
            }
        }
        match end {
            End::Anytime(pause) | End::FullDisk(pause) => thread::sleep(*pause),
            // Where it has not come to that point it never will.
            End::Point(..) => thread::sleep(Duration::from_millis(30)),
        }
        server.signal(libc::SIGKILL);
        server.wait_exit(DEADLINE);
        for viewer in &mut self.viewers {
            viewer.note_what_came();
        }
        for one in sent {
            if let Some(client) = self.viewers[one.viewer].client.as_ref() {
                self.ledger.note(one, client);
            }
        }
        for viewer in &mut self.viewers {
            viewer.client = None;
        }
    }

    /// Waits until something is seen, so that what follows comes at other moments.
    fn look(client: &Client, random: &mut fastrand::Rng) {
        let name = ["claudeStreamChunk", "prompt", "claudeResponse", "sessionUpdated"][random.usize(..4)];
        let patience = Duration::from_micros(random.u64(..20_000));
        client.try_wait_event_from(client.mark(), patience, |event| event.name == name);
    }

    /// The last server stops as Ctrl-C wants it, and nothing is left.
    fn finish(mut self) -> ledger::Counts {
        let _ = fs::remove_file(self.armed());
        let server = self.builder().start();
        self.check(&server, "at last");
        let ended = server.stop();
        assert_eq!(ended.code(), Some(0), "{}", server.stderr_text());
        self.place.wait_no_processes();
        self.ledger.counts
    }
}

fn create(client: &Client) -> String {
    let created = client.must("createSession", json!({}));
    created["session"]["sessionId"].as_str().expect("an id").to_owned()
}

/// The number of an event that is stored; deltas have that of the one before them.
fn seq(data: &Value) -> Option<u64> {
    data["seq"].as_u64().filter(|_| data["part"].is_null())
}
