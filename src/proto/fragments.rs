//! How many frames a client makes one WebSocket message of.
//!
//! tungstenite puts messages together and bounds their bytes, but a message of empty frames never grows: it could go on for
//! ever, and be no message. So the frames are counted as their bytes pass by. What is wrong with a frame is not judged here.

/// Frames that one message may consist of.
pub const FRAGMENTS_MAX: usize = 10_000;

/// A message has more than [`FRAGMENTS_MAX`] frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyFragments;

impl std::fmt::Display for TooManyFragments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a message in too many fragments")
    }
}

impl std::error::Error for TooManyFragments {}

/// Follows the frames of a client (RFC 6455, section 5.2) and counts those of the present message.
#[derive(Debug, Default)]
pub struct FragmentCounter {
    header: Vec<u8>,
    /// Bytes of the present frame's payload that are still to come.
    payload_left: u64,
    fragments: usize,
}

const FINAL: u8 = 0x80;
const CONTROL: u8 = 0x08;
const MASKED: u8 = 0x80;
const MASK_BYTES: usize = 4;

impl FragmentCounter {
    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// As soon as they show it.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), TooManyFragments> {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
            self.payload_left -= skipped as u64;
            bytes = &bytes[skipped..];
            let wanted = self.header_bytes() - self.header.len();
            let (part, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.header.extend_from_slice(part);
            bytes = rest;
            // Its second byte may have shown that it is longer.
            if self.header.len() == self.header_bytes() {
                self.on_header()?;
            }
        }
        Ok(())
    }

    /// How long the present frame's header is, as far as is known.
    fn header_bytes(&self) -> usize {
        let Some(second) = self.header.get(1) else { return 2 };
        let mask = if second & MASKED == 0 { 0 } else { MASK_BYTES };
        2 + mask + length_bytes(*second)
    }

    fn on_header(&mut self) -> Result<(), TooManyFragments> {
        let short = u64::from(self.header[1] & !MASKED);
        let long = &self.header[2..2 + length_bytes(self.header[1])];
        let long = long.iter().fold(0, |length, byte| (length << 8) | u64::from(*byte));
        self.payload_left = if short < 126 { short } else { long };
        let first = self.header[0];
        self.header.clear();
        if first & CONTROL != 0 {
            return Ok(());
        }
        self.fragments = if first & FINAL == 0 { self.fragments + 1 } else { 0 };
        // The one that is still to come ends it.
        if self.fragments < FRAGMENTS_MAX { Ok(()) } else { Err(TooManyFragments) }
    }
}

/// Bytes of a length that does not fit the second byte of the header.
fn length_bytes(second: u8) -> usize {
    match second & !MASKED {
        126 => 2,
        127 => 8,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(MASKED | u8::try_from(length).expect("short")),
            126..65_536 => {
                frame.push(MASKED | 126);
                frame.extend(u16::try_from(length).expect("medium").to_be_bytes());
            }
            _ => {
                frame.push(MASKED | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        // A payload that looks like frames.
        frame.extend(std::iter::repeat_n(0x01, MASK_BYTES + length));
        frame
    }

    /// Whether all of it is taken, whatever the pieces it comes in.
    fn check(what: &str, stream: &[u8], expected: Result<(), TooManyFragments>) {
        for size in [1, 2, 3, 7, 4096, stream.len()] {
            let mut counter = FragmentCounter::default();
            let taken = stream.chunks(size).try_for_each(|piece| counter.take(piece));
            assert_eq!(taken, expected, "{what} by {size}");
        }
    }

    #[test]
    fn only_the_frames_of_one_message_count() {
        let (text, more, last, whole, ping) = (0x01, 0x00, 0x80, 0x81, 0x89);
        let message =
            |count: usize| [frame(text, 0), frame(more, 0).repeat(count - 2), frame(last, 0)].concat().to_vec();
        check("as many as may be, twice", &message(FRAGMENTS_MAX).repeat(2), Ok(()));
        check("one more", &message(FRAGMENTS_MAX + 1), Err(TooManyFragments));
        check("one that never ends", &frame(more, 0).repeat(FRAGMENTS_MAX), Err(TooManyFragments));
        check("whole messages", &frame(whole, 3).repeat(2 * FRAGMENTS_MAX), Ok(()));
        check("control frames", &[frame(text, 1), frame(ping, 1).repeat(2 * FRAGMENTS_MAX)].concat(), Ok(()));
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let beside = [frame(text, length), frame(ping, 5)].concat();
            check("payloads are no frames", &beside, Ok(()));
            let counted = [beside, frame(more, 0).repeat(FRAGMENTS_MAX - 1)].concat();
            check("behind a payload they count", &counted, Err(TooManyFragments));
        }
    }
}
