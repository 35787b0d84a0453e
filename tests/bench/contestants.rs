//! Those who are measured: how each is started, and how a client of it talks.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use super::load::Client;

/// Who is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// This server.
    Ours,
    /// The kernel and the memory.
    Floor,
    /// `socketioxide` on axum and tokio.
    Socketioxide,
    /// `socket.io` on Node.js.
    Node,
    /// `python-socketio` on uvicorn.
    Python,
}

impl Contestant {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Ours => "ours",
            Contestant::Floor => "floor",
            Contestant::Socketioxide => "socketioxide",
            Contestant::Node => "node",
            Contestant::Python => "python",
        }
    }
}

/// Where the programs are.
pub struct Programs {
    /// The server.
    pub server: PathBuf,
    /// Where the child and the floor lie.
    pub tools: PathBuf,
    /// The peers' folder, with what was installed.
    pub peers: PathBuf,
    /// Where the built peer is.
    pub built: PathBuf,
}

/// How this server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// All clients on one session.
    Shared,
    /// Each its own, or one that it names.
    Isolated,
}

/// A contestant that runs and listens.
pub struct Running {
    /// Who it is.
    pub who: Contestant,
    /// Where it listens.
    pub port: u16,
    /// From the start of the program to its first line, which says where it listens.
    pub began: Instant,
    /// What its clients want to see of a session; the others have but one kind.
    pub stream: &'static str,
    child: Child,
    token: String,
    place: Arc<tempfile::TempDir>,
}

impl Programs {
    /// Starts one and waits until it listens.
    pub fn start(&self, who: Contestant, mode: Mode) -> Running {
        let place = tempfile::Builder::new().prefix("csm-bench-").tempdir().expect("a folder");
        std::fs::create_dir(place.path().join("work")).expect("a folder");
        self.start_in(Arc::new(place), who, mode)
    }

    /// Ends one and starts it again with what is on the disk of it.
    pub fn restart(&self, running: Running, mode: Mode) -> Running {
        let (place, who) = (running.place.clone(), running.who);
        drop(running);
        self.start_in(place, who, mode)
    }

    fn start_in(&self, place: Arc<tempfile::TempDir>, who: Contestant, mode: Mode) -> Running {
        let mut command = self.command(who, mode, place.path());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", place.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", who.name()));
        let port = wait_port(&mut child, who);
        let token = std::fs::read_to_string(place.path().join("data/token")).unwrap_or_default().trim().to_owned();
        Running { who, port, began, stream: "events", child, token, place }
    }

    fn command(&self, who: Contestant, mode: Mode, place: &Path) -> Command {
        let agent = self.tools.join("bench_child");
        let mut command = match who {
            Contestant::Ours => {
                let mut command = Command::new(&self.server);
                command.arg("--port=0").arg("--max-connections=20000").arg("--max-processes=200");
                command.arg(if mode == Mode::Shared { "--mode=shared" } else { "--mode=isolated" });
                command.arg(format!("--agent={}", agent.display()));
                command.arg(format!("--data-dir={}", place.join("data").display()));
                command.arg(format!("--cwd={}", place.join("work").display()));
                return command;
            }
            Contestant::Floor => Command::new(self.tools.join("bench_floor")),
            Contestant::Socketioxide => Command::new(&self.built),
            Contestant::Node => {
                let mut command = Command::new("node");
                command.arg(self.peers.join("node/server.mjs"));
                command
            }
            Contestant::Python => {
                let mut command = Command::new(self.peers.join("python/.venv/bin/python"));
                command.arg(self.peers.join("python/server.py"));
                command
            }
        };
        command.arg(agent);
        command
    }
}

/// The port, which the first line that names one tells. Later lines are read, and shown if they warn of something.
fn wait_port(child: &mut Child, who: Contestant) -> u16 {
    let (tell, told) = mpsc::channel();
    let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let pipes: [Box<dyn std::io::Read + Send>; 2] = [Box::new(stdout), Box::new(stderr)];
    for pipe in pipes {
        let tell = tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines() {
                let Ok(line) = line else { return };
                if [" WARN ", " ERROR ", "too slow"].iter().any(|level| line.contains(level)) {
                    eprintln!("{}: {line}", who.name());
                }
                match port_in(&line) {
                    Some(port) => drop(tell.send(Ok(port))),
                    None => drop(tell.send(Err(line))),
                }
            }
        });
    }
    drop(tell);
    let mut said = String::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(Ok(port)) => return port,
            Ok(Err(line)) => said = format!("{said}\n{line}"),
            Err(_) => panic!("{} does not listen: {said}", who.name()),
        }
    }
}

fn port_in(line: &str) -> Option<u16> {
    let rest = match line.split_once("listening ") {
        Some((_, rest)) => rest.rsplit(':').next()?,
        None => return None,
    };
    rest.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

impl Running {
    /// Its process.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process number")
    }

    /// What a client says to come into this session.
    pub fn auth(&self, session: &str) -> String {
        let (token, stream) = (&self.token, self.stream);
        match self.who {
            Contestant::Ours if session.starts_with("session_") => {
                format!(r#"{{"token":"{token}","stream":"{stream}","sessionId":"{session}"}}"#)
            }
            Contestant::Ours => format!(r#"{{"token":"{token}","stream":"{stream}"}}"#),
            _ => format!(r#"{{"session":"{session}"}}"#),
        }
    }

    /// A client in a session of this name; the session's real name.
    pub fn join(&self, session: &str) -> (Client, String) {
        let mut client = Client::connect(self.port, &self.auth(session));
        let session = self.wait_in(&mut client, session);
        (client, session)
    }

    /// Waits until a client that is connected is in its session, which is ready to be asked.
    pub fn wait_in(&self, client: &mut Client, session: &str) -> String {
        if self.who != Contestant::Ours {
            client.wait(r#"42["ready""#);
            return session.to_owned();
        }
        let told = client.wait(r#"42["sessionRegistered""#);
        let (_, rest) = told.split_once(r#""sessionId":""#).expect("a session");
        rest.split('"').next().expect("its name").to_owned()
    }

    /// Asks for a stream: see the child.
    pub fn ask(&self, client: &mut Client, session: &str, order: &str) {
        match self.who {
            Contestant::Ours => {
                client.say(&format!(r#"420["askClaudeCode",{{"sessionId":"{session}","prompt":"{order}"}}]"#));
            }
            _ => client.say(&format!(r#"42["ask","{order}"]"#)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // SAFETY: a plain system call; the child is ours and not reaped.
        unsafe { libc::kill(self.pid(), libc::SIGTERM) };
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
