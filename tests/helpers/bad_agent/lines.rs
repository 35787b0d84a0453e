//! The lines that come and go.

use std::{
    io::{self, BufRead, Write},
    process::exit,
    sync::mpsc::{self, Receiver},
    thread,
};

use serde_json::Value;

use crate::processes::sleep_forever;

/// The lines of stdin. A deaf agent stops taking them after the first, which is `initialize`.
pub fn read_stdin(deaf: bool) -> Receiver<Value> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if line.trim().is_empty() {
                continue;
            }
            let Ok(value) = serde_json::from_str(&line) else {
                eprintln!("Error parsing streaming input line: {line}");
                exit(1)
            };
            if sender.send(value).is_err() {
                return;
            }
            if deaf {
                sleep_forever();
            }
        }
    });
    receiver
}

pub fn say(value: &Value) {
    say_bytes(format!("{value}\n").as_bytes());
}

pub fn say_bytes(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        // Nobody listens any more. As the real one, that is the end.
        exit(1)
    }
}

pub fn flood_stderr() {
    let mut err = io::stderr().lock();
    let line = format!("{}\n", "stderr ".repeat(14));
    for _ in 0..90_000 {
        let _ = err.write_all(line.as_bytes());
    }
    // The last megabyte is one line.
    let _ = err.write_all("y".repeat(1_000_000).as_bytes());
    let _ = err.write_all(b"\nthe flood is over\n");
}
