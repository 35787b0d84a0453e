//! The table of settings, in which one row holds all the names of one, and how the layers are joined.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Env;
use super::flags::Options;
use super::{address, values};

/// One setting and its names; an empty name: it cannot be said there.
pub(super) struct Setting {
    pub flag: &'static str,
    pub env: &'static str,
    pub key: &'static str,
    pub slot: fn(&mut Options) -> Slot<'_>,
}

/// Where in [`Options`] the values of a setting are.
pub(super) enum Slot<'a> {
    One(&'a mut Option<OsString>),
    Many(&'a mut Vec<OsString>),
    /// On or not said. Only argv has these: what opens a door is not left to a file or a variable.
    Switch(&'a mut bool),
}

use Slot::{Many, One, Switch};

const fn row(flag: &'static str, env: &'static str, key: &'static str, slot: fn(&mut Options) -> Slot<'_>) -> Setting {
    Setting { flag, env, key, slot }
}

/// All settings.
#[rustfmt::skip] // a table is read by its columns
pub(super) const SETTINGS: &[Setting] = &[
    row("--host", "HOST", "host", |o| One(&mut o.host)),
    row("--port", "PORT", "port", |o| One(&mut o.port)),
    row("--cors-origin", "CORS_ORIGIN", "corsOrigin", |o| Many(&mut o.cors_origin)),
    row("--allow-host", "", "", |o| Many(&mut o.allow_host)),
    row("--public-url", "CSM_PUBLIC_URL", "publicUrl", |o| One(&mut o.public_url)),
    row("--allow-remote", "", "", |o| Switch(&mut o.allow_remote)),
    row("--no-auth", "", "", |o| Switch(&mut o.no_auth)),
    row("--token-file", "CSM_TOKEN_FILE", "tokenFile", |o| One(&mut o.token_file)),
    row("--agent", "CSM_AGENT", "agent", |o| One(&mut o.agent)),
    row("--agent-arg", "", "agentArgs", |o| Many(&mut o.agent_arg)),
    row("--cwd", "CSM_CWD", "cwd", |o| One(&mut o.cwd)),
    row("--allow-root", "CSM_ALLOW_ROOT", "allowRoots", |o| Many(&mut o.allow_root)),
    row("--model", "CSM_MODEL", "model", |o| One(&mut o.model)),
    row("--permission-mode", "CSM_PERMISSION_MODE", "permissionMode", |o| One(&mut o.permission_mode)),
    row("--effort", "CSM_EFFORT", "effort", |o| One(&mut o.effort)),
    row("--allow-bypass-permissions", "", "", |o| Switch(&mut o.allow_bypass_permissions)),
    row("--mode", "CSM_MODE", "mode", |o| One(&mut o.mode)),
    row("--data-dir", "CSM_DATA_DIR", "dataDir", |o| One(&mut o.data_dir)),
    row("--idle-timeout", "", "idleTimeout", |o| One(&mut o.idle_timeout)),
    row("--session-ttl", "", "sessionTtl", |o| One(&mut o.session_ttl)),
    row("--recover", "", "", |o| Switch(&mut o.recover)),
    row("--prestart", "", "prestart", |o| One(&mut o.prestart)),
    row("--recovery-window", "", "recoveryWindow", |o| One(&mut o.recovery_window)),
    row("--max-connections", "", "maxConnections", |o| One(&mut o.max_connections)),
    row("--max-sessions", "", "maxSessions", |o| One(&mut o.max_sessions)),
    row("--max-processes", "", "maxProcesses", |o| One(&mut o.max_processes)),
    row("--max-payload", "", "maxPayload", |o| One(&mut o.max_payload)),
    row("--outbox-bytes-max", "", "outboxBytesMax", |o| One(&mut o.outbox_bytes_max)),
    row("--log-level", "CSM_LOG", "logLevel", |o| One(&mut o.log_level)),
    row("--log-format", "", "logFormat", |o| One(&mut o.log_format)),
    row("--ping-interval-ms", "", "pingIntervalMs", |o| One(&mut o.ping_interval_ms)),
    row("--ping-timeout-ms", "", "pingTimeoutMs", |o| One(&mut o.ping_timeout_ms)),
    row("--start-timeout", "", "startTimeout", |o| One(&mut o.start_timeout)),
    row("--stop-grace", "", "stopGrace", |o| One(&mut o.stop_grace)),
    row("--interrupt-timeout", "", "interruptTimeout", |o| One(&mut o.interrupt_timeout)),
    row("--config", "", "", |o| One(&mut o.config)),
];

/// What the environment says. A variable that is empty says nothing. Repeatable settings are separated by
/// commas.
pub(super) fn from_env(env: Env<'_>, warnings: &mut Vec<String>) -> Options {
    let mut options = Options::default();
    for setting in SETTINGS.iter().filter(|setting| !setting.env.is_empty()) {
        let Some(value) = env(setting.env).filter(|value| !value.is_empty()) else {
            continue;
        };
        // Some shells export the machine's name as HOST: not meant for us.
        if setting.env == "HOST" && value.to_str().is_some_and(address::is_only_a_name) {
            let name = values::quoted(&value.to_string_lossy());
            warnings.push(format!("HOST: {name} is a host name, not an address; ignored"));
            continue;
        }
        match (setting.slot)(&mut options) {
            One(slot) => *slot = Some(value),
            Many(slot) => *slot = comma_separated(&value),
            Switch(_) => {}
        }
    }
    options
}

fn comma_separated(value: &OsStr) -> Vec<OsString> {
    let parts = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    parts.filter(|part| !part.is_empty()).map(|part| OsString::from_vec(part.to_vec())).collect()
}

/// Lays what was said later over what was said earlier on the same command line: it wins, and repeatable
/// values are added.
pub(super) fn overlay(earlier: &mut Options, mut later: Options) {
    for setting in SETTINGS {
        match ((setting.slot)(earlier), (setting.slot)(&mut later)) {
            (One(earlier), One(later)) if later.is_some() => *earlier = later.take(),
            (Many(earlier), Many(later)) => earlier.append(later),
            (Switch(earlier), Switch(later)) => *earlier |= *later,
            _ => {}
        }
    }
}

/// All layers joined: each setting as the strongest layer that mentions it said it.
#[derive(Default)]
pub(super) struct Said {
    pub options: Options,
    /// For each flag that was said anywhere: the name under which it was said, for errors.
    names: Vec<(&'static str, String)>,
}

impl Said {
    /// Adds the next weaker layer; `name` is what a setting is called in it.
    pub fn add(&mut self, mut weaker: Options, name: impl Fn(&Setting) -> String) {
        for setting in SETTINGS {
            let taken = match ((setting.slot)(&mut self.options), (setting.slot)(&mut weaker)) {
                (One(ours), One(theirs)) if ours.is_none() && theirs.is_some() => {
                    *ours = theirs.take();
                    true
                }
                (Many(ours), Many(theirs)) if ours.is_empty() && !theirs.is_empty() => {
                    ours.append(theirs);
                    true
                }
                (Switch(ours), Switch(theirs)) if !*ours && *theirs => {
                    *ours = true;
                    true
                }
                _ => false,
            };
            if taken {
                self.names.push((setting.flag, name(setting)));
            }
        }
    }

    /// The name under which the setting of `flag` was said; the flag itself if it was not.
    pub fn name<'a>(&'a self, flag: &'a str) -> &'a str {
        let said = self.names.iter().find(|(said, _)| *said == flag);
        said.map_or(flag, |(_, name)| name)
    }
}
