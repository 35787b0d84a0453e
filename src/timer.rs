//! One thread for every deadline of the server.
//!
//! Heartbeats, start-up and interrupt time-outs, the steps of stopping a process: each is an object that knows its
//! own next deadline. The timer keeps weak references, so a deadline never keeps a closed connection or a deleted
//! session alive. A wake-up that came too early is harmless: the object looks at the clock and answers when it wants
//! to be woken next. So nobody ever cancels anything here.
//!
//! Deadlines that lie close together are met together, at the last moment of the first of them: with a thousand idle
//! connections it is not the pings that cost, but waking up for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// A deadline may be met later by this part of the time that was left when it was set: after 25 s, by a quarter of one.
const LATENESS_PART: u32 = 100;

/// Something with deadlines of its own.
pub trait Timed: Send + Sync {
    /// Does what is due at `now` and returns the next deadline, if there is one.
    ///
    /// Runs on the timer's thread, so it must not block: everybody's heartbeat waits behind it.
    fn on_deadline(&self, now: Instant) -> Option<Instant>;
}

/// A handle on the timer thread. Cheap to clone; the thread ends with [`Timer::stop`].
#[derive(Clone)]
pub struct Timer {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<Queue>,
    earlier: Condvar,
}

#[derive(Default)]
struct Queue {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Breaks ties, so that equal deadlines fire in the order in which they were set.
    count: u64,
    stopped: bool,
}

struct Entry {
    /// Not before this.
    at: Instant,
    /// Not after this, as far as it depends on the timer.
    latest: Instant,
    order: u64,
    what: Weak<dyn Timed>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.latest, self.order) == (other.latest, other.order)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.latest, self.order).cmp(&(other.latest, other.order))
    }
}

impl Timer {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start() -> io::Result<(Timer, JoinHandle<()>)> {
        let timer = Timer { shared: Arc::new(Shared { queue: Mutex::default(), earlier: Condvar::new() }) };
        let shared = timer.shared.clone();
        let thread = thread::Builder::new().name("timer".into()).spawn(move || shared.run())?;
        Ok((timer, thread))
    }

    /// Wakes `what` at `at` (or a little later, never earlier).
    pub fn wake(&self, at: Instant, what: Weak<dyn Timed>) {
        let now = Instant::now();
        let mut queue = self.shared.queue.lock();
        let first = queue.push(now, at, what);
        drop(queue);
        if first {
            self.shared.earlier.notify_one();
        }
    }

    /// Ends the thread; what was scheduled is forgotten.
    pub fn stop(&self) {
        self.shared.queue.lock().stopped = true;
        self.shared.earlier.notify_one();
    }
}

impl Queue {
    /// Whether the thread, which may sleep until what was the first so far, has to wake earlier.
    fn push(&mut self, now: Instant, at: Instant, what: Weak<dyn Timed>) -> bool {
        self.count += 1;
        let latest = at + at.saturating_duration_since(now) / LATENESS_PART;
        let first = self.heap.peek().is_none_or(|Reverse(entry)| latest < entry.latest);
        self.heap.push(Reverse(Entry { at, latest, order: self.count, what }));
        first
    }

    /// What is due at `now`; else how long there is nothing, or that there is nothing at all.
    fn pop_due(&mut self, now: Instant) -> Result<Entry, Option<Instant>> {
        match self.heap.peek() {
            None => Err(None),
            Some(Reverse(entry)) if entry.at > now => Err(Some(entry.latest)),
            Some(_) => Ok(self.heap.pop().expect("there is one").0),
        }
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        while !queue.stopped {
            let now = Instant::now();
            let entry = match queue.pop_due(now) {
                Ok(entry) => entry,
                Err(None) => {
                    self.earlier.wait(&mut queue);
                    continue;
                }
                Err(Some(until)) => {
                    self.earlier.wait_until(&mut queue, until);
                    continue;
                }
            };
            // Called without the lock: what is due may well schedule something itself.
            drop(queue);
            let what = entry.what.upgrade();
            // A fault in one must not take everybody's heartbeat with it.
            let next = catch_unwind(AssertUnwindSafe(|| what.and_then(|what| what.on_deadline(now))));
            let next = next.unwrap_or_else(|_| {
                log::error!("a deadline was missed because of a fault in this server");
                None
            });
            queue = self.queue.lock();
            if let Some(at) = next {
                queue.push(now, at, entry.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, unbounded};
    use std::time::Duration;

    struct Probe {
        name: u32,
        fired: Sender<(u32, Instant)>,
        again: Mutex<Vec<Instant>>,
    }

    impl Timed for Probe {
        fn on_deadline(&self, now: Instant) -> Option<Instant> {
            self.fired.send((self.name, now)).expect("the test still listens");
            self.again.lock().pop()
        }
    }

    fn probe(name: u32, again: Vec<Instant>) -> (Arc<Probe>, Receiver<(u32, Instant)>) {
        let (fired, receiver) = unbounded();
        (Arc::new(Probe { name, fired, again: Mutex::new(again) }), receiver)
    }

    const PATIENCE: Duration = Duration::from_secs(30);

    #[test]
    fn fires_in_order_never_early_and_again_when_asked() {
        let (timer, thread) = Timer::start().expect("a thread");
        let start = Instant::now();
        let later = start + Duration::from_millis(30);
        let (late, fired) = probe(2, vec![later + Duration::from_millis(5)]);
        let early = Arc::new(Probe { name: 1, fired: late.fired.clone(), again: Mutex::default() });
        let late_dyn: Arc<dyn Timed> = late.clone();
        let early_dyn: Arc<dyn Timed> = early.clone();
        timer.wake(later, Arc::downgrade(&late_dyn));
        timer.wake(start + Duration::from_millis(5), Arc::downgrade(&early_dyn));
        let seen: Vec<_> = (0..3).map(|_| fired.recv_timeout(PATIENCE).expect("fires")).collect();
        assert_eq!(seen.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [1, 2, 2]);
        assert!(seen[1].1 >= later && seen[2].1 >= later + Duration::from_millis(5));
        timer.stop();
        thread.join().expect("ends");
    }

    #[test]
    fn what_is_due_close_together_is_met_together() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let (what, _fired) = probe(1, vec![]);
        let what: Arc<dyn Timed> = what;
        let mut queue = Queue::default();
        let mut push = |set: u64, due: u64| queue.push(at(set), at(due), Arc::downgrade(&what));
        // 25 s may become 25.25 s; half a second only 5 ms more, so that one comes first.
        assert!(push(0, 25_000) && !push(100, 25_100) && push(24_600, 25_100) && !push(24_600, 25_200));
        let mut pop = |ms: u64| match queue.pop_due(at(ms)) {
            Ok(entry) => Ok((entry.at - start).as_millis()),
            Err(until) => Err(until.map(|until| (until - start).as_millis())),
        };
        assert_eq!(pop(24_999), Err(Some(25_105)));
        assert_eq!([pop(25_105), pop(25_105), pop(25_105)], [Ok(25_100), Err(Some(25_206)), Err(Some(25_206))]);
        assert_eq!([pop(25_206), pop(25_206), pop(25_206)], [Ok(25_200), Ok(25_000), Ok(25_100)]);
        assert_eq!(pop(25_206), Err(None));
    }

    #[test]
    fn forgets_what_is_gone() {
        let (timer, thread) = Timer::start().expect("a thread");
        let (gone, fired) = probe(1, vec![]);
        let gone_dyn: Arc<dyn Timed> = gone.clone();
        timer.wake(Instant::now(), Arc::downgrade(&gone_dyn));
        fired.recv_timeout(PATIENCE).expect("fires while it lives");
        timer.wake(Instant::now() + Duration::from_millis(5), Arc::downgrade(&gone_dyn));
        drop((gone, gone_dyn));
        assert!(fired.recv_timeout(PATIENCE).is_err(), "the sender was dropped with the object, nothing was sent");
        timer.stop();
        thread.join().expect("ends");
    }
}
