//! A socket's first words: HTTP requests, one after another, until it becomes a WebSocket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;

use super::engine::{Engine, Protocol};
use super::linger::linger;
use super::outbox::STALL_TIMEOUT;
use super::registry::{Known, Shared, SocketEntry};
use super::streamed::{PART_BYTES, PART_TIMEOUT};
use super::{Answer, HEAD_TIMEOUT, Handshake, Pieces, Taker, polling, streamed, websocket};
use crate::proto::engineio::{NOOP, Refusal};
use crate::proto::http::{self, BodyLength, Chunks, Framing, Head, Method, Refused, Response};

/// Serves one socket from its first byte to its last.
pub(super) fn serve<P: Protocol>(socket: &Arc<TcpStream>, peer: SocketAddr, entry: &SocketEntry<P>) {
    match until_websocket(socket, peer, entry) {
        Ok((Next::Open(answer, handshake), first)) => {
            websocket::serve(&entry.shared, socket, answer, first, handshake);
        }
        Ok((Next::Upgrade(engine, begun), first)) => websocket::upgrade(&engine, socket, first, begun),
        Ok((Next::Request | Next::End, _)) => linger(socket),
        Err(error) => log::debug!("{peer}: {error}"),
    }
}

/// Answers requests until the last, and returns it with what was read behind it.
#[inline(never)] // What HTTP needs of the stack is none of that on which an idle WebSocket waits.
fn until_websocket<P: Protocol>(
    socket: &TcpStream,
    peer: SocketAddr,
    entry: &SocketEntry<P>,
) -> io::Result<(Next<P>, Vec<u8>)> {
    let mut exchange = Exchange { socket, peer, buffer: Vec::new(), shared: &entry.shared, entry };
    exchange.prepare()?;
    loop {
        let next = exchange.next()?;
        match &next {
            Next::Request => continue,
            Next::End => entry.busy(false),
            Next::Open(..) | Next::Upgrade(..) => entry.is_websocket(),
        }
        return Ok((next, exchange.buffer));
    }
}

struct Exchange<'a, P: Protocol> {
    socket: &'a TcpStream,
    peer: SocketAddr,
    /// Read, but not yet used.
    buffer: Vec<u8>,
    shared: &'a Arc<Shared<P>>,
    entry: &'a SocketEntry<P>,
}

/// What a socket is for after a request.
enum Next<P: Protocol> {
    /// The next request.
    Request,
    /// Nothing.
    End,
    /// With this answer it becomes the WebSocket of a new connection.
    Open(Vec<u8>, Handshake),
    /// It has become a WebSocket to which a polling connection changes; `false`: one that has a WebSocket already.
    Upgrade(Arc<Engine<P>>, bool),
}

/// What a request to Engine.IO is.
enum Engineio<P: Protocol> {
    /// Answered without more ado.
    Answer(Response),
    /// Opens a polling connection.
    Open,
    Poll(Arc<Engine<P>>),
    Post(Arc<Engine<P>>),
    /// Wants to be a WebSocket, with this key; for a new connection, or for one that polls.
    WebSocket(String, Option<Arc<Engine<P>>>),
    RefusedUpgrade(u16, &'static str),
}

impl<P: Protocol> Exchange<'_, P> {
    fn prepare(&self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        self.socket.set_write_timeout(Some(STALL_TIMEOUT))
    }

    /// Answers one request.
    fn next(&mut self) -> io::Result<Next<P>> {
        self.entry.busy(false);
        let head = match self.head()? {
            Ok(Some(head)) => head,
            Ok(None) => return Ok(Next::End),
            Err(response) => return self.answer(&response, false, false),
        };
        self.entry.busy(true);
        let options = &self.shared.options;
        let head_only = head.method == Method::Head;
        // The client's script lies below the same path, as with the reference server, and is a file like others.
        let engineio = is_below(&head.path, &options.path) && !head.path.ends_with(".js");
        let allowed = options.policy.check_host(&head).and_then(|()| options.policy.check_origin(&head));
        if let Err(refused) = allowed {
            log::warn!("{}: refused; {} would allow it", self.peer, refused.hint());
            return self.turn_away(&head, &refused, engineio);
        }
        let body_length = match http::body_length(&head) {
            Ok(length) => length,
            Err(error) => {
                log::debug!("{}: {}", self.peer, error.reason());
                return self.answer(&Response::error(error.status()), false, head_only);
            }
        };
        // A body that is not wanted is not read, so what follows it cannot be told apart.
        let has_body = !matches!(body_length, BodyLength::None | BodyLength::Length(0));
        let keep_alive = head.keep_alive() && !has_body;
        if head.method == Method::Options
            && self.is_shared(&head)
            && let Some(headers) = options.policy.preflight_headers(&head)
        {
            let response = Response { headers, ..Response::text(204, "") };
            return self.answer(&response, keep_alive, false);
        }
        let answer = if engineio {
            self.engineio(&head)
        } else {
            match (self.shared.http)(&head, self.peer) {
                Answer::Whole(response) => Engineio::Answer(response),
                Answer::Streamed(response, body) => {
                    return self.stream(&self.with_cors(response, &head), body, &head, keep_alive);
                }
                Answer::Taken(taker) => return self.take(taker, &head, body_length),
            }
        };
        let response = match answer {
            Engineio::Answer(response) => {
                return self.answer(&self.with_cors(response, &head), keep_alive, head_only);
            }
            Engineio::RefusedUpgrade(status, message) => return self.refuse_upgrade(status, message),
            Engineio::WebSocket(key, engine) => {
                let answer = http::switching_protocols(&derive_accept_key(key.as_bytes()));
                let Some(engine) = engine else { return Ok(Next::Open(answer, self.handshake(&head))) };
                // Before the client can know: a poll that it sends upon the answer is one of the upgrade's time.
                let begun = engine.peer.connection.outbox().begin_upgrade();
                if let Err(error) = (&mut &*self.socket).write_all(&answer) {
                    if begun {
                        engine.peer.connection.outbox().cancel_upgrade();
                    }
                    return Err(error);
                }
                return Ok(Next::Upgrade(engine, begun));
            }
            Engineio::Open => polling::open(self.shared, self.handshake(&head)),
            Engineio::Poll(engine) => {
                let response = self.with_cors(polling::poll(&engine, options.max_payload), &head);
                if self.client_has_left() {
                    engine.finish(false);
                    return Ok(Next::End);
                }
                // What an answer held that cannot be sent is lost, and the connection with it.
                return self.answer(&response, head.keep_alive(), head_only).inspect_err(|_| engine.finish(false));
            }
            Engineio::Post(engine) => {
                let received = match engine.begin_post() {
                    Some(mut posting) => {
                        let deadline = Instant::now() + engine.body_timeout();
                        let body = self.body(&head, body_length, engine.message_bytes_max(), deadline)?;
                        posting.whole = true;
                        body.map(|body| polling::receive(&engine, &body))
                    }
                    None => Err(polling::refused(Refusal::BadRequest)),
                };
                match received {
                    Ok(response) => response,
                    Err(response) => {
                        let response = self.with_cors(response, &head);
                        return self.answer(&response, false, head_only);
                    }
                }
            }
        };
        let response = self.with_cors(response, &head);
        self.answer(&response, head.keep_alive(), head_only)
    }

    /// Answers somebody who may not ask: in Engine.IO's form where that is spoken, with no word on why.
    fn turn_away(&self, head: &Head, refused: &Refused, engineio: bool) -> io::Result<Next<P>> {
        let head_only = head.method == Method::Head;
        if !engineio {
            return self.answer(&Response::error(refused.status()), false, head_only);
        }
        let refusal = match refused {
            Refused::Malformed => Refusal::BadRequest,
            Refused::Host(_) | Refused::Origin(_) => Refusal::Forbidden,
        };
        if head.wants_websocket() {
            return self.refuse_upgrade(refusal.status(), refusal.message());
        }
        self.answer(&polling::refused(refusal), false, head_only)
    }

    fn refuse_upgrade(&self, status: u16, message: &str) -> io::Result<Next<P>> {
        (&mut &*self.socket).write_all(&http::refused_upgrade(status, message))?;
        Ok(Next::End)
    }

    /// Whether the client has closed its side while its poll waited. The reference server, too, takes that for the end of
    /// the connection: what is written now, nobody reads. While the server stops, the end that is seen is its own.
    fn client_has_left(&self) -> bool {
        let peeked = self.socket.set_nonblocking(true).and_then(|()| self.socket.peek(&mut [0]));
        let left = matches!(peeked, Ok(0)) && !self.shared.stopping.load(Ordering::SeqCst);
        self.socket.set_nonblocking(false).is_err() || left
    }

    /// Answers with a body that is made while it is sent.
    fn stream(&self, response: &Response, body: Pieces, head: &Head, keep_alive: bool) -> io::Result<Next<P>> {
        let framing = if head.minor_version == 0 { Framing::UntilClosed } else { Framing::Chunked };
        let keep_alive = keep_alive && framing == Framing::Chunked;
        let body = Some(body).filter(|_| head.method != Method::Head);
        streamed::send(self.socket, response, framing, keep_alive, body)?;
        Ok(if keep_alive { Next::Request } else { Next::End })
    }

    fn handshake(&self, head: &Head) -> Handshake {
        Handshake { peer: self.peer, bearer: head.bearer().map(str::to_owned) }
    }

    /// Whether pages of other origins may read it.
    fn is_shared(&self, head: &Head) -> bool {
        let options = &self.shared.options;
        is_below(&head.path, &options.path) || options.shared_path.is_some_and(|base| is_below(&head.path, base))
    }

    fn with_cors(&self, mut response: Response, head: &Head) -> Response {
        if self.is_shared(head) {
            response.headers.extend(self.shared.options.policy.cors_headers(head));
        }
        response
    }

    /// Judges a request to Engine.IO, in the reference server's order: transport, session id, method, version.
    fn engineio(&self, head: &Head) -> Engineio<P> {
        let upgrades = head.wants_websocket();
        let refused = |refusal: Refusal| {
            if upgrades {
                Engineio::RefusedUpgrade(refusal.status(), refusal.message())
            } else {
                Engineio::Answer(polling::refused(refusal))
            }
        };
        let polls = match head.query_param("transport").as_deref() {
            Some("polling") => true,
            Some("websocket") => false,
            _ if head.method == Method::Options => return refused(Refusal::BadHandshakeMethod),
            _ => return refused(Refusal::TransportUnknown),
        };
        if polls && upgrades {
            return refused(Refusal::BadRequest);
        }
        if !polls && !upgrades && head.query_param("sid").is_none() && head.method == Method::Get {
            return refused(Refusal::BadRequest);
        }
        let Some(sid) = head.query_param("sid") else {
            if head.method != Method::Get {
                return refused(Refusal::BadHandshakeMethod);
            }
            if head.query_param("EIO").as_deref() != Some("4") {
                return refused(Refusal::UnsupportedVersion);
            }
            return if polls { Engineio::Open } else { websocket_key(head, None) };
        };
        let engine = match self.shared.by_sid(&sid) {
            Known::Open(engine) if engine.peer.connection.is_lost() => {
                engine.finish(false);
                return refused(Refusal::SidUnknown);
            }
            Known::Open(engine) => engine,
            Known::Left if polls && head.method == Method::Get => {
                self.shared.forget(&sid);
                return Engineio::Answer(Response::text(200, NOOP));
            }
            Known::Left | Known::Unknown => return refused(Refusal::SidUnknown),
        };
        match (polls, head.method) {
            (true, _) if !engine.peer.connection.outbox().polls() => refused(Refusal::BadRequest),
            (true, Method::Get) => Engineio::Poll(engine),
            (true, Method::Post) if head.header("content-type") == Some("application/octet-stream") => {
                engine.finish(false);
                refused(Refusal::BadRequest)
            }
            (true, Method::Post) => Engineio::Post(engine),
            (false, Method::Get) if upgrades => websocket_key(head, Some(engine)),
            _ => refused(Refusal::BadRequest),
        }
    }

    /// The next request's head; `Ok(None)` where the client has none, `Err` with what to answer where it is bad.
    fn head(&mut self) -> io::Result<Result<Option<Head>, Response>> {
        let deadline = Instant::now() + HEAD_TIMEOUT;
        loop {
            if !self.buffer.is_empty() {
                match http::parse_head(&self.buffer) {
                    Ok(Some((head, length))) => {
                        self.buffer.drain(..length);
                        return Ok(Ok(Some(head)));
                    }
                    Ok(None) => {}
                    Err(error) => {
                        log::debug!("{}: {}", self.peer, error.reason());
                        return Ok(Err(Response::error(error.status())));
                    }
                }
            }
            match self.read_more(deadline)? {
                More::Bytes => {}
                More::End => return Ok(Ok(None)),
                // Nothing at all was asked: an idle connection just ends.
                More::Late if self.buffer.is_empty() => return Ok(Ok(None)),
                More::Late => return Ok(Err(Response::error(408))),
            }
        }
    }

    /// A request's body of at most `bytes_max` bytes, or what to answer where it is bad.
    fn body(
        &mut self,
        head: &Head,
        length: BodyLength,
        bytes_max: usize,
        deadline: Instant,
    ) -> io::Result<Result<Vec<u8>, Response>> {
        let mut body = Vec::new();
        let mut take = |piece: &[u8]| {
            body.extend_from_slice(piece);
            Ok(())
        };
        let taken = self.pieces(head, length, bytes_max, Pace::Whole(deadline), &mut take)?;
        Ok(taken.map(|()| body))
    }

    /// Answers with what becomes of the body.
    fn take(&mut self, mut taker: Box<dyn Taker>, head: &Head, length: BodyLength) -> io::Result<Next<P>> {
        let bytes_max = taker.bytes_max();
        let taken = self.pieces(head, length, bytes_max, Pace::part(), &mut |piece| taker.take(piece))?;
        match taken {
            Ok(()) => self.answer(&self.with_cors(taker.finish(), head), head.keep_alive(), false),
            Err(response) => self.answer(&self.with_cors(response, head), false, false),
        }
    }

    /// Hands a body of at most `bytes_max` bytes on as it comes, or tells what to answer where it is bad, or not wanted.
    fn pieces(
        &mut self,
        head: &Head,
        length: BodyLength,
        bytes_max: usize,
        mut pace: Pace,
        take: &mut dyn FnMut(&[u8]) -> Result<(), Response>,
    ) -> io::Result<Result<(), Response>> {
        let mut chunks = Chunks::new(bytes_max);
        let mut left = match length {
            BodyLength::None => Some(0),
            BodyLength::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= bytes_max => Some(length),
                _ => return Ok(Err(Response::error(413))),
            },
            BodyLength::Chunked => None,
        };
        if head.header("expect").is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue")) {
            (&mut &*self.socket).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        loop {
            let (piece, done): (Vec<u8>, bool) = match &mut left {
                Some(left) => {
                    let piece: Vec<u8> = self.buffer.drain(..self.buffer.len().min(*left)).collect();
                    *left -= piece.len();
                    (piece, *left == 0)
                }
                None => match chunks.take(&self.buffer) {
                    Ok(used) => {
                        self.buffer.drain(..used);
                        (chunks.drain(), chunks.is_done())
                    }
                    Err(error) => return Ok(Err(Response::error(error.status()))),
                },
            };
            if let Err(response) = take(&piece) {
                return Ok(Err(response));
            }
            if done {
                return Ok(Ok(()));
            }
            pace.took(piece.len());
            match self.read_more(pace.deadline())? {
                More::Bytes => {}
                More::End => return Err(ErrorKind::UnexpectedEof.into()),
                More::Late => return Ok(Err(Response::error(408))),
            }
        }
    }

    fn read_more(&mut self, deadline: Instant) -> io::Result<More> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(More::Late);
            }
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let mut chunk = [0; 2048];
            match (&mut &*self.socket).read(&mut chunk) {
                Ok(0) => return Ok(More::End),
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(More::Bytes);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn answer(&self, response: &Response, keep_alive: bool, head_only: bool) -> io::Result<Next<P>> {
        (&mut &*self.socket).write_all(&response.encode(keep_alive, head_only))?;
        Ok(if keep_alive { Next::Request } else { Next::End })
    }
}

/// How fast a body must come.
enum Pace {
    /// All of it by then.
    Whole(Instant),
    /// The next [`PART_BYTES`] in [`PART_TIMEOUT`].
    Part { since: Instant, bytes: usize },
}

impl Pace {
    fn part() -> Pace {
        Pace::Part { since: Instant::now(), bytes: 0 }
    }

    fn took(&mut self, count: usize) {
        if let Pace::Part { bytes, .. } = self {
            *bytes += count;
            if *bytes >= PART_BYTES {
                *self = Pace::part();
            }
        }
    }

    fn deadline(&self) -> Instant {
        match self {
            Pace::Whole(deadline) => *deadline,
            Pace::Part { since, .. } => *since + PART_TIMEOUT,
        }
    }
}

enum More {
    Bytes,
    End,
    Late,
}

fn websocket_key<P: Protocol>(head: &Head, engine: Option<Arc<Engine<P>>>) -> Engineio<P> {
    match head.websocket_key() {
        Ok(key) => Engineio::WebSocket(key.to_owned(), engine),
        Err(error) => Engineio::RefusedUpgrade(error.status(), error.message()),
    }
}

/// Whether `path` is `base` (with or without its last slash) or lies below it.
fn is_below(path: &str, base: &str) -> bool {
    path.starts_with(base) || path == base.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_a_prefix_and_its_last_slash_may_be_missing() {
        let cases = [
            ("/socket.io/", true),
            ("/socket.io", true),
            ("/socket.io/x", true),
            ("/socket.iox", false),
            ("/", false),
            ("/x/socket.io/", false),
        ];
        for (path, expected) in cases {
            assert_eq!(is_below(path, "/socket.io/"), expected, "{path}");
        }
    }
}
