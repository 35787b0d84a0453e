//! Bodies whose length is not known beforehand.

/// A line with a chunk's size, or a trailer, may be this long.
const LINE_BYTES_MAX: usize = 256;

/// Trailers are skipped, up to so many bytes.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Why a chunked body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// 400: not the chunked coding.
    Malformed,
    /// 413: more than is allowed.
    TooLarge,
}

impl ChunkError {
    /// The response's status.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            ChunkError::Malformed => 400,
            ChunkError::TooLarge => 413,
        }
    }
}

/// Takes the chunked coding (RFC 9112, section 7.1) off a body, as its bytes come.
#[derive(Debug)]
pub struct Chunks {
    body: Vec<u8>,
    /// With what was drained.
    bytes: usize,
    bytes_max: usize,
    state: State,
    trailer_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data { left: usize },
    DataEnd,
    Trailer,
    Done,
}

impl Chunks {
    /// A body of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Chunks {
        Chunks { body: Vec::new(), bytes: 0, bytes_max, state: State::Size, trailer_bytes: 0 }
    }

    /// Takes what it can use of `input` and returns how much that was. What is left over must be given again, with more.
    ///
    /// # Errors
    /// As soon as the bytes show it.
    pub fn take(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        let mut used = 0;
        while self.state != State::Done {
            let rest = &input[used..];
            if let State::Data { left } = self.state {
                let count = left.min(rest.len());
                self.body.extend_from_slice(&rest[..count]);
                self.bytes += count;
                used += count;
                self.state = if left == count { State::DataEnd } else { State::Data { left: left - count } };
                if left > count {
                    break;
                }
                continue;
            }
            let Some(line) = line(rest)? else { break };
            used += line.len() + 2;
            self.state = match self.state {
                State::Size => self.on_size(line)?,
                State::DataEnd if line.is_empty() => State::Size,
                State::Trailer if line.is_empty() => State::Done,
                State::Trailer => {
                    self.trailer_bytes += line.len();
                    if self.trailer_bytes > TRAILER_BYTES_MAX {
                        return Err(ChunkError::Malformed);
                    }
                    State::Trailer
                }
                _ => return Err(ChunkError::Malformed),
            };
        }
        Ok(used)
    }

    /// What of the body has come since this was called last.
    #[must_use]
    pub fn drain(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Whether all of it has come.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn on_size(&self, line: &[u8]) -> Result<State, ChunkError> {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
        let sound = !digits.is_empty() && digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit);
        let text = std::str::from_utf8(digits).ok().filter(|_| sound).ok_or(ChunkError::Malformed)?;
        let size = u64::from_str_radix(text, 16).map_err(|_| ChunkError::Malformed)?;
        match usize::try_from(size) {
            Ok(0) => Ok(State::Trailer),
            Ok(size) if size <= self.bytes_max - self.bytes => Ok(State::Data { left: size }),
            _ => Err(ChunkError::TooLarge),
        }
    }
}

/// The first line of `input` without its end, if it is complete.
fn line(input: &[u8]) -> Result<Option<&[u8]>, ChunkError> {
    match memchr::memchr(b'\n', input) {
        Some(at) if at > 0 && input[at - 1] == b'\r' && at <= LINE_BYTES_MAX => Ok(Some(&input[..at - 1])),
        Some(_) => Err(ChunkError::Malformed),
        None if input.len() > LINE_BYTES_MAX => Err(ChunkError::Malformed),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body, if it is complete, and how many bytes were used.
    type Decoded = Result<Option<(Vec<u8>, usize)>, ChunkError>;

    /// Feeds `input` in pieces of `size` bytes.
    fn decode(input: &[u8], size: usize) -> Decoded {
        let mut chunks = Chunks::new(10);
        let (mut given, mut used, mut body) = (0, 0, Vec::new());
        while given < input.len() {
            given = (given + size).min(input.len());
            used += chunks.take(&input[used..given])?;
            body.extend(chunks.drain());
        }
        Ok(chunks.is_done().then_some((body, used)))
    }

    #[test]
    fn bodies_in_all_sizes_of_pieces() {
        let done = |body: &[u8], used: usize| Ok(Some((body.to_vec(), used)));
        let cases: [(&[u8], Decoded); 13] = [
            (b"0\r\n\r\n", done(b"", 5)),
            (b"3\r\nabc\r\n0\r\n\r\n", done(b"abc", 13)),
            (b"3;x=y\r\nabc\r\n002\r\nde\r\n0\r\nT: v\r\n\r\n", done(b"abcde", 32)),
            (b"A\r\n0123456789\r\n0\r\n\r\n", done(b"0123456789", 20)),
            (b"3\r\nab", Ok(None)),
            (b"B\r\n", Err(ChunkError::TooLarge)),
            (b"FFFFFFFFFFFFFFFF\r\n", Err(ChunkError::TooLarge)),
            (b"10000000000000000\r\n", Err(ChunkError::Malformed)),
            (b"+3\r\nabc\r\n", Err(ChunkError::Malformed)),
            (b"\r\n", Err(ChunkError::Malformed)),
            (b"3\nabc", Err(ChunkError::Malformed)),
            (b"3\r\nabcd\r\n", Err(ChunkError::Malformed)),
            (b"x\r\n", Err(ChunkError::Malformed)),
        ];
        for (input, expected) in cases {
            for size in 1..=input.len() {
                assert_eq!(decode(input, size), expected, "{:?} by {size}", String::from_utf8_lossy(input));
            }
        }
    }

    #[test]
    fn what_follows_is_left() {
        let mut chunks = Chunks::new(10);
        assert_eq!(chunks.take(b"1\r\na\r\n0\r\n\r\nGET /"), Ok(11));
        assert_eq!((chunks.is_done(), chunks.drain()), (true, b"a".to_vec()));
    }
}
