//! The accept thread, and the server as a whole.

use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::outbox::run_writers;
use super::registry::{Registered, Shared};
use super::{App, HttpHandler, Options, http};
use crate::proto::frames::CloseCode;
use crate::proto::http::Response;
use crate::threads::Threads;
use crate::timer::Timer;
use parking_lot::Mutex;

/// After a failed accept (usually: no descriptors left) the next one is tried after this pause, or at shutdown.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A running server.
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: Sender<()>,
}

impl Server {
    /// Serves `listener`: Engine.IO for `app`, everything else by `http`.
    ///
    /// # Errors
    /// When the listener has no address or the system gives no thread.
    pub fn start<A: App>(
        listener: TcpListener,
        options: Options,
        timer: Timer,
        app: Arc<A>,
        http: Box<HttpHandler>,
    ) -> io::Result<Server> {
        let address = listener.local_addr()?;
        let (writers, asking) = unbounded();
        let threads = Threads::default();
        let shared = Arc::new(Shared {
            options,
            timer,
            http,
            sockets: Mutex::default(),
            strangers: AtomicUsize::new(0),
            clients: AtomicUsize::new(0),
            writers,
            keys: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            threads: threads.clone(),
        });
        // Not one of the counted: it ends only when the last outbox, and with it `shared`, is gone.
        std::thread::Builder::new().name("writers".into()).spawn(move || run_writers(&asking, &threads))?;
        let (stop, stopped) = bounded(1);
        let of_accept = shared.clone();
        shared.threads.spawn("accept".into(), move || of_accept.accept(&listener, &stopped, &app))?;
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
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// A way to ask [`Server::clients`] that does not keep the server.
    pub fn client_count(&self) -> impl Fn() -> usize + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade().map_or(0, |shared| shared.clients.load(Ordering::Relaxed))
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

    /// Closes every connection (1001: going away, upon which clients come back) and waits for their threads, at most
    /// until `deadline`. `false`: some still ran.
    pub fn close(&self, deadline: Instant) -> bool {
        for open in self.shared.sockets.lock().values() {
            match &open.connection {
                Some(connection) => connection.close(CloseCode::GoingAway),
                None => drop(open.socket.shutdown(Shutdown::Both)),
            }
        }
        self.shared.threads.wait_all(deadline)
    }
}

impl Shared {
    fn accept<A: App>(self: Arc<Self>, listener: &TcpListener, stopped: &Receiver<()>, app: &Arc<A>) {
        loop {
            let accepted = listener.accept();
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            match accepted {
                Ok((socket, peer)) => self.clone().serve(socket, peer, app),
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

    fn serve<A: App>(self: Arc<Self>, socket: TcpStream, peer: SocketAddr, app: &Arc<A>) {
        let full = self.sockets.lock().len() >= self.options.max_connections;
        let crowded = self.strangers.load(Ordering::Relaxed) >= super::STRANGERS_MAX;
        if full || crowded {
            log::warn!("{peer}: refused, there are too many connections (--max-connections)");
            return refuse(&socket);
        }
        let socket = Arc::new(socket);
        let registered = Registered::enter(&self, &socket);
        let (app, refused) = (app.clone(), socket.clone());
        let served = self.threads.spawn(format!("conn-{}", registered.key), move || {
            http::serve(&socket, peer, registered, &*app);
        });
        if let Err(error) = served {
            log::error!("{peer}: refused, no thread for it: {error}");
            refuse(&refused);
        }
    }
}

/// Tells a client that there is no room, if it can be told without waiting.
fn refuse(socket: &TcpStream) {
    let response = Response::error(503).encode(false, false);
    if socket.set_nonblocking(true).is_ok() {
        let _ = (&mut &*socket).write(&response);
    }
}
