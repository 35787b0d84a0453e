//! How much waits for a client, as those see it who produce for it.

use std::time::{Duration, Instant};

/// A client is behind when so many eighths of what its outbox may hold wait for it …
const BEHIND: usize = 2;

/// … and has caught up when less do.
const CAUGHT_UP: usize = 1;

/// With so many eighths it is near its limit …
const NEAR: usize = 4;

/// … until less wait for it.
const NO_LONGER_NEAR: usize = 3;

/// A client near its limit is waited for so long: enough for one that reads, and whose buffers are smaller than others' or
/// whose writer thread did not get its turn; and nothing that anybody minds if it does not read at all.
const PATIENCE: Duration = Duration::from_millis(300);

/// How much waits for a client, and what that means for those who produce it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backlog {
    /// The client is not there, or no longer: nobody waits for it.
    Gone,
    /// Little: it takes more.
    Little,
    /// Much: whoever produces for such clients alone should pause.
    Much,
    /// It would soon be sent away: whoever produces for it, even for others as well, should pause until this moment. Once
    /// that has passed, there is only [`Backlog::Much`].
    NearLimit(Instant),
}

/// Follows how much waits for one client.
#[derive(Default)]
pub(super) struct Pressure {
    /// So much waited that the client counts as behind, until it has caught up.
    behind: bool,
    /// So much waited that the client was near its limit, since then.
    near_limit: Option<Instant>,
}

impl Pressure {
    /// So many bytes wait now, of at most `bytes_max`. `true`: it has become less, and those who wait should look again.
    pub fn follow(&mut self, bytes: usize, bytes_max: usize) -> bool {
        let eighth = bytes_max / 8;
        let mut eased = false;
        if bytes < CAUGHT_UP * eighth {
            eased |= std::mem::take(&mut self.behind);
        } else if bytes >= BEHIND * eighth {
            self.behind = true;
        }
        if bytes < NO_LONGER_NEAR * eighth {
            eased |= self.near_limit.take().is_some();
        } else if bytes >= NEAR * eighth && self.near_limit.is_none() {
            self.near_limit = Some(Instant::now());
        }
        eased
    }

    /// What that means now.
    pub fn backlog(&self) -> Backlog {
        let waited_for = self.near_limit.map(|since| since + PATIENCE);
        match waited_for.filter(|until| Instant::now() < *until) {
            Some(until) => Backlog::NearLimit(until),
            None if self.behind => Backlog::Much,
            None => Backlog::Little,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_behind_until_it_has_caught_up_and_near_its_limit_for_a_moment() {
        // (bytes of 80 that wait, whether those who wait should look again, behind, near)
        let cases = [
            (19, false, false, false),
            (20, false, true, false),
            (10, false, true, false),
            (9, true, false, false),
            (9, false, false, false),
            (40, false, true, true),
            (30, false, true, true),
            (29, true, true, false),
            (80, false, true, true),
            (0, true, false, false),
        ];
        let mut pressure = Pressure::default();
        for (bytes, eased, behind, near) in cases {
            assert_eq!(pressure.follow(bytes, 80), eased, "{bytes}");
            let backlog = pressure.backlog();
            assert_eq!(matches!(backlog, Backlog::NearLimit(_)), near, "{bytes}: {backlog:?}");
            assert_eq!(backlog != Backlog::Little, behind, "{bytes}: {backlog:?}");
        }
    }

    #[test]
    fn who_stays_near_the_limit_is_waited_for_once() {
        let mut pressure = Pressure::default();
        pressure.follow(40, 80);
        let Backlog::NearLimit(until) = pressure.backlog() else { panic!("{:?}", pressure.backlog()) };
        pressure.follow(79, 80);
        assert_eq!(pressure.backlog(), Backlog::NearLimit(until), "from when it came near");
        pressure.near_limit = pressure.near_limit.map(|since| since - PATIENCE);
        assert_eq!(pressure.backlog(), Backlog::Much);
        pressure.follow(41, 80);
        assert_eq!(pressure.backlog(), Backlog::Much);
    }
}
