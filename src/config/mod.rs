//! What the server is told, and what that means on this machine.
//!
//! Two steps. First what was said, undecided and as text: by argv (`flags`), by the environment
//! (`settings`) and by the `--config` file (`file`), each in the shape of `flags::Options`. The table in
//! `settings`, in which one row holds the three names of a setting, joins them. Then what it means here:
//! [`Config`], made by `resolve` with `reader`, `values`, `address` and `memory`. Its values are checked,
//! its directories canonical. Nothing is looked up later, so a bad value stops the start, in one line that
//! names where it was said.

mod address;
mod file;
mod flags;
mod memory;
mod reader;
mod resolve;
mod settings;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

pub use address::PublicUrl;
pub use resolve::{AgentChoice, Config, Mode};
pub use values::{
    BYPASS_PERMISSIONS, EFFORT_CHARS_MAX, EFFORTS, MODEL_CHARS_MAX, PERMISSION_MODES, is_effort, is_model,
    is_permission_mode,
};

use crate::logging::escape;

/// The variables that the server itself is told by. Besides these, all whose name begins with `CSM_` are
/// its own: see [`is_own_variable`].
pub const OWN_VARIABLES: &[&str] = &["HOST", "PORT", "CORS_ORIGIN"];

/// Whether an environment variable is meant for the server, and so is taken out of the environment of a
/// process it starts: a development server started by Claude must not take this server's port.
pub fn is_own_variable(name: &OsStr) -> bool {
    OWN_VARIABLES.iter().any(|own| name == *own) || name.as_encoded_bytes().starts_with(b"CSM_")
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `serve`, and the default: run the server.
    Serve(Box<Config>),
    /// `demo-agent`: behave like Claude Code; all further arguments, as they came.
    DemoAgent(Vec<OsString>),
    /// `guardian`: outlive the server and clean up behind it; all further arguments, as they came.
    Guardian(Vec<OsString>),
    /// `link`: print the link with the token.
    Link(Box<Config>),
    /// `token --rotate`: replace the token.
    TokenRotate(Box<Config>),
    /// `healthcheck`: ask the running server whether it is well.
    Healthcheck(Box<Config>),
}

/// Why there is no [`Command`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// Help or the version was asked for: the text, with its newlines, for stdout; exit code 0.
    Help(String),
    /// Something said is wrong: one line without a newline that names the flag, variable or key, for
    /// stderr; exit code 2.
    Bad(String),
}

impl ConfigError {
    /// The exit code that goes with it: 0 for help, 2 for bad use.
    pub fn exit_code(&self) -> u8 {
        match self {
            ConfigError::Help(_) => 0,
            ConfigError::Bad(_) => 2,
        }
    }

    /// `what` is wrong with the thing called `name`.
    fn bad(name: &str, what: impl fmt::Display) -> ConfigError {
        // Values are quoted in it, and one line it must stay.
        ConfigError::Bad(escape(&format!("{name}: {what}")).into_owned())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ConfigError::Help(text) | ConfigError::Bad(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for ConfigError {}

/// Looks up one environment variable.
type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What the decisions depend on besides what was said.
struct Machine {
    /// The current directory, absolute.
    directory: PathBuf,
    /// The memory that processes may use, in bytes; none where it cannot be told.
    memory_bytes: Option<u64>,
}

impl Config {
    /// Reads what is to be done from `args`, of which the first is the program's name, and from the
    /// environment `env`. Flags win over the environment, it over the `--config` file, it over the
    /// defaults; an empty variable counts as unset.
    ///
    /// Looks at directories and reads the `--config` file, but makes and changes nothing.
    pub fn load(
        args: impl IntoIterator<Item = OsString>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Command, ConfigError> {
        load(args, env, || {
            let directory =
                std::env::current_dir().map_err(|error| ConfigError::bad("the current directory", error))?;
            let memory_bytes = memory::total_bytes();
            Ok(Machine { directory, memory_bytes })
        })
    }
}

fn load(
    args: impl IntoIterator<Item = OsString>,
    env: Env<'_>,
    machine: impl FnOnce() -> Result<Machine, ConfigError>,
) -> Result<Command, ConfigError> {
    let (verb, argv) = match flags::parse(args)? {
        flags::Parsed::DemoAgent(args) => return Ok(Command::DemoAgent(args)),
        flags::Parsed::Guardian(args) => return Ok(Command::Guardian(args)),
        flags::Parsed::Configured(verb, argv) => (verb, argv),
    };
    let machine = machine()?;
    let mut warnings = Vec::new();
    let mut said = settings::Said::default();
    let config_file = argv.config.clone();
    said.add(*argv, |setting| setting.flag.to_owned());
    said.add(settings::from_env(env, &mut warnings), |setting| setting.env.to_owned());
    if let Some(path) = config_file {
        let path = machine.directory.join(path);
        let options = file::read(&path)?;
        said.add(options, |setting| file::name_of(setting.key, &path));
    }
    let config = Box::new(resolve::resolve(&said, env, &machine, warnings)?);
    Ok(match verb {
        flags::Verb::Serve => Command::Serve(config),
        flags::Verb::Link => Command::Link(config),
        flags::Verb::TokenRotate => Command::TokenRotate(config),
        flags::Verb::Healthcheck => Command::Healthcheck(config),
    })
}
