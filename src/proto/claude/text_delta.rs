//! The line that comes far more often than all others together, read in one pass: a piece of the answer's text.
//!
//! `{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"…"}},…}`, and
//! behind that `session_id`, `parent_tool_use_id` and `uuid` in any order. Every version of the CLI was seen to print it so. What
//! looks different in the least is left to [`super::parse`], which reads anything: this only spares it, and the server's time
//! for each of Claude's lines is mostly this.

use memchr::memchr2;

use super::read::{Delta, Kind, Line, unquoted};

const BEFORE_INDEX: &str = r#"{"type":"stream_event","event":{"type":"content_block_delta","index":"#;
const BEFORE_TEXT: &str = r#","delta":{"type":"text_delta","text":"#;
const AFTER_TEXT: &str = "}}";

/// The length of a uuid.
const UUID_CHARS: usize = 36;

/// A block's number has so many digits at most.
const INDEX_DIGITS_MAX: usize = 9;

/// The line, if it is a plain text delta. `raw` has no white space around it.
pub(super) fn read(raw: &str) -> Option<Line<'_>> {
    let rest = after_number(raw.strip_prefix(BEFORE_INDEX)?)?.strip_prefix(BEFORE_TEXT)?;
    let (text, rest) = json_string(rest)?;
    let mut rest = rest.strip_prefix(AFTER_TEXT)?;
    let (mut session_id, mut parent, mut uuid) = (None, None, None);
    loop {
        if let Some(after) = rest.strip_prefix(r#","session_id":"#) {
            rest = only_one(&mut session_id, json_string(after)?)?;
        } else if let Some(after) = rest.strip_prefix(r#","parent_tool_use_id":"#) {
            let value = after.strip_prefix("null").map(|after| ("null", after));
            rest = only_one(&mut parent, value.or_else(|| json_string(after))?)?;
        } else if let Some(after) = rest.strip_prefix(r#","uuid":"#) {
            rest = only_one(&mut uuid, json_string(after)?)?;
        } else {
            break;
        }
    }
    if rest != "}" {
        return None;
    }
    let text = unquoted(text)?;
    for unread in [parent.filter(|parent| *parent != "null"), uuid].into_iter().flatten() {
        unquoted(unread)?;
    }
    let delta = if parent.is_none_or(|parent| parent == "null") { Delta::Text(text) } else { Delta::Other };
    let session_id = match session_id {
        Some(id) => Some(unquoted(id)?),
        None => None,
    };
    Some(Line { raw, session_id, kind: Kind::Delta(delta) })
}

/// Takes a field's value. Twice the same field is for the general reader to judge.
fn only_one<'a>(field: &mut Option<&'a str>, (value, rest): (&'a str, &'a str)) -> Option<&'a str> {
    field.replace(value).is_none().then_some(rest)
}

/// What follows a plain number.
fn after_number(text: &str) -> Option<&str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let plain = (1..=INDEX_DIGITS_MAX).contains(&digits) && (digits == 1 || !text.starts_with('0'));
    plain.then(|| &text[digits..])
}

/// A JSON string, quotes included, and what follows it. Escapes are judged by whoever reads the string.
fn json_string(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('"')?;
    if let Some((uuid, b'"')) =
        inner.as_bytes().get(..=UUID_CHARS).and_then(|id| Some((id.first_chunk()?, id[UUID_CHARS])))
        && is_uuid_like(uuid)
    {
        return Some(text.split_at(UUID_CHARS + 2));
    }
    let mut end = memchr2(b'"', b'\\', inner.as_bytes())?;
    while inner.as_bytes()[end] == b'\\' {
        let after = end + 2;
        end = after + memchr2(b'"', b'\\', inner.as_bytes().get(after..)?)?;
    }
    // Without a branch for each byte, this is done many bytes at a time.
    let control = inner.as_bytes()[..end].iter().fold(false, |found, byte| found | (*byte < 0x20));
    (!control).then(|| text.split_at(end + 2))
}

/// Two of a line's three strings are such: they need no search for their end.
fn is_uuid_like(text: &[u8; UUID_CHARS]) -> bool {
    text.iter().fold(true, |all, byte| all & (byte.is_ascii_alphanumeric() | (*byte == b'-')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::read::parse_any;
    use super::*;

    const SESSION: &str = r#""session_id":"0b5c7a52-3d0e-4c55-8a3f-6e0a4a4b7f11""#;
    const UUID: &str = r#""uuid":"6d0b4d5f-8a55-4c37-b7a0-2f3c6a1d9e84""#;

    fn line(text: &str, fields: &[&str]) -> String {
        let fields: String = fields.iter().map(|field| format!(",{field}")).collect();
        format!("{BEFORE_INDEX}0{BEFORE_TEXT}\"{text}\"{AFTER_TEXT}{fields}}}")
    }

    /// Whatever is read here, the general reader reads the same.
    fn check(line: &str) -> bool {
        let Some(read) = read(line) else { return false };
        let general = parse_any(line).unwrap_or_else(|_| panic!("the general reader refuses {line}"));
        assert_eq!(format!("{read:?}"), format!("{general:?}"), "{line}");
        true
    }

    #[test]
    fn the_common_line_is_read_here() {
        let main = r#""parent_tool_use_id":null"#;
        let sub_agent = r#""parent_tool_use_id":"toolu_1""#;
        for text in ["", "hello", r"a\nb \u00e4 \ud83d\ude00 \\ \/ \t", "äöü €", r#"\"quoted\""#, r"\ud83d cut"] {
            for fields in [
                &[SESSION, main, UUID][..],
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
            assert!(read(&odd).is_none(), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_changed_line_is_read_otherwise(at in 0..400_usize, with in "[ -~]{0,3}", take in 0..4_usize) {
            let line = line(r"he\nllo", &[SESSION, r#""parent_tool_use_id":"toolu_1""#, UUID]);
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
