//! What Claude prints.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// One line of Claude's standard output.
#[derive(Debug)]
pub struct Line<'a> {
    /// The line as it came: one valid JSON object.
    pub raw: &'a str,
    /// The conversation it belongs to; it changes with `/clear` and forks.
    pub session_id: Option<Cow<'a, str>>,
    /// What it means to us.
    pub kind: Kind<'a>,
}

/// What a line means to the server.
#[derive(Debug)]
pub enum Kind<'a> {
    /// `system`/`init`: a turn begins.
    Init(Init<'a>),
    /// `stream_event`: a piece of the running answer, never stored.
    Delta(Delta<'a>),
    /// `assistant`: a finished content block.
    Assistant {
        /// The API message that it belongs to.
        message_id: Option<Cow<'a, str>>,
        /// Its text blocks joined, unless a sub-agent wrote it or there are none.
        text: Option<String>,
        /// Its name in Claude's record of the main conversation; a sub-agent's is not there.
        uuid: Option<Cow<'a, str>>,
        /// The tools that it wants to use: the ids under which their results come.
        tool_uses: Vec<Cow<'a, str>>,
    },
    /// `user` in the main conversation, but no echo: results of tools, and what Claude notes itself.
    User {
        /// Its name in Claude's record.
        uuid: Cow<'a, str>,
        /// The ids of the tool uses whose results it brings.
        tool_results: Vec<Cow<'a, str>>,
    },
    /// `user` with `isReplay`: the echo of a prompt.
    Replay {
        /// The uuid that we gave the prompt.
        uuid: Cow<'a, str>,
    },
    /// `command_lifecycle`: what became of a prompt (2.1.330; older versions do not have it).
    Lifecycle {
        /// The uuid that we gave the prompt.
        uuid: Cow<'a, str>,
        /// `queued`, `started`, `completed`, `cancelled`.
        state: Cow<'a, str>,
    },
    /// `result`: the turn is over.
    Result(Outcome<'a>),
    /// `control_request`: Claude asks.
    ControlRequest {
        /// Names the request in the answer.
        request_id: Cow<'a, str>,
        /// The request itself.
        request: &'a RawValue,
        /// The fields of a permission question; `None` for every other subtype.
        can_use_tool: Option<Box<CanUseTool<'a>>>,
    },
    /// `control_response`: Claude answers one of our requests.
    ControlResponse {
        /// The request that it answers.
        request_id: Cow<'a, str>,
        /// The answer's payload, or the error's text.
        answer: Result<Option<&'a RawValue>, Cow<'a, str>>,
    },
    /// `control_cancel_request`: Claude no longer wants an answer.
    ControlCancel {
        /// The request that is void.
        request_id: Cow<'a, str>,
    },
    /// `system`/`background_tasks_changed`: the whole list of background tasks.
    BackgroundTasks {
        /// How many there are now.
        count: usize,
    },
    /// `system`/`status` with a changed permission mode.
    PermissionMode(Cow<'a, str>),
    /// `system`/`session_title_changed`: what Claude calls the conversation (2.1.330).
    Title(Cow<'a, str>),
    /// `keep_alive`: nothing.
    KeepAlive,
    /// Anything else: relayed, not understood.
    Other,
}

/// The first line of a turn.
#[derive(Debug)]
pub struct Init<'a> {
    /// The model in use.
    pub model: Option<Cow<'a, str>>,
    /// The permission mode in use.
    pub permission_mode: Option<Cow<'a, str>>,
    /// The CLI's own version.
    pub version: Option<Cow<'a, str>>,
}

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

/// A `result` line.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// `success`, `error_during_execution`, `error_max_turns`, …
    pub subtype: Cow<'a, str>,
    /// A failed API call can be `subtype: "success"` with this set.
    pub is_error: bool,
    /// The final text; often absent after an interrupt.
    pub result: Option<Cow<'a, str>>,
    /// Dollars since the process started.
    pub total_cost_usd: Option<f64>,
    /// Milliseconds of this turn.
    pub duration_ms: Option<f64>,
    /// How often the model was asked in this turn: not at all where Claude ran a slash command itself.
    pub num_turns: Option<u64>,
    /// Tokens of this turn, in Claude's own form.
    pub usage: Option<&'a RawValue>,
    /// The prompts that this turn answered, where the version names them.
    pub prompts: Vec<Cow<'a, str>>,
}

/// A permission question.
#[derive(Debug)]
pub struct CanUseTool<'a> {
    /// The tool's name.
    pub tool_name: Cow<'a, str>,
    /// What Claude wants to give the tool.
    pub input: &'a RawValue,
    /// One line that says what for.
    pub description: Option<Cow<'a, str>>,
    /// What can be allowed for good, in Claude's own form: an array.
    pub suggestions: Option<&'a RawValue>,
}

/// The line is not a JSON object in UTF-8.
#[derive(Debug, PartialEq, Eq)]
pub struct NotJson;

/// All fields that any line type steers with. Each stays raw until its type is known, so that no unexpected shape
/// can make a line unreadable.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    subtype: Option<&'a RawValue>,
    #[serde(borrow)]
    session_id: Option<&'a RawValue>,
    #[serde(borrow)]
    parent_tool_use_id: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    request: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    uuid: Option<&'a RawValue>,
    #[serde(borrow, rename = "isReplay")]
    is_replay: Option<&'a RawValue>,
    #[serde(borrow)]
    command_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, rename = "permissionMode")]
    permission_mode: Option<&'a RawValue>,
    #[serde(borrow)]
    claude_code_version: Option<&'a RawValue>,
    #[serde(borrow)]
    is_error: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    total_cost_usd: Option<&'a RawValue>,
    #[serde(borrow)]
    duration_ms: Option<&'a RawValue>,
    #[serde(borrow)]
    num_turns: Option<&'a RawValue>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    user_message_uuid: Option<&'a RawValue>,
    #[serde(borrow)]
    user_message_uuids: Option<&'a RawValue>,
    #[serde(borrow)]
    tasks: Option<&'a RawValue>,
    #[serde(borrow)]
    title: Option<&'a RawValue>,
}

/// Reads one line of Claude's output.
///
/// # Errors
/// [`NotJson`] when the line is not one JSON object in UTF-8; such lines are skipped and counted.
pub fn parse(line: &[u8]) -> Result<Line<'_>, NotJson> {
    let raw = std::str::from_utf8(line).map_err(|_| NotJson)?.trim_ascii();
    let fields: Fields<'_> = if raw.starts_with('{') { read(raw).ok_or(NotJson)? } else { return Err(NotJson) };
    let session_id = text(fields.session_id);
    Ok(Line { raw, session_id, kind: kind(&fields).unwrap_or(Kind::Other) })
}

/// `None` where a field that the type needs is missing or odd: then the line is one more that we do not understand.
fn kind<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    Some(match text(fields.kind)?.as_ref() {
        "stream_event" => Kind::Delta(delta(fields)),
        "system" => match text(fields.subtype)?.as_ref() {
            "init" => Kind::Init(Init {
                model: text(fields.model),
                permission_mode: text(fields.permission_mode),
                version: text(fields.claude_code_version),
            }),
            "status" => Kind::PermissionMode(text(fields.permission_mode)?),
            "session_title_changed" => Kind::Title(text(fields.title)?),
            "background_tasks_changed" => Kind::BackgroundTasks { count: of::<Vec<&RawValue>>(fields.tasks)?.len() },
            _ => return None,
        },
        "assistant" => assistant(fields)?,
        "user" if of(fields.is_replay) == Some(true) => Kind::Replay { uuid: text(fields.uuid)? },
        "user" if in_main_conversation(fields) => user(fields)?,
        "command_lifecycle" => Kind::Lifecycle { uuid: text(fields.command_uuid)?, state: text(fields.state)? },
        "result" => Kind::Result(outcome(fields)),
        "control_request" => control_request(fields)?,
        "control_response" => control_response(fields)?,
        "control_cancel_request" => Kind::ControlCancel { request_id: text(fields.request_id)? },
        "keep_alive" => Kind::KeepAlive,
        _ => return None,
    })
}

fn delta<'a>(fields: &Fields<'a>) -> Delta<'a> {
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
    tool_use_id: Option<&'a RawValue>,
}

fn assistant<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    let message: Message<'a> = of(fields.message)?;
    let main = in_main_conversation(fields);
    let blocks: Vec<Block<'a>> = of(message.content).filter(|_| main).unwrap_or_default();
    let of_kind = |kind: &'static str| blocks.iter().filter(move |block| block.kind == kind);
    let texts: Vec<_> = of_kind("text").filter_map(|block| text(block.text)).collect();
    Some(Kind::Assistant {
        message_id: text(message.id),
        text: (!texts.is_empty()).then(|| texts.concat()),
        uuid: text(fields.uuid).filter(|_| main),
        tool_uses: of_kind("tool_use").filter_map(|block| text(block.id)).collect(),
    })
}

fn user<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    let message: Message<'a> = of(fields.message)?;
    // Where it is not a list, it is a text.
    let blocks: Vec<Block<'a>> = of(message.content).unwrap_or_default();
    let results = blocks.iter().filter(|block| block.kind == "tool_result");
    Some(Kind::User {
        uuid: text(fields.uuid)?,
        tool_results: results.filter_map(|block| text(block.tool_use_id)).collect(),
    })
}

fn outcome<'a>(fields: &Fields<'a>) -> Outcome<'a> {
    let mut prompts: Vec<Cow<'a, str>> = of(fields.user_message_uuids).unwrap_or_default();
    prompts.extend(text(fields.user_message_uuid));
    Outcome {
        subtype: text(fields.subtype).unwrap_or_default(),
        is_error: of(fields.is_error).unwrap_or(false),
        result: text(fields.result),
        total_cost_usd: of(fields.total_cost_usd),
        duration_ms: of(fields.duration_ms),
        num_turns: of(fields.num_turns),
        usage: fields.usage,
        prompts,
    }
}

fn control_request<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    #[derive(Deserialize)]
    struct Request<'a> {
        #[serde(borrow)]
        subtype: Option<&'a RawValue>,
        #[serde(borrow)]
        tool_name: Option<&'a RawValue>,
        #[serde(borrow)]
        input: Option<&'a RawValue>,
        #[serde(borrow)]
        description: Option<&'a RawValue>,
        #[serde(borrow)]
        permission_suggestions: Option<&'a RawValue>,
    }
    let (request_id, request) = (text(fields.request_id)?, fields.request?);
    let asked: Request<'a> = read(request.get())?;
    let can_use_tool = || {
        (text(asked.subtype)?.as_ref() == "can_use_tool").then_some(())?;
        Some(Box::new(CanUseTool {
            tool_name: text(asked.tool_name)?,
            input: asked.input?,
            description: text(asked.description),
            suggestions: asked.permission_suggestions.filter(|raw| raw.get().starts_with('[')),
        }))
    };
    Some(Kind::ControlRequest { request_id, request, can_use_tool: can_use_tool() })
}

fn control_response<'a>(fields: &Fields<'a>) -> Option<Kind<'a>> {
    #[derive(Deserialize)]
    struct Response<'a> {
        #[serde(borrow)]
        subtype: Cow<'a, str>,
        #[serde(borrow)]
        request_id: Cow<'a, str>,
        #[serde(borrow)]
        response: Option<&'a RawValue>,
        #[serde(borrow)]
        error: Option<Cow<'a, str>>,
    }
    let response: Response<'a> = of(fields.response)?;
    let answer = match response.subtype.as_ref() {
        "success" => Ok(response.response),
        _ => Err(response.error.unwrap_or_default()),
    };
    Some(Kind::ControlResponse { request_id: response.request_id, answer })
}

/// Sub-agents' lines carry the id of the tool use that started them.
fn in_main_conversation(fields: &Fields<'_>) -> bool {
    fields.parent_tool_use_id.is_none_or(|id| id.get() == "null")
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// A value of the wanted shape, `None` where it is absent or of another.
pub(crate) fn of<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    read(raw?.get())
}

/// A JSON string's text, borrowed where nothing in it is escaped.
pub(crate) fn text<'a>(raw: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    unquoted(raw?.get())
}

/// The same of a string as it stands in the line.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() { Some(Cow::Borrowed(inner)) } else { unescaped(json) }
}

/// What a string with escapes says, quotes included.
pub(super) fn unescaped(json: &str) -> Option<Cow<'_, str>> {
    read::<Lossy>(json).map(|text| Cow::Owned(text.0))
}

/// A string that may hold half a surrogate pair (cut by some tool, passed on by Node): replaced, not refused.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lossy, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Lossy;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // As bytes, since serde_json then lets such halves through.
        deserializer.deserialize_bytes(Visitor)
    }
}
