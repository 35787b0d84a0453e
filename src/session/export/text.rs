//! Text that is data, put into Markdown so that it stays data: it neither ends what it is in nor begins anything new.

use std::borrow::Cow;

use super::super::plain::shortened;

/// The shortest fence that Markdown knows.
const FENCE_CHARS_MIN: usize = 3;

/// Longer JSON is not laid out: that may make it several times as long.
const PRETTY_BYTES_MAX: usize = 64 << 10;

/// What has a meaning inside a line; a backslash before it takes that away.
const MARKS: &str = r"\`*_[]<>#|~&$";

/// A line's worth of text, shortened.
pub fn inline(text: &str, chars_max: usize) -> String {
    let line = shortened(&visible(text), chars_max);
    let mut escaped = String::with_capacity(line.len());
    for c in line.chars() {
        if MARKS.contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

/// A name or a path, on one line, as it is.
pub fn code(text: &str) -> String {
    let text = visible(text).replace('\n', " ");
    let ticks = "`".repeat(longest_run(&text, '`') + 1);
    // Spaces keep its own ticks apart from ours, and are taken away again.
    let pad = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{ticks}{pad}{text}{pad}{ticks}")
}

/// A block of text, as it is. `kind`: what it is written in, if that is known.
pub fn fenced(text: &str, kind: &str) -> String {
    let text = visible(text);
    let fence = "`".repeat((longest_run(&text, '`') + 1).max(FENCE_CHARS_MIN));
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{fence}{kind}\n{text}{end}{fence}\n")
}

/// Markdown that somebody else has written. A block of code in which it ends is closed, or all that follows would be in it.
pub fn markdown(text: &str) -> String {
    let text = visible(text);
    let text = text.trim_matches('\n');
    match open_fence(text) {
        Some(fence) => format!("{text}\n{fence}\n"),
        None => format!("{text}\n"),
    }
}

/// JSON with each member on a line of its own, otherwise as it was.
pub fn pretty(json: &str) -> Cow<'_, str> {
    if json.len() > PRETTY_BYTES_MAX {
        return Cow::Borrowed(json);
    }
    let mut pretty = String::with_capacity(json.len() * 2);
    let mut depth = 0;
    let (mut in_string, mut escaped) = (false, false);
    let mut chars = json.chars().filter(|c| !matches!(c, '\n' | '\r')).peekable();
    let new_line = |pretty: &mut String, depth: usize| {
        pretty.push('\n');
        pretty.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            pretty.push(c);
            in_string = c != '"' || escaped;
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            '{' | '[' => {
                pretty.push(c);
                while chars.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    pretty.push(end);
                } else {
                    depth += 1;
                    new_line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                new_line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            ' ' | '\t' => {}
            _ => {
                in_string = c == '"';
                pretty.push(c);
            }
        }
    }
    Cow::Owned(pretty)
}

/// Control characters as pictures: a terminal that shows the file must not obey them. Line ends and tabs stay.
fn visible(text: &str) -> Cow<'_, str> {
    let is_control = |c: char| c.is_ascii_control() && c != '\n' && c != '\t';
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let picture = |c: char| match u32::from(c) {
        0x7f => '\u{2421}',
        code if is_control(c) => char::from_u32(0x2400 + code).unwrap_or(char::REPLACEMENT_CHARACTER),
        _ => c,
    };
    Cow::Owned(text.replace("\r\n", "\n").chars().map(picture).collect())
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

/// What closes the block of code that is open at the end, indented as its beginning: it may be part of a list.
fn open_fence(text: &str) -> Option<String> {
    let mut open: Option<(&str, char, usize)> = None;
    for line in text.lines() {
        let bare = line.trim_start_matches(' ');
        let indent = &line[..line.len() - bare.len()];
        let Some(mark) = bare.chars().next().filter(|c| matches!(c, '`' | '~')) else { continue };
        let length = bare.chars().take_while(|c| *c == mark).count();
        let rest = &bare[length..];
        match open {
            None if length >= FENCE_CHARS_MIN && !(mark == '`' && rest.contains('`')) => {
                open = Some((indent, mark, length));
            }
            Some((_, opened, least)) if mark == opened && length >= least && rest.trim().is_empty() => open = None,
            _ => {}
        }
    }
    open.map(|(indent, mark, length)| format!("{indent}{}", mark.to_string().repeat(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_of_text() {
        let cases = [
            ("plain words", "plain words"),
            ("# a\n## b", r"\# a \#\# b"),
            (
                "<script> & [x](y) `z` *b* _i_ | ~s~ $m$ \\",
                r"\<script\> \& \[x\](y) \`z\` \*b\* \_i\_ \| \~s\~ \$m\$ \\",
            ),
            ("a\u{1b}[31m\r\nb\0", "a␛\\[31m b␀"),
            ("0123456789abcdef", "0123456789ab…"),
        ];
        for (text, expected) in cases {
            assert_eq!(inline(text, if text.len() == 16 { 12 } else { 100 }), expected, "{text:?}");
        }
    }

    #[test]
    fn code_has_more_ticks_than_it_holds() {
        let cases = [("/a b", "`/a b`"), ("a`b", "``a`b``"), ("`a``", "``` `a`` ```"), ("a\nb", "`a b`")];
        for (text, expected) in cases {
            assert_eq!(code(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_fence_is_longer_than_any_in_it() {
        let cases = [
            ("a", "", "```\na\n```\n"),
            ("a\n", "json", "```json\na\n```\n"),
            ("", "", "```\n```\n"),
            ("```sh\nls\n```", "", "````\n```sh\nls\n```\n````\n"),
            ("x ````` y", "", "``````\nx ````` y\n``````\n"),
            ("a\r\nb\rc\u{1b}", "", "```\na\nb␍c␛\n```\n"),
        ];
        for (text, kind, expected) in cases {
            assert_eq!(fenced(text, kind), expected, "{text:?}");
        }
    }

    #[test]
    fn what_a_reply_leaves_open_is_closed() {
        let cases = [
            ("\ntext\n\n", "text\n"),
            ("a\n```\nb\n```\nc", "a\n```\nb\n```\nc\n"),
            ("a\n```rust\nb", "a\n```rust\nb\n```\n"),
            ("~~~~\n~~~\n```", "~~~~\n~~~\n```\n~~~~\n"),
            ("- a\n  ```\n  b", "- a\n  ```\n  b\n  ```\n"),
            ("```\n``` not its end", "```\n``` not its end\n```\n"),
            ("``` a span ```", "``` a span ```\n"),
            ("````\n```\n````", "````\n```\n````\n"),
        ];
        for (text, expected) in cases {
            assert_eq!(markdown(text), expected, "{text:?}");
        }
    }

    #[test]
    fn json_is_laid_out_and_not_changed() {
        let cases = [
            (r#"{"b":1.50,"a":"x, {y}: \"z\" \\"}"#, "{\n  \"b\": 1.50,\n  \"a\": \"x, {y}: \\\"z\\\" \\\\\"\n}"),
            (
                r#"{"a":[],"b":{ },"c":[1,{"d":null}]}"#,
                "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ]\n}",
            ),
            (r#" "s" "#, "\"s\""),
            ("7", "7"),
        ];
        for (json, expected) in cases {
            assert_eq!(pretty(json), expected, "{json}");
        }
    }
}
