//! How the server does with a large store: makes one, starts the server on it, and measures.
//!
//! `bench_stored SERVER [SESSIONS [EVENTS]]` prints one line a measure, with the median, the 99th percentile and the
//! worst of many.

#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use claude_session_manager::{
    net::Room,
    store::{Change, EventRow, PromptRow, PromptState, SessionRow, Store, Submission, event_head, response_head},
};
use serde_json::{Value, json};
use support::{client::Client, server::Server};

/// Words of which the texts are made: the first are in most of them, the last in few.
const WORDS: usize = 5000;

/// How often each request is made.
const REQUESTS: usize = 300;

/// The server's event budget for one connection is 50 a second.
const REQUEST_PAUSE: Duration = Duration::from_millis(25);

fn main() {
    let mut args = std::env::args().skip(1);
    let exe = args.next().expect("the server's path");
    let mut number = |default| args.next().map_or(default, |text| text.parse::<u64>().expect("a number"));
    let (sessions, events) = (number(10_000), number(100));
    let place = Arc::new(support::workspace::Workspace::new());
    fs::create_dir_all(place.data()).expect("the data directory");
    let began = Instant::now();
    fill(&place.data(), sessions, events);
    let size = fs::metadata(place.data().join("sessions.db")).expect("the database").len();
    println!("stored: {sessions} sessions of {events} events, {} MB, made in {:?}", size >> 20, began.elapsed());
    start_up(&exe, &place);
    let server = Server::builder(&exe).demo().arg("--max-sessions=100000").workspace(&place).start();
    let client = server.connect(Value::Null);
    println!("resident, one client: {} kB", resident_kb(server.pid()));
    requests(&client);
    println!("resident, after all requests: {} kB", resident_kb(server.pid()));
}

/// A word as common as its number is small.
fn word(random: &mut fastrand::Rng) -> String {
    let place = random.f64();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small positive number")]
    let number = (place * place * place * WORDS as f64) as usize;
    spelt(number)
}

/// The word of that number: of a few syllables, so that words begin alike as often as words do.
fn spelt(number: usize) -> String {
    const SYLLABLES: [&str; 32] = [
        "ba", "con", "di", "er", "fo", "gra", "hi", "in", "jo", "ka", "lo", "men", "ni", "or", "pa", "qui", "re",
        "sta", "ti", "un", "ver", "wa", "xe", "yo", "za", "pre", "tion", "al", "ing", "ous", "est", "ed",
    ];
    let mut random = fastrand::Rng::with_seed(number as u64);
    (0..random.usize(2..5)).map(|_| SYLLABLES[random.usize(..SYLLABLES.len())]).collect()
}

fn text(random: &mut fastrand::Rng, words: usize) -> String {
    (0..words).map(|_| word(random)).collect::<Vec<_>>().join(" ")
}

fn fill(dir: &std::path::Path, sessions: u64, events: u64) {
    let store = Store::open(dir, Arc::new(Room::default())).expect("a new database");
    let mut random = fastrand::Rng::with_seed(7);
    for number in 0..sessions {
        let id = format!("session_{}_{number:09}", 1_700_000_000_000 + number);
        store.submit(Submission {
            changes: session(&store, &id, number, events, &mut random),
            done: Vec::new(),
            refusable: false,
            on_its_way: Arc::default(),
        });
        while store.is_behind() {
            std::thread::yield_now();
        }
    }
    store.close();
}

fn session(store: &Store, id: &str, number: u64, events: u64, random: &mut fastrand::Rng) -> Vec<Change> {
    let key = store.new_key();
    let title = text(random, 6);
    let mut changes = vec![Change::Title(key, title.clone())];
    let turns = events.div_ceil(10);
    for turn in 1..=turns {
        let (prompt, reply) = (text(random, 12), text(random, 60));
        let id_of_prompt = format!("prompt_{turn}");
        changes.push(Change::Accept(Box::new(PromptRow {
            session: key,
            number: turn,
            id: id_of_prompt.clone(),
            uuid: format!("f0000000-0000-4000-8000-{number:012}"),
            state: PromptState::Written,
            time: 1_700_000_000_000 + number,
            text: prompt.clone(),
            content: None,
            attachments: None,
        })));
        for event in (turn - 1) * 10 + 1..=(turn * 10).min(events) {
            let data = format!(r#"{},"event":{{"type":"assistant","text":"{reply}"}}}}"#, event_head(id, event));
            changes.push(Change::Event(EventRow {
                session: key,
                seq: event,
                time: 1_700_000_000_000 + event,
                name: "claudeEvent",
                data: data.into(),
                rest_at: event_head(id, event).len(),
                essentials: None,
                stored: Arc::default(),
            }));
        }
        let response = format!(r#"{},"promptId":"{id_of_prompt}","fullResponse":"{reply}"}}"#, response_head(id));
        changes.push(Change::Ended {
            session: key,
            id: id_of_prompt,
            state: PromptState::Done,
            end_seq: (turn * 10).min(events),
            response: response.into(),
            rest_at: response_head(id).len(),
        });
        changes.push(Change::Said(key, prompt));
        changes.push(Change::Said(key, reply));
    }
    changes.push(Change::Session(Box::new(SessionRow {
        key,
        id: id.to_owned(),
        source: "here".into(),
        uuid: format!("00000000-0000-4000-8000-{number:012}"),
        has_turns: true,
        last_message: None,
        forked_from: None,
        title: Some(title),
        title_given: false,
        cwd: "/home/somebody/projects/something".into(),
        model: None,
        permission_mode: None,
        effort: None,
        model_in_use: Some("claude-opus".into()),
        permission_mode_in_use: Some("default".into()),
        agent_version: Some("2.1.330".into()),
        created_at: 1_700_000_000_000 + number,
        last_activity: 1_700_000_000_000 + random.u64(..1_000_000_000),
        ended: false,
        turns,
        cost_usd: 0.1,
        last_words: Some(text(random, 12)),
        failure: None,
        prompts: turns,
        imported_bytes: 0,
        account: None,
    })));
    changes
}

fn start_up(exe: &str, place: &Arc<support::workspace::Workspace>) {
    let mut times: Vec<Duration> = (0..11)
        .map(|_| {
            let began = Instant::now();
            let server = Server::builder(exe).demo().arg("--max-sessions=100000").workspace(place).start();
            let client = server.connect(Value::Null);
            client.registered();
            let took = began.elapsed();
            server.stop();
            took
        })
        .collect();
    report("start to the first client registered", &mut times);
}

fn requests(client: &Client) {
    let mut random = fastrand::Rng::with_seed(11);
    let mut cursor = Value::Null;
    measure("listSessions, 50 a page, page by page", || {
        let page = client.must("listSessions", json!({"limit": 50, "cursor": cursor}));
        cursor = page["cursor"].clone();
    });
    measure("listSessions, the first 200", || drop(client.must("listSessions", json!({"limit": 200}))));
    let mut search = |what: &str, query: &mut dyn FnMut(&mut fastrand::Rng) -> String| {
        measure(what, || drop(client.must("listSessions", json!({"limit": 50, "query": query(&mut random)}))));
    };
    search("search, a word as it comes", &mut |random| word(random));
    search("search, two words as they come", &mut |random| format!("{} {}", word(random), word(random)));
    search("search, a rare word", &mut |random| spelt(random.usize(WORDS - 100..WORDS)));
    search("search, the most common word", &mut |_| spelt(0));
    search("search, the beginning of many words", &mut |_| "con".into());
    search("search, a word that is nowhere", &mut |_| "nowhere".into());
    search("search, two words of which one is nowhere", &mut |_| format!("{} nowhere", spelt(0)));
}

fn measure(what: &str, mut work: impl FnMut()) {
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            std::thread::sleep(REQUEST_PAUSE);
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    report(what, &mut times);
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    println!("{what}: median {:?}, 99 % {:?}, worst {:?}", at(50), at(99), at(100));
}

fn resident_kb(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the server runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").trim().parse().expect("a number")
}
