//! Payloads of the polling transport: several packets in one HTTP body.
//!
//! ```text
//! 4hello<1E>2<1E>bAQIDBA==        a message, a ping, a binary message
//! ```

use std::fmt;

use data_encoding::BASE64;

/// Between two packets of a payload.
pub const SEPARATOR: char = '\x1e';

/// A body with more packets is refused: each costs far more to handle than the two bytes it takes.
pub const PAYLOAD_PACKETS_MAX: usize = 10_000;

/// One packet of a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A packet's text, with its type digit.
    Text(&'a str),
    /// A binary message.
    Binary(Vec<u8>),
}

/// Why a body is no payload. The session is closed with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadError {
    /// Not UTF-8.
    NotText,
    /// `b` and something that is not base64.
    BadBase64,
    /// More than [`PAYLOAD_PACKETS_MAX`] packets.
    TooManyPackets,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PayloadError::NotText => "a payload that is not UTF-8",
            PayloadError::BadBase64 => "a binary packet that is not base64",
            PayloadError::TooManyPackets => "too many packets in a payload",
        })
    }
}

impl std::error::Error for PayloadError {}

/// The packets of a body, in order. What a packet means is for [`super::decode`] to say.
///
/// # Errors
/// The first thing that is wrong; then no packet of the body counts.
pub fn decode_payload(body: &[u8]) -> Result<Vec<Part<'_>>, PayloadError> {
    let text = std::str::from_utf8(body).map_err(|_| PayloadError::NotText)?;
    if text.split(SEPARATOR).nth(PAYLOAD_PACKETS_MAX).is_some() {
        return Err(PayloadError::TooManyPackets);
    }
    let packets = text.split(SEPARATOR).map(|packet| match packet.strip_prefix('b') {
        Some(base64) => BASE64.decode(base64.as_bytes()).map(Part::Binary).map_err(|_| PayloadError::BadBase64),
        None => Ok(Part::Text(packet)),
    });
    packets.collect()
}

/// So many packets go into one body at most: python-engineio takes more for an attack and ends the connection.
const SENT_PACKETS_MAX: usize = 16;

/// A body under construction, never longer than a limit unless one packet alone is.
#[derive(Debug)]
pub struct PayloadBuilder {
    body: String,
    bytes_max: usize,
    packets: usize,
}

impl PayloadBuilder {
    /// An empty body of at most `bytes_max` bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> PayloadBuilder {
        PayloadBuilder { body: String::new(), bytes_max, packets: 0 }
    }

    /// Adds a text packet; `false`: it does not fit any more.
    pub fn push_text(&mut self, packet: &str) -> bool {
        let room = self.make_room(packet.len());
        if room {
            self.body.push_str(packet);
        }
        room
    }

    /// Adds a binary message; `false`: it does not fit any more.
    pub fn push_binary(&mut self, bytes: &[u8]) -> bool {
        let room = self.make_room(1 + BASE64.encode_len(bytes.len()));
        if room {
            self.body.push('b');
            BASE64.encode_append(bytes, &mut self.body);
        }
        room
    }

    /// The body.
    #[must_use]
    pub fn finish(self) -> String {
        self.body
    }

    fn make_room(&mut self, bytes: usize) -> bool {
        if self.packets == 0 {
            self.packets = 1;
            return true;
        }
        let fits = self.packets < SENT_PACKETS_MAX && self.body.len() + 1 + bytes <= self.bytes_max;
        if fits {
            self.body.push(SEPARATOR);
            self.packets += 1;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bodies_are_judged() {
        let many = |count: usize| vec!["6"; count].join("\x1e");
        let at_limit = many(PAYLOAD_PACKETS_MAX);
        assert_eq!(decode_payload(at_limit.as_bytes()).map(|parts| parts.len()), Ok(PAYLOAD_PACKETS_MAX));
        type Parts<'a> = Result<Vec<Part<'a>>, PayloadError>;
        let cases: [(&[u8], Parts<'_>); 8] = [
            (b"4hello", Ok(vec![Part::Text("4hello")])),
            (b"", Ok(vec![Part::Text("")])),
            (b"4a\x1e2\x1ebAQID", Ok(vec![Part::Text("4a"), Part::Text("2"), Part::Binary(vec![1, 2, 3])])),
            (b"4a\x1e", Ok(vec![Part::Text("4a"), Part::Text("")])),
            (b"b", Ok(vec![Part::Binary(vec![])])),
            (b"4a\x1eb!", Err(PayloadError::BadBase64)),
            (b"bAQI", Err(PayloadError::BadBase64)),
            (b"4\xff", Err(PayloadError::NotText)),
        ];
        for (body, expected) in cases {
            assert_eq!(decode_payload(body), expected, "{body:?}");
        }
        let too_many = many(PAYLOAD_PACKETS_MAX + 1);
        assert_eq!(decode_payload(too_many.as_bytes()), Err(PayloadError::TooManyPackets));
    }

    #[test]
    fn a_body_stays_within_its_limit() {
        let mut payload = PayloadBuilder::new(10);
        assert!(payload.push_text("4abcd"));
        assert!(!payload.push_binary(&[1, 2, 3, 4]), "b and eight characters do not fit");
        assert!(payload.push_text("4abc"));
        assert!(!payload.push_text(""), "not even a separator");
        assert_eq!(payload.finish(), "4abcd\x1e4abc");
        let mut large = PayloadBuilder::new(3);
        assert!(large.push_text("4abcd"), "one packet always goes");
        let mut many = PayloadBuilder::new(usize::MAX);
        let taken = (0..100).take_while(|_| many.push_text("4")).count();
        assert_eq!(taken, SENT_PACKETS_MAX);
    }

    /// A text packet, or a binary message.
    fn any_part() -> impl Strategy<Value = Result<String, Vec<u8>>> {
        let text = any::<String>().prop_map(|text| Ok(format!("4{}", text.replace(SEPARATOR, ""))));
        prop_oneof![text, proptest::collection::vec(any::<u8>(), 0..20).prop_map(Err)]
    }

    proptest! {
        #[test]
        fn what_is_put_in_comes_out(parts in proptest::collection::vec(any_part(), 1..=SENT_PACKETS_MAX)) {
            let mut payload = PayloadBuilder::new(usize::MAX);
            for part in &parts {
                match part {
                    Ok(text) => prop_assert!(payload.push_text(text)),
                    Err(bytes) => prop_assert!(payload.push_binary(bytes)),
                }
            }
            let body = payload.finish();
            let back = decode_payload(body.as_bytes()).expect("sound");
            let expected: Vec<Part<'_>> = parts.iter().map(|part| match part {
                Ok(text) => Part::Text(text),
                Err(bytes) => Part::Binary(bytes.clone()),
            }).collect();
            prop_assert_eq!(back, expected);
        }

        #[test]
        fn no_bytes_can_hurt(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_payload(&body);
        }
    }
}
