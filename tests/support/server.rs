//! The server under test as a child process.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use serde_json::Value;

use super::{
    DEADLINE,
    client::Client,
    fake_api::FakeApi,
    program::{Pipe, Program},
    workspace::Workspace,
};

/// What the log line that names the port has before the port.
pub const LISTENING: &str = "listening on http://127.0.0.1:";

/// The flags, environment and directories of a server that is to be started.
pub struct Builder {
    exe: PathBuf,
    args: Vec<String>,
    env: Vec<(String, String)>,
    workspace: Arc<Workspace>,
    defaults: bool,
}

impl Builder {
    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Builder {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Builder {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, which is otherwise `PATH`, `HOME` and `TMPDIR`.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Builder {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it with the directories of an earlier one, as a restart does.
    pub fn workspace(mut self, workspace: &Arc<Workspace>) -> Builder {
        self.workspace = workspace.clone();
        self
    }

    /// Leaves out the flags that are otherwise given always (`--port=0`, `--data-dir`, `--cwd`).
    pub fn without_defaults(mut self) -> Builder {
        self.defaults = false;
        self
    }

    /// The badly behaved agent as the server's agent, in the given mode and with its further arguments.
    pub fn bad_agent(self, mode: &[&str]) -> Builder {
        let agent = format!("--agent={}", super::agent::bad_agent().display());
        self.arg(agent).args(mode.iter().map(|arg| format!("--agent-arg={arg}")))
    }

    /// The real CLI as the server's agent, with the fake API behind it.
    pub fn claude(mut self, api: &FakeApi) -> Builder {
        self.env.extend(api.env());
        self.arg(format!("--agent={}", super::agent::claude().display()))
    }

    /// The demo agent.
    pub fn demo(self) -> Builder {
        self.arg("--agent=demo")
    }

    fn spawn(self) -> (Program, Arc<Workspace>) {
        let mut command = self.workspace.command(&self.exe);
        if self.defaults {
            command.arg("--port=0");
            // A process comes with the first prompt, unless a test wants it earlier.
            command.arg("--prestart=0");
            command.arg(format!("--data-dir={}", self.workspace.data().display()));
            command.arg(format!("--cwd={}", self.workspace.work().display()));
        }
        command.args(&self.args).envs(self.env);
        let program = Program::start("the server", command);
        program.close_stdin();
        (program, self.workspace)
    }

    /// Starts it and waits until it listens.
    ///
    /// # Panics
    /// When it ends instead, or does not listen within [`DEADLINE`].
    pub fn start(self) -> Server {
        let (program, workspace) = self.spawn();
        let (_, port) = program.wait_line(Pipe::Stderr, 0, |line| port_in(&line.text()));
        Server { port, program, workspace }
    }

    /// Starts it and waits until it listens; none where it ends instead, or hangs.
    pub fn try_start(self) -> Option<Server> {
        let (program, workspace) = self.spawn();
        let (_, port) = program.try_wait_line(Pipe::Stderr, 0, |line| port_in(&line.text()))?;
        Some(Server { port, program, workspace })
    }

    /// Starts it where it is expected to end by itself, and waits for that.
    ///
    /// # Panics
    /// When it has not ended within [`DEADLINE`].
    pub fn run(self) -> Ended {
        let (program, _workspace) = self.spawn();
        let status = program.wait_exit(DEADLINE);
        program.wait_end(Pipe::Stdout);
        program.wait_end(Pipe::Stderr);
        Ended { code: status.code(), stdout: program.text(Pipe::Stdout), stderr: program.text(Pipe::Stderr) }
    }
}

/// What is left of a server that ended by itself.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its exit code; none where a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

/// A server that listens. Dropping it kills it; what its agents left running goes with the workspace.
pub struct Server {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    // Dropped, and so killed, before the workspace sweeps.
    program: Program,
    workspace: Arc<Workspace>,
}

impl Server {
    /// How to start the binary at `exe`, which a test binary gives as `env!("CARGO_BIN_EXE_claude-session-manager")`.
    pub fn builder(exe: impl AsRef<Path>) -> Builder {
        Builder {
            exe: exe.as_ref().to_owned(),
            args: Vec::new(),
            env: Vec::new(),
            workspace: Arc::new(Workspace::new()),
            defaults: true,
        }
    }

    /// Its process number.
    pub fn pid(&self) -> i32 {
        self.program.pid
    }

    /// Its directories, to be given to the [`Builder`] of the next one.
    pub fn workspace(&self) -> &Arc<Workspace> {
        &self.workspace
    }

    /// The token it made, without the white space around it.
    pub fn token(&self) -> String {
        let path = self.workspace.data().join("token");
        let token = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        token.trim().to_owned()
    }

    /// Connects a client with the token and these further fields of `auth`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn connect(&self, auth: Value) -> Client {
        let mut auth = auth;
        if auth.is_null() {
            auth = Value::Object(serde_json::Map::new());
        }
        auth["token"] = Value::String(self.token());
        Client::connect(self.port, auth)
    }

    /// Sends it a signal, for example `libc::SIGINT`; false when it has ended.
    pub fn signal(&self, signal: i32) -> bool {
        self.program.signal(signal)
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// When it still runs after `deadline`.
    pub fn wait_exit(&self, deadline: Duration) -> ExitStatus {
        self.program.wait_exit(deadline)
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.program.exit_status()
    }

    /// Its standard output so far.
    pub fn stdout_text(&self) -> String {
        self.program.text(Pipe::Stdout)
    }

    /// Its standard error so far.
    pub fn stderr_text(&self) -> String {
        self.program.text(Pipe::Stderr)
    }

    /// Waits until a line of its standard error contains `part`, and gives the line.
    ///
    /// # Panics
    /// When none came within [`DEADLINE`].
    pub fn wait_log(&self, part: &str) -> String {
        let wanted = |text: String| text.contains(part).then_some(text);
        self.program.wait_line(Pipe::Stderr, 0, |line| wanted(line.text())).1
    }

    /// Ends it as Ctrl-C does, and waits for that.
    ///
    /// # Panics
    /// When it still runs after [`DEADLINE`].
    pub fn stop(&self) -> ExitStatus {
        self.signal(libc::SIGINT);
        self.wait_exit(DEADLINE)
    }

    /// The living processes below it or started through it, itself not among them.
    pub fn started(&self) -> Vec<super::processes::Process> {
        let mut found = self.workspace.processes();
        found.retain(|process| process.pid != self.pid());
        found
    }

    /// One HTTP exchange on a connection of its own: status, head and body of the answer.
    pub fn http(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> super::client::HttpAnswer {
        super::client::http(self.port, method, path, headers, b"")
    }
}

fn port_in(line: &str) -> Option<u16> {
    let (_, rest) = line.split_once(LISTENING)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}
