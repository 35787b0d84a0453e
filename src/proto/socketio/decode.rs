//! Packets from a client.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Most attachments of one packet, as in the reference server. With the transport's limit on a message it bounds what
/// an [`Assembler`] can hold.
pub const ATTACHMENTS_MAX: usize = 10;

/// Deepest nesting of arrays and objects in a payload, the outermost included.
///
/// serde_json stops only above 127, and parsing objects that deep overflows a thread's stack of 256 KiB in a debug
/// build. At 64 it takes about 160 KiB, and whoever clones, writes or drops the values later is spared, too.
pub const NESTING_MAX: usize = 64;

/// Most digits of an ack id: as many as the largest `u64` has.
const ACK_ID_DIGITS_MAX: usize = 20;

/// Names the libraries emit themselves; a client that could send them would forge life-cycle events.
const RESERVED_NAMES: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// A packet from a client, complete with its attachments.
///
/// `namespace` begins with `/` and has lost its query. In `args`, an attachment is a placeholder (see [`placeholder`]),
/// whose number is always a valid index into `attachments`.
///
/// Do not log it: `auth` carries the client's token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// Asks to join a namespace.
    Connect {
        /// The namespace to join.
        namespace: String,
        /// What the client presents, such as its token or the state it wants to recover; `None` if absent.
        auth: Option<Map<String, Value>>,
    },
    /// Leaves a namespace; the connection stays open for others.
    Disconnect {
        /// The namespace to leave.
        namespace: String,
    },
    /// An event, plain or binary.
    Event {
        /// Where it happens.
        namespace: String,
        /// The id under which the client awaits an acknowledgement.
        ack: Option<u64>,
        /// Never a reserved name. A number, which is legal, is given as its decimal text.
        name: String,
        /// The arguments, without the name; or which of them has no value.
        args: Result<Vec<Value>, BadValue>,
        /// The binary messages that followed, in order.
        attachments: Vec<Vec<u8>>,
    },
    /// The acknowledgement of an event of ours, plain or binary.
    Ack {
        /// Where the event happened.
        namespace: String,
        /// The id we gave; nothing says it is one we ever gave.
        id: u64,
        /// The answer.
        args: Vec<Value>,
        /// The binary messages that followed, in order.
        attachments: Vec<Vec<u8>>,
    },
}

/// An argument of an event that is sound JSON but has no value here: it holds a number out of range (`1e400`) or half a
/// surrogate pair (`"\ud800"`, which a JavaScript client sends that cuts a text within an emoji). The reference server
/// takes them, so the client is told what is wrong, and not cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadValue {
    /// Which argument, from 0.
    pub argument: usize,
    /// Where that is an object: the field that holds it.
    pub field: Option<String>,
}

/// Why a message is refused. In every case the connection is to be closed and its [`Assembler`] dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The message is empty or its first character is not one of `0` to `6`.
    UnknownType,
    /// CONNECT_ERROR, which only servers send.
    ConnectErrorFromClient,
    /// A binary packet without a decimal number and `-` behind its type.
    AttachmentCountBad,
    /// More than [`ATTACHMENTS_MAX`] attachments are announced.
    AttachmentsTooMany,
    /// Something that is no decimal number stands where the ack id belongs.
    AckIdNotANumber,
    /// The ack id has more than 20 digits or does not fit 64 bits.
    AckIdTooLong,
    /// An ACK that does not say what it acknowledges.
    AckIdMissing,
    /// The payload is not JSON, or is cut off. Outside the arguments of an event (see [`BadValue`]), also: it holds a
    /// number or string that has no value.
    JsonBad,
    /// The payload is nested deeper than [`NESTING_MAX`].
    NestingTooDeep,
    /// The payload of an EVENT or ACK is missing or does not begin as an array.
    NotAnArray,
    /// The payload of a CONNECT is JSON but not an object.
    AuthNotAnObject,
    /// A DISCONNECT with a payload.
    DisconnectPayload,
    /// The array of an EVENT is empty, or begins with neither a string nor a number.
    EventNameMissing,
    /// The event has a name that belongs to the library: `connect`, `connect_error`, `disconnect`, `disconnecting`,
    /// `newListener` or `removeListener`.
    EventNameReserved,
    /// A placeholder whose `num` is not the index of an announced attachment.
    PlaceholderBad,
    /// A text message came where an attachment was due.
    TextWhileBinaryAwaited,
    /// A binary message came that no packet announced.
    BinaryUnasked,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DecodeError::UnknownType => "unknown packet type",
            DecodeError::ConnectErrorFromClient => "CONNECT_ERROR from a client",
            DecodeError::AttachmentCountBad => "attachment count is not a number",
            DecodeError::AttachmentsTooMany => "too many attachments",
            DecodeError::AckIdNotANumber => "ack id is not a number",
            DecodeError::AckIdTooLong => "ack id is too long",
            DecodeError::AckIdMissing => "ACK without an id",
            DecodeError::JsonBad => "payload is not valid JSON",
            DecodeError::NestingTooDeep => "payload is nested too deep",
            DecodeError::NotAnArray => "payload is not an array",
            DecodeError::AuthNotAnObject => "auth is not an object",
            DecodeError::DisconnectPayload => "DISCONNECT with a payload",
            DecodeError::EventNameMissing => "event without a name",
            DecodeError::EventNameReserved => "event name is reserved",
            DecodeError::PlaceholderBad => "placeholder without an attachment",
            DecodeError::TextWhileBinaryAwaited => "text while an attachment is awaited",
            DecodeError::BinaryUnasked => "binary message without announcement",
        })
    }
}

impl std::error::Error for DecodeError {}

/// Turns the messages of one connection into packets, holding a binary packet back until its attachments are there.
#[derive(Debug, Default)]
pub struct Assembler {
    awaiting: Option<Awaiting>,
}

/// A packet that is complete but for its attachments.
#[derive(Debug)]
struct Awaiting {
    body: Body,
    attachments: Vec<Vec<u8>>,
    /// How many are announced: more than `attachments` holds, and at most [`ATTACHMENTS_MAX`].
    announced: usize,
}

/// What can have attachments.
#[derive(Debug)]
enum Body {
    Event { namespace: String, ack: Option<u64>, name: String, args: Result<Vec<Value>, BadValue> },
    Ack { namespace: String, id: u64, args: Vec<Value> },
}

impl Body {
    fn args(&self) -> &[Value] {
        match self {
            Body::Event { args, .. } => args.as_deref().unwrap_or_default(),
            Body::Ack { args, .. } => args,
        }
    }

    fn complete(self, attachments: Vec<Vec<u8>>) -> Packet {
        match self {
            Body::Event { namespace, ack, name, args } => Packet::Event { namespace, ack, name, args, attachments },
            Body::Ack { namespace, id, args } => Packet::Ack { namespace, id, args, attachments },
        }
    }
}

impl Assembler {
    /// Takes a text message, without Engine.IO's leading `4`. `None` means that attachments are awaited.
    ///
    /// A placeholder is checked here, before its attachment has cost any memory, and in plain packets too, where it can
    /// only be wrong.
    ///
    /// # Errors
    ///
    /// Every [`DecodeError`] but `BinaryUnasked`.
    pub fn text(&mut self, text: &str) -> Result<Option<Packet>, DecodeError> {
        if self.awaiting.is_some() {
            return Err(DecodeError::TextWhileBinaryAwaited);
        }
        let kind = text.chars().next().ok_or(DecodeError::UnknownType)?;
        let rest = &text[kind.len_utf8()..];
        let (body, announced) = match kind {
            '0' => return connect_packet(rest).map(Some),
            '1' => return disconnect_packet(rest).map(Some),
            '2' => (event_body(rest)?, 0),
            '3' => (ack_body(rest)?, 0),
            '4' => return Err(DecodeError::ConnectErrorFromClient),
            '5' => {
                let (announced, rest) = split_attachment_count(rest)?;
                (event_body(rest)?, announced)
            }
            '6' => {
                let (announced, rest) = split_attachment_count(rest)?;
                (ack_body(rest)?, announced)
            }
            _ => return Err(DecodeError::UnknownType),
        };
        check_placeholders(body.args(), announced)?;
        if announced == 0 {
            return Ok(Some(body.complete(Vec::new())));
        }
        // No room is reserved for what is only announced.
        self.awaiting = Some(Awaiting { body, attachments: Vec::new(), announced });
        Ok(None)
    }

    /// Takes a binary message: the next attachment. `None` means that more are awaited.
    ///
    /// # Errors
    ///
    /// [`DecodeError::BinaryUnasked`] if no packet awaits one.
    pub fn binary(&mut self, bytes: Vec<u8>) -> Result<Option<Packet>, DecodeError> {
        let mut awaiting = self.awaiting.take().ok_or(DecodeError::BinaryUnasked)?;
        awaiting.attachments.push(bytes);
        if awaiting.attachments.len() == awaiting.announced {
            return Ok(Some(awaiting.body.complete(awaiting.attachments)));
        }
        self.awaiting = Some(awaiting);
        Ok(None)
    }
}

/// The index of the attachment that belongs in the place of `value`, if it is `{"_placeholder":true,"num":n}`.
pub fn placeholder(value: &Value) -> Option<usize> {
    let num = value.as_object().filter(|object| is_placeholder(object))?.get("num")?;
    usize::try_from(num.as_u64()?).ok()
}

fn is_placeholder(object: &Map<String, Value>) -> bool {
    object.get("_placeholder") == Some(&Value::Bool(true))
}

/// Recurses no deeper than [`NESTING_MAX`].
fn check_placeholders<'a>(values: impl IntoIterator<Item = &'a Value>, attachments: usize) -> Result<(), DecodeError> {
    for value in values {
        check_placeholder(value, attachments)?;
    }
    Ok(())
}

fn check_placeholder(value: &Value, attachments: usize) -> Result<(), DecodeError> {
    match value {
        Value::Array(items) => check_placeholders(items, attachments),
        Value::Object(object) if is_placeholder(object) => match placeholder(value) {
            Some(index) if index < attachments => Ok(()),
            _ => Err(DecodeError::PlaceholderBad),
        },
        Value::Object(object) => check_placeholders(object.values(), attachments),
        _ => Ok(()),
    }
}

fn connect_packet(rest: &str) -> Result<Packet, DecodeError> {
    let (namespace, payload) = split_namespace(rest);
    if payload.is_empty() {
        return Ok(Packet::Connect { namespace, auth: None });
    }
    match json(payload)? {
        Value::Object(auth) => Ok(Packet::Connect { namespace, auth: Some(auth) }),
        _ => Err(DecodeError::AuthNotAnObject),
    }
}

fn disconnect_packet(rest: &str) -> Result<Packet, DecodeError> {
    let (namespace, payload) = split_namespace(rest);
    if !payload.is_empty() {
        return Err(DecodeError::DisconnectPayload);
    }
    Ok(Packet::Disconnect { namespace })
}

fn event_body(rest: &str) -> Result<Body, DecodeError> {
    let (namespace, rest) = split_namespace(rest);
    let (ack, payload) = split_ack_id(rest)?;
    let (name, args) = match array::<Value>(payload) {
        Ok(mut args) if !args.is_empty() => (args.remove(0), Ok(args)),
        Ok(_) => return Err(DecodeError::EventNameMissing),
        Err(DecodeError::JsonBad) => without_value(payload)?,
        Err(error) => return Err(error),
    };
    let name = match name {
        Value::String(name) => name,
        // As JavaScript would name it: Display of a float, unlike that of serde_json's number, adds no `.0`.
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => float.to_string(),
            _ => number.to_string(),
        },
        _ => return Err(DecodeError::EventNameMissing),
    };
    if RESERVED_NAMES.contains(&name.as_str()) {
        return Err(DecodeError::EventNameReserved);
    }
    Ok(Body::Event { namespace, ack, name, args })
}

/// The name of an event that cannot be read as a whole, where that is because an argument has no value: the grammar holds
/// then, which is all that a raw value asks for.
fn without_value(payload: &str) -> Result<(Value, Result<Vec<Value>, BadValue>), DecodeError> {
    let has_value = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).is_ok();
    let parts: Vec<&RawValue> = array(payload)?;
    let (name, args) = parts.split_first().ok_or(DecodeError::EventNameMissing)?;
    let name = serde_json::from_str(name.get()).map_err(|_| DecodeError::JsonBad)?;
    let argument = args.iter().position(|raw| !has_value(raw)).ok_or(DecodeError::JsonBad)?;
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(args[argument].get()).unwrap_or_default();
    let field = fields.into_iter().find(|(_, raw)| !has_value(raw)).map(|(field, _)| field);
    Ok((name, Err(BadValue { argument, field })))
}

fn ack_body(rest: &str) -> Result<Body, DecodeError> {
    let (namespace, rest) = split_namespace(rest);
    let (id, payload) = split_ack_id(rest)?;
    let id = id.ok_or(DecodeError::AckIdMissing)?;
    Ok(Body::Ack { namespace, id, args: array(payload)? })
}

/// Splits `3-…` behind a binary type.
fn split_attachment_count(rest: &str) -> Result<(usize, &str), DecodeError> {
    let (digits, rest) = split_digits(rest);
    let rest = rest.strip_prefix('-').filter(|_| !digits.is_empty()).ok_or(DecodeError::AttachmentCountBad)?;
    // Only digits are left, so what does not parse is too large.
    match digits.parse() {
        Ok(count) if count <= ATTACHMENTS_MAX => Ok((count, rest)),
        _ => Err(DecodeError::AttachmentsTooMany),
    }
}

/// Splits `/ns,…` or, where nothing follows, `/ns`. Anything else is in the main namespace. Clients that connect with
/// a query in the URL may repeat it behind the namespace; it is no part of the name.
fn split_namespace(rest: &str) -> (String, &str) {
    if !rest.starts_with('/') {
        return ("/".to_owned(), rest);
    }
    let (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    let name = namespace.split_once('?').map_or(namespace, |(name, _query)| name);
    (name.to_owned(), rest)
}

/// Splits the ack id, if there is one, from the payload.
fn split_ack_id(rest: &str) -> Result<(Option<u64>, &str), DecodeError> {
    let (digits, payload) = split_digits(rest);
    // No payload that begins otherwise could be legal, so it must be meant as part of the id.
    if !(payload.is_empty() || payload.starts_with(['[', '{', '"'])) {
        return Err(DecodeError::AckIdNotANumber);
    }
    if digits.is_empty() {
        return Ok((None, payload));
    }
    if digits.len() > ACK_ID_DIGITS_MAX {
        return Err(DecodeError::AckIdTooLong);
    }
    let id = digits.parse().map_err(|_| DecodeError::AckIdTooLong)?;
    Ok((Some(id), payload))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.split_at(end)
}

fn array<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<Vec<T>, DecodeError> {
    if !payload.starts_with('[') {
        return Err(DecodeError::NotAnArray);
    }
    json(payload)
}

fn json<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<T, DecodeError> {
    if nests_too_deep(payload) {
        return Err(DecodeError::NestingTooDeep);
    }
    serde_json::from_str(payload).map_err(|_| DecodeError::JsonBad)
}

/// Counts brackets outside strings. On what is no JSON the count may be off, but only behind the first error, where the
/// parser does not go.
fn nests_too_deep(payload: &str) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in payload.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return true;
        }
    }
    false
}
