//! One commit on this disk, by the store itself: what a prompt must wait for before anybody may rely on it.
//! It is a small one: what else the server writes with a prompt, of the session, counts as its own.

use std::{
    cell::Cell,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use claude_session_manager::{
    net::Room,
    store::{Change, PromptRow, PromptState, Store, Submission},
};

use crate::{
    direct::PROMPT,
    report::{COMMIT, Samples},
    support::workspace::Workspace,
};

/// How many commits one run makes.
const COMMITS: usize = 5;

/// A disk that has just synced may be quicker: prompts do not come one behind the other.
const PAUSE: Duration = Duration::from_millis(50);

/// A store of its own, beside those of the servers.
pub struct Commits {
    store: Store,
    made: Cell<u64>,
    _place: Workspace,
}

impl Commits {
    pub fn new() -> Commits {
        let place = Workspace::new();
        std::fs::create_dir_all(place.data()).expect("the data directory");
        let store = Store::open(&place.data(), Arc::new(Room::default())).expect("a new database");
        Commits { store, made: Cell::new(0), _place: place }
    }

    /// One run.
    pub fn run(&self, samples: &mut Samples) {
        for _ in 0..COMMITS {
            thread::sleep(PAUSE);
            samples.add_time(COMMIT, self.commit());
        }
    }

    /// From the submission of a prompt to its being on the disk.
    fn commit(&self) -> Duration {
        let number = self.made.get() + 1;
        self.made.set(number);
        let key = self.store.new_key();
        let prompt = PromptRow {
            session: key,
            number,
            id: format!("prompt_{number}"),
            uuid: format!("f0000000-0000-4000-8000-{number:012}"),
            state: PromptState::Written,
            time: number,
            text: PROMPT.into(),
            content: None,
            attachments: None,
        };
        let (tell, told) = mpsc::channel();
        let began = Instant::now();
        self.store.submit(Submission {
            changes: vec![Change::Accept(Box::new(prompt)), Change::Said(key, PROMPT.into())],
            done: vec![Box::new(move |outcome| {
                let _ = tell.send((Instant::now(), outcome.is_ok()));
            })],
            refusable: true,
            on_its_way: Arc::default(),
        });
        let (at, stored) = told.recv().expect("the store answers");
        assert!(stored, "the store refuses a prompt");
        at.duration_since(began)
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        self.store.close();
    }
}
