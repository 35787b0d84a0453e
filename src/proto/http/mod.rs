//! HTTP/1.1 as far as this server speaks it: request heads, responses, and whose requests are served.
//!
//! A parser that guesses is how requests get smuggled, so whatever the specification calls malformed is refused.

mod body;
mod head;
mod policy;
mod response;

pub use body::{ChunkError, Chunks};
pub use head::{
    BodyLength, HEAD_BYTES_MAX, HEADERS_MAX, Head, HeadError, Method, REQUEST_LINE_BYTES_MAX, UpgradeError,
    body_length, parse_head,
};
pub use policy::{HostPolicy, Refused};
pub use response::{Framing, LAST_CHUNK, Response, chunk_head, refused_upgrade, switching_protocols};
