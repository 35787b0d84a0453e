//! The books: which sockets and which Engine.IO connections are open, and what their threads share.

use std::collections::{HashMap, VecDeque};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::engine::{Counts, Engine, Protocol};
use super::outbox::Helpers;
use super::{HttpHandler, Options};
use crate::threads::Threads;
use crate::timer::Timer;

/// How many connections that their clients have closed are remembered: a poll that was under way gets its answer.
const TOMBSTONES_MAX: usize = 256;

/// What every connection's thread needs.
pub(super) struct Shared<P: Protocol> {
    pub options: Options,
    pub timer: Timer,
    pub protocol: P,
    pub http: Box<HttpHandler>,
    pub helpers: Helpers,
    pub stopping: AtomicBool,
    pub threads: Threads,
    pub counts: Arc<Counts>,
    sockets: Mutex<HashMap<u64, Open>>,
    engines: Mutex<Engines<P>>,
    keys: AtomicU64,
}

/// An open socket.
struct Open {
    socket: Arc<TcpStream>,
    /// It carries a WebSocket: its Engine.IO connection sees to its end.
    websocket: bool,
    /// A request is being served on it.
    busy: bool,
}

struct Engines<P: Protocol> {
    by_sid: HashMap<String, Arc<Engine<P>>>,
    sids: HashMap<u64, String>,
    tombstones: VecDeque<String>,
}

/// What a session id stands for.
pub(super) enum Known<P: Protocol> {
    Open(Arc<Engine<P>>),
    /// Its client has just closed it.
    Left,
    Unknown,
}

impl<P: Protocol> Shared<P> {
    pub fn new(
        options: Options,
        timer: Timer,
        protocol: P,
        http: Box<HttpHandler>,
        helpers: Helpers,
        threads: Threads,
    ) -> Arc<Shared<P>> {
        Arc::new(Shared {
            options,
            timer,
            protocol,
            http,
            helpers,
            stopping: AtomicBool::new(false),
            threads,
            counts: Arc::default(),
            sockets: Mutex::default(),
            engines: Mutex::new(Engines { by_sid: HashMap::new(), sids: HashMap::new(), tombstones: VecDeque::new() }),
            keys: AtomicU64::new(0),
        })
    }

    pub fn next_key(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether one more socket may come. If there are too many, the one goes that has been open longest without a request on
    /// it: whoever opens many and says nothing must not keep others out. `false`: all are in use.
    pub fn make_room(&self) -> bool {
        let mut sockets = self.sockets.lock();
        if sockets.len() < self.options.max_connections {
            return true;
        }
        let idle = sockets.iter().filter(|(_, open)| !open.websocket && !open.busy).map(|(key, _)| *key).min();
        let Some(evicted) = idle.and_then(|key| sockets.remove(&key)) else { return false };
        // One whose client has gone cannot be shut, and makes room all the same.
        let _ = evicted.socket.shutdown(Shutdown::Both);
        true
    }

    /// Shuts all sockets, or only those that speak HTTP; for the end of the server.
    pub fn shut(&self, how: Shutdown, websockets_too: bool) {
        for open in self.sockets.lock().values().filter(|open| websockets_too || !open.websocket) {
            let _ = open.socket.shutdown(how);
        }
    }

    /// All connections; for the end of the server.
    pub fn all_engines(&self) -> Vec<Arc<Engine<P>>> {
        self.engines.lock().by_sid.values().cloned().collect()
    }

    /// Enters a new connection.
    pub fn enter(&self, engine: &Arc<Engine<P>>) {
        let mut engines = self.engines.lock();
        engines.sids.insert(engine.peer.key(), engine.sid.clone());
        engines.by_sid.insert(engine.sid.clone(), engine.clone());
    }

    /// Crosses a connection out. `false`: it was out already.
    pub fn leave(&self, engine: &Engine<P>, by_client: bool) -> bool {
        let mut engines = self.engines.lock();
        engines.sids.remove(&engine.peer.key());
        let was_in = engines.by_sid.remove(&engine.sid).is_some();
        if was_in && by_client {
            if engines.tombstones.len() >= TOMBSTONES_MAX {
                engines.tombstones.pop_front();
            }
            engines.tombstones.push_back(engine.sid.clone());
        }
        was_in
    }

    pub fn by_sid(&self, sid: &str) -> Known<P> {
        let engines = self.engines.lock();
        match engines.by_sid.get(sid) {
            Some(engine) => Known::Open(engine.clone()),
            None if engines.tombstones.iter().any(|left| left == sid) => Known::Left,
            None => Known::Unknown,
        }
    }

    /// The first poll after the client's own close was answered: from now on the id is unknown.
    pub fn forget(&self, sid: &str) {
        self.engines.lock().tombstones.retain(|left| left != sid);
    }

    pub fn by_key(&self, key: u64) -> Option<Arc<Engine<P>>> {
        let engines = self.engines.lock();
        engines.by_sid.get(engines.sids.get(&key)?).cloned()
    }
}

/// A socket's entry in the books; it is crossed out when this is dropped, panics included.
pub(super) struct SocketEntry<P: Protocol> {
    pub shared: Arc<Shared<P>>,
    key: u64,
}

impl<P: Protocol> SocketEntry<P> {
    pub fn enter(shared: &Arc<Shared<P>>, socket: &Arc<TcpStream>) -> SocketEntry<P> {
        let key = shared.next_key();
        shared.sockets.lock().insert(key, Open { socket: socket.clone(), websocket: false, busy: false });
        SocketEntry { shared: shared.clone(), key }
    }

    /// Whether a request is being served.
    pub fn busy(&self, busy: bool) {
        if let Some(open) = self.shared.sockets.lock().get_mut(&self.key) {
            open.busy = busy;
        }
    }

    /// The socket is a WebSocket from now on.
    pub fn is_websocket(&self) {
        if let Some(open) = self.shared.sockets.lock().get_mut(&self.key) {
            open.websocket = true;
        }
    }
}

impl<P: Protocol> Drop for SocketEntry<P> {
    fn drop(&mut self) {
        self.shared.sockets.lock().remove(&self.key);
    }
}
