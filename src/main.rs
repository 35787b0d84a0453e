//! The command: reads its arguments and hands over to the library.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use claude_session_manager::auth::Token;
use claude_session_manager::claude::{demo, guardian};
use claude_session_manager::config::{Command, Config, ConfigError};
use claude_session_manager::{logging, server, shutdown};

fn main() -> ExitCode {
    match Config::load(std::env::args_os(), &|name| std::env::var_os(name)) {
        Ok(Command::Serve(config)) => serve(&config),
        Ok(Command::DemoAgent(args)) => demo::run(&args),
        Ok(Command::Guardian(args)) => finish(guardian::run(&args).map(|()| String::new())),
        Ok(Command::Link(config)) => finish(link(&config)),
        Ok(Command::TokenRotate(config)) => finish(rotate(&config)),
        Ok(Command::Healthcheck(config)) => finish(server::healthcheck(&config)),
        Err(error @ ConfigError::Help(_)) => {
            print(&error.to_string());
            ExitCode::from(error.exit_code())
        }
        Err(error @ ConfigError::Bad(_)) => fail(&error.to_string(), error.exit_code()),
    }
}

fn serve(config: &Config) -> ExitCode {
    // Fails only when there is a logger already.
    let _ = logging::init(config.log_level, config.log_format);
    let signals = match shutdown::signals() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("cannot catch signals: {error}"), 1),
    };
    match server::serve(config, &signals) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => fail(&failure.message, failure.exit_code),
    }
}

fn link(config: &Config) -> Result<String, String> {
    let token = Token::load(&config.token_file).map_err(|error| error.to_string())?;
    Ok(server::link(config, &token, SocketAddr::new(config.host, config.port)) + "\n")
}

fn rotate(config: &Config) -> Result<String, String> {
    Token::rotate(&config.token_file).map_err(|error| error.to_string())?;
    Ok("the token is new; a running server takes it when it is started again\n".into())
}

fn finish(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message, 1),
    }
}

/// A reader that has gone away (`| head`) is no failure.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn fail(message: &str, code: u8) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "claude-session-manager: {message}");
    ExitCode::from(code)
}
