//! From what was said to values: each error gets the name under which the setting was said.

use std::ffi::OsString;
use std::path::PathBuf;

use super::settings::Said;
use super::values::quoted;
use super::{AgentChoice, ConfigError, Env, Machine};

/// Turns texts into values, or into errors with the name under which they were said.
pub(super) struct Reader<'a> {
    pub said: &'a Said,
    pub machine: &'a Machine,
}

impl Reader<'_> {
    fn bad(&self, flag: &str, what: String) -> ConfigError {
        ConfigError::bad(self.said.name(flag), what)
    }

    pub fn one<T>(
        &self,
        flag: &str,
        value: &OsString,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        let text = value.to_str().ok_or_else(|| {
            let shown = quoted(&value.to_string_lossy());
            self.bad(flag, format!("{shown} is not UTF-8"))
        })?;
        read(text).map_err(|what| self.bad(flag, what))
    }

    pub fn value<T>(
        &self,
        flag: &str,
        value: &Option<OsString>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        value.as_ref().map(|value| self.one(flag, value, read)).transpose()
    }

    pub fn value_or<T>(
        &self,
        flag: &str,
        value: &Option<OsString>,
        default: T,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        Ok(self.value(flag, value, read)?.unwrap_or(default))
    }

    pub fn list<T>(
        &self,
        flag: &str,
        values: &[OsString],
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        values.iter().map(|value| self.one(flag, value, &read)).collect()
    }

    /// An absolute path; what it names may not exist.
    pub fn path(&self, flag: &str, value: &OsString) -> Result<PathBuf, ConfigError> {
        if value.is_empty() || value.as_encoded_bytes().contains(&0) {
            return Err(self.bad(flag, format!("{} is not a path", quoted(&value.to_string_lossy()))));
        }
        Ok(self.machine.directory.join(value))
    }

    /// An existing directory, canonical.
    pub fn directory(&self, flag: &str, value: &OsString) -> Result<PathBuf, ConfigError> {
        let path = self.path(flag, value)?;
        path.canonicalize().ok().filter(|path| path.is_dir()).ok_or_else(|| {
            let shown = quoted(&value.to_string_lossy());
            self.bad(flag, format!("{shown} is not an existing directory"))
        })
    }
}

/// `cwd` and the roots.
pub(super) fn directories(reader: &Reader<'_>) -> Result<(PathBuf, Vec<PathBuf>), ConfigError> {
    let o = &reader.said.options;
    let current = reader.machine.directory.clone().into_os_string();
    let cwd = reader.directory("--cwd", o.cwd.as_ref().unwrap_or(&current))?;
    if o.allow_root.is_empty() {
        return Ok((cwd.clone(), vec![cwd]));
    }
    let roots = o.allow_root.iter().map(|root| reader.directory("--allow-root", root));
    let roots: Vec<PathBuf> = roots.collect::<Result<_, _>>()?;
    // By components: `/src2` is not under `/src`.
    if !roots.iter().any(|root| cwd.starts_with(root)) {
        let shown = quoted(&cwd.to_string_lossy());
        let root = reader.said.name("--allow-root");
        return Err(reader.bad("--cwd", format!("{shown} lies under no directory of {root}")));
    }
    Ok((cwd, roots))
}

/// The directory of the data, which may not exist yet.
pub(super) fn data_dir(reader: &Reader<'_>, env: Env<'_>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = &reader.said.options.data_dir {
        return reader.path("--data-dir", path);
    }
    // The specification of these variables: a relative path is to be ignored.
    let absolute = |name| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME");
    let state = state.or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    state.map(|state| state.join("claude-session-manager")).ok_or_else(|| {
        let what = "must be given, as neither XDG_STATE_HOME nor HOME is an absolute path";
        reader.bad("--data-dir", what.to_owned())
    })
}

/// The program that answers.
pub(super) fn agent(reader: &Reader<'_>) -> Result<AgentChoice, ConfigError> {
    let Some(value) = &reader.said.options.agent else {
        return Ok(AgentChoice::Auto);
    };
    match value.to_str() {
        Some("auto") => return Ok(AgentChoice::Auto),
        Some("claude") => return Ok(AgentChoice::Claude),
        Some("demo") => return Ok(AgentChoice::Demo),
        _ => {}
    }
    // A word without a slash is rather a slip of the pen than a file in the current directory.
    if !value.as_encoded_bytes().contains(&b'/') {
        let shown = quoted(&value.to_string_lossy());
        let what = format!("{shown} is none of auto, claude, demo, or a path with a /");
        return Err(reader.bad("--agent", what));
    }
    reader.path("--agent", value).map(AgentChoice::Path)
}

/// Its further arguments.
pub(super) fn agent_args(reader: &Reader<'_>) -> Result<Vec<OsString>, ConfigError> {
    let values = &reader.said.options.agent_arg;
    // Only a file can say it, and no process could be started with it.
    match values.iter().find(|value| value.as_encoded_bytes().contains(&0)) {
        Some(value) => {
            let what = format!("{} is not an argument", quoted(&value.to_string_lossy()));
            Err(reader.bad("--agent-arg", what))
        }
        None => Ok(values.clone()),
    }
}
