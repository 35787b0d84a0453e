//! Every name of every setting leads to it.

use super::*;

#[test]
#[rustfmt::skip] // a table is read by its lines
fn every_name_leads_to_its_setting() {
    fn check(say: Say<'_>, read: fn(&Config) -> String, expected: &str) {
        let (config, dir) = serve(say);
        let expected = expected.replace("DIR", &dir);
        assert_eq!(read(&config), expected, "{:?} {:?} {:?}", say.args, say.env, say.file);
    }
    type Case<'a> = (&'a str, &'a str, &'a str, &'a str, fn(&Config) -> String, &'a str);
    let cases: &[Case<'_>] = &[
        ("--host", "HOST", "host", "::1", |c| c.host.to_string(), "::1"),
        ("--port", "PORT", "port", "0", |c| c.port.to_string(), "0"),
        ("--cors-origin", "CORS_ORIGIN", "corsOrigin", "*", |c| c.cors_origins.join(" "), "*"),
        ("--allow-host", "", "", "Box.LAN", |c| c.allow_hosts.join(" "), "box.lan"),
        ("--allow-host", "", "", "::1", |c| c.allow_hosts.join(" "), "[::1]"),
        (
            "--public-url",
            "CSM_PUBLIC_URL",
            "publicUrl",
            "https://h/p/",
            |c| c.public_url.as_ref().map(ToString::to_string).unwrap_or_default(),
            "https://h/p",
        ),
        ("--token-file", "CSM_TOKEN_FILE", "tokenFile", "t", |c| c.token_file.display().to_string(), "DIR/t"),
        ("--agent", "CSM_AGENT", "agent", "demo", |c| format!("{:?}", c.agent), "Demo"),
        ("--agent", "CSM_AGENT", "agent", "claude", |c| format!("{:?}", c.agent), "Claude"),
        ("--agent", "CSM_AGENT", "agent", "./c", |c| format!("{:?}", c.agent), "Path(\"DIR/./c\")"),
        ("--agent-arg", "", "agentArgs", "--verbose", |c| format!("{:?}", c.agent_args), "[\"--verbose\"]"),
        ("--cwd", "CSM_CWD", "cwd", "link", |c| c.cwd.display().to_string(), "DIR/src/a"),
        ("--allow-root", "CSM_ALLOW_ROOT", "allowRoots", "DIR/link/../..", |c| format!("{:?}", c.allow_roots), "[\"DIR\"]"),
        ("--model", "CSM_MODEL", "model", "opus", |c| format!("{:?}", c.model), "Some(\"opus\")"),
        (
            "--permission-mode",
            "CSM_PERMISSION_MODE",
            "permissionMode",
            "acceptEdits",
            |c| format!("{:?}", c.permission_mode),
            "Some(\"acceptEdits\")",
        ),
        ("--effort", "CSM_EFFORT", "effort", "max", |c| format!("{:?}", c.effort), "Some(\"max\")"),
        ("--mode", "CSM_MODE", "mode", "shared", |c| format!("{:?}", c.mode), "Shared"),
        ("--data-dir", "CSM_DATA_DIR", "dataDir", "d", |c| c.token_file.display().to_string(), "DIR/d/token"),
        ("--idle-timeout", "", "idleTimeout", "500ms", |c| format!("{:?}", c.idle_timeout), "Some(500ms)"),
        ("--idle-timeout", "", "idleTimeout", "0", |c| format!("{:?}", c.idle_timeout), "None"),
        ("--idle-timeout", "", "idleTimeout", "none", |c| format!("{:?}", c.idle_timeout), "None"),
        ("--session-ttl", "", "sessionTtl", "1d", |c| format!("{:?}", c.session_ttl), "Some(86400s)"),
        ("--session-ttl", "", "sessionTtl", "0h", |c| format!("{:?}", c.session_ttl), "None"),
        ("--prestart", "", "prestart", "0", |c| c.prestart.to_string(), "0"),
        ("--recovery-window", "", "recoveryWindow", "10min", |c| format!("{:?}", c.recovery_window), "600s"),
        ("--recovery-window", "", "recoveryWindow", "0", |c| format!("{:?}", c.recovery_window), "0ns"),
        ("--max-connections", "", "maxConnections", "9", |c| c.max_connections.to_string(), "9"),
        ("--max-sessions", "", "maxSessions", "9", |c| c.max_sessions.to_string(), "9"),
        ("--max-processes", "", "maxProcesses", "9", |c| c.max_processes.to_string(), "9"),
        ("--max-payload", "", "maxPayload", "1KiB", |c| c.max_payload.to_string(), "1024"),
        ("--max-payload", "", "maxPayload", "64MiB", |c| c.max_payload.to_string(), "67108864"),
        ("--outbox-bytes-max", "", "outboxBytesMax", "2M", |c| c.outbox_bytes_max.to_string(), "2000000"),
        ("--log-level", "CSM_LOG", "logLevel", "trace", |c| c.log_level.to_string(), "TRACE"),
        ("--log-format", "", "logFormat", "json", |c| format!("{:?}", c.log_format), "Json"),
        ("--ping-interval-ms", "", "pingIntervalMs", "1", |c| format!("{:?}", c.ping_interval), "1ms"),
        ("--ping-timeout-ms", "", "pingTimeoutMs", "86399999", |c| format!("{:?}", c.ping_timeout), "86399.999s"),
        ("--start-timeout", "", "startTimeout", "2m", |c| format!("{:?}", c.start_timeout), "120s"),
        ("--stop-grace", "", "stopGrace", "7", |c| format!("{:?}", c.stop_grace), "7s"),
        ("--interrupt-timeout", "", "interruptTimeout", "2h", |c| format!("{:?}", c.interrupt_timeout), "7200s"),
    ];
    for &(flag, env, key, value, read, expected) in cases {
        check(args(&[flag, value]), read, expected);
        check(args(&["serve", flag, value]), read, expected);
        if !env.is_empty() {
            check(Say { env: &[(env, value)], ..Say::default() }, read, expected);
        }
        if !key.is_empty() {
            let file = format!("{{\"{key}\": {value:?}}}");
            check(Say { file: &file, ..Say::default() }, read, expected);
        }
    }
    let covered = |flag: &str| cases.iter().any(|case| case.0 == flag);
    for setting in settings::SETTINGS {
        let switch = matches!((setting.slot)(&mut Default::default()), settings::Slot::Switch(_));
        assert!(switch || setting.flag == "--config" || covered(setting.flag), "{}", setting.flag);
    }
    check(args(&["--allow-remote", "--host", "0"]), |c| c.allow_remote.to_string(), "true");
    check(args(&["--no-auth"]), |c| c.auth.to_string(), "false");
    let bypass: &[&str] = &["--allow-bypass-permissions", "--permission-mode", "bypassPermissions"];
    check(args(&["--recover"]), |c| c.recover.to_string(), "true");
    check(args(bypass), |c| c.allow_bypass_permissions.to_string(), "true");
    let (state, unset) = (("XDG_STATE_HOME", "/state"), ("HOME", "UNSET"));
    let data_dir: fn(&Config) -> String = |c| c.data_dir.display().to_string();
    let say = Say { env: &[state, unset], ..Say::default() };
    check(say, data_dir, "/state/claude-session-manager");
    let relative = ("XDG_STATE_HOME", "state");
    let say = Say { env: &[relative, ("HOME", "/h")], ..Say::default() };
    check(say, data_dir, "/h/.local/state/claude-session-manager");
}

#[test]
fn own_variables() {
    fn check(name: &str, expected: bool) {
        assert_eq!(is_own_variable(OsStr::new(name)), expected, "{name}");
    }
    for setting in settings::SETTINGS.iter().filter(|setting| !setting.env.is_empty()) {
        check(setting.env, true);
    }
    for (name, expected) in [
        ("CSM_", true),
        ("CSM_ANYTHING", true),
        ("CSM", false),
        ("csm_mode", false),
        ("HOSTNAME", false),
        ("HOME", false),
        ("ANTHROPIC_API_KEY", false),
    ] {
        check(name, expected);
    }
}
