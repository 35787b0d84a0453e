//! Lines as the CLI prints them, and lines as it wants them.

use serde_json::value::RawValue;

use super::*;
use proptest::prelude::*;

fn check(line: &str, expected: &str) {
    let shown = match parse(line.as_bytes()) {
        Err(NotJson) => "not JSON".to_owned(),
        Ok(line) => format!("{:?}", line.kind),
    };
    assert!(shown.starts_with(expected), "{line}\n gave {shown}\n not {expected}");
}

#[test]
fn what_steers_is_found() {
    let cases = [
        (
            r#"{"type":"system","subtype":"init","model":"m","permissionMode":"plan","claude_code_version":"2.1.330"}"#,
            r#"Init(Init { model: Some("m"), permission_mode: Some("plan"), version: Some("2.1.330") })"#,
        ),
        (
            r#"{"type":"stream_event","event":{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a\nb"}},"parent_tool_use_id":null}"#,
            r#"Delta(Text("a\nb"))"#,
        ),
        (
            r#"{"parent_tool_use_id":null,"event":{"delta":{"text":"x","type":"text_delta"},"type":"content_block_delta"},"type":"stream_event"}"#,
            r#"Delta(Text("x"))"#,
        ),
        (
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}},"parent_tool_use_id":"toolu_1"}"#,
            "Delta(Other)",
        ),
        (
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"x"}}}"#,
            "Delta(Other)",
        ),
        (
            r#"{"type":"stream_event","event":{"type":"message_start","message":{"id":"msg_1","content":[]}}}"#,
            r#"Delta(MessageStart { id: "msg_1" })"#,
        ),
        (r#"{"type":"stream_event","event":7}"#, "Delta(Other)"),
        (
            r#"{"type":"stream_event","event":{"type":"content_block_delta","delta":{"type":"text_delta","text":"a\ud83db"}}}"#,
            "Delta(Text(\"a\u{fffd}",
        ),
        (
            r#"{"type":"assistant","message":{"id":"i","content":[{"type":"text","text":"a"},{"type":"tool_use"},{"type":"text","text":"b"}]},"parent_tool_use_id":null}"#,
            r#"Assistant { message_id: Some("i"), text: Some("ab"), uuid: None, tool_uses: [], error: None, context: None }"#,
        ),
        (
            r#"{"type":"assistant","message":{"id":"i","content":[{"type":"text","text":"a"}]},"parent_tool_use_id":"t"}"#,
            r#"Assistant { message_id: Some("i"), text: None, uuid: None, tool_uses: [], error: None, context: None }"#,
        ),
        (
            r#"{"type":"assistant","uuid":"u","message":{"content":[{"type":"tool_use","id":"a"},{"type":"tool_use","id":"b"}]}}"#,
            r#"Assistant { message_id: None, text: None, uuid: Some("u"), tool_uses: [ToolUse { id: "a", name: "", input: None }, ToolUse { id: "b", name: "", input: None }], error: None"#,
        ),
        (
            r#"{"type":"assistant","uuid":"u","message":{"content":[{"type":"tool_use","id":"a"}]},"parent_tool_use_id":"t"}"#,
            "Assistant { message_id: None, text: None, uuid: None, tool_uses: [], error: None, context: None }",
        ),
        (r#"{"type":"user","isReplay":true,"uuid":"u"}"#, r#"Replay { uuid: "u" }"#),
        (r#"{"type":"user","uuid":"u"}"#, "Other"),
        (
            r#"{"type":"user","uuid":"u","message":{"content":"x"}}"#,
            r#"User { uuid: "u", tool_results: [], tool_outcome: None }"#,
        ),
        (r#"{"type":"user","uuid":"u","message":{"content":"x"},"parent_tool_use_id":"t"}"#, "Other"),
        (
            r#"{"type":"user","uuid":"u","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":[]},{"type":"text","text":"x"}]}}"#,
            r#"User { uuid: "u", tool_results: ["a"], tool_outcome: None }"#,
        ),
        (
            r#"{"type":"command_lifecycle","command_uuid":"u","state":"started"}"#,
            r#"Lifecycle { uuid: "u", state: "started" }"#,
        ),
        (
            r#"{"duration_ms":5,"num_turns":0,"usage":{"a":1},"is_error":true,"subtype":"success","type":"result","user_message_uuids":["u"]}"#,
            r#"Result(Outcome { subtype: "success", is_error: true, result: None, total_cost_usd: None, duration_ms: Some(5.0), num_turns: Some(0), usage: Some(RawValue({"a":1})), model_usage: None, api_error_status: None, terminal_reason: None, prompts: ["u"] })"#,
        ),
        (
            r#"{"type":"control_request","request_id":"r","request":{"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}}"#,
            r#"ControlRequest { request_id: "r", request: RawValue({"subtype":"can_use_tool","tool_name":"Bash","input":{"command":"ls"}}), can_use_tool: Some(CanUseTool { tool_name: "Bash", input: RawValue({"command":"ls"})"#,
        ),
        (
            r#"{"type":"control_request","request_id":"r","request":{"subtype":"hook_callback"}}"#,
            r#"ControlRequest { request_id: "r", request: RawValue({"subtype":"hook_callback"}), can_use_tool: None"#,
        ),
        (
            r#"{"type":"control_request","request_id":"r","request":"hook"}"#,
            r#"ControlRequest { request_id: "r", request: RawValue("hook"), can_use_tool: None"#,
        ),
        (
            r#"{"type":"control_request","request_id":"r"}"#,
            r#"ControlRequest { request_id: "r", request: RawValue(null), can_use_tool: None"#,
        ),
        (
            r#"{"type":"control_response","response":{"subtype":"error","request_id":"r","error":"cut \ud83d"}}"#,
            r#"ControlResponse { request_id: "r", answer: Err("cut "#,
        ),
        (
            r#"{"type":"control_response","response":{"subtype":"error","request_id":"r","error":{"code":1}}}"#,
            r#"ControlResponse { request_id: "r", answer: Err("") }"#,
        ),
        (
            r#"{"type":"control_response","response":{"subtype":"success","request_id":"r","response":{"x":1}}}"#,
            r#"ControlResponse { request_id: "r", answer: Ok(Some(RawValue({"x":1}))) }"#,
        ),
        (
            r#"{"type":"control_response","response":{"subtype":"error","request_id":"r","error":"no"}}"#,
            r#"ControlResponse { request_id: "r", answer: Err("no") }"#,
        ),
        (r#"{"type":"control_cancel_request","request_id":"r"}"#, r#"ControlCancel { request_id: "r" }"#),
        (
            r#"{"type":"assistant","message":{"model":"m","usage":{"input_tokens":1,"cache_read_input_tokens":20,"cache_creation_input_tokens":"x"}},"error":"rate_limit"}"#,
            r#"Assistant { message_id: None, text: None, uuid: None, tool_uses: [], error: Some("rate_limit"), context: Some(Context { model: "m", tokens: 21 }) }"#,
        ),
        (
            r#"{"type":"result","modelUsage":{"b":{"inputTokens":7.0,"contextWindow":200000},"c\u0041":{}},"api_error_status":429}"#,
            r#"Result(Outcome { subtype: "", is_error: false, result: None, total_cost_usd: None, duration_ms: None, num_turns: None, usage: None, model_usage: Some([("b", ModelUsage { input_tokens: 7, output_tokens: 0, cache_read_input_tokens: 0, cache_creation_input_tokens: 0, context_window: 200000 }), ("cA", ModelUsage { input_tokens: 0"#,
        ),
        (
            r#"{"type":"result","total_cost_usd":-1,"modelUsage":{"b":{"inputTokens":7},"a":8}}"#,
            r#"Result(Outcome { subtype: "", is_error: false, result: None, total_cost_usd: None, duration_ms: None, num_turns: None, usage: None, model_usage: None"#,
        ),
        (
            r#"{"type":"system","subtype":"background_tasks_changed","tasks":[{"task_id":"t","task_type":"local_bash","description":"d"},{}]}"#,
            r#"BackgroundTasks([Task { id: "t", kind: Some("local_bash"), description: Some("d") }, Task { id: "", kind: None, description: None }])"#,
        ),
        (
            r#"{"type":"system","subtype":"task_updated","task_id":"t","patch":{"status":"completed"}}"#,
            r#"Task { subtype: "task_updated", news: TaskNews { task: Task { id: "t", kind: None, description: None }, tool_use_id: None, status: Some("completed") } }"#,
        ),
        (r#"{"type":"system","subtype":"task_started"}"#, "Other"),
        (
            r#"{"type":"system","subtype":"api_retry","attempt":1,"max_retries":10,"retry_delay_ms":529.62,"error_status":529,"error":"overloaded"}"#,
            r#"Retry(Retry { attempt: 1, attempts_max: 10, delay_ms: 529, status: Some(529), error: "overloaded" })"#,
        ),
        (
            r#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","resetsAt":1795681618,"rateLimitType":"five_hour","utilization":0.92}}"#,
            r#"RateLimit(RateLimit { status: "allowed_warning", kind: Some("five_hour"), resets_at: Some(1795681618), utilization: Some(0.92) })"#,
        ),
        (r#"{"type":"system","subtype":"status","status":"requesting"}"#, "Other"),
        (r#"{"type":"system","subtype":"session_title_changed","title":"t"}"#, r#"Title("t")"#),
        (r#"{"type":"system","subtype":"session_title_changed"}"#, "Other"),
        (
            r#"{"type":"system","subtype":"commands_changed","commands":[{"name":"a"}]}"#,
            r#"Commands(RawValue([{"name":"a"}]))"#,
        ),
        (r#"{"type":"system","subtype":"commands_changed"}"#, "Other"),
        (r#"{"type":"keep_alive"}"#, "KeepAlive"),
    ];
    for (line, expected) in cases {
        check(line, expected);
    }
}

#[test]
fn what_is_odd_is_relayed_and_what_is_no_json_is_told() {
    for line in [
        "{}",
        r#"{"type":7}"#,
        r#"{"type":"brand_new","x":[1]}"#,
        r#"{"type":"control_request"}"#,
        r#"{"type":"system","subtype":{}}"#,
        r#" {"type":"assistant","message":"x"} "#,
    ] {
        check(line, "Other");
    }
    for line in ["", "x", "[1]", "7", "\"s\"", "{", "{} {}", r#"{"type":"result""#] {
        check(line, "not JSON");
    }
    assert_eq!(parse(b"{\"a\":\"\xff\"}").err(), Some(NotJson));
}

#[test]
fn lines_to_claude_are_exact() {
    let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("valid");
    let (input, rules) = (raw(r#"{"command":"ls"}"#), raw(r#"[{"type":"setMode"}]"#));
    let allow = Permission::Allow { updated_input: &input, updated_permissions: Some(&rules) };
    let cases = [
        (
            user_line("u", Content::Text("--resume=x\n\"q\"")),
            "{\"type\":\"user\",\"uuid\":\"u\",\"message\":{\"role\":\"user\",\"content\":\"--resume=x\\n\\\"q\\\"\"},\"parent_tool_use_id\":null}\n",
        ),
        (
            user_line("u\"", Content::Json(r#"[{"type":"text","text":"t\n"}]"#)),
            "{\"type\":\"user\",\"uuid\":\"u\\\"\",\"message\":{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"t\\n\"}]},\"parent_tool_use_id\":null}\n",
        ),
        (
            permission_line("r", &allow),
            "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"r\",\"response\":{\"behavior\":\"allow\",\"updatedInput\":{\"command\":\"ls\"},\"updatedPermissions\":[{\"type\":\"setMode\"}]}}}\n",
        ),
        (
            permission_line("r", &Permission::Deny { message: "no", interrupt: false }),
            "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\",\"request_id\":\"r\",\"response\":{\"behavior\":\"deny\",\"message\":\"no\",\"interrupt\":false}}}\n",
        ),
        (
            control_error_line("r", "no"),
            "{\"type\":\"control_response\",\"response\":{\"subtype\":\"error\",\"request_id\":\"r\",\"error\":\"no\"}}\n",
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(line, expected);
    }
    let requests = [
        (control_request_line("r", "interrupt"), serde_json::json!({"subtype": "interrupt"})),
        (rename_line("r", "a\n\"b\""), serde_json::json!({"subtype": "rename_session", "title": "a\n\"b\""})),
    ];
    for (line, request) in requests {
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1, "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line, serde_json::json!({"type": "control_request", "request_id": "r", "request": request}));
    }
}

proptest! {
    #[test]
    fn no_bytes_can_hurt(line in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&line);
    }

    #[test]
    fn a_prompt_is_one_line_whatever_it_holds(prompt in any::<String>()) {
        let line = user_line("u", Content::Text(&prompt));
        prop_assert_eq!(line.matches('\n').count(), 1);
        let back: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        prop_assert_eq!(back["message"]["content"].as_str(), Some(prompt.as_str()));
    }
}
