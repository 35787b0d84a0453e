//! A raw Socket.IO v5 client over a WebSocket, written apart from the server's codecs so that both cannot be
//! wrong in the same way. It keeps everything it gets, in the order of arrival.

use std::{
    collections::HashMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use serde_json::{Value, json};
use tungstenite::{
    Bytes, HandshakeError, Message, WebSocket,
    client::IntoClientRequest,
    http::{HeaderName, HeaderValue},
    protocol::{Role, WebSocketConfig},
};

use super::DEADLINE;

/// Where Engine.IO is served.
pub const PATH: &str = "/socket.io/?EIO=4&transport=websocket";

/// What came in on the WebSocket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A text message: an Engine.IO packet.
    Text(String),
    /// A binary message: an attachment.
    Binary(Vec<u8>),
    /// The server closed the WebSocket, with this code if it gave one.
    Close(Option<u16>),
    /// The connection is over: orderly, or with an error.
    Ended(Result<(), String>),
}

/// A [`Frame`] and when it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// When it had been read.
    pub at: Instant,
    /// What came.
    pub frame: Frame,
}

/// An EVENT of the main namespace.
#[derive(Clone, Debug)]
pub struct Event {
    /// When it had been read, with all its attachments.
    pub at: Instant,
    /// Its name.
    pub name: String,
    /// Its first argument, `Null` where there is none.
    pub data: Value,
    /// All its arguments (with connection state recovery the last one is the offset).
    pub args: Vec<Value>,
    /// The packet as it came.
    pub raw: String,
    /// The binary messages that belong to it.
    pub attachments: Vec<Vec<u8>>,
}

/// One connection of one client. It answers pings by itself. Dropping it ends the connection without a word.
pub struct Client {
    /// The `data` of the CONNECT reply (`sid`, `pid`); `Null` before that.
    pub connected: Value,
    /// The Engine.IO open packet's data.
    pub open: Value,
    shared: Arc<Shared>,
    writer: Mutex<WebSocket<Half>>,
    stream: Half,
    reader: Option<JoinHandle<()>>,
    ack_count: AtomicU64,
    frames_taken: Mutex<usize>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled on everything that comes in, and when reading is to go on.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: Vec<Received>,
    events: Vec<Event>,
    acks: HashMap<u64, Value>,
    connected: Option<Result<Value, Value>>,
    pings: usize,
    ended: bool,
    reading_paused: bool,
    pongs_off: bool,
    /// An event that waits for its attachments, and how many are missing.
    incomplete: Option<(Event, usize)>,
}

/// A socket that two WebSocket states share: one reads, and writes what the protocol itself asks for; the other
/// writes what the test sends. Each write is of whole frames and is done under one lock.
#[derive(Clone)]
struct Half {
    stream: Arc<TcpStream>,
    write_lock: Arc<Mutex<()>>,
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self.stream).read(buffer)
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _whole = self.write_lock.lock();
        (&*self.stream).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Client {
    /// Opens the transport and connects to the main namespace.
    ///
    /// # Panics
    /// When either is refused.
    pub fn connect(port: u16, auth: Value) -> Client {
        Client::try_connect(port, auth).unwrap_or_else(|refusal| panic!("CONNECT refused: {refusal}"))
    }

    /// Opens the transport and connects to the main namespace, or gives the data of the CONNECT_ERROR.
    ///
    /// # Panics
    /// When the transport is refused.
    pub fn try_connect(port: u16, auth: Value) -> Result<Client, Value> {
        let mut client = Client::open(port, &[]).unwrap_or_else(|refusal| panic!("upgrade refused: {refusal:?}"));
        client.send_connect(&auth)?;
        Ok(client)
    }

    /// Opens the transport only, with these headers on top of or in place of the usual ones.
    pub fn open(port: u16, headers: &[(&str, &str)]) -> Result<Client, HttpAnswer> {
        Client::open_path(port, PATH, headers)
    }

    /// As [`open`](Self::open), with another path or query.
    pub fn open_path(port: u16, path: &str, headers: &[(&str, &str)]) -> Result<Client, HttpAnswer> {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
        stream.set_nodelay(true).expect("a live socket");
        // A write that nobody reads must fail in the end, not hang the test.
        stream.set_write_timeout(Some(DEADLINE)).expect("a live socket");
        let stream = Half { stream: Arc::new(stream), write_lock: Arc::default() };
        let mut request = format!("ws://127.0.0.1:{port}{path}").into_client_request().expect("a good address");
        for (name, value) in headers {
            let name = HeaderName::from_str(name).expect("a header name");
            request.headers_mut().insert(name, HeaderValue::from_str(value).expect("a header value"));
        }
        // A write buffer of nothing sends each frame whole and at once.
        let config = WebSocketConfig::default().write_buffer_size(0).max_message_size(None).max_frame_size(None);
        let socket = match tungstenite::client::client_with_config(request, stream.clone(), Some(config)) {
            Ok((socket, _)) => socket,
            Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                return Err(HttpAnswer::from_upgrade(*answer));
            }
            Err(error) => panic!("the WebSocket handshake failed: {error}"),
        };
        let writer = WebSocket::from_raw_socket(stream.clone(), Role::Client, Some(config));
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new() });
        let reader = {
            let shared = shared.clone();
            let work = move || read_loop(socket, &shared);
            thread::Builder::new().name("client-reader".to_owned()).spawn(work).expect("a thread")
        };
        let mut client = Client {
            connected: Value::Null,
            open: Value::Null,
            shared,
            writer: Mutex::new(writer),
            stream,
            reader: Some(reader),
            ack_count: AtomicU64::new(0),
            frames_taken: Mutex::new(0),
        };
        client.open = match client.next_frame() {
            Frame::Text(text) if text.starts_with('0') => {
                serde_json::from_str(&text[1..]).expect("JSON in the open packet")
            }
            other => panic!("not the open packet: {other:?}"),
        };
        Ok(client)
    }

    /// Sends CONNECT and waits for its answer; the data of a CONNECT_ERROR is the error.
    pub fn send_connect(&mut self, auth: &Value) -> Result<(), Value> {
        let auth = if auth.is_null() { String::new() } else { auth.to_string() };
        self.send_raw(&format!("40{auth}"));
        let answer = self.wait("the answer to CONNECT", |state| state.connected.take());
        self.connected = answer?;
        Ok(())
    }

    /// Waits for `sessionRegistered` and gives its data.
    pub fn registered(&self) -> Value {
        self.wait_event("sessionRegistered", |_| true)
    }

    /// The id of the session it is attached to.
    pub fn session_id(&self) -> String {
        self.registered()["sessionId"].as_str().expect("a session id").to_owned()
    }

    /// Sends a text message as it is.
    pub fn send_raw(&self, text: &str) {
        self.send(Message::text(text));
    }

    /// Sends a binary message as it is.
    pub fn send_raw_binary(&self, bytes: &[u8]) {
        self.send(Message::binary(Bytes::copy_from_slice(bytes)));
    }

    /// Writes bytes to the socket, past all WebSocket framing.
    pub fn send_bytes(&self, bytes: &[u8]) {
        let _ = self.stream.clone().write(bytes);
    }

    fn send(&self, message: Message) {
        // What the server makes of it, and whether it is still there, is for the test to see in what comes back.
        let _ = self.writer.lock().send(message);
    }

    /// Sends an event without asking for an acknowledgement.
    pub fn emit(&self, name: &str, data: Value) {
        self.send_raw(&format!("42{}", json!([name, data])));
    }

    /// Sends an event and asks for an acknowledgement, to be waited for with [`wait_ack`](Self::wait_ack).
    pub fn start_emit(&self, name: &str, data: Value) -> u64 {
        let id = self.ack_count.fetch_add(1, Ordering::Relaxed);
        self.send_raw(&format!("42{id}{}", json!([name, data])));
        id
    }

    /// As [`start_emit`](Self::start_emit), with attachments, which `data` names as `{"_placeholder": true, "num": N}`.
    pub fn start_emit_binary(&self, name: &str, data: Value, attachments: &[&[u8]]) -> u64 {
        let id = self.ack_count.fetch_add(1, Ordering::Relaxed);
        self.send_raw(&format!("45{}-{id}{}", attachments.len(), json!([name, data])));
        for attachment in attachments {
            self.send_raw_binary(attachment);
        }
        id
    }

    /// The acknowledgement of an event: its first argument.
    ///
    /// # Panics
    /// When it did not come within [`DEADLINE`] or the connection ended.
    pub fn wait_ack(&self, id: u64) -> Value {
        self.wait(&format!("acknowledgement {id}"), |state| state.acks.remove(&id))
    }

    /// Whether the acknowledgement of an event has come by now.
    pub fn has_ack(&self, id: u64) -> bool {
        self.shared.state.lock().acks.contains_key(&id)
    }

    /// As [`wait_ack`](Self::wait_ack); none where the connection ended before it came.
    pub fn try_wait_ack(&self, id: u64) -> Option<Value> {
        self.try_wait(DEADLINE, |state| state.acks.remove(&id))
    }

    /// Sends an event and waits for its acknowledgement.
    pub fn emit_with_ack(&self, name: &str, data: Value) -> Value {
        self.wait_ack(self.start_emit(name, data))
    }

    /// As [`emit_with_ack`](Self::emit_with_ack), where the answer must be `ok: true`.
    pub fn must(&self, name: &str, data: Value) -> Value {
        let ack = self.emit_with_ack(name, data);
        assert_eq!(ack["ok"], true, "{name} refused: {ack}");
        ack
    }

    /// As [`emit_with_ack`](Self::emit_with_ack), where the answer must be `ok: false`: gives its `error`.
    pub fn must_fail(&self, name: &str, data: Value) -> Value {
        let ack = self.emit_with_ack(name, data);
        assert_eq!(ack["ok"], false, "{name} went through: {ack}");
        ack["error"].clone()
    }

    /// Asks and waits for the acknowledgement; gives the `promptId`.
    pub fn ask(&self, session_id: &str, prompt: &str) -> String {
        let ack = self.must("askClaudeCode", json!({"sessionId": session_id, "prompt": prompt}));
        ack["promptId"].as_str().expect("a promptId in the acknowledgement").to_owned()
    }

    /// Waits for the `claudeResponse` of a prompt.
    pub fn wait_response(&self, prompt_id: &str) -> Value {
        self.wait_event("claudeResponse", |data| data["promptId"] == prompt_id)
    }

    /// Asks and waits for the `claudeResponse`.
    pub fn ask_and_wait(&self, session_id: &str, prompt: &str) -> Value {
        self.wait_response(&self.ask(session_id, prompt))
    }

    /// Waits for the first `claudeStreamChunk` of a prompt.
    pub fn wait_chunk(&self, prompt_id: &str) -> Value {
        self.wait_event("claudeStreamChunk", |data| data["promptId"] == prompt_id)
    }

    /// The chunks of a prompt so far.
    pub fn chunks(&self, prompt_id: &str) -> Vec<String> {
        let events = self.events();
        let of_prompt =
            events.iter().filter(|event| event.name == "claudeStreamChunk" && event.data["promptId"] == prompt_id);
        of_prompt.map(|event| event.data["text"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// The first event of that name, ever, for which `wanted` is true; waits for it where it has not come.
    ///
    /// # Panics
    /// When it did not come within [`DEADLINE`] or the connection ended.
    pub fn wait_event(&self, name: &str, wanted: impl FnMut(&Value) -> bool) -> Value {
        self.wait_event_from(0, name, wanted).1
    }

    /// As [`wait_event`](Self::wait_event), looking from the `from`th event on; gives the event's place too.
    pub fn wait_event_from(&self, from: usize, name: &str, mut wanted: impl FnMut(&Value) -> bool) -> (usize, Value) {
        let mut at = from;
        self.wait(&format!("event {name}"), |state| {
            while at < state.events.len() {
                let event = &state.events[at];
                if event.name == name && wanted(&event.data) {
                    return Some((at, event.data.clone()));
                }
                at += 1;
            }
            None
        })
    }

    /// As [`wait_event_from`](Self::wait_event_from); none where the connection or the time ended before it came.
    pub fn try_wait_event_from(
        &self,
        from: usize,
        patience: Duration,
        mut wanted: impl FnMut(&Event) -> bool,
    ) -> Option<(usize, Event)> {
        let mut at = from;
        self.try_wait(patience, |state| {
            while at < state.events.len() {
                if wanted(&state.events[at]) {
                    return Some((at, state.events[at].clone()));
                }
                at += 1;
            }
            None
        })
    }

    /// Every event so far.
    pub fn events(&self) -> Vec<Event> {
        self.shared.state.lock().events.clone()
    }

    /// The data of every event of one name so far.
    pub fn events_named(&self, name: &str) -> Vec<Value> {
        self.events().into_iter().filter(|event| event.name == name).map(|event| event.data).collect()
    }

    /// How many events have come: a place for [`wait_event_from`](Self::wait_event_from) to look from.
    pub fn mark(&self) -> usize {
        self.shared.state.lock().events.len()
    }

    /// Every frame so far, pings included.
    pub fn frames(&self) -> Vec<Received> {
        self.shared.state.lock().frames.clone()
    }

    /// The next frame that this method has not given yet, pings included.
    ///
    /// # Panics
    /// When none came within [`DEADLINE`].
    pub fn next_frame(&self) -> Frame {
        self.next_received().frame
    }

    /// As [`next_frame`](Self::next_frame), with its time.
    pub fn next_received(&self) -> Received {
        let mut taken = self.frames_taken.lock();
        let at = *taken;
        let received = self.wait("another frame", |state| state.frames.get(at).cloned());
        *taken += 1;
        received
    }

    /// Waits for that many pings in all.
    pub fn wait_pings(&self, count: usize) {
        self.wait("pings", |state| (state.pings >= count).then_some(()));
    }

    /// Waits until the connection is over; gives the close code, if the server sent a close frame with one.
    ///
    /// # Panics
    /// When it is open after [`DEADLINE`].
    pub fn wait_closed(&self) -> Option<u16> {
        let closes = |received: &Received| match received.frame {
            Frame::Close(code) => Some(code),
            _ => None,
        };
        self.wait("the end of the connection", |state| {
            state.ended.then(|| state.frames.iter().find_map(closes).flatten())
        })
    }

    /// Whether the connection is over.
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().ended
    }

    /// Stops answering pings, as a client that has lost its network does.
    pub fn stop_pongs(&self) {
        self.shared.state.lock().pongs_off = true;
    }

    /// Stops taking bytes from the socket; up to one message more may come in. Pings go unanswered too.
    pub fn pause_reading(&self) {
        self.shared.state.lock().reading_paused = true;
    }

    /// Goes on after [`pause_reading`](Self::pause_reading).
    pub fn resume_reading(&self) {
        self.shared.state.lock().reading_paused = false;
        self.shared.changed.notify_all();
    }

    /// Leaves the namespace (`41`) and leaves the connection open.
    pub fn disconnect(&self) {
        self.send_raw("41");
    }

    /// Starts the closing handshake of the WebSocket.
    pub fn close(&self) {
        let _ = self.writer.lock().close(None);
    }

    /// Ends the connection without a word.
    pub fn kill(&self) {
        let _ = self.stream.stream.shutdown(Shutdown::Both);
    }

    fn wait<T>(&self, what: &str, look: impl FnMut(&mut State) -> Option<T>) -> T {
        self.try_wait(DEADLINE, look).unwrap_or_else(|| {
            let state = self.shared.state.lock();
            let last = &state.frames[state.frames.len().saturating_sub(20)..];
            panic!("waited for {what} (connection ended: {}); the last frames: {last:#?}", state.ended);
        })
    }

    fn try_wait<T>(&self, patience: Duration, mut look: impl FnMut(&mut State) -> Option<T>) -> Option<T> {
        let until = Instant::now() + patience;
        let mut state: MutexGuard<'_, State> = self.shared.state.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            if state.ended || self.shared.changed.wait_until(&mut state, until).timed_out() {
                return None;
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.kill();
        self.resume_reading();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read_loop(mut socket: WebSocket<Half>, shared: &Shared) {
    loop {
        {
            let mut state = shared.state.lock();
            while state.reading_paused {
                shared.changed.wait(&mut state);
            }
        }
        let read = socket.read();
        let at = Instant::now();
        let frame = match read {
            Ok(Message::Text(text)) => Frame::Text(text.as_str().to_owned()),
            Ok(Message::Binary(bytes)) => Frame::Binary(bytes.to_vec()),
            Ok(Message::Close(close)) => Frame::Close(close.map(|close| close.code.into())),
            // WebSocket's own pings are answered by tungstenite; Engine.IO does not use them.
            Ok(_) => continue,
            Err(tungstenite::Error::ConnectionClosed) => Frame::Ended(Ok(())),
            Err(error) => Frame::Ended(Err(error.to_string())),
        };
        // Answered before it is counted: whoever waited for the ping may then rely on the pong being sent.
        if is_ping(&frame) && !shared.state.lock().pongs_off {
            let _ = socket.send(Message::text("3"));
        }
        let mut state = shared.state.lock();
        take_in(&mut state, at, &frame);
        state.ended = matches!(frame, Frame::Ended(_));
        state.frames.push(Received { at, frame });
        shared.changed.notify_all();
        if state.ended {
            return;
        }
    }
}

fn is_ping(frame: &Frame) -> bool {
    matches!(frame, Frame::Text(text) if text.starts_with('2'))
}

/// Sorts a frame into what tests ask for.
fn take_in(state: &mut State, at: Instant, frame: &Frame) {
    match frame {
        _ if is_ping(frame) => state.pings += 1,
        Frame::Text(text) if text.starts_with('4') => take_in_packet(state, at, text),
        Frame::Binary(bytes) => {
            if let Some((event, missing)) = state.incomplete.as_mut() {
                event.attachments.push(bytes.clone());
                event.at = at;
                *missing -= 1;
                if *missing == 0 {
                    let (event, _) = state.incomplete.take().expect("looked at above");
                    state.events.push(event);
                }
            }
        }
        _ => {}
    }
}

/// `4` TYPE [ATTACHMENTS `-`] [`/NAMESPACE,`] [ID] [JSON]
fn take_in_packet(state: &mut State, at: Instant, raw: &str) {
    let Some(kind) = raw.chars().nth(1) else {
        return;
    };
    let mut rest = &raw[2..];
    let mut attachments = 0;
    if matches!(kind, '5' | '6')
        && let Some((count, after)) = rest.split_once('-')
    {
        attachments = count.parse().unwrap_or(0);
        rest = after;
    }
    if rest.starts_with('/') {
        // Other namespaces are left to tests that look at the frames.
        return;
    }
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let id: Option<u64> = rest[..digits].parse().ok();
    let data: Value = serde_json::from_str(&rest[digits..]).unwrap_or(Value::Null);
    match kind {
        '0' => state.connected = Some(Ok(data)),
        '4' => state.connected = Some(Err(data)),
        '2' | '5' => {
            let Value::Array(mut args) = data else { return };
            if args.is_empty() {
                return;
            }
            let name = args.remove(0).as_str().unwrap_or_default().to_owned();
            let first = args.first().cloned().unwrap_or(Value::Null);
            let event = Event { at, name, data: first, args, raw: raw.to_owned(), attachments: Vec::new() };
            if attachments > 0 {
                state.incomplete = Some((event, attachments));
            } else {
                state.events.push(event);
            }
        }
        '3' | '6' => {
            if let Some(id) = id {
                state.acks.insert(id, data[0].clone());
            }
        }
        _ => {}
    }
}

/// The answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// For example 200.
    pub status: u16,
    /// The names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, `Null` where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    fn from_upgrade(answer: tungstenite::http::Response<Option<Vec<u8>>>) -> HttpAnswer {
        let header = |(name, value): (&HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        HttpAnswer {
            status: answer.status().as_u16(),
            headers: answer.headers().iter().map(header).collect(),
            body: answer.into_body().unwrap_or_default(),
        }
    }
}

/// One HTTP exchange on a connection of its own, which asks to be closed. `headers` replace the usual ones.
///
/// # Panics
/// When there is no well-formed answer within [`DEADLINE`].
pub fn http(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> HttpAnswer {
    let host = format!("127.0.0.1:{port}");
    let length = body.len().to_string();
    let mut all = vec![("Host", host.as_str()), ("Connection", "close")];
    if !body.is_empty() {
        all.push(("Content-Length", &length));
    }
    all.retain(|(name, _)| !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
    all.extend(headers);
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in all {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    http_raw(port, &[request.as_bytes(), body].concat())
}

/// Writes these bytes to a new connection and reads one answer; to the end of the connection, where that is its last: then
/// the server is done with it, too.
///
/// # Panics
/// When there is no well-formed answer within [`DEADLINE`].
pub fn http_raw(port: u16, request: &[u8]) -> HttpAnswer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    stream.set_read_timeout(Some(DEADLINE)).expect("a live socket");
    // A server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut reader = BufReader::new(stream);
    let answer = read_answer(&mut reader).expect("a well-formed HTTP answer");
    if answer.header("connection") == Some("close") {
        let _ = io::copy(&mut reader, &mut io::sink());
    }
    answer
}

/// Reads one answer: to its `Content-Length`, its last chunk, or the end of the connection where it has neither.
pub fn read_answer(reader: &mut impl BufRead) -> io::Result<HttpAnswer> {
    let mut status_line = String::new();
    reader.read_line(&mut status_line)?;
    let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("status line {status_line:?}")))?;
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = HttpAnswer { status, headers, body: Vec::new() };
    match answer.header("content-length").and_then(|length| length.parse().ok()) {
        Some(length) => {
            answer.body = vec![0; length];
            reader.read_exact(&mut answer.body)?;
        }
        None if status == 101 => {}
        None if answer.header("transfer-encoding") == Some("chunked") => answer.body = read_chunks(reader)?,
        None => {
            reader.read_to_end(&mut answer.body)?;
        }
    }
    Ok(answer)
}

/// A chunked body; an error where it has no last chunk.
fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16).map_err(|_| io::Error::other(format!("{line:?}")))?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk)?;
        if !chunk.ends_with(b"\r\n") {
            return Err(io::Error::other("a chunk longer than it says"));
        }
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

/// A pause for tests that must show that something does *not* happen; there is no event to wait for then.
pub fn nothing_for(client: &Client, quiet: Duration) -> Vec<Received> {
    let state = client.shared.state.lock();
    let before = state.frames.len();
    let until = Instant::now() + quiet;
    let mut state = state;
    while !client.shared.changed.wait_until(&mut state, until).timed_out() {}
    state.frames[before..].to_vec()
}
