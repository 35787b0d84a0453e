//! The benchmark's peer in Rust: each line that a session's child prints, to all sockets of that session, with
//! socketioxide on axum and tokio.
//!
//! `peer-socketioxide AGENT` prints `listening PORT`, and ends with its stdin. A socket names its session in its auth;
//! the first of a session starts `AGENT --plain`, the last ends it. The event `ask` is a line to the child, `line` one
//! from it.

use std::{
    collections::{HashMap, HashSet},
    env, future, io,
    process::{Stdio, exit},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use axum::{Router, serve::ListenerExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketioxide::{
    BroadcastError, SocketError, SocketIo,
    extract::{Data, SocketRef},
    socket::Sid,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::{self, JoinHandle},
};

const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// So many that the memory ends first: a full buffer would cost a slow client a line, or at the next ping its
/// connection.
const PACKETS_QUEUED_MAX: usize = 1 << 26;
const CHUNK_BYTES: usize = 256 << 10;

type Failure = Box<dyn std::error::Error>;
type Sessions = Arc<Mutex<HashMap<String, Session>>>;

struct Session {
    members: HashSet<Sid>,
    /// Dropped with the session, which ends the child.
    asks: UnboundedSender<String>,
}

#[derive(Deserialize)]
struct Auth {
    session: String,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let agent = env::args().nth(1).ok_or("usage: peer-socketioxide AGENT")?;
    rlimit::increase_nofile_limit(u64::MAX)?;
    // The children end with this process: it holds the other end of their stdin.
    thread::spawn(|| exit(io::copy(&mut io::stdin(), &mut io::sink()).is_err().into()));

    let (layer, io) = SocketIo::builder()
        .max_buffer_size(PACKETS_QUEUED_MAX)
        .max_payload(MESSAGE_BYTES_MAX as u64)
        .ws_max_message_size(MESSAGE_BYTES_MAX)
        .ws_max_frame_size(MESSAGE_BYTES_MAX)
        .build_layer();
    let sessions = Sessions::default();
    io.ns("/", async move |io: SocketIo, socket: SocketRef, Data(auth): Data<Auth>| {
        join(&agent, &sessions, &io, &socket, auth.session);
    });

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening {}", listener.local_addr()?.port());
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    Ok(axum::serve(listener, Router::new().layer(layer)).await?)
}

fn join(agent: &str, sessions: &Sessions, io: &SocketIo, socket: &SocketRef, name: String) {
    socket.join(name.clone());
    let mut all = lock(sessions);
    let session = all.entry(name.clone()).or_insert_with(|| {
        let asks = start(agent, io, &name).unwrap_or_else(|failure| fail(&format!("{agent}: {failure}")));
        Session { members: HashSet::new(), asks }
    });
    session.members.insert(socket.id);
    let asks = session.asks.downgrade();
    drop(all);

    // Done by the time it returns, as two futures might run in any order.
    socket.on("ask", move |Data(line): Data<String>| {
        asks.upgrade().map(|asks| asks.send(line));
        future::ready(())
    });
    let members = sessions.clone();
    let session = name.clone();
    socket.on_disconnect(async move |socket: SocketRef| leave(&members, &session, socket.id));
    if !socket.connected() {
        leave(sessions, &name, socket.id); // it was gone before that handler was there
    }
    socket.emit("ready", &()).ok();
}

fn leave(sessions: &Sessions, name: &str, member: Sid) {
    let mut all = lock(sessions);
    if let Some(session) = all.get_mut(name) {
        session.members.remove(&member);
        if session.members.is_empty() {
            all.remove(name);
        }
    }
}

fn lock(sessions: &Sessions) -> MutexGuard<'_, HashMap<String, Session>> {
    sessions.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(agent: &str, io: &SocketIo, name: &str) -> io::Result<UnboundedSender<String>> {
    let mut child = Command::new(agent).arg("--plain").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (sender, asks) = mpsc::unbounded_channel();
    let relay = tokio::spawn(relay(stdout, io.clone(), name.to_owned()));
    tokio::spawn(feed(child, stdin, asks, relay));
    Ok(sender)
}

/// Hands the child what is asked, and ends it with the session.
async fn feed(mut child: Child, mut stdin: ChildStdin, mut asks: UnboundedReceiver<String>, relay: JoinHandle<()>) {
    while let Some(mut line) = asks.recv().await {
        line.push('\n');
        stdin.write_all(line.as_bytes()).await.ok(); // fails when the child has ended by itself
    }
    relay.abort();
    child.kill().await.ok();
}

async fn relay(mut stdout: ChildStdout, io: SocketIo, room: String) {
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    while stdout.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &buffer) {
            emit(&io, &room, &buffer[start..end]).await;
            start = end + 1;
        }
        buffer.drain(..start);
        buffer.reserve(CHUNK_BYTES);
        task::yield_now().await; // to the sockets' writers, which this has woken
    }
}

/// Checked to be JSON, but not taken apart.
async fn emit(io: &SocketIo, room: &str, line: &[u8]) {
    let line: &RawValue =
        serde_json::from_slice(line).unwrap_or_else(|failure| fail(&format!("a bad line: {failure}")));
    // The error does not tell which socket's buffer was full, so the line cannot be sent again to that one alone. A
    // socket that has left is no matter.
    match io.to(room.to_owned()).emit("line", line).await {
        Err(BroadcastError::Socket(errors)) if errors.iter().any(|e| matches!(e, SocketError::InternalChannelFull)) => {
            fail("a line is lost: a socket's buffer is full")
        }
        _ => {}
    }
}

fn fail(message: &str) -> ! {
    eprintln!("peer-socketioxide: {message}");
    exit(1)
}
