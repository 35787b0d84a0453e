//! The thread that keeps house among the sessions: it makes room for those that wait for a process, and deletes those that
//! nobody has used for too long.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::events::now_ms;
use super::manager::SessionManager;
use super::session::Session;

/// Old sessions are looked for again after this time at the latest, and deleted that many at a time.
const EXPIRY_PAUSE: Duration = Duration::from_secs(3600);
const EXPIRED_AT_ONCE_MAX: usize = 100;

/// And not more often than this.
const EXPIRY_PAUSE_MIN: Duration = Duration::from_millis(100);

/// The clock of the wall may run so much faster than the time that has passed.
const CLOCK_DRIFT_MAX: Duration = Duration::from_secs(60);

/// Tells when the clock of the wall has jumped: then nothing is old because the clock says so.
struct Clock {
    at: Instant,
    wall_ms: u64,
    distrusted_until: Option<Instant>,
}

impl Clock {
    fn new(at: Instant, wall_ms: u64) -> Clock {
        Clock { at, wall_ms, distrusted_until: None }
    }

    /// Until when nothing may be deleted for its age. A jump ahead costs a whole `ttl`, in which what is used gets a time
    /// of the new clock.
    fn distrusted_until(&mut self, now: Instant, wall_ms: u64, ttl: Duration) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.at) + CLOCK_DRIFT_MAX;
        if Duration::from_millis(wall_ms.saturating_sub(self.wall_ms)) > passed {
            log::warn!(
                "the clock has jumped: sessions expire (--session-ttl) no sooner than after their time from now"
            );
            self.distrusted_until = now.checked_add(ttl);
        }
        (self.at, self.wall_ms) = (now, wall_ms);
        self.distrusted_until = self.distrusted_until.filter(|until| now < *until);
        self.distrusted_until
    }
}

/// The running thread.
pub struct Keeper {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Keeper {
    /// Starts the thread. `ttl`: a session that was not used for so long is deleted.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(manager: Arc<SessionManager>, ttl: Option<Duration>) -> io::Result<Keeper> {
        let (stop, stopped) = bounded(0);
        let thread =
            std::thread::Builder::new().name("keeper".into()).spawn(move || manager.keep_house(ttl, &stopped))?;
        Ok(Keeper { stop, thread })
    }

    /// Ends it.
    pub fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the keeper has ended in a fault");
        }
    }
}

impl SessionManager {
    fn keep_house(&self, ttl: Option<Duration>, stopped: &Receiver<()>) {
        let rings = self.context.slots.rings().clone();
        // The shared session lives as long as the server.
        let ttl = ttl.filter(|_| !self.is_shared());
        let mut clock = Clock::new(Instant::now(), now_ms());
        loop {
            self.make_room();
            let again = ttl.map(|ttl| match clock.distrusted_until(Instant::now(), now_ms(), ttl) {
                Some(until) => until,
                None => Instant::now() + self.expire(ttl),
            });
            let wait = again.map_or_else(crossbeam_channel::never, crossbeam_channel::at);
            select! {
                recv(rings) -> _ => {}
                recv(wait) -> _ => {}
                recv(stopped) -> _ => return,
            }
        }
    }

    /// Starts those that wait for a process, as far as there are places. Where there is none, the session that has had
    /// nothing to do for longest stops its process; when that is gone, the next is called.
    fn make_room(&self) {
        while let Some(session) = self.context.slots.first_in_line() {
            let sessions = self.context.live.all();
            let stopping = sessions.iter().filter(|session| session.is_stopping()).count();
            // Asked behind that count: what was not stopping any more has given its place back.
            if self.context.slots.has_room() {
                session.start_waiting();
            } else if stopping < self.context.slots.waiting() {
                return hibernate_one(sessions);
            } else {
                // Room is being made for each of them already.
                return;
            }
        }
    }

    /// Deletes what nobody has used for `ttl`, and says when to look again.
    fn expire(&self, ttl: Duration) -> Duration {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let before = now_ms().saturating_sub(ttl_ms);
        let Ok(expired) = self.context.store.idle_since(before, EXPIRED_AT_ONCE_MAX) else { return EXPIRY_PAUSE };
        let mut deleted = 0;
        for id in &expired {
            match self.get_session_untouched(id) {
                Ok(session) if session.expire(before) => deleted += 1,
                _ => {}
            }
        }
        if deleted > 0 {
            log::info!("deleted {deleted} session(s) that nobody has used for {} s (--session-ttl)", ttl.as_secs());
        }
        let oldest = self.context.store.oldest_activity().ok().flatten();
        let left = oldest.map_or(ttl_ms, |oldest| oldest.saturating_add(ttl_ms).saturating_sub(now_ms()));
        // What is in use, or on its way out, is still the oldest.
        Duration::from_millis(left).max(ttl / 10).clamp(EXPIRY_PAUSE_MIN, EXPIRY_PAUSE)
    }
}

/// Stops the process of the session that has had nothing to do for longest.
fn hibernate_one(sessions: Vec<Arc<Session>>) {
    let mut idle: Vec<(Instant, Arc<Session>)> =
        (sessions.into_iter()).filter_map(|session| Some((session.can_make_room_since()?, session))).collect();
    idle.sort_by_key(|(since, _)| *since);
    // One that has got something to do since then is passed over.
    let _ = idle.iter().any(|(_, session)| session.make_room());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_makes_nothing_old() {
        let (start, ttl) = (Instant::now(), Duration::from_secs(1000));
        let mut clock = Clock::new(start, 5_000_000);
        let mut ask = |seconds: u64, wall_seconds: u64| {
            let until = clock.distrusted_until(start + Duration::from_secs(seconds), wall_seconds * 1000, ttl);
            until.map(|until| (until - start).as_secs())
        };
        assert_eq!(ask(100, 5100), None);
        assert_eq!(ask(200, 5250), None, "it may drift");
        assert_eq!(ask(300, 4000), None, "back: everything is younger");
        assert_eq!(ask(400, 90_000), Some(1400), "ahead");
        assert_eq!(ask(1399, 90_999), Some(1400));
        assert_eq!(ask(1400, 91_000), None);
    }
}
