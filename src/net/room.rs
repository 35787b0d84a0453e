//! How those who produce wait for those who are behind, without holding anything.
//!
//! Whoever reads Claude's output pauses while *every* viewer of the session is behind: so a lone slow client paces Claude,
//! and one slow client among others does not. There is one bell for all: it rings when some client has caught up or is
//! gone, and everybody who waits looks again whether it was for them.

use parking_lot::{Condvar, Mutex};

/// The bell.
#[derive(Default)]
pub struct Room {
    rings: Mutex<u64>,
    rang: Condvar,
}

impl Room {
    /// Somebody has caught up, has come or has gone.
    pub fn ring(&self) {
        *self.rings.lock() += 1;
        self.rang.notify_all();
    }

    /// Returns as soon as `is_crowded` says no; asks again at every ring. The caller holds no lock.
    pub fn wait_while(&self, mut is_crowded: impl FnMut() -> bool) {
        let mut seen = *self.rings.lock();
        while is_crowded() {
            let mut rings = self.rings.lock();
            while *rings == seen {
                self.rang.wait(&mut rings);
            }
            seen = *rings;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_ring_between_the_look_and_the_wait_is_not_missed() {
        let (room, left) = (Arc::new(Room::default()), Arc::new(AtomicUsize::new(1000)));
        let (bell, leaving) = (room.clone(), left.clone());
        let ringer = std::thread::spawn(move || {
            while leaving.load(Ordering::SeqCst) > 0 {
                leaving.fetch_sub(1, Ordering::SeqCst);
                bell.ring();
            }
        });
        room.wait_while(|| left.load(Ordering::SeqCst) > 0);
        ringer.join().expect("ends");
        room.wait_while(|| false);
    }
}
