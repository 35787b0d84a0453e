//! What a conversation tells.

use super::*;

#[test]
fn a_conversation_is_told() {
    let disk = Disk::new();
    let used = json!({"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}});
    let queued = json!({"type": "attachment", "attachment": {"type": "queued_command", "prompt": "and also", "commandMode": "prompt"}});
    let ended = json!({"type": "attachment", "attachment": {"type": "queued_command", "prompt": "<task-notification>", "commandMode": "task-notification"}});
    let compacted = json!({
        "type": "system", "subtype": "compact_boundary", "content": "c", "logicalParentUuid": uuid(7),
        "compactMetadata": {"trigger": "manual", "preTokens": 15, "postTokens": 7, "other": 1},
    });
    let summary = with(prompt(9, Some(8), "what was"), json!({"isCompactSummary": true}));
    let notified = with(prompt(12, Some(11), "<task-notification>"), json!({"origin": {"kind": "task-notification"}}));
    let failed = with(answer(13, 12, "API Error"), json!({"error": "unknown", "isApiErrorMessage": true}));
    let path = disk.write(
        1,
        text(&[
            json!({"type": "queue-operation", "operation": "enqueue", "content": "first"}),
            prompt(1, None, "first"),
            line(2, Some(1), json!({"type": "attachment", "attachment": {"type": "environment"}})),
            assistant(3, 2, used),
            result(4, 3, "a file"),
            line(5, Some(4), queued),
            line(6, Some(5), ended),
            answer(7, 6, "done"),
            line(8, None, compacted),
            summary,
            with(prompt(10, Some(9), "<local-command-caveat>x"), json!({"isMeta": true})),
            user(11, Some(10), json!([{"type": "text", "text": "[Request interrupted by user]"}])),
            notified,
            failed,
            local(14, 13, "<command-name>/rename</command-name>\n<command-args>It</command-args>"),
            local(15, 14, "<local-command-stdout>Renamed</local-command-stdout>"),
            local(16, 15, "<local-command-stdout></local-command-stdout>"),
            line(17, Some(16), json!({"type": "system", "subtype": "turn_duration", "durationMs": 5})),
            line(18, Some(17), json!({"type": "brand-new"})),
            with(prompt(19, Some(18), "last"), json!({"timestamp": null, "origin": {"kind": "human"}})),
        ]),
    );
    let event = |n: u32, kind: &str, more: Value| {
        let base = json!({"type": kind, "session_id": "s", "uuid": uuid(n), "timestamp": format!("2026-01-01T00:00:{n:02}.000Z")});
        (n, with(base, more))
    };
    let said = |text: &str| json!([{"type": "text", "text": text}]);
    let by = |n: u32, content: Value| {
        json!({
            "parent_tool_use_id": null,
            "message": {"id": format!("m{n}"), "role": "assistant", "model": "claude-x", "content": content},
        })
    };
    let from_user =
        |content: Value| json!({"parent_tool_use_id": null, "message": {"role": "user", "content": content}});
    let synthetic = |text: &str| with(from_user(json!(text)), json!({"isSynthetic": true}));
    let expected = [
        (1, json!("first")),
        event(
            3,
            "assistant",
            by(3, json!([{"type": "tool_use", "id": "t", "name": "Bash", "input": {"command": "ls"}}])),
        ),
        event(
            4,
            "user",
            with(
                from_user(json!([{"type": "tool_result", "tool_use_id": "t", "content": "a file"}])),
                json!({"tool_use_result": {"stdout": "a file"}}),
            ),
        ),
        (5, json!("and also")),
        event(7, "assistant", by(7, said("done"))),
        event(
            8,
            "system",
            json!({"subtype": "compact_boundary", "compact_metadata": {"trigger": "manual", "pre_tokens": 15, "post_tokens": 7}}),
        ),
        event(9, "user", synthetic("what was")),
        event(11, "user", from_user(said("[Request interrupted by user]"))),
        event(12, "user", synthetic("<task-notification>")),
        event(13, "assistant", with(by(13, said("API Error")), json!({"error": "unknown"}))),
        (14, json!("/rename It")),
        event(15, "system", json!({"subtype": "local_command_output", "content": "Renamed"})),
        (18, json!("last")),
    ];
    let got: Vec<(u32, Value)> = told(&path)
        .into_iter()
        .map(|told| {
            let value = match told.what {
                What::Prompt(text) => json!(text),
                What::Event(event) => serde_json::from_str(&event).expect("JSON"),
            };
            (u32::try_from((told.time - 1_767_225_600_000) / 1000).expect("small"), value)
        })
        .collect();
    for (got, expected) in got.iter().zip(&expected) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.len(), "{got:#?}");
}

#[test]
fn what_was_left_behind_is_not_told() {
    let disk = Disk::new();
    let path = disk.write(
        1,
        text(&[
            answer(2, 1, "a"),
            prompt(1, None, "first"),
            with(prompt(20, Some(2), "sub"), json!({"isSidechain": true})),
            prompt(3, Some(2), "left"),
            answer(4, 3, "behind"),
            prompt(5, Some(2), "other"),
            answer(6, 5, "b"),
        ]),
    );
    assert_eq!(words(&path), ["> first", "a", "> other", "b"]);
}
