//! Responses.

use std::borrow::Cow;

/// A response, before it is known whether the connection stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body's type.
    pub content_type: &'static str,
    /// What a cache may do with it: nothing, if nobody says otherwise.
    pub cache_control: &'static str,
    /// More headers.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Cow<'static, [u8]>,
}

/// How a client finds the end of a body whose length is not known when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Each piece tells its length, and [`LAST_CHUNK`] that there is no more.
    Chunked,
    /// With the connection: all that HTTP/1.0 knows.
    UntilClosed,
}

/// The end of a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// What goes before a chunk of so many bytes, not none; `\r\n` goes behind it.
#[must_use]
pub fn chunk_head(bytes: usize) -> Vec<u8> {
    format!("{bytes:x}\r\n").into_bytes()
}

impl Response {
    fn new(status: u16, content_type: &'static str, body: impl Into<Cow<'static, [u8]>>) -> Response {
        Response { status, content_type, cache_control: "no-store", headers: Vec::new(), body: body.into() }
    }

    /// Bytes of that type which are there as long as the program.
    #[must_use]
    pub fn bytes(status: u16, content_type: &'static str, body: &'static [u8]) -> Response {
        Response::new(status, content_type, body)
    }

    /// Plain text.
    #[must_use]
    pub fn text(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "text/plain; charset=UTF-8", body.into().into_bytes())
    }

    /// JSON.
    #[must_use]
    pub fn json(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "application/json", body.into().into_bytes())
    }

    /// A page.
    #[must_use]
    pub fn html(status: u16, body: impl Into<String>) -> Response {
        Response::new(status, "text/html; charset=UTF-8", body.into().into_bytes())
    }

    /// The head of a response whose body is made while it is sent.
    #[must_use]
    pub fn streamed(content_type: &'static str) -> Response {
        Response::new(200, content_type, b"".as_slice())
    }

    /// Nothing but the status: what is wrong is for the log, not for whoever asks.
    #[must_use]
    pub fn error(status: u16) -> Response {
        Response::text(status, format!("{}\n", reason(status)))
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Response {
        self.headers.push((name, value.into()));
        self
    }

    /// The bytes to send; `head_only` for the method HEAD.
    #[must_use]
    pub fn encode(&self, keep_alive: bool, head_only: bool) -> Vec<u8> {
        // Those without a body by their nature end with their head.
        let length = match self.status {
            204 | 304 => String::new(),
            _ => format!("Content-Length: {}\r\n", self.body.len()),
        };
        let mut bytes = self.head(&length, keep_alive);
        if !head_only {
            bytes.extend_from_slice(&self.body);
        }
        bytes
    }

    /// The bytes that go before a body of that framing.
    #[must_use]
    pub fn encode_head(&self, framing: Framing, keep_alive: bool) -> Vec<u8> {
        match framing {
            Framing::Chunked => self.head("Transfer-Encoding: chunked\r\n", keep_alive),
            Framing::UntilClosed => self.head("", false),
        }
    }

    fn head(&self, length: &str, keep_alive: bool) -> Vec<u8> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nContent-Type: {}\r\n{length}Connection: {connection}\r\n\
             Cache-Control: {}\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n",
            self.status,
            reason(self.status),
            self.content_type,
            self.cache_control,
        );
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }
}

/// The server's half of a WebSocket's opening handshake.
#[must_use]
pub fn switching_protocols(accept_key: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept_key}\r\n\r\n"
    )
    .into_bytes()
}

/// A refused WebSocket, in the form of the reference Socket.IO server.
#[must_use]
pub fn refused_upgrade(status: u16, message: &str) -> Vec<u8> {
    let version = if status == 426 { "Sec-WebSocket-Version: 13\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {}\r\nConnection: close\r\n{version}Content-type: text/html\r\nContent-Length: {}\r\n\r\n{message}",
        reason(status),
        message.len()
    )
    .into_bytes()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        414 => "URI Too Long",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_exact() {
        let common = "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n";
        let cases = [
            (Response::json(200, "{}").encode(true, false),
             format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: keep-alive\r\n{common}\r\n{{}}")),
            (Response::bytes(304, "text/x", b"").encode(true, false),
             format!("HTTP/1.1 304 Not Modified\r\nContent-Type: text/x\r\nConnection: keep-alive\r\n{common}\r\n")),
            (Response::error(405).with_header("Allow", "GET").encode(false, true),
             format!("HTTP/1.1 405 Method Not Allowed\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 19\r\nConnection: close\r\n{common}Allow: GET\r\n\r\n")),
            (Response::streamed("text/x").with_header("X", "y").encode_head(Framing::Chunked, true),
             format!("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n{common}X: y\r\n\r\n")),
            (Response::streamed("text/x").encode_head(Framing::UntilClosed, true),
             format!("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nConnection: close\r\n{common}\r\n")),
            (chunk_head(0x1a2b), "1a2b\r\n".to_owned()),
            (refused_upgrade(400, "Transport unknown"),
             "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-type: text/html\r\nContent-Length: 17\r\n\r\nTransport unknown".to_owned()),
            (refused_upgrade(426, ""),
             "HTTP/1.1 426 Upgrade Required\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\nContent-type: text/html\r\nContent-Length: 0\r\n\r\n".to_owned()),
        ];
        for (bytes, expected) in cases {
            assert_eq!(String::from_utf8(bytes).expect("text"), expected);
        }
    }
}
