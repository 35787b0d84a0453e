//! The line that comes far more often than all others together, read in one pass: a piece of the answer's text.
//!
//! `{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"…"}},…}`, and
//! behind that `session_id`, `parent_tool_use_id`, `uuid` and, on 2.1.330, `api_message_id` in any order. Every version of
//! the CLI was seen to print it so. What looks different in the least is left to [`super::parse`], which reads anything:
//! this only spares it, and the server's time for each of Claude's lines is mostly this. So it is written for the machine:
//! it goes over the bytes by position, and gives back little.

use std::borrow::Cow;

use memchr::memchr2;

use super::values::unescaped;

const BEFORE_INDEX: &[u8] = br#"{"type":"stream_event","event":{"type":"content_block_delta","index":"#;
const BEFORE_TEXT: &[u8] = br#","delta":{"type":"text_delta","text":"#;
const AFTER_TEXT: &[u8] = b"}}";
const BEFORE_SESSION: &[u8] = br#","session_id":"#;
const BEFORE_PARENT: &[u8] = br#","parent_tool_use_id":"#;
const BEFORE_UUID: &[u8] = br#","uuid":"#;
const BEFORE_MESSAGE: &[u8] = br#","api_message_id":"#;

/// The length of a uuid.
const UUID_CHARS: usize = 36;

/// A block's number has so many digits at most.
const INDEX_DIGITS_MAX: usize = 9;

/// A piece of an answer's text.
#[derive(Debug)]
pub struct TextDelta<'a> {
    /// The line as it came: one valid JSON object.
    pub raw: &'a str,
    /// The conversation it belongs to.
    pub session_id: Option<&'a str>,
    /// Written by the main conversation, not by a sub-agent.
    pub in_main_conversation: bool,
    /// The text.
    pub text: Cow<'a, str>,
}

impl TextDelta<'_> {
    /// The line, newline excluded, if it is one. `None` says nothing about it.
    #[must_use]
    pub fn read(line: &[u8]) -> Option<TextDelta<'_>> {
        let at = after_number(line, after(line, 0, BEFORE_INDEX)?)?;
        let raw = if line.is_ascii() {
            // SAFETY: ASCII is UTF-8. Most lines are, and this looks at more bytes at a time than `from_utf8`.
            unsafe { std::str::from_utf8_unchecked(line) }
        } else {
            std::str::from_utf8(line).ok()?
        };
        let text_at = after(line, at, BEFORE_TEXT)?;
        let (text, text_end) = match plain_string_end(line, text_at) {
            Some(end) => (Cow::Borrowed(&raw[text_at + 1..end - 1]), end),
            None => {
                let end = string_end(line, text_at)?;
                (unescaped(&raw[text_at..end])?, end)
            }
        };
        let mut at = after(line, text_end, AFTER_TEXT)?;
        let (mut session_id, mut parent, mut uuid, mut message) = (None, None, None, None);
        loop {
            // Twice the same field is for the general reader to judge.
            if let Some(value) = after(line, at, BEFORE_SESSION).filter(|_| session_id.is_none()) {
                at = plain_string_end(line, value)?;
                session_id = Some(&raw[value + 1..at - 1]);
            } else if let Some(value) = after(line, at, BEFORE_PARENT).filter(|_| parent.is_none()) {
                let null = after(line, value, b"null");
                parent = Some(null.is_none());
                at = null.or_else(|| plain_string_end(line, value))?;
            } else if let Some(value) = after(line, at, BEFORE_UUID).filter(|_| uuid.is_none()) {
                at = plain_string_end(line, value)?;
                uuid = Some(());
            } else if let Some(value) = after(line, at, BEFORE_MESSAGE).filter(|_| message.is_none()) {
                at = plain_string_end(line, value)?;
                message = Some(());
            } else {
                break;
            }
        }
        if &line[at..] != b"}" {
            return None;
        }
        Some(TextDelta { raw, session_id, in_main_conversation: parent != Some(true), text })
    }
}

/// Where `expected` ends, if it stands at `at`.
fn after(line: &[u8], at: usize, expected: &[u8]) -> Option<usize> {
    line.get(at..)?.starts_with(expected).then_some(at + expected.len())
}

/// Where the plain number at `at` ends.
fn after_number(line: &[u8], at: usize) -> Option<usize> {
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let plain = (1..=INDEX_DIGITS_MAX).contains(&digits) && (digits == 1 || line[at] != b'0');
    plain.then_some(at + digits)
}

/// Where the string without escapes that begins at `at` ends, quotes included.
fn plain_string_end(line: &[u8], at: usize) -> Option<usize> {
    let inner = line.get(at..)?.strip_prefix(b"\"")?;
    if let Some(uuid) = inner.first_chunk()
        && inner.get(UUID_CHARS) == Some(&b'"')
        && is_uuid_like(uuid)
    {
        return Some(at + UUID_CHARS + 2);
    }
    let end = memchr2(b'"', b'\\', inner)?;
    (inner[end] == b'"' && !has_control(&inner[..end])).then_some(at + end + 2)
}

/// The same with escapes, which are judged by whoever reads the string.
fn string_end(line: &[u8], at: usize) -> Option<usize> {
    let inner = line.get(at..)?.strip_prefix(b"\"")?;
    let mut end = memchr2(b'"', b'\\', inner)?;
    while inner[end] == b'\\' {
        let after = end + 2;
        end = after + memchr2(b'"', b'\\', inner.get(after..)?)?;
    }
    (!has_control(&inner[..end])).then_some(at + end + 2)
}

/// Without a branch for each byte, this is done many bytes at a time.
fn has_control(text: &[u8]) -> bool {
    text.iter().fold(false, |found, byte| found | (*byte < 0x20))
}

/// Two of a line's three strings are such: they need no search for their end.
fn is_uuid_like(text: &[u8; UUID_CHARS]) -> bool {
    text.iter().fold(true, |all, byte| all & (byte.is_ascii_alphanumeric() | (*byte == b'-')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::message::Delta;
    use super::super::read::{Kind, parse};
    use super::*;

    const SESSION: &str = r#""session_id":"0b5c7a52-3d0e-4c55-8a3f-6e0a4a4b7f11""#;
    const MESSAGE: &str = r#""api_message_id":"msg_01""#;
    const UUID: &str = r#""uuid":"6d0b4d5f-8a55-4c37-b7a0-2f3c6a1d9e84""#;

    fn line(text: &str, fields: &[&str]) -> String {
        let fields: String = fields.iter().map(|field| format!(",{field}")).collect();
        let [before, between, after] =
            [BEFORE_INDEX, BEFORE_TEXT, AFTER_TEXT].map(|bytes| std::str::from_utf8(bytes).expect("text"));
        format!("{before}0{between}\"{text}\"{after}{fields}}}")
    }

    /// Whatever is read here, the general reader reads the same.
    fn check(line: &str) -> bool {
        let Some(read) = TextDelta::read(line.as_bytes()) else { return false };
        let general = parse(line.as_bytes()).unwrap_or_else(|_| panic!("the general reader refuses {line}"));
        assert_eq!((read.raw, read.session_id), (general.raw, general.session_id.as_deref()), "{line}");
        match general.kind {
            Kind::Delta(Delta::Text(text)) => assert!(read.in_main_conversation && read.text == text, "{line}"),
            Kind::Delta(Delta::Other) => assert!(!read.in_main_conversation, "{line}"),
            _ => panic!("the general reader sees something else in {line}"),
        }
        true
    }

    #[test]
    fn the_common_line_is_read_here() {
        let main = r#""parent_tool_use_id":null"#;
        let sub_agent = r#""parent_tool_use_id":"toolu_1""#;
        for text in ["", "hello", r"a\nb \u00e4 \ud83d\ude00 \\ \/ \t", "äöü €", r#"\"quoted\""#, r"\ud83d cut"] {
            for fields in [
                &[SESSION, main, UUID][..],
                &[SESSION, main, UUID, MESSAGE],
                &[main, SESSION, UUID],
                &[SESSION, sub_agent, UUID],
                &[UUID, main],
                &[SESSION],
                &[],
            ] {
                assert!(check(&line(text, fields)), "{text:?} {fields:?}");
            }
        }
    }

    #[test]
    fn everything_else_is_left_to_the_general_reader() {
        let good = line("hello", &[SESSION, UUID]);
        for odd in [
            line("hello", &[SESSION, SESSION]),
            line("hello", &[MESSAGE, MESSAGE]),
            line("hello", &[SESSION, r#""parent_tool_use_id":null,"parent_tool_use_id":null"#]),
            line("hello", &[r#""uuid":"\u0041""#]),
            format!(" {good}"),
            format!("{good}\r"),
            line("hello", &[r#""other":1"#]),
            line("hello", &[r#""uuid":null"#]),
            line("hello", &[r#""uuid":"\x""#]),
            line("tab\there", &[]),
            line(r"bad \x escape", &[]),
            line(r"cut \u12", &[]),
            good.replace("text_delta", "thinking_delta"),
            good.replace(":0,", ":00,"),
            good.replace(":0,", ":-1,"),
            good.replace(":0,", ": 0,"),
            format!("{good}}}"),
            good[..good.len() - 1].to_owned(),
            r#"{"type":"assistant"}"#.to_owned(),
        ] {
            assert!(TextDelta::read(odd.as_bytes()).is_none(), "{odd}");
        }
    }

    #[test]
    fn text_that_is_no_text_is_left_to_the_general_reader() {
        let mut bytes = line("hello", &[SESSION]).into_bytes();
        assert!(TextDelta::read(&bytes).is_some());
        let at = bytes.windows(5).position(|five| five == b"hello").expect("it is there");
        bytes[at] = 0xff;
        assert!(TextDelta::read(&bytes).is_none());
    }

    proptest! {
        #[test]
        fn no_changed_line_is_read_otherwise(at in 0..400_usize, with in "[ -~]{0,3}", take in 0..4_usize) {
            let line = line(r"he\nllo", &[SESSION, r#""parent_tool_use_id":"toolu_1""#, UUID, MESSAGE]);
            let at = at.min(line.len());
            let changed = format!("{}{with}{}", &line[..at], &line[(at + take).min(line.len())..]);
            check(&changed);
        }

        #[test]
        fn any_text_is_read_as_it_is(text in any::<String>()) {
            let json = serde_json::to_string(&text).expect("a string");
            prop_assert!(check(&line(&json[1..json.len() - 1], &[SESSION])));
        }
    }
}
