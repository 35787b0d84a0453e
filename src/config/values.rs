//! Values from text. Each reader gives the value or says what the text is not, quoting it.

use std::ops::RangeInclusive;
use std::time::Duration;

/// A model's name has at most so many characters.
pub const MODEL_CHARS_MAX: usize = 200;

/// The name of an effort has at most so many characters.
pub const EFFORT_CHARS_MAX: usize = 20;

/// The permission modes that Claude Code knows.
pub const PERMISSION_MODES: &[&str] = &["acceptEdits", "auto", "bypassPermissions", "default", "dontAsk", "plan"];

/// More of a bad value is not shown.
const QUOTED_CHARS_MAX: usize = 300;

/// The longest time: ten years. Far below what an `Instant` can be moved by.
const DURATION_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// Every wait for somebody's answer is shorter than this, and more than nothing.
const WAIT_LIMIT: Duration = Duration::from_secs(86_400);

/// Whether `text` can be given to Claude as a model: 1 to [`MODEL_CHARS_MAX`] printable characters, of
/// which the first is no `-`, so that it is never taken for a flag.
pub fn is_model(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && text.chars().count() <= MODEL_CHARS_MAX
        && crate::logging::escape(text) == text
}

/// Whether `text` can be given to Claude as an effort: 1 to [`EFFORT_CHARS_MAX`] letters `a` to `z`.
pub fn is_effort(text: &str) -> bool {
    (1..=EFFORT_CHARS_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase())
}

/// Those that are known: what Claude does not confirm is believed only if it is one of them.
pub const EFFORTS: [&str; 5] = ["low", "medium", "high", "xhigh", "max"];

/// The one of them in which Claude asks for no permission at all.
pub const BYPASS_PERMISSIONS: &str = "bypassPermissions";

/// Whether `text` is one of [`PERMISSION_MODES`].
pub fn is_permission_mode(text: &str) -> bool {
    PERMISSION_MODES.contains(&text)
}

/// `text` in quotes for an error, cut where it is long.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

/// `text` as it is, if `good`; else the error that it is not `what`.
pub(super) fn text(text: &str, good: fn(&str) -> bool, what: &str) -> Result<String, String> {
    if good(text) { Ok(text.to_owned()) } else { Err(is_not(text, what)) }
}

/// The one of `choices` that is called `text`.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        format!("{} is none of {}", quoted(text), names.join(", "))
    })
}

/// A whole number in `range`.
pub(super) fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let value = digits(text).filter(|value| range.contains(value));
    let what = || format!("a whole number from {} to {}", range.start(), range.end());
    value.ok_or_else(|| is_not(text, &what()))
}

/// A time: digits, then `ms`, `s`, `m`, `min`, `h`, `d` or nothing for seconds; at most ten years.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (count, unit) = split_unit(text);
    let millis_of_unit = match unit {
        "ms" => 1,
        "" | "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(is_not(text, "a time such as 500ms, 90s, 10m, 2h or 1d")),
    };
    let millis = digits(count).and_then(|count| count.checked_mul(millis_of_unit));
    match millis.map(Duration::from_millis) {
        Some(duration) if duration <= DURATION_MAX => Ok(duration),
        Some(_) => Err(format!("{} is more than 3650d", quoted(text))),
        None => Err(is_not(text, "a time such as 500ms, 90s, 10m, 2h or 1d")),
    }
}

/// A time that may be off: `none` or zero.
pub(super) fn duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    if text == "none" {
        return Ok(None);
    }
    duration(text).map(|duration| (!duration.is_zero()).then_some(duration))
}

/// A time to wait for somebody.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let duration = duration(text)?;
    if duration.is_zero() || duration >= WAIT_LIMIT {
        return Err(format!("{} is not more than 0 and less than 24h", quoted(text)));
    }
    Ok(duration)
}

/// The same, in milliseconds.
pub(super) fn wait_ms(text: &str) -> Result<Duration, String> {
    let below = WAIT_LIMIT.as_millis() as u64 - 1;
    number(text, 1..=below).map(Duration::from_millis)
}

/// Memory is held for it, so it is bounded like a wait; zero is allowed.
pub(super) fn recovery_window(text: &str) -> Result<Duration, String> {
    let window = duration_or_none(text)?.unwrap_or_default();
    if window >= WAIT_LIMIT {
        return Err(format!("{} is not less than 24h", quoted(text)));
    }
    Ok(window)
}

/// A size in bytes: digits, then `k` or `kB` (1000), `KiB` (1024), `M`, `MB`, `MiB` or nothing.
pub(super) fn size(text: &str, range: RangeInclusive<u64>) -> Result<usize, String> {
    let (count, unit) = split_unit(text);
    let bytes_of_unit = match unit {
        "" => 1,
        "k" | "kB" => 1000,
        "KiB" => 1 << 10,
        "M" | "MB" => 1_000_000,
        "MiB" => 1 << 20,
        _ => return Err(is_not(text, "a size such as 1000000, 900k or 8MiB")),
    };
    let Some(count) = digits(count) else {
        return Err(is_not(text, "a size such as 1000000, 900k or 8MiB"));
    };
    let bytes = count.checked_mul(bytes_of_unit).filter(|bytes| range.contains(bytes));
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    bytes.ok_or_else(|| {
        let (low, high) = (range.start(), range.end());
        format!("{} is not from {low} to {high} bytes", quoted(text))
    })
}

fn split_unit(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A number of ASCII digits alone; the standard reader would let a `+` pass.
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// The error that `text` is not `what`.
pub(super) fn is_not(text: &str, what: &str) -> String {
    format!("{} is not {what}", quoted(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes() {
        fn check(text: &str, millis: Option<u64>, bytes: Option<usize>) {
            assert_eq!(duration(text).ok(), millis.map(Duration::from_millis), "{text:?}");
            assert_eq!(size(text, 0..=1 << 40).ok(), bytes, "{text:?}");
        }
        for (text, millis, bytes) in [
            ("0", Some(0), Some(0)),
            ("90", Some(90_000), Some(90)),
            ("90s", Some(90_000), None),
            ("10m", Some(600_000), None),
            ("10min", Some(600_000), None),
            ("2h", Some(7_200_000), None),
            ("1d", Some(86_400_000), None),
            ("500ms", Some(500), None),
            ("3650d", Some(315_360_000_000), None),
            ("3651d", None, None),
            ("3k", None, Some(3_000)),
            ("3kB", None, Some(3_000)),
            ("3KiB", None, Some(3_072)),
            ("3M", None, Some(3_000_000)),
            ("3MB", None, Some(3_000_000)),
            ("3MiB", None, Some(3_145_728)),
            ("18446744073709551615", None, None),
            ("18446744073709551616", None, None),
            ("18446744073709551615MiB", None, None),
            ("", None, None),
            ("s", None, None),
            ("-1s", None, None),
            ("1 s", None, None),
            ("1S", None, None),
            ("1K", None, None),
            ("none", None, None),
            ("١s", None, None),
        ] {
            check(text, millis, bytes);
        }
    }
}
