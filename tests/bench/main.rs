//! The benchmark: this server, what a user would pick instead, and the floor, side by side. `scripts/bench` builds
//! everything and calls it.

#[path = "contestants.rs"]
mod contestants;
#[path = "growth.rs"]
mod growth;
#[path = "line.rs"]
mod line;
#[path = "load.rs"]
mod load;
#[path = "report.rs"]
mod report;
#[path = "scenes.rs"]
mod scenes;
#[path = "system.rs"]
mod system;

use contestants::{Contestant, Programs};
use report::{Goal, Measure, Values};
use scenes::Numbers;

/// What is measured, in the order of the table.
const MEASURES: [Measure; 16] = [
    measure("relay-1", "relay, 1 session → 1 client", "lines/s", 0, Goal::AtLeastFloors(0.5)),
    measure("relay-100", "the same to 100 clients", "events/s", 0, Goal::AtLeastFloors(0.5)),
    measure("cpu-1", "server CPU per million delivered, 1 → 1", "s", 3, Goal::AtMostFloors(2.0)),
    measure("cpu-100", "server CPU per million delivered, 1 → 100", "s", 3, Goal::AtMostFloors(2.0)),
    measure("latency-1-p50", "added latency at 100 lines/s, 1 session, p50", "µs", 0, Goal::AtMostFloors(1.25)),
    measure("latency-1-p99", "the same, p99", "µs", 0, Goal::AtMostFloors(1.25)),
    measure("latency-50-p50", "added latency, 50 sessions, p50", "µs", 0, Goal::AtMostFloors(1.25)),
    measure("latency-50-p99", "the same, p99", "µs", 0, Goal::AtMostFloors(1.25)),
    measure("start", "exec to first handshake", "ms", 1, Goal::AtMost(10.0)),
    measure("memory", "resident memory, no client", "MB", 1, Goal::AtMost(8.0)),
    measure("guardian", "beside it, the guardian's", "MB", 1, Goal::None),
    measure("idle-memory", "resident per idle connection, 10,000", "kB", 1, Goal::AtMost(16.0)),
    measure("idle-threads", "threads per idle connection", "", 2, Goal::None),
    measure("connects", "1,000 connects", "s", 3, Goal::AtMostFloors(1.25)),
    measure("idle-cpu", "CPU over 30 s with 1,000 idle clients", "ms", 0, Goal::AtMost(24.0)),
    measure("stalled", "peak memory, one client does not read for 6 s", "MB", 0, Goal::None),
];

const fn measure(key: &'static str, text: &'static str, unit: &'static str, digits: usize, goal: Goal) -> Measure {
    Measure { key, text, unit, digits, goal }
}

/// What is done, how often, and what it measures.
struct Scene {
    measures: &'static [&'static str],
    rounds: usize,
    run: fn(&Programs, Contestant) -> Numbers,
}

const SCENES: [Scene; 8] = [
    Scene {
        measures: &["relay-1", "cpu-1"],
        rounds: 5,
        run: |programs, who| scenes::relay(programs, who, 1, ["relay-1", "cpu-1"], 1000),
    },
    Scene {
        measures: &["relay-100", "cpu-100"],
        rounds: 5,
        run: |programs, who| scenes::relay(programs, who, 100, ["relay-100", "cpu-100"], 1000),
    },
    Scene {
        measures: &["latency-1-p50", "latency-1-p99"],
        rounds: 3,
        run: |programs, who| scenes::latency(programs, who, 1, ["latency-1-p50", "latency-1-p99"]),
    },
    Scene {
        measures: &["latency-50-p50", "latency-50-p99"],
        rounds: 3,
        run: |programs, who| scenes::latency(programs, who, 50, ["latency-50-p50", "latency-50-p99"]),
    },
    Scene { measures: &["start", "memory", "guardian"], rounds: 9, run: scenes::start },
    Scene {
        measures: &["idle-memory", "idle-threads"],
        rounds: 1,
        run: |programs, who| scenes::idle_memory(programs, who, 10_000),
    },
    Scene { measures: &["connects"], rounds: 5, run: scenes::connects },
    Scene { measures: &["stalled"], rounds: 1, run: scenes::stalled },
];

struct Options {
    programs: Programs,
    contestants: Vec<Contestant>,
    only: Option<String>,
    json: Option<String>,
    rounds: Option<usize>,
    growth: bool,
}

fn options() -> Options {
    let mut args = std::env::args().skip(1);
    let mut path = || std::path::PathBuf::from(args.next().expect("paths: SERVER TOOLS PEERS BUILT"));
    let programs = Programs { server: path(), tools: path(), peers: path(), built: path() };
    let mut options = Options {
        programs,
        contestants: vec![Contestant::Ours, Contestant::Floor],
        only: None,
        json: None,
        rounds: None,
        growth: false,
    };
    while let Some(name) = args.next() {
        let value = args.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--only" => options.only = Some(value),
            "--json" => options.json = Some(value),
            "--rounds" => options.rounds = Some(value.parse().expect("a number of rounds")),
            "--growth" => options.growth = true,
            "--peers" => {
                let known = [Contestant::Socketioxide, Contestant::Node, Contestant::Python];
                let wanted = |who: &Contestant| value.split(',').any(|name| name == who.name());
                options.contestants.extend(known.into_iter().filter(wanted));
            }
            _ => panic!("unknown: {name}"),
        }
    }
    options
}

/// Who is measured, in which version.
fn versions(options: &Options) -> String {
    let said = |program: &str, args: &[&str]| {
        let output = std::process::Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().replace('\n', ", "))
    };
    let locked = |file: &str, name: &str| {
        let text = std::fs::read_to_string(options.programs.peers.join(file)).ok()?;
        let (_, rest) = text.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(format!("{name} {}", rest.split('"').next()?))
    };
    let python = options.programs.peers.join("python/.venv/bin/python").display().to_string();
    let packages =
        "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in ('python-socketio', 'uvicorn')))";
    let node = options.programs.peers.join("node").display().to_string();
    let parts = options.contestants.iter().filter_map(|who| match who {
        Contestant::Ours => said(&options.programs.server.display().to_string(), &["--version"]),
        Contestant::Floor => None,
        Contestant::Socketioxide => {
            let names = ["socketioxide", "axum", "tokio"];
            Some(names.iter().filter_map(|name| locked("socketioxide/Cargo.lock", name)).collect::<Vec<_>>().join(" "))
        }
        Contestant::Node => {
            let version =
                format!("console.log('socket.io', require('{node}/node_modules/socket.io/package.json').version)");
            Some(format!("Node {} {}", said("node", &["--version"])?, said("node", &["-e", &version])?))
        }
        Contestant::Python => Some(format!("{} {}", said(&python, &["--version"])?, said(&python, &["-c", packages])?)),
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn main() {
    let options = options();
    system::raise_descriptors();
    eprintln!("{}", system::machine());
    eprintln!("{}", versions(&options));
    if options.growth {
        return growth::run(&options.programs, options.json.as_deref());
    }
    let mut values = Values::new();
    // The name of a measure, or the beginning of several.
    let exact = |only: &str| MEASURES.iter().any(|measure| measure.key == only);
    let wanted = |key: &str| {
        options.only.as_ref().is_none_or(|only| if exact(only) { key == only } else { key.starts_with(only.as_str()) })
    };
    for scene in SCENES.iter().filter(|scene| scene.measures.iter().any(|key| wanted(key))) {
        for round in 0..options.rounds.unwrap_or(scene.rounds) {
            for who in &options.contestants {
                eprintln!("{} {}: {}", scene.measures[0], round + 1, who.name());
                for (key, value) in (scene.run)(&options.programs, *who) {
                    values.entry((key, *who)).or_default().push(value);
                }
            }
        }
    }
    if wanted("idle-cpu") {
        eprintln!("idle-cpu: all");
        for (who, value) in scenes::idle_cpu(&options.programs, &options.contestants) {
            values.entry(("idle-cpu", who)).or_default().push(value);
        }
    }
    print!("{}", report::table(&MEASURES, &values, &options.contestants));
    if let Some(file) = options.json {
        let rows = report::rows(&MEASURES, &values, &options.contestants);
        std::fs::write(&file, format!("{rows:#}\n")).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}
