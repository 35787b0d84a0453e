//! The load generator: raw Engine.IO over WebSocket, the same for all contestants, cheap enough not to be what is measured.
//! One thread looks at all sockets; frames are walked where they lie, and only a line's number and moment are read.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::line::{BEFORE_STAMP, LAST, NUMBER_DIGITS, STAMP_DIGITS, now, number};

/// Nobody takes so long to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one read takes at most.
const READ_BYTES: usize = 256 * 1024;

/// Sockets that are looked at in one go.
const EVENTS_MAX: usize = 256;

const REQUEST: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/// One client.
pub struct Client {
    socket: TcpStream,
    /// What has come and was not looked at yet.
    rest: Vec<u8>,
}

impl Client {
    /// Connects and asks for the WebSocket.
    pub fn dial(port: u16) -> Client {
        let mut socket = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        socket.write_all(REQUEST.as_bytes()).expect("it reads");
        Client { socket, rest: Vec::new() }
    }

    /// Waits until the WebSocket and Engine.IO are open.
    pub fn wait_open(&mut self) {
        loop {
            if let Some(end) = self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                assert!(self.rest.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&self.rest));
                self.rest.drain(..end + 4);
                break;
            }
            self.read_more();
        }
        self.wait("0{");
    }

    /// The whole way into a session: connected and taken in.
    pub fn connect(port: u16, auth: &str) -> Client {
        let mut client = Client::dial(port);
        client.wait_open();
        client.say(&format!("40{auth}"));
        client.wait("40");
        client
    }

    /// Sends a text frame. The mask is zero, which masks nothing.
    pub fn say(&mut self, text: &str) {
        let mut frame = vec![0x81];
        match u8::try_from(text.len()) {
            Ok(length) if length < 126 => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&u16::try_from(text.len()).expect("a short text").to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(text.as_bytes());
        self.socket.write_all(&frame).expect("it reads");
    }

    /// The next frame whose payload begins like this; those before it are passed over.
    pub fn wait(&mut self, beginning: &str) -> String {
        let patience = Instant::now() + PATIENCE;
        loop {
            // Its pings alone would keep this going for ever.
            assert!(Instant::now() < patience, "{beginning} did not come");
            while let Some((payload, end)) = frame(&self.rest) {
                let text = String::from_utf8_lossy(&self.rest[payload..end]).into_owned();
                self.rest.drain(..end);
                assert!(!text.starts_with("44"), "refused: {text}");
                if text.starts_with(beginning) {
                    return text;
                }
                if text == "2" {
                    self.say("3");
                }
            }
            self.read_more();
        }
    }

    /// Answers a ping that came with what was waited for: nothing need ever come behind it.
    fn answer_pings(&mut self) {
        let mut at = 0;
        while let Some((payload, end)) = frame(&self.rest[at..]) {
            if &self.rest[at + payload..at + end] == b"2" {
                self.rest.drain(at..at + end);
                self.say("3");
            } else {
                at += end;
            }
        }
    }

    fn read_more(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let count = self.socket.read(&mut buffer).expect("an answer");
        assert!(count > 0, "it has hung up");
        self.rest.extend_from_slice(&buffer[..count]);
    }
}

/// Where the payload of the first frame begins and ends; `None` while it is not whole.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (header, length) = match *bytes.get(1)? {
        126 => (4, usize::from(u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]))),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
        length => (2, usize::from(length)),
    };
    (bytes.len() >= header + length).then_some((header, header + length))
}

/// Many clients, looked at together.
pub struct Crowd {
    /// The clients.
    pub clients: Vec<Client>,
    epoll: OwnedFd,
    buffer: Vec<u8>,
}

impl Crowd {
    /// Looks at these from now on.
    pub fn of(clients: Vec<Client>) -> Crowd {
        // SAFETY: a plain system call.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(epoll >= 0, "{}", io::Error::last_os_error());
        // SAFETY: it was just made, and is nobody else's.
        let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
        let mut crowd = Crowd { clients: Vec::new(), epoll, buffer: vec![0; READ_BYTES] };
        for client in clients {
            crowd.add(client);
        }
        crowd
    }

    /// Looks at one more.
    pub fn add(&mut self, mut client: Client) {
        client.answer_pings();
        client.socket.set_nonblocking(true).expect("a socket");
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: self.clients.len() as u64 };
        // SAFETY: both descriptors are open, `event` is valid.
        let added = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, client.socket.as_raw_fd(), &raw mut event)
        };
        assert_eq!(added, 0, "{}", io::Error::last_os_error());
        self.clients.push(client);
    }

    /// Hands every frame to `on`, which is told whose it is, until that says `false` or `until` (see [`now`]) has come.
    pub fn receive(&mut self, until: Option<u64>, mut on: impl FnMut(usize, &[u8]) -> bool) {
        let patience = now() + u64::try_from(PATIENCE.as_nanos()).expect("not that long");
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        loop {
            let left = until.unwrap_or(patience).saturating_sub(now());
            let millis = i32::try_from(left.div_ceil(1_000_000)).expect("not that long");
            // SAFETY: room for as many events as named.
            let count =
                unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS_MAX as i32, millis) };
            assert!(until.is_some() || now() < patience, "not all has come in {PATIENCE:?}");
            if count <= 0 {
                if until.is_some_and(|until| now() >= until) {
                    return;
                }
                continue;
            }
            for event in &events[..count as usize] {
                if !self.take(event.u64 as usize, &mut on) {
                    return;
                }
            }
        }
    }

    fn take(&mut self, index: usize, on: &mut impl FnMut(usize, &[u8]) -> bool) -> bool {
        let client = &mut self.clients[index];
        let begun = client.rest.len();
        if self.buffer.len() < begun + READ_BYTES {
            self.buffer.resize(begun + READ_BYTES, 0);
        }
        self.buffer[..begun].copy_from_slice(&client.rest);
        let read = match client.socket.read(&mut self.buffer[begun..]) {
            Ok(0) => panic!("client {index}: the server has hung up"),
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return true,
            Err(error) => panic!("client {index}: {error}"),
        };
        let (bytes, mut at) = (&self.buffer[..begun + read], 0);
        let mut going = true;
        let mut pinged = false;
        while let Some((payload, end)) = frame(&bytes[at..]) {
            let payload = &bytes[at + payload..at + end];
            at += end;
            pinged |= payload == b"2";
            going = on(index, payload);
            if !going {
                break;
            }
        }
        client.rest.clear();
        client.rest.extend_from_slice(&bytes[at..]);
        if pinged {
            client.say("3");
        }
        going
    }
}

/// What one client has seen of a stream: every line, in order.
#[derive(Default, Clone)]
pub struct Seen {
    /// How many lines have come.
    pub lines: u64,
    /// When the first came.
    pub first: u64,
    /// Whether the last has come.
    pub ended: bool,
    /// The stamp is so far from the end of a frame.
    from_end: usize,
}

impl Seen {
    /// Takes a frame. Whether it was the last line.
    pub fn is_ended_by(&mut self, payload: &[u8]) -> bool {
        let is_line = !self.ended && self.take(payload).is_some();
        is_line && self.ended
    }

    /// Takes a frame; if it is a line, the moment at which that was made.
    pub fn take(&mut self, payload: &[u8]) -> Option<u64> {
        if self.from_end == 0 {
            let at = payload.windows(BEFORE_STAMP.len()).position(|bytes| bytes == BEFORE_STAMP)? + BEFORE_STAMP.len();
            let stamp = payload.get(at..at + STAMP_DIGITS)?;
            if !stamp.iter().all(u8::is_ascii_digit) {
                return None;
            }
            (self.from_end, self.first) = (payload.len() - at, now());
        }
        let at = payload.len().checked_sub(self.from_end)?;
        if payload.get(at.checked_sub(BEFORE_STAMP.len())?..at)? != BEFORE_STAMP {
            return None;
        }
        let number_at = at + STAMP_DIGITS + 1;
        match number(&payload[number_at..number_at + NUMBER_DIGITS]) {
            LAST => self.ended = true,
            got => assert_eq!(got, self.lines, "a line is missing, or out of its place"),
        }
        self.lines += u64::from(!self.ended);
        Some(number(&payload[at..at + STAMP_DIGITS]))
    }
}
