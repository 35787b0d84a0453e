//! What every contestant spawns: prints lines like Claude's text deltas, flat out or at a rate.
//!
//! As a server's agent it speaks enough stream-json: it answers `initialize`, and each prompt is an order. With `--plain`
//! each line of its standard input is the order itself, and only the deltas come out. An order is three numbers:
//! `MILLISECONDS PER_SECOND BYTES`, where 0 a second is flat out and `BYTES` is the length of a line.
//!
//! The text of a delta begins with the moment (`CLOCK_MONOTONIC`, nanoseconds, 19 digits) at which it was made and its
//! number (12 digits); the last one's number is [`LAST`].

#[path = "line.rs"]
mod line;

use std::io::{self, BufRead, StdoutLock, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use line::{LAST, Lines, now};
use serde_json::{Value, json};

/// What one write takes at most: as much as a pipe holds.
const WRITE_BYTES: usize = 64 * 1024;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let plain = args.iter().any(|arg| arg == "--plain");
    let conversation = args.iter().skip_while(|arg| *arg != "--session-id" && *arg != "--resume").nth(1);
    let conversation = conversation.map_or("00000000-0000-4000-8000-000000000000", String::as_str);
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let done = if plain { stream(&mut out, &line, conversation) } else { answer(&mut out, &line, conversation) };
        if done.is_err() {
            return; // Nobody reads any more.
        }
    }
}

/// What the server says to its agent.
fn answer(out: &mut StdoutLock<'_>, line: &str, conversation: &str) -> io::Result<()> {
    let line: Value = serde_json::from_str(line).expect("the server writes JSON");
    if line["type"] == "control_request" {
        let response = json!({"subtype": "success", "request_id": line["request_id"], "response": {}});
        return say(out, &json!({"type": "control_response", "response": response}));
    }
    if line["type"] != "user" {
        return Ok(());
    }
    let content = &line["message"]["content"];
    let order = content.as_str().or(content[0]["text"].as_str()).expect("an order");
    let named = |mut value: Value| {
        value["session_id"] = conversation.into();
        value
    };
    say(out, &named(json!({"type": "system", "subtype": "init", "model": "bench", "claude_code_version": "0.0.0"})))?;
    stream(out, order, conversation)?;
    let message = json!({"id": "msg_1", "role": "assistant", "content": [{"type": "text", "text": "all of it"}]});
    say(out, &named(json!({"type": "assistant", "message": message, "parent_tool_use_id": null})))?;
    say(
        out,
        &named(json!({
            "type": "result", "subtype": "success", "is_error": false, "result": "all of it", "num_turns": 1,
            "user_message_uuid": line["uuid"],
        })),
    )
}

fn say(out: &mut StdoutLock<'_>, line: &Value) -> io::Result<()> {
    writeln!(out, "{line}")?;
    out.flush()
}

fn stream(out: &mut StdoutLock<'_>, order: &str, conversation: &str) -> io::Result<()> {
    let mut numbers = order.split(' ').map(|number| number.parse::<u64>().expect("an order of three numbers"));
    let mut next = || numbers.next().expect("three numbers");
    let (millis, rate, bytes) = (next(), next(), next());
    let mut lines = Lines::new(conversation, usize::try_from(bytes).expect("a length"));
    let began = now();
    let until = began + millis * 1_000_000;
    // Locked standard output is line buffered: past it, or every line costs a system call of its own.
    let mut raw = std::fs::File::from(out.as_fd().try_clone_to_owned()?);
    match rate {
        0 => flat_out(&mut raw, &mut lines, until)?,
        _ => at_a_rate(&mut raw, &mut lines, began, until, rate)?,
    }
    raw.write_all(lines.numbered(LAST, now()))
}

fn flat_out(out: &mut impl Write, lines: &mut Lines, until: u64) -> io::Result<()> {
    let mut batch = Vec::with_capacity(WRITE_BYTES);
    let mut number = 0;
    while now() < until {
        batch.clear();
        while batch.is_empty() || batch.len() + lines.bytes() <= WRITE_BYTES {
            batch.extend_from_slice(lines.numbered(number, now()));
            number += 1;
        }
        out.write_all(&batch)?;
    }
    Ok(())
}

fn at_a_rate(out: &mut impl Write, lines: &mut Lines, began: u64, until: u64, rate: u64) -> io::Result<()> {
    for number in 0.. {
        let due = began + number * 1_000_000_000 / rate;
        if due >= until {
            break;
        }
        std::thread::sleep(Duration::from_nanos(due.saturating_sub(now())));
        out.write_all(lines.numbered(number, now()))?;
    }
    Ok(())
}
