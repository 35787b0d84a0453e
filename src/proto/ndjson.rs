//! Lines out of a byte stream, without copying them and without letting one line eat the memory.
//!
//! Claude prints one JSON object a line; most are 250 bytes, some are tens of megabytes (a tool result with a file in
//! it). The splitter hands out slices of its own buffer. A line over the limit is dropped as it arrives, and its
//! length is reported in its place.

use memchr::memchr;

/// How much one read asks for. 64 KiB is what a Linux pipe holds.
pub const READ_BYTES: usize = 64 * 1024;

/// The same while much comes: then fewer and larger pieces spare system calls and wake-ups.
pub const FULL_READ_BYTES: usize = 4 * READ_BYTES;

/// A read that brought more than this says that much comes …
pub const MUCH_BYTES: usize = READ_BYTES / 2;

/// … and one that brought less, that it does no longer.
const LITTLE_BYTES: usize = READ_BYTES / 4;

/// One line, without its newline.
#[derive(Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// The whole line.
    Whole(&'a [u8]),
    /// A line longer than the limit: only its length in bytes is left of it.
    TooLong(u64),
}

/// Splits a stream into lines: fill [`Splitter::space`], say how much with [`Splitter::filled`], then take lines from
/// [`Splitter::next_line`] until there is none.
pub struct Splitter {
    buffer: Vec<u8>,
    /// The first byte of the line that is next.
    start: usize,
    /// All before this was searched for a newline already.
    searched: usize,
    /// One past the last byte that was read.
    end: usize,
    /// Length so far of the too long line that is being dropped.
    dropped: Option<u64>,
    line_bytes_max: usize,
    /// What the next read is to ask for at least.
    read_bytes: usize,
}

impl Splitter {
    /// Lines up to `line_bytes_max` bytes come whole.
    #[must_use]
    pub fn new(line_bytes_max: usize) -> Splitter {
        Splitter {
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            end: 0,
            dropped: None,
            line_bytes_max,
            read_bytes: READ_BYTES,
        }
    }

    /// Where the next read goes: at least [`READ_BYTES`] long.
    pub fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.searched, self.end) = (0, 0, 0);
            if self.buffer.len() > self.read_bytes {
                // A long line has passed: give its memory back.
                self.buffer = Vec::new();
            }
        } else if self.start > 0 && self.buffer.len() - self.end < self.read_bytes {
            self.buffer.copy_within(self.start..self.end, 0);
            self.searched -= self.start;
            self.end -= self.start;
            self.start = 0;
        }
        if self.buffer.len() - self.end < self.read_bytes {
            let least = self.end + self.read_bytes;
            // Doubling keeps the copying of a long line linear.
            let wanted = (self.buffer.len() * 2).clamp(least, (self.line_bytes_max + 2 * READ_BYTES).max(least));
            self.buffer.resize(wanted, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// `count` bytes were put at the beginning of [`Splitter::space`].
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.end, "more than there was space for");
        self.end += count;
        if count > MUCH_BYTES {
            self.read_bytes = FULL_READ_BYTES;
        } else if count < LITTLE_BYTES {
            self.read_bytes = READ_BYTES;
        }
    }

    /// The next complete line, if one is there.
    pub fn next_line(&mut self) -> Option<Line<'_>> {
        match memchr(b'\n', &self.buffer[self.searched..self.end]) {
            Some(offset) => {
                let newline = self.searched + offset;
                let (from, length) = (self.start, newline - self.start);
                self.start = newline + 1;
                self.searched = self.start;
                match self.dropped.take() {
                    Some(dropped) => Some(Line::TooLong(dropped + length as u64)),
                    None if length > self.line_bytes_max => Some(Line::TooLong(length as u64)),
                    None => Some(Line::Whole(&self.buffer[from..newline])),
                }
            }
            None => {
                self.searched = self.end;
                let length = self.end - self.start;
                if self.dropped.is_some() || length > self.line_bytes_max {
                    *self.dropped.get_or_insert(0) += length as u64;
                    self.start = self.end;
                }
                None
            }
        }
    }

    /// What stands behind the last newline when the stream has ended, if anything.
    pub fn last_line(&mut self) -> Option<Line<'_>> {
        let (from, to) = (self.start, self.end);
        self.start = self.end;
        self.searched = self.end;
        match self.dropped.take() {
            Some(dropped) => Some(Line::TooLong(dropped + (to - from) as u64)),
            None if from == to => None,
            None => Some(Line::Whole(&self.buffer[from..to])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `input` in pieces of `sizes` (repeated) and renders what comes out.
    fn split(input: &[u8], sizes: &[usize], limit: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut splitter = Splitter::new(limit);
        let mut lines = Vec::new();
        let own = |line: Line<'_>| match line {
            Line::Whole(bytes) => Ok(bytes.to_vec()),
            Line::TooLong(bytes) => Err(bytes),
        };
        let (mut at, mut turn) = (0, 0);
        while at < input.len() {
            let space = splitter.space();
            let count = sizes[turn % sizes.len()].clamp(1, space.len().min(input.len() - at));
            space[..count].copy_from_slice(&input[at..at + count]);
            splitter.filled(count);
            (at, turn) = (at + count, turn + 1);
            while let Some(line) = splitter.next_line() {
                lines.push(own(line));
            }
        }
        lines.extend(splitter.last_line().map(own));
        lines
    }

    fn expected(input: &[u8], limit: usize) -> Vec<Result<Vec<u8>, u64>> {
        let mut parts: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
        if parts.last() == Some(&&b""[..]) {
            parts.pop();
        }
        let own = |part: &[u8]| if part.len() > limit { Err(part.len() as u64) } else { Ok(part.to_vec()) };
        parts.into_iter().map(own).collect()
    }

    #[test]
    fn whatever_the_pieces_the_lines_are_the_same() {
        let cases: &[&[u8]] =
            &[b"", b"\n", b"a", b"a\n", b"a\nb", b"a\n\nb\n", b"12345678\n", b"123456789\nab\n", b"123456789"];
        for input in cases {
            for size in 1..=input.len().max(1) {
                assert_eq!(split(input, &[size], 8), expected(input, 8), "{input:?} by {size}");
            }
        }
    }

    #[test]
    fn a_long_line_does_not_grow_the_buffer() {
        let limit = 1 << 20;
        let mut splitter = Splitter::new(limit);
        for _ in 0..1000 {
            let space = splitter.space();
            let count = space.len().min(READ_BYTES);
            space[..count].fill(b'x');
            splitter.filled(count);
            assert_eq!(splitter.next_line(), None);
            assert!(splitter.buffer.len() <= limit + 2 * FULL_READ_BYTES, "{} bytes", splitter.buffer.len());
        }
        splitter.space()[0] = b'\n';
        splitter.filled(1);
        assert_eq!(splitter.next_line(), Some(Line::TooLong(1000 * READ_BYTES as u64)));
        splitter.space();
        assert!(splitter.buffer.len() <= READ_BYTES, "the memory is given back");
    }

    #[test]
    fn reads_are_large_while_much_comes() {
        let mut splitter = Splitter::new(1 << 20);
        let mut read = |count: usize| {
            splitter.space()[..count].fill(b'\n');
            splitter.filled(count);
            while splitter.next_line().is_some() {}
            splitter.space().len()
        };
        assert_eq!(read(100), READ_BYTES);
        assert_eq!(read(MUCH_BYTES), READ_BYTES);
        assert_eq!(read(MUCH_BYTES + 1), FULL_READ_BYTES);
        assert_eq!(read(LITTLE_BYTES), FULL_READ_BYTES);
        assert_eq!(read(LITTLE_BYTES - 1), READ_BYTES, "the memory is given back");
    }

    proptest! {
        #[test]
        fn pieces_never_matter(input in proptest::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
                               sizes in proptest::collection::vec(1usize..50, 1..8), limit in 1usize..40) {
            prop_assert_eq!(split(&input, &sizes, limit), expected(&input, limit));
        }
    }
}
