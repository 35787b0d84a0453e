//! One line on stderr for each record, and nothing a stranger sent can break that line.
//!
//! What is logged often quotes a client, a path or what Claude printed. Control characters in it could
//! forge a second record, move the cursor or turn the text around in the terminal of whoever reads the
//! log, so [`escape`] makes them visible. The lines of other crates are kept only from `warn` up: at
//! `trace` a WebSocket library prints whole frames, and with them the token.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record, SetLoggerError};

/// The longest message in bytes; the rest is cut off and replaced by `…`.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// The target of this crate's own records, and the beginning of those of its modules.
const OWN_TARGET: &str = "claude_session_manager";

/// What a line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-24T01:02:03.456Z INFO  message`
    Text,
    /// `{"time":"2026-11-24T01:02:03.456Z","level":"info","target":"…","message":"…"}`
    Json,
}

/// Sends the records of the whole process to stderr from now on.
///
/// Fails if a logger was installed before; that one stays.
pub fn init(level: LevelFilter, format: LogFormat) -> Result<(), SetLoggerError> {
    log::set_boxed_logger(Box::new(StderrLog { level, format }))?;
    log::set_max_level(level);
    Ok(())
}

/// The logger behind [`init`].
#[derive(Debug)]
pub struct StderrLog {
    /// The least severe level that is written.
    pub level: LevelFilter,
    /// What a line looks like.
    pub format: LogFormat,
}

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own =
            metadata.target().strip_prefix(OWN_TARGET).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        metadata.level() <= self.level && (own || metadata.level() <= Level::Warn)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record, SystemTime::now(), self.format);
        // A closed or full stderr must not end a server that works otherwise; there is nowhere to say so.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}

/// The line of `record`, its newline included.
pub fn line(record: &Record<'_>, time: SystemTime, format: LogFormat) -> String {
    let time = utc(time);
    let message = record.args().to_string();
    match format {
        LogFormat::Text => {
            let message = shortened(escape(&message));
            format!("{time} {:<5} {message}\n", record.level())
        }
        LogFormat::Json => {
            let level = record.level().as_str().to_ascii_lowercase();
            let target = json_string(record.target());
            let message = json_string(&shortened(Cow::Borrowed(&message)));
            format!(r#"{{"time":"{time}","level":"{level}","target":{target},"message":{message}}}"#) + "\n"
        }
    }
}

/// `text` with every character that could break a line or deceive its reader written out, as `\n` or
/// `\u{1b}`: C0 and C1 controls, DEL, line and paragraph separators, and marks of writing direction.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_deceptive) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_deceptive(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// `time` as `2026-11-24T01:02:03.456Z`. A time before 1970 is shown as its beginning.
pub fn utc(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (seconds, millis) = (since.as_secs(), since.subsec_millis());
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01.
fn civil_date(days: u64) -> (u64, u64, u64) {
    const DAYS_TO_1970: u64 = 719_468; // from 0000-03-01: years that begin in March end with the leap day
    const DAYS_OF_400_YEARS: u64 = 146_097;
    const DAYS_OF_100_YEARS: u64 = 36_524;
    const DAYS_OF_4_YEARS: u64 = 1_461;
    let days = days + DAYS_TO_1970;
    let (era, rest) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    // The last day of 400, and of 4, years is the leap day: it belongs to the year before it.
    let century = (rest / DAYS_OF_100_YEARS).min(3);
    let rest = rest - century * DAYS_OF_100_YEARS;
    let (fours, rest) = (rest / DAYS_OF_4_YEARS, rest % DAYS_OF_4_YEARS);
    let single = (rest / 365).min(3);
    let mut day = rest - single * 365;
    let mut month = 3;
    for length in [31, 30, 31, 30, 31, 31, 30, 31, 30, 31, 31] {
        if day < length {
            break;
        }
        day -= length;
        month += 1;
    }
    let year = era * 400 + century * 100 + fours * 4 + single;
    match month {
        13.. => (year + 1, month - 12, day + 1),
        _ => (year, month, day + 1),
    }
}

fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn json_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // All of them lie in the basic plane: four digits suffice.
            c if is_deceptive(c) => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn shortened(message: Cow<'_, str>) -> Cow<'_, str> {
    if message.len() <= MESSAGE_BYTES_MAX {
        return message;
    }
    let end = message.floor_char_boundary(MESSAGE_BYTES_MAX);
    Cow::Owned(format!("{}…", &message[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_deceives_and_nothing_else() {
        fn check(text: &str, shown: &str) {
            assert_eq!(escape(text), shown, "{text:?}");
            let json: String = serde_json::from_str(&json_string(text)).expect("valid JSON");
            assert_eq!(json, text, "JSON must give the text back");
            assert!(!json_string(text).contains(is_deceptive), "{text:?}");
        }
        for (text, shown) in [
            ("", ""),
            ("plain, ünï, 漢字, 🦀", "plain, ünï, 漢字, 🦀"),
            (r#"quote " and \ backslash"#, r#"quote " and \ backslash"#),
            ("a\nb\r\nc\td", r"a\nb\r\nc\td"),
            ("\x1b[2Jgone", r"\u{1b}[2Jgone"),
            ("\0\x07\x08\x7f", r"\u{0}\u{7}\u{8}\u{7f}"),
            ("\u{80}\u{85}\u{9b}31m", r"\u{80}\u{85}\u{9b}31m"),
            ("\u{202a}\u{202e}x", r"\u{202a}\u{202e}x"),
            ("\u{2066}\u{2069}x", r"\u{2066}\u{2069}x"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{200f}\u{61c}", r"\u{200f}\u{61c}"),
        ] {
            check(text, shown);
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        fn check(millis: u64, shown: &str) {
            assert_eq!(utc(UNIX_EPOCH + Duration::from_millis(millis)), shown);
        }
        for (millis, shown) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_704_067_199_000, "2023-12-31T23:59:59.000Z"),
            (1_709_208_000_000, "2024-02-29T12:00:00.000Z"),
            (1_735_603_200_000, "2024-12-31T00:00:00.000Z"),
            (1_795_482_123_456, "2026-11-24T01:02:03.456Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            check(millis, shown);
        }
        assert_eq!(utc(UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00.000Z");
    }

    #[test]
    fn a_record_is_one_line() {
        fn check(level: Level, message: &str, format: LogFormat, expected: &str) {
            let time = UNIX_EPOCH + Duration::from_millis(1_795_482_123_456);
            let args = format_args!("{message}");
            let record = Record::builder().level(level).target("t\n").args(args).build();
            assert_eq!(line(&record, time, format), expected);
        }
        use LogFormat::{Json, Text};
        let long = "é".repeat(MESSAGE_BYTES_MAX);
        let cut = "é".repeat(MESSAGE_BYTES_MAX / 2);
        for (level, message, format, expected) in [
            (Level::Info, "up", Text, "2026-11-24T01:02:03.456Z INFO  up\n"),
            (Level::Error, "a\nb", Text, "2026-11-24T01:02:03.456Z ERROR a\\nb\n"),
            (
                Level::Warn,
                "say \"hi\"\x1b",
                Json,
                concat!(
                    r#"{"time":"2026-11-24T01:02:03.456Z","level":"warn","target":"t\n","#,
                    r#""message":"say \"hi\"\u001b"}"#,
                    "\n"
                ),
            ),
            (Level::Debug, &long, Text, &format!("2026-11-24T01:02:03.456Z DEBUG {cut}…\n")),
        ] {
            check(level, message, format, expected);
        }
    }

    #[test]
    fn other_crates_are_heard_from_warn_up() {
        fn check(level: LevelFilter, target: &str, record: Level, expected: bool) {
            let log = StderrLog { level, format: LogFormat::Text };
            let metadata = Metadata::builder().target(target).level(record).build();
            assert_eq!(log.enabled(&metadata), expected, "{level} {target} {record}");
        }
        for (level, target, record, expected) in [
            (LevelFilter::Info, "claude_session_manager", Level::Info, true),
            (LevelFilter::Info, "claude_session_manager::net", Level::Debug, false),
            (LevelFilter::Trace, "claude_session_manager::net", Level::Trace, true),
            (LevelFilter::Trace, "claude_session_manager_other", Level::Trace, false),
            (LevelFilter::Trace, "tungstenite::protocol", Level::Trace, false),
            (LevelFilter::Trace, "tungstenite::protocol", Level::Warn, true),
            (LevelFilter::Error, "tungstenite::protocol", Level::Warn, false),
        ] {
            check(level, target, record, expected);
        }
    }
}
