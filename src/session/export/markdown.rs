//! A conversation as a document to read: what was asked, what was answered, what was done and allowed on the way.
//!
//! What sub-agents say among themselves is left out, as are Claude's thoughts: their results are there. Everything else
//! that is not shown here is in the other form of the export.

use std::borrow::Cow;
use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::events::Summary;
use super::text::{code, fenced, inline, markdown, pretty};
use crate::logging::utc;
use crate::proto::claude::{of, string};

/// A tool's result is cut to so many characters.
const RESULT_CHARS_MAX: usize = 4000;

/// A prompt that is longer, or of several lines, is shown whole below its heading.
const HEADING_CHARS_MAX: usize = 100;

/// What else stands in one line.
const LINE_CHARS_MAX: usize = 2000;

/// Tools and questions whose names are remembered until their results and answers come.
const NAMES_MAX: usize = 1000;

/// Writes one document.
#[derive(Default)]
pub struct Markdown {
    tools: Names,
    questions: Names,
}

/// The newest names, by id.
#[derive(Default)]
struct Names(VecDeque<(String, String)>);

impl Names {
    fn remember(&mut self, id: &str, name: &str) {
        if self.0.len() >= NAMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((id.to_owned(), name.to_owned()));
    }

    fn take(&mut self, id: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| known == id)?;
        self.0.remove(at).map(|(_, name)| name)
    }
}

/// The fields of all events that are shown here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    attachments: Option<&'a RawValue>,
    #[serde(borrow)]
    level: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_name: Option<&'a RawValue>,
    #[serde(borrow)]
    description: Option<&'a RawValue>,
    #[serde(borrow)]
    behavior: Option<&'a RawValue>,
    #[serde(borrow)]
    by: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    damaged: Option<&'a RawValue>,
}

/// What is shown of a line of Claude's.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    subtype: Option<&'a RawValue>,
    #[serde(borrow)]
    parent_tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
}

/// A content block.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attachment<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    media_type: Option<&'a RawValue>,
    bytes: u64,
}

/// What the document begins with.
pub fn head(session: &Summary) -> String {
    let title = session.title.as_deref().unwrap_or(&session.session_id);
    format!(
        "# {}\n\n- Directory: {}\n- Begun: {}\n- Session: {}\n",
        inline(title, LINE_CHARS_MAX),
        code(&session.cwd),
        time(session.created_at),
        code(&session.session_id)
    )
}

impl Markdown {
    /// Adds an event, if it is one to be shown.
    pub fn event(&mut self, name: &str, at: u64, data: &str, to: &mut String) {
        let Ok(data) = serde_json::from_str::<Data<'_>>(data) else { return };
        if data.damaged.is_some() {
            return note(to, "Damaged", "what happened here cannot be read any more");
        }
        match name {
            "prompt" => prompt(&data, at, to),
            "notice" => {
                let label = format!("Notice ({})", inline(&text(data.level), LINE_CHARS_MAX));
                note(to, &label, &text(data.text));
            }
            "permissionRequest" => {
                let tool = text(data.tool_name);
                self.questions.remember(&text(data.request_id), &tool);
                let description = text(data.description);
                let colon = if description.is_empty() { "" } else { ": " };
                note(to, "Claude asks", &format!("to use {tool}{colon}{description}"));
            }
            "permissionResolved" => {
                let tool = self.questions.take(&text(data.request_id)).unwrap_or_default();
                let label =
                    if tool.is_empty() { "Answer".to_owned() } else { format!("Answer for {}", name_of(&tool)) };
                note(to, &label, &format!("{}, by {}", text(data.behavior), text(data.by)));
            }
            "claudeEvent" => {
                if let Some(line) = of::<Line<'_>>(data.event) {
                    self.line(&line, to);
                }
            }
            _ => {}
        }
    }

    fn line(&mut self, line: &Line<'_>, to: &mut String) {
        if line.parent_tool_use_id.is_some_and(|id| id.get() != "null") {
            return;
        }
        match (&*text(line.kind), &*text(line.subtype)) {
            ("assistant" | "user", _) => {
                #[derive(Deserialize)]
                struct Message<'a> {
                    #[serde(borrow)]
                    content: Option<&'a RawValue>,
                }
                let content = of::<Message<'_>>(line.message).and_then(|message| message.content);
                // Where it is not a list, it is what was asked, which has an event of its own.
                let blocks: Vec<Block<'_>> = of(content).unwrap_or_default();
                let answers = text(line.kind) == "assistant";
                blocks.iter().for_each(|block| self.block(block, answers, to));
            }
            ("system", "compact_boundary") => note(to, "Compacted", "Claude goes on with a summary of what is above"),
            ("system", "local_command_output") => {
                section(to, &fenced(&text(line.content), ""));
            }
            ("result", subtype) if of(line.is_error) == Some(true) || subtype != "success" => {
                let why = text(line.result);
                note(to, "Ended early", if why.is_empty() { subtype } else { &why });
            }
            _ => {}
        }
    }

    fn block(&mut self, block: &Block<'_>, answers: bool, to: &mut String) {
        match &*text(block.kind) {
            "text" if answers => {
                let text = text(block.text);
                if !text.trim().is_empty() {
                    section(to, &markdown(&text));
                }
            }
            "tool_use" => {
                let name = text(block.name);
                self.tools.remember(&text(block.id), &name);
                section(to, &format!("**{}**\n", name_of(&name)));
                section(to, &fenced(&pretty(block.input.map_or("{}", RawValue::get)), "json"));
            }
            "tool_result" => {
                let name = self.tools.take(&text(block.tool_use_id));
                let of_what = name.map(|name| format!(" of {}", name_of(&name))).unwrap_or_default();
                let what = if of(block.is_error) == Some(true) { "Error" } else { "Result" };
                self.result(&format!("{what}{of_what}"), &said(block.content), to);
            }
            _ => {}
        }
    }

    fn result(&self, label: &str, result: &str, to: &mut String) {
        if result.trim().is_empty() {
            return section(to, &format!("**{label}**: nothing\n"));
        }
        match result.char_indices().nth(RESULT_CHARS_MAX) {
            None => {
                section(to, &format!("**{label}**\n"));
                section(to, &fenced(result, ""));
            }
            Some((end, _)) => {
                let more = result[end..].chars().count();
                section(to, &format!("**{label}**, shortened by {more} characters\n"));
                section(to, &fenced(&result[..end], ""));
            }
        }
    }
}

fn prompt(data: &Data<'_>, at: u64, to: &mut String) {
    let asked = text(data.text);
    let line = asked.trim();
    section(to, &format!("## {}\n", inline(line, HEADING_CHARS_MAX)));
    section(to, &format!("*{}*\n", time(at)));
    if line.contains('\n') || line.chars().count() > HEADING_CHARS_MAX {
        section(to, &fenced(&asked, ""));
    }
    let attachments: Vec<Attachment<'_>> = of(data.attachments).unwrap_or_default();
    let shown = |file: &Attachment<'_>| {
        let kind = inline(&text(file.media_type), LINE_CHARS_MAX);
        format!("- {} ({kind}, {} bytes)\n", code(&text(file.name)), file.bytes)
    };
    let list: String = attachments.iter().map(shown).collect();
    if !list.is_empty() {
        section(to, &list);
    }
}

/// A tool's result: a text, or a list of blocks.
fn said(content: Option<&RawValue>) -> String {
    if let Some(text) = string(content) {
        return text.into_owned();
    }
    let blocks: Vec<Block<'_>> = of(content).unwrap_or_default();
    let said = |block: &Block<'_>| match string(block.text) {
        Some(text) => text.into_owned(),
        None => format!("[{}]", text(block.kind)),
    };
    blocks.iter().map(said).collect::<Vec<_>>().join("\n")
}

/// Adds something behind an empty line.
fn section(to: &mut String, markdown: &str) {
    to.push('\n');
    to.push_str(markdown);
}

/// A remark: on one line.
fn note(to: &mut String, label: &str, text: &str) {
    section(to, &format!("> **{label}:** {}\n", inline(text, LINE_CHARS_MAX)));
}

fn name_of(tool: &str) -> String {
    inline(tool, HEADING_CHARS_MAX)
}

fn text(raw: Option<&RawValue>) -> Cow<'_, str> {
    string(raw).unwrap_or_default()
}

fn time(unix_ms: u64) -> String {
    let since = std::time::Duration::from_millis(unix_ms);
    let shown = std::time::UNIX_EPOCH.checked_add(since).map(utc).unwrap_or_default();
    // To the second is enough: `2026-11-24T01:02:03.456Z`.
    shown.get(..19).map(|seconds| format!("{} UTC", seconds.replace('T', " "))).unwrap_or(shown)
}
