//! One line of a transcript: what it says about the conversation, and its form in stream-json.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::What;
use super::text::{Text, tag, text, unix_ms};
use crate::proto::claude::{of, string};

/// The fields that are looked at. Each stays raw until it is asked for, so that no unexpected shape can make a line
/// unreadable.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    subtype: Option<&'a RawValue>,
    #[serde(borrow)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    parent_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    logical_parent_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    timestamp: Option<&'a RawValue>,
    #[serde(borrow)]
    cwd: Option<&'a RawValue>,
    #[serde(borrow)]
    entrypoint: Option<&'a RawValue>,
    #[serde(borrow)]
    is_sidechain: Option<&'a RawValue>,
    #[serde(borrow)]
    is_meta: Option<&'a RawValue>,
    #[serde(borrow)]
    is_compact_summary: Option<&'a RawValue>,
    #[serde(borrow)]
    origin: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_use_result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    attachment: Option<&'a RawValue>,
    #[serde(borrow)]
    compact_metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    custom_title: Option<&'a RawValue>,
    #[serde(borrow)]
    ai_title: Option<&'a RawValue>,
    #[serde(borrow)]
    summary: Option<&'a RawValue>,
    #[serde(borrow)]
    relocated_cwd: Option<&'a RawValue>,
}

/// The types that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    User,
    Assistant,
    System,
    Attachment,
    /// `custom-title`: a name that the user gave.
    CustomTitle,
    /// `ai-title`: a name that Claude gave.
    AiTitle,
    /// `summary`: the same, from versions before that.
    Summary,
    /// `relocated`: `/cd` has moved the conversation, and its file with it.
    Relocated,
    /// All the others: snapshots of files and requests, the queue, costs, modes…
    Other,
}

/// What a line says in the conversation.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Typed by the user; a slash command where `command` is set.
    Prompt { text: String, command: bool },
    /// A block of an answer.
    Answer,
    /// The result of a tool.
    ToolResult,
    /// Anything else that is shown as a `user` line; `synthetic` where no person caused it.
    Notice { synthetic: bool },
    /// What a command printed that Claude Code ran itself.
    CommandOutput(String),
    /// Here the conversation was compacted.
    Compacted,
    /// Nothing that is shown.
    Nothing,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
}

/// `None` where the line is not a JSON object.
pub(super) fn parse(line: &str) -> Option<Line<'_>> {
    let line = line.trim_ascii();
    line.starts_with('{').then(|| serde_json::from_str(line).ok()).flatten()
}

impl<'a> Line<'a> {
    pub fn kind(&self) -> Kind {
        match string(self.kind).as_deref() {
            Some("user") => Kind::User,
            Some("assistant") => Kind::Assistant,
            Some("system") => Kind::System,
            Some("attachment") => Kind::Attachment,
            Some("custom-title") => Kind::CustomTitle,
            Some("ai-title") => Kind::AiTitle,
            Some("summary") => Kind::Summary,
            Some("relocated") => Kind::Relocated,
            _ => Kind::Other,
        }
    }

    /// Its place in the conversation; lines that have none are notes about it.
    pub fn uuid(&self) -> Option<u128> {
        uuid_bits(&string(self.uuid)?)
    }

    /// The line that it follows. A compaction has only a logical parent.
    pub fn parent(&self) -> Option<u128> {
        [self.parent_uuid, self.logical_parent_uuid].into_iter().find_map(|parent| uuid_bits(&string(parent)?))
    }

    /// Whether it belongs to a sub-agent; `None` where it does not say.
    pub fn sidechain(&self) -> Option<bool> {
        of(self.is_sidechain)
    }

    /// When it was written, in Unix milliseconds.
    pub fn time(&self) -> Option<u64> {
        unix_ms(&string(self.timestamp)?)
    }

    pub fn cwd(&self) -> Option<Cow<'a, str>> {
        string(self.cwd)
    }

    pub fn entrypoint(&self) -> Option<Cow<'a, str>> {
        string(self.entrypoint)
    }

    /// What the line notes about the conversation: its title, or where it has moved to.
    pub fn note(&self) -> Option<Cow<'a, str>> {
        string(match self.kind() {
            Kind::CustomTitle => self.custom_title,
            Kind::AiTitle => self.ai_title,
            Kind::Summary => self.summary,
            Kind::Relocated => self.relocated_cwd,
            _ => None,
        })
    }

    /// The model that answered.
    pub fn model(&self) -> Option<Cow<'a, str>> {
        // What Claude Code says itself, an API error for one, has a model of that name.
        string(self.message()?.model).filter(|model| model != "<synthetic>")
    }

    /// The texts of an answer, joined.
    pub fn answer(&self) -> Option<String> {
        let texts: Vec<_> = self.blocks().iter().filter_map(Block::text).collect();
        (!texts.is_empty()).then(|| texts.concat())
    }

    pub fn said(&self) -> Said {
        match self.kind() {
            Kind::Assistant if self.message.is_some() => Said::Answer,
            Kind::User if self.message.is_some() => self.user(),
            Kind::System => self.system(),
            Kind::Attachment => self.queued().unwrap_or(Said::Nothing),
            _ => Said::Nothing,
        }
    }

    fn user(&self) -> Said {
        let blocks = self.blocks();
        if blocks.iter().any(|block| block.kind == "tool_result") {
            Said::ToolResult
        } else if of(self.is_meta) == Some(true) {
            Said::Nothing
        } else if of(self.is_compact_summary) == Some(true) || self.was_not_typed() {
            Said::Notice { synthetic: true }
        } else {
            prompt(&blocks)
        }
    }

    /// Whether something else than a person has sent it, a background task that ended for one.
    fn was_not_typed(&self) -> bool {
        #[derive(Deserialize)]
        struct Origin<'a> {
            #[serde(borrow)]
            kind: Cow<'a, str>,
        }
        of(self.origin).is_some_and(|origin: Origin<'_>| origin.kind != "human")
    }

    fn system(&self) -> Said {
        match string(self.subtype).as_deref() {
            Some("compact_boundary") => Said::Compacted,
            // In a terminal, a command that Claude Code runs itself is a pair of these: what was typed, what it printed.
            Some("local_command") => {
                let content = string(self.content).unwrap_or_default();
                let printed = || {
                    let names = ["local-command-stdout", "local-command-stderr"];
                    names.iter().find_map(|name| tag(&content, name)).unwrap_or_default().to_owned()
                };
                match text(&content) {
                    Text::Command(text) => Said::Prompt { text, command: true },
                    Text::Told(_) => match printed() {
                        printed if printed.is_empty() => Said::Nothing,
                        printed => Said::CommandOutput(printed),
                    },
                    Text::Typed(_) | Text::Aside => Said::Nothing,
                }
            }
            _ => Said::Nothing,
        }
    }

    /// A prompt that was sent while a turn ran and was taken into it.
    fn queued(&self) -> Option<Said> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Attachment<'a> {
            #[serde(borrow, rename = "type")]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            prompt: Option<&'a RawValue>,
            #[serde(borrow)]
            command_mode: Option<&'a RawValue>,
        }
        let attachment: Attachment<'a> = of(self.attachment)?;
        let is_prompt = string(attachment.command_mode).is_none_or(|mode| mode == "prompt");
        let queued = (attachment.kind == "queued_command" && is_prompt).then(|| prompt(&blocks(attachment.prompt)));
        queued.filter(|said| matches!(said, Said::Prompt { .. }))
    }

    fn message(&self) -> Option<Message<'a>> {
        of(self.message)
    }

    fn blocks(&self) -> Vec<Block<'a>> {
        self.message().map(|message| blocks(message.content)).unwrap_or_default()
    }

    /// What the history gets of it.
    pub fn told(&self) -> Option<What> {
        let said = self.said();
        let (kind, subtype) = match said {
            Said::Nothing => return None,
            Said::Prompt { text, .. } => return Some(What::Prompt(text)),
            Said::Answer => ("assistant", None),
            Said::ToolResult | Said::Notice { .. } => ("user", None),
            Said::CommandOutput(_) => ("system", Some("local_command_output")),
            Said::Compacted => ("system", Some("compact_boundary")),
        };
        let message = self.message.filter(|_| kind != "system");
        let shown = Shown {
            kind,
            subtype,
            message,
            content: if let Said::CommandOutput(text) = &said { Some(text) } else { None },
            compact_metadata: (said == Said::Compacted).then(|| of(self.compact_metadata)).flatten(),
            parent_tool_use_id: message.map(|_| ()),
            session_id: string(self.session_id),
            uuid: string(self.uuid),
            timestamp: string(self.timestamp),
            tool_use_result: self.tool_use_result.filter(|_| said == Said::ToolResult),
            error: self.error.filter(|_| said == Said::Answer),
            is_synthetic: (said == Said::Notice { synthetic: true }).then_some(true),
        };
        serde_json::to_string(&shown).ok().map(What::Event)
    }
}

/// A line as the CLI would have printed it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subtype: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compact_metadata: Option<Compaction<'a>>,
    /// `null` where it is there: only the main conversation is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_tool_use_id: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_use_result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "isSynthetic")]
    is_synthetic: Option<bool>,
}

/// `compactMetadata` in a transcript, `compact_metadata` in stream-json: there the names within are in snake case.
#[derive(Deserialize, Serialize)]
#[serde(rename_all(deserialize = "camelCase", serialize = "snake_case"))]
struct Compaction<'a> {
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    trigger: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    pre_tokens: Option<&'a RawValue>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    post_tokens: Option<&'a RawValue>,
}

impl<'a> Block<'a> {
    fn text(&self) -> Option<Cow<'a, str>> {
        if self.kind == "text" { string(self.text) } else { None }
    }
}

/// A message's content is a list of blocks, or one text.
fn blocks(content: Option<&RawValue>) -> Vec<Block<'_>> {
    match string(content) {
        Some(_) => vec![Block { kind: Cow::Borrowed("text"), text: content }],
        // One block of an odd shape does not take the others with it.
        None => of::<Vec<&RawValue>>(content).into_iter().flatten().filter_map(|block| of(Some(block))).collect(),
    }
}

/// The prompt in these blocks, where they hold one.
fn prompt(blocks: &[Block<'_>]) -> Said {
    let (mut parts, mut command, mut notice) = (Vec::new(), false, false);
    for block in blocks {
        match block.kind.as_ref() {
            "text" => match text(&block.text().unwrap_or_default()) {
                Text::Typed(text) => parts.push(text.into_owned()),
                Text::Command(text) => {
                    command = true;
                    parts.push(text);
                }
                Text::Told(_) => notice = true,
                Text::Aside => {}
            },
            // An image, a document: its place is shown, its bytes are in the transcript.
            other => parts.push(format!("[{other}]")),
        }
    }
    match parts.is_empty() {
        false => Said::Prompt { text: parts.join("\n"), command },
        true if notice => Said::Notice { synthetic: false },
        true => Said::Nothing,
    }
}

/// The 128 bits of a uuid in its usual form.
pub(super) fn uuid_bits(text: &str) -> Option<u128> {
    let dashes = [8, 13, 18, 23];
    let fits = |(at, byte): (usize, u8)| if dashes.contains(&at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    let is_uuid = text.len() == 36 && text.bytes().enumerate().all(fits);
    is_uuid.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok()).flatten()
}
