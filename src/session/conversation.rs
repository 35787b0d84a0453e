//! Claude's own side of a session: its name for the conversation, how the next process comes to it, and the message that a
//! fork goes on from.
//!
//! A fork leaves at the last message after which no tool is at work: an answer's text, the result of a tool, or Claude's
//! note that it was interrupted. After a tool use without its result Claude would tell the model that the result is lost
//! (2.1.330), or not find the message (2.1.197). The history of a fork is cut to what that message covers.

use super::plain::NAME_CHARS_MAX;
use crate::claude::command::{Begin, ForkPoint};
use crate::proto::claude::Kind;

/// Tool uses that are remembered as open; Claude runs far fewer at the same time.
const OPEN_TOOLS_MAX: usize = 256;

/// See the module.
pub(super) struct Conversation {
    /// Claude's name for it; follows what Claude reports (`/clear` begins another).
    pub uuid: String,
    /// Whether `--resume` is right: a turn of this uuid was seen.
    pub has_turns: bool,
    /// The other way was tried already for this start.
    pub tried_other: bool,
    /// Where this one leaves another, until its first turn.
    pub forked_from: Option<ForkPoint>,
    /// Where a fork leaves this one; unknown where it had no such message yet.
    pub last_message: Option<String>,
    /// How far the session is with that message.
    pub covered: Covered,
    /// Tool uses of the running turn that have no result yet.
    pub open_tools: Vec<String>,
}

/// What of a session a message covers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Covered {
    /// The events up to this number.
    pub seq: u64,
    /// So much of the running answer's text.
    pub text_bytes: usize,
}

impl Conversation {
    /// One that is not begun.
    pub fn new(uuid: String) -> Conversation {
        Conversation {
            uuid,
            has_turns: false,
            tried_other: false,
            forked_from: None,
            last_message: None,
            covered: Covered::default(),
            open_tools: Vec::new(),
        }
    }

    /// How the next process comes to it.
    pub fn begin(&self) -> Begin {
        match &self.forked_from {
            _ if self.has_turns => Begin::Resume,
            Some(point) => Begin::Fork(point.clone()),
            None => Begin::New,
        }
    }

    /// A turn of it was seen: Claude has a record of it.
    pub fn has_begun(&mut self) {
        self.has_turns = true;
        self.forked_from = None;
    }

    /// Claude has begun another.
    pub fn changes_to(&mut self, uuid: &str) {
        *self = Conversation { covered: self.covered, ..Conversation::new(uuid.to_owned()) };
        self.has_begun();
    }

    /// The next answer begins: its prompt, or what Claude began it with, is the first event behind this number.
    pub fn expect_answer_behind(&mut self, seq: u64) {
        self.covered = Covered { seq, text_bytes: 0 };
        self.open_tools.clear();
    }

    /// Takes note of a line; `now`: what is covered with it. Returns the message's name if a fork can go on from it.
    pub fn follow(&mut self, line: &Kind<'_>, now: Covered) -> Option<&str> {
        let (uuid, is_whole) = match line {
            Kind::Assistant { uuid: Some(uuid), text, tool_uses, .. } => {
                let room = OPEN_TOOLS_MAX.saturating_sub(self.open_tools.len());
                let named = tool_uses.iter().filter(|tool| tool.id.len() <= NAME_CHARS_MAX);
                self.open_tools.extend(named.take(room).map(|tool| tool.id.to_string()));
                // A thought alone is not kept.
                (uuid, text.is_some())
            }
            Kind::User { uuid, tool_results, .. } => {
                self.open_tools.retain(|open| tool_results.iter().all(|id| id != open));
                (uuid, true)
            }
            _ => return None,
        };
        // It becomes an argument.
        if !is_whole || !self.open_tools.is_empty() || !is_uuid(uuid) {
            return None;
        }
        self.covered = now;
        Some(self.last_message.insert(uuid.to_string()))
    }
}

/// Claude's own form of a conversation's or a message's name; it becomes an argument at the next start.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// A random uuid of version 4.
pub(super) fn uuid_v4() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::claude::parse;

    #[test]
    fn only_a_uuid_becomes_an_argument() {
        let cases = [
            ("01234567-89ab-4def-8123-456789abcdef", true),
            ("", false),
            ("--help", false),
            ("01234567-89ab-4def-8123-456789abcde\0", false),
        ];
        for (text, expected) in cases {
            assert_eq!(is_uuid(text), expected, "{text:?}");
        }
    }

    fn name(number: u64) -> String {
        format!("00000000-0000-4000-8000-{number:012}")
    }

    fn assistant(number: u64, content: &str) -> String {
        format!(r#"{{"type":"assistant","uuid":"{}","message":{{"content":[{content}]}}}}"#, name(number))
    }

    fn user(number: u64, content: &str) -> String {
        format!(r#"{{"type":"user","uuid":"{}","message":{{"content":[{content}]}}}}"#, name(number))
    }

    /// Each line with the number of the message that a fork goes on from after it.
    fn check(lines: &[(String, u64)]) {
        let mut conversation = Conversation::new(name(0));
        for (seq, (line, expected)) in (1..).zip(lines) {
            let parsed = parse(line.as_bytes()).expect("JSON");
            let moved = conversation.follow(&parsed.kind, Covered { seq, text_bytes: 0 }).is_some();
            let last = Some(*expected).filter(|number| *number > 0).map(name);
            assert_eq!(conversation.last_message, last, "{line}");
            assert_eq!(moved, conversation.covered.seq == seq, "{line}");
        }
    }

    const TEXT: &str = r#"{"type":"text","text":"t"}"#;

    fn tool(id: &str) -> String {
        format!(r#"{{"type":"tool_use","id":"{id}","name":"Bash","input":{{}}}}"#)
    }

    fn result(id: &str) -> String {
        format!(r#"{{"type":"tool_result","tool_use_id":"{id}","content":"r"}}"#)
    }

    #[test]
    fn a_fork_goes_on_where_no_tool_is_at_work() {
        check(&[
            (r#"{"type":"system","subtype":"init"}"#.into(), 0),
            (assistant(1, r#"{"type":"thinking","thinking":"hm"}"#), 0),
            (assistant(2, TEXT), 2),
            (assistant(3, &tool("a")), 2),
            (assistant(4, &tool("b")), 2),
            (assistant(5, TEXT), 2),
            (user(6, &result("b")), 2),
            (user(7, &result("a")), 7),
            (assistant(8, TEXT), 8),
            (user(9, TEXT), 9),
        ]);
    }

    #[test]
    fn lines_that_claude_does_not_keep_are_passed_over() {
        let of_another = |line: String| line.replacen('{', r#"{"parent_tool_use_id":"toolu_1","#, 1);
        let echo = user(5, TEXT).replacen('{', r#"{"isReplay":true,"#, 1);
        check(&[
            (assistant(1, TEXT), 1),
            (of_another(assistant(2, TEXT)), 1),
            (of_another(assistant(3, &tool("a"))), 1),
            (of_another(user(4, &result("a"))), 1),
            (echo, 1),
            (r#"{"type":"assistant","uuid":"--help","message":{"content":[{"type":"text","text":"t"}]}}"#.into(), 1),
            (r#"{"type":"assistant","message":{"content":[{"type":"text","text":"t"}]}}"#.into(), 1),
            (r#"{"type":"user","uuid":7,"message":{"content":"x"}}"#.into(), 1),
        ]);
    }

    #[test]
    fn an_answer_begins_without_open_tools() {
        let mut conversation = Conversation::new(name(0));
        let mut follow = |line: &str| {
            let parsed = parse(line.as_bytes()).expect("JSON");
            conversation.follow(&parsed.kind, Covered::default()).is_some()
        };
        assert!(!follow(&assistant(1, &tool("a"))) && !follow(&assistant(2, TEXT)));
        conversation.expect_answer_behind(7);
        assert_eq!(conversation.covered, Covered { seq: 7, text_bytes: 0 });
        let line = assistant(3, TEXT);
        let parsed = parse(line.as_bytes()).expect("JSON");
        assert!(conversation.follow(&parsed.kind, Covered::default()).is_some());
    }

    #[test]
    fn a_tool_use_with_a_name_that_is_too_long_is_not_remembered() {
        let mut conversation = Conversation::new(name(0));
        for (chars, kept) in [(NAME_CHARS_MAX, 1), (NAME_CHARS_MAX + 1, 0)] {
            let line = assistant(1, &tool(&"x".repeat(chars)));
            let parsed = parse(line.as_bytes()).expect("JSON");
            conversation.follow(&parsed.kind, Covered::default());
            assert_eq!(conversation.open_tools.len(), kept, "{chars}");
            conversation.open_tools.clear();
        }
    }

    #[test]
    fn a_conversation_is_begun_in_one_of_three_ways() {
        let point = ForkPoint { conversation: name(1), at: Some(name(2)) };
        let mut conversation = Conversation::new(name(0));
        assert_eq!(conversation.begin(), Begin::New);
        conversation.forked_from = Some(point.clone());
        assert_eq!(conversation.begin(), Begin::Fork(point));
        conversation.last_message = Some(name(2));
        conversation.has_begun();
        assert_eq!((conversation.begin(), &conversation.forked_from), (Begin::Resume, &None));
        assert!(conversation.last_message.is_some(), "a fork has the messages of the other under their names");
        conversation.changes_to(&name(3));
        assert_eq!((conversation.begin(), conversation.last_message), (Begin::Resume, None));
    }

    #[test]
    fn uuids_are_of_version_4() {
        for _ in 0..1000 {
            let uuid = uuid_v4();
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], "4", "{uuid}");
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }
}
