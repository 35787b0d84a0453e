//! Text that comes from elsewhere, on one line.

/// A title is no longer than this.
pub const TITLE_CHARS_MAX: usize = 200;

/// What Claude calls a model, a mode, a tool: longer names are cut.
pub const NAME_CHARS_MAX: usize = 200;

const ESCAPE: char = '\u{1b}';

/// Text that was made for a terminal, on one line, without the sequences that steer a terminal, nor characters that are not seen; cut after `chars`.
pub(super) fn plain(text: &str, chars: usize) -> String {
    let mut seen = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            ESCAPE => skip_sequence(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            c if c.is_whitespace() => seen.push(' '),
            c if c.is_control() || is_mark_of_direction(c) => {}
            c => seen.push(c),
        }
    }
    shortened(&seen, chars)
}

/// The first `chars` characters, on one line. Control characters go as white space does: nobody sees them, and each takes
/// six bytes in JSON.
pub(super) fn shortened(text: &str, chars: usize) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    // No more of it is looked at than is shown: a prompt may be megabytes long.
    let mut spaced = words.flat_map(|word| std::iter::once(' ').chain(word.chars())).skip(1);
    let mut line: String = spaced.by_ref().take(chars).collect();
    if spaced.next().is_some() {
        line.push('…');
    }
    line
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// What follows an escape character (ECMA-48, 5.3 and 5.6).
fn skip_sequence(rest: &mut Chars<'_>) {
    match rest.next() {
        Some('[') => skip_control_sequence(rest),
        // A command or a string: it ends with BEL, or an escape and a backslash.
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(c) = rest.next() {
                if c == '\u{7}' || c == '\u{9c}' || (c == ESCAPE && rest.next_if_eq(&'\\').is_some()) {
                    return;
                }
            }
        }
        // The set of characters: one more follows.
        Some(' '..='/') => while rest.next().is_some_and(|c| matches!(c, ' '..='/')) {},
        _ => {}
    }
}

/// Up to its final character.
fn skip_control_sequence(rest: &mut Chars<'_>) {
    while rest.next_if(|c| matches!(c, '\u{20}'..='\u{3f}')).is_some() {}
    rest.next_if(|c| matches!(c, '\u{40}'..='\u{7e}'));
}

fn is_mark_of_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_gone() {
        let cases = [
            ("plain, äöü 漢", "plain, äöü 漢"),
            ("\u{1b}[1mbold\u{1b}[22m and \u{1b}[38;2;1;2;3mcolour\u{1b}[0m", "bold and colour"),
            ("\u{1b}]8;;http://x\u{7}link\u{1b}]8;;\u{1b}\\ end", "link end"),
            ("\u{1b}(Ba \u{9b}31mred\u{9b}m", "a red"),
            ("two\r\n\tlines\u{0}\u{202e}", "two lines"),
            ("\u{1b}[", ""),
            ("\u{1b}]never ended", ""),
            ("cut at ten", "cut at ten"),
            ("cut at eleven", "cut at ele…"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                plain(text, 10.max(expected.chars().count() - usize::from(expected.ends_with('…')))),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn titles_are_one_short_line() {
        let cases = [
            ("", 5, ""),
            (" a\n b\t", 5, "a b"),
            ("äöüäöü", 5, "äöüäö…"),
            ("12345", 5, "12345"),
            ("\u{1}a\u{0}\u{1b} b\u{7f}\u{9b}", 5, "a b"),
        ];
        for (text, chars, expected) in cases {
            assert_eq!(shortened(text, chars), expected);
        }
    }
}
