//! What is said in argv, environment and file, and what comes of it. Nothing here depends on the machine:
//! directories are made for each case, and the memory is given.

mod bad;
mod commands;
mod names;

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use log::LevelFilter;

use super::*;
use crate::logging::LogFormat;

/// What is said in one case; `DIR` in any text stands for the current directory. It holds the directories
/// `src/a`, `src2` and `link` (to `src/a`), the plain `file`, and the `--config` file `c.json`.
#[derive(Default, Clone, Copy)]
struct Say<'a> {
    args: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    file: &'a str,
}

fn args<'a>(args: &'a [&'a str]) -> Say<'a> {
    Say { args, ..Say::default() }
}

/// The result, and the current directory it was got in.
fn run(say: Say<'_>) -> (Result<Command, ConfigError>, String) {
    let directory = tempfile::tempdir().expect("tempdir");
    let here = directory.path().canonicalize().expect("canonical");
    for path in ["src/a", "src2"] {
        std::fs::create_dir_all(here.join(path)).expect("mkdir");
    }
    symlink("src/a", here.join("link")).expect("symlink");
    std::fs::write(here.join("file"), "").expect("write");
    let dir = here.to_str().expect("UTF-8").to_owned();
    let mut argv = vec![OsString::from("claude-session-manager")];
    if !say.file.is_empty() {
        std::fs::write(here.join("c.json"), say.file.replace("DIR", &dir)).expect("write");
        argv.extend(["--config".into(), "c.json".into()]);
    }
    argv.extend(say.args.iter().map(|arg| OsString::from(arg.replace("DIR", &dir))));
    let env = |name: &str| {
        let said = say.env.iter().find(|(said, _)| *said == name);
        let value = said.map(|(_, value)| *value).or((name == "HOME").then_some("/home/u"));
        value.filter(|value| *value != "UNSET").map(|value| value.replace("DIR", &dir).into())
    };
    let machine = Machine { directory: here, memory_bytes: Some(4_000_000_000) };
    (load(argv, &env, || Ok(machine)), dir)
}

fn serve(say: Say<'_>) -> (Config, String) {
    match run(say) {
        (Ok(Command::Serve(config)), dir) => (*config, dir),
        (other, _) => panic!("{:?} {:?} {:?}: {other:?}", say.args, say.env, say.file),
    }
}

#[test]
fn defaults() {
    let (config, dir) = serve(args(&[]));
    let here = Path::new(&dir);
    let second = Duration::from_secs(1);
    let expected = Config {
        host: "127.0.0.1".parse().expect("an address"),
        port: 3001,
        cors_origins: vec![],
        allow_hosts: vec![],
        public_url: None,
        allow_remote: false,
        auth: true,
        token_file: "/home/u/.local/state/claude-session-manager/token".into(),
        agent: AgentChoice::Auto,
        agent_args: vec![],
        cwd: here.into(),
        allow_roots: vec![here.into()],
        model: None,
        permission_mode: None,
        effort: None,
        allow_bypass_permissions: false,
        mode: Mode::Isolated,
        data_dir: "/home/u/.local/state/claude-session-manager".into(),
        idle_timeout: Some(600 * second),
        session_ttl: None,
        recover: false,
        prestart: 2,
        recovery_window: 120 * second,
        max_connections: 1024,
        max_sessions: 10_000,
        max_processes: 7,
        max_payload: 1_000_000,
        outbox_bytes_max: 8_388_608,
        ping_interval: 25 * second,
        ping_timeout: 20 * second,
        start_timeout: 30 * second,
        stop_grace: 3 * second,
        interrupt_timeout: 10 * second,
        log_level: LevelFilter::Info,
        log_format: LogFormat::Text,
        warnings: vec![],
    };
    assert_eq!(config, expected);
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    fn check(say: Say<'_>, port: u16, origins: &[&str]) {
        let (config, _) = serve(say);
        assert_eq!(config.port, port, "{:?} {:?} {:?}", say.args, say.env, say.file);
        assert_eq!(config.cors_origins, origins, "{:?} {:?} {:?}", say.args, say.env, say.file);
    }
    let flags = &["--port=1", "--cors-origin", "http://a", "--cors-origin", "http://b"];
    let env = &[("PORT", "2"), ("CORS_ORIGIN", "http://c, http://d,,")];
    let empty = &[("PORT", ""), ("CORS_ORIGIN", "")];
    let file = r#"{"port": 3, "corsOrigin": ["http://e", "http://f"]}"#;
    check(Say { args: flags, env, file }, 1, &["http://a", "http://b"]);
    check(Say { args: &[], env, file }, 2, &["http://c", "http://d"]);
    check(Say { args: &[], env: empty, file }, 3, &["http://e", "http://f"]);
    check(Say { args: &["--port", "1"], env: &[], file }, 1, &["http://e", "http://f"]);
    check(Say { args: flags, env: empty, file: "{}" }, 1, &["http://a", "http://b"]);
    check(args(&[]), 3001, &[]);
    let nothing = r#"{"port": null, "corsOrigin": null}"#;
    check(Say { file: nothing, ..args(&[]) }, 3001, &[]);
    check(Say { file: r#"{"port": "4", "corsOrigin": "*"}"#, ..args(&[]) }, 4, &["*"]);
    // Before and behind `serve`, and twice: the later wins, lists grow.
    check(args(&["serve", "--port", "5"]), 5, &[]);
    let both = &["--port", "5", "--cors-origin=*", "serve", "--port=6", "--cors-origin=http://a"];
    check(args(both), 6, &["*", "http://a"]);
    check(args(&["--port", "5", "--port", "6"]), 6, &[]);
}

#[test]
fn a_host_name_in_the_environment_is_ignored_with_a_warning() {
    fn check(value: &str, file: &str, host: &str, warnings: &[&str]) {
        let (config, _) = serve(Say { env: &[("HOST", value)], file, ..Say::default() });
        assert_eq!(config.host.to_string(), host, "{value}");
        assert_eq!(config.warnings, warnings, "{value}");
    }
    check("mybox", "", "127.0.0.1", &["HOST: \"mybox\" is a host name, not an address; ignored"]);
    let warning = "HOST: \"a.lan\" is a host name, not an address; ignored";
    check("a.lan", r#"{"host": "::1"}"#, "::1", &[warning]);
    check("localhost", r#"{"host": "::1"}"#, "127.0.0.1", &[]);
    check("127.0.0.2", "", "127.0.0.2", &[]);
    check("", "", "127.0.0.1", &[]);
}
