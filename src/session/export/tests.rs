//! Documents, word by word.

use serde_json::{Value, json};

use super::super::events::Summary;
use super::markdown::{Markdown, head};
use super::{Format, file_name};

fn summary(title: Option<&str>) -> Summary {
    Summary {
        session_id: "session_1704123456789_x7k9m2pqr".into(),
        title: title.map(str::to_owned),
        state: "idle",
        source: "here",
        agent: "claude".into(),
        agent_version: None,
        mode: "isolated",
        cwd: "/home/a `b`".into(),
        model: None,
        permission_mode: None,
        effort: None,
        created_at: 1_704_123_456_789,
        last_activity: 1_704_123_456_789,
        viewers: 0,
        running: None,
        queue: Vec::new(),
        open_questions: 0,
        turns: 1,
        cost_usd: 0.0,
        usage: crate::session::account::Usage::default(),
        context_tokens: None,
        context_window: None,
        rate_limit: None,
        tasks: Vec::new(),
        todos: Vec::new(),
        last_words: None,
        deleted: false,
        failure: None,
        retrying: None,
    }
}

/// What these events give, each at the same time.
fn check(events: &[(&str, Value)], expected: &str) {
    let (mut markdown, mut text) = (Markdown::default(), String::new());
    for (name, data) in events {
        markdown.event(name, 1_704_123_456_789, &data.to_string(), &mut text);
    }
    assert_eq!(text, expected);
}

fn claude(line: Value) -> (&'static str, Value) {
    ("claudeEvent", json!({"sessionId": "s", "seq": 1, "event": line}))
}

fn message(kind: &str, content: Value) -> (&'static str, Value) {
    claude(json!({"type": kind, "message": {"role": kind, "content": content}, "parent_tool_use_id": null}))
}

#[test]
fn a_document_begins_with_what_it_is() {
    let expected = "# Fix \\*it\\*\n\n- Directory: `` /home/a `b` ``\n- Begun: 2024-01-01 15:37:36 UTC\n\
                    - Session: `session_1704123456789_x7k9m2pqr`\n";
    assert_eq!(head(&summary(Some("Fix *it*"))), expected);
    assert!(head(&summary(None)).starts_with("# session\\_1704123456789\\_x7k9m2pqr\n"));
}

#[test]
fn prompts_are_headings() {
    let asked = |text: &str| ("prompt", json!({"text": text}));
    check(&[asked(" # What? ")], "\n## \\# What?\n\n*2024-01-01 15:37:36 UTC*\n");
    check(
        &[asked("two\n```\nlines")],
        "\n## two \\`\\`\\` lines\n\n*2024-01-01 15:37:36 UTC*\n\n````\ntwo\n```\nlines\n````\n",
    );
    let long = "x".repeat(101);
    let cut = &long[..100];
    check(&[asked(&long)], &format!("\n## {cut}…\n\n*2024-01-01 15:37:36 UTC*\n\n```\n{long}\n```\n"));
    let file = json!({"name": "a`b.png", "mediaType": "image/png", "bytes": 12});
    check(
        &[("prompt", json!({"text": "see", "attachments": [file]}))],
        "\n## see\n\n*2024-01-01 15:37:36 UTC*\n\n- ``a`b.png`` (image/png, 12 bytes)\n",
    );
}

#[test]
fn replies_are_markdown_and_thoughts_are_not_shown() {
    check(
        &[
            message("assistant", json!([{"type": "thinking", "thinking": "hm"}])),
            message("assistant", json!([{"type": "text", "text": "# Yes\n\n- a\n\n"}])),
            message("assistant", json!([{"type": "text", "text": "```\nopen"}, {"type": "text", "text": " "}])),
            message("user", json!("an echo")),
            message("user", json!([{"type": "text", "text": "[Request interrupted by user]"}])),
        ],
        "\n# Yes\n\n- a\n\n```\nopen\n```\n",
    );
}

#[test]
fn tools_are_shown_with_their_results() {
    let uses = json!([{"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls ```"}}]);
    let result = |id: &str, content: Value, is_error: bool| {
        message("user", json!([{"type": "tool_result", "tool_use_id": id, "content": content, "is_error": is_error}]))
    };
    let used = "\n**Bash**\n\n````json\n{\n  \"command\": \"ls ```\"\n}\n````\n";
    let block = |label: &str, text: &str| format!("{used}\n**{label}**\n\n```\n{text}\n```\n");
    let call = || message("assistant", uses.clone());
    check(&[call(), result("t1", json!("a\nb"), false)], &block("Result of Bash", "a\nb"));
    check(&[call(), result("t1", json!("no"), true)], &block("Error of Bash", "no"));
    check(&[call(), result("t2", json!("x"), false)], &block("Result", "x"));
    check(&[call(), result("t1", json!(""), false)], &format!("{used}\n**Result of Bash**: nothing\n"));
    let blocks = json!([{"type": "text", "text": "seen"}, {"type": "image", "source": {}}]);
    check(&[call(), result("t1", blocks, false)], &block("Result of Bash", "seen\n[image]"));
    let long = "ä".repeat(4003);
    let cut = "ä".repeat(4000);
    check(
        &[call(), result("t1", json!(long), false)],
        &format!("{used}\n**Result of Bash**, shortened by 3 characters\n\n```\n{cut}\n```\n"),
    );
}

#[test]
fn sub_agents_are_left_out() {
    let of_another = |kind: &str| {
        let content = json!([{"type": "text", "text": "t"}, {"type": "tool_result", "content": "r"}]);
        claude(json!({"type": kind, "message": {"content": content}, "parent_tool_use_id": "toolu_1"}))
    };
    check(&[of_another("assistant"), of_another("user")], "");
}

#[test]
fn questions_have_their_answers() {
    let asks = |id: &str, tool: &str| {
        ("permissionRequest", json!({"requestId": id, "toolName": tool, "description": "Ask *it*", "input": {}}))
    };
    let answered =
        |id: &str, how: &str| ("permissionResolved", json!({"requestId": id, "behavior": how, "by": "client-1"}));
    check(
        &[
            asks("1", "Bash"),
            asks("2", "Write"),
            answered("2", "deny"),
            answered("1", "allow"),
            answered("3", "cancelled"),
        ],
        "\n> **Claude asks:** to use Bash: Ask \\*it\\*\n\n> **Claude asks:** to use Write: Ask \\*it\\*\n\n\
         > **Answer for Write:** deny, by client-1\n\n> **Answer for Bash:** allow, by client-1\n\n\
         > **Answer:** cancelled, by client-1\n",
    );
}

#[test]
fn what_else_happened_is_noted() {
    check(
        &[
            ("notice", json!({"level": "warning", "code": "c", "text": "one\n## two"})),
            claude(json!({"type": "system", "subtype": "init"})),
            claude(json!({"type": "system", "subtype": "compact_boundary"})),
            claude(json!({"type": "system", "subtype": "local_command_output", "content": "out"})),
            claude(json!({"type": "result", "subtype": "success", "is_error": false, "result": "said before"})),
            claude(json!({"type": "result", "subtype": "success", "is_error": true, "result": "API Error"})),
            claude(json!({"type": "result", "subtype": "error_during_execution", "is_error": true})),
            claude(json!({"type": "brand_new"})),
            claude(json!(7)),
            ("claudeEvent", json!({"sessionId": "s", "seq": 9, "truncated": true, "bytes": 20_000_000})),
            ("claudeEvent", json!({"sessionId": "s", "seq": 9, "damaged": true})),
        ],
        "\n> **Notice (warning):** one \\#\\# two\n\n> **Compacted:** Claude goes on with a summary of what is above\n\n\
         ```\nout\n```\n\n> **Ended early:** API Error\n\n> **Ended early:** error\\_during\\_execution\n\n\
         > **Damaged:** what happened here cannot be read any more\n",
    );
}

#[test]
fn file_names_are_harmless() {
    let id = "session_1704123456789_x7k9m2pqr";
    let cases = [
        (Some("Fix the parser"), "Fix-the-parser.md".to_owned()),
        (Some("../../etc/passwd"), "etc-passwd.md".to_owned()),
        (Some("a\"; filename=\"b\r\nX: y"), "a-filename-b-X-y.md".to_owned()),
        (Some("日本語"), format!("{id}.md")),
        (None, format!("{id}.md")),
    ];
    for (title, expected) in cases {
        assert_eq!(file_name(&summary(title), Format::Markdown), expected, "{title:?}");
    }
    let long = file_name(&summary(Some(&"words and ".repeat(30))), Format::JsonLines);
    assert!(long.len() <= 66 && long.ends_with(".jsonl") && !long.contains("-."), "{long}");
}
