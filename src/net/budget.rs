//! How often a client may do something that costs the server more than the client.

use std::time::Instant;

/// So many at once, and so many a second from then on.
pub struct Budget {
    at_once: f64,
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Budget {
    /// All of it is there at `now`.
    pub fn full(at_once: u32, per_second: u32, now: Instant) -> Budget {
        Budget { at_once: at_once.into(), per_second: per_second.into(), left: at_once.into(), at: now }
    }

    /// Takes one. `false`: none is left.
    pub fn take(&mut self, now: Instant) -> bool {
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + earned).min(self.at_once);
        self.at = now;
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_spent_comes_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget::full(20, 10, start);
        let mut taken = |ms: u64, tries: usize| {
            let now = start + Duration::from_millis(ms);
            (0..tries).filter(|_| budget.take(now)).count()
        };
        assert_eq!([taken(0, 30), taken(500, 30), taken(500, 30), taken(60_000, 30)], [20, 5, 0, 20]);
    }
}
