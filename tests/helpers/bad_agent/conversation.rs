//! What it remembers: the conversation, as a record in its home, and the ledger of prompts.

use std::{env, fs, io::Write, path::PathBuf, process::exit};

use serde_json::{Value, json};

use crate::{Agent, lines::say};

/// Where a conversation is kept: a JSON string for each prompt, `{"message":UUID}` for each message.
pub fn conversation_file(session_id: &str) -> PathBuf {
    let home = env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from);
    home.join(".bad-agent").join(session_id)
}

/// The conversation's name, and what a fork begins with.
pub fn conversation_or_exit(
    new: Option<String>,
    resume: Option<String>,
    fork: bool,
    at: Option<&str>,
) -> (String, String) {
    if let Some(id) = &resume
        && !conversation_file(id).exists()
    {
        say(&json!({
            "type": "result", "subtype": "error_during_execution", "is_error": true, "num_turns": 0, "session_id": id,
            "errors": [format!("No conversation found with session ID: {id}")],
        }));
        eprintln!("No conversation found with session ID: {id}");
        exit(1)
    }
    if let Some(id) = &new
        && conversation_file(id).exists()
    {
        eprintln!("Error: Session ID {id} is already in use.");
        exit(1)
    }
    match (new, resume, fork) {
        (new, Some(old), true) => {
            let id = new.unwrap_or_else(uuid);
            // Read now, and written with the first prompt.
            let record = fs::read_to_string(conversation_file(&old)).expect("the conversation");
            let kept = match at {
                None => record.as_str(),
                Some(at) => {
                    let message = json!({"message": at}).to_string();
                    let Some(found) = record.find(&message) else {
                        eprintln!("No message found with message.uuid of: {at}");
                        exit(1)
                    };
                    &record[..=found + message.len()]
                }
            };
            (id, kept.to_owned())
        }
        (_, Some(id), false) | (Some(id), None, _) => (id, String::new()),
        (None, None, _) => (uuid(), String::new()),
    }
}

pub fn uuid() -> String {
    let hex = format!("{:032x}", fastrand::u128(..));
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

impl Agent {
    /// Adds a prompt to the conversation, and gives those before it.
    pub fn remember(&self, prompt: &str) -> Vec<String> {
        let before = self.record(&json!(prompt));
        before.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Adds a line to the record of the conversation, and gives what it was before.
    pub fn record(&self, line: &Value) -> String {
        let path = conversation_file(&self.session_id);
        let before = fs::read_to_string(&path).unwrap_or_else(|_| self.forked.clone());
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder of conversations");
        fs::write(&path, format!("{before}{line}\n")).expect("the conversation kept");
        before
    }

    /// Prints a message of the conversation, and keeps its name.
    pub fn say_message(&self, kind: &str, message: &Value) {
        let uuid = uuid();
        if self.mode != "forgetful" {
            self.record(&json!({"message": uuid}));
        }
        say(&json!({
            "type": kind, "message": message, "parent_tool_use_id": null, "session_id": self.session_id, "uuid": uuid,
        }));
    }
}

/// In one write, so that agents of several sessions do not mix their lines.
pub fn enter_in_ledger(prompt: &str) {
    let Some(ledger) = env::var_os("BAD_AGENT_LEDGER") else { return };
    let mut file = fs::OpenOptions::new().create(true).append(true).open(ledger).expect("the ledger");
    file.write_all(format!("{}\n", json!(prompt)).as_bytes()).expect("entered");
}
