//! The head of a request.

use std::borrow::Cow;

use data_encoding::BASE64;

/// A request line may be this long; a longer one is 414.
pub const REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;

/// A head may be this long; a longer one is 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A head may have so many fields; more are 431.
pub const HEADERS_MAX: usize = 100;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadError {
    /// 400, and why.
    BadRequest(&'static str),
    /// 411: a POST that does not say how long its body is.
    LengthRequired,
    /// 414.
    UriTooLong,
    /// 431.
    TooLarge,
    /// 505: HTTP/2, or something else that is not HTTP/1.
    VersionNotSupported,
}

impl HeadError {
    /// The response's status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            HeadError::BadRequest(_) => 400,
            HeadError::LengthRequired => 411,
            HeadError::UriTooLong => 414,
            HeadError::TooLarge => 431,
            HeadError::VersionNotSupported => 505,
        }
    }

    /// For the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            HeadError::BadRequest(reason) => reason,
            HeadError::LengthRequired => "a body without a length",
            HeadError::UriTooLong => "the request line is too long",
            HeadError::TooLarge => "the head is too large",
            HeadError::VersionNotSupported => "not HTTP/1",
        }
    }
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Method {
    Get,
    Head,
    Post,
    Options,
    Other,
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What it wants to do.
    pub method: Method,
    /// The path as it came, percent signs and all.
    pub path: String,
    /// What stands behind the question mark.
    pub query: Option<String>,
    /// HTTP/1.0 or HTTP/1.1.
    pub minor_version: u8,
    headers: Vec<(String, String)>,
}

/// Reads a request's head. `Ok(None)`: more bytes are needed. Otherwise the head, and its length in bytes.
///
/// # Errors
/// As early as the bytes show it, so that no sender can make us collect more than [`HEAD_BYTES_MAX`].
pub fn parse_head(buffer: &[u8]) -> Result<Option<(Head, usize)>, HeadError> {
    const TLS_HANDSHAKE: u8 = 0x16;
    if buffer.first() == Some(&TLS_HANDSHAKE) {
        return Err(HeadError::BadRequest("TLS on the plain port"));
    }
    if buffer.starts_with(b"PRI * HTTP/2") {
        return Err(HeadError::VersionNotSupported);
    }
    let line_end = memchr::memchr(b'\n', buffer);
    if line_end.unwrap_or(buffer.len()) > REQUEST_LINE_BYTES_MAX {
        return Err(HeadError::UriTooLong);
    }
    let end = memchr::memmem::find(buffer, b"\r\n\r\n").map(|at| at + 4);
    let head = &buffer[..end.unwrap_or(buffer.len())];
    if head.len() > HEAD_BYTES_MAX {
        return Err(HeadError::TooLarge);
    }
    // httparse takes a bare LF for a line's end; others on the way may not, and would see another request.
    if memchr::memchr_iter(b'\n', head).any(|at| at == 0 || head[at - 1] != b'\r') {
        return Err(HeadError::BadRequest("a bare line feed"));
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Complete(length)) => Ok(Some((Head::of(&request)?, length))),
        Ok(httparse::Status::Partial) if end.is_none() => Ok(None),
        Ok(httparse::Status::Partial) => Err(HeadError::BadRequest("an empty head")),
        Err(httparse::Error::TooManyHeaders) => Err(HeadError::TooLarge),
        Err(httparse::Error::Version) => Err(HeadError::VersionNotSupported),
        Err(_) => Err(HeadError::BadRequest("a malformed head")),
    }
}

impl Head {
    fn of(request: &httparse::Request<'_, '_>) -> Result<Head, HeadError> {
        let method = match request.method.unwrap_or_default() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "POST" => Method::Post,
            "OPTIONS" => Method::Options,
            _ => Method::Other,
        };
        let text = |value: &[u8]| {
            String::from_utf8(value.to_vec()).map_err(|_| HeadError::BadRequest("a header not in UTF-8"))
        };
        let headers = request.headers.iter().map(|header| Ok((header.name.to_ascii_lowercase(), text(header.value)?)));
        let headers = headers.collect::<Result<Vec<_>, HeadError>>()?;
        let minor_version = request.version.unwrap_or_default();
        let mut head = Head { method, path: String::new(), query: None, minor_version, headers };
        let hosts = head.headers_named("host").count();
        if hosts > 1 || (hosts == 0 && minor_version == 1) {
            return Err(HeadError::BadRequest("not exactly one Host"));
        }
        let target = request.path.unwrap_or_default();
        let target = match target.split_once("://") {
            Some((scheme, rest)) if !target.starts_with('/') => {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let same = head.header("host").is_some_and(|host| host.eq_ignore_ascii_case(authority));
                if !scheme.eq_ignore_ascii_case("http") || !same {
                    return Err(HeadError::BadRequest("a target for another host"));
                }
                if path.starts_with('/') { Cow::Borrowed(path) } else { Cow::Owned(format!("/{path}")) }
            }
            _ => Cow::Borrowed(target),
        };
        let asterisk = target == "*" && method == Method::Options;
        if !target.starts_with('/') && !asterisk {
            return Err(HeadError::BadRequest("a target that is no path"));
        }
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (&*target, None),
        };
        (head.path, head.query) = (path.to_owned(), query.map(str::to_owned));
        Ok(head)
    }

    /// The first header of that name (in any case).
    #[must_use]
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        self.headers_named(name).next()
    }

    /// All headers of that name (in any case).
    pub fn headers_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.headers.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether some header of that name lists `token`.
    fn lists(&self, name: &str, token: &str) -> bool {
        self.headers_named(name).flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
    }

    /// Whether the connection may serve another request after this one.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        match self.minor_version {
            0 => self.lists("connection", "keep-alive"),
            _ => !self.lists("connection", "close"),
        }
    }

    /// The first value of a parameter in the query, percent-decoded.
    #[must_use]
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        let pairs = self.query.as_deref()?.split('&');
        let mut values = pairs.filter_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decoded(key) == name).then_some(value)
        });
        values.next().map(percent_decoded)
    }

    /// The token of `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    }

    /// Whether the request asks to become a WebSocket.
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        self.lists("upgrade", "websocket")
    }

    /// The client's key, where the request is a sound opening handshake (RFC 6455, section 4.2.1).
    ///
    /// # Errors
    /// How it is unsound.
    pub fn websocket_key(&self) -> Result<&str, UpgradeError> {
        if self.method != Method::Get || self.minor_version != 1 || !self.lists("connection", "upgrade") {
            return Err(UpgradeError::Bad);
        }
        if self.header("sec-websocket-version") != Some("13") {
            return Err(UpgradeError::Version);
        }
        let key = self.header("sec-websocket-key").ok_or(UpgradeError::Bad)?;
        let sound = BASE64.decode(key.as_bytes()).is_ok_and(|bytes| bytes.len() == 16);
        if sound { Ok(key) } else { Err(UpgradeError::Bad) }
    }
}

/// Why a request cannot become a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeError {
    /// 426: another version of WebSocket.
    Version,
    /// 400: not a handshake.
    Bad,
}

impl UpgradeError {
    /// The response's status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            UpgradeError::Version => 426,
            UpgradeError::Bad => 400,
        }
    }

    /// The response's body.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            UpgradeError::Version => "Upgrade Required",
            UpgradeError::Bad => "Bad Request",
        }
    }
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// Until the last chunk.
    Chunked,
}

/// How long the body is that follows (RFC 9112, section 6.3, without its leniencies).
///
/// # Errors
/// Whatever two parties could read differently.
pub fn body_length(head: &Head) -> Result<BodyLength, HeadError> {
    let codings: Vec<&str> = head.headers_named("transfer-encoding").collect();
    let lengths: Vec<&str> = head.headers_named("content-length").collect();
    match (&codings[..], &lengths[..]) {
        ([], []) if head.method == Method::Post => Err(HeadError::LengthRequired),
        ([], []) => Ok(BodyLength::None),
        ([], [length]) => {
            let digits = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
            let length = length.parse().ok().filter(|_| digits);
            length.map(BodyLength::Length).ok_or(HeadError::BadRequest("Content-Length is not a number"))
        }
        ([coding], []) if coding.eq_ignore_ascii_case("chunked") && head.minor_version == 1 => Ok(BodyLength::Chunked),
        ([], _) => Err(HeadError::BadRequest("two Content-Lengths")),
        (_, []) => Err(HeadError::BadRequest("an unknown transfer coding")),
        _ => Err(HeadError::BadRequest("both Content-Length and Transfer-Encoding")),
    }
}

/// Percent-decoded, if that gives UTF-8; otherwise as it came.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |at: usize| char::from(*tail.get(at)?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (first, hex(0), hex(1)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(high * 16 + low);
                rest = &tail[2..];
            }
            _ => {
                decoded.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(decoded).map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BAD: u16 = 400;

    /// What a request is refused with; 0: more is needed; 200: it is sound.
    fn status(request: &[u8]) -> u16 {
        match parse_head(request) {
            Ok(None) => 0,
            Ok(Some(_)) => 200,
            Err(error) => error.status(),
        }
    }

    fn head(request: &str) -> Head {
        parse_head(request.as_bytes()).expect("sound").expect("complete").0
    }

    #[test]
    fn heads_are_judged() {
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
        let long_line = format!("GET /{} HTTP/1.1\r\n", "x".repeat(REQUEST_LINE_BYTES_MAX));
        let unfinished = format!("GET /{}", "x".repeat(REQUEST_LINE_BYTES_MAX));
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "y".repeat(HEAD_BYTES_MAX));
        let cases: &[(&[u8], u16)] = &[
            (b"", 0),
            (b"GET", 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n", 0),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (b"GET / HTTP/1.0\r\n\r\n", 200),
            (b"GET / HTTP/1.1\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", BAD),
            (b"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 200),
            (b"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
            (b"GET x HTTP/1.1\r\nHost: a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\nHost: a\n\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", BAD),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n", BAD),
            (b"\r\n\r\n", BAD),
            (b"\x16\x03\x01\x02\x00", BAD),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
            (long_line.as_bytes(), 414),
            (unfinished.as_bytes(), 414),
            (large.as_bytes(), 431),
            (many.as_bytes(), 431),
        ];
        for (request, expected) in cases {
            assert_eq!(status(request), *expected, "{:?}", String::from_utf8_lossy(&request[..request.len().min(80)]));
        }
    }

    #[test]
    fn parts_are_found() {
        let head = head(
            "GET /a%2fb?x=1&y=%41+b&x=2&EIO=4 HTTP/1.1\r\nHost: A\r\nAuthorization: bearer  t \r\nX: 1\r\nx: 2\r\n\r\n",
        );
        assert_eq!((head.path.as_str(), head.method), ("/a%2fb", Method::Get));
        let params = ["x", "y", "EIO", "z"].map(|name| head.query_param(name).map(Cow::into_owned));
        assert_eq!(params, [Some("1".into()), Some("A+b".into()), Some("4".into()), None]);
        assert_eq!(head.bearer(), Some("t"));
        assert_eq!(head.headers_named("X").collect::<Vec<_>>(), ["1", "2"]);
    }

    #[test]
    fn keep_alive_follows_the_version() {
        let cases = [
            ("1.1", "", true),
            ("1.1", "Connection: x, Close\r\n", false),
            ("1.0", "", false),
            ("1.0", "Connection: keep-alive\r\n", true),
        ];
        for (version, header, expected) in cases {
            let head = head(&format!("GET / HTTP/{version}\r\nHost: a\r\n{header}\r\n"));
            assert_eq!(head.keep_alive(), expected, "{version} {header}");
        }
    }

    #[test]
    fn body_lengths_are_exact() {
        let none = Ok(BodyLength::None);
        let length = |count| Ok(BodyLength::Length(count));
        let cases = [
            ("GET", "", none),
            ("POST", "", Err(411)),
            ("POST", "Content-Length: 5\r\n", length(5)),
            ("POST", "Content-Length: 18446744073709551615\r\n", length(u64::MAX)),
            ("POST", "Content-Length: 18446744073709551616\r\n", Err(BAD)),
            ("POST", "Content-Length: +5\r\n", Err(BAD)),
            ("POST", "Content-Length: 5,5\r\n", Err(BAD)),
            ("POST", "Content-Length: -1\r\n", Err(BAD)),
            ("POST", "Content-Length: \r\n", Err(BAD)),
            ("POST", "Content-Length: 5\r\nContent-Length: 5\r\n", Err(BAD)),
            ("POST", "Transfer-Encoding: chunked\r\n", Ok(BodyLength::Chunked)),
            ("POST", "Transfer-Encoding: gzip\r\n", Err(BAD)),
            ("POST", "Transfer-Encoding: chunked, gzip\r\n", Err(BAD)),
            ("POST", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(BAD)),
        ];
        for (method, header, expected) in cases {
            let head = head(&format!("{method} / HTTP/1.1\r\nHost: a\r\n{header}\r\n"));
            assert_eq!(body_length(&head).map_err(HeadError::status), expected, "{method} {header}");
        }
    }

    #[test]
    fn handshakes_are_judged() {
        let sound = "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
        let cases = [
            (sound.to_owned(), Ok("AAAAAAAAAAAAAAAAAAAAAA==")),
            (sound.replace("13", "8"), Err(UpgradeError::Version)),
            (sound.replace("AAAA==", "AA=="), Err(UpgradeError::Bad)),
            (sound.replace("Connection: keep-alive, Upgrade", "Connection: close"), Err(UpgradeError::Bad)),
            (sound.replace("Sec-WebSocket-Key", "X"), Err(UpgradeError::Bad)),
        ];
        for (headers, expected) in cases {
            let head = head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n"));
            assert!(head.wants_websocket());
            assert_eq!(head.websocket_key(), expected, "{headers}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse_head(&bytes);
        }

        #[test]
        fn a_head_in_pieces_is_the_same_head(cut in 0usize..60) {
            let request = b"GET /x?y HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\nrest";
            let (whole, length) = parse_head(request).expect("sound").expect("complete");
            prop_assert_eq!(length, request.len() - 4);
            let cut = cut.min(length - 1);
            prop_assert_eq!(parse_head(&request[..cut]), Ok(None));
            prop_assert_eq!(parse_head(&request[..length]), Ok(Some((whole, length))));
        }
    }
}
