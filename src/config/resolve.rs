//! What was said means this here: the decided configuration.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::address::{self, PublicUrl};
use super::reader::{Reader, agent, agent_args, data_dir, directories};
use super::settings::Said;
use super::values::{self, quoted};
use super::{ConfigError, Env, Machine};
use crate::logging::LogFormat;

const PORT_DEFAULT: u16 = 3001;
const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);
const RECOVERY_WINDOW_DEFAULT: Duration = Duration::from_secs(120);
const START_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(3);
const INTERRUPT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
const PING_INTERVAL_DEFAULT: Duration = Duration::from_millis(25_000);
const PING_TIMEOUT_DEFAULT: Duration = Duration::from_millis(20_000);

const CONNECTIONS_DEFAULT: usize = 1024;
const SESSIONS_DEFAULT: usize = 10_000;
const PRESTART_DEFAULT: usize = 2;
/// The memory reckoned for one process.
const PROCESS_BYTES: u64 = 512_000_000;
/// The processes allowed where the memory is not known.
const PROCESSES_FALLBACK: usize = 4;
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const SESSIONS: RangeInclusive<u64> = 1..=10_000_000;
const PROCESSES: RangeInclusive<u64> = 1..=10_000;
const PRESTART: RangeInclusive<u64> = 0..=10_000;

const PAYLOAD_BYTES_DEFAULT: usize = 1_000_000;
const OUTBOX_BYTES_DEFAULT: usize = 8 << 20;
const PAYLOAD_BYTES: RangeInclusive<u64> = 1 << 10..=64 << 20;
/// An event of up to 900 kB may have to wait: with less than that, a client that pauses over one is let go.
const OUTBOX_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 30;

/// Who shares a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One session for all.
    Shared,
    /// A session for each client that does not ask for another's.
    Isolated,
}

/// Which program answers the prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentChoice {
    /// Claude Code if it is found, else the built-in demo.
    Auto,
    /// Claude Code.
    Claude,
    /// The built-in demo.
    Demo,
    /// The program at this absolute path. Whether it is there shows when it is started.
    Path(PathBuf),
}

/// Everything decided. Directories are canonical, other paths absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address to listen on; an IPv4 address is never in the form of IPv6. Loopback unless
    /// `allow_remote`.
    pub host: IpAddr,
    /// The port to listen on; 0: the system picks.
    pub port: u16,
    /// Origins that may connect besides the server's own, as browsers send them; `*` for all.
    pub cors_origins: Vec<String>,
    /// Further hosts that requests may name, as in a `Host` header without port: lower case, IPv6 in
    /// brackets.
    pub allow_hosts: Vec<String>,
    /// The server's address in front of a TLS proxy.
    pub public_url: Option<PublicUrl>,
    /// Whether an address other than loopback was allowed.
    pub allow_remote: bool,
    /// Whether the token is asked for. Always, unless on loopback alone.
    pub auth: bool,
    /// The file with the token.
    pub token_file: PathBuf,
    /// Which program answers the prompts.
    pub agent: AgentChoice,
    /// Further arguments for it.
    pub agent_args: Vec<OsString>,
    /// The directory of sessions that name none; under one of `allow_roots`.
    pub cwd: PathBuf,
    /// Directories under which sessions may lie; at least one.
    pub allow_roots: Vec<PathBuf>,
    /// The model of sessions that name none; none: Claude's own.
    pub model: Option<String>,
    /// The permission mode of sessions that name none; none: Claude's own.
    pub permission_mode: Option<String>,
    /// The effort of sessions that name none; none: Claude's own.
    pub effort: Option<String>,
    /// Whether clients may choose the permission mode `bypassPermissions`.
    pub allow_bypass_permissions: bool,
    /// Who shares a session.
    pub mode: Mode,
    /// Where sessions are kept; may not exist yet.
    pub data_dir: PathBuf,
    /// A process without viewer, turn, question and background task stops after it; none: never.
    pub idle_timeout: Option<Duration>,
    /// A session is deleted so long after its last activity; none: never.
    pub session_ttl: Option<Duration>,
    /// A damaged database is set aside, and a new one begun.
    pub recover: bool,
    /// So many sessions that were just opened get their process before the first prompt; 0: none.
    pub prestart: usize,
    /// For so long the state of a lost connection is kept; zero: not at all.
    pub recovery_window: Duration,
    /// Connections at once.
    pub max_connections: usize,
    /// Sessions kept.
    pub max_sessions: usize,
    /// Processes of the agent at once.
    pub max_processes: usize,
    /// The largest message from a client, in bytes.
    pub max_payload: usize,
    /// What may wait for one slow client, in bytes.
    pub outbox_bytes_max: usize,
    /// Time between the pings of a connection.
    pub ping_interval: Duration,
    /// Time to wait for the answer to a ping.
    pub ping_timeout: Duration,
    /// Time within which a process must answer after its start.
    pub start_timeout: Duration,
    /// Time between the steps of stopping a process.
    pub stop_grace: Duration,
    /// Time within which a process must answer an interrupt.
    pub interrupt_timeout: Duration,
    /// The least severe records that are logged.
    pub log_level: LevelFilter,
    /// What a line of the log looks like.
    pub log_format: LogFormat,
    /// To be logged once logging is set up: what was ignored, one line each.
    pub warnings: Vec<String>,
}

/// Decides everything that was `said`.
pub(super) fn resolve(
    said: &Said,
    env: Env<'_>,
    machine: &Machine,
    warnings: Vec<String>,
) -> Result<Config, ConfigError> {
    let o = &said.options;
    let reader = Reader { said, machine };
    let count = |flag: &str, value, range: RangeInclusive<u64>, default: usize| {
        let read = |text: &str| values::number(text, range.clone()).map(|n| n as usize);
        reader.value_or(flag, value, default, read)
    };
    let (cwd, allow_roots) = directories(&reader)?;
    let data_dir = data_dir(&reader, env)?;
    let token_file = match &o.token_file {
        Some(path) => reader.path("--token-file", path)?,
        None => data_dir.join("token"),
    };
    let by_memory = processes_by_memory(machine.memory_bytes);
    let config = Config {
        host: reader.value_or("--host", &o.host, Ipv4Addr::LOCALHOST.into(), address::address)?,
        port: reader.value_or("--port", &o.port, PORT_DEFAULT, port)?,
        cors_origins: reader.list("--cors-origin", &o.cors_origin, address::origin)?,
        allow_hosts: reader.list("--allow-host", &o.allow_host, address::host_name)?,
        public_url: reader.value("--public-url", &o.public_url, address::public_url)?,
        allow_remote: o.allow_remote,
        auth: !o.no_auth,
        token_file,
        agent: agent(&reader)?,
        agent_args: agent_args(&reader)?,
        cwd,
        allow_roots,
        model: reader.value("--model", &o.model, model)?,
        permission_mode: reader.value("--permission-mode", &o.permission_mode, permission_mode)?,
        effort: reader.value("--effort", &o.effort, effort)?,
        allow_bypass_permissions: o.allow_bypass_permissions,
        mode: reader.value_or("--mode", &o.mode, Mode::Isolated, mode)?,
        data_dir,
        idle_timeout: reader.value_or(
            "--idle-timeout",
            &o.idle_timeout,
            Some(IDLE_TIMEOUT_DEFAULT),
            values::duration_or_none,
        )?,
        recover: o.recover,
        session_ttl: reader.value_or("--session-ttl", &o.session_ttl, None, values::duration_or_none)?,
        prestart: count("--prestart", &o.prestart, PRESTART, PRESTART_DEFAULT)?,
        recovery_window: reader.value_or(
            "--recovery-window",
            &o.recovery_window,
            RECOVERY_WINDOW_DEFAULT,
            values::recovery_window,
        )?,
        max_connections: count("--max-connections", &o.max_connections, CONNECTIONS, CONNECTIONS_DEFAULT)?,
        max_sessions: count("--max-sessions", &o.max_sessions, SESSIONS, SESSIONS_DEFAULT)?,
        max_processes: count("--max-processes", &o.max_processes, PROCESSES, by_memory)?,
        max_payload: reader.value_or("--max-payload", &o.max_payload, PAYLOAD_BYTES_DEFAULT, |text| {
            values::size(text, PAYLOAD_BYTES)
        })?,
        outbox_bytes_max: reader.value_or("--outbox-bytes-max", &o.outbox_bytes_max, OUTBOX_BYTES_DEFAULT, |text| {
            values::size(text, OUTBOX_BYTES)
        })?,
        ping_interval: reader.value_or(
            "--ping-interval-ms",
            &o.ping_interval_ms,
            PING_INTERVAL_DEFAULT,
            values::wait_ms,
        )?,
        ping_timeout: reader.value_or(
            "--ping-timeout-ms",
            &o.ping_timeout_ms,
            PING_TIMEOUT_DEFAULT,
            values::wait_ms,
        )?,
        start_timeout: reader.value_or("--start-timeout", &o.start_timeout, START_TIMEOUT_DEFAULT, values::wait)?,
        stop_grace: reader.value_or("--stop-grace", &o.stop_grace, STOP_GRACE_DEFAULT, values::wait)?,
        interrupt_timeout: reader.value_or(
            "--interrupt-timeout",
            &o.interrupt_timeout,
            INTERRUPT_TIMEOUT_DEFAULT,
            values::wait,
        )?,
        log_level: reader.value_or("--log-level", &o.log_level, LevelFilter::Info, log_level)?,
        log_format: reader.value_or("--log-format", &o.log_format, LogFormat::Text, log_format)?,
        warnings,
    };
    permit(said, &config)?;
    Ok(config)
}

/// Refuses what would open the machine to strangers, or to Claude itself, without being asked for by name.
fn permit(said: &Said, config: &Config) -> Result<(), ConfigError> {
    let refuse = |flag: &str, what: String| Err(ConfigError::bad(said.name(flag), what));
    let (host, loopback) = (config.host, config.host.is_loopback());
    if !loopback && !config.allow_remote {
        return refuse("--host", format!("{host} can be reached by others; needs --allow-remote"));
    }
    if !config.auth && !loopback {
        return refuse("--no-auth", format!("only with a loopback address, not with {host}"));
    }
    if !config.auth && config.public_url.is_some() {
        return refuse("--no-auth", "not together with --public-url".to_owned());
    }
    if !config.auth && config.cors_origins.iter().any(|origin| origin == "*") {
        return refuse("--no-auth", "not together with --cors-origin *".to_owned());
    }
    let bypass = config.permission_mode.as_deref() == Some("bypassPermissions");
    if bypass && !config.allow_bypass_permissions {
        let what = "bypassPermissions needs --allow-bypass-permissions".to_owned();
        return refuse("--permission-mode", what);
    }
    Ok(())
}

fn processes_by_memory(memory_bytes: Option<u64>) -> usize {
    let Some(bytes) = memory_bytes else {
        return PROCESSES_FALLBACK;
    };
    (bytes / PROCESS_BYTES).clamp(*PROCESSES.start(), *PROCESSES.end()) as usize
}

fn port(text: &str) -> Result<u16, String> {
    values::number(text, 0..=u64::from(u16::MAX)).map(|port| port as u16)
}

fn mode(text: &str) -> Result<Mode, String> {
    values::choice(text, &[("shared", Mode::Shared), ("isolated", Mode::Isolated)])
}

fn model(text: &str) -> Result<String, String> {
    values::text(text, values::is_model, "the name of a model")
}

fn permission_mode(text: &str) -> Result<String, String> {
    if values::is_permission_mode(text) {
        return Ok(text.to_owned());
    }
    Err(format!("{} is none of {}", quoted(text), values::PERMISSION_MODES.join(", ")))
}

fn effort(text: &str) -> Result<String, String> {
    values::text(text, values::is_effort, "a word of small letters, such as high")
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    let levels = [
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ];
    values::choice(text, &levels)
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    values::choice(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}
