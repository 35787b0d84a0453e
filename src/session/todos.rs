//! Claude's list of what it has to do.
//!
//! `TodoWrite` gives the whole list; the newer `TaskCreate`, `TaskUpdate` and `TaskList` one entry at a time. Which of them
//! a CLI has depends on its version and environment. What counts is the tool's own account of what it has done, the
//! `tool_use_result` beside its result: a refused use has none.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::plain::{NAME_CHARS_MAX, shortened};
use crate::proto::claude::{ToolUse, of, string};

/// So many entries are kept.
const TODOS_MAX: usize = 100;

/// An entry is cut.
const TEXT_CHARS_MAX: usize = 200;

/// Uses whose results have not come yet, at most: Claude may use several tools at once.
const OPEN_MAX: usize = 64;

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Todo {
    /// Claude's number for it, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub id: Option<String>,
    /// What is to be done.
    pub text: String,
    /// `pending`, `in_progress`, `completed`.
    pub status: String,
}

/// What `TaskCreate` and `TaskUpdate` were given.
#[derive(Debug)]
struct Given {
    tool_use_id: String,
    subject: Option<String>,
    is_new: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Todos {
    list: Vec<Todo>,
    open: Vec<Given>,
}

/// What the tools give; `None` where a field is absent or of another shape.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    #[serde(borrow)]
    new_todos: Option<&'a RawValue>,
    #[serde(borrow)]
    task: Option<&'a RawValue>,
    #[serde(borrow)]
    tasks: Option<&'a RawValue>,
    #[serde(borrow)]
    task_id: Option<&'a RawValue>,
    #[serde(borrow)]
    status_change: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    subject: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
}

impl Todos {
    pub fn of(list: Vec<Todo>) -> Todos {
        Todos { list, open: Vec::new() }
    }

    pub fn list(&self) -> &[Todo] {
        &self.list
    }

    /// Another conversation begins. `true`: that is news.
    pub fn clear(&mut self) -> bool {
        let had_some = !self.list.is_empty();
        *self = Todos::default();
        had_some
    }

    /// No result of an earlier turn comes any more.
    pub fn end_turn(&mut self) {
        self.open.clear();
    }

    /// Claude uses a tool.
    pub fn on_use(&mut self, tool: &ToolUse<'_>) {
        let is_new = tool.name == "TaskCreate";
        let is_one = is_new || matches!(tool.name.as_ref(), "TodoWrite" | "TaskUpdate" | "TaskList");
        if is_one && self.open.len() < OPEN_MAX && tool.id.len() <= NAME_CHARS_MAX {
            let input: Option<Entry<'_>> = of(tool.input);
            let subject = input.and_then(|input| Some(shortened(&string(input.subject)?, TEXT_CHARS_MAX)));
            self.open.push(Given { tool_use_id: tool.id.to_string(), subject, is_new });
        }
    }

    /// The results of these uses have come, with what the tool itself says. `true`: the list has changed.
    pub fn on_result(&mut self, tool_use_ids: &[std::borrow::Cow<'_, str>], outcome: Option<&RawValue>) -> bool {
        let place = self.open.iter().position(|given| tool_use_ids.iter().any(|id| *id == given.tool_use_id));
        let Some(given) = place.map(|at| self.open.remove(at)) else { return false };
        let Some(outcome) = of::<Outcome<'_>>(outcome) else { return false };
        let before = self.list.clone();
        if let Some(all) = of::<Vec<Entry<'_>>>(outcome.new_todos.or(outcome.tasks)) {
            self.list = all.iter().take(TODOS_MAX).filter_map(entry).collect();
        } else if given.is_new {
            let new = of::<Entry<'_>>(outcome.task).and_then(|task| entry(&task));
            self.list.extend(new.filter(|_| before.len() < TODOS_MAX));
        } else if let Some(id) = string(outcome.task_id) {
            self.update(&id, given.subject, outcome.status_change);
        }
        self.list != before
    }

    fn update(&mut self, id: &str, subject: Option<String>, change: Option<&RawValue>) {
        #[derive(Deserialize)]
        struct Change<'a> {
            #[serde(borrow)]
            to: Option<&'a RawValue>,
        }
        let status = of::<Change<'_>>(change).and_then(|change| string(change.to));
        if status.as_deref() == Some("deleted") {
            return self.list.retain(|todo| todo.id.as_deref() != Some(id));
        }
        let Some(todo) = self.list.iter_mut().find(|todo| todo.id.as_deref() == Some(id)) else { return };
        if let Some(subject) = subject {
            todo.text = subject;
        }
        if let Some(status) = status {
            todo.status = shortened(&status, NAME_CHARS_MAX);
        }
    }
}

fn entry(entry: &Entry<'_>) -> Option<Todo> {
    Some(Todo {
        id: string(entry.id).map(|id| shortened(&id, NAME_CHARS_MAX)),
        text: shortened(&string(entry.content.or(entry.subject))?, TEXT_CHARS_MAX),
        status: string(entry.status).map_or_else(|| "pending".into(), |status| shortened(&status, NAME_CHARS_MAX)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each use with its input and its outcome, and the list after it.
    fn check(uses: &[(&str, &str, &str, &str)]) {
        let mut todos = Todos::default();
        for (n, (name, input, outcome, expected)) in uses.iter().enumerate() {
            let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("JSON");
            let (id, input, outcome) = (format!("toolu_{n}"), raw(input), raw(outcome));
            todos.on_use(&ToolUse { id: id.as_str().into(), name: (*name).into(), input: Some(&input) });
            let before = todos.list().to_vec();
            let news = todos.on_result(&[id.as_str().into()], Some(&outcome));
            assert_eq!(news, before != todos.list(), "{name}");
            assert!(!todos.on_result(&[id.as_str().into()], Some(&outcome)), "once");
            let shown: Vec<String> = todos.list().iter().map(|todo| format!("{}:{}", todo.text, todo.status)).collect();
            assert_eq!(shown.join(" "), *expected, "{name} {input}");
        }
    }

    #[test]
    fn the_whole_list_at_once() {
        let two = r#"{"oldTodos":[],"newTodos":[{"content":"a","status":"in_progress","activeForm":"doing a"},{"content":"b","status":"pending"}]}"#;
        check(&[
            ("TodoWrite", "{}", two, "a:in_progress b:pending"),
            ("TodoWrite", "{}", r#""Error: no such tool""#, "a:in_progress b:pending"),
            ("Bash", "{}", r#"{"newTodos":[]}"#, "a:in_progress b:pending"),
            ("TodoWrite", "{}", r#"{"newTodos":[]}"#, ""),
        ]);
    }

    #[test]
    fn a_use_with_a_name_that_is_too_long_is_passed_over() {
        let mut todos = Todos::default();
        for (chars, kept) in [(NAME_CHARS_MAX, 1), (NAME_CHARS_MAX + 1, 0)] {
            todos.on_use(&ToolUse { id: "x".repeat(chars).into(), name: "TodoWrite".into(), input: None });
            assert_eq!(todos.open.len(), kept, "{chars}");
            todos.end_turn();
        }
    }

    #[test]
    fn one_entry_at_a_time() {
        let status = |to: &str| format!(r#"{{"success":true,"taskId":"1","statusChange":{{"from":"x","to":"{to}"}}}}"#);
        check(&[
            ("TaskCreate", r#"{"subject":"a"}"#, r#"{"task":{"id":"1","subject":"a"}}"#, "a:pending"),
            ("TaskCreate", r#"{"subject":"b"}"#, r#"{"task":{"id":"2","subject":"b"}}"#, "a:pending b:pending"),
            ("TaskUpdate", r#"{"taskId":"1","subject":"c"}"#, &status("completed"), "c:completed b:pending"),
            ("TaskUpdate", r#"{"taskId":"1"}"#, r#""Error""#, "c:completed b:pending"),
            ("TaskUpdate", r#"{"taskId":"1"}"#, &status("deleted"), "b:pending"),
            ("TaskList", "{}", r#"{"tasks":[{"id":"3","subject":"d","status":"completed"}]}"#, "d:completed"),
        ]);
    }
}
