//! The echo server as a child process, and clients of both transports that send exactly what they are told to.

use std::{
    collections::VecDeque,
    io::{BufReader, Read, Write},
    net::TcpStream,
    process::Command,
    thread::{self, JoinHandle},
};

use data_encoding::BASE64;
use serde_json::Value;

use crate::support::{
    DEADLINE,
    client::{HttpAnswer, http, read_answer},
    program::{Pipe, Program},
};

/// Pings that no case here lives to see: a machine that is busy for a moment does not end a connection.
const RARE_PINGS: &str = "60000/60000";

/// A running echo server; dropping it kills it.
pub struct Echo {
    pub port: u16,
    pub path: &'static str,
    _program: Program,
}

impl Echo {
    /// Socket.IO, without pings.
    pub fn socketio() -> Echo {
        Echo::start(&["--pings", RARE_PINGS])
    }

    /// Engine.IO alone, without pings.
    pub fn engineio() -> Echo {
        Echo::start(&["--engine-only", "--pings", RARE_PINGS])
    }

    pub fn start(args: &[&str]) -> Echo {
        let test = std::env::current_exe().expect("the path of this test");
        let exe = test.ancestors().nth(2).expect("the test is in target/<profile>/deps").join("examples/echo_server");
        assert!(exe.exists(), "{} is missing: run `cargo build --example echo_server`", exe.display());
        let mut command = Command::new(exe);
        command.args(args);
        let program = Program::start("the echo server", command);
        let (_, port) = program.wait_line(Pipe::Stdout, 0, |line| line.text().trim().parse().ok());
        let path = if args.contains(&"--engine-only") { "/engine.io/" } else { "/socket.io/" };
        Echo { port, path, _program: program }
    }

    /// The target of a request with this query.
    pub fn target(&self, query: &str) -> String {
        format!("{}?{query}", self.path)
    }

    pub fn get(&self, query: &str) -> HttpAnswer {
        http(self.port, "GET", &self.target(query), &[], b"")
    }
}

/// Names the case if it fails.
pub fn case<T>(name: &str, run: impl FnOnce() -> T) -> T {
    struct Name<'a>(&'a str);
    impl Drop for Name<'_> {
        fn drop(&mut self) {
            if thread::panicking() {
                eprintln!("failed: {}", self.0);
            }
        }
    }
    let _name = Name(name);
    run()
}

/// One message or packet, as both transports carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Text(String),
    Binary(Vec<u8>),
}

pub fn text(text: &str) -> Packet {
    Packet::Text(text.to_owned())
}

pub fn binary(bytes: &[u8]) -> Packet {
    Packet::Binary(bytes.to_vec())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
}

pub const TRANSPORTS: [Transport; 2] = [Transport::Polling, Transport::WebSocket];

/// What has come in over a WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Packet(Packet),
    Pong(Vec<u8>),
    /// A close frame, with its code if it has one.
    Close(Option<u16>),
    /// The socket's end.
    End,
}

/// One client.
pub enum Link {
    Polling(Poller),
    WebSocket(Ws),
}

impl Link {
    /// Opens a connection and takes its open packet.
    pub fn open(echo: &Echo, transport: Transport) -> Link {
        match transport {
            Transport::Polling => Link::Polling(Poller::open(echo)),
            Transport::WebSocket => Link::WebSocket(Ws::open(echo).0),
        }
    }

    /// Opens a connection and connects to `/`.
    pub fn connect(echo: &Echo, transport: Transport) -> Link {
        let mut link = Link::open(echo, transport);
        link.join("/");
        link
    }

    /// Connects to a namespace and gives its sid.
    pub fn join(&mut self, namespace: &str) -> String {
        let prefix = if namespace == "/" { String::new() } else { format!("{namespace},") };
        self.send(&[text(&format!("40{prefix}"))]);
        let answer = self.next_text();
        let data = answer.strip_prefix(&format!("40{prefix}")).unwrap_or_else(|| panic!("CONNECT answered {answer}"));
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(data.as_object().map(serde_json::Map::len), Some(1), "{data}: only the sid");
        self.expect(&[text(&format!("42{prefix}[\"auth\",{{}}]"))]);
        data["sid"].as_str().expect("a sid").to_owned()
    }

    /// Sends packets, in one payload where there are payloads; they must be taken.
    pub fn send(&mut self, packets: &[Packet]) {
        match self {
            Link::Polling(poller) => {
                let answer = poller.post(&payload(packets));
                assert_eq!((answer.status, answer.text().as_str()), (200, "ok"), "{packets:?}");
            }
            Link::WebSocket(ws) => packets.iter().for_each(|packet| ws.send(packet)),
        }
    }

    pub fn next(&mut self) -> Packet {
        match self {
            Link::Polling(poller) => poller.next(),
            Link::WebSocket(ws) => match ws.next() {
                Frame::Packet(packet) => packet,
                other => panic!("{other:?} in place of a packet"),
            },
        }
    }

    pub fn next_text(&mut self) -> String {
        match self.next() {
            Packet::Text(text) => text,
            other => panic!("{other:?} in place of a text"),
        }
    }

    /// Exactly these come next.
    pub fn expect(&mut self, packets: &[Packet]) {
        for packet in packets {
            assert_eq!(self.next(), *packet);
        }
    }

    /// Sends packets that end the connection: with an empty close frame, or with 400 and an id that is unknown then.
    pub fn refused(&mut self, packets: &[Packet]) {
        match self {
            Link::Polling(poller) => {
                let answer = poller.post(&payload(packets));
                assert_json(&answer, 400, 3, "Bad request");
                poller.gone();
            }
            Link::WebSocket(ws) => {
                packets.iter().for_each(|packet| ws.send(packet));
                ws.closed(None);
            }
        }
    }
}

/// Several packets in one body.
pub fn payload(packets: &[Packet]) -> Vec<u8> {
    let packets = packets.iter().map(|packet| match packet {
        Packet::Text(text) => text.clone(),
        Packet::Binary(bytes) => format!("b{}", BASE64.encode(bytes)),
    });
    packets.collect::<Vec<_>>().join("\x1e").into_bytes()
}

/// The packets of a body.
pub fn packets(body: &str) -> Vec<Packet> {
    let packets = body.split('\x1e').map(|packet| match packet.strip_prefix('b') {
        Some(base64) => Packet::Binary(BASE64.decode(base64.as_bytes()).expect("base64")),
        None => Packet::Text(packet.to_owned()),
    });
    packets.collect()
}

/// A refusal in JSON, to the byte.
pub fn assert_json(answer: &HttpAnswer, status: u16, code: u8, message: &str) {
    assert_eq!(answer.text(), format!("{{\"code\":{code},\"message\":\"{message}\"}}"));
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")));
}

pub struct Poller {
    pub port: u16,
    pub target: String,
    pub sid: String,
    came: VecDeque<Packet>,
}

impl Poller {
    pub fn open(echo: &Echo) -> Poller {
        let answer = echo.get("EIO=4&transport=polling");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let open = answer.text();
        let open: Value = serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON");
        let sid = open["sid"].as_str().expect("a sid").to_owned();
        let target = echo.target(&format!("EIO=4&transport=polling&sid={sid}"));
        Poller { port: echo.port, target, sid, came: VecDeque::new() }
    }

    pub fn get(&self) -> HttpAnswer {
        http(self.port, "GET", &self.target, &[], b"")
    }

    /// A GET whose answer is awaited elsewhere.
    pub fn start_get(&self) -> JoinHandle<HttpAnswer> {
        let request = self.request("GET", "");
        thread::spawn(move || read_answer(&mut BufReader::new(request)).expect("an answer"))
    }

    /// Sends a request's head on a connection of its own.
    pub fn request(&self, method: &str, headers: &str) -> TcpStream {
        let mut stream = connect(self.port);
        let head =
            format!("{method} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n", self.target);
        stream.write_all(head.as_bytes()).expect("sent");
        stream
    }

    pub fn post(&self, body: &[u8]) -> HttpAnswer {
        let length = body.len().to_string();
        let headers = [("Content-Length", length.as_str()), ("Content-Type", "text/plain;charset=UTF-8")];
        http(self.port, "POST", &self.target, &headers, body)
    }

    /// The same for a body that may be refused: all of it must be taken in, and no reset may hide the answer.
    pub fn post_all(&self, body: &[u8]) -> HttpAnswer {
        let mut stream = BufReader::new(self.request("POST", &format!("Content-Length: {}\r\n", body.len())));
        stream.get_mut().write_all(body).expect("sent to the end");
        read_answer(&mut stream).expect("an answer")
    }

    /// The connection is there no more.
    pub fn gone(&self) {
        assert_json(&self.get(), 400, 1, "Session ID unknown");
    }

    pub fn next(&mut self) -> Packet {
        loop {
            if let Some(packet) = self.came.pop_front() {
                return packet;
            }
            let answer = self.get();
            assert_eq!(answer.status, 200, "{}", answer.text());
            self.came.extend(packets(&answer.text()));
        }
    }
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server takes connections");
    stream.set_nodelay(true).expect("set");
    stream.set_read_timeout(Some(DEADLINE)).expect("set");
    stream.set_write_timeout(Some(DEADLINE)).expect("set");
    stream
}

/// A WebSocket without any state: frames go out as given.
pub struct Ws {
    stream: BufReader<TcpStream>,
}

/// The headers of a sound opening handshake.
pub const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Ws {
    /// Opens a connection; gives the open packet's data, too.
    pub fn open(echo: &Echo) -> (Ws, Value) {
        let mut ws = Ws::upgrade(echo.port, &echo.target("EIO=4&transport=websocket"));
        let Frame::Packet(Packet::Text(open)) = ws.next() else { panic!("no open packet") };
        (ws, serde_json::from_str(open.strip_prefix('0').expect("an open packet")).expect("JSON"))
    }

    /// Opens the WebSocket of a polling connection.
    pub fn beside(echo: &Echo, poller: &Poller) -> Ws {
        Ws::upgrade(echo.port, &echo.target(&format!("EIO=4&transport=websocket&sid={}", poller.sid)))
    }

    pub fn upgrade(port: u16, target: &str) -> Ws {
        let (answer, ws) = Ws::ask(port, target, UPGRADE, b"");
        assert_eq!(answer.status, 101, "{}", answer.text());
        // The example key and its answer are those of RFC 6455, section 1.3.
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.header("sec-websocket-extensions"), None);
        ws
    }

    /// Asks for a WebSocket with these headers and `behind` them, and gives the answer.
    pub fn ask(port: u16, target: &str, headers: &str, behind: &[u8]) -> (HttpAnswer, Ws) {
        let mut stream = connect(port);
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n{headers}\r\n").into_bytes();
        request.extend_from_slice(behind);
        stream.write_all(&request).expect("sent");
        let mut stream = BufReader::new(stream);
        let answer = read_answer(&mut stream).expect("an answer");
        (answer, Ws { stream })
    }

    pub fn send(&mut self, packet: &Packet) {
        let frame = match packet {
            Packet::Text(text) => frame(0x81, text.as_bytes()),
            Packet::Binary(bytes) => frame(0x82, bytes),
        };
        self.send_bytes(&frame);
    }

    pub fn send_text(&mut self, packet: &str) {
        self.send(&text(packet));
    }

    /// Sends bytes as they are. Whether the server still takes them is to be seen in what it answers.
    pub fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.get_mut().write_all(bytes);
    }

    pub fn next(&mut self) -> Frame {
        let mut head = [0; 2];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("nothing came within {DEADLINE:?}")
            }
            Err(_) => return Frame::End,
        }
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let mut length = u64::from(head[1]);
        if length > 125 {
            let mut more = [0; 8];
            let from = if length == 126 { 6 } else { 0 };
            self.stream.read_exact(&mut more[from..]).expect("a length");
            length = u64::from_be_bytes(more);
        }
        let mut payload = vec![0; usize::try_from(length).expect("a length")];
        self.stream.read_exact(&mut payload).expect("a payload");
        match head[0] {
            0x81 => Frame::Packet(Packet::Text(String::from_utf8(payload).expect("UTF-8"))),
            0x82 => Frame::Packet(Packet::Binary(payload)),
            0x88 if payload.is_empty() => Frame::Close(None),
            0x88 => Frame::Close(Some(u16::from_be_bytes([payload[0], payload[1]]))),
            0x8a => Frame::Pong(payload),
            other => panic!("a frame that begins with {other:#x}"),
        }
    }

    pub fn expect(&mut self, packet: &str) {
        assert_eq!(self.next(), Frame::Packet(text(packet)));
    }

    /// A close frame with this code comes next, and after its answer the end.
    pub fn closed(&mut self, code: Option<u16>) {
        assert_eq!(self.next(), Frame::Close(code));
        self.send_bytes(&frame(0x88, b""));
        assert_eq!(self.next(), Frame::End);
    }
}

/// A frame as a client sends it, masked.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => frame.push(0x80 | short),
        (_, Ok(medium)) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}
