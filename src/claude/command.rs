//! Which program answers, and with which arguments.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::is_own_variable;

/// Removed from what Claude inherits: the first marks a Claude inside a Claude, the second would change its Node.
const NOT_INHERITED: [&str; 2] = ["CLAUDECODE", "NODE_OPTIONS"];

/// Claude's settings under which it refuses the mode without permission questions.
const NEVER_BYPASS: &str = r#"{"permissions":{"disableBypassPermissionsMode":"disable"}}"#;

/// The environment variable that every process of a session carries, and its children inherit: how strays are found.
pub const MARKER_VARIABLE: &str = "CSM_PROCESS";

/// The program behind every session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What is executed.
    pub program: PathBuf,
    /// Arguments before ours (the demo agent's subcommand) or the user's `--agent-arg`s, which come after ours.
    pub first_args: Vec<OsString>,
    /// The user's `--agent-arg`s: behind ours, so that they can override.
    pub last_args: Vec<OsString>,
    /// `claude`, `demo`, or a stand-in's file name: `agent` of the session summary.
    pub name: String,
    /// Whether this is the built-in stand-in.
    pub demo: bool,
}

impl Agent {
    /// The built-in stand-in: this same binary. `state`: its argument that says where it keeps its conversations.
    #[must_use]
    pub fn demo(own_binary: PathBuf, state: OsString, last_args: Vec<OsString>) -> Agent {
        Agent {
            program: own_binary,
            first_args: vec!["demo-agent".into(), state],
            last_args,
            name: "demo".into(),
            demo: true,
        }
    }

    /// A program given by path, or found on `PATH`.
    #[must_use]
    pub fn at(program: PathBuf, last_args: Vec<OsString>) -> Agent {
        let name = program.file_name().map_or_else(|| "claude".into(), |name| name.to_string_lossy().into_owned());
        Agent { program, first_args: Vec::new(), last_args, name, demo: false }
    }

    /// The same, with sessions that may change to the mode without permission questions while they live. Claude takes
    /// that from no superuser, and does not even start, unless it is told that it is in a sandbox.
    #[must_use]
    pub fn allowed_to_bypass_permissions(mut self) -> Agent {
        let sandbox = std::env::var_os("IS_SANDBOX").is_some_and(|value| value == "1");
        // SAFETY: it only tells who we are.
        let superuser = unsafe { libc::geteuid() } == 0;
        if !self.demo && (sandbox || !superuser) {
            self.first_args.push("--allow-dangerously-skip-permissions".into());
        }
        self
    }

    /// The same, with sessions that never come to that mode, whatever Claude's own settings and those of its agents say. A
    /// `--settings` among the user's `--agent-arg`s takes the place of this one.
    #[must_use]
    pub fn forbidden_to_bypass_permissions(mut self) -> Agent {
        if !self.demo {
            self.first_args.push(format!("--settings={NEVER_BYPASS}").into());
        }
        self
    }

    /// Whether it is Claude Code, and no stand-in.
    #[must_use]
    pub fn is_claude(&self) -> bool {
        self.name == "claude" && !self.demo
    }
}

/// The first executable file `name` in the directories of `path` (the value of `PATH`).
#[must_use]
pub fn find_on_path(name: &str, path: Option<OsString>) -> Option<PathBuf> {
    std::env::split_paths(&path?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(name))
        .find(|file| is_executable(file))
}

/// Whether `file` is a file that somebody may execute.
#[must_use]
pub fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// How a process comes to its conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It is a new one.
    New,
    /// It exists already.
    Resume,
    /// It goes on from where another is, which is left as it is.
    Fork(ForkPoint),
}

/// Where a conversation leaves another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkPoint {
    /// Claude's own name of the other one.
    pub conversation: String,
    /// The last of its messages that belongs to both; all of them, where absent. Without it Claude takes along what has
    /// come since, and ends a prompt that has no answer yet with one that it makes up (seen on 2.1.197 and 2.1.330).
    pub at: Option<String>,
}

/// What one start of a session's process needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launch {
    /// Claude's own name of the conversation, a version 4 uuid.
    pub conversation: String,
    /// How it comes to be.
    pub begin: Begin,
    /// Where Claude works.
    pub cwd: PathBuf,
    /// Claude's own default where absent.
    pub model: Option<String>,
    /// Claude's own default where absent.
    pub permission_mode: Option<String>,
    /// Claude's own default where absent.
    pub effort: Option<String>,
    /// The value of [`MARKER_VARIABLE`].
    pub marker: String,
}

/// The arguments of `launch`. Values are given with `=`, so that one that begins with `-` is never read as a flag;
/// prompts are never arguments.
#[must_use]
pub fn arguments(launch: &Launch) -> Vec<OsString> {
    let mut args: Vec<OsString> = [
        "-p",
        "--input-format=stream-json",
        "--output-format=stream-json",
        "--verbose",
        "--include-partial-messages",
        "--replay-user-messages",
        "--permission-prompt-tool=stdio",
    ]
    .map(OsString::from)
    .into();
    let mut flag = |name: &str, value: &str| args.push(format!("{name}={value}").into());
    match &launch.begin {
        Begin::New => flag("--session-id", &launch.conversation),
        Begin::Resume => flag("--resume", &launch.conversation),
        Begin::Fork(ForkPoint { conversation, at }) => {
            flag("--resume", conversation);
            flag("--session-id", &launch.conversation);
            if let Some(at) = at {
                flag("--resume-session-at", at);
            }
            args.push("--fork-session".into());
        }
    }
    let options =
        [("--model", &launch.model), ("--permission-mode", &launch.permission_mode), ("--effort", &launch.effort)];
    for (flag, value) in options {
        args.extend(value.as_ref().map(|value| OsString::from(format!("{flag}={value}"))));
    }
    args
}

/// The whole command, with the inherited environment cleaned and marked.
#[must_use]
pub fn command(agent: &Agent, launch: &Launch) -> Command {
    let mut command = Command::new(&agent.program);
    command.args(&agent.first_args).args(arguments(launch)).args(&agent.last_args).current_dir(&launch.cwd);
    clean_environment(&mut command);
    // So that files can be put back to what they were before a prompt.
    command.env(MARKER_VARIABLE, &launch.marker).env("CLAUDE_CODE_ENABLE_SDK_FILE_CHECKPOINTING", "true");
    command
}

/// Takes away what a child must not inherit: our own settings (a development server that Claude starts would take
/// `PORT` for its own) and what confuses Claude.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if is_own_variable(&name) || NOT_INHERITED.iter().any(|other| name == *other) {
            command.env_remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch() -> Launch {
        Launch {
            conversation: "u".into(),
            begin: Begin::New,
            cwd: "/".into(),
            model: None,
            permission_mode: None,
            effort: None,
            marker: "m".into(),
        }
    }

    #[test]
    fn values_stay_values() {
        let fork = |at: Option<&str>| Launch {
            begin: Begin::Fork(ForkPoint { conversation: "o".into(), at: at.map(str::to_owned) }),
            ..launch()
        };
        let all = Launch {
            begin: Begin::Resume,
            model: Some("--help".into()),
            permission_mode: Some("plan".into()),
            effort: Some("high".into()),
            ..launch()
        };
        let cases = [
            (launch(), &["--session-id=u"][..]),
            (all, &["--resume=u", "--model=--help", "--permission-mode=plan", "--effort=high"]),
            (fork(None), &["--resume=o", "--session-id=u", "--fork-session"]),
            (fork(Some("m")), &["--resume=o", "--session-id=u", "--resume-session-at=m", "--fork-session"]),
        ];
        for (launch, expected) in cases {
            assert_eq!(arguments(&launch)[7..], expected.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_users_arguments_come_last_and_the_marker_is_set() {
        let agent = Agent {
            first_args: vec!["demo-agent".into()],
            last_args: vec!["--slow".into()],
            ..Agent::at("/x/claude".into(), vec![])
        };
        let command = command(&agent, &launch());
        let args: Vec<_> = command.get_args().collect();
        assert_eq!((args[0].to_str(), args[args.len() - 1].to_str()), (Some("demo-agent"), Some("--slow")));
        assert!(command.get_envs().any(|(name, value)| name == MARKER_VARIABLE && value == Some("m".as_ref())));
    }

    #[test]
    fn only_an_executable_file_is_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let (first, second) = (dir.path().join("a"), dir.path().join("b"));
        for (dir, mode) in [(&first, 0o644), (&second, 0o755)] {
            std::fs::create_dir(dir).expect("made");
            std::fs::write(dir.join("claude"), "").expect("written");
            std::fs::set_permissions(dir.join("claude"), std::fs::Permissions::from_mode(mode)).expect("set");
        }
        let path = std::env::join_paths([Path::new("relative"), &first, &second]).expect("joins");
        assert_eq!(find_on_path("claude", Some(path)), Some(second.join("claude")));
        assert_eq!(find_on_path("claude", Some(first.into())), None);
        assert_eq!(find_on_path("claude", None), None);
    }
}
