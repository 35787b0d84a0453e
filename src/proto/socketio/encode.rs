//! Packets to a client: whole Engine.IO packets, ready for the transport.

use serde_json::Value;

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

/// What a packet with arguments is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outgoing<'a> {
    /// An event; `ack`: the id under which the client is to acknowledge it.
    Event {
        /// Its name.
        name: &'a str,
        /// Where an acknowledgement is wanted.
        ack: Option<u64>,
    },
    /// The acknowledgement of the client's event `id`.
    Ack {
        /// The client's number.
        id: u64,
    },
}

/// A packet with arguments in any form: `42["a"]`, `451-/ns,7["a",{"_placeholder":true,"num":0}]`, `43/ns,7[1]`. The
/// attachments follow it as binary messages.
pub fn encode(namespace: &str, packet: Outgoing<'_>, values: &[Value], attachments: usize) -> String {
    let (plain, binary, ack, name) = match packet {
        Outgoing::Event { name, ack } => ("42", "45", ack, Some(name)),
        Outgoing::Ack { id } => ("43", "46", Some(id), None),
    };
    let types = if attachments == 0 { plain.to_owned() } else { format!("{binary}{attachments}-") };
    let mut text = prefix(&types, namespace);
    if let Some(ack) = ack {
        text.push_str(&ack.to_string());
    }
    let parts = name.map(quoted).into_iter().chain(values.iter().map(Value::to_string));
    text.push('[');
    text.push_str(&parts.collect::<Vec<_>>().join(","));
    text.push(']');
    text
}
