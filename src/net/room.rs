//! How those who produce wait for those who are behind, without holding anything.
//!
//! Whoever reads Claude's output pauses while *every* viewer of the session is behind: so a lone slow client paces Claude,
//! and one slow client among others does not, but for a moment before it would be sent away. There is one bell for all: it
//! rings when some client has caught up or is gone, and everybody who waits looks again whether it was for them.

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::outbox::Backlog;

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

    /// Returns as soon as `look` says that there is room; asks again at every ring. The caller holds no lock.
    pub fn wait(&self, mut look: impl FnMut() -> Crowd) {
        let mut seen = *self.rings.lock();
        loop {
            let until = match look() {
                Crowd::Nobody => return,
                Crowd::Some => None,
                Crowd::Until(moment) => Some(moment),
            };
            let mut rings = self.rings.lock();
            while *rings == seen {
                match until {
                    None => self.rang.wait(&mut rings),
                    Some(moment) if self.rang.wait_until(&mut rings, moment).timed_out() => break,
                    Some(_) => {}
                }
            }
            seen = *rings;
        }
    }
}

/// Who is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowd {
    /// Nobody: there is room.
    Nobody,
    /// Somebody, until the bell rings.
    Some,
    /// Somebody, until this moment if the bell does not ring before.
    Until(Instant),
}

impl Crowd {
    /// Whom to wait for before there is more for all of these: for the fastest that is there, and for a moment for one that
    /// would soon be sent away.
    pub fn of(backlogs: impl IntoIterator<Item = Backlog>) -> Crowd {
        let (mut somebody, mut all_have_much, mut near_limit) = (false, true, None);
        for backlog in backlogs {
            match backlog {
                Backlog::Gone => continue,
                Backlog::Little => all_have_much = false,
                Backlog::Much => {}
                Backlog::NearLimit(until) => near_limit = near_limit.max(Some(until)),
            }
            somebody = true;
        }
        match near_limit {
            _ if somebody && all_have_much => Crowd::Some,
            Some(until) => Crowd::Until(until),
            None => Crowd::Nobody,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

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
        room.wait(|| if left.load(Ordering::SeqCst) > 0 { Crowd::Some } else { Crowd::Nobody });
        ringer.join().expect("ends");
        room.wait(|| Crowd::Nobody);
    }

    #[test]
    fn whoever_is_gone_is_neither_waited_for_nor_a_reason_not_to_wait() {
        use Backlog::{Gone, Little, Much, NearLimit};
        let soon = Instant::now() + Duration::from_secs(1);
        let cases: [(&[Backlog], Crowd); 8] = [
            (&[], Crowd::Nobody),
            (&[Gone], Crowd::Nobody),
            (&[Gone, Little], Crowd::Nobody),
            (&[Gone, Much], Crowd::Some),
            (&[Much, Little], Crowd::Nobody),
            (&[NearLimit(soon), Gone], Crowd::Some),
            (&[NearLimit(soon), Little], Crowd::Until(soon)),
            (&[NearLimit(soon), Much], Crowd::Some),
        ];
        for (backlogs, crowd) in cases {
            assert_eq!(Crowd::of(backlogs.iter().copied()), crowd, "{backlogs:?}");
        }
    }

    #[test]
    fn who_never_rings_is_waited_for_until_the_moment_that_was_named() {
        let until = Instant::now() + Duration::from_millis(20);
        Room::default().wait(|| if Instant::now() < until { Crowd::Until(until) } else { Crowd::Nobody });
        assert!(Instant::now() >= until);
    }
}
