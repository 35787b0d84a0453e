//! The server put together: starts everything in order, waits for a signal, stops everything in order.

use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use crate::auth::{AuthGuard, Token};
use crate::claude::command::{Agent, find_on_path, is_executable};
use crate::claude::guardian::take_server_lock;
use crate::claude::supervisor::{self, Supervisor};
use crate::claude::transcripts::{Transcripts, projects_dir};
use crate::config::{AgentChoice, Config, Mode};
use crate::net::{Options, Room, Server, SocketIo};
use crate::proto::http::HostPolicy;
use crate::routes;
use crate::session::api::Api;
use crate::session::keeper::Keeper;
use crate::session::live::Live;
use crate::session::manager::SessionManager;
use crate::session::rules::Rules;
use crate::session::slots::Slots;
use crate::session::state::{Choices, Context};
use crate::store::{OpenError, Store};
use crate::threads::Threads;
use crate::timer::Timer;

/// From the first signal to the exit, at most.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(12);

/// A session that nobody uses leaves the memory after this time, or as soon as its process would stop.
const UNLOAD_AFTER: Duration = Duration::from_secs(10);

/// How long clients get to take leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the server could not start, in one line, and the exit code.
#[derive(Debug)]
pub struct Failure {
    /// For the person at the terminal.
    pub message: String,
    /// For scripts; see the wire contract.
    pub exit_code: u8,
}

impl Failure {
    fn new(exit_code: u8, message: impl Into<String>) -> Failure {
        Failure { message: message.into(), exit_code }
    }
}

/// Runs the server until a signal ends it, and returns the exit code.
///
/// # Errors
/// What kept it from starting.
pub fn serve(config: &Config, signals: &Receiver<()>) -> Result<u8, Failure> {
    let running = Running::start(config)?;
    let _ = signals.recv();
    log::info!("shutting down; once more to stop at once");
    Ok(running.stop(signals))
}

struct Running {
    server: Server<SocketIo<Api>>,
    manager: Arc<SessionManager>,
    supervisor: Supervisor,
    timer: Timer,
    timer_thread: JoinHandle<()>,
    store: Arc<Store>,
    keeper: Keeper,
    _data: std::fs::File,
}

impl Running {
    fn start(config: &Config) -> Result<Running, Failure> {
        let agent = choose_agent(config)?;
        let agent = match config.allow_bypass_permissions {
            true => agent.allowed_to_bypass_permissions(),
            false => agent.forbidden_to_bypass_permissions(),
        };
        let address = SocketAddr::new(config.host, config.port);
        let listener = TcpListener::bind(address).map_err(|error| cannot_listen(address, &error))?;
        let address = listener.local_addr().map_err(internal)?;
        let token = match config.auth {
            true => {
                Some(Token::load_or_create(&config.token_file).map_err(|error| Failure::new(2, error.to_string()))?)
            }
            false => None,
        };
        let data_dir = config.data_dir.display();
        crate::claude::guardian::make_private_dir(&config.data_dir)
            .map_err(|error| Failure::new(2, format!("cannot use the data directory {data_dir}: {error}")))?;
        let data = take_server_lock(&config.data_dir).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => Failure::new(5, format!("another server uses the data directory {data_dir}")),
            _ => Failure::new(2, format!("cannot use the data directory {data_dir}: {error}")),
        })?;
        let room = Arc::new(Room::default());
        let store = open_store(config, &room)?;
        let (timer, timer_thread) = Timer::start().map_err(internal)?;
        announce(config, &agent);
        let supervisor = Supervisor::start(supervisor::Options {
            agent,
            allow_roots: config.allow_roots.clone(),
            data_dir: config.data_dir.clone(),
            own_binary: own_binary()?,
            stop_grace: config.stop_grace,
            timer: timer.clone(),
        })
        .map_err(internal)?;
        let auth = Arc::new(AuthGuard::new(token));
        let manager = Arc::new(manager(config, &supervisor, &timer, &room, &store)?);
        let keeper = Keeper::start(manager.clone(), config.session_ttl).map_err(internal)?;
        let rules = Rules {
            allow_roots: config.allow_roots.clone(),
            allow_bypass_permissions: config.allow_bypass_permissions,
            data_dir: config.data_dir.clone(),
        };
        let api = Arc::new(Api::new(manager.clone(), auth.clone(), rules));
        let counter = Arc::new(std::sync::OnceLock::new());
        let http = routes::handler(manager.clone(), auth.clone(), counter.clone());
        let server = Server::start(
            listener,
            options(config, room),
            timer.clone(),
            SocketIo::new(api, config.recovery_window, timer.clone()),
            http,
        )
        .map_err(internal)?;
        let _ = counter.set(Box::new(server.client_count()) as Box<routes::Counter>);
        log::info!("listening on http://{address}");
        manager.ask_version();
        show_link(config, &auth, address);
        Ok(Running { server, manager, supervisor, timer, timer_thread, store, keeper, _data: data })
    }

    /// Stops in the order in which nothing is lost: no new clients, then the sessions, then the clients.
    fn stop(self, signals: &Receiver<()>) -> u8 {
        let deadline = Instant::now() + SHUTDOWN_TIMEOUT;
        self.server.stop_accepting();
        self.keeper.stop();
        self.manager.announce_shutdown();
        self.manager.shut_down();
        // A second signal must be seen while the first is still at work.
        let (done, finished) = crossbeam_channel::bounded(1);
        let supervisor = self.supervisor.clone();
        let worker = std::thread::Builder::new().name("shutdown".into()).spawn(move || {
            let _ = done.send(supervisor.shut_down(deadline - Duration::from_secs(5)));
        });
        let mut code = 0;
        if worker.is_ok() {
            crossbeam_channel::select! {
                recv(finished) -> clean => if clean != Ok(true) {
                    log::error!("some processes could not be ended");
                },
                default(deadline.saturating_duration_since(Instant::now()).saturating_sub(CLOSE_TIMEOUT)) => {
                    log::error!("some processes could not be ended in time");
                }
                recv(signals) -> _ => {
                    log::warn!("stopping at once");
                    code = 130;
                    self.supervisor.kill_all();
                    let _ = finished.recv_timeout(Duration::from_secs(6));
                }
            }
        }
        if !self.server.close(Instant::now() + CLOSE_TIMEOUT) {
            log::debug!("some clients did not take leave in time");
        }
        self.timer.stop();
        let _ = self.timer_thread.join();
        self.store.close();
        log::info!("stopped");
        code
    }
}

/// Nothing is started with a database that cannot be trusted, and nothing is written to it.
fn open_store(config: &Config, room: &Arc<Room>) -> Result<Arc<Store>, Failure> {
    let dir = &config.data_dir;
    let open = || Store::open(dir, room.clone());
    let opened = match open() {
        Err(OpenError::Damaged(what)) if config.recover => {
            let aside = Store::set_aside(dir).map_err(|error| Failure::new(2, format!("{what}; and {error}")))?;
            log::warn!("the database is damaged ({what}); it lies in {} now, and a new one is begun", aside.display());
            open()
        }
        opened => opened,
    };
    opened.map(Arc::new).map_err(|error| match error {
        OpenError::Damaged(what) => Failure::new(
            3,
            format!("the database is damaged: {what}. It was left as it is. Restore it from a copy, or start once with --recover: that sets it aside and begins a new one"),
        ),
        OpenError::Newer(what) => Failure::new(4, what),
        OpenError::Unusable(what) => Failure::new(2, format!("cannot use the data directory {}: {what}", dir.display())),
    })
}

fn manager(
    config: &Config,
    supervisor: &Supervisor,
    timer: &Timer,
    room: &Arc<Room>,
    store: &Arc<Store>,
) -> Result<SessionManager, Failure> {
    let shared = config.mode == Mode::Shared;
    let context = Context {
        supervisor: supervisor.clone(),
        timer: timer.clone(),
        threads: Threads::default(),
        room: room.clone(),
        mode: if shared { "shared" } else { "isolated" },
        store: store.clone(),
        data_dir: config.data_dir.clone(),
        live: Live::default(),
        transcripts: transcripts(config, supervisor.agent()),
        importing: parking_lot::Mutex::default(),
        slots: Slots::new(config.max_processes, config.prestart),
        agent_version: parking_lot::Mutex::default(),
        allow_bypass_permissions: config.allow_bypass_permissions,
        start_timeout: config.start_timeout,
        interrupt_timeout: config.interrupt_timeout,
        // The shared session's process lives as long as the server.
        idle_timeout: config.idle_timeout.filter(|_| !shared),
        unload_after: Some(config.idle_timeout.map_or(UNLOAD_AFTER, |idle| idle.min(UNLOAD_AFTER))).filter(|_| !shared),
    };
    let defaults = Choices {
        cwd: config.cwd.clone(),
        model: config.model.clone(),
        permission_mode: config.permission_mode.clone(),
        effort: config.effort.clone(),
        title: None,
    };
    SessionManager::new(config.mode, context, defaults, config.max_sessions)
        .map_err(|error| Failure::new(3, format!("cannot read the stored sessions: {}", error.message)))
}

/// Conversations of a terminal are of use only where Claude itself can go on with them.
fn transcripts(config: &Config, agent: &Agent) -> Option<Transcripts> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let projects = projects_dir(variable("CLAUDE_CONFIG_DIR"), variable("HOME")).filter(|_| !agent.demo)?;
    Some(Transcripts::new(projects, config.allow_roots.clone()))
}

fn options(config: &Config, room: Arc<Room>) -> Options {
    let public = config.public_url.as_ref().map(|url| (url.scheme.clone(), url.host.clone(), url.port));
    Options {
        path: "/socket.io/".into(),
        ping_interval: config.ping_interval,
        ping_timeout: config.ping_timeout,
        max_payload: config.max_payload,
        outbox_bytes_max: config.outbox_bytes_max,
        max_connections: config.max_connections,
        policy: HostPolicy::new(config.host, config.allow_hosts.clone(), public, config.cors_origins.clone()),
        shared_path: Some(routes::SESSIONS),
        room,
    }
}

fn choose_agent(config: &Config) -> Result<Agent, Failure> {
    let args = config.agent_args.clone();
    let found = || find_on_path("claude", std::env::var_os("PATH"));
    let demo = || -> Result<Agent, Failure> {
        let state = format!("--state-dir={}", config.data_dir.join("demo").display());
        Ok(Agent::demo(own_binary()?, state.into(), args.clone()))
    };
    match &config.agent {
        AgentChoice::Demo => demo(),
        AgentChoice::Auto => found().map_or_else(demo, |program| Ok(Agent::at(program, args.clone()))),
        AgentChoice::Claude => match found() {
            Some(program) => Ok(Agent::at(program, args)),
            None => Err(Failure::new(2, "--agent claude: there is no claude on PATH")),
        },
        AgentChoice::Path(path) => match path.canonicalize() {
            // Canonical, since every session has its own working directory; but executed under the name that was given.
            Ok(_) if is_executable(path) => {
                let absolute = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                Ok(Agent::at(absolute, args))
            }
            Ok(_) => Err(Failure::new(2, format!("--agent {}: not an executable file", path.display()))),
            Err(error) => Err(Failure::new(2, format!("--agent {}: {error}", path.display()))),
        },
    }
}

fn own_binary() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(internal)
}

fn internal(error: io::Error) -> Failure {
    Failure::new(1, format!("cannot start: {error}"))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let port = address.port();
    Failure::new(
        2,
        match error.kind() {
            ErrorKind::AddrInUse => format!("port {port} is in use on {}: choose another with --port", address.ip()),
            _ => format!("cannot listen on {address}: {error}"),
        },
    )
}

fn announce(config: &Config, agent: &Agent) {
    log::info!(
        "{} {}, {} mode",
        env!("CARGO_PKG_NAME"),
        env!("CARGO_PKG_VERSION"),
        if config.mode == Mode::Shared { "shared" } else { "isolated" }
    );
    for warning in &config.warnings {
        log::warn!("{warning}");
    }
    if agent.demo {
        let why = if config.agent == AgentChoice::Demo { "as asked" } else { "there is no claude on PATH" };
        log::warn!("DEMO AGENT ({why}): answers come from a built-in stand-in, not from Claude");
    } else {
        log::info!("agent: {}", agent.program.display());
    }
    if !config.auth {
        log::warn!("no token is asked for (--no-auth): every program on this machine can run commands here");
    }
}

/// The link for a person at a terminal; otherwise only where the token lies, since logs are kept.
fn show_link(config: &Config, auth: &AuthGuard, address: SocketAddr) {
    match auth.token() {
        Some(token) if io::stdout().is_terminal() => {
            let _ = writeln!(io::stdout(), "\n  Open {}\n", link(config, token, address));
        }
        Some(_) => log::info!("the token is in {}", config.token_file.display()),
        None => {}
    }
}

/// The address of the page with the token in its fragment, which browsers do not send.
#[must_use]
pub fn link(config: &Config, token: &Token, address: SocketAddr) -> String {
    let base = match &config.public_url {
        Some(url) => url.to_string().trim_end_matches('/').to_owned(),
        None => format!("http://{}", reachable(address)),
    };
    format!("{base}/#token={}", token.reveal())
}

/// A wildcard address listens everywhere, but names no machine.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// `healthcheck`: asks the running server whether it is well.
///
/// # Errors
/// One line that says why not.
pub fn healthcheck(config: &Config) -> Result<String, String> {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let address = reachable(SocketAddr::new(config.host, config.port));
    let ask = || -> io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        // In one piece: `write!` would send each part by itself, and an answer to the first could end the rest.
        let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.take(64 * 1024).read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| format!("no server answers on {address}: {error}"))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(format!("{address}: {}", answer.lines().next().unwrap_or("no answer"))),
    }
}
