//! The floor: child → pipe → a loop that writes ready-made frames → TCP. No protocol is read, nothing is checked, nothing is
//! kept: what is left is what the kernel and the memory take.
//!
//! It answers what the load generator says with what that wants to hear. `bench_floor CHILD` prints `listening PORT`.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// What one read of the pipe takes.
const READ_BYTES: usize = 64 * 1024;

const STACK_BYTES: usize = 64 * 1024;

const ACCEPTED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n\x81\x100{\"sid\":\"floor\"}";
const CONNECTED: &[u8] = b"\x81\x1140{\"sid\":\"floor\"}\x81\x0b42[\"ready\"]";

/// One child and those who get its lines.
struct Session {
    child: Mutex<Option<(Child, ChildStdin)>>,
    clients: Mutex<Vec<Arc<TcpStream>>>,
}

type Sessions = Arc<Mutex<HashMap<String, Arc<Session>>>>;

fn main() {
    let exe = std::env::args().nth(1).expect("the child's path");
    raise_descriptors();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    // SAFETY: listening again only makes room for more who wait.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 4096) };
    println!("listening {}", listener.local_addr().expect("an address").port());
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let sessions = Sessions::default();
    for socket in listener.incoming() {
        let (Ok(socket), sessions, exe) = (socket, sessions.clone(), exe.clone()) else { continue };
        let serving = thread::Builder::new().stack_size(STACK_BYTES);
        serving.spawn(move || serve(socket, &sessions, &exe)).expect("a thread");
    }
}

fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

fn serve(socket: TcpStream, sessions: &Sessions, exe: &str) {
    let _ = socket.set_nodelay(true);
    let socket = Arc::new(socket);
    let say = |bytes| drop((&*socket).write_all(bytes));
    let mut session: Option<Arc<Session>> = None;
    let mut buffer = [0; 2048];
    while let Ok(count @ 1..) = (&*socket).read(&mut buffer) {
        let said = &buffer[..count];
        if said.starts_with(b"GET") {
            say(ACCEPTED);
            continue;
        }
        // The load generator masks with zeros: what it says is there to be read.
        let text = String::from_utf8_lossy(said);
        if let Some((_, rest)) = text.split_once(r#"40{"session":""#) {
            let name = rest.split('"').next().unwrap_or_default().to_owned();
            let known = sessions.lock().expect("a lock").entry(name).or_insert_with(|| begin(exe)).clone();
            let mut clients = known.clients.lock().expect("a lock");
            // Told while nobody can ask: no line goes out between the two.
            say(CONNECTED);
            clients.push(socket.clone());
            drop(clients);
            session = Some(known);
        } else if let Some((_, rest)) = text.split_once(r#"42["ask",""#)
            && let Some(session) = &session
        {
            let order = rest.split('"').next().unwrap_or_default();
            let mut child = session.child.lock().expect("a lock");
            let (_, stdin) = child.as_mut().expect("a child");
            writeln!(stdin, "{order}").expect("the child reads");
        }
    }
}

fn begin(exe: &str) -> Arc<Session> {
    let spawned = Command::new(exe).arg("--plain").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = spawned.expect("the child");
    let stdin = child.stdin.take().expect("a pipe");
    let stdout = child.stdout.take().expect("a pipe");
    let session = Arc::new(Session { child: Mutex::new(Some((child, stdin))), clients: Mutex::default() });
    let relaying = session.clone();
    thread::Builder::new().stack_size(STACK_BYTES).spawn(move || relay(stdout, &relaying)).expect("a thread");
    session
}

fn relay(stdout: impl Read, session: &Session) {
    let mut lines = BufReader::with_capacity(READ_BYTES, stdout);
    let mut frames = Vec::with_capacity(2 * READ_BYTES);
    let mut begun = Vec::new();
    while let Ok(read @ [_, ..]) = lines.fill_buf() {
        frames.clear();
        let mut used = 0;
        for end in memchr::memchr_iter(b'\n', read) {
            frame(&mut frames, &begun, &read[used..end]);
            begun.clear();
            used = end + 1;
        }
        begun.extend_from_slice(&read[used..]);
        let all = read.len();
        for client in &*session.clients.lock().expect("a lock") {
            let _ = (&**client).write_all(&frames);
        }
        lines.consume(all);
    }
}

fn frame(frames: &mut Vec<u8>, begun: &[u8], rest: &[u8]) {
    const BEFORE: &[u8] = br#"42["line","#;
    let length = BEFORE.len() + begun.len() + rest.len() + 1;
    match u16::try_from(length) {
        Ok(length) => {
            frames.extend_from_slice(&[0x81, 126]);
            frames.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frames.extend_from_slice(&[0x81, 127]);
            frames.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    for part in [BEFORE, begun, rest, b"]"] {
        frames.extend_from_slice(part);
    }
}
