//! Values of a line's fields, read leniently.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

pub(super) fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Option<T> {
    serde_json::from_str(json).ok()
}

/// A value of the wanted shape, `None` where it is absent or of another.
pub(crate) fn of<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Option<T> {
    read(raw?.get())
}

/// A JSON string's text, borrowed where nothing in it is escaped.
pub(crate) fn text<'a>(raw: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    unquoted(raw?.get())
}

/// A count, 0 where it is of another shape.
pub(super) fn number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    Ok(count(Some(raw)).unwrap_or_default())
}

/// A count: some are written with a fraction.
pub(super) fn count(raw: Option<&RawValue>) -> Option<u64> {
    of(raw).or_else(|| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a saturating cast")]
        of::<f64>(raw).map(|number| number as u64)
    })
}

/// The text of a string as it stands in the line.
fn unquoted(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() { Some(Cow::Borrowed(inner)) } else { unescaped(json) }
}

/// What a string with escapes says, quotes included.
pub(super) fn unescaped(json: &str) -> Option<Cow<'_, str>> {
    read::<Lossy>(json).map(|text| Cow::Owned(text.0))
}

/// A string that may hold half a surrogate pair (cut by some tool, passed on by Node): replaced, not refused.
struct Lossy(String);

impl<'de> Deserialize<'de> for Lossy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Lossy, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Lossy;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Lossy, E> {
                Ok(Lossy(String::from_utf8_lossy(bytes).into_owned()))
            }
        }
        // As bytes, since serde_json then lets such halves through.
        deserializer.deserialize_bytes(Visitor)
    }
}
