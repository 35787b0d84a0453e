//! What argv said, as text: the flags, the subcommands and their help.
//!
//! No default and no value is decided here, because the environment and the `--config` file have their say
//! before the defaults; so the help names them by hand.

use std::ffi::OsString;

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, Parser, Subcommand};

use super::ConfigError;
use super::settings::overlay;

const NETWORK: &str = "Network";
const ACCESS: &str = "Who is let in";
const CLAUDE: &str = "Claude";
const SESSIONS: &str = "Sessions";
const LIMITS: &str = "Limits";
const LOGGING: &str = "Logging";
const ADVANCED: &str = "Advanced";

const NOTES: &str = "\
Flags win over environment variables, these over the --config file, it over the defaults.
The file's keys are the flags in camelCase, but allowRoots and agentArgs: {\"port\": 3002}
Times: 500ms, 90s, 10m, 2h, 1d; a bare number is seconds. Sizes: bytes, or 900k, 8MiB.
Exit codes: 0 clean, 2 bad use or port taken, 3 damaged database, 4 newer database,
5 another server on this data, 130 second signal.";

/// Everything that can be said, by any of argv, environment and `--config` file; empty where nothing was.
#[derive(Debug, Default, Clone, Args)]
#[allow(missing_docs)] // the help of each flag is its documentation
pub struct Options {
    /// IP address to listen on [env: HOST] [default: 127.0.0.1]
    #[arg(long, value_name = "ADDR", help_heading = NETWORK)]
    pub host: Option<OsString>,
    /// Port to listen on; 0: the system picks [env: PORT] [default: 3001]
    #[arg(long, value_name = "PORT", help_heading = NETWORK)]
    pub port: Option<OsString>,
    /// Origin that may connect, or *; repeatable [env: CORS_ORIGIN]
    #[arg(long, value_name = "URL", help_heading = NETWORK)]
    pub cors_origin: Vec<OsString>,
    /// Further name or address the server is called by, repeatable
    #[arg(long, value_name = "NAME", help_heading = NETWORK)]
    pub allow_host: Vec<OsString>,
    /// https://host/prefix, behind a TLS proxy [env: CSM_PUBLIC_URL]
    #[arg(long, value_name = "URL", help_heading = NETWORK)]
    pub public_url: Option<OsString>,

    /// Allow a --host that other machines can reach
    #[arg(long, help_heading = ACCESS)]
    pub allow_remote: bool,
    /// Ask for no token; only on a loopback address
    #[arg(long, help_heading = ACCESS)]
    pub no_auth: bool,
    /// File with the token [env: CSM_TOKEN_FILE] [default: DATA-DIR/token]
    #[arg(long, value_name = "FILE", help_heading = ACCESS)]
    pub token_file: Option<OsString>,

    /// auto, claude, demo or a path [env: CSM_AGENT] [default: auto]
    #[arg(long, value_name = "AGENT", help_heading = CLAUDE)]
    pub agent: Option<OsString>,
    /// Further argument for the agent, repeatable
    #[arg(long, value_name = "ARG", allow_hyphen_values = true, help_heading = CLAUDE)]
    pub agent_arg: Vec<OsString>,
    /// Directory of sessions [env: CSM_CWD] [default: the current one]
    #[arg(long, value_name = "DIR", help_heading = CLAUDE)]
    pub cwd: Option<OsString>,
    /// Root of sessions; repeatable [env: CSM_ALLOW_ROOT] [default: CWD]
    #[arg(long, value_name = "DIR", help_heading = CLAUDE)]
    pub allow_root: Vec<OsString>,
    /// Such as opus [env: CSM_MODEL] [default: Claude's own]
    #[arg(long, value_name = "MODEL", help_heading = CLAUDE)]
    pub model: Option<OsString>,
    /// Such as plan [env: CSM_PERMISSION_MODE] [default: Claude's own]
    #[arg(long, value_name = "MODE", help_heading = CLAUDE)]
    pub permission_mode: Option<OsString>,
    /// Such as high [env: CSM_EFFORT] [default: Claude's own]
    #[arg(long, value_name = "LEVEL", help_heading = CLAUDE)]
    pub effort: Option<OsString>,
    /// Let clients choose bypassPermissions
    #[arg(long, help_heading = CLAUDE)]
    pub allow_bypass_permissions: bool,

    /// isolated, or shared: one for all [env: CSM_MODE] [default: isolated]
    #[arg(long, value_name = "MODE", help_heading = SESSIONS)]
    pub mode: Option<OsString>,
    /// Where all is kept; by default in $XDG_STATE_HOME [env: CSM_DATA_DIR]
    #[arg(long, value_name = "DIR", help_heading = SESSIONS)]
    pub data_dir: Option<OsString>,
    /// An unused process stops after it; or none [default: 10m]
    #[arg(long, value_name = "TIME", help_heading = SESSIONS)]
    pub idle_timeout: Option<OsString>,
    /// An unused session is deleted after it; or none [default: none]
    #[arg(long, value_name = "TIME", help_heading = SESSIONS)]
    pub session_ttl: Option<OsString>,
    /// Set a damaged database aside and begin a new one
    #[arg(long, help_heading = SESSIONS)]
    pub recover: bool,
    /// Processes started before the first prompt [default: 2]
    #[arg(long, value_name = "N", help_heading = SESSIONS)]
    pub prestart: Option<OsString>,
    /// For so long a lost connection can be recovered [default: 2m]
    #[arg(long, value_name = "TIME", help_heading = SESSIONS)]
    pub recovery_window: Option<OsString>,

    /// Connections at once [default: 1024]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub max_connections: Option<OsString>,
    /// Sessions kept [default: 10000]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub max_sessions: Option<OsString>,
    /// Claude processes at once [default: one per 512 MB of memory]
    #[arg(long, value_name = "N", help_heading = LIMITS)]
    pub max_processes: Option<OsString>,
    /// Size of a message from a client [default: 1000000]
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    pub max_payload: Option<OsString>,
    /// What may wait for a slow client before it is let go [default: 8MiB]
    #[arg(long, value_name = "SIZE", help_heading = LIMITS)]
    pub outbox_bytes_max: Option<OsString>,

    /// error, warn, info, debug or trace [env: CSM_LOG] [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = LOGGING)]
    pub log_level: Option<OsString>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT", help_heading = LOGGING)]
    pub log_format: Option<OsString>,

    /// Time between the pings of a connection [default: 25000]
    #[arg(long, value_name = "MS", help_heading = ADVANCED)]
    pub ping_interval_ms: Option<OsString>,
    /// Time to wait for the answer to a ping [default: 20000]
    #[arg(long, value_name = "MS", help_heading = ADVANCED)]
    pub ping_timeout_ms: Option<OsString>,
    /// A process must answer within it after its start [default: 30s]
    #[arg(long, value_name = "TIME", help_heading = ADVANCED)]
    pub start_timeout: Option<OsString>,
    /// Time between the steps of stopping a process [default: 3s]
    #[arg(long, value_name = "TIME", help_heading = ADVANCED)]
    pub stop_grace: Option<OsString>,
    /// A process must answer an interrupt within it [default: 10s]
    #[arg(long, value_name = "TIME", help_heading = ADVANCED)]
    pub interrupt_timeout: Option<OsString>,
    /// JSON file with settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<OsString>,
}

#[derive(Debug, Parser)]
#[command(
    name = "claude-session-manager",
    version,
    about = "Use Claude Code from a browser or any Socket.IO client",
    after_help = NOTES,
    args_override_self = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    verb: Option<SaidVerb>,
}

#[derive(Debug, Subcommand)]
enum SaidVerb {
    /// Run the server (the default)
    #[command(after_help = NOTES)]
    Serve(Box<Options>),
    /// Print the link with the token
    Link(Box<Options>),
    /// Replace the token: token --rotate
    Token {
        /// Make a new token; a running server must be started anew to ask for it
        #[arg(long)]
        rotate: bool,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Ask the running server whether it is well
    Healthcheck(Box<Options>),
    /// Behave like Claude Code, without an account: to try things out
    #[command(disable_help_flag = true)]
    DemoAgent(Raw),
    /// Clean up behind a server that died
    #[command(hide = true, disable_help_flag = true)]
    Guardian(Raw),
}

#[derive(Debug, Args)]
struct Raw {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARG")]
    args: Vec<OsString>,
}

/// A subcommand for which the configuration is decided.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Serve,
    Link,
    TokenRotate,
    Healthcheck,
}

/// What argv asked for.
#[derive(Debug)]
pub(super) enum Parsed {
    DemoAgent(Vec<OsString>),
    Guardian(Vec<OsString>),
    Configured(Verb, Box<Options>),
}

/// Reads argv, of which the first is the program's name.
pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, ConfigError> {
    let args: Vec<OsString> = args.into_iter().collect();
    // Their arguments are none of ours, not even `--help` or `--`, which the parser would take for itself.
    match args.get(1).and_then(|arg| arg.to_str()) {
        Some("demo-agent") => return Ok(Parsed::DemoAgent(args[2..].to_vec())),
        Some("guardian") => return Ok(Parsed::Guardian(args[2..].to_vec())),
        _ => {}
    }
    let Cli { mut options, verb } = Cli::try_parse_from(args).map_err(from_clap)?;
    let (verb, more) = match verb {
        None => (Verb::Serve, Box::default()),
        Some(SaidVerb::Serve(more)) => (Verb::Serve, more),
        Some(SaidVerb::Link(more)) => (Verb::Link, more),
        Some(SaidVerb::Healthcheck(more)) => (Verb::Healthcheck, more),
        Some(SaidVerb::Token { rotate: true, options: more }) => (Verb::TokenRotate, more),
        Some(SaidVerb::Token { rotate: false, .. }) => {
            return Err(ConfigError::bad("token", "needs --rotate, which replaces the token"));
        }
        Some(SaidVerb::DemoAgent(raw)) => return Ok(Parsed::DemoAgent(raw.args)),
        Some(SaidVerb::Guardian(raw)) => return Ok(Parsed::Guardian(raw.args)),
    };
    overlay(&mut options, *more);
    Ok(Parsed::Configured(verb, Box::new(options)))
}

/// The parser's error of several lines as one line.
fn from_clap(error: clap::Error) -> ConfigError {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        Some(ContextValue::StyledStrs(texts)) => texts.first().map(StyledStr::to_string),
        _ => None,
    };
    // `--port <PORT>` is the flag with its value's name.
    let name = |kind| {
        text(kind).map(|name| match name.split_once(" <") {
            Some((flag, _)) => flag.to_owned(),
            None => name,
        })
    };
    let perhaps = |kind| match name(kind) {
        Some(other) => format!("; did you mean {other}?"),
        None => String::new(),
    };
    let (named, what) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            return ConfigError::Help(error.render().to_string());
        }
        ErrorKind::UnknownArgument => {
            let what = "there is no such argument".to_owned();
            (name(ContextKind::InvalidArg), what + &perhaps(ContextKind::SuggestedArg))
        }
        ErrorKind::InvalidSubcommand => {
            let what = "there is no such command".to_owned();
            (name(ContextKind::InvalidSubcommand), what + &perhaps(ContextKind::SuggestedSubcommand))
        }
        ErrorKind::InvalidValue => (name(ContextKind::InvalidArg), "needs a value".to_owned()),
        ErrorKind::TooManyValues => (name(ContextKind::InvalidArg), "takes no value".to_owned()),
        kind => (name(ContextKind::InvalidArg), kind.to_string()),
    };
    ConfigError::bad(named.as_deref().unwrap_or("arguments"), what)
}
