//! The fake Messages API as a program, for tests that are not in Rust: it prints the environment with which the CLI uses
//! it, a `NAME=VALUE` a line and an empty line at the end, and serves until its input ends.

#[path = "../support/mod.rs"]
mod support;

use std::io::{Read as _, Write as _};

use support::fake_api::FakeApi;

fn main() -> std::io::Result<()> {
    let api = FakeApi::start();
    let mut lines: String = api.env().iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    lines.push('\n');
    std::io::stdout().write_all(lines.as_bytes())?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
