//! What is asked of it beside prompts.

use std::{env, path::Path, thread};

use serde_json::{Value, json};

use crate::{Agent, LOOK_EVERY, conversation::uuid, lines::say};

impl Agent {
    /// Answers a control request; true where it was an interrupt.
    pub fn control(&mut self, line: &Value, in_turn: bool) -> bool {
        let request = &line["request"];
        if let Some(error) = refusal(request) {
            self.refuse(line, error);
            return false;
        }
        let response = match request["subtype"].as_str().unwrap_or_default() {
            subtype if self.mode == "mute" && !matches!(subtype, "initialize" | "interrupt") => return false,
            "initialize" => {
                if let Some(file) = &self.go_file {
                    wait_for_file(file);
                }
                json!({
                    "commands": [{"name": "compact", "description": "Say it shorter", "argumentHint": ""}],
                    "models": [{"value": "default", "displayName": "Default", "description": "The only one"}],
                    "agents": [], "output_style": "default", "available_output_styles": ["default"],
                    "account": {}, "pid": std::process::id(), "claude_code_version": "0.0.0-bad-agent",
                })
            }
            "interrupt" => {
                self.interrupts += 1;
                if in_turn && self.interrupts == 1 && self.mode == "late-interrupt" {
                    self.reply(line, Some(json!({"still_queued": [self.running]})));
                    return false;
                }
                if self.mode == "old" {
                    self.reply(line, None);
                    return in_turn;
                }
                json!({"still_queued": []})
            }
            "set_permission_mode" => {
                self.permission_mode = request["mode"].as_str().unwrap_or_default().to_owned();
                say(&json!({
                    "type": "system", "subtype": "status", "status": null,
                    "permissionMode": self.permission_mode, "session_id": self.session_id,
                }));
                json!({"mode": self.permission_mode})
            }
            "set_model" => {
                // An alias means another model, as with the real one.
                self.model = format!("bad-{}", request["model"].as_str().unwrap_or("default"));
                json!({})
            }
            "apply_flag_settings" => {
                // As the real one, it takes no notice of what it does not know.
                if let Some(known @ ("low" | "medium" | "high")) = request["settings"]["effortLevel"].as_str() {
                    self.effort = known.to_owned();
                }
                json!({})
            }
            "get_settings" if self.mode != "old" => {
                // Some models have none.
                let effort = Some(&self.effort).filter(|_| self.model != "bad-effortless");
                json!({"applied": {"model": self.model, "effort": effort}, "effective": {}, "sources": []})
            }
            "file_suggestions" => {
                let query = request["query"].as_str().unwrap_or_default();
                json!({"suggestions": [{"path": format!("src/{query}")}], "cwd": env::current_dir().ok()})
            }
            "rewind_files" if request["dry_run"] == true => {
                json!({"canRewind": true, "filesChanged": [request["user_message_id"]], "insertions": 1, "deletions": 2})
            }
            "rewind_files" => json!({"canRewind": true}),
            "rename_session" => {
                self.call_it(request["title"].as_str().unwrap_or_default());
                json!({})
            }
            "stop_task" => json!({}),
            "get_context_usage" => {
                json!({"categories": [], "totalTokens": 10, "maxTokens": 200_000, "percentage": 0})
            }
            other => {
                self.refuse(line, &format!("Unsupported control request subtype: {other}"));
                return false;
            }
        };
        self.reply(line, Some(response));
        in_turn && request["subtype"] == "interrupt"
    }

    /// The oldest do not say it.
    pub fn call_it(&mut self, title: &str) {
        self.title = Some(title.to_owned());
        if self.mode != "old" {
            say(&json!({
                "type": "system", "subtype": "session_title_changed", "title": title, "session_id": self.session_id,
                "uuid": uuid(),
            }));
        }
    }

    fn refuse(&self, request: &Value, error: &str) {
        say(&json!({
            "type": "control_response",
            "response": {"subtype": "error", "request_id": request["request_id"], "error": error},
        }));
    }

    fn reply(&self, to: &Value, response: Option<Value>) {
        let mut whole = json!({"subtype": "success", "request_id": to["request_id"]});
        if let Some(response) = response {
            whole["response"] = response;
        }
        say(&json!({"type": "control_response", "response": whole}));
    }
}

/// What it does not do, and why.
fn refusal(request: &Value) -> Option<&'static str> {
    match (request["subtype"].as_str()?, request) {
        ("rename_session", request) if request["title"] == "no such name" => Some("no, this one is not liked"),
        ("set_model", request) if request["model"] == "refused" => Some("there is no such model"),
        ("set_permission_mode", request) if request["mode"] == "auto" => Some("auto is not for everybody"),
        _ => None,
    }
}

fn wait_for_file(file: &Path) {
    while !file.exists() {
        thread::sleep(LOOK_EVERY);
    }
}
