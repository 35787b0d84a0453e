//! The texts in a transcript: what of a `user` line was typed, and what Claude Code wrapped or put in.

use std::borrow::Cow;

/// What a text of a `user` line, or of a local command, is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Text<'a> {
    /// Typed by the user, as it was typed.
    Typed(Cow<'a, str>),
    /// A slash command: its name and what followed it, as it was typed.
    Command(String),
    /// What a command printed, that a background task has ended, that the user interrupted: shown, but not typed.
    Told(&'a str),
    /// Put in for the model's eyes: a reminder, a caveat, what the editor has open.
    Aside,
}

/// Beginnings of what is shown and was not typed.
const TOLD: [&str; 6] = [
    "<local-command-stdout>",
    "<local-command-stderr>",
    "<bash-stdout>",
    "<bash-stderr>",
    "<task-notification>",
    "[Request interrupted by user",
];

/// Beginnings of what only the model is meant to see.
const ASIDE: [&str; 5] =
    ["<system-reminder>", "<local-command-caveat>", "<ide_opened_file>", "<ide_selection>", "<ide_diagnostics>"];

/// Finds out what a text is, by the wrapper that it begins with.
pub(super) fn text(text: &str) -> Text<'_> {
    let inner = text.trim();
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| inner.starts_with(beginning));
    // Older versions put the message before the name.
    if begins(&["<command-name>", "<command-message>"])
        && let Some(name) = tag(inner, "command-name")
    {
        let args = tag(inner, "command-args").unwrap_or_default();
        return Text::Command(format!("{name} {args}").trim().to_owned());
    }
    if begins(&["<bash-input>"])
        && let Some(command) = tag(inner, "bash-input")
    {
        return Text::Typed(Cow::Owned(format!("! {command}")));
    }
    match () {
        () if begins(&TOLD) => Text::Told(text),
        () if inner.is_empty() || begins(&ASIDE) => Text::Aside,
        () => Text::Typed(Cow::Borrowed(text)),
    }
}

/// What stands between `<name>` and `</name>`, or up to the end where it is not closed.
pub(super) fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    Some(rest.split_once(&format!("</{name}>")).map_or(rest, |(inner, _)| inner).trim())
}

/// The text on one line: a space for each run of blanks and control characters, cut to `chars_max` characters, of which
/// an ellipsis is the last where it was cut. `None` where nothing is left of it.
pub(super) fn one_line(text: &str, chars_max: usize) -> Option<String> {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let spaced = words.flat_map(|word| std::iter::once(' ').chain(word.chars())).skip(1);
    let mut line: String = spaced.take(chars_max + 1).collect();
    if let Some((cut, _)) = line.char_indices().nth(chars_max.saturating_sub(1))
        && line.chars().count() > chars_max
    {
        line.truncate(cut);
        line.truncate(line.trim_end().len());
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

/// Unix milliseconds of a time as transcripts have it, `2026-11-24T01:02:03.456Z`.
pub(super) fn unix_ms(time: &str) -> Option<u64> {
    let (date, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !(fits && hour < 24 && minute < 60 && second <= 60 && fraction.bytes().all(|byte| byte.is_ascii_digit())) {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60_000 + second * 1000 + millis)
}

/// Three numbers with `separator` between them.
fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let found = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(found)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March end with the leap day.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let before_1970 = 719_468;
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - before_1970
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::logging::utc;
    use proptest::prelude::*;

    #[test]
    fn what_was_typed_is_told_from_what_was_not() {
        let typed = |text| Text::Typed(Cow::Borrowed(text));
        let command = |text: &str| Text::Command(text.to_owned());
        let cases = [
            ("fix it", typed("fix it")),
            (" two\nlines ", typed(" two\nlines ")),
            ("see <command-name>/x</command-name>", typed("see <command-name>/x</command-name>")),
            (
                "<command-name>/compact</command-name>\n   <command-message>compact</command-message>\n   <command-args>all of it</command-args>",
                command("/compact all of it"),
            ),
            (
                "<command-message>init is running…</command-message>\n<command-name>/init</command-name>",
                command("/init"),
            ),
            ("<command-name>/x</command-name><command-args></command-args>", command("/x")),
            ("<command-message>no name", typed("<command-message>no name")),
            ("<bash-input>ls -l</bash-input>", typed("! ls -l")),
            (
                "<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>",
                Text::Told("<bash-stdout>a</bash-stdout><bash-stderr></bash-stderr>"),
            ),
            ("[Request interrupted by user for tool use]", Text::Told("[Request interrupted by user for tool use]")),
            (
                "<local-command-stdout>x</local-command-stdout>",
                Text::Told("<local-command-stdout>x</local-command-stdout>"),
            ),
            ("<local-command-caveat>The command below", Text::Aside),
            ("\n<system-reminder>\nx\n</system-reminder>", Text::Aside),
            (" ", Text::Aside),
        ];
        for (given, expected) in cases {
            assert_eq!(text(given), expected, "{given}");
        }
    }

    #[test]
    fn one_line_is_short() {
        let cases = [
            ("", 5, None),
            (" \n\t\u{7} ", 5, None),
            ("a", 1, Some("a")),
            ("ab", 1, Some("…")),
            (" a \n b ", 3, Some("a b")),
            ("a bc", 3, Some("a…")),
            ("abc def", 4, Some("abc…")),
            ("a\u{1b}[1m\u{0}b", 9, Some("a [1m b")),
            ("éèàü", 3, Some("éè…")),
        ];
        for (given, chars_max, expected) in cases {
            assert_eq!(one_line(given, chars_max).as_deref(), expected, "{given:?} in {chars_max}");
        }
    }

    #[test]
    fn times_are_read() {
        let cases = [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2026-11-24T01:02:03.456Z", Some(1_795_482_123_456)),
            ("2026-11-24T01:02:03Z", Some(1_795_482_123_000)),
            ("2026-11-24T01:02:03.4567891Z", Some(1_795_482_123_456)),
            ("2000-02-29T00:00:00.5Z", Some(951_782_400_500)),
            ("2026-11-24T01:02:03.456", None),
            ("2026-11-24T01:02:03.456+01:00", None),
            ("2026-13-24T01:02:03.456Z", None),
            ("2026-11-24T24:02:03.456Z", None),
            ("2026-11-24T01:02:03.éZ", None),
            ("18446744073709551615-01-01T00:00:00Z", None),
            ("2026-11-24-01T01:02:03Z", None),
            ("", None),
        ];
        for (given, expected) in cases {
            assert_eq!(unix_ms(given), expected, "{given}");
        }
    }

    proptest! {
        #[test]
        fn a_time_that_was_written_is_read_back(millis in 0u64..253_402_300_800_000) {
            prop_assert_eq!(unix_ms(&utc(UNIX_EPOCH + Duration::from_millis(millis))), Some(millis));
        }

        #[test]
        fn no_text_can_hurt(any in any::<String>(), chars_max in 1usize..50) {
            let _ = (text(&any), unix_ms(&any), tag(&any, "a"));
            let line = one_line(&any, chars_max).unwrap_or_default();
            prop_assert!(line.chars().count() <= chars_max && !line.contains(char::is_control));
        }
    }
}
