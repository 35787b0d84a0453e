//! How cost grows: the same work with more clients, more sessions, longer lines. Per unit it should stay flat.

use serde_json::json;

use super::contestants::{Contestant, Mode, Programs};
use super::line::now;
use super::load::{Client, Crowd, Seen};
use super::{scenes, system};

/// One row: what there was of it, events a second, microseconds of the server's processor for each event, resident MB.
struct Row {
    what: String,
    events_per_second: f64,
    cpu_us: f64,
    memory_mb: f64,
}

const CLIENTS: [usize; 4] = [1, 10, 100, 1000];
const TEXT_CLIENTS: [usize; 2] = [1, 100];
const SESSIONS: [usize; 3] = [1, 10, 100];
/// The last is about the most that goes out whole.
const LINE_BYTES: [usize; 3] = [250, 10_000, 890_000];

/// Measures all of it with this server, and prints it.
pub fn run(programs: &Programs, json_file: Option<&str>) {
    let mut rows = Vec::new();
    for clients in CLIENTS {
        rows.push(one_session(programs, format!("{clients} clients on one session"), clients, "events", 250));
    }
    for clients in TEXT_CLIENTS {
        rows.push(one_session(programs, format!("{clients} clients that want text alone"), clients, "text", 250));
    }
    for sessions in SESSIONS {
        rows.push(many_sessions(programs, sessions));
    }
    for bytes in LINE_BYTES {
        rows.push(one_session(programs, format!("lines of {bytes} bytes, one client"), 1, "events", bytes));
    }
    println!("| | events/s | CPU µs per event | resident MB |\n|---|---|---|---|");
    for row in &rows {
        println!("| {} | {:.0} | {:.3} | {:.1} |", row.what, row.events_per_second, row.cpu_us, row.memory_mb);
    }
    if let Some(file) = json_file {
        let rows: Vec<_> = (rows.iter())
            .map(|row| {
                json!({"what": row.what, "eventsPerSecond": row.events_per_second, "cpuUs": row.cpu_us,
                    "residentMb": row.memory_mb})
            })
            .collect();
        std::fs::write(file, format!("{:#}\n", json!({"growth": rows})))
            .unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

fn one_session(programs: &Programs, what: String, clients: usize, stream: &'static str, line_bytes: usize) -> Row {
    eprintln!("{what}");
    let mut server = programs.start(Contestant::Ours, Mode::Shared);
    server.stream = stream;
    let (mut crowd, session) = scenes::crowd(&server, clients);
    scenes::stream(&server, &mut crowd, &session, &format!("50 0 {line_bytes}"));
    let streamed = scenes::stream(&server, &mut crowd, &session, &format!("1500 0 {line_bytes}"));
    let events = (streamed.lines * clients as u64) as f64;
    Row {
        what,
        events_per_second: events / streamed.seconds,
        cpu_us: streamed.cpu_ns as f64 / 1e3 / events,
        memory_mb: system::status(server.pid(), "VmRSS") as f64 / 1024.0,
    }
}

/// So many sessions of one client each, all flat out at once.
fn many_sessions(programs: &Programs, sessions: usize) -> Row {
    let what = format!("{sessions} sessions at once");
    eprintln!("{what}");
    let server = programs.start(Contestant::Ours, Mode::Isolated);
    let joined: Vec<(Client, String)> = (0..sessions).map(|number| server.join(&format!("s{number}"))).collect();
    let (clients, names): (Vec<Client>, Vec<String>) = joined.into_iter().unzip();
    let mut crowd = Crowd::of(clients);
    let before = system::cpu_ns(server.pid());
    let mut seen = vec![Seen::default(); sessions];
    for (client, name) in crowd.clients.iter_mut().zip(&names) {
        server.ask(client, name, "1500 0 250");
    }
    let mut waiting = sessions;
    crowd.receive(None, |client, payload| {
        waiting -= usize::from(seen[client].is_ended_by(payload));
        waiting > 0
    });
    let first = seen.iter().map(|seen| seen.first).min().unwrap_or_default();
    let seconds = now().saturating_sub(first) as f64 / 1e9;
    let events: u64 = seen.iter().map(|seen| seen.lines).sum();
    Row {
        what,
        events_per_second: events as f64 / seconds,
        cpu_us: (system::cpu_ns(server.pid()) - before) as f64 / 1e3 / events as f64,
        memory_mb: system::status(server.pid(), "VmRSS") as f64 / 1024.0,
    }
}
