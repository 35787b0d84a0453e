//! The store on a directory of its own.

mod damage;
mod opening;
mod reading;
mod searching;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

/// What only hangs when something is broken takes no longer than this.
const DEADLINE: Duration = Duration::from_secs(30);

/// A store, closed in the end, and its directory.
struct Place {
    store: Store,
    dir: TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.store.close();
    }
}

impl Place {
    fn new() -> Place {
        Place::at(directory())
    }

    fn at(dir: TempDir) -> Place {
        let store = open(dir.path()).expect("a sound database");
        Place { store, dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(FILE_NAME)
    }

    /// Another connection to the database.
    fn beside(&self) -> Connection {
        Connection::open(self.path()).expect("opened")
    }

    /// What a server leaves that is killed now.
    fn killed(&self) -> TempDir {
        let dir = directory();
        for tail in ["", "-wal"] {
            let name = format!("{FILE_NAME}{tail}");
            let _ = fs::copy(self.dir.path().join(&name), dir.path().join(&name));
        }
        dir
    }

    /// What a server leaves that is stopped.
    fn stopped(self) -> TempDir {
        self.store.close();
        let dir = self.killed();
        assert!(!fs::exists(dir.path().join(format!("{FILE_NAME}-wal"))).expect("looked"), "all is in one file");
        dir
    }

    fn submit(&self, changes: Vec<Change>) -> Pending {
        self.submit_as(changes, false)
    }

    fn submit_as(&self, changes: Vec<Change>, refusable: bool) -> Pending {
        let (told, outcome) = crossbeam_channel::bounded(1);
        let done: Done = Box::new(move |outcome| told.send(outcome).expect("somebody listens"));
        let on_its_way = Arc::default();
        self.store.submit(Submission { changes, done: vec![done], refusable, on_its_way });
        Pending(outcome)
    }

    /// Writes it, which must go.
    fn write(&self, changes: Vec<Change>) -> Accepted {
        self.submit(changes).wait().expect("written")
    }

    /// A session, stored.
    fn add(&self, title: &str) -> SessionRow {
        let row = row(self.store.new_key(), title);
        self.write(vec![Change::Session(row.clone().into()), Change::Title(row.key, title.to_owned())]);
        row
    }

    fn titles(&self, query: Option<&str>) -> Vec<String> {
        let query = query.map(|query| self.store.query(query).expect("a query"));
        let rows = self.store.list(query.as_ref(), None, 100).expect("a list");
        rows.into_iter().filter_map(|row| row.title).collect()
    }
}

/// What becomes of a submission.
struct Pending(crossbeam_channel::Receiver<Result<Accepted, Trouble>>);

impl Pending {
    fn wait(&self) -> Result<Accepted, Trouble> {
        self.0.recv_timeout(DEADLINE).expect("an outcome")
    }

    fn is_pending(&self) -> bool {
        self.0.is_empty()
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, Arc::default())
}

/// A session's row; its last activity is its key.
fn row(key: Key, title: &str) -> SessionRow {
    SessionRow {
        key,
        id: format!("session_{key}"),
        source: "here".into(),
        uuid: format!("uuid-{key}"),
        has_turns: true,
        last_message: None,
        title_given: false,
        forked_from: None,
        title: Some(title.to_owned()),
        cwd: "/home/anybody/Projects".into(),
        model: None,
        permission_mode: None,
        effort: None,
        model_in_use: None,
        permission_mode_in_use: None,
        agent_version: None,
        created_at: 1,
        last_activity: key.cast_unsigned(),
        ended: false,
        turns: 1,
        cost_usd: 0.5,
        last_words: None,
        failure: None,
        prompts: 0,
        imported_bytes: 0,
        account: None,
    }
}

/// An event with these members behind its number.
fn event(session: &SessionRow, seq: u64, members: &str) -> Change {
    let head = event_head(&session.id, seq);
    Change::Event(EventRow {
        session: session.key,
        seq,
        time: 1000 + seq,
        name: "notice",
        rest_at: head.len(),
        data: format!("{head}{members}}}").into(),
        essentials: None,
        stored: Arc::new(AtomicU64::new(0)),
    })
}

/// A prompt that is accepted.
fn prompt(session: &SessionRow, number: u64, id: &str, text: &str) -> Change {
    Change::Accept(Box::new(PromptRow {
        session: session.key,
        number,
        id: id.into(),
        uuid: format!("uuid of {id}"),
        state: PromptState::Accepted,
        time: 1,
        text: text.into(),
        content: None,
        attachments: None,
    }))
}

/// The end of a prompt behind the event of that number.
fn ended(session: &SessionRow, id: &str, end_seq: u64, answer: &str) -> Change {
    let head = response_head(&session.id);
    let data = format!(r#"{head},"promptId":"{id}","fullResponse":"{answer}","done":true}}"#);
    Change::Ended {
        session: session.key,
        id: id.into(),
        state: PromptState::Done,
        end_seq,
        response: data.into(),
        rest_at: head.len(),
    }
}

/// The numbers of a session's events on the disk.
fn numbers(store: &Store, session: &SessionRow) -> Vec<u64> {
    let events = store.events(session.key, &session.id, (0, 1 << 31), false, (1000, 1 << 30)).expect("events");
    events.into_iter().map(|event| event.seq).collect()
}
