//! Ready-made packets: Socket.IO in Engine.IO in WebSocket text frames, back to back.
//!
//! What goes to many viewers is encoded once, here, and then only handed around. Frames of a server are not masked, so
//! the same bytes serve every connection.

/// A WebSocket close frame's status, as far as this server sends them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// No status at all: how the reference server closes.
    None,
    /// 1001: the server goes away.
    GoingAway,
    /// 1002: the peer broke the WebSocket protocol.
    Protocol,
    /// 1007: text that is not UTF-8.
    Utf8,
    /// 1008: more than the server puts up with.
    Policy,
    /// 1009: a message over the limit.
    TooBig,
    /// 1013: the client was too slow; it may come back.
    TryAgainLater,
}

impl CloseCode {
    /// The whole frame.
    #[must_use]
    pub fn frame(self) -> Vec<u8> {
        let code: u16 = match self {
            CloseCode::None => return vec![0x88, 0],
            CloseCode::GoingAway => 1001,
            CloseCode::Protocol => 1002,
            CloseCode::Utf8 => 1007,
            CloseCode::Policy => 1008,
            CloseCode::TooBig => 1009,
            CloseCode::TryAgainLater => 1013,
        };
        let [high, low] = code.to_be_bytes();
        vec![0x88, 2, high, low]
    }
}

const FINAL_TEXT: u8 = 0x81;
const FINAL_BINARY: u8 = 0x82;

/// A server's frame begins with no more than that.
const HEADER_BYTES_MAX: usize = 10;

/// How an event of the namespace `/` begins, up to its first argument.
#[must_use]
pub fn event_opening(name: &str) -> String {
    format!("42[\"{name}\",")
}

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload<'a> {
    /// An Engine.IO packet.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

/// Whole WebSocket frames, and where each of them ends.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Frames {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Frames {
    /// One frame that was made elsewhere.
    #[must_use]
    pub fn raw(bytes: Vec<u8>) -> Frames {
        Frames { ends: vec![bytes.len()], bytes }
    }

    /// No frame yet, in memory that was used before.
    #[must_use]
    pub fn in_place_of(mut memory: Vec<u8>) -> Frames {
        memory.clear();
        Frames { bytes: memory, ends: Vec::new() }
    }

    /// The memory that it took.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.bytes
    }

    /// One text frame with an Engine.IO packet.
    #[must_use]
    pub fn packet(text: &str) -> Frames {
        let mut frames = Frames::default();
        frames.push(&[text]);
        frames
    }

    /// The same behind bytes that are no frame, which count as part of the first.
    #[must_use]
    pub fn behind(mut self, bytes: &[u8]) -> Frames {
        self.bytes.splice(..0, bytes.iter().copied());
        self.ends.iter_mut().for_each(|end| *end += bytes.len());
        self
    }

    /// Adds an event of the namespace `/` whose one argument is the concatenation of `data`. An offset, for connection state
    /// recovery, is one more argument, the last.
    pub fn push_event(&mut self, name: &str, data: &[&str], offset: Option<&str>) {
        match offset {
            None => self.push_around(&["42[\"", name, "\","], data, "]"),
            Some(offset) => self.push_around(&["42[\"", name, "\","], data, &format!(",\"{offset}\"]")),
        }
    }

    /// The same for an event that lacks only its end: `parts` begin with [`event_opening`] and an object, whose last brace is
    /// added here.
    pub fn push_opened(&mut self, parts: &[&str], offset: Option<&str>) {
        match offset {
            None => self.push_around(&[], parts, "}]"),
            Some(offset) => self.push_around(&[], parts, &format!("}},\"{offset}\"]")),
        }
    }

    /// Adds an acknowledgement in the namespace `/` with one argument.
    pub fn push_ack(&mut self, id: u64, data: &str) {
        self.push(&["43", &id.to_string(), "[", data, "]"]);
    }

    /// Adds one text frame whose payload is the concatenation of `parts`.
    pub fn push(&mut self, parts: &[&str]) {
        self.push_around(parts, &[], "");
    }

    /// Adds one binary frame.
    pub fn push_binary(&mut self, bytes: &[u8]) {
        self.header(FINAL_BINARY, bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len());
    }

    fn push_around(&mut self, before: &[&str], middle: &[&str], after: &str) {
        let length = |parts: &[&str]| parts.iter().map(|part| part.len()).sum::<usize>();
        self.header(FINAL_TEXT, length(before) + length(middle) + after.len());
        for part in before.iter().chain(middle) {
            self.bytes.extend_from_slice(part.as_bytes());
        }
        self.bytes.extend_from_slice(after.as_bytes());
        self.ends.push(self.bytes.len());
    }

    fn header(&mut self, first: u8, length: usize) {
        self.bytes.reserve(length + HEADER_BYTES_MAX);
        let mut header = [first; HEADER_BYTES_MAX];
        let end = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => {
                header[1] = short;
                2
            }
            (_, Ok(medium)) => {
                header[1] = 126;
                header[2..4].copy_from_slice(&medium.to_be_bytes());
                4
            }
            _ => {
                header[1] = 127;
                header[2..].copy_from_slice(&(length as u64).to_be_bytes());
                HEADER_BYTES_MAX
            }
        };
        self.bytes.extend_from_slice(&header[..end]);
    }

    /// All bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What the frame that begins at byte `at` carries, for transports that are no WebSocket; `None` for a close frame,
    /// and behind the last.
    #[must_use]
    pub fn payload(&self, at: usize) -> Option<Payload<'_>> {
        let end = *self.ends.get(self.ends.partition_point(|end| *end <= at))?;
        let header = match self.bytes[at + 1] {
            126 => 4,
            127 => 10,
            _ => 2,
        };
        let payload = &self.bytes[at + header..end];
        match self.bytes[at] {
            FINAL_TEXT => std::str::from_utf8(payload).ok().map(Payload::Text),
            FINAL_BINARY => Some(Payload::Binary(payload)),
            _ => None,
        }
    }

    /// Every frame that carries something: where it begins, and what it carries.
    pub fn payloads(&self) -> impl Iterator<Item = (usize, Payload<'_>)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.filter_map(|start| Some((start, self.payload(start)?)))
    }

    /// Where the frame that begins at byte `at` ends.
    #[must_use]
    pub fn next(&self, at: usize) -> usize {
        self.ends.get(self.ends.partition_point(|end| *end <= at)).copied().unwrap_or(self.bytes.len())
    }

    /// Where the frame that byte `at` belongs to ends; `at` itself where no frame is cut by it.
    #[must_use]
    pub fn frame_end(&self, at: usize) -> usize {
        match self.ends.get(self.ends.partition_point(|end| *end < at)) {
            Some(end) if at > 0 => *end,
            _ => at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tungstenite::protocol::Role;
    use tungstenite::{Message, WebSocket};

    #[test]
    fn a_client_reads_what_was_made_here() {
        let texts = [0, 1, 125, 126, 65_535, 65_536, 200_000].map(|length| "x".repeat(length));
        let mut frames = Frames::default();
        for text in &texts {
            frames.push(&[&text[..text.len() / 2], &text[text.len() / 2..]]);
        }
        frames.push_event("e", &["{\"a\":", "1}"], None);
        frames.push_opened(&[&event_opening("e"), "{"], Some("o"));
        frames.push_ack(7, "{}");
        let mut bytes = frames.bytes().to_vec();
        bytes.extend(CloseCode::TryAgainLater.frame());
        let mut client = WebSocket::from_raw_socket(std::io::Cursor::new(bytes), Role::Client, None);
        for text in texts.iter().map(String::as_str).chain(["42[\"e\",{\"a\":1}]", "42[\"e\",{},\"o\"]", "437[{}]"]) {
            let read = client.read().expect("a frame").into_text().expect("text");
            assert!(read.as_str() == text, "{} bytes came as {}", text.len(), read.len());
        }
        let Message::Close(Some(close)) = client.read().expect("a frame") else { panic!("no close") };
        assert_eq!(u16::from(close.code), 1013);
    }

    #[test]
    fn payloads_are_read_back() {
        let texts = [0, 125, 126, 65_536].map(|length| "x".repeat(length));
        let mut frames = Frames::default();
        for text in &texts {
            frames.push(&[text]);
            frames.push_binary(text.as_bytes());
        }
        let mut at = 0;
        for text in &texts {
            assert!(frames.payload(at) == Some(Payload::Text(text)));
            at = frames.next(at);
            assert!(frames.payload(at) == Some(Payload::Binary(text.as_bytes())));
            at = frames.next(at);
        }
        assert_eq!((frames.payload(at), frames.next(at)), (None, at));
        assert_eq!(Frames::raw(CloseCode::GoingAway.frame()).payload(0), None);
    }

    #[test]
    fn ends_of_frames_are_known() {
        let mut frames = Frames::packet("abc"); // 5 bytes
        frames.push(&["d"]); // 3 bytes
        let cases = [(0, 0), (1, 5), (5, 5), (6, 8), (8, 8)];
        for (at, end) in cases {
            assert_eq!(frames.frame_end(at), end, "{at}");
        }
    }
}
