//! Flags, environment, file; what a person sees on a bad value; the subcommands.

use std::{fs, net::TcpListener, sync::Arc};

use serde_json::{Value, json};

use crate::support::{
    client::Client,
    server::{Builder, Ended, Server},
    workspace::Workspace,
};

mod commands;
mod logging;
mod token;

fn builder() -> Builder {
    Server::builder(env!("CARGO_BIN_EXE_claude-session-manager"))
}

/// Runs it in a fresh workspace, where it must end by itself with `code` and one line that contains `part`.
fn check_refused(args: &[&str], env: &[(&str, &str)], code: i32, part: &str) {
    let workspace = Arc::new(Workspace::new());
    check_refused_in(&workspace, builder().args(args.iter().copied()), env, code, part);
    assert!(!workspace.data().exists(), "{args:?} {env:?}: nothing is started, nor made");
    assert!(workspace.processes().is_empty(), "{args:?} {env:?}");
}

fn check_refused_in(workspace: &Arc<Workspace>, mut builder: Builder, env: &[(&str, &str)], code: i32, part: &str) {
    for (name, value) in env {
        builder = builder.env(*name, *value);
    }
    let ended = builder.workspace(workspace).run();
    let Ended { stdout, stderr, .. } = &ended;
    assert_eq!((ended.code, stdout.as_str()), (Some(code), ""), "{part}: {stderr}");
    assert!(stderr.ends_with('\n') && stderr.lines().count() == 1, "one line: {stderr:?}");
    assert!(stderr.starts_with("claude-session-manager: ") && stderr.contains(part), "{part}: {stderr:?}");
}

#[test]
fn help_names_every_flag_of_the_contract() {
    let flags = [
        "host",
        "port",
        "cors-origin",
        "mode",
        "agent",
        "agent-arg",
        "cwd",
        "allow-root",
        "model",
        "permission-mode",
        "effort",
        "allow-bypass-permissions",
        "data-dir",
        "token-file",
        "no-auth",
        "allow-remote",
        "allow-host",
        "public-url",
        "idle-timeout",
        "session-ttl",
        "max-connections",
        "max-sessions",
        "max-processes",
        "prestart",
        "ping-interval-ms",
        "ping-timeout-ms",
        "recovery-window",
        "max-payload",
        "outbox-bytes-max",
        "log-level",
        "log-format",
        "config",
    ];
    let variables = [
        "HOST",
        "PORT",
        "CORS_ORIGIN",
        "CSM_MODE",
        "CSM_AGENT",
        "CSM_CWD",
        "CSM_ALLOW_ROOT",
        "CSM_MODEL",
        "CSM_PERMISSION_MODE",
        "CSM_EFFORT",
        "CSM_DATA_DIR",
        "CSM_TOKEN_FILE",
        "CSM_PUBLIC_URL",
        "CSM_LOG",
    ];
    let commands = ["serve", "demo-agent", "link", "token", "healthcheck"];
    for args in [&["--help"][..], &["-h"], &["serve", "--help"]] {
        let ended = builder().without_defaults().args(args.iter().copied()).run();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{args:?}");
        let words: Vec<&str> = ended.stdout.split(|c: char| !(c.is_ascii_alphanumeric() || "-_".contains(c))).collect();
        for flag in flags {
            assert!(words.contains(&format!("--{flag}").as_str()), "{args:?}: --{flag}");
        }
        for variable in variables {
            assert!(words.contains(&variable), "{args:?}: {variable}");
        }
        if args[0] != "serve" {
            for command in commands {
                assert!(words.contains(&command), "{args:?}: {command}");
            }
        }
        assert!(ended.stdout.lines().all(|line| line.chars().count() <= 100), "it fits on a screen");
    }
    let version = builder().without_defaults().arg("--version").run();
    assert_eq!(version.stdout, format!("claude-session-manager {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_bad_value_is_one_line_and_starts_nothing() {
    for (args, part) in [
        (&["--port=65536"][..], "--port: "),
        (&["--port", "x"], "--port: "),
        (&["--host=example.com"], "--host: "),
        (&["--mode=both"], "--mode: "),
        (&["--agent=cluade"], "--agent: "),
        (&["--agent=/nowhere/claude"], "--agent /nowhere/claude: "),
        (&["--agent=/etc/passwd"], "--agent /etc/passwd: not an executable file"),
        (&["--cwd=missing"], "--cwd: "),
        (&["--allow-root=missing"], "--allow-root: "),
        (&["--model=-p"], "--model: "),
        (&["--permission-mode=root"], "--permission-mode: "),
        (&["--permission-mode=bypassPermissions"], "--allow-bypass-permissions"),
        (&["--effort=HIGH"], "--effort: "),
        (&["--cors-origin=null"], "--cors-origin: "),
        (&["--allow-host=a:80"], "--allow-host: "),
        (&["--public-url=example"], "--public-url: "),
        (&["--idle-timeout=soon"], "--idle-timeout: "),
        (&["--session-ttl=-1"], "--session-ttl: "),
        (&["--max-connections=0"], "--max-connections: "),
        (&["--max-sessions=many"], "--max-sessions: "),
        (&["--max-processes=0"], "--max-processes: "),
        (&["--prestart=-1"], "--prestart: "),
        (&["--ping-interval-ms=0"], "--ping-interval-ms: "),
        (&["--ping-timeout-ms=x"], "--ping-timeout-ms: "),
        (&["--recovery-window=x"], "--recovery-window: "),
        (&["--max-payload=1"], "--max-payload: "),
        (&["--outbox-bytes-max=1"], "--outbox-bytes-max: "),
        (&["--log-level=loud"], "--log-level: "),
        (&["--log-format=xml"], "--log-format: "),
        (&["--config=missing.json"], "--config: "),
        (&["--data-dir="], "--data-dir: "),
        (&["--token-file="], "--token-file: "),
        (&["--hots=x"], "did you mean --host?"),
        (&["serv"], "did you mean serve?"),
        (&["--port"], "--port: needs a value"),
        (&["--no-auth=yes"], "--no-auth: takes no value"),
        (&["--model=a\nb\u{1b}[2J"], r"a\nb\u{1b}[2J"),
        (&["token"], "--rotate"),
    ] {
        check_refused(args, &[], 2, part);
    }
    for (name, value, part) in [
        ("PORT", "x", "PORT: "),
        ("CSM_MODE", "both", "CSM_MODE: "),
        ("CSM_LOG", "loud", "CSM_LOG: "),
        ("CSM_AGENT", "cluade", "CSM_AGENT: "),
    ] {
        let workspace = Arc::new(Workspace::new());
        let builder = builder().without_defaults().arg(format!("--data-dir={}", workspace.data().display()));
        check_refused_in(&workspace, builder, &[(name, value)], 2, part);
        assert!(!workspace.data().exists(), "{name}");
    }
}

#[test]
fn a_bad_file_is_one_line_that_names_it() {
    for (text, part) in [
        ("", "is not JSON"),
        ("[]", "is not a JSON object"),
        (r#"{"port": 70000}"#, "port in "),
        (r#"{"port": true}"#, "port in "),
        (r#"{"prot": 1}"#, "there is no key \"prot\""),
        (r#"{"noAuth": true}"#, "there is no key \"noAuth\""),
        (r#"{"allowRemote": true}"#, "there is no key \"allowRemote\""),
        (r#"{"allowBypassPermissions": true}"#, "there is no key \"allowBypassPermissions\""),
        (r#"{"agentArgs": [[]]}"#, "agentArgs in "),
    ] {
        let workspace = Arc::new(Workspace::new());
        fs::write(workspace.work().join("c.json"), text).expect("a file");
        // Without the flags that would win over the file.
        let builder = builder()
            .without_defaults()
            .args(["--config=c.json".to_owned(), format!("--data-dir={}", workspace.data().display())]);
        check_refused_in(&workspace, builder, &[], 2, part);
        assert!(!workspace.data().exists(), "{text}");
    }
}

#[test]
fn an_address_that_others_reach_must_be_asked_for() {
    for host in ["0", "0.0.0.0", "::", "[::]", "::ffff:0.0.0.0", "0x0", "192.168.1.9"] {
        check_refused(&["--host", host], &[], 2, "--allow-remote");
        check_refused(&["--host", host, "--no-auth"], &[], 2, "--allow-remote");
    }
    check_refused(&[], &[("HOST", "0.0.0.0")], 2, "--allow-remote");
    check_refused(&["--host=0", "--allow-remote", "--no-auth"], &[], 2, "--no-auth: ");
    check_refused(&["--no-auth", "--public-url=https://h"], &[], 2, "--no-auth: ");
    check_refused(&["--no-auth", "--cors-origin=*"], &[], 2, "--no-auth: ");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port();
    check_refused(&["--agent=demo", &format!("--port={port}")], &[], 2, &format!("port {port} is in use"));
}

#[test]
fn two_servers_do_not_share_their_data() {
    let server = builder().demo().start();
    check_refused_in(server.workspace(), builder().demo(), &[], 5, "another server uses the data directory");
    server.connect(json!({}));
}

fn connected_without_a_token(server: &Server) -> Result<Client, Value> {
    Client::try_connect(server.port, Value::Null)
}

#[test]
fn without_a_token_everybody_on_the_machine_is_let_in() {
    let server = builder().demo().arg("--no-auth").start();
    for auth in [Value::Null, json!({}), json!({"token": "anything"})] {
        let client = Client::connect(server.port, auth);
        client.ask_and_wait(&client.session_id(), "hello");
    }
    assert!(server.stderr_text().contains("--no-auth"), "it says so");
    assert!(!server.workspace().data().join("token").exists());
    // Pages of others are kept out all the same.
    assert_eq!(server.http("GET", "/", &[("Origin", "http://evil.com")]).status, 403);
    let strict = builder().demo().start();
    assert!(connected_without_a_token(&strict).is_err());
}

/// Mode and model, as a session has them.
fn chosen(server: &Server) -> (Value, Value) {
    let session = server.connect(json!({})).registered()["session"].clone();
    (session["mode"].clone(), session["model"].clone())
}

#[test]
fn flags_win_over_the_environment_it_over_the_file_it_over_the_defaults() {
    let workspace = Arc::new(Workspace::new());
    let file = workspace.root().join("c.json");
    fs::write(&file, r#"{"mode": "shared", "model": "of-the-file", "agent": "demo", "effort": null}"#).expect("a file");
    let plain = || builder().workspace(&workspace);
    let with_file = || plain().arg(format!("--config={}", file.display()));
    let with_both = || with_file().env("CSM_MODEL", "of-the-environment");
    for (builder, mode, model) in [
        (plain().demo(), "isolated", Value::Null),
        (with_file(), "shared", json!("of-the-file")),
        (with_both(), "shared", json!("of-the-environment")),
        (with_file().env("CSM_MODE", "").env("CSM_MODEL", ""), "shared", json!("of-the-file")),
        (with_both().args(["--model=of-the-flag", "--mode=isolated"]), "isolated", json!("of-the-flag")),
        (with_both().env("CSM_MODE", "isolated").arg("--mode=shared"), "shared", json!("of-the-environment")),
    ] {
        let server = builder.start();
        assert_eq!(chosen(&server), (json!(mode), model));
        server.stop();
    }
}

#[test]
fn a_host_name_in_the_environment_is_ignored_and_said() {
    let server = builder().demo().env("HOST", "my-machine").start();
    assert!(server.stderr_text().contains("WARN") && server.stderr_text().contains("HOST"), "{}", server.stderr_text());
    assert_eq!(server.http("GET", "/health", &[]).status, 200);
}
