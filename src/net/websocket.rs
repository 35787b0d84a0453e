//! Engine.IO over one WebSocket: the thread that reads it.
//!
//! tungstenite owns the reading side and the state of the WebSocket; what it wants to write (pongs, the answer to a
//! close frame) goes into the outbox as whole frames, behind everything else. Only while a polling client probes the
//! WebSocket it is about to change to, the outbox is not there yet, and frames are written as they are.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tungstenite::error::CapacityError;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Error, Message, WebSocket};

use super::budget::Budget;
use super::engine::{Close, Engine, Protocol};
use super::linger::linger;
use super::registry::Shared;
use super::{CONTROL_FRAMES_MAX, CONTROL_FRAMES_PER_SECOND, Handshake, UPGRADE_TIMEOUT};
use crate::proto::engineio;
use crate::proto::fragments::{FragmentCounter, TooManyFragments};
use crate::proto::frames::{CloseCode, Frames};
use crate::proto::http;
use crate::threads::release_stack;

/// What one read asks the kernel for. Most messages of clients are short, and every idle connection keeps so much.
const READ_BYTES: usize = 1024;

/// Most connections are idle, so what a thread holds while it waits counts more than what it needs at work: after so much
/// silence it gives back what it does not stand on. Later than at once, so that who comes or is busy does not pay for it.
const SILENCE: Duration = Duration::from_millis(250);

/// The reading side of the socket, over which tungstenite stands.
struct ReadHalf<P: Protocol> {
    socket: Arc<TcpStream>,
    engine: Arc<Engine<P>>,
    /// The outbox does not write to this socket yet; until then it must.
    probing: Option<Instant>,
    /// A message was handled since this thread's stack was given back. Only then, and while probing, reads have a time-out.
    used: bool,
    fragments: FragmentCounter,
}

impl<P: Protocol> ReadHalf<P> {
    /// A message was handled: once the client is silent, what that took of the stack goes back.
    fn has_worked(&mut self) {
        if !self.used {
            self.used = self.socket.set_read_timeout(Some(SILENCE)).is_ok();
        }
    }

    fn rest(&mut self) -> io::Result<()> {
        release_stack();
        self.used = false;
        self.socket.set_read_timeout(None)
    }
}

impl<P: Protocol> Read for ReadHalf<P> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(until) = self.probing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        }
        let count = loop {
            match (&*self.socket).read(buffer) {
                Err(error) if self.used && matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.rest()?;
                }
                // With a time-out it is so whenever the server was stopped and goes on (Ctrl-Z, `fg`).
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        self.fragments.take(&buffer[..count]).map_err(io::Error::other)?;
        Ok(count)
    }
}

impl<P: Protocol> Write for ReadHalf<P> {
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        if self.probing.is_some() {
            (&*self.socket).write_all(frame)?;
        } else {
            self.engine.peer.connection.pass(frame.to_vec());
        }
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Speaks Engine.IO on a socket that becomes a WebSocket with `answer`; `first` was read already.
pub(super) fn serve<P: Protocol>(
    shared: &Arc<Shared<P>>,
    socket: &Arc<TcpStream>,
    answer: Vec<u8>,
    first: Vec<u8>,
    handshake: Handshake,
) {
    // From now on the heartbeat decides when the client is gone.
    if socket.set_read_timeout(None).is_err() {
        return;
    }
    let Some(engine) = Engine::open(shared, Some(socket.clone()), &answer, handshake) else {
        let refusal = http::refused_upgrade(503, "there is no room for another connection");
        if (&mut &**socket).write_all(&refusal).is_ok() {
            linger(socket);
        }
        return;
    };
    drop(answer);
    let mut reader = Reader::new(&engine, socket, first, None);
    reader.run_to_the_end();
}

/// Changes a polling connection's transport to a WebSocket, as `engine`'s client asks; unless that has not `begun`.
pub(super) fn upgrade<P: Protocol>(engine: &Arc<Engine<P>>, socket: &Arc<TcpStream>, first: Vec<u8>, begun: bool) {
    if !begun {
        // A second WebSocket for one connection: clients understand a close frame better than a refusal.
        return turn_away(socket);
    }
    let mut reader = Reader::new(engine, socket, first, Some(Instant::now() + UPGRADE_TIMEOUT));
    let outbox = engine.peer.connection.outbox();
    if reader.probe() && socket.set_read_timeout(None).is_ok() && outbox.upgrade(socket) {
        reader.websocket.get_mut().probing = None;
        reader.run_to_the_end();
    } else {
        outbox.cancel_upgrade();
        if !outbox.polls() {
            // The change was made, but the client has gone with what it was to get first.
            engine.finish(false);
        }
        turn_away(socket);
    }
}

/// Closes a WebSocket that is none of the connection's.
fn turn_away(socket: &TcpStream) {
    if (&mut &*socket).write_all(&CloseCode::None.frame()).is_ok() {
        linger(socket);
    }
}

struct Reader<'a, P: Protocol> {
    websocket: WebSocket<ReadHalf<P>>,
    engine: &'a Arc<Engine<P>>,
    message_bytes_max: usize,
    control_frames: Budget,
}

impl<'a, P: Protocol> Reader<'a, P> {
    fn new(
        engine: &'a Arc<Engine<P>>,
        socket: &Arc<TcpStream>,
        first: Vec<u8>,
        probing: Option<Instant>,
    ) -> Reader<'a, P> {
        let max = engine.message_bytes_max();
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max))
            .max_frame_size(Some(max));
        let mut fragments = FragmentCounter::default();
        // Were there too many already, the next one shows it.
        let _ = fragments.take(&first);
        let half = ReadHalf { socket: socket.clone(), engine: engine.clone(), probing, used: false, fragments };
        let websocket = WebSocket::from_partially_read(half, first, Role::Server, Some(config));
        let control_frames = Budget::full(CONTROL_FRAMES_MAX, CONTROL_FRAMES_PER_SECOND, Instant::now());
        Reader { websocket, engine, message_bytes_max: max, control_frames }
    }

    /// The client tries the WebSocket out (`2probe`, `3probe`) and then says that it changes to it (`5`).
    fn probe(&mut self) -> bool {
        let mut probed = false;
        loop {
            match self.websocket.read() {
                Ok(Message::Text(text)) if text.as_str() == "2probe" && !probed => {
                    probed = true;
                    let answer = Frames::packet("3probe");
                    if (&*self.websocket.get_ref().socket).write_all(answer.bytes()).is_err() {
                        return false;
                    }
                }
                Ok(Message::Text(text)) if text.as_str() == "5" && probed => return true,
                Ok(Message::Ping(_) | Message::Pong(_)) if self.control_frames.take(Instant::now()) => {}
                Ok(_) | Err(_) => return false,
            }
        }
    }

    fn run_to_the_end(&mut self) {
        // A panic costs this connection, and nobody else anything.
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            log::error!("connection {}: ended by a fault in this server", self.engine.peer.connection.key);
        }
        self.engine.finish(false);
    }

    /// Reads until the end. After a close frame of ours the client's is awaited; the timer ends a wait in vain.
    fn run(&mut self) {
        let mut closing = false;
        loop {
            self.adjust_limit();
            let handled = match self.websocket.read() {
                Ok(_) if closing => Ok(()),
                Ok(Message::Text(text)) => self.on_text(text.as_str()),
                Ok(Message::Binary(bytes)) => self.on_binary(bytes.to_vec()),
                Ok(Message::Ping(_) | Message::Pong(_)) if !self.control_frames.take(Instant::now()) => {
                    log::info!("connection {}: a flood of pings or pongs", self.engine.peer.connection.key);
                    return self.fail(CloseCode::Policy);
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => Ok(()),
                Err(error) => return self.on_error(&error),
            };
            if let Err(Close) = handled {
                closing = true;
                self.engine.peer.connection.close(CloseCode::None);
            }
        }
    }

    /// A client that was accepted meanwhile, maybe over another transport, may send longer messages.
    fn adjust_limit(&mut self) {
        let max = self.engine.message_bytes_max();
        if max != self.message_bytes_max {
            self.message_bytes_max = max;
            let max = Some(max);
            self.websocket.set_config(|config| (config.max_message_size, config.max_frame_size) = (max, max));
        }
    }

    fn on_text(&mut self, text: &str) -> Result<(), Close> {
        let left = self.engine.on_packet(text);
        // A pong needs no depth, and idle connections have nothing else.
        if !text.starts_with(engineio::PONG) {
            self.websocket.get_mut().has_worked();
        }
        match left? {
            false => Ok(()),
            true => Err(Close),
        }
    }

    fn on_binary(&mut self, bytes: Vec<u8>) -> Result<(), Close> {
        let handled = self.engine.on_binary(bytes);
        self.websocket.get_mut().has_worked();
        handled
    }

    /// The end of reading: the client has gone, or has broken the protocol.
    fn on_error(&mut self, error: &Error) {
        let code = match error {
            Error::Capacity(CapacityError::MessageTooLong { .. }) => CloseCode::TooBig,
            Error::Capacity(_) | Error::Protocol(_) | Error::AttackAttempt => CloseCode::Protocol,
            Error::Utf8(_) => CloseCode::Utf8,
            Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooManyFragments>()) => {
                CloseCode::Policy
            }
            _ => return,
        };
        log::debug!("connection {}: {error}", self.engine.peer.connection.key);
        self.fail(code);
    }

    /// Nothing more of the client's is looked at.
    #[inline(never)] // Its buffer is none of the stack on which an idle connection waits.
    fn fail(&mut self, code: CloseCode) {
        self.engine.peer.connection.close(code);
        // The socket must not be closed over unread bytes: the client would get a reset in place of the close frame. The
        // timer ends a wait in vain.
        let socket = &self.websocket.get_ref().socket;
        let _ = socket.set_read_timeout(None);
        let mut rest = [0; READ_BYTES];
        while matches!((&**socket).read(&mut rest), Ok(count) if count > 0) {}
    }
}
