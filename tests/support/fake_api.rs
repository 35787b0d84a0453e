//! A fake Anthropic Messages API on loopback, with which the real CLI runs without an account.
//!
//! The prompt says what the model answers. The reply is chosen from the last message with role `user` (on the
//! first turn of a process the very last message has role `system`), by the beginning of its last text block:
//!
//! | text | reply |
//! |---|---|
//! | `say:TEXT` | TEXT, a delta for each word |
//! | `slow:N:MS` | `w1 w2 … wN`, MS milliseconds between two deltas |
//! | `hang` | one delta, then silence until the client goes |
//! | `hang-before` | not even the response head, until the client goes |
//! | `cut` | two deltas, then the connection ends |
//! | `big:N` | one delta of N bytes |
//! | `error:STATUS:MESSAGE` | that HTTP status, with the type of error that belongs to it; also where no stream is asked for |
//! | `limit:USED` | `used USED`, with headers that say so of a plan's five hours |
//! | `bash:COMMAND` | a use of the tool `Bash` |
//! | `bg:COMMAND` | the same with `run_in_background` |
//! | `write:PATH:TEXT` | a use of the tool `Write` |
//! | `read:PATH` | a use of the tool `Read` |
//! | `askq` | a use of the tool `AskUserQuestion`: `Which color?`, `Red` or `Blue` |
//! | `plan` | a text with a plan, then a use of the tool `ExitPlanMode` |
//! | `tool:NAME:JSON` | a use of any tool |
//! | anything else | `you said: TEXT` |
//!
//! A message with a `tool_result` and no new prompt behind it is answered `tool said: RESULT`, or, where the result is
//! `then:PROMPT`, as that prompt.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::DEADLINE;

/// The largest request body that is taken in.
const BODY_BYTES_MAX: usize = 256 << 20;

/// One HTTP request as it came in.
#[derive(Clone, Debug)]
pub struct Request {
    /// When its body had been read.
    pub at: Instant,
    /// For example `POST`.
    pub method: String,
    /// The target with its query, for example `/v1/messages?beta=true`.
    pub path: String,
    /// The parsed body; `Null` where there was none or it was not JSON.
    pub body: Value,
}

impl Request {
    /// Whether this asks the model for an answer that is streamed: what a turn of a conversation does.
    pub fn is_turn(&self) -> bool {
        self.method == "POST" && self.path.split('?').next() == Some("/v1/messages") && self.body["stream"] == true
    }

    /// The text that chose the reply (see the module's table), empty where there is none.
    pub fn prompt(&self) -> String {
        match last_user_message(&self.body) {
            Some(Last::Prompt(text)) => text,
            _ => String::new(),
        }
    }
}

/// The server; its threads and connections end when it is dropped.
pub struct FakeApi {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    shared: Arc<Shared>,
    accept: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled on every new request, on every client that went in mid-answer, and at the end.
    changed: Condvar,
    message_count: AtomicU64,
}

#[derive(Default)]
struct State {
    stopping: bool,
    requests: Vec<Request>,
    /// Answers whose client went away before their end.
    abandoned: usize,
    connections: Vec<(Arc<TcpStream>, JoinHandle<()>)>,
}

impl FakeApi {
    /// Starts listening on a port that the system picks.
    pub fn start() -> FakeApi {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let port = listener.local_addr().expect("its address").port();
        let shared =
            Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), message_count: AtomicU64::new(0) });
        let accept = {
            let shared = shared.clone();
            spawn("fake-api-accept", move || accept_loop(&listener, &shared))
        };
        FakeApi { port, shared, accept: Some(accept) }
    }

    /// What goes into `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The environment with which the real CLI uses this API instead of an account.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("ANTHROPIC_BASE_URL", self.url().as_str()),
            ("ANTHROPIC_API_KEY", "sk-ant-fake"),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
            ("DISABLE_AUTOUPDATER", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Every request so far, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state.lock().requests.clone()
    }

    /// Those of [`requests`](Self::requests) that ask for a streamed answer.
    pub fn turns(&self) -> Vec<Request> {
        self.requests().into_iter().filter(Request::is_turn).collect()
    }

    /// Waits until a request has come for which `wanted` is true, and gives the first such.
    ///
    /// # Panics
    /// When none came within [`DEADLINE`].
    pub fn wait_for(&self, mut wanted: impl FnMut(&Request) -> bool) -> Request {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock();
        let mut seen = 0;
        loop {
            if let Some(found) = state.requests[seen..].iter().find(|request| wanted(request)) {
                return found.clone();
            }
            seen = state.requests.len();
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                let prompts: Vec<String> = state.requests.iter().map(Request::prompt).collect();
                panic!("no such request to the fake API within {DEADLINE:?}; prompts seen: {prompts:?}");
            }
        }
    }

    /// Waits until a turn with this prompt has come.
    ///
    /// # Panics
    /// When none came within [`DEADLINE`].
    pub fn wait_for_prompt(&self, prompt: &str) -> Request {
        self.wait_for(|request| request.is_turn() && request.prompt() == prompt)
    }

    /// Waits until the clients of `count` answers have gone before the end of the answer (after an interrupt, say).
    ///
    /// # Panics
    /// When they have not within [`DEADLINE`].
    pub fn wait_abandoned(&self, count: usize) {
        let until = Instant::now() + DEADLINE;
        let mut state = self.shared.state.lock();
        while state.abandoned < count {
            let late = self.shared.changed.wait_until(&mut state, until).timed_out();
            assert!(!late, "{} of {count} answers abandoned within {DEADLINE:?}", state.abandoned);
        }
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.changed.notify_all();
        // `accept` has no other end than a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        let connections = std::mem::take(&mut self.shared.state.lock().connections);
        for (stream, thread) in connections {
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

/// The messages of a request as `(role, text)`, in order, without the reminders that the CLI puts in itself.
///
/// Blocks of one message are joined by a newline; a tool's use is `[tool_use NAME INPUT]`, its result `[tool_result TEXT]`.
pub fn conversation(request: &Request) -> Vec<(String, String)> {
    let messages = request.body["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    messages
        .iter()
        .map(|message| {
            let parts: Vec<String> = blocks(&message["content"]).iter().filter_map(block_text).collect();
            (message["role"].as_str().unwrap_or_default().to_owned(), parts.join("\n"))
        })
        .collect()
}

fn block_text(block: &Value) -> Option<String> {
    match block["type"].as_str() {
        Some("text") => {
            let text = block["text"].as_str().unwrap_or_default();
            (!is_reminder(text)).then(|| text.to_owned())
        }
        Some("tool_use") => {
            Some(format!("[tool_use {} {}]", block["name"].as_str().unwrap_or_default(), block["input"]))
        }
        Some("tool_result") => Some(format!("[tool_result {}]", result_text(&block["content"]))),
        Some(other) => Some(format!("[{other}]")),
        None => None,
    }
}

/// A message's content is a text or a list of blocks; this makes it always the list.
fn blocks(content: &Value) -> Vec<Value> {
    match content {
        Value::String(text) => vec![json!({"type": "text", "text": text})],
        Value::Array(blocks) => blocks.clone(),
        _ => Vec::new(),
    }
}

fn is_reminder(text: &str) -> bool {
    text.trim_start().starts_with("<system-reminder>")
}

fn result_text(content: &Value) -> String {
    let texts: Vec<String> =
        blocks(content).iter().filter_map(|block| block["text"].as_str()).map(str::to_owned).collect();
    texts.join("\n")
}

enum Last {
    Prompt(String),
    ToolResult(String),
}

fn last_user_message(body: &Value) -> Option<Last> {
    let message = body["messages"].as_array()?.iter().rev().find(|message| message["role"] == "user")?;
    blocks(&message["content"]).iter().rev().find_map(|block| match block["type"].as_str()? {
        "tool_result" => Some(Last::ToolResult(result_text(&block["content"]))),
        "text" => {
            let text = block["text"].as_str().unwrap_or_default().trim();
            (!is_reminder(text)).then(|| Last::Prompt(text.to_owned()))
        }
        _ => None,
    })
}

/// What the model does, as the prompt wanted it.
enum Reply {
    Text { deltas: Vec<String>, pause: Duration },
    Hang,
    HangBefore,
    Cut,
    Error { status: u16, message: String },
    Tool { text: Option<String>, name: String, input: Value },
}

fn reply_to(body: &Value) -> Reply {
    match last_user_message(body) {
        Some(Last::ToolResult(text)) => match text.trim().strip_prefix("then:") {
            Some(prompt) => reply_to_prompt(prompt),
            None => says(&format!("tool said: {text}")),
        },
        Some(Last::Prompt(text)) => reply_to_prompt(&text),
        None => says("you said nothing"),
    }
}

fn reply_to_prompt(prompt: &str) -> Reply {
    let (word, rest) = prompt.split_once(':').unwrap_or((prompt, ""));
    let (first, second) = rest.split_once(':').unwrap_or((rest, ""));
    match word {
        "say" => says(rest),
        "slow" => {
            let count: usize = first.parse().unwrap_or(10);
            let pause = Duration::from_millis(second.parse().unwrap_or(50));
            let deltas = (1..=count).map(|n| if n == 1 { "w1".to_owned() } else { format!(" w{n}") }).collect();
            Reply::Text { deltas, pause }
        }
        "hang" => Reply::Hang,
        "hang-before" => Reply::HangBefore,
        "cut" => Reply::Cut,
        "big" => {
            let text = "0123456789abcdef".chars().cycle().take(rest.parse().unwrap_or(1000)).collect();
            Reply::Text { deltas: vec![text], pause: Duration::ZERO }
        }
        "error" => Reply::Error { status: first.parse().unwrap_or(400), message: second.to_owned() },
        "bash" => uses("Bash", json!({"command": rest, "description": "asked for by a test"})),
        "bg" => uses("Bash", json!({"command": rest, "description": "asked for by a test", "run_in_background": true})),
        "write" => uses("Write", json!({"file_path": first, "content": second})),
        "limit" => says(&format!("used {rest}")),
        "read" => uses("Read", json!({"file_path": rest})),
        "tool" => uses(first, serde_json::from_str(second).unwrap_or_else(|_| json!({}))),
        "askq" => uses(
            "AskUserQuestion",
            json!({"questions": [{
                "question": "Which color?", "header": "Color", "multiSelect": false,
                "options": [{"label": "Red", "description": "warm"}, {"label": "Blue", "description": "cold"}],
            }]}),
        ),
        "plan" => Reply::Tool {
            text: Some("# Plan\n\n1. Do it".to_owned()),
            name: "ExitPlanMode".to_owned(),
            input: json!({"plan": "# Plan\n\n1. Do it"}),
        },
        _ => says(&format!("you said: {prompt}")),
    }
}

fn says(text: &str) -> Reply {
    Reply::Text { deltas: words(text), pause: Duration::ZERO }
}

fn uses(name: &str, input: Value) -> Reply {
    Reply::Tool { text: None, name: name.to_owned(), input }
}

/// Cuts before each space, so that the pieces joined are the text.
fn words(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for piece in text.split_inclusive(' ') {
        pieces.push(piece.to_owned());
    }
    pieces
}

fn accept_loop(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.state.lock().stopping {
            return;
        }
        let Ok(stream) = stream else { continue };
        let _ = stream.set_nodelay(true);
        let stream = Arc::new(stream);
        let thread = {
            let (shared, stream) = (shared.clone(), stream.clone());
            spawn("fake-api-connection", move || {
                // A client that goes away is not a failure of the API.
                let _ = serve(&shared, &stream);
                let _ = stream.shutdown(Shutdown::Both);
            })
        };
        let mut state = shared.state.lock();
        state.connections.retain(|(_, thread)| !thread.is_finished());
        state.connections.push((stream, thread));
    }
}

fn serve(shared: &Shared, stream: &TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read_request(&mut reader)? {
        {
            let mut state = shared.state.lock();
            state.requests.push(request.clone());
            shared.changed.notify_all();
        }
        let path = request.path.split('?').next().unwrap_or_default();
        if request.is_turn() {
            let sent = answer_turn(shared, stream, &request.body);
            if sent.is_err() {
                shared.state.lock().abandoned += 1;
                shared.changed.notify_all();
            }
            // The stream's end is the connection's end.
            return sent;
        }
        match (request.method.as_str(), path) {
            ("HEAD", _) => respond(stream, 200, None)?,
            ("POST", "/v1/messages/count_tokens") => respond(stream, 200, Some(&json!({"input_tokens": 10})))?,
            ("POST", "/v1/messages") => {
                // The CLI tries without a stream where the stream was a 404.
                if let Reply::Error { status, message } = reply_to(&request.body) {
                    return respond_error(stream, status, &message);
                }
                let id = shared.message_count.fetch_add(1, Ordering::Relaxed);
                let mut message = empty_message(id, &request.body["model"]);
                message["content"] = json!([{"type": "text", "text": "ok"}]);
                message["stop_reason"] = json!("end_turn");
                respond(stream, 200, Some(&message))?;
            }
            _ => respond(stream, 200, Some(&json!({})))?,
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if matches!(&head[before..], b"\r\n" | b"\n") {
            break;
        }
    }
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut headers);
    parsed.parse(&head).map_err(|error| bad(&format!("request head: {error}")))?;
    let header = |name: &str| {
        let found = parsed.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let body = if chunked {
        read_chunks(reader)?
    } else {
        let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        read_exactly(reader, length)?
    };
    Ok(Some(Request {
        at: Instant::now(),
        method: parsed.method.unwrap_or_default().to_owned(),
        path: parsed.path.unwrap_or_default().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    }))
}

fn read_exactly(reader: &mut impl Read, length: usize) -> std::io::Result<Vec<u8>> {
    if length > BODY_BYTES_MAX {
        return Err(bad("request body too large"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(body)
}

fn read_chunks(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let digits = line.trim().split(';').next().unwrap_or_default();
        let length = usize::from_str_radix(digits, 16).map_err(|_| bad("chunk length"))?;
        if body.len() + length > BODY_BYTES_MAX {
            return Err(bad("request body too large"));
        }
        body.extend(read_exactly(reader, length)?);
        let mut end = String::new();
        reader.read_line(&mut end)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

fn bad(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

fn respond(stream: &TcpStream, status: u16, body: Option<&Value>) -> std::io::Result<()> {
    respond_with(stream, status, "", body)
}

fn respond_with(mut stream: &TcpStream, status: u16, headers: &str, body: Option<&Value>) -> std::io::Result<()> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    let head = format!("HTTP/1.1 {status} Status\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
    stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes())
}

/// The connection ends with it, and says so: otherwise the CLI may send its next request into the end.
fn respond_error(stream: &TcpStream, status: u16, message: &str) -> std::io::Result<()> {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "invalid_request_error",
    };
    let error = json!({"type": "error", "error": {"type": kind, "message": message}});
    respond_with(stream, status, "connection: close\r\n", Some(&error))
}

fn empty_message(id: u64, model: &Value) -> Value {
    json!({
        "id": format!("msg_fake{id:08}"), "type": "message", "role": "assistant", "model": model, "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": {"input_tokens": 10, "output_tokens": 1},
    })
}

fn answer_turn(shared: &Shared, stream: &TcpStream, body: &Value) -> std::io::Result<()> {
    let reply = reply_to(body);
    match reply {
        Reply::HangBefore => return wait_gone(stream),
        Reply::Error { status, message } => return respond_error(stream, status, &message),
        _ => {}
    }
    let mut sse = Sse { shared, stream, open_block: None, blocks: 0 };
    sse.begin(&body["model"], &limit_headers(body))?;
    match reply {
        Reply::Text { deltas, pause } => {
            for (n, delta) in deltas.iter().enumerate() {
                if n > 0 && !pause.is_zero() {
                    sse.pause(pause)?;
                }
                sse.text(delta)?;
            }
            sse.finish("end_turn")
        }
        Reply::Hang => {
            sse.text("thinking")?;
            wait_gone(stream)
        }
        Reply::Cut => {
            sse.text("these words")?;
            sse.text(" end early")
        }
        Reply::Tool { text, name, input } => {
            if let Some(text) = text {
                sse.text(&text)?;
            }
            sse.tool_use(&name, &input)?;
            sse.finish("tool_use")
        }
        Reply::HangBefore | Reply::Error { .. } => unreachable!("answered above"),
    }
}

/// What the API says of a plan's limits, where the prompt wants that.
fn limit_headers(body: &Value) -> String {
    let Some(Last::Prompt(prompt)) = last_user_message(body) else { return String::new() };
    let Some(used) = prompt.strip_prefix("limit:") else { return String::new() };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let reset = now.as_secs() + 3600;
    let headers = [
        ("status", "allowed".to_owned()),
        ("reset", reset.to_string()),
        ("representative-claim", "five_hour".to_owned()),
        ("5h-utilization", used.to_owned()),
        ("5h-reset", reset.to_string()),
    ];
    headers.map(|(name, value)| format!("anthropic-ratelimit-unified-{name}: {value}\r\n")).concat()
}

/// Waits until the client has gone (or this server ends), and is then always an error: the answer was not ended.
fn wait_gone(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut byte = [0; 1024];
    while stream.read(&mut byte)? > 0 {}
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// One streamed answer on its way out.
struct Sse<'a> {
    shared: &'a Shared,
    stream: &'a TcpStream,
    open_block: Option<usize>,
    blocks: usize,
}

impl Sse<'_> {
    fn begin(&mut self, model: &Value, headers: &str) -> std::io::Result<()> {
        let head =
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\nconnection: close\r\n";
        self.stream.write_all(format!("{head}{headers}\r\n").as_bytes())?;
        let id = self.shared.message_count.fetch_add(1, Ordering::Relaxed);
        self.event(&json!({"type": "message_start", "message": empty_message(id, model)}))
    }

    fn event(&mut self, event: &Value) -> std::io::Result<()> {
        let name = event["type"].as_str().unwrap_or_default();
        self.stream.write_all(format!("event: {name}\ndata: {event}\n\n").as_bytes())
    }

    /// Waits, unless the client goes or this server ends before.
    fn pause(&mut self, pause: Duration) -> std::io::Result<()> {
        // The pacing of the stream is what the test asked for, so this is a real wait. It is spent reading,
        // for that is how the client's end is noticed.
        self.stream.set_read_timeout(Some(pause))?;
        let waited = (&mut &*self.stream).read(&mut [0; 1024]);
        self.stream.set_read_timeout(None)?;
        match waited {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn start_block(&mut self, block: &Value) -> std::io::Result<usize> {
        self.stop_block()?;
        let index = self.blocks;
        self.blocks += 1;
        self.open_block = Some(index);
        self.event(&json!({"type": "content_block_start", "index": index, "content_block": block}))?;
        Ok(index)
    }

    fn stop_block(&mut self) -> std::io::Result<()> {
        match self.open_block.take() {
            Some(index) => self.event(&json!({"type": "content_block_stop", "index": index})),
            None => Ok(()),
        }
    }

    fn text(&mut self, text: &str) -> std::io::Result<()> {
        let index = match self.open_block {
            Some(index) => index,
            None => self.start_block(&json!({"type": "text", "text": ""}))?,
        };
        self.event(&json!({
            "type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text},
        }))
    }

    fn tool_use(&mut self, name: &str, input: &Value) -> std::io::Result<()> {
        let id = self.shared.message_count.fetch_add(1, Ordering::Relaxed);
        let block = json!({"type": "tool_use", "id": format!("toolu_fake{id:08}"), "name": name, "input": {}});
        let index = self.start_block(&block)?;
        self.event(&json!({
            "type": "content_block_delta", "index": index,
            "delta": {"type": "input_json_delta", "partial_json": input.to_string()},
        }))
    }

    fn finish(&mut self, stop_reason: &str) -> std::io::Result<()> {
        self.stop_block()?;
        self.event(&json!({
            "type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": null},
            "usage": {"output_tokens": 5},
        }))?;
        self.event(&json!({"type": "message_stop"}))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).expect("a thread")
}
