//! The books: which sockets are open, and what their threads share.

use std::collections::HashMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use super::connection::Connection;
use super::outbox::Outbox;
use super::{HttpHandler, Options};
use crate::proto::frames::CloseCode;
use crate::threads::Threads;
use crate::timer::Timer;

/// What every connection's thread needs.
pub(super) struct Shared {
    pub options: Options,
    pub timer: Timer,
    pub http: Box<HttpHandler>,
    /// All that are open, HTTP included; the value is there once Engine.IO is spoken.
    pub sockets: Mutex<HashMap<u64, Open>>,
    /// Connections without a successful CONNECT.
    pub strangers: AtomicUsize,
    /// Those with one.
    pub clients: AtomicUsize,
    pub writers: Sender<Arc<Outbox>>,
    pub keys: AtomicU64,
    pub stopping: AtomicBool,
    pub threads: Threads,
}

/// An open socket.
pub(super) struct Open {
    pub socket: Arc<TcpStream>,
    pub connection: Option<Arc<Connection>>,
}

/// A connection's entry in the books; it is crossed out when this is dropped, panics included.
pub(super) struct Registered {
    pub shared: Arc<Shared>,
    pub key: u64,
    stranger: bool,
}

impl Registered {
    /// Enters a socket that was just accepted.
    pub fn enter(shared: &Arc<Shared>, socket: &Arc<TcpStream>) -> Registered {
        let key = shared.keys.fetch_add(1, Ordering::Relaxed);
        shared.sockets.lock().insert(key, Open { socket: socket.clone(), connection: None });
        shared.strangers.fetch_add(1, Ordering::Relaxed);
        Registered { shared: shared.clone(), key, stranger: true }
    }

    /// Engine.IO is spoken from now on.
    pub fn opened(&self, connection: &Arc<Connection>) {
        let mut sockets = self.shared.sockets.lock();
        if let Some(open) = sockets.get_mut(&self.key) {
            open.connection = Some(connection.clone());
        }
        drop(sockets);
        if self.shared.stopping.load(Ordering::SeqCst) {
            connection.close(CloseCode::GoingAway);
        }
    }

    /// A CONNECT has succeeded.
    pub fn authenticated(&mut self) {
        if std::mem::take(&mut self.stranger) {
            self.shared.strangers.fetch_sub(1, Ordering::Relaxed);
            self.shared.clients.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.shared.sockets.lock().remove(&self.key);
        let count = if self.stranger { &self.shared.strangers } else { &self.shared.clients };
        count.fetch_sub(1, Ordering::Relaxed);
    }
}
