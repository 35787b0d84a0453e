//! One client's connection, as all threads but its own see it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::outbox::{Backlog, Outbox, Sink};
use super::recovery::Kept;
use crate::proto::engineio::{self, Beat, Heartbeat};
use crate::proto::frames::{CloseCode, Frames};
use crate::timer::{Timed, Timer};

/// After a close frame was sent the client has this long to answer it.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(500);

/// An open Engine.IO connection. Pings it, and ends it when it must.
pub struct Connection {
    /// Names it within this server.
    pub key: u64,
    outbox: Arc<Outbox>,
    clock: Mutex<Clock>,
    timer: Timer,
    itself: Weak<Connection>,
    ping: Arc<Frames>,
    /// Those that want to know what has arrived.
    watching: Mutex<Vec<Weak<Kept>>>,
}

struct Clock {
    heartbeat: Heartbeat,
    /// Without a successful CONNECT the connection ends then.
    connect_until: Option<Instant>,
    /// A close frame was sent; then the socket is shut.
    closed_until: Option<Instant>,
    /// The timer wakes this connection then, or earlier.
    woken_at: Instant,
}

impl Clock {
    fn next(&self) -> Instant {
        let others = [self.connect_until, self.closed_until];
        others.into_iter().flatten().fold(self.heartbeat.next_deadline(), Instant::min)
    }

    /// When the timer is to be asked for an earlier wake-up than it knows of.
    fn earlier(&mut self) -> Option<Instant> {
        let next = self.next();
        let earlier = next < self.woken_at;
        if earlier {
            self.woken_at = next;
        }
        earlier.then_some(next)
    }
}

impl Connection {
    /// Starts the clocks of a connection that was opened at `now`.
    #[must_use]
    pub fn open(
        key: u64,
        outbox: Arc<Outbox>,
        heartbeat: Heartbeat,
        connect_until: Instant,
        timer: Timer,
    ) -> Arc<Connection> {
        let mut clock =
            Clock { heartbeat, connect_until: Some(connect_until), closed_until: None, woken_at: connect_until };
        clock.woken_at = clock.next();
        let first = clock.woken_at;
        let connection = Arc::new_cyclic(|itself| Connection {
            key,
            outbox,
            clock: Mutex::new(clock),
            timer,
            itself: itself.clone(),
            ping: Arc::new(Frames::packet(engineio::PING)),
            watching: Mutex::default(),
        });
        connection.wake(Some(first));
        connection
    }

    /// Sends one Engine.IO packet.
    pub fn send(&self, packet: &str) -> bool {
        self.outbox.push(&Arc::new(Frames::packet(packet)))
    }

    /// The client has answered a ping.
    pub fn pong(&self) {
        let mut clock = self.clock.lock();
        let now = Instant::now();
        self.bear_with(&mut clock, now);
        clock.heartbeat.on_pong(now);
        // The next ping may be due before the time-out of the last would have been.
        let earlier = clock.earlier();
        drop(clock);
        self.wake(earlier);
        self.tell(Kept::on_pong);
    }

    /// Whether its heartbeat is lost by now: the timer, which ends it for that, may be late.
    pub fn is_lost(&self) -> bool {
        self.clock.lock().heartbeat.is_lost(Instant::now())
    }

    /// A client that reads what comes before the ping, however slowly, is not dead.
    fn bear_with(&self, clock: &mut Clock, now: Instant) {
        if clock.heartbeat.is_lost(now) && self.outbox.takes() {
            clock.heartbeat.extend(now);
        }
    }

    /// Tells `kept` of pings and pongs from now on.
    pub(super) fn watch(&self, kept: Weak<Kept>) {
        let mut watching = self.watching.lock();
        watching.retain(|kept| kept.strong_count() > 0);
        watching.push(kept);
    }

    fn tell(&self, what: fn(&Kept, u64)) {
        let watching: Vec<_> = self.watching.lock().iter().filter_map(Weak::upgrade).collect();
        for kept in watching {
            what(&kept, self.key);
        }
    }

    /// A CONNECT has succeeded: the connection may stay.
    pub fn connected(&self) {
        self.clock.lock().connect_until = None;
    }

    /// Ends the connection with a close frame. Never blocks.
    pub fn close(&self, code: CloseCode) {
        self.outbox.close(code);
        self.expect_close();
    }

    /// Its outbox.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Passes on what the reading side wants to write: pongs, and the answer to a close frame.
    pub(super) fn pass(&self, frame: Vec<u8>) {
        const OPCODE: u8 = 0x0f;
        const CLOSE: u8 = 8;
        let closes = frame.first().is_some_and(|first| first & OPCODE == CLOSE);
        let frames = Arc::new(Frames::raw(frame));
        if closes {
            self.outbox.close_with(&frames);
            self.expect_close();
        } else {
            self.outbox.push(&frames);
        }
    }

    /// Shuts the socket: the reading thread sees the end.
    pub(super) fn kill(&self) {
        self.outbox.kill();
    }

    fn expect_close(&self) {
        let mut clock = self.clock.lock();
        clock.closed_until.get_or_insert(Instant::now() + CLOSE_TIMEOUT);
        let earlier = clock.earlier();
        drop(clock);
        self.wake(earlier);
    }

    fn wake(&self, at: Option<Instant>) {
        let itself: Weak<dyn Timed> = self.itself.clone();
        if let Some(at) = at {
            self.timer.wake(at, itself);
        }
    }
}

impl Sink for Connection {
    fn push(&self, frames: &Arc<Frames>) -> bool {
        self.outbox.push(frames)
    }

    fn backlog(&self) -> Backlog {
        self.outbox.backlog()
    }
}

impl Timed for Connection {
    fn on_deadline(&self, now: Instant) -> Option<Instant> {
        let mut clock = self.clock.lock();
        let due = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        let (late, silent) = (due(clock.closed_until), due(clock.connect_until));
        if silent {
            clock.connect_until = None;
        }
        self.bear_with(&mut clock, now);
        let beat = clock.heartbeat.on_deadline(now);
        let next = clock.next();
        // Of several wake-ups only the earliest goes on: the others were asked for before it.
        let goes_on = clock.woken_at <= now;
        if goes_on {
            clock.woken_at = next;
        }
        drop(clock);
        if late || beat == Beat::Dead {
            log::debug!("connection {}: {}", self.key, if late { "closed" } else { "its heartbeat is lost" });
            self.kill();
            return None;
        }
        if silent {
            log::info!("connection {}: no successful CONNECT in time", self.key);
            self.close(CloseCode::None);
        } else if beat == Beat::Ping {
            self.tell(Kept::on_ping);
            self.outbox.push_ping(&self.ping);
        }
        Some(next).filter(|_| goes_on)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    use crossbeam_channel::unbounded;

    use super::super::outbox::{Helpers, STALL_TIMEOUT, run_writers};
    use super::*;
    use crate::threads::Threads;

    const PING: Duration = Duration::from_millis(50);
    const TIMEOUT: Duration = Duration::from_secs(2);
    const MUCH: usize = 32 << 20;

    /// A client that takes much longer for what waits for it than it may take for a pong.
    #[test]
    fn whoever_reads_slowly_is_not_taken_for_dead_before_the_ping_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        // What the kernel holds for it counts as taken: that is to be little.
        let bytes: libc::c_int = 64 * 1024;
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open, and one int is read.
        let set = unsafe {
            libc::setsockopt(client.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const bytes).cast(), size)
        };
        assert_eq!(set, 0);
        let (server, _) = listener.accept().expect("accepted");
        server.set_write_timeout(Some(STALL_TIMEOUT)).expect("set");
        let (writers, asking) = unbounded();
        let (threads, (timer, _)) = (Threads::default(), Timer::start().expect("a timer"));
        let of_writers = threads.clone();
        threads.spawn("writers".into(), move || run_writers(&asking, &of_writers)).expect("a thread");
        let helpers = Helpers { writers, gone: unbounded().0, room: Arc::default() };
        let outbox = Outbox::new(0, Some(Arc::new(server)), usize::MAX, helpers);
        let large = Arc::new(Frames::packet(&"x".repeat(MUCH)));
        // Before the clock starts: what is pushed behind a ping gives it no time.
        assert!(outbox.push(&large));
        let now = Instant::now();
        let beat = Heartbeat::new(now, PING, TIMEOUT);
        let _connection = Connection::open(0, outbox, beat, now + Duration::from_secs(600), timer);
        // Half a megabyte at a time: all of it takes more than two time-outs, and something is taken within each.
        let mut piece = vec![0; MUCH / 64];
        let mut read = 0;
        while read < large.bytes().len() {
            std::thread::sleep(2 * PING);
            let wanted = piece.len().min(large.bytes().len() - read);
            client.read_exact(&mut piece[..wanted]).expect("it is not cut");
            read += wanted;
        }
        assert!(now.elapsed() > 2 * TIMEOUT);
        let mut ping = [0; 3];
        client.read_exact(&mut ping).expect("the ping");
        assert_eq!(&ping, b"\x81\x012");
        // Who does not answer it then is dead.
        assert_eq!(client.read(&mut [0; 16]).unwrap_or(0), 0);
    }
}
