//! Transcripts on disk, sound and damaged.

mod damage;
mod listing;
mod reading;

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A directory with a projects folder and a directory to work in.
struct Disk {
    root: PathBuf,
    _dir: TempDir,
}

impl Disk {
    fn new() -> Disk {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().canonicalize().expect("its path");
        for name in ["projects/folder", "work"] {
            fs::create_dir_all(root.join(name)).expect("a directory in it");
        }
        Disk { root, _dir: dir }
    }

    fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    fn path(&self, folder: &str, n: u32) -> PathBuf {
        self.root.join("projects").join(folder).join(format!("{}.jsonl", uuid(n)))
    }

    fn write(&self, n: u32, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path("folder", n);
        fs::write(&path, contents).expect("written");
        path
    }

    fn transcripts(&self) -> Transcripts {
        Transcripts::new(self.root.join("projects"), vec![self.work()])
    }

    fn list(&self) -> Vec<Found> {
        self.transcripts().list()
    }

    /// The only one there is.
    fn one(&self) -> Found {
        let list = self.list();
        assert_eq!(list.len(), 1, "{list:#?}");
        list.into_iter().next().expect("one")
    }

    /// A short conversation of one prompt, in [`Disk::work`].
    fn hello(&self) -> String {
        text(&[prompt(1, None, "hello"), answer(2, 1, "how are you?")].map(|line| self.at(line)))
    }

    fn at(&self, line: Value) -> Value {
        at(line, &self.work())
    }
}

fn uuid(n: u32) -> String {
    format!("{n:08x}-0000-4000-8000-000000000000")
}

fn with(mut line: Value, more: Value) -> Value {
    let fields = line.as_object_mut().expect("an object");
    fields.extend(more.as_object().expect("an object").clone());
    line
}

fn at(line: Value, cwd: &Path) -> Value {
    with(line, json!({"cwd": cwd}))
}

/// A line with a place in the conversation, written `n` seconds after the beginning of 2026.
fn line(n: u32, parent: Option<u32>, fields: Value) -> Value {
    let base = json!({
        "uuid": uuid(n), "parentUuid": parent.map(uuid), "isSidechain": false, "sessionId": "s",
        "timestamp": format!("2026-01-01T00:00:{n:02}.000Z"), "entrypoint": "cli",
    });
    with(base, fields)
}

fn user(n: u32, parent: Option<u32>, content: Value) -> Value {
    line(n, parent, json!({"type": "user", "message": {"role": "user", "content": content}}))
}

fn prompt(n: u32, parent: Option<u32>, text: &str) -> Value {
    user(n, parent, json!(text))
}

fn assistant(n: u32, parent: u32, block: Value) -> Value {
    let message = json!({"id": format!("m{n}"), "role": "assistant", "model": "claude-x", "content": [block]});
    line(n, Some(parent), json!({"type": "assistant", "message": message, "requestId": "r"}))
}

fn answer(n: u32, parent: u32, text: &str) -> Value {
    assistant(n, parent, json!({"type": "text", "text": text}))
}

fn result(n: u32, parent: u32, content: &str) -> Value {
    let block = json!({"type": "tool_result", "tool_use_id": "t", "content": content});
    with(user(n, Some(parent), json!([block])), json!({"toolUseResult": {"stdout": content}}))
}

fn local(n: u32, parent: u32, content: &str) -> Value {
    line(n, Some(parent), json!({"type": "system", "subtype": "local_command", "content": content}))
}

/// The file with these lines.
fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn told(path: &Path) -> Vec<Told> {
    read(path).expect("it can be opened").collect()
}

/// What was told, a word each: a prompt's or an answer's text, else the event's type.
fn words(path: &Path) -> Vec<String> {
    let word = |told: Told| match told.what {
        What::Prompt(text) => format!("> {text}"),
        What::Event(event) => {
            let event: Value = serde_json::from_str(&event).expect("JSON");
            let text = event["message"]["content"][0]["text"].as_str();
            text.or(event["subtype"].as_str()).or(event["type"].as_str()).expect("a type").to_owned()
        }
    };
    told(path).into_iter().map(word).collect()
}
