//! What it makes of a prompt.

use std::{
    env, fs,
    path::Path,
    process::exit,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    Agent, Answer, Interrupted, LOOK_EVERY,
    conversation::uuid,
    lines::{say, say_bytes},
    processes::{spawn_clean, spawn_sleeper},
};

/// How long the reply to its own control request may take.
const REPLY_DEADLINE: Duration = Duration::from_secs(30);

impl Agent {
    pub fn answer(
        &mut self,
        answer: &mut Answer,
        prompt: &str,
        line: &Value,
        history: &[String],
    ) -> Result<(), Interrupted> {
        match self.mode.as_str() {
            "garbage" => {
                self.delta(answer, "between ");
                say_bytes(b"\xf0\x9f\x92 half a character\nnot JSON either\n");
            }
            "big-line" => self.line_of(answer, 50_000_000),
            "fifteen-mib-line" => self.line_of(answer, 15 << 20),
            "crash-mid-answer" if history.is_empty() => {
                self.delta(answer, "these words");
                self.delta(answer, " end here");
                eprintln!("bad_agent: crashed in mid-answer");
                exit(9)
            }
            "unknown-lines" => return self.unknown_lines(answer),
            _ => {}
        }
        let mut parts = prompt.split_whitespace();
        let (word, first, second) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        let number = |text: Option<&str>, otherwise: u64| text.and_then(|text| text.parse().ok()).unwrap_or(otherwise);
        let now = Duration::ZERO;
        match word {
            "pid" => self.words(answer, &std::process::id().to_string(), now),
            "cwd" => self.words(answer, &env::current_dir().unwrap_or_default().to_string_lossy(), now),
            "args" => self.words(answer, &json!(env::args().collect::<Vec<_>>()).to_string(), now),
            "env" => {
                let value = env::var(first.unwrap_or_default()).unwrap_or_else(|_| "<unset>".to_owned());
                self.words(answer, &value, now)
            }
            "environ" => {
                let mut names: Vec<String> =
                    env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
                names.sort();
                self.words(answer, &json!(names).to_string(), now)
            }
            "blocks" => {
                let blocks = line["message"]["content"].as_array().cloned().unwrap_or_default();
                let kinds: Vec<&Value> = blocks.iter().map(|block| &block["type"]).collect();
                self.words(answer, &json!(kinds).to_string(), now)
            }
            "content" => self.words(answer, &line["message"]["content"].to_string(), now),
            "title" => {
                self.call_it(prompt["title".len()..].trim());
                self.words(answer, "said", now)
            }
            "called" => {
                let title = self.title.clone().unwrap_or_else(|| "<nothing>".to_owned());
                self.words(answer, &title, now)
            }
            "history" => self.words(answer, &json!(history).to_string(), now),
            "words" => self.words(answer, &counted(number(first, 10)), now),
            "slow" => self.words(answer, &counted(number(first, 10)), Duration::from_millis(number(second, 50))),
            "lines" => {
                let data = "x".repeat(usize::try_from(number(second, 100)).unwrap_or(0));
                for count in 1..=number(first, 10) {
                    say(&json!({"type": "blob", "count": count, "data": data, "session_id": self.session_id}));
                }
                self.words(answer, "done", now)
            }
            "wait" => self.wait_in_turn(answer, Path::new(first.unwrap_or("/"))),
            "answers" => {
                let answers = json!(std::mem::take(&mut self.answers));
                self.words(answer, &answers.to_string(), now)
            }
            "ask" => self.ask(answer),
            "raw" => {
                say_bytes(&fs::read(first.unwrap_or("/")).expect("lines"));
                self.words(answer, "done", now)
            }
            "request" => {
                let request = serde_json::from_str(prompt["request".len()..].trim()).expect("a request in JSON");
                let reply = self.reply_to(&request)?;
                self.words(answer, &reply, now)
            }
            "tools" => self.tools(answer, Path::new(first.unwrap_or("/"))),
            "spawn" => self.words(answer, &spawn_sleeper(false).to_string(), now),
            "spawn-clean" => self.words(answer, &spawn_clean().to_string(), now),
            "spawn-orphan" => self.words(answer, &spawn_sleeper(true).to_string(), now),
            "crash" => {
                eprintln!("bad_agent: crashed as asked");
                exit(i32::try_from(number(first, 7)).unwrap_or(7))
            }
            "fail" => {
                answer.error = true;
                self.words(answer, "API Error: failed as asked", now)
            }
            "endless" if self.mode == "endless-line" => {
                say_bytes(b"{\"type\":\"blob\",\"data\":\"");
                loop {
                    say_bytes(&[b'x'; 65536]);
                }
            }
            _ => self.words(answer, &format!("you said: {prompt}"), now),
        }
    }

    pub fn words(&mut self, answer: &mut Answer, text: &str, pause: Duration) -> Result<(), Interrupted> {
        for word in text.split_inclusive(' ') {
            self.listen(pause)?;
            self.delta(answer, word);
        }
        Ok(())
    }

    /// A line of exactly that many bytes, its end included, in the middle of the answer.
    fn line_of(&self, answer: &mut Answer, bytes: usize) {
        self.delta(answer, "before ");
        let (head, tail) = ("{\"type\":\"blob\",\"data\":\"", "\"}\n");
        let data = "x".repeat(bytes - head.len() - tail.len());
        say_bytes(format!("{head}{data}{tail}").as_bytes());
    }

    fn wait_in_turn(&mut self, answer: &mut Answer, file: &Path) -> Result<(), Interrupted> {
        self.delta(answer, "waiting ");
        while !file.exists() {
            self.listen(LOOK_EVERY)?;
        }
        self.words(answer, "no more", Duration::ZERO)
    }

    fn tools(&mut self, answer: &mut Answer, file: &Path) -> Result<(), Interrupted> {
        self.delta(answer, "at work ");
        self.use_tool("first", |_| Ok(()))?;
        self.delta(answer, "still ");
        self.use_tool("second", |agent| {
            while !file.exists() {
                agent.listen(LOOK_EVERY)?;
            }
            Ok(())
        })?;
        self.words(answer, "both done", Duration::ZERO)
    }

    fn use_tool(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut Agent) -> Result<(), Interrupted>,
    ) -> Result<(), Interrupted> {
        let id = format!("toolu_bad_{name}");
        let uses = json!([{"type": "tool_use", "id": id, "name": "Bash", "input": {"command": name}}]);
        self.say_message("assistant", &json!({"role": "assistant", "content": uses}));
        work(self)?;
        let result = json!([{"type": "tool_result", "tool_use_id": id, "content": format!("{name} result")}]);
        self.say_message("user", &json!({"role": "user", "content": result}));
        Ok(())
    }

    /// Sends a control request and waits for the reply to it, up to a deadline.
    pub fn request(&mut self, request: &Value, deadline: Option<Duration>) -> Result<Option<Value>, Interrupted> {
        self.count += 1;
        let id = format!("bad-{}-{}", std::process::id(), self.count);
        say(&json!({"type": "control_request", "request_id": id, "request": request}));
        let until = deadline.map(|deadline| Instant::now() + deadline);
        loop {
            let received = match until {
                Some(until) => self.input.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
                None => self.input.recv().ok(),
            };
            let Some(line) = received else {
                return Ok(None);
            };
            if line["type"] == "control_response" && line["response"]["request_id"] == id.as_str() {
                return Ok(Some(line["response"].clone()));
            }
            if let Err(interrupted) = self.take_in(line) {
                say(&json!({"type": "control_cancel_request", "request_id": id}));
                return Err(interrupted);
            }
        }
    }

    fn ask(&mut self, answer: &mut Answer) -> Result<(), Interrupted> {
        self.delta(answer, "asking ");
        let rule = json!({
            "type": "addRules", "behavior": "allow", "destination": "localSettings",
            "rules": [{"toolName": "Bash", "ruleContent": "touch:*"}],
        });
        let request = json!({
            "subtype": "can_use_tool", "tool_name": "Bash", "display_name": "Bash",
            "input": {"command": "touch asked", "description": "Ask for it"}, "description": "Ask for it",
            "decision_reason": "\u{1b}[1mtouch\u{1b}[22m makes a file", "permission_suggestions": [rule], "tool_use_id": format!("toolu_bad{}", uuid()),
        });
        let reply = self.request(&request, None)?.unwrap_or_default();
        let reply = &reply["response"];
        let text = match reply["behavior"].as_str() {
            Some("allow") if reply["updatedPermissions"].is_array() => {
                format!("allowed:{} permissions:{}", reply["updatedInput"], reply["updatedPermissions"])
            }
            Some("allow") => format!("allowed:{}", reply["updatedInput"]),
            Some("deny") => format!("denied:{}", reply["message"].as_str().unwrap_or_default()),
            _ => format!("no answer: {reply}"),
        };
        if reply["behavior"] == "deny" && reply["interrupt"] == true {
            return Err(Interrupted);
        }
        self.words(answer, &text, Duration::ZERO)
    }

    fn unknown_lines(&mut self, answer: &mut Answer) -> Result<(), Interrupted> {
        say(&json!({"type": "keep_alive"}));
        say(
            // The type does not always come first.
            &json!({"payload": {"deep": [1, 2, {"x": null}]}, "session_id": self.session_id, "type": "never_heard_of"}),
        );
        say(&json!({"session_id": self.session_id, "subtype": "never_heard_of_either", "type": "system"}));
        self.stream_event(&json!({"index": 0, "type": "never_heard_of_event"}));
        self.delta(answer, "reply: ");
        let reply = self.reply_to(&json!({"question": "?", "subtype": "never_heard_of_request"}))?;
        self.words(answer, &reply, Duration::ZERO)
    }

    /// What a control request of its own is answered, or `none`.
    fn reply_to(&mut self, request: &Value) -> Result<String, Interrupted> {
        let reply = self.request(request, Some(REPLY_DEADLINE))?;
        // The number in it would differ from run to run.
        let reply = reply.map(|mut reply| {
            reply["request_id"] = json!("ours");
            reply
        });
        Ok(reply.map_or_else(|| "none".to_owned(), |reply| reply.to_string()))
    }
}

fn counted(count: u64) -> String {
    let words: Vec<String> = (1..=count).map(|n| format!("w{n}")).collect();
    words.join(" ")
}
