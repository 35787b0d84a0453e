//! What is said in a conversation: whole messages, and the pieces in which they come.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::read::{Fields, Kind, in_main_conversation};
use super::values::{number, of, text};

/// A `stream_event` line.
#[derive(Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// A message of the main conversation begins.
    MessageStart {
        /// Its id, which the `assistant` lines repeat.
        id: Cow<'a, str>,
    },
    /// A piece of the answer's text, in the main conversation.
    Text(Cow<'a, str>),
    /// Everything else: thinking, tool input, sub-agents.
    Other,
}

/// A tool that Claude wants to use.
#[derive(Debug)]
pub struct ToolUse<'a> {
    /// The id under which its result comes.
    pub id: Cow<'a, str>,
    /// The tool's name.
    pub name: Cow<'a, str>,
    /// What it is given.
    pub input: Option<&'a RawValue>,
}

/// How much the model was given for one message.
#[derive(Debug, PartialEq, Eq)]
pub struct Context<'a> {
    /// The model.
    pub model: Cow<'a, str>,
    /// Tokens, those from the cache included.
    pub tokens: u64,
}

pub(super) fn delta<'a>(fields: &Fields<'a>) -> Delta<'a> {
    #[derive(Deserialize)]
    struct Event<'a> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        delta: Option<&'a RawValue>,
        #[serde(borrow)]
        message: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Inner<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<Cow<'a, str>>,
        #[serde(borrow)]
        text: Option<&'a RawValue>,
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let found = || {
        let event: Event<'a> = of(fields.event).filter(|_| in_main_conversation(fields))?;
        match event.kind.as_ref() {
            "content_block_delta" => {
                let inner: Inner<'a> = of(event.delta)?;
                (inner.kind.as_deref() == Some("text_delta")).then_some(())?;
                Some(Delta::Text(text(inner.text)?))
            }
            "message_start" => Some(Delta::MessageStart { id: text(of::<Inner<'a>>(event.message)?.id)? }),
            _ => None,
        }
    };
    found().unwrap_or(Delta::Other)
}

/// The Messages API's own message.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// One of its content blocks.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
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
}

pub(super) fn assistant<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    let message: Message<'a> = of(fields.message)?;
    let main = in_main_conversation(fields);
    let blocks: Vec<Block<'a>> = of(message.content).filter(|_| main).unwrap_or_default();
    let of_kind = |kind: &'static str| blocks.iter().filter(move |block| block.kind == kind);
    let texts: Vec<_> = of_kind("text").filter_map(|block| text(block.text)).collect();
    Some(Kind::Assistant {
        message_id: text(message.id),
        text: (!texts.is_empty()).then(|| texts.concat()),
        uuid: text(fields.uuid).filter(|_| main),
        tool_uses: of_kind("tool_use").filter_map(tool_use).collect(),
        error: text(fields.error).filter(|_| main),
        context: context(&message).filter(|_| main),
    })
}

fn tool_use<'a>(block: &Block<'a>) -> Option<ToolUse<'a>> {
    Some(ToolUse { id: text(block.id)?, name: text(block.name).unwrap_or_default(), input: block.input })
}

/// Counted as Claude's own `get_context_usage` does: without the answer. What Claude says in the model's place has none.
fn context<'a>(message: &Message<'a>) -> Option<Context<'a>> {
    #[derive(Deserialize)]
    struct Usage {
        #[serde(default, deserialize_with = "number")]
        input_tokens: u64,
        #[serde(default, deserialize_with = "number")]
        cache_read_input_tokens: u64,
        #[serde(default, deserialize_with = "number")]
        cache_creation_input_tokens: u64,
    }
    let usage: Usage = of(message.usage)?;
    let cached = usage.cache_read_input_tokens.saturating_add(usage.cache_creation_input_tokens);
    let tokens = usage.input_tokens.saturating_add(cached);
    (tokens > 0).then_some(Context { model: text(message.model)?, tokens })
}

pub(super) fn user<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    let message: Message<'a> = of(fields.message)?;
    // Where it is not a list, it is a text.
    let blocks: Vec<Block<'a>> = of(message.content).unwrap_or_default();
    let results = blocks.iter().filter(|block| block.kind == "tool_result");
    Some(Kind::User {
        uuid: text(fields.uuid)?,
        tool_results: results.filter_map(|block| text(block.tool_use_id)).collect(),
        tool_outcome: fields.tool_use_result,
    })
}
