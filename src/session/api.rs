//! The Socket.IO events of the wire contract, checked and handed to the manager.
//!
//! Clients are held to the contract: a missing or wrongly typed field is `bad_request` and named; unknown fields are
//! ignored, as real clients send them. Everything has an answer: the acknowledgement, or `serverError`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{Code, Error};
use super::events::{EVENT_BYTES_MAX, InvalidSession, Summary, json};
use super::fanout::{Reply, Stream, Viewer};
use super::fields::Fields;
use super::files::Files;
use super::history::PAGE_EVENTS_MAX;
use super::manager::{SessionManager, Wish};
use super::plain::{TITLE_CHARS_MAX, shortened};
use super::questions::{Answer, Decision};
use super::rules::Rules;
use super::session::Session;
use crate::auth::{AuthGuard, Verdict};
use crate::net::{App, Budget, Client, ConnectError, Event, Handshake};
use crate::store::Cursor;

/// What is searched for may be this long.
const QUERY_BYTES_MAX: usize = 200;

/// Bytes of sessions in one page of a list.
const LIST_BYTES_MAX: usize = EVENT_BYTES_MAX - 100_000;

/// Sessions in one page of a list.
const LIST_MAX: usize = 200;

/// Events that one connection may send in a second; as many may come at once.
const EVENTS_PER_SECOND: u32 = 50;

/// Sessions that one connection watches at the same time.
const WATCHED_MAX: usize = 100;

/// The events of the contract, on top of a manager.
pub struct Api {
    manager: Arc<SessionManager>,
    auth: Arc<AuthGuard>,
    rules: Rules,
}

/// What is known of one connected client.
pub struct ClientState {
    viewer: Viewer,
    watched: Vec<Arc<Session>>,
    budget: Budget,
}

impl Api {
    /// The contract for this manager.
    #[must_use]
    pub fn new(manager: Arc<SessionManager>, auth: Arc<AuthGuard>, rules: Rules) -> Api {
        Api { manager, auth, rules }
    }

    fn dispatch(&self, client: &mut ClientState, event: &Event, data: &Value, reply: Reply) -> Result<(), Refusal> {
        // Everything that may fail before something happens is decided first; then `reply` goes where the answer is made.
        macro_rules! given {
            ($value:expr) => {
                match $value {
                    Ok(value) => value,
                    Err(error) => return refuse(reply, error),
                }
            };
        }
        let fields = given!(Fields::of(data));
        match event.name.as_str() {
            "askClaudeCode" => {
                let id = given!(fields.text("sessionId"));
                let draft = given!(fields.draft(&event.attachments));
                let session = match self.manager.get_session(id) {
                    Ok(session) => {
                        given!(client.watch(&session));
                        if session.attach(&client.viewer) { Ok(session) } else { Err(Error::invalid_session()) }
                    }
                    Err(error) => Err(error),
                };
                match session {
                    Ok(session) => {
                        // Before its files are stored, which would stay.
                        given!(session.may_be_asked());
                        let ask = given!(draft.into_ask(&Files::of(&self.rules.data_dir, &session.id)));
                        log::debug!("session {id}: asked {:?}", ask.text);
                        session.ask(ask, reply);
                    }
                    Err(error) => {
                        if error.code == Code::InvalidSession && client.viewer.stream == Stream::Text {
                            let answer = InvalidSession { session_id: id, error: "Invalid session ID", done: true };
                            client.viewer.emit("claudeResponse", &answer);
                        }
                        return refuse(reply, error);
                    }
                }
            }
            "createSession" => {
                let choices = given!(self.rules.choices(&fields, self.manager.defaults()));
                given!(client.may_watch_more());
                if let Some(session) = self.manager.create_session(choices, reply) {
                    session.attach(&client.viewer);
                    client.watched_now(session);
                }
            }
            "resumeSession" => {
                let id = given!(fields.text("sessionId"));
                let after = given!(fields.after());
                let leave_others = given!(fields.flag("leaveOthers"));
                if leave_others {
                    // Before the acknowledgement, behind which nothing of the others may come; but not for a refusal.
                    let session = given!(self.session(&fields));
                    given!(session.may_resume(after.as_ref()));
                    client.leave_all(&self.manager, Some(id));
                } else {
                    given!(client.may_watch(id));
                }
                if let Some(session) = self.manager.resume_session(id, &client.viewer, after.as_ref(), reply) {
                    client.watched_now(session);
                }
            }
            "getSession" => {
                let session = given!(self.session(&fields));
                session.details(reply);
            }
            "listSessions" => {
                let listed = given!(self.list(&fields));
                reply.ok(&listed);
            }
            "getHistory" => {
                let session = given!(self.session(&fields));
                let range = given!(fields.range());
                let limit = given!(fields.number("limit")).unwrap_or(PAGE_EVENTS_MAX as u64);
                session.history(range, usize::try_from(limit).unwrap_or(PAGE_EVENTS_MAX), reply);
            }
            "interruptClaude" => {
                let session = given!(self.session(&fields));
                let prompt_id = given!(fields.optional_text("promptId"));
                let clear_queue = given!(fields.flag("clearQueue"));
                session.interrupt(prompt_id, clear_queue, reply);
            }
            "cancelPrompt" => {
                let session = given!(self.session(&fields));
                let prompt_id = given!(fields.text("promptId"));
                session.cancel(prompt_id, reply);
            }
            "answerPermission" => {
                let session = given!(self.session(&fields));
                let answer = given!(self.answer(&fields, client));
                session.answer(&answer, reply);
            }
            "closeSession" => {
                let id = given!(fields.text("sessionId"));
                self.manager.close_session(id, reply);
            }
            "deleteSession" => {
                let id = given!(fields.text("sessionId"));
                self.manager.delete_session(id, reply);
            }
            "forkSession" => {
                let id = given!(fields.text("sessionId"));
                self.manager.fork_session(id, reply);
            }
            "renameSession" => {
                let session = given!(self.session(&fields));
                let title = shortened(given!(fields.text("title")), TITLE_CHARS_MAX);
                if title.is_empty() {
                    return refuse(reply, Error::field("title", "is empty"));
                }
                session.rename(&title, reply);
            }
            "listDirectories" => {
                let path = given!(fields.optional_text("path"));
                let found = given!(self.rules.directories(path, &self.manager.defaults().cwd));
                reply.ok(&found);
            }
            other => match given!(self.rules.control(other, &fields)) {
                Some(control) => given!(self.session(&fields)).control(control, reply),
                None => {
                    let name: String = other.chars().take(100).collect();
                    return refuse(reply, Error::new(Code::UnknownEvent, format!("there is no event {name}")));
                }
            },
        }
        Ok(())
    }

    fn session(&self, fields: &Fields<'_>) -> Result<Arc<Session>, Error> {
        self.manager.get_session(fields.text("sessionId")?)
    }

    fn list(&self, fields: &Fields<'_>) -> Result<Listed, Error> {
        let query = fields.optional_text("query")?.map(str::trim).filter(|query| !query.is_empty());
        if query.is_some_and(|query| query.len() > QUERY_BYTES_MAX) {
            return Err(Error::field("query", "is too long"));
        }
        let limit = fields.number("limit")?.unwrap_or(LIST_MAX as u64).clamp(1, LIST_MAX as u64);
        // The cursor names the last session of the page before: `LAST_ACTIVITY:ID`.
        let parse = |cursor: &str| {
            let (time, id) = cursor.split_once(':')?;
            let last_activity = time.parse().ok().filter(|time| i64::try_from(*time).is_ok())?;
            Some(Cursor { last_activity, id: id.to_owned() })
        };
        let cursor = match fields.optional_text("cursor")? {
            None => None,
            Some(cursor) => {
                Some(parse(cursor).ok_or_else(|| Error::field("cursor", "is not one that listSessions gave"))?)
            }
        };
        let limit = usize::try_from(limit).unwrap_or(LIST_MAX);
        let page = self.manager.list_sessions(query, cursor.as_ref(), limit)?;
        let (mut sessions, mut bytes) = (page.sessions, 0);
        let fits = sessions.iter().take_while(|summary| {
            bytes += json(summary).len();
            bytes <= LIST_BYTES_MAX
        });
        let fits = fits.count().max(1);
        let more = page.more || sessions.len() > fits;
        sessions.truncate(fits);
        let last = sessions.last().filter(|_| more);
        let cursor = last.map(|summary| format!("{}:{}", summary.last_activity, summary.session_id));
        Ok(Listed { ok: true, sessions, cursor })
    }

    fn answer(&self, fields: &Fields<'_>, client: &ClientState) -> Result<Answer, Error> {
        let request_id = fields.text("requestId")?.to_owned();
        let decision = match fields.text("behavior")? {
            "allow" => Decision::Allow {
                updated_input: fields.raw("updatedInput", Value::is_object, "is not an object")?,
                updated_permissions: self.rules.permission_updates(fields)?,
            },
            "deny" => Decision::Deny {
                message: fields.optional_text("message")?.unwrap_or("The user does not want this.").to_owned(),
                interrupt: fields.flag("interrupt")?,
            },
            _ => return Err(Error::field("behavior", "is neither allow nor deny")),
        };
        Ok(Answer { request_id, decision, by: client.viewer.name() })
    }
}

impl App for Api {
    type Client = ClientState;

    fn authorize(&self, handshake: &Handshake, auth: &Map<String, Value>) -> Result<(), ConnectError> {
        let token = match auth.get("token") {
            Some(Value::String(token)) => Some(token.as_str()),
            Some(_) => None,
            None => handshake.bearer.as_deref(),
        };
        let address: IpAddr = handshake.peer.ip();
        match self.auth.check(address, token, Instant::now()) {
            Verdict::Allowed => {}
            Verdict::Unauthorized => {
                log::warn!("{}: a client without the right token was refused", handshake.peer);
                return Err(refused(&Error::new(Code::Unauthorized, "unauthorized")));
            }
            Verdict::RateLimited => return Err(refused(&Error::new(Code::RateLimited, "rate_limited"))),
        }
        Wanted::of(auth).map(drop).map_err(|error| refused(&error))
    }

    fn recovers(&self, auth: &Map<String, Value>) -> bool {
        auth.get("recover") == Some(&Value::Bool(true))
    }

    fn connected(
        &self,
        client: Client,
        auth: &Map<String, Value>,
        accept: &dyn Fn(),
    ) -> Result<ClientState, ConnectError> {
        let wanted = Wanted::of(auth).map_err(|error| refused(&error))?;
        let viewer = Viewer { key: client.key, sink: client.sink, stream: wanted.stream, recovers: client.recovers };
        let registered = self.manager.register_session(viewer.clone(), wanted.wish, accept);
        let session = registered.map_err(|error| refused(&error))?;
        Ok(ClientState {
            viewer,
            watched: vec![session],
            budget: Budget::full(EVENTS_PER_SECOND, EVENTS_PER_SECOND, Instant::now()),
        })
    }

    fn event(&self, client: &mut ClientState, event: Event) {
        let reply = Reply::new(client.viewer.clone(), event.ack, &event.name);
        if !client.budget.take(Instant::now()) {
            let message = format!("more than {EVENTS_PER_SECOND} events in a second");
            return reply.fail(&Error::new(Code::RateLimited, message));
        }
        let args = match &event.args {
            Ok(args) => args,
            Err(bad) => {
                let field = bad.field.as_deref().unwrap_or("data");
                return reply.fail(&Error::field(field, "holds a number out of range, or half a surrogate pair"));
            }
        };
        let none = Value::Null;
        let data = args.first().unwrap_or(&none);
        if let Err(refusal) = self.dispatch(client, &event, data, reply) {
            let (reply, error) = *refusal;
            log::debug!("{} refused: {}", event.name, error.message);
            reply.fail(&error);
        }
    }

    fn disconnected(&self, mut client: ClientState) {
        client.leave_all(&self.manager, None);
    }
}

impl ClientState {
    fn may_watch_more(&mut self) -> Result<(), Error> {
        self.forget_deleted();
        if self.watched.len() < WATCHED_MAX {
            return Ok(());
        }
        let message = format!("a connection watches at most {WATCHED_MAX} sessions: leave some with leaveOthers");
        Err(Error::new(Code::RateLimited, message))
    }

    fn may_watch(&mut self, id: &str) -> Result<(), Error> {
        if self.watched.iter().any(|watched| &*watched.id == id) { Ok(()) } else { self.may_watch_more() }
    }

    fn watch(&mut self, session: &Arc<Session>) -> Result<(), Error> {
        self.may_watch(&session.id)?;
        self.watched_now(session.clone());
        Ok(())
    }

    fn forget_deleted(&mut self) {
        self.watched.retain(|session| !session.is_deleted());
    }

    fn watched_now(&mut self, session: Arc<Session>) {
        self.forget_deleted();
        if self.watched.iter().all(|watched| watched.id != session.id) {
            self.watched.push(session);
        }
    }

    fn leave_all(&mut self, manager: &SessionManager, but: Option<&str>) {
        let (stay, leave) = self.watched.drain(..).partition(|session| but == Some(&*session.id));
        self.watched = stay;
        for session in leave {
            let session: Arc<Session> = session;
            manager.leave(&session, self.viewer.key);
        }
    }
}

impl Viewer {
    /// How other viewers see this one.
    fn name(&self) -> String {
        format!("client-{}", self.key)
    }
}

fn refused(error: &Error) -> ConnectError {
    let mut data = Map::from_iter([("code".to_owned(), error.code.name().into())]);
    data.extend(error.details.clone());
    ConnectError { message: error.message.clone(), data: Value::Object(data) }
}

/// An event that is not served: why, and whom to tell.
type Refusal = Box<(Reply, Error)>;

fn refuse<T>(reply: Reply, error: Error) -> Result<T, Refusal> {
    Err(Box::new((reply, error)))
}

/// What CONNECT asks for.
struct Wanted {
    stream: Stream,
    wish: Wish,
}

impl Wanted {
    fn of(auth: &Map<String, Value>) -> Result<Wanted, Error> {
        let fields = Fields::of_map(auth);
        let stream = match fields.optional_text("stream")? {
            None | Some("text") => Stream::Text,
            Some("events") => Stream::Events,
            Some(_) => return Err(Error::field("stream", "is neither text nor events")),
        };
        let session_id = fields.optional_text("sessionId")?.map(str::to_owned);
        Ok(Wanted { stream, wish: Wish { session_id, after: fields.after()? } })
    }
}

#[derive(Serialize)]
struct Listed {
    ok: bool,
    sessions: Vec<Summary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
}
