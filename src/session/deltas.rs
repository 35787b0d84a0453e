//! A delta as `events` viewers see it: Claude's line between an opening of ours and a brace.
//!
//! This is done for each line of a running answer. Within one `seq` the openings differ only in the last number, so the rest
//! is put together once and then copied as one piece.

use std::fmt::Write;

use super::events::EVENT_BYTES_MAX;
use super::fanout::{Audience, Batch, Stream};
use crate::proto::frames::event_opening;

/// Makes the events of one session's deltas.
pub(super) struct Deltas {
    /// The opening of the last one.
    opening: String,
    /// Where its `part` begins; 0: nothing is made yet.
    part_at: usize,
    seq: u64,
}

impl Deltas {
    /// None made yet.
    pub const fn new() -> Deltas {
        Deltas { opening: String::new(), part_at: 0, seq: 0 }
    }

    /// Adds the delta `part` behind the event `seq` of the session called `id`, which is made of characters that need no
    /// escape.
    pub fn push(&mut self, batch: &mut Batch, id: &str, (seq, part): (u64, u64), line: &str) {
        if self.part_at == 0 || self.seq != seq {
            self.opening.clear();
            let name = event_opening("claudeEvent");
            let _ = write!(self.opening, r#"{name}{{"sessionId":"{id}","seq":{seq},"part":"#);
            (self.part_at, self.seq) = (self.opening.len(), seq);
        }
        self.opening.truncate(self.part_at);
        push_number(&mut self.opening, part);
        if line.len() > EVENT_BYTES_MAX {
            let _ = write!(self.opening, r#","truncated":true,"bytes":{}"#, line.len());
            batch.opened(Audience::Only(Stream::Events), &[&self.opening]);
        } else {
            self.opening.push_str(r#","event":"#);
            batch.opened(Audience::Only(Stream::Events), &[&self.opening, line]);
        }
    }
}

/// Adds a number in decimal digits. Formatting takes longer than all the rest of a delta.
fn push_number(text: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    loop {
        first -= 1;
        digits[first] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.push_str(std::str::from_utf8(&digits[first..]).expect("digits are text"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_digits() {
        for number in [0, 9, 10, 1_234_567_890, u64::MAX] {
            let mut text = String::from("n");
            push_number(&mut text, number);
            assert_eq!(text, format!("n{number}"));
        }
    }
}
