//! What Claude does in the background: commands, sub-agents.
//!
//! 2.1.330 tells the whole list whenever it changes; 2.1.197 only what becomes of each task. Both are followed, so that a
//! process with something in the background is not put to sleep.

use serde::Serialize;

use super::plain::{NAME_CHARS_MAX, shortened};
use crate::proto::claude::{Task, TaskNews};

/// So many are shown.
const SHOWN_MAX: usize = 100;

/// So many are kept: their ends are known.
const TASKS_MAX: usize = 1000;

/// What a task is for is cut.
const DESCRIPTION_CHARS_MAX: usize = 200;

/// How a task that is over is called.
const ENDED: [&str; 5] = ["completed", "failed", "killed", "stopped", "cancelled"];

/// A background task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackgroundTask {
    /// Its name, for `stopTask`.
    pub task_id: String,
    /// `local_bash`, `local_agent`, …
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What it is for.
    pub description: String,
    /// The use of a tool that has started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_use_id: Option<String>,
}

/// Those of one process, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    kept: Vec<BackgroundTask>,
    /// There were more than are kept, of which nobody knows any more whether they have ended.
    more: bool,
}

impl Tasks {
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty() && !self.more
    }

    pub fn list(&self) -> &[BackgroundTask] {
        &self.kept[..self.kept.len().min(SHOWN_MAX)]
    }

    /// This is all there is. `true`: that is news.
    pub fn replace(&mut self, all: &[Task<'_>]) -> bool {
        let mut new: Vec<_> = all.iter().take(TASKS_MAX).map(task).collect();
        for task in &mut new {
            let known = self.kept.iter().find(|known| known.task_id == task.task_id);
            task.tool_use_id = known.and_then(|known| known.tool_use_id.clone());
        }
        let changed = new != self.kept;
        (self.kept, self.more) = (new, all.len() > TASKS_MAX);
        changed
    }

    /// What became of one. `true`: viewers are to know. Progress is not news: it would come with every step.
    pub fn follow(&mut self, subtype: &str, news: &TaskNews<'_>) -> bool {
        let id = shortened(&news.task.id, NAME_CHARS_MAX);
        let known = self.kept.iter().position(|known| known.task_id == id);
        let is_over = is_over(subtype, news);
        match (subtype, known) {
            (_, Some(at)) if is_over => drop(self.kept.remove(at)),
            ("task_started", Some(at)) => {
                let tool_use_id = news.tool_use_id.as_ref().map(|id| shortened(id, NAME_CHARS_MAX));
                let changed = self.kept[at].tool_use_id != tool_use_id;
                self.kept[at].tool_use_id = tool_use_id;
                return changed;
            }
            ("task_started", None) if !is_over && self.kept.len() >= TASKS_MAX => {
                self.more = true;
                return false;
            }
            ("task_started", None) if !is_over => {
                let tool_use_id = news.tool_use_id.as_ref().map(|id| shortened(id, NAME_CHARS_MAX));
                self.kept.push(BackgroundTask { tool_use_id, ..task(&news.task) });
            }
            _ => return false,
        }
        true
    }

    pub fn clear(&mut self) {
        *self = Tasks::default();
    }
}

/// Whether that was the last of a task.
pub(super) fn is_over(subtype: &str, news: &TaskNews<'_>) -> bool {
    subtype == "task_notification" || news.status.as_deref().is_some_and(|status| ENDED.contains(&status))
}

fn task(task: &Task<'_>) -> BackgroundTask {
    BackgroundTask {
        task_id: shortened(&task.id, NAME_CHARS_MAX),
        kind: task.kind.as_ref().map(|kind| shortened(kind, NAME_CHARS_MAX)),
        description: shortened(task.description.as_deref().unwrap_or_default(), DESCRIPTION_CHARS_MAX),
        tool_use_id: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::claude::{Kind, parse};

    /// Follows the lines, and gives the names of what is there after each, with a mark where that was news.
    fn check(lines: &[(&str, &str)]) {
        let mut tasks = Tasks::default();
        for (line, expected) in lines {
            let line = format!(r#"{{"type":"system",{line}}}"#);
            let news = match parse(line.as_bytes()).map(|line| line.kind) {
                Ok(Kind::Task { subtype, news }) => tasks.follow(&subtype, &news),
                Ok(Kind::BackgroundTasks(all)) => tasks.replace(&all),
                other => panic!("{line}: {other:?}"),
            };
            let names: Vec<&str> = tasks.list().iter().map(|task| task.task_id.as_str()).collect();
            assert_eq!(format!("{}{}", names.join(" "), if news { "!" } else { "" }), *expected, "{line}");
        }
    }

    #[test]
    fn the_old_tell_of_each_task() {
        check(&[
            (r#""subtype":"task_started","task_id":"a","description":"d","task_type":"local_bash""#, "a!"),
            (r#""subtype":"task_started","task_id":"b""#, "a b!"),
            (r#""subtype":"task_progress","task_id":"a","description":"half way""#, "a b"),
            (r#""subtype":"task_updated","task_id":"a","patch":{"status":"running"}"#, "a b"),
            (r#""subtype":"task_updated","task_id":"a","patch":{"status":"completed","end_time":1}"#, "b!"),
            (r#""subtype":"task_notification","task_id":"a","status":"completed""#, "b"),
            (r#""subtype":"task_notification","task_id":"b","status":"never_heard_of""#, "!"),
            (r#""subtype":"task_progress","task_id":"c""#, ""),
        ]);
    }

    /// Follows what becomes of the tasks with these numbers.
    fn follow(tasks: &mut Tasks, subtype: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            let line = format!(r#"{{"type":"system","subtype":"{subtype}","task_id":"t{number}"}}"#);
            match parse(line.as_bytes()).map(|line| line.kind) {
                Ok(Kind::Task { subtype, news }) => drop(tasks.follow(&subtype, &news)),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn more_than_are_shown_are_at_work_too() {
        let mut tasks = Tasks::default();
        follow(&mut tasks, "task_started", 0..SHOWN_MAX + 1);
        assert_eq!(tasks.list().len(), SHOWN_MAX);
        follow(&mut tasks, "task_notification", 0..SHOWN_MAX);
        assert_eq!((tasks.list().len(), tasks.is_empty()), (1, false));
        follow(&mut tasks, "task_notification", SHOWN_MAX..SHOWN_MAX + 1);
        assert!(tasks.is_empty());
        // Of more than are kept nobody knows, until the whole list is told.
        follow(&mut tasks, "task_started", 0..TASKS_MAX + 1);
        follow(&mut tasks, "task_notification", 0..TASKS_MAX + 1);
        assert_eq!((tasks.list().len(), tasks.is_empty()), (0, false));
        tasks.replace(&[]);
        assert!(tasks.is_empty());
    }

    #[test]
    fn the_new_tell_the_whole_list() {
        check(&[
            (r#""subtype":"background_tasks_changed","tasks":[{"task_id":"a","description":"d"}]"#, "a!"),
            (r#""subtype":"background_tasks_changed","tasks":[{"task_id":"a","description":"d"}]"#, "a"),
            (r#""subtype":"task_started","task_id":"a","tool_use_id":"toolu","description":"d""#, "a!"),
            (r#""subtype":"background_tasks_changed","tasks":[{"task_id":"a","description":"d"},{}]"#, "a !"),
            (r#""subtype":"background_tasks_changed","tasks":[]"#, "!"),
        ]);
    }
}
