//! What is done with a contestant to measure it. Each scene starts the program anew and gives one number a measure.

use std::time::{Duration, Instant};

use super::contestants::{Contestant, Mode, Programs, Running};
use super::line::now;
use super::load::{Client, Crowd, Seen};
use super::system;

/// Numbers by the measure's key.
pub type Numbers = Vec<(&'static str, f64)>;

/// Connections that are opened in one go.
const DIALS: usize = 100;

/// A client that does not read, for so long.
const STALL_MS: u64 = 6000;

/// A stream as all clients of one session have seen it.
pub struct Streamed {
    /// Lines that each client got.
    pub lines: u64,
    /// From the first line that came to the last.
    pub seconds: f64,
    /// What the server used meanwhile.
    pub cpu_ns: u64,
}

/// Connects `count` clients to one session.
pub fn crowd(server: &Running, count: usize) -> (Crowd, String) {
    let (first, session) = server.join("bench");
    let mut clients = vec![first];
    while clients.len() < count {
        clients.extend(batch(server, &session, DIALS.min(count - clients.len())));
    }
    (Crowd::of(clients), session)
}

/// So many at once: none waits for another's round trips.
fn batch(server: &Running, session: &str, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::dial(server.port)).collect();
    clients.iter_mut().for_each(Client::wait_open);
    clients.iter_mut().for_each(|client| client.say(&format!("40{}", server.auth(session))));
    clients.iter_mut().for_each(|client| drop(client.wait("40")));
    for client in &mut clients {
        server.wait_in(client, session);
    }
    clients
}

/// Has the session's child stream to all of the crowd.
pub fn stream(server: &Running, crowd: &mut Crowd, session: &str, order: &str) -> Streamed {
    let mut seen = vec![Seen::default(); crowd.clients.len()];
    let before = system::cpu_ns(server.pid());
    server.ask(&mut crowd.clients[0], session, order);
    let mut waiting = seen.len();
    crowd.receive(None, |client, payload| {
        waiting -= usize::from(seen[client].is_ended_by(payload));
        waiting > 0
    });
    let ended = now();
    let first = seen.iter().map(|seen| seen.first).min().unwrap_or(ended);
    let lines = seen[0].lines;
    assert!(seen.iter().all(|seen| seen.lines == lines), "all see the same");
    let seconds = ended.saturating_sub(first) as f64 / 1e9;
    Streamed { lines, seconds, cpu_ns: system::cpu_ns(server.pid()) - before }
}

/// One session, flat out, to so many clients: events a second, and processor seconds per million.
pub fn relay(programs: &Programs, who: Contestant, clients: usize, keys: [&'static str; 2], millis: u64) -> Numbers {
    let server = programs.start(who, Mode::Shared);
    let (mut crowd, session) = crowd(&server, clients);
    // A first, short one: what is made once is not the relay's.
    stream(&server, &mut crowd, &session, "50 0 250");
    let streamed = stream(&server, &mut crowd, &session, &format!("{millis} 0 250"));
    let delivered = (streamed.lines * clients as u64) as f64;
    vec![(keys[0], delivered / streamed.seconds), (keys[1], streamed.cpu_ns as f64 / 1e3 / delivered)]
}

/// So many sessions of one client each, 100 lines a second each: from the making of a line to its arrival, in µs. Only lines
/// in the middle of all the answers count: while they begin, this program is busy asking; and when the first end, a server
/// has more to do than to relay.
pub fn latency(programs: &Programs, who: Contestant, sessions: usize, keys: [&'static str; 2]) -> Numbers {
    const EDGE_MS: u64 = 300;
    const COUNTED_MS: u64 = 3000;
    let server = programs.start(who, Mode::Isolated);
    let (clients, names): (Vec<Client>, Vec<String>) =
        (0..sessions).map(|number| server.join(&format!("s{number}"))).unzip();
    let mut crowd = Crowd::of(clients);
    // A first, short one: the start of fifty processes is not the relay's.
    paced(&server, &names, &mut crowd, 100);
    let began = now();
    let counted = began + EDGE_MS * 1_000_000..began + (EDGE_MS + COUNTED_MS) * 1_000_000;
    let lines = paced(&server, &names, &mut crowd, COUNTED_MS + 2 * EDGE_MS);
    let mut took: Vec<u64> =
        lines.into_iter().filter(|(made, _)| counted.contains(made)).map(|(_, took)| took).collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize] as f64 / 1e3;
    vec![(keys[0], at(0.5)), (keys[1], at(0.99))]
}

/// Has every session stream 100 lines a second to its client: when each line was made, and how long it took, in ns.
fn paced(server: &Running, names: &[String], crowd: &mut Crowd, millis: u64) -> Vec<(u64, u64)> {
    // All begin within one period of each other, none at the same moment as the next.
    for (client, name) in crowd.clients.iter_mut().zip(names) {
        server.ask(client, name, &format!("{millis} 100 250"));
        std::thread::sleep(Duration::from_micros(10_000 / names.len() as u64));
    }
    let mut seen = vec![Seen::default(); names.len()];
    let (mut waiting, mut lines) = (names.len(), Vec::new());
    crowd.receive(None, |client, payload| {
        let seen = &mut seen[client];
        if let Some(made) = seen.take(payload) {
            lines.push((made, now().saturating_sub(made)));
            waiting -= usize::from(seen.ended);
        }
        waiting > 0
    });
    lines
}

/// From the start of the program to the first open WebSocket, and the memory without any client. It was started once
/// before: a user's server makes its database and its token only once.
pub fn start(programs: &Programs, who: Contestant) -> Numbers {
    let first = programs.start(who, Mode::Isolated);
    let server = programs.restart(first, Mode::Isolated);
    let mut client = Client::dial(server.port);
    client.wait_open();
    let millis = server.began.elapsed().as_secs_f64() * 1e3;
    drop(client);
    // What a start still does by the way (threads that end, pages that are given back) is over soon.
    std::thread::sleep(Duration::from_millis(300));
    let mut numbers = vec![("start", millis), ("memory", system::status(server.pid(), "VmRSS") as f64 / 1024.0)];
    if who == Contestant::Ours {
        let guardian = system::children(server.pid(), "guardian");
        let memory: u64 = guardian.into_iter().map(|pid| system::status(pid, "VmRSS")).sum();
        numbers.push(("guardian", memory as f64 / 1024.0));
    }
    numbers
}

/// What an idle connection takes: resident kB each, and threads each (a thread has 16 KiB of kernel stack).
pub fn idle_memory(programs: &Programs, who: Contestant, count: usize) -> Numbers {
    let server = programs.start(who, Mode::Shared);
    let (first, _session) = server.join("bench");
    let (before, threads) = (system::status(server.pid(), "VmRSS"), system::status(server.pid(), "Threads"));
    drop(first);
    let (crowd, _) = crowd(&server, count);
    // Until the last of them counts as idle, too.
    std::thread::sleep(Duration::from_secs(1));
    let each = |after: u64, before: u64| after.saturating_sub(before) as f64 / count as f64;
    let numbers = vec![
        ("idle-memory", each(system::status(server.pid(), "VmRSS"), before)),
        ("idle-threads", each(system::status(server.pid(), "Threads"), threads)),
    ];
    drop(crowd);
    numbers
}

/// How long 1,000 connects take, 100 at a time.
pub fn connects(programs: &Programs, who: Contestant) -> Numbers {
    let server = programs.start(who, Mode::Shared);
    let (_first, session) = server.join("bench");
    let began = Instant::now();
    let clients: Vec<Client> = (0..10).flat_map(|_| batch(&server, &session, DIALS)).collect();
    let took = began.elapsed().as_secs_f64();
    assert_eq!(clients.len(), 1000);
    vec![("connects", took)]
}

/// What all of them use in 30 s with 1,000 clients that only answer pings; at the same time, since all are idle.
pub fn idle_cpu(programs: &Programs, all: &[Contestant]) -> Vec<(Contestant, f64)> {
    const SECONDS: u64 = 30;
    let mut running: Vec<(Running, Crowd)> = (all.iter())
        .map(|who| {
            let server = programs.start(*who, Mode::Shared);
            let crowd = crowd(&server, 1000).0;
            (server, crowd)
        })
        .collect();
    let before: Vec<u64> = running.iter().map(|(server, _)| system::cpu_ns(server.pid())).collect();
    std::thread::scope(|scope| {
        for (server, crowd) in &mut running {
            // Named, so that a panic tells whose client it was.
            let thread = std::thread::Builder::new().name(server.who.name().to_owned());
            let until = now() + SECONDS * 1_000_000_000;
            thread.spawn_scoped(scope, move || crowd.receive(Some(until), |_, _| true)).expect("a thread");
        }
    });
    let used = running.iter().zip(before);
    used.map(|((server, _), before)| (server.who, (system::cpu_ns(server.pid()) - before) as f64 / 1e6)).collect()
}

/// Two clients of a stream that is flat out, one of which does not read for 6 s: the server's largest memory, and whether
/// the other got every line meanwhile.
pub fn stalled(programs: &Programs, who: Contestant) -> Numbers {
    if who == Contestant::Floor {
        // It keeps nothing for anyone: it would wait with the one that does not read.
        return Vec::new();
    }
    let server = programs.start(who, Mode::Shared);
    let (mut crowd, session) = crowd(&server, 1);
    let (slow, _) = server.join(&session);
    let streamed = stream(&server, &mut crowd, &session, &format!("{STALL_MS} 0 250"));
    let peak = system::status(server.pid(), "VmHWM") as f64 / 1024.0;
    assert!(streamed.lines > 0);
    drop(slow);
    let mut numbers = vec![("stalled", peak)];
    if who == Contestant::Ours {
        // It comes back and goes on.
        let (back, _) = server.join(&session);
        crowd.add(back);
        stream(&server, &mut crowd, &session, "50 0 250");
        numbers.push(("recovered", 1.0));
    }
    numbers
}
