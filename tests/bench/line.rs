//! A line of the stream, as whoever makes it and whoever gets it know it.
#![allow(dead_code, reason = "one program makes them, the other reads them")]

use std::io::Write;

/// The number of the last line.
pub const LAST: u64 = 999_999_999_999;

/// Digits of the moment in a line.
pub const STAMP_DIGITS: usize = 19;

/// Digits of the number in a line.
pub const NUMBER_DIGITS: usize = 12;

/// What stands before the stamp, and nowhere else in a line.
pub const BEFORE_STAMP: &[u8] = br#""text":""#;

/// Nanoseconds of `CLOCK_MONOTONIC`, which all processes share.
#[must_use]
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// Makes lines of one length.
pub struct Lines {
    line: Vec<u8>,
    stamp_at: usize,
}

impl Lines {
    /// Lines of about `bytes` bytes, as Claude prints its text deltas.
    #[must_use]
    pub fn new(conversation: &str, bytes: usize) -> Lines {
        let mut line = Vec::new();
        let before =
            r#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","#;
        let after = r#""parent_tool_use_id":null,"uuid":"6d0b4d5f-8a55-4c37-b7a0-2f3c6a1d9e84"}"#;
        line.extend_from_slice(before.as_bytes());
        line.extend_from_slice(BEFORE_STAMP);
        let stamp_at = line.len();
        line.extend_from_slice(&[b'0'; STAMP_DIGITS + 1 + NUMBER_DIGITS]);
        line[stamp_at + STAMP_DIGITS] = b' ';
        let end = format!(r#""}}}},"session_id":"{conversation}",{after}"#);
        let filler = bytes.saturating_sub(line.len() + end.len() + 1);
        line.extend(b" and so on".iter().cycle().take(filler));
        writeln!(line, "{end}").expect("memory takes everything");
        Lines { line, stamp_at }
    }

    /// The length of each.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.line.len()
    }

    /// The line of this number, made at this moment.
    pub fn numbered(&mut self, number: u64, stamp: u64) -> &[u8] {
        let (stamp_at, number_at) = (self.stamp_at, self.stamp_at + STAMP_DIGITS + 1);
        digits(&mut self.line[stamp_at..stamp_at + STAMP_DIGITS], stamp);
        digits(&mut self.line[number_at..number_at + NUMBER_DIGITS], number);
        &self.line
    }
}

fn digits(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// The number that these digits are.
#[must_use]
pub fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit.wrapping_sub(b'0')))
}
