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

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{ATTACHMENTS_MAX, Assembler, BadValue, DecodeError, NESTING_MAX, Packet, placeholder};
pub use encode::{Outgoing, ack, ack_prefix, connect, connect_error, disconnect, encode, event, event_prefix};
