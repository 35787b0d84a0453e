//! Everything that is refused, and with what line.

use super::*;

#[test]
#[rustfmt::skip] // a table is read by its lines
fn a_bad_value_is_one_line_that_names_where_it_was_said() {
    fn check(say: Say<'_>, expected: &str) {
        let (result, dir) = run(say);
        let error = result.expect_err(expected);
        assert_eq!(error.to_string(), expected.replace("DIR", &dir), "{:?}", say.args);
        assert!(matches!(error, ConfigError::Bad(_)) && error.exit_code() == 2);
        assert!(!error.to_string().contains('\n'));
    }
    let long = "x".repeat(301);
    let long_shown = format!("--model: \"{}…\" is not the name of a model", "x".repeat(300));
    let modes = "acceptEdits, auto, bypassPermissions, default, dontAsk, plan";
    let no_mode = format!("--permission-mode: \"root\" is none of {modes}");
    let cases: &[(&[&str], &str)] = &[
        (&["--host", "example.com"], "--host: \"example.com\" is not an IP address"),
        (&["--host", "256.0.0.1"], "--host: \"256.0.0.1\" is not an IP address"),
        (&["--host", ""], "--host: \"\" is not an IP address"),
        (&["--host", "0"], "--host: 0.0.0.0 can be reached by others; needs --allow-remote"),
        (&["--host", "::"], "--host: :: can be reached by others; needs --allow-remote"),
        (&["--host", "::ffff:0.0.0.0"], "--host: 0.0.0.0 can be reached by others; needs --allow-remote"),
        (&["--host", "192.168.1.9"], "--host: 192.168.1.9 can be reached by others; needs --allow-remote"),
        (&["--host", "0", "--allow-remote", "--no-auth"], "--no-auth: only with a loopback address, not with 0.0.0.0"),
        (&["--no-auth", "--public-url", "https://h"], "--no-auth: not together with --public-url"),
        (&["--no-auth", "--cors-origin", "*"], "--no-auth: not together with --cors-origin *"),
        (&["--port", "65536"], "--port: \"65536\" is not a whole number from 0 to 65535"),
        (&["--port", "+1"], "--port: \"+1\" is not a whole number from 0 to 65535"),
        (&["--port=-1"], "--port: \"-1\" is not a whole number from 0 to 65535"),
        (&["--port"], "--port: needs a value"),
        (&["--cors-origin", "http://a/"], "--cors-origin: \"http://a/\" is not an origin such as https://example.com, or *"),
        (&["--cors-origin", "null"], "--cors-origin: \"null\" is not an origin such as https://example.com, or *"),
        (&["--allow-host", "http://a"], "--allow-host: \"http://a\" is not a bare host name or address"),
        (&["--allow-host", "a:80"], "--allow-host: \"a:80\" is not a bare host name or address"),
        (&["--allow-host", "*"], "--allow-host: \"*\" is not a bare host name or address"),
        (&["--public-url", "h/p"], "--public-url: \"h/p\" is not a URL such as https://example.com/prefix"),
        (&["--mode", "Shared"], "--mode: \"Shared\" is none of shared, isolated"),
        (&["--agent", "cluade"], "--agent: \"cluade\" is none of auto, claude, demo, or a path with a /"),
        (&["--cwd", "missing"], "--cwd: \"missing\" is not an existing directory"),
        (&["--cwd", "file"], "--cwd: \"file\" is not an existing directory"),
        (&["--cwd", ""], "--cwd: \"\" is not a path"),
        (&["--allow-root", "file"], "--allow-root: \"file\" is not an existing directory"),
        (&["--cwd", "src2", "--allow-root", "src"], "--cwd: \"DIR/src2\" lies under no directory of --allow-root"),
        (&["--cwd", "src", "--allow-root", "link"], "--cwd: \"DIR/src\" lies under no directory of --allow-root"),
        (&["--allow-root", "src"], "--cwd: \"DIR\" lies under no directory of --allow-root"),
        (&["--model", ""], "--model: \"\" is not the name of a model"),
        (&["--model=-p"], "--model: \"-p\" is not the name of a model"),
        (&["--model", "a\nb"], "--model: \"a\\nb\" is not the name of a model"),
        (&["--model", &long], &long_shown),
        (&["--permission-mode", "root"], &no_mode),
        (&["--permission-mode", "bypassPermissions"], "--permission-mode: bypassPermissions needs --allow-bypass-permissions"),
        (&["--effort", "High"], "--effort: \"High\" is not a word of small letters, such as high"),
        (&["--effort", ""], "--effort: \"\" is not a word of small letters, such as high"),
        (&["--data-dir", ""], "--data-dir: \"\" is not a path"),
        (&["--token-file", ""], "--token-file: \"\" is not a path"),
        (&["--idle-timeout", "soon"], "--idle-timeout: \"soon\" is not a time such as 500ms, 90s, 10m, 2h or 1d"),
        (&["--session-ttl", "1.5h"], "--session-ttl: \"1.5h\" is not a time such as 500ms, 90s, 10m, 2h or 1d"),
        (&["--session-ttl", "3651d"], "--session-ttl: \"3651d\" is more than 3650d"),
        (&["--recovery-window", "24h"], "--recovery-window: \"24h\" is not less than 24h"),
        (&["--prestart", "none"], "--prestart: \"none\" is not a whole number from 0 to 10000"),
        (&["--max-connections", "0"], "--max-connections: \"0\" is not a whole number from 1 to 1000000"),
        (&["--max-sessions", "0"], "--max-sessions: \"0\" is not a whole number from 1 to 10000000"),
        (&["--max-processes", "0"], "--max-processes: \"0\" is not a whole number from 1 to 10000"),
        (&["--max-payload", "1023"], "--max-payload: \"1023\" is not from 1024 to 67108864 bytes"),
        (&["--max-payload", "65MiB"], "--max-payload: \"65MiB\" is not from 1024 to 67108864 bytes"),
        (&["--max-payload", "1GB"], "--max-payload: \"1GB\" is not a size such as 1000000, 900k or 8MiB"),
        (&["--max-payload", "k"], "--max-payload: \"k\" is not a size such as 1000000, 900k or 8MiB"),
        (&["--outbox-bytes-max", "1"], "--outbox-bytes-max: \"1\" is not from 65536 to 1073741824 bytes"),
        (&["--ping-interval-ms", "0"], "--ping-interval-ms: \"0\" is not a whole number from 1 to 86399999"),
        (&["--ping-timeout-ms", "86400000"], "--ping-timeout-ms: \"86400000\" is not a whole number from 1 to 86399999"),
        (&["--ping-timeout-ms", "1s"], "--ping-timeout-ms: \"1s\" is not a whole number from 1 to 86399999"),
        (&["--start-timeout", "0"], "--start-timeout: \"0\" is not more than 0 and less than 24h"),
        (&["--stop-grace", "1d"], "--stop-grace: \"1d\" is not more than 0 and less than 24h"),
        (&["--interrupt-timeout", "none"], "--interrupt-timeout: \"none\" is not a time such as 500ms, 90s, 10m, 2h or 1d"),
        (&["--log-level", "loud"], "--log-level: \"loud\" is none of error, warn, info, debug, trace"),
        (&["--log-format", "xml"], "--log-format: \"xml\" is none of text, json"),
        (&["--prot", "1"], "--prot: there is no such argument; did you mean --port?"),
        (&["--a\n\x1b[2J"], "--a\\n\\u{1b}[2J: there is no such argument"),
        (&["--no-auth=yes"], "--no-auth: takes no value"),
        (&["halthcheck"], "halthcheck: there is no such command; did you mean healthcheck?"),
        (&["token"], "token: needs --rotate, which replaces the token"),
        (&["link", "--port", "x"], "--port: \"x\" is not a whole number from 0 to 65535"),
        (&["--config", "none.json"], "--config: \"DIR/none.json\" cannot be read: No such file or directory (os error 2)"),
        (&["--config", "file"], "--config: \"DIR/file\" is not JSON: EOF while parsing a value at line 1 column 0"),
    ];
    for (said, expected) in cases {
        check(args(said), expected);
    }
    let env: &[(&[(&str, &str)], &str)] = &[
        (&[("PORT", "http")], "PORT: \"http\" is not a whole number from 0 to 65535"),
        (&[("HOST", "0.0.0.0")], "HOST: 0.0.0.0 can be reached by others; needs --allow-remote"),
        (&[("HOST", "1.2.3.4:80")], "HOST: \"1.2.3.4:80\" is not an IP address"),
        (&[("CSM_MODE", "x")], "CSM_MODE: \"x\" is none of shared, isolated"),
        (&[("CSM_ALLOW_ROOT", "DIR, nowhere")], "CSM_ALLOW_ROOT: \"nowhere\" is not an existing directory"),
        (&[("CSM_ALLOW_ROOT", "src")], "--cwd: \"DIR\" lies under no directory of CSM_ALLOW_ROOT"),
        (&[("HOME", "UNSET")], "--data-dir: must be given, as neither XDG_STATE_HOME nor HOME is an absolute path"),
    ];
    for (env, expected) in env {
        check(Say { env, ..Say::default() }, expected);
    }
    for (file, expected) in [
        (r#"{"prot": 1}"#, "--config: there is no key \"prot\" to set in \"DIR/c.json\""),
        (r#"{"noAuth": true}"#, "--config: there is no key \"noAuth\" to set in \"DIR/c.json\""),
        (r#"{"": true}"#, "--config: there is no key \"\" to set in \"DIR/c.json\""),
        (r#"[]"#, "--config: \"DIR/c.json\" is not a JSON object"),
        (r#"{"port": 1.5}"#, "port in \"DIR/c.json\": \"1.5\" is not a whole number from 0 to 65535"),
        (r#"{"port": true}"#, "port in \"DIR/c.json\": is neither a string nor a number"),
        (r#"{"agentArgs": ["a", {}]}"#, "agentArgs in \"DIR/c.json\": holds something else than strings"),
        (r#"{"corsOrigin": {}}"#, "corsOrigin in \"DIR/c.json\": is not a list of strings"),
        (r#"{"agentArgs": ["\u0000"]}"#, "agentArgs in \"DIR/c.json\": \"\\u{0}\" is not an argument"),
        (r#"{"cwd": "a\u0000b"}"#, "cwd in \"DIR/c.json\": \"a\\u{0}b\" is not a path"),
    ] {
        check(Say { file, ..Say::default() }, expected);
    }
}

#[test]
fn what_is_not_text_is_refused_where_text_is_needed_and_kept_where_it_is_a_path() {
    let strange = || OsString::from_vec(b"/x\xff".to_vec());
    let directory = tempfile::tempdir().expect("tempdir");
    let here = directory.path().canonicalize().expect("canonical");
    let run = |flag: &str| {
        let machine = Machine { directory: here.clone(), memory_bytes: None };
        let env = |name: &str| (name == "HOME").then(|| "/h".into());
        load(["csm".into(), flag.into(), strange()], &env, || Ok(machine))
    };
    let error = run("--port").expect_err("no port");
    assert_eq!(error.to_string(), "--port: \"/x\u{fffd}\" is not UTF-8");
    let Ok(Command::Serve(config)) = run("--data-dir") else { panic!("a directory") };
    assert_eq!(config.data_dir, Path::new(&strange()));
    assert_eq!(config.max_processes, 4, "the memory is not known");
    let Ok(Command::Serve(config)) = run("--agent") else { panic!("an agent") };
    assert_eq!(config.agent, AgentChoice::Path(strange().into()));
}
