//! Socket.IO, protocol version 5: namespaces, events and acknowledgements inside Engine.IO messages.
//!
//! ```text
//! <type>[<attachments>-][<namespace>,][<ack id>][<JSON>]        51-/ns,7["file",{"_placeholder":true,"num":0}]
//! ```
//!
//! Decoding takes the message without Engine.IO's leading `4`, since that layer has removed it; encoding writes the
//! whole Engine.IO packet, since that is what a transport sends. Whatever the reference server answers by closing the
//! connection is a [`DecodeError`] here. What depends on the connection's state (an unknown namespace, a second CONNECT,
//! an EVENT before it, an ack nobody awaits) is for the caller to judge.

use std::fmt;

use serde::de::DeserializeOwned;
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
        /// The arguments, without the name.
        args: Vec<Value>,
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
    /// The payload is not JSON, is cut off, holds a number or string that has no value (`1e400`, a lone surrogate).
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
    Event { namespace: String, ack: Option<u64>, name: String, args: Vec<Value> },
    Ack { namespace: String, id: u64, args: Vec<Value> },
}

impl Body {
    fn args(&self) -> &[Value] {
        match self {
            Body::Event { args, .. } | Body::Ack { args, .. } => args,
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
    let mut args = array(payload)?;
    if args.is_empty() {
        return Err(DecodeError::EventNameMissing);
    }
    let name = match args.remove(0) {
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

fn array(payload: &str) -> Result<Vec<Value>, DecodeError> {
    if !payload.starts_with('[') {
        return Err(DecodeError::NotAnArray);
    }
    json(payload)
}

fn json<T: DeserializeOwned>(payload: &str) -> Result<T, DecodeError> {
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

/// Accepts a CONNECT: `40{"sid":"…"}` or `40/ns,{"sid":"…","pid":"…"}`.
///
/// `sid` is the Socket.IO id, another one than Engine.IO's. `pid` is the private id with which the client may recover
/// its state; clients that did not ask for recovery get none.
///
/// In all encoders `namespace` begins with `/` and has no comma.
pub fn connect(namespace: &str, sid: &str, pid: Option<&str>) -> String {
    let mut packet = prefix("40", namespace);
    packet.push_str(r#"{"sid":"#);
    packet.push_str(&quoted(sid));
    if let Some(pid) = pid {
        packet.push_str(r#","pid":"#);
        packet.push_str(&quoted(pid));
    }
    packet.push('}');
    packet
}

/// Refuses a CONNECT: `44{"message":"…"}`, with `,"data":…` if there is more to say. The connection stays open.
///
/// For a namespace that does not exist the reference server's message is `Invalid namespace`, without data.
pub fn connect_error(namespace: &str, message: &str, data: Option<&Value>) -> String {
    let mut packet = prefix("44", namespace);
    packet.push_str(r#"{"message":"#);
    packet.push_str(&quoted(message));
    if let Some(data) = data {
        packet.push_str(r#","data":"#);
        packet.push_str(&data.to_string());
    }
    packet.push('}');
    packet
}

/// How an event begins: `42["name"` or `42/ns,["name"`. Then follow `,` and JSON for each argument, and `]`; an event
/// that goes to many clients is thus written once and completed for each.
pub fn event_prefix(namespace: &str, name: &str) -> String {
    let mut packet = prefix("42", namespace);
    packet.push('[');
    packet.push_str(&quoted(name));
    packet
}

/// An event that asks for no acknowledgement. Each of `args` is one JSON value, written as it is.
pub fn event(namespace: &str, name: &str, args: &[&str]) -> String {
    let mut packet = event_prefix(namespace, name);
    for arg in args {
        packet.push(',');
        packet.push_str(arg);
    }
    packet.push(']');
    packet
}

/// How an acknowledgement begins: `43/ns,12[`. Then follow the arguments, with `,` between them, and `]`.
pub fn ack_prefix(namespace: &str, id: u64) -> String {
    let mut packet = prefix("43", namespace);
    packet.push_str(&id.to_string());
    packet.push('[');
    packet
}

/// The acknowledgement of the client's event `id`. Each of `args` is one JSON value, written as it is.
pub fn ack(namespace: &str, id: u64, args: &[&str]) -> String {
    let mut packet = ack_prefix(namespace, id);
    packet.push_str(&args.join(","));
    packet.push(']');
    packet
}

/// Ends a namespace from the server's side: `41` or `41/ns,`.
pub fn disconnect(namespace: &str) -> String {
    prefix("41", namespace)
}

/// The types of both layers and the namespace, which is left out if it is the main one.
fn prefix(types: &str, namespace: &str) -> String {
    match namespace {
        "/" => types.to_owned(),
        _ => format!("{types}{namespace},"),
    }
}

/// `text` as a JSON string.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// The smallest stack on which a connection's thread may decode.
    const SMALL_STACK_BYTES: usize = 256 * 1024;

    /// What is fed to an assembler: all but the last message must be taken without completing a packet.
    #[derive(Debug, Clone, Copy)]
    enum Message<'a> {
        Text(&'a str),
        Binary(&'a [u8]),
    }
    use Message::{Binary, Text};

    fn feed(messages: &[Message<'_>]) -> Result<Option<Packet>, DecodeError> {
        let mut assembler = Assembler::default();
        let mut last = Ok(None);
        for message in messages {
            assert_eq!(last, Ok(None), "before {message:?} of {messages:?}");
            last = match message {
                Text(text) => assembler.text(text),
                Binary(bytes) => assembler.binary(bytes.to_vec()),
            };
        }
        last
    }

    fn check(messages: &[Message<'_>], want: Result<Option<Packet>, DecodeError>) {
        assert_eq!(feed(messages), want, "{messages:?}");
    }

    fn array_of(value: Value) -> Vec<Value> {
        match value {
            Value::Array(items) => items,
            other => panic!("not an array: {other}"),
        }
    }

    fn connecting(namespace: &str, auth: Value) -> Result<Option<Packet>, DecodeError> {
        Ok(Some(Packet::Connect { namespace: namespace.to_owned(), auth: auth.as_object().cloned() }))
    }

    fn event_of(
        namespace: &str,
        ack: Option<u64>,
        name: &str,
        args: Value,
        attachments: &[&[u8]],
    ) -> Result<Option<Packet>, DecodeError> {
        let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Ok(Some(Packet::Event { namespace, ack, name, args: array_of(args), attachments }))
    }

    fn ack_of(namespace: &str, id: u64, args: Value, attachments: &[&[u8]]) -> Result<Option<Packet>, DecodeError> {
        let attachments = attachments.iter().map(|bytes| bytes.to_vec()).collect();
        Ok(Some(Packet::Ack { namespace: namespace.to_owned(), id, args: array_of(args), attachments }))
    }

    #[test]
    fn good_messages() {
        check(&[Text("0")], connecting("/", json!(null)));
        check(&[Text("0{}")], connecting("/", json!({})));
        check(&[Text(r#"0{"token":"t"}"#)], connecting("/", json!({"token": "t"})));
        check(&[Text("0/ns")], connecting("/ns", json!(null)));
        check(&[Text("0/ns,")], connecting("/ns", json!(null)));
        check(&[Text(r#"0/ns,{"a":[1]}"#)], connecting("/ns", json!({"a": [1]})));
        check(&[Text("0/ns?x=1,{}")], connecting("/ns", json!({})));
        check(&[Text("0/?x=1/2?3")], connecting("/", json!(null)));
        for (text, namespace) in [("1", "/"), ("1/ns", "/ns"), ("1/ns,", "/ns"), ("1/ns?x=1,", "/ns")] {
            check(&[Text(text)], Ok(Some(Packet::Disconnect { namespace: namespace.to_owned() })));
        }

        check(&[Text(r#"2["a"]"#)], event_of("/", None, "a", json!([]), &[]));
        check(&[Text(r#"2[""]"#)], event_of("/", None, "", json!([]), &[]));
        check(&[Text(r#"20["a",1,{"b":null}]"#)], event_of("/", Some(0), "a", json!([1, {"b": null}]), &[]));
        check(&[Text(r#"2/ns,12["a","b"]"#)], event_of("/ns", Some(12), "a", json!(["b"]), &[]));
        check(&[Text(r#"2/ns?q=[1],007["a"]"#)], event_of("/ns", Some(7), "a", json!([]), &[]));
        check(&[Text(r#"218446744073709551615["a"]"#)], event_of("/", Some(u64::MAX), "a", json!([]), &[]));
        check(&[Text(r#"2["Connect"]"#)], event_of("/", None, "Connect", json!([]), &[]));
        check(&[Text("2[7]")], event_of("/", None, "7", json!([]), &[]));
        check(&[Text("2[-7,1]")], event_of("/", None, "-7", json!([1]), &[]));
        check(&[Text("2[1.5]")], event_of("/", None, "1.5", json!([]), &[]));
        check(&[Text("2[1e3]")], event_of("/", None, "1000", json!([]), &[]));

        check(&[Text("30[]")], ack_of("/", 0, json!([]), &[]));
        check(&[Text(r#"3/ns,12[1,"connect"]"#)], ack_of("/ns", 12, json!([1, "connect"]), &[]));
    }

    #[test]
    fn good_attachments() {
        let hole = |num: usize| json!({"_placeholder": true, "num": num});
        check(&[Text(r#"50-["a"]"#)], event_of("/", None, "a", json!([]), &[]));
        check(&[Text(r#"51-["a",{"_placeholder":true,"num":0}]"#)], Ok(None));
        check(
            &[Text(r#"51-["a",{"_placeholder":true,"num":0}]"#), Binary(b"")],
            event_of("/", None, "a", json!([hole(0)]), &[b""]),
        );
        let two = r#"52-/ns,12["a",{"x":[{"_placeholder":true,"num":1}]},{"num":0,"_placeholder":true}]"#;
        check(&[Text(two), Binary(b"\0")], Ok(None));
        check(
            &[Text(two), Binary(b"\0"), Binary(b"\xff1")],
            event_of("/ns", Some(12), "a", json!([{"x": [hole(1)]}, hole(0)]), &[b"\0", b"\xff1"]),
        );
        // An announced attachment need not be used; what only resembles a placeholder is data.
        check(
            &[Text(r#"61-5[{"_placeholder":false,"num":9},{"num":9}]"#), Binary(b"x")],
            ack_of("/", 5, json!([{"_placeholder": false, "num": 9}, {"num": 9}]), &[b"x"]),
        );
        let mut ten = vec![Text(r#"510-["a"]"#)];
        ten.extend([Binary(b"z"); ATTACHMENTS_MAX]);
        check(&ten, event_of("/", None, "a", json!([]), &[b"z".as_slice(); ATTACHMENTS_MAX]));
    }

    #[test]
    fn an_assembler_is_reusable() {
        let mut assembler = Assembler::default();
        for _ in 0..2 {
            assert_eq!(assembler.text(r#"51-["a"]"#), Ok(None));
            assert_eq!(assembler.binary(vec![1]), event_of("/", None, "a", json!([]), &[&[1]]));
            assert_eq!(assembler.text("30[]"), ack_of("/", 0, json!([]), &[]));
        }
    }

    #[test]
    fn bad_messages() {
        let table: &[(DecodeError, &[&str])] = &[
            (DecodeError::UnknownType, &["", "7", "9", "-1", "x", " 2[\"a\"]", "\u{662}[\"a\"]", "b"]),
            (DecodeError::ConnectErrorFromClient, &["4", r#"4{"message":"x"}"#, "4/ns,"]),
            (DecodeError::AuthNotAnObject, &["0[]", r#"0"token""#, "0null", "0true", "01", "0/ns,[]"]),
            (DecodeError::DisconnectPayload, &["1{}", "1[]", "1x", "1/ns,0"]),
            (DecodeError::NotAnArray, &["2", "2{}", "2\"a\"", "21", "2/ns", "2/ns,", "2/ns,1{}", "30", "30{}", "50-"]),
            (DecodeError::EventNameMissing, &["2[]", "2[null]", "2[true]", "2[[]]", "2[{}]", "21[]", "50-[]"]),
            (DecodeError::EventNameMissing, &[r#"51-[{"_placeholder":true,"num":0}]"#]),
            (
                DecodeError::EventNameReserved,
                &[r#"2["connect"]"#, r#"2["connect_error",1]"#, r#"2/ns,1["disconnect"]"#],
            ),
            (DecodeError::EventNameReserved, &[r#"2["disconnecting"]"#, r#"2["newListener"]"#]),
            (DecodeError::EventNameReserved, &[r#"51-["removeListener"]"#, r#"2["c\u006fnnect"]"#]),
            (DecodeError::JsonBad, &["0{", "0{]", "0/ns,x", "0{} x", "2[", r#"2["some"#, r#"2["a"]x"#, r#"2["a",]"#]),
            (DecodeError::JsonBad, &[r#"2["a",1e400]"#, r#"2["a","\ud800"]"#, "2[\"a\0\"]", "30[1", "30['a']"]),
            (DecodeError::AckIdNotANumber, &[r#"2x["a"]"#, r#"2-1["a"]"#, r#"21.5["a"]"#, r#"2 1["a"]"#, "2+"]),
            (DecodeError::AckIdNotANumber, &[r#"2/ns,1a["a"]"#, "2\u{661}[\"a\"]", "3x[]", "30x[]", r#"21-["a"]"#]),
            (DecodeError::AckIdTooLong, &[r#"218446744073709551616["a"]"#, "3000000000000000000001[]"]),
            (DecodeError::AckIdMissing, &["3", "3[]", "3{}", "3/ns,[1]", "60-[]", "61-[]"]),
            (DecodeError::AttachmentCountBad, &["5", "5-", r#"5-["a"]"#, "5a-", "51.23-", "51", r#"51["a"]"#]),
            (DecodeError::AttachmentCountBad, &["5-1-[]", "5+1-", "5 1-", "6", "6/ns,0-", "5\u{661}-[\"a\"]"]),
            (DecodeError::AttachmentsTooMany, &[r#"511-["a"]"#, "599999999999999999999999-", "611-0[]"]),
        ];
        for (want, texts) in table {
            for text in *texts {
                check(&[Text(text)], Err(*want));
            }
        }
        let digits = "9".repeat(400);
        check(&[Text(&format!(r#"2{digits}["a"]"#))], Err(DecodeError::AckIdTooLong));
        check(&[Text(&format!("3/ns,{digits}[]"))], Err(DecodeError::AckIdTooLong));
        check(&[Text(&format!("2{}[\"a\"]", "0".repeat(400)))], Err(DecodeError::AckIdTooLong));
    }

    #[test]
    fn bad_attachments() {
        for num in ["-1", "1", "99", "\"x\"", "0.5", "null", "18446744073709551616"] {
            let hole = format!(r#"{{"_placeholder":true,"num":{num}}}"#);
            check(&[Text(&format!(r#"51-["a",{hole}]"#))], Err(DecodeError::PlaceholderBad));
            check(&[Text(&format!(r#"61-0[{{"x":[{hole}]}}]"#))], Err(DecodeError::PlaceholderBad));
        }
        check(&[Text(r#"51-["a",{"_placeholder":true}]"#)], Err(DecodeError::PlaceholderBad));
        check(&[Text(r#"2["a",{"_placeholder":true,"num":0}]"#)], Err(DecodeError::PlaceholderBad));
        check(&[Binary(b"x")], Err(DecodeError::BinaryUnasked));
        for text in ["", "1", r#"2["a"]"#, r#"51-["a"]"#] {
            check(&[Text(r#"52-["a"]"#), Text(text)], Err(DecodeError::TextWhileBinaryAwaited));
            check(&[Text(r#"52-["a"]"#), Binary(b"x"), Text(text)], Err(DecodeError::TextWhileBinaryAwaited));
        }
        let mut assembler = Assembler::default();
        assert_eq!(assembler.text(r#"51-["a"]"#), Ok(None));
        assert!(matches!(assembler.binary(Vec::new()), Ok(Some(_))));
        assert_eq!(assembler.binary(Vec::new()), Err(DecodeError::BinaryUnasked));
    }

    #[test]
    fn deep_json_fits_a_small_stack() {
        /// `depth` counts the outer array, too.
        fn check(depth: usize, open: &str, close: &str, want: Result<(), DecodeError>) {
            let inner = format!("{}0{}", open.repeat(depth - 1), close.repeat(depth - 1));
            let texts = [format!(r#"2["a",{inner}]"#), format!("30[{inner}]"), format!(r#"0{{"a":{inner}}}"#)];
            let decode = move || {
                for text in texts {
                    assert_eq!(feed(&[Text(&text)]).map(drop), want, "depth {depth}");
                }
            };
            std::thread::Builder::new().stack_size(SMALL_STACK_BYTES).spawn(decode).unwrap().join().unwrap();
        }
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            check(NESTING_MAX, open, close, Ok(()));
            for depth in [NESTING_MAX + 1, 127, 200, 100_000] {
                check(depth, open, close, Err(DecodeError::NestingTooDeep));
            }
        }
        // Neither width nor brackets inside a string are nesting.
        let (wide, quoted) = ("[{}],".repeat(1000), r#"\"[{\\"#.repeat(1000));
        let text = format!(r#"2["a",{wide}"{quoted}"]"#);
        assert!(matches!(feed(&[Text(&text)]), Ok(Some(Packet::Event { args, .. })) if args.len() == 1001));
    }

    #[test]
    fn placeholders() {
        fn check(value: Value, want: Option<usize>) {
            assert_eq!(placeholder(&value), want, "{value}");
        }
        check(json!({"_placeholder": true, "num": 0}), Some(0));
        check(json!({"num": 12, "_placeholder": true, "more": 1}), Some(12));
        check(json!({"_placeholder": true, "num": -1}), None);
        check(json!({"_placeholder": true, "num": "0"}), None);
        check(json!({"_placeholder": true}), None);
        check(json!({"_placeholder": 1, "num": 0}), None);
        check(json!({"num": 0}), None);
        check(json!([true, 0]), None);
        check(json!(null), None);
    }

    #[test]
    fn encoders() {
        fn check(packet: String, want: &str) {
            assert_eq!(packet, want);
        }
        check(connect("/", "s", None), r#"40{"sid":"s"}"#);
        check(connect("/ns", "s\"", Some("p")), r#"40/ns,{"sid":"s\"","pid":"p"}"#);
        check(connect_error("/x", "Invalid namespace", None), r#"44/x,{"message":"Invalid namespace"}"#);
        check(
            connect_error("/", "no\n", Some(&json!({"code": "unauthorized"}))),
            r#"44{"message":"no\n","data":{"code":"unauthorized"}}"#,
        );
        check(event_prefix("/", "na\"me"), r#"42["na\"me""#);
        check(event_prefix("/ns", "name"), r#"42/ns,["name""#);
        check(event("/", "name", &[]), r#"42["name"]"#);
        check(event("/ns", "name", &["1", r#"{"b":1,"a":2}"#]), r#"42/ns,["name",1,{"b":1,"a":2}]"#);
        check(ack_prefix("/", 0), "430[");
        check(ack_prefix("/ns", 12), "43/ns,12[");
        check(ack("/", 0, &[]), "430[]");
        check(ack("/ns", u64::MAX, &["1", "[]"]), "43/ns,18446744073709551615[1,[]]");
        check(disconnect("/"), "41");
        check(disconnect("/ns"), "41/ns,");
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z\u{e9}]{0,4}", inner, 0..4).prop_map(Value::from_iter),
            ]
        })
    }

    fn any_namespace() -> impl Strategy<Value = String> {
        "/|/[^,?]{1,8}"
    }

    fn raw(args: &[Value]) -> Vec<String> {
        args.iter().map(Value::to_string).collect()
    }

    proptest! {
        #[test]
        fn events_round_trip(
            namespace in any_namespace(),
            name in any::<String>(),
            args in prop::collection::vec(any_json(), 0..4),
        ) {
            let raw = raw(&args);
            let text = event(&namespace, &name, &raw.iter().map(String::as_str).collect::<Vec<_>>());
            let want = Packet::Event { namespace, ack: None, name, args, attachments: Vec::new() };
            prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
        }

        #[test]
        fn acks_round_trip(
            namespace in any_namespace(),
            id in any::<u64>(),
            args in prop::collection::vec(any_json(), 0..4),
        ) {
            let raw = raw(&args);
            let text = ack(&namespace, id, &raw.iter().map(String::as_str).collect::<Vec<_>>());
            let want = Packet::Ack { namespace, id, args, attachments: Vec::new() };
            prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
        }

        #[test]
        fn connects_and_disconnects_round_trip(
            namespace in any_namespace(),
            sid in any::<String>(),
            pid in any::<Option<String>>(),
        ) {
            let mut auth = Map::from_iter([("sid".to_owned(), Value::from(sid.as_str()))]);
            if let Some(pid) = &pid {
                auth.insert("pid".to_owned(), Value::from(pid.as_str()));
            }
            let text = connect(&namespace, &sid, pid.as_deref());
            let want = Packet::Connect { namespace: namespace.clone(), auth: Some(auth) };
            prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(want)));
            let text = disconnect(&namespace);
            prop_assert_eq!(feed(&[Text(&text[1..])]), Ok(Some(Packet::Disconnect { namespace })));
        }

        #[test]
        fn no_text_panics_and_no_placeholder_dangles(
            text in prop_oneof![
                any::<String>(),
                r#"[0-6]([0-9]{0,2}-)?(/[a-z?]{0,3},?)?[0-9]{0,22}[\[\]{}":,a0-9 ]{0,12}"#,
                r#"[56][0-3]-[0-9]?\["a",\{"_placeholder":true,"num":-?[0-9]\}\]"#,
            ],
            bytes in prop::collection::vec(any::<u8>(), 0..4),
        ) {
            let mut assembler = Assembler::default();
            let mut last = assembler.text(&text);
            for _ in 0..ATTACHMENTS_MAX {
                if last == Ok(None) {
                    last = assembler.binary(bytes.clone());
                }
            }
            prop_assert_ne!(&last, &Ok(None));
            if let Ok(Some(Packet::Event { args, attachments, .. } | Packet::Ack { args, attachments, .. })) = last {
                for index in args.iter().filter_map(placeholder) {
                    prop_assert!(index < attachments.len());
                }
            }
        }
    }
}
