//! Subcommands and the help.

use super::*;

#[test]
fn commands() {
    fn check(args: &[&str], expected: Result<&str, &str>) {
        let said = |list: Vec<OsString>| list.join(OsString::from("|").as_os_str()).into_string();
        let shown = match run(Say { args, ..Say::default() }).0 {
            Ok(Command::Serve(_)) => "serve".to_owned(),
            Ok(Command::Link(config)) => format!("link {}", config.port),
            Ok(Command::TokenRotate(config)) => format!("rotate {}", config.port),
            Ok(Command::Healthcheck(config)) => format!("healthcheck {}", config.port),
            Ok(Command::DemoAgent(list)) => format!("demo {}", said(list).expect("UTF-8")),
            Ok(Command::Guardian(list)) => format!("guardian {}", said(list).expect("UTF-8")),
            Err(error) => {
                let part = expected.expect_err(&error.to_string());
                assert!(error.to_string().contains(part), "{args:?}: {error}");
                assert!(matches!(error, ConfigError::Help(_)) && error.exit_code() == 0);
                return;
            }
        };
        assert_eq!(Ok(shown.as_str()), expected, "{args:?}");
    }
    for (args, expected) in [
        (&[][..], Ok("serve")),
        (&["serve"], Ok("serve")),
        (&["link"], Ok("link 3001")),
        (&["--port", "1", "link"], Ok("link 1")),
        (&["token", "--rotate", "--port", "2"], Ok("rotate 2")),
        (&["healthcheck", "--port", "3"], Ok("healthcheck 3")),
        (&["demo-agent"], Ok("demo ")),
        (&["demo-agent", "-p", "--model", "x", "--help"], Ok("demo -p|--model|x|--help")),
        (&["demo-agent", "--", "--version"], Ok("demo --|--version")),
        (&["guardian", "--", "-h", "7"], Ok("guardian --|-h|7")),
        (&["--port", "1", "demo-agent", "-p", "--model"], Ok("demo -p|--model")),
        (&["--version"], Err(concat!("claude-session-manager ", env!("CARGO_PKG_VERSION"), "\n"))),
        (&["-h"], Err("Who is let in:\n")),
        (&["--help"], Err("Who is let in:\n")),
        (&["serve", "--help"], Err("Who is let in:\n")),
        (&["help", "link"], Err("Print the link with the token")),
    ] {
        check(args, expected);
    }
}

#[test]
fn the_help_shows_each_flag_with_its_names_under_its_heading() {
    let Err(ConfigError::Help(help)) = run(args(&["--help"])).0 else { panic!("no help") };
    for setting in settings::SETTINGS {
        assert!(
            help.contains(&format!("{} ", setting.flag)) || help.contains(&format!("{}\n", setting.flag)),
            "{}",
            setting.flag
        );
        let env = format!("[env: {}]", setting.env);
        let shown = help.split_whitespace().collect::<Vec<_>>().join(" ").contains(&env);
        assert!(setting.env.is_empty() || shown, "{}", setting.env);
    }
    for heading in ["Network", "Who is let in", "Claude", "Sessions", "Limits", "Logging", "Advanced"] {
        assert!(help.contains(&format!("\n{heading}:\n")), "{heading}");
    }
    assert!(!help.contains("guardian"), "not for people");
    assert!(help.lines().all(|line| line.chars().count() <= 100), "fits a terminal");
    assert!(!help.contains('\x1b'));
}
