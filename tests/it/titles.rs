//! What a session is called, and by whom.

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, on, scene},
    support::{DEADLINE, processes::eventually},
};

impl Scene {
    fn title(&self) -> Value {
        self.client.must("getSession", self.data(json!({})))["session"]["title"].clone()
    }

    fn rename(&self, title: &str) {
        let renamed = self.client.must("renameSession", self.data(json!({"title": title})))["session"].clone();
        assert_eq!(renamed["title"], title);
    }

    /// Whether the session is found by this word.
    fn is_found_by(&self, word: &str) -> bool {
        let found = self.client.must("listSessions", json!({"query": word}))["sessions"].clone();
        found.as_array().is_some_and(|found| found.iter().any(|session| session["sessionId"] == self.id.as_str()))
    }

    /// Stops the server and starts another on what it has left.
    fn restarted(self) -> Scene {
        assert_eq!(self.server.stop().code(), Some(0));
        let new = on(bad("proper").workspace(self.server.workspace()).start());
        new.client.must("resumeSession", json!({"sessionId": self.id}));
        Scene { id: self.id.clone(), ..new }
    }
}

#[test]
fn claude_gives_a_better_title_than_the_first_prompt() {
    let scene = scene(bad("proper"));
    scene.text("title  Better\n than before ");
    assert_eq!(scene.title(), "Better than before", "{:?}", scene.client.events_named("sessionUpdated"));
    scene.client.wait_event("sessionUpdated", |session| session["title"] == "Better than before");
    eventually("it is found by its title", DEADLINE, || scene.is_found_by("better"));
    let scene = scene.restarted();
    assert_eq!(scene.title(), "Better than before");
    scene.text("title The best");
    assert_eq!(scene.title(), "The best");
    scene.finish();
}

#[test]
fn the_users_title_stays() {
    let scene = scene(bad("proper"));
    assert_eq!(scene.text("first"), "you said: first");
    assert_eq!(scene.title(), "first");
    scene.rename("mine");
    assert_eq!(scene.text("called"), "mine", "a running Claude is told");
    scene.text("title Better");
    assert_eq!((scene.title(), scene.text("called")), (json!("mine"), "Better".to_owned()));
    let scene = scene.restarted();
    scene.text("title Better");
    assert_eq!(scene.title(), "mine");
    scene.rename("mine again");
    assert_eq!(scene.text("called"), "mine again");
    let fork = scene.client.must("forkSession", scene.data(json!({})))["session"].clone();
    assert_eq!(fork["title"], "mine again (fork)");
    scene.finish();
}

#[test]
fn a_title_that_was_chosen_at_the_beginning_stays() {
    let scene = scene(bad("proper"));
    let created = scene.client.must("createSession", json!({"title": "chosen"}))["session"]["sessionId"].clone();
    let scene = Scene { id: created.as_str().expect("an id").to_owned(), ..scene };
    scene.text("title Better");
    assert_eq!(scene.title(), "chosen");
    scene.finish();
}

#[test]
fn claude_may_refuse_a_title_and_know_of_none() {
    let scene = scene(bad("old"));
    scene.rename("before the first process");
    scene.text("hello");
    scene.rename("no such name");
    scene.server.wait_log("no, this one is not liked");
    assert_eq!(scene.title(), "no such name", "here it counts all the same");
    scene.rename("another");
    assert_eq!(scene.text("called"), "another");
    scene.finish();
}
