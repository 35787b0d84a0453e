//! Plain HTTP: the page, health, and what of a session is too large for a Socket.IO event, either way.

mod upload;

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::json;

use crate::auth::{AuthGuard, Verdict};
use crate::claude::version;
use crate::net::{Answer, HttpHandler};
use crate::proto::http::{Head, Method, Response};
use crate::session::error::{Code, Error};
use crate::session::export::Format;
use crate::session::manager::SessionManager;
use crate::web;

/// Tells how many clients are connected.
pub type Counter = dyn Fn() -> usize + Send + Sync;

/// Below it everything needs the token; so pages of other origins may be let in.
pub const SESSIONS: &str = "/api/sessions/";

struct Routes {
    manager: Arc<SessionManager>,
    auth: Arc<AuthGuard>,
    clients: Arc<OnceLock<Box<Counter>>>,
    /// How many files are on their way.
    uploads: Arc<AtomicUsize>,
}

/// What a path names below [`SESSIONS`].
#[derive(Debug, PartialEq, Eq)]
enum Wanted<'a> {
    /// `{id}/events/{seq}`
    Event(&'a str, u64),
    /// `{id}/export.md`, `{id}/export.jsonl`
    Export(&'a str, Format),
    /// `{id}/files`
    Files(&'a str),
}

/// Answers the requests; `clients` is set once there is a server.
#[must_use]
pub fn handler(
    manager: Arc<SessionManager>,
    auth: Arc<AuthGuard>,
    clients: Arc<OnceLock<Box<Counter>>>,
) -> Box<HttpHandler> {
    let routes = Routes { manager, auth, clients, uploads: Arc::default() };
    Box::new(move |head, peer| routes.answer(head, peer))
}

impl Routes {
    fn answer(&self, head: &Head, peer: SocketAddr) -> Answer {
        let wanted = head.path.strip_prefix(SESSIONS).and_then(wanted);
        let (allowed, is_allowed) = match wanted {
            Some(Wanted::Files(_)) => ("POST", head.method == Method::Post),
            _ => ("GET, HEAD", matches!(head.method, Method::Get | Method::Head)),
        };
        if !is_allowed {
            return Response::error(405).with_header("Allow", allowed).into();
        }
        match (head.path.as_str(), wanted) {
            ("/health", _) => self.health().into(),
            (_, Some(wanted)) => match self.authorize(head, peer) {
                Ok(()) => self.find(&wanted, head).unwrap_or_else(|error| Response::error(status_of(&error)).into()),
                Err(refused) => refused.into(),
            },
            (_, None) => web::answer(head).unwrap_or_else(|| Response::error(404)).into(),
        }
    }

    fn find(&self, wanted: &Wanted<'_>, head: &Head) -> Result<Answer, Error> {
        match *wanted {
            Wanted::Event(id, seq) => {
                let event = self.manager.get_session(id)?.event(seq)?;
                Ok(event.map_or_else(|| Response::error(404), |event| Response::json(200, &*event)).into())
            }
            Wanted::Export(id, format) => {
                let export = self.manager.get_session(id)?.export(format)?;
                let disposition = format!("attachment; filename=\"{}\"", export.file_name);
                let response =
                    Response::streamed(format.content_type()).with_header("Content-Disposition", disposition);
                Ok(Answer::Streamed(response, Box::new(export)))
            }
            Wanted::Files(id) => Ok(self.upload(id, head)),
        }
    }

    fn health(&self) -> Response {
        let (agent, version) = self.manager.agent();
        let clients = self.clients.get().map_or(0, |count| count());
        let mut health = json!({"status": "ok", "version": env!("CARGO_PKG_VERSION"), "agent": agent.name,
            "agentVersion": version, "sessions": self.manager.count(), "connections": clients});
        if let Some(warning) = version.and_then(|version| version::warning(agent, &version)) {
            health["agentWarning"] = warning.into();
        }
        Response::json(200, health.to_string())
    }

    fn authorize(&self, head: &Head, peer: SocketAddr) -> Result<(), Response> {
        match self.auth.check(peer.ip(), head.bearer(), Instant::now()) {
            Verdict::Allowed => Ok(()),
            Verdict::Unauthorized => Err(Response::error(401).with_header("WWW-Authenticate", "Bearer")),
            Verdict::RateLimited => Err(Response::error(429)),
        }
    }
}

fn wanted(path: &str) -> Option<Wanted<'_>> {
    let (session, what) = path.split_once('/')?;
    match what.split_once('/') {
        Some(("events", seq)) => Some(Wanted::Event(session, seq.parse().ok()?)),
        Some(_) => None,
        None if what == "files" => Some(Wanted::Files(session)),
        None => Some(Wanted::Export(session, Format::of(what.strip_prefix("export.")?)?)),
    }
}

fn status_of(error: &Error) -> u16 {
    match error.code {
        Code::BadRequest => 400,
        Code::InvalidSession => 404,
        Code::RateLimited => 429,
        Code::StorageFull => 507,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_events_and_exports() {
        let cases = [
            ("s/events/7", Some(Wanted::Event("s", 7))),
            ("s/events/-7", None),
            ("s/events/", None),
            ("s/events/7/", None),
            ("s/export.md", Some(Wanted::Export("s", Format::Markdown))),
            ("s/export.jsonl", Some(Wanted::Export("s", Format::JsonLines))),
            ("s/export.html", None),
            ("s/export.", None),
            ("s/export.md/", None),
            ("s/files", Some(Wanted::Files("s"))),
            ("s/files/", None),
            ("s/files/x", None),
            ("s/export", None),
            ("s/", None),
            ("s", None),
        ];
        for (path, expected) in cases {
            assert_eq!(wanted(path), expected, "{path}");
        }
    }
}
