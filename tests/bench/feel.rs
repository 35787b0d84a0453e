//! What a user feels: how long a prompt takes to the first text of its answer, with the real CLI and a fake API that
//! answers at once, through the whole server and from the CLI driven directly.
//!
//! `bench_feel SERVER [--runs N] [--json FILE]` runs both in turn, so that what the machine does besides falls on both,
//! prints a table of medians, and writes it as JSON too. The same is measured with the demo agent, which has its answer
//! ready: the CLI's own time moves by tens of milliseconds, and hides what the server adds.

#[path = "../support/mod.rs"]
mod support;

#[path = "feel/agents.rs"]
mod agents;
#[path = "feel/commit.rs"]
mod commit;
#[path = "feel/direct.rs"]
mod direct;
#[path = "feel/report.rs"]
mod report;
#[path = "feel/served.rs"]
mod served;

use std::path::{Path, PathBuf};
use std::process::Command;

use agents::Answering;
use direct::Direct;
use report::{Allowed, COMMIT, Row, Samples, Unit};
use served::{STREAMS, Served};
use support::{fake_api::FakeApi, workspace::Workspace};

const RUNS_DEFAULT: usize = 9;

/// Above one commit, for a prompt to a session that is open.
const OPEN_MS_MAX: f64 = 2.0;

/// Above the agent's own boot, for a prompt that has to wait for it.
const BOOT_MS_MAX: f64 = 20.0;

/// The server's own resident memory.
const SERVER_MB_MAX: f64 = 8.0;

/// From a prompt to the first text: what it is called in the table, through the server, and of the agent alone; and how
/// much longer it may take through the server.
const WAITS: [(&str, &str, &str, Allowed); 4] = [
    ("first prompt", "first", "first", Allowed::CommitAnd(OPEN_MS_MAX)),
    ("second and later prompts", "later", "later", Allowed::CommitAnd(OPEN_MS_MAX)),
    ("first prompt, at once after opening", "at once", "boot", Allowed::And(BOOT_MS_MAX)),
    ("prompt to a hibernated session", "hibernated", "resume", Allowed::And(BOOT_MS_MAX)),
];

/// What is told besides.
const BESIDES: [(&str, Unit, &str, Allowed); 5] = [
    ("one commit by the store", Unit::Ms, COMMIT, Allowed::Anything),
    ("idle memory, server", Unit::Mb, "memory/idle/server", Allowed::Most(SERVER_MB_MAX)),
    ("idle memory, guardian", Unit::Mb, "memory/idle/guardian", Allowed::Anything),
    ("memory after all runs, server", Unit::Mb, "memory/after/server", Allowed::Anything),
    ("memory after all runs, guardian", Unit::Mb, "memory/after/guardian", Allowed::Anything),
];

fn rows(agents: &[&Answering]) -> Vec<Row> {
    let mut rows = Vec::new();
    for agent in agents.iter().map(|agent| agent.name) {
        for (measure, ours, floor, allowed) in WAITS {
            let floor = Some(format!("{agent}/direct/{floor}"));
            rows.extend(STREAMS.map(|stream| Row {
                measure: format!("{agent}: {measure}, {stream}"),
                unit: Unit::Ms,
                ours: format!("{agent}/{stream}/{ours}"),
                floor: floor.clone(),
                allowed,
            }));
        }
        rows.extend(["later", "hibernated"].map(|name| Row {
            measure: format!("{agent}: prompt to acknowledgement, {name}"),
            unit: Unit::Ms,
            ours: format!("{agent}/ack/{name}"),
            floor: Some(COMMIT.to_owned()),
            allowed: Allowed::Anything,
        }));
    }
    rows.extend(BESIDES.map(|(measure, unit, ours, allowed)| Row {
        measure: measure.to_owned(),
        unit,
        ours: ours.to_owned(),
        floor: None,
        allowed,
    }));
    rows
}

struct Options {
    server: PathBuf,
    runs: usize,
    json: Option<PathBuf>,
}

fn options() -> Options {
    let mut args = std::env::args().skip(1);
    let server: PathBuf = args.next().expect("usage: bench_feel SERVER [--runs N] [--json FILE]").into();
    // It is started in another directory.
    let server = server.canonicalize().expect("the server's path");
    let mut options = Options { server, runs: RUNS_DEFAULT, json: None };
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        match flag.as_str() {
            "--runs" => options.runs = value.parse().expect("--runs: a number"),
            "--json" => options.json = Some(value.into()),
            _ => panic!("there is no {flag}"),
        }
    }
    assert!(options.runs > 0, "--runs: at least 1");
    options
}

/// One agent, alone and behind servers of its own.
struct Pair<'a> {
    direct: Direct<'a>,
    served: Served<'a>,
}

impl Pair<'_> {
    fn start<'a>(server: &Path, answering: &'a Answering) -> Pair<'a> {
        Pair { direct: Direct::new(answering), served: Served::start(server, answering) }
    }

    /// One run; whose turn it is first depends on the run's number.
    fn run(&self, number: usize, samples: &mut Samples) {
        let mut turns = [None, Some(STREAMS[0]), Some(STREAMS[1])];
        turns.rotate_left(number % 3);
        for turn in turns {
            match turn {
                None => self.direct.run(samples),
                Some(stream) => self.served.run(stream, samples),
            }
        }
    }
}

fn version(agent: &Path) -> String {
    let output = Command::new(agent).arg("--version").env_clear().output().expect("the agent runs");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn main() {
    let options = options();
    let (api, state) = (FakeApi::start(), Workspace::new());
    let (claude, demo) = (Answering::claude(&api), Answering::demo(&options.server, &state));
    let pairs = [&claude, &demo].map(|answering| Pair::start(&options.server, answering));
    let commits = commit::Commits::new();
    let mut samples = Samples::default();
    pairs[0].served.measure_memory("idle", &mut samples);
    // The first of everything finds nothing in the caches of the machine and no settings in the homes.
    pairs.iter().for_each(|pair| pair.run(0, &mut Samples::default()));
    for number in 0..options.runs {
        pairs.iter().for_each(|pair| pair.run(number, &mut samples));
        commits.run(&mut samples);
    }
    pairs[0].served.measure_memory("after", &mut samples);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let versions = [&claude, &demo].map(|answering| version(&answering.agent.program)).join(", ");
    println!("{} runs on {cores} cores; {versions}; medians (least – most), from prompt to first text", options.runs);
    let rows = rows(&[&claude, &demo]);
    report::print(&rows, &samples);
    if let Some(path) = &options.json {
        std::fs::write(path, report::json(&rows, &samples)).expect("the JSON file");
    }
}
