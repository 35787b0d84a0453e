//! The decision about one attempt, and the memory of those that failed.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Token;

/// So many wrong tokens of one address are answered `unauthorized` within [`FAILURES_WINDOW`]; more are
/// `rate_limited`.
pub const FAILURES_MAX: usize = 10;

/// How long a wrong token counts.
pub const FAILURES_WINDOW: Duration = Duration::from_secs(60);

/// So many addresses are remembered; for one more, that whose last failure is the oldest is forgotten.
pub const ADDRESSES_MAX: usize = 1024;

/// What becomes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The token is right, or none is asked for.
    Allowed,
    /// No token, or a wrong one: `unauthorized`.
    Unauthorized,
    /// A wrong token of an address that sent too many: `rate_limited`.
    RateLimited,
}

/// Decides who is let in. Shared by all connections.
pub struct AuthGuard {
    /// None with `--no-auth`.
    token: Option<Token>,
    /// The times of the wrong tokens that still count, oldest first. Held only to look up and count: the
    /// comparison is made outside, so guessing does not delay those who know.
    failures: Mutex<HashMap<IpAddr, VecDeque<Instant>>>,
}

impl AuthGuard {
    /// A guard that asks for `token`, or with none lets everybody in (`--no-auth`).
    pub fn new(token: Option<Token>) -> AuthGuard {
        AuthGuard { token, failures: Mutex::new(HashMap::new()) }
    }

    /// The token that is asked for; none with `--no-auth`.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// Judges the `candidate` token that `address` brought at the time `now`.
    ///
    /// The right token always works, however many wrong ones came from the same address: a stranger behind
    /// the same proxy locks nobody out. An attempt without a token is no guess and is not counted.
    pub fn check(&self, address: IpAddr, candidate: Option<&str>, now: Instant) -> Verdict {
        let Some(token) = &self.token else {
            return Verdict::Allowed;
        };
        let Some(candidate) = candidate else {
            return Verdict::Unauthorized;
        };
        if token.matches(candidate) {
            return Verdict::Allowed;
        }
        self.count_failure(address.to_canonical(), now)
    }

    fn count_failure(&self, address: IpAddr, now: Instant) -> Verdict {
        let mut failures = self.failures.lock();
        if failures.len() >= ADDRESSES_MAX && !failures.contains_key(&address) {
            forget_oldest(&mut failures);
        }
        let times = failures.entry(address).or_default();
        while times.front().is_some_and(|&time| now.duration_since(time) >= FAILURES_WINDOW) {
            times.pop_front();
        }
        if times.len() >= FAILURES_MAX {
            return Verdict::RateLimited;
        }
        times.push_back(now);
        Verdict::Unauthorized
    }
}

fn forget_oldest(failures: &mut HashMap<IpAddr, VecDeque<Instant>>) {
    let oldest = failures.iter().min_by_key(|(_, times)| times.back().copied());
    if let Some(address) = oldest.map(|(address, _)| *address) {
        failures.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::Verdict::{Allowed, RateLimited, Unauthorized};
    use super::*;

    const RIGHT: &str = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";

    fn guard() -> AuthGuard {
        AuthGuard::new(Some(Token::parse(RIGHT.as_bytes()).expect("a token")))
    }

    #[test]
    fn ten_failures_a_minute() {
        /// Steps: seconds since the start, address, token, verdict, how many times over.
        type Step<'a> = (u64, &'a str, Option<&'a str>, Verdict, usize);
        fn check(name: &str, guard: &AuthGuard, steps: &[Step<'_>]) {
            let start = Instant::now();
            for &(second, address, candidate, expected, times) in steps {
                let now = start + Duration::from_secs(second);
                let address = address.parse().expect("an address");
                for _ in 0..times {
                    let verdict = guard.check(address, candidate, now);
                    assert_eq!(verdict, expected, "{name}: second {second}, {address}");
                }
            }
        }
        const A: &str = "10.0.0.1";
        let (wrong, right, none) = (Some("wrong"), Some(RIGHT), None);
        check(
            "the right one always works",
            &guard(),
            &[
                (0, A, right, Allowed, 50),
                (0, A, wrong, Unauthorized, 10),
                (1, A, wrong, RateLimited, 100),
                (1, A, right, Allowed, 50),
                (1, A, wrong, RateLimited, 1),
            ],
        );
        check(
            "a failure counts for a minute",
            &guard(),
            &[
                (0, A, wrong, Unauthorized, 4),
                (30, A, wrong, Unauthorized, 6),
                (59, A, wrong, RateLimited, 9),
                (60, A, wrong, Unauthorized, 4),
                (60, A, wrong, RateLimited, 1),
                (90, A, wrong, Unauthorized, 6),
            ],
        );
        check(
            "each address for itself",
            &guard(),
            &[
                (0, A, wrong, Unauthorized, 10),
                (0, A, wrong, RateLimited, 1),
                (0, "10.0.0.2", wrong, Unauthorized, 10),
                (0, "::1", wrong, Unauthorized, 10),
                (0, "::ffff:10.0.0.1", wrong, RateLimited, 1),
            ],
        );
        check(
            "none is no guess",
            &guard(),
            &[
                (0, A, none, Unauthorized, 50),
                (0, A, wrong, Unauthorized, 10),
                (0, A, none, Unauthorized, 1),
                (0, A, Some(""), RateLimited, 1),
            ],
        );
        check("without a token", &AuthGuard::new(None), &[(0, A, none, Allowed, 50), (0, A, wrong, Allowed, 50)]);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let guard = guard();
        let start = Instant::now();
        let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let fail = |n, second| guard.check(address(n), Some("wrong"), start + Duration::from_millis(second));
        for _ in 0..FAILURES_MAX {
            assert_eq!(fail(0, 0), Unauthorized);
            assert_eq!(fail(1, 1), Unauthorized);
        }
        for n in 2..=ADDRESSES_MAX as u32 {
            assert_eq!(fail(n, u64::from(n)), Unauthorized);
        }
        assert_eq!(guard.failures.lock().len(), ADDRESSES_MAX);
        assert_eq!(fail(1, 5000), RateLimited, "still remembered");
        assert_eq!(fail(0, 5000), Unauthorized, "the oldest was forgotten");
        assert_eq!(guard.failures.lock().len(), ADDRESSES_MAX);
    }
}
