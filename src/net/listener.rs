//! The accept thread, and the server as a whole.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::engine::Protocol;
use super::outbox::{Helpers, run_writers};
use super::registry::{Shared, SocketEntry};
use super::{HttpHandler, Options, http};
use crate::proto::frames::CloseCode;
use crate::proto::http::Response;
use crate::threads::Threads;
use crate::timer::Timer;

/// After a failed accept (usually: no descriptors left) the next one is tried after this pause, or at shutdown.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long HTTP requests that are parked or under way get to end by themselves.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// A running server.
pub struct Server<P: Protocol> {
    shared: Arc<Shared<P>>,
    address: SocketAddr,
    stop: Sender<()>,
}

impl<P: Protocol> Server<P> {
    /// Serves `listener`: Engine.IO with `protocol` inside it, everything else by `http`.
    ///
    /// # Errors
    /// When the listener has no address or the system gives no thread.
    pub fn start(
        listener: TcpListener,
        options: Options,
        timer: Timer,
        protocol: P,
        http: Box<HttpHandler>,
    ) -> io::Result<Server<P>> {
        let address = listener.local_addr()?;
        let ((writers, asking), (gone, over)) = (unbounded(), unbounded());
        let threads = Threads::default();
        let shared = {
            let helpers = Helpers { writers, gone, room: options.room.clone() };
            Shared::new(options, timer, protocol, http, helpers, threads.clone())
        };
        // These two are not counted: they end only when the last outbox, and with it `shared`, is gone.
        std::thread::Builder::new().name("writers".into()).spawn(move || run_writers(&asking, &threads))?;
        let weak = Arc::downgrade(&shared);
        std::thread::Builder::new().name("leavers".into()).spawn(move || {
            for key in over {
                if let Some(engine) = weak.upgrade().and_then(|shared| shared.by_key(key)) {
                    let finished = catch_unwind(AssertUnwindSafe(|| engine.finish(false)));
                    if finished.is_err() {
                        log::error!("connection {key}: its end met a fault in this server");
                    }
                }
            }
        })?;
        let (stop, stopped) = bounded(1);
        let of_accept = shared.clone();
        shared.threads.spawn("accept".into(), move || accept(&of_accept, &listener, &stopped))?;
        Ok(Server { shared, address, stop })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.shared.counts.clients.load(Ordering::Relaxed)
    }

    /// A way to ask [`Server::clients`] that does not keep the server.
    pub fn client_count(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map_or(0, |shared| shared.counts.clients.load(Ordering::Relaxed))
    }

    /// Accepts no more connections. Those that are open stay.
    pub fn stop_accepting(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = self.stop.try_send(());
        // `accept` is not interrupted by signals: a connection of our own ends its wait.
        let loopback: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        };
        let ip = Some(self.address.ip()).filter(|ip| !ip.is_unspecified()).unwrap_or(loopback);
        let _ = TcpStream::connect_timeout(&(ip, self.address.port()).into(), Duration::from_secs(1));
    }

    /// Closes every connection (WebSocket 1001, polling `1`: going away, upon which clients come back) and waits for
    /// their threads, at most until `deadline`. `false`: some still ran.
    pub fn close(&self, deadline: Instant) -> bool {
        for engine in self.shared.all_engines() {
            engine.peer.connection.close(CloseCode::GoingAway);
        }
        // Idle HTTP connections have nothing more to say; those with a request under way may end it.
        self.shared.shut(Shutdown::Read, false);
        let soon = (Instant::now() + LAST_REQUESTS).min(deadline);
        if self.shared.threads.wait_all(soon) {
            return true;
        }
        self.shared.shut(Shutdown::Both, true);
        self.shared.threads.wait_all(deadline)
    }
}

fn accept<P: Protocol>(shared: &Arc<Shared<P>>, listener: &TcpListener, stopped: &Receiver<()>) {
    loop {
        let accepted = listener.accept();
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        match accepted {
            Ok((socket, peer)) => serve(shared, socket, peer),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                log::error!("cannot accept connections for now: {error}");
                if stopped.recv_timeout(ACCEPT_PAUSE).is_ok() {
                    return;
                }
            }
        }
    }
}

fn serve<P: Protocol>(shared: &Arc<Shared<P>>, socket: TcpStream, peer: SocketAddr) {
    if !shared.make_room() {
        log::warn!("{peer}: refused, there are too many connections (--max-connections)");
        return refuse(&socket);
    }
    let socket = Arc::new(socket);
    let entry = SocketEntry::enter(shared, &socket);
    let refused = socket.clone();
    let served = shared.threads.spawn("conn".into(), move || http::serve(&socket, peer, &entry));
    if let Err(error) = served {
        log::error!("{peer}: refused, no thread for it: {error}");
        refuse(&refused);
    }
}

/// Tells a client that there is no room, if it can be told without waiting.
fn refuse(socket: &TcpStream) {
    let response = Response::error(503).encode(false, false);
    if socket.set_nonblocking(true).is_ok() {
        let _ = (&mut &*socket).write(&response);
    }
}
