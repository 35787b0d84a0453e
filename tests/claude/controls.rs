//! What is asked of the real CLI beside prompts.

use std::{fs, sync::Arc};

use serde_json::{Value, json};

use crate::{
    setup::{Setup, builder, conversation_of, said, start, tails},
    support::{DEADLINE, fake_api::FakeApi, processes, workspace::Workspace},
};

impl Setup {
    fn must(&self, event: &str, fields: Value) -> Value {
        self.client.must(event, self.with(fields))
    }

    fn with(&self, mut fields: Value) -> Value {
        fields["sessionId"] = json!(self.session);
        fields
    }

    /// The model that the API was asked for with this prompt.
    fn model_asked(&self, prompt: &str) -> Value {
        self.api.wait_for_prompt(prompt).body["model"].clone()
    }
}

#[test]
fn a_model_is_changed_between_two_prompts_and_stays() {
    let on = start();
    on.answer("say:one");
    let (pid, first) = (on.claude().pid, on.model_asked("say:one"));
    let told = on.must("setModel", json!({"model": "haiku"}));
    assert!(told["model"].as_str().is_some_and(|model| model.starts_with("claude-haiku-")), "{told}");
    assert_eq!(on.summary()["model"], told["model"]);
    on.answer("say:two");
    assert_eq!(on.claude().pid, pid);
    assert_ne!(first, told["model"]);
    assert_eq!(on.model_asked("say:two"), told["model"]);
    assert_eq!(on.summary()["model"], told["model"]);
    // The next process is started with it.
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    on.answer("say:three");
    assert_eq!(on.model_asked("say:three"), told["model"]);
    assert!(on.claude().cmdline.contains(&"--model=haiku".to_owned()), "{:?}", on.claude().cmdline);
    // And back to Claude's own.
    on.must("setModel", json!({"model": "default"}));
    on.answer("say:four");
    assert_eq!(on.model_asked("say:four"), first);
}

/// Claude takes any name; the API does not.
#[test]
fn an_unknown_model_is_told_by_the_next_prompt() {
    let on = start();
    on.answer("say:up");
    assert_eq!(on.must("setModel", json!({"model": "no-such-model"}))["model"], "no-such-model");
    on.answer("say:asked");
    assert_eq!(on.model_asked("say:asked"), "no-such-model");
}

#[test]
fn a_permission_mode_is_changed_in_mid_answer() {
    let on = start();
    let file = on.server.workspace().work().join("made");
    let prompt = on.ask("slow:30:50");
    on.client.wait_chunk(&prompt);
    assert_eq!(on.must("setPermissionMode", json!({"permissionMode": "acceptEdits"}))["permissionMode"], "acceptEdits");
    on.client.wait_response(&prompt);
    assert_eq!(on.summary()["permissionMode"], "acceptEdits");
    // No question any more.
    on.answer(&format!("write:{}:text", file.display()));
    assert_eq!(fs::read_to_string(&file).expect("the file"), "text");
    assert!(on.client.events_named("permissionRequest").is_empty());
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    assert_eq!(on.summary()["permissionMode"], "acceptEdits");
    on.answer(&format!("write:{}:text again", file.display()));
    assert!(on.client.events_named("permissionRequest").is_empty());
}

/// Nobody wants to approve it a second time.
#[test]
fn an_approved_plan_ends_the_plan_mode_for_later_processes_too() {
    let on = start();
    on.must("setPermissionMode", json!({"permissionMode": "plan"}));
    let mark = on.client.mark();
    let prompt = on.ask("plan");
    let question = on.question(mark);
    assert_eq!((&question["toolName"], &on.summary()["permissionMode"]), (&json!("ExitPlanMode"), &json!("plan")));
    on.allow(&question);
    on.client.wait_response(&prompt);
    assert_eq!(on.summary()["permissionMode"], "default");
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    on.answer("say:again");
    assert_eq!(on.summary()["permissionMode"], "default");
}

#[test]
fn a_mode_that_comes_with_an_answer_is_followed() {
    let on = start();
    let mark = on.client.mark();
    let prompt = on.ask(&format!("write:{}:x", on.server.workspace().work().join("made").display()));
    let question = on.question(mark);
    let suggestions = question["suggestions"].as_array().expect("a list");
    let mode: Vec<&Value> = suggestions.iter().filter(|one| one["type"] == "setMode").collect();
    assert_eq!(mode[0]["mode"], "acceptEdits", "{suggestions:?}");
    on.must(
        "answerPermission",
        json!({"requestId": question["requestId"], "behavior": "allow", "updatedPermissions": mode}),
    );
    on.client.wait_response(&prompt);
    assert_eq!(on.summary()["permissionMode"], "acceptEdits");
}

#[test]
fn no_questions_at_all_where_the_server_allows_it() {
    let api = FakeApi::start();
    let server = builder(&api).arg("--allow-bypass-permissions").env("IS_SANDBOX", "1").start();
    let client = server.connect(Value::Null);
    let on = Setup { session: client.session_id(), client, server, api };
    on.answer("say:up");
    on.must("setPermissionMode", json!({"permissionMode": "bypassPermissions"}));
    let file = on.server.workspace().work().join("made");
    on.answer(&format!("bash:touch {}", file.display()));
    assert!(file.exists());
    assert_eq!(on.summary()["permissionMode"], "bypassPermissions");
    assert!(on.client.events_named("permissionRequest").is_empty());
}

/// What the user has chosen for a terminal is not what clients may do here.
#[test]
fn claudes_own_settings_do_not_switch_the_questions_off() {
    let api = FakeApi::start();
    let workspace = Arc::new(Workspace::new());
    let folder = workspace.home().join(".claude");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("settings.json"), r#"{"permissions":{"defaultMode":"bypassPermissions"}}"#).expect("written");
    let server = builder(&api).workspace(&workspace).env("IS_SANDBOX", "1").start();
    let client = server.connect(Value::Null);
    let on = Setup { session: client.session_id(), client, server, api };
    let file = workspace.work().join("made");
    let mark = on.client.mark();
    let prompt = on.ask(&format!("bash:touch {}", file.display()));
    on.allow(&on.question(mark));
    assert_eq!(on.client.wait_response(&prompt)["status"], "done");
    assert!(file.exists());
    assert_eq!(on.summary()["permissionMode"], "default");
}

#[test]
fn an_effort_is_confirmed_and_one_that_there_is_not_changes_nothing() {
    let on = start();
    on.answer("say:up");
    assert_eq!(on.must("setEffort", json!({"effort": "low"}))["effort"], "low");
    assert_eq!(on.must("setEffort", json!({"effort": "max"}))["effort"], "max");
    let error = on.client.must_fail("setEffort", on.with(json!({"effort": "enormous"})));
    assert_eq!(error["code"], "agent_failed", "{error}");
    assert_eq!(on.summary()["effort"], "max");
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    on.answer("say:up again");
    assert!(on.claude().cmdline.contains(&"--effort=max".to_owned()), "{:?}", on.claude().cmdline);
}

/// Asked while the process starts, all of it comes before the prompt.
#[test]
fn choices_during_the_start_count_for_the_first_prompt() {
    let on = start();
    let prompt = on.ask("say:first");
    let choices = [
        on.client.start_emit("setModel", on.with(json!({"model": "sonnet"}))),
        on.client.start_emit("setPermissionMode", on.with(json!({"permissionMode": "plan"}))),
    ];
    for choice in choices {
        assert_eq!(on.client.wait_ack(choice)["ok"], true);
    }
    on.client.wait_response(&prompt);
    assert!(on.model_asked("say:first").as_str().is_some_and(|model| model.starts_with("claude-sonnet-")));
    assert_eq!(on.summary()["permissionMode"], "plan");
}

#[test]
fn context_usage_is_told_before_during_and_after_an_answer() {
    let on = start();
    let usage = || {
        let usage = on.must("getContextUsage", json!({}))["usage"].clone();
        assert!(usage["totalTokens"].as_u64() <= usage["maxTokens"].as_u64(), "{usage}");
        assert!(usage["categories"].as_array().is_some_and(|list| !list.is_empty()), "{usage}");
    };
    usage();
    let prompt = on.ask("hang");
    on.client.wait_chunk(&prompt);
    usage();
    on.interrupt();
    on.client.wait_response(&prompt);
    usage();
}

/// The CLI makes its index when it is asked first, and finds nothing below the top until it is there.
#[test]
fn files_are_suggested_before_any_prompt() {
    let on = start();
    let work = on.server.workspace().work();
    fs::create_dir(work.join("src")).expect("made");
    for file in ["alpha.txt", "src/beta.rs"] {
        fs::write(work.join(file), "").expect("written");
    }
    let suggest = |query: &str| -> Vec<Value> {
        let found = on.must("fileSuggestions", json!({"query": query}));
        found["suggestions"].as_array().expect("a list").iter().map(|one| one["path"].clone()).collect()
    };
    let top = suggest("");
    assert!(top.contains(&json!("src/")) && top.contains(&json!("alpha.txt")), "{top:?}");
    processes::eventually("the index", DEADLINE, || suggest("bet") == [json!("src/beta.rs")]);
    assert_eq!(on.summary()["turns"], 0);
}

#[test]
fn a_background_task_is_stopped() {
    let on = start();
    let watching = on.server.connect(json!({"sessionId": on.session, "stream": "events"}));
    let mark = on.client.mark();
    let prompt = on.ask("bg:tail -f /dev/null");
    on.allow(&on.question(mark));
    let started = watching.wait_event("claudeEvent", |data| data["event"]["subtype"] == "task_started");
    on.client.wait_response(&prompt);
    let workspace = on.server.workspace();
    processes::eventually("it runs", DEADLINE, || !tails(workspace).is_empty());
    on.must("stopTask", json!({"taskId": started["event"]["task_id"]}));
    processes::eventually("it is gone", DEADLINE, || tails(workspace).is_empty());
    // One that is over, or never was, is as stopped as can be.
    on.must("stopTask", json!({"taskId": started["event"]["task_id"]}));
    on.must("stopTask", json!({"taskId": "nothing"}));
    assert_eq!(on.answer("say:still here"), "still here");
}

#[test]
fn the_details_name_agents_commands_and_models() {
    let on = start();
    on.answer("say:up");
    let details = on.must("getSession", json!({}));
    for (list, name) in [("agents", "name"), ("commands", "name"), ("models", "value")] {
        let list = details[list].as_array().unwrap_or_else(|| panic!("no {list}: {details}"));
        assert!(!list.is_empty() && list.iter().all(|one| one[name].is_string()), "{list:?}");
    }
}

#[test]
fn a_command_that_is_written_while_claude_lives_is_known() {
    let api = FakeApi::start();
    let place = Arc::new(Workspace::new());
    // Claude watches a folder that is there when it starts.
    let folder = place.work().join(".claude/commands");
    fs::create_dir_all(&folder).expect("a folder");
    let server = builder(&api).workspace(&place).start();
    let client = server.connect(Value::Null);
    let on = Setup { session: client.session_id(), client, server, api };
    on.answer("say:up");
    let knows = || {
        let details = on.must("getSession", json!({}));
        let commands = details["commands"].as_array().expect("a list");
        commands.iter().any(|command| command["name"] == "knit")
    };
    assert!(!knows());
    let pid = on.claude().pid;
    fs::write(folder.join("knit.md"), "---\ndescription: Knits\n---\nsay:knitted").expect("a command");
    processes::eventually("the command is known", DEADLINE, knows);
    assert_eq!((on.answer("/knit").as_str(), on.claude().pid), ("knitted", pid));
}

/// Commands that change the conversation; it goes on, also in the next process.
#[test]
fn clear_and_compact_work_as_prompts() {
    let on = start();
    // Claude puts what its commands said in front of the next prompt.
    let knows = |prompt: &str, text: &str| {
        let told = said(&on.api.wait_for(|request| request.is_turn() && request.prompt().ends_with(prompt)));
        told.iter().any(|(_, said)| said.contains(text))
    };
    let watching = on.server.connect(json!({"sessionId": on.session, "stream": "events"}));
    on.answer("say:first thing");
    on.answer("say:second thing");
    let context = on.answer("/context");
    assert!(context.contains("Context Usage"), "{context}");
    assert_eq!(on.ask_and_wait("/compact")["status"], "done");
    watching.wait_event("claudeEvent", |data| data["event"]["subtype"] == "compact_boundary");
    on.ask_and_wait("say:after compact");
    assert!(knows("say:after compact", "being continued from a previous conversation"));
    let (before, _) = conversation_of(&on.claude());
    assert_eq!(on.ask_and_wait("/clear")["status"], "done");
    on.ask_and_wait("say:after clear");
    assert!(!knows("say:after clear", "say:after compact"));
    // The next process resumes what began with /clear.
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    on.ask_and_wait("say:in the next process");
    let (after, resumes) = conversation_of(&on.claude());
    assert!(resumes && after != before, "{after} after {before}");
    assert!(knows("say:in the next process", "say:after clear"));
    assert!(!knows("say:in the next process", "say:after compact"));
}

/// Files are put back to what they were before a prompt, by the process that changed them, a later one, and a fork's.
#[test]
fn files_are_rewound_to_a_prompt() {
    let on = start();
    on.must("setPermissionMode", json!({"permissionMode": "acceptEdits"}));
    let file = on.server.workspace().work().join("made");
    let write = |text: &str| {
        let mark = on.client.mark();
        let response = on.ask_and_wait(&format!("write:{}:{text}", file.display()));
        assert_eq!(response["status"], "done", "{response}");
        on.client.wait_event_from(mark, "prompt", |_| true).1["userMessageId"].clone()
    };
    let content = || fs::read_to_string(&file).ok();
    let rewind = |session: &str, message: &Value, dry_run: bool| {
        let data = json!({"sessionId": session, "userMessageId": message, "dryRun": dry_run});
        on.client.must("rewindFiles", data)["rewind"].clone()
    };
    let (first, second) = (write("one"), write("two"));
    let would = rewind(&on.session, &second, true);
    assert_eq!((&would["canRewind"], &would["filesChanged"]), (&json!(true), &json!([file])), "{would}");
    assert_eq!(content().as_deref(), Some("two"), "a dry run changes nothing");
    assert_eq!(rewind(&on.session, &second, false)["canRewind"], true);
    assert_eq!(content().as_deref(), Some("one"));
    // The process that is started for it finds what an earlier one has kept.
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    assert_eq!(rewind(&on.session, &first, false)["canRewind"], true);
    assert_eq!(content(), None);
    let third = write("three");
    let fork = on.must("forkSession", json!({}))["session"]["sessionId"].clone();
    let fork = fork.as_str().expect("an id");
    assert_eq!(rewind(fork, &third, false)["canRewind"], true);
    assert_eq!(content(), None);
    let unknown = rewind(&on.session, &json!("nothing"), true);
    assert_eq!(unknown["canRewind"], false);
    assert!(unknown["error"].is_string(), "{unknown}");
}

/// 2.1.330 takes both as prompts, for the process that runs; a session keeps them. 2.1.197 says that it does not have them.
#[test]
fn what_a_slash_command_chooses_lasts() {
    let on = start();
    let said = on.answer("/model haiku");
    on.answer("/effort low");
    if on.summary()["agentVersion"] == "2.1.197" {
        assert!(said.contains("available"), "{said}");
        assert_eq!(on.summary()["effort"], Value::Null);
        return;
    }
    on.client.wait_event("sessionUpdated", |session| session["effort"] == "low");
    assert!(on.summary()["model"].as_str().is_some_and(|model| model.starts_with("claude-haiku-")), "{}", on.summary());
    on.must("closeSession", json!({}));
    on.must("resumeSession", json!({}));
    on.answer("say:up again");
    assert_eq!(on.model_asked("say:up again"), on.summary()["model"]);
    let args = on.claude().cmdline;
    assert!(args.contains(&"--effort=low".to_owned()) && args.contains(&"--model=haiku".to_owned()), "{args:?}");
}
