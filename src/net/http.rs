//! A connection's first words: HTTP, until it becomes a WebSocket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::handshake::derive_accept_key;

use super::outbox::STALL_TIMEOUT;
use super::registry::Registered;
use super::{App, HEAD_TIMEOUT, Handshake, websocket};
use crate::proto::engineio::Refusal;
use crate::proto::http::{self, BodyLength, Head, Method, Response};

/// Serves one connection from its first byte to its last.
pub(super) fn serve<A: App>(socket: &Arc<TcpStream>, peer: SocketAddr, registered: Registered, app: &A) {
    let mut exchange = Exchange { socket, peer, buffer: Vec::new() };
    if let Err(error) = exchange.prepare() {
        return log::debug!("{peer}: {error}");
    }
    match exchange.serve(&registered) {
        Ok(Some(handshake)) => {
            let first = std::mem::take(&mut exchange.buffer);
            websocket::serve(socket, first, handshake, registered, app);
        }
        Ok(None) => {}
        Err(error) => log::debug!("{peer}: {error}"),
    }
}

struct Exchange<'a> {
    socket: &'a TcpStream,
    peer: SocketAddr,
    /// Read, but not yet used.
    buffer: Vec<u8>,
}

impl Exchange<'_> {
    fn prepare(&self) -> io::Result<()> {
        self.socket.set_nodelay(true)?;
        self.socket.set_write_timeout(Some(STALL_TIMEOUT))
    }

    /// Answers requests until the connection ends, or is a WebSocket.
    fn serve(&mut self, registered: &Registered) -> io::Result<Option<Handshake>> {
        let options = &registered.shared.options;
        loop {
            let head = match self.head()? {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(None),
                Err(response) => {
                    self.answer(&response, false, false)?;
                    return Ok(None);
                }
            };
            let head_only = head.method == Method::Head;
            let allowed = options.policy.check_host(&head).and_then(|()| options.policy.check_origin(&head));
            if let Err(refused) = allowed {
                log::warn!("{}: refused; {} would allow it", self.peer, refused.hint());
                self.answer(&Response::error(refused.status()), false, head_only)?;
                return Ok(None);
            }
            let body = match http::body_length(&head) {
                Ok(body) => body,
                Err(error) => {
                    log::debug!("{}: {}", self.peer, error.reason());
                    self.answer(&Response::error(error.status()), false, head_only)?;
                    return Ok(None);
                }
            };
            // A request's body is not read here, so what follows it cannot be told apart.
            let has_body = !matches!(body, BodyLength::None | BodyLength::Length(0));
            let keep_alive = head.keep_alive() && !has_body;
            if is_below(&head.path, &options.path) {
                match engine(&head) {
                    Engine::Upgrade(accept_key) => {
                        (&mut &*self.socket).write_all(&http::switching_protocols(&accept_key))?;
                        let bearer = head.bearer().map(str::to_owned);
                        return Ok(Some(Handshake { peer: self.peer, bearer }));
                    }
                    Engine::RefusedUpgrade(status, message) => {
                        (&mut &*self.socket).write_all(&http::refused_upgrade(status, message))?;
                        return Ok(None);
                    }
                    Engine::Refused(refusal) => {
                        let response = Response::json(refusal.status(), refusal.json());
                        self.answer(&response, keep_alive, head_only)?;
                    }
                }
            } else {
                let response = (registered.shared.http)(&head, self.peer);
                self.answer(&response, keep_alive, head_only)?;
            }
            if !keep_alive {
                return Ok(None);
            }
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
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left))?;
            let mut chunk = [0; 2048];
            match (&mut &*self.socket).read(&mut chunk) {
                Ok(0) => return Ok(Ok(None)),
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                // Nothing at all was asked: an idle connection just ends.
                let idle = self.buffer.is_empty();
                return Ok(if idle { Ok(None) } else { Err(Response::error(408)) });
            }
        }
    }

    fn answer(&self, response: &Response, keep_alive: bool, head_only: bool) -> io::Result<()> {
        (&mut &*self.socket).write_all(&response.encode(keep_alive, head_only))
    }
}

/// Whether `path` is `base` (with or without its last slash) or lies below it.
fn is_below(path: &str, base: &str) -> bool {
    path.starts_with(base) || path == base.trim_end_matches('/')
}

enum Engine {
    Upgrade(String),
    RefusedUpgrade(u16, &'static str),
    Refused(Refusal),
}

/// Judges a request to Engine.IO, in the reference server's order: transport, session id, method, version.
fn engine(head: &Head) -> Engine {
    let upgrades = head.wants_websocket();
    let refused = |refusal: Refusal| {
        if upgrades { Engine::RefusedUpgrade(refusal.status(), refusal.message()) } else { Engine::Refused(refusal) }
    };
    match head.query_param("transport").as_deref() {
        Some("websocket") => {}
        // The other transport, polling, is not served.
        _ => return refused(Refusal::TransportUnknown),
    }
    if head.query_param("sid").is_some() {
        return refused(Refusal::SidUnknown);
    }
    if head.method != Method::Get {
        return refused(Refusal::BadHandshakeMethod);
    }
    if !upgrades {
        return Engine::Refused(Refusal::BadRequest);
    }
    if head.query_param("EIO").as_deref() != Some("4") {
        return refused(Refusal::UnsupportedVersion);
    }
    match head.websocket_key() {
        Ok(key) => Engine::Upgrade(derive_accept_key(key.as_bytes())),
        Err(error) => Engine::RefusedUpgrade(error.status(), error.message()),
    }
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
