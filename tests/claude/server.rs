//! The real CLI through the real server: answers, questions, interrupts.

use std::sync::Arc;

use claude_session_manager::proto::claude::TextDelta;
use serde_json::{Value, json};

use crate::{
    setup::{builder, claudes, holds, said, script, start},
    support::{DEADLINE, agent::claude, fake_api::FakeApi, processes, server::Server, workspace::Workspace},
};

#[test]
fn an_answer_streams_in_chunks() {
    let on = start();
    let prompt = on.ask("slow:6:20");
    let response = on.client.wait_response(&prompt);
    let chunks = on.client.chunks(&prompt);
    assert_eq!(chunks, ["w1", " w2", " w3", " w4", " w5", " w6"]);
    assert_eq!(response["fullResponse"], chunks.concat());
    assert_eq!(response["status"], "done", "{response}");
    assert_eq!(response["done"], true);
    assert!(response["usage"].is_object() && response["durationMs"].is_u64(), "{response}");
    assert!(response["costUsd"].is_number(), "{response}");
    let of_answer = |event: &crate::support::client::Event| {
        event.name.starts_with("claude").then(|| (event.name.clone(), event.data["promptId"].clone()))
    };
    let names: Vec<_> = on.client.events().iter().filter_map(of_answer).collect();
    let mut expected = vec!["claudeStreamStart"];
    expected.extend(["claudeStreamChunk"; 6]);
    expected.extend(["claudeStreamEnd", "claudeResponse"]);
    assert_eq!(names, expected.into_iter().map(|name| (name.to_owned(), json!(prompt))).collect::<Vec<_>>());
}

/// What the viewer gets is compared with what the CLI printed, byte by byte: a program between it and the server
/// writes it down.
#[test]
fn an_events_viewer_gets_claudes_own_json() {
    let (api, workspace) = (FakeApi::start(), Arc::new(Workspace::new()));
    let between = script(&workspace, "claude \"$@\" | tee \"$TMPDIR/printed\"");
    let server = builder(&api).arg(format!("--agent={}", between.display())).workspace(&workspace).start();
    let asking = server.connect(Value::Null);
    let session = asking.session_id();
    let watching = server.connect(json!({"sessionId": session, "stream": "events"}));
    assert_eq!(watching.session_id(), session);
    let mark = watching.mark();
    let prompt = asking.ask(&session, "slow:4:10");
    asking.wait_response(&prompt);
    watching.wait_event_from(mark, "claudeEvent", |data| data["event"]["type"] == "result");
    // The end of the program between is the end of its writing.
    asking.must("closeSession", json!({"sessionId": session}));
    let printed = std::fs::read_to_string(workspace.tmp().join("printed")).expect("what the CLI printed");
    let events: Vec<_> = watching.events().into_iter().filter(|event| event.name == "claudeEvent").collect();
    // What steers the session is the server's own affair.
    let relayed = |line: &&str| !line.contains(r#""type":"control_"#) && !line.contains(r#""type":"keep_alive""#);
    let printed: Vec<&str> = printed.lines().filter(relayed).take(events.len()).collect();
    assert_eq!(events.len(), printed.len());
    let (mut seq, mut part, mut pieces) = (0, 0, 0);
    for (event, line) in events.iter().zip(printed) {
        if event.data["event"]["event"]["delta"]["type"] == "text_delta" {
            assert!(TextDelta::read(line.as_bytes()).is_some(), "not read in the fast way: {line}");
            pieces += 1;
        }
        assert!(event.raw.contains(&format!(r#""event":{line}}}"#)), "{line}\nis not in\n{}", event.raw);
        let delta = event.data["event"]["type"] == "stream_event";
        assert_eq!(event.data["part"].is_u64(), delta, "{}", event.raw);
        let now = (event.data["seq"].as_u64().expect("a number"), event.data["part"].as_u64().unwrap_or(0));
        assert!(now > (seq, part), "{now:?} after {:?}", (seq, part));
        (seq, part) = now;
    }
    assert_eq!(pieces, 4);
    // The five plain events are for those who asked for them.
    assert!(
        watching.events_named("claudeStreamChunk").is_empty() && watching.events_named("claudeResponse").is_empty()
    );
    assert_eq!(watching.events_named("prompt").len(), 1);
}

#[test]
fn one_process_answers_prompt_after_prompt() {
    let on = start();
    assert_eq!(on.answer("say:first"), "first");
    let pid = on.claude().pid;
    assert_eq!(on.answer("say:second"), "second");
    assert_eq!(on.claude().pid, pid);
    let told = on.told("say:second");
    let expected = [("user", "say:first"), ("assistant", "first"), ("user", "say:second")];
    assert_eq!(told, expected.map(|(role, text)| (role.to_owned(), text.to_owned())));
}

/// Claude itself would make one turn of both.
#[test]
fn two_prompts_at_once_get_two_answers() {
    let on = start();
    let ask = |prompt: &str| {
        on.client.start_emit("askClaudeCode", json!({"sessionId": on.session, "prompt": prompt, "promptId": prompt}))
    };
    let acks = ["slow:3:30", "say:two", "say:three"].map(ask).map(|id| on.client.wait_ack(id));
    assert_eq!(acks.map(|ack| ack["position"].clone()), [0, 1, 2].map(|position| json!(position)));
    let answers = ["slow:3:30", "say:two", "say:three"].map(|prompt| on.client.wait_response(prompt));
    assert_eq!(
        answers.map(|answer| answer["fullResponse"].clone()),
        ["w1 w2 w3", "two", "three"].map(|text| json!(text))
    );
    let told = on.told("say:three");
    let expected = [
        ("user", "slow:3:30"),
        ("assistant", "w1 w2 w3"),
        ("user", "say:two"),
        ("assistant", "two"),
        ("user", "say:three"),
    ];
    assert_eq!(told, expected.map(|(role, text)| (role.to_owned(), text.to_owned())));
}

#[test]
fn a_tool_runs_when_it_is_allowed() {
    let on = start();
    let file = on.server.workspace().work().join("made");
    let mark = on.client.mark();
    let prompt = on.ask(&format!("write:{}:the text", file.display()));
    let question = on.question(mark);
    assert_eq!(question["toolName"], "Write");
    assert_eq!(question["input"]["file_path"], json!(file));
    assert_eq!(question["request"]["subtype"], "can_use_tool");
    assert!(question["suggestions"].is_array(), "{question}");
    let summary = on.summary();
    assert_eq!((&summary["state"], &summary["openQuestions"]), (&json!("waiting"), &json!(1)));
    assert!(!file.exists());
    on.allow(&question);
    let response = on.client.wait_response(&prompt);
    assert_eq!(response["status"], "done");
    assert!(response["fullResponse"].as_str().is_some_and(|text| text.starts_with("tool said: ")), "{response}");
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), "the text");
    let resolved = on.client.wait_event("permissionResolved", |_| true);
    assert_eq!((&resolved["requestId"], &resolved["behavior"]), (&question["requestId"], &json!("allow")));
}

#[test]
fn a_tool_does_not_run_when_it_is_denied_and_claude_is_told_why() {
    let on = start();
    let file = on.server.workspace().work().join("made");
    let mark = on.client.mark();
    let prompt = on.ask(&format!("bash:touch {}", file.display()));
    let question = on.question(mark);
    assert_eq!(question["toolName"], "Bash");
    let no = json!({
        "sessionId": on.session, "requestId": question["requestId"], "behavior": "deny", "message": "not today",
    });
    on.client.must("answerPermission", no.clone());
    let response = on.client.wait_response(&prompt);
    assert_eq!(response["status"], "done");
    assert!(response["fullResponse"].as_str().is_some_and(|text| text.contains("not today")), "{response}");
    assert!(!file.exists());
    let error = on.client.must_fail("answerPermission", no);
    assert_eq!((&error["code"], &error["behavior"]), (&json!("stale_request"), &json!("deny")));
}

#[test]
fn an_interrupt_ends_an_answer() {
    let on = start();
    let prompt = on.ask("hang");
    on.client.wait_chunk(&prompt);
    on.interrupt();
    let response = on.client.wait_response(&prompt);
    assert_eq!(response["status"], "interrupted", "{response}");
    assert_eq!(response["fullResponse"], "thinking");
    assert!(response["error"].is_null(), "{response}");
    on.api.wait_abandoned(1);
    let pid = on.claude().pid;
    assert_eq!(on.answer("say:still here"), "still here");
    assert_eq!(on.claude().pid, pid);
}

/// While the prompt is only queued, 2.1.330 answers an interrupt with its name in `still_queued` and goes on to run it;
/// 2.1.197 ends it at once. A client sees no difference.
#[test]
fn an_interrupt_at_once_after_the_prompt_ends_it() {
    let on = start();
    assert_eq!(on.answer("say:up"), "up");
    for round in 0..10 {
        let prompt = format!("early-{round}");
        let ask = json!({"sessionId": on.session, "prompt": "hang", "promptId": prompt});
        let asked = on.client.start_emit("askClaudeCode", ask);
        let interrupted = on.client.start_emit("interruptClaude", json!({"sessionId": on.session}));
        assert_eq!(on.client.wait_ack(asked)["ok"], true);
        assert_eq!(on.client.wait_ack(interrupted)["ok"], true);
        let response = on.client.wait_response(&prompt);
        assert_eq!(response["status"], "interrupted", "round {round}: {response}");
    }
    assert_eq!(on.answer("say:still here"), "still here");
}

/// The same while the process only starts: it never gets the prompt.
#[test]
fn an_interrupt_before_claude_is_up_ends_the_prompt() {
    let on = start();
    let prompt = on.ask("hang");
    on.interrupt();
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    assert_eq!(on.answer("say:still here"), "still here");
    assert!(!holds(&on.told("say:still here"), "user", "hang"));
}

#[test]
fn an_interrupt_takes_an_open_question_back() {
    let on = start();
    let mark = on.client.mark();
    let prompt = on.ask(&format!("bash:touch {}/x", on.server.workspace().work().display()));
    let question = on.question(mark);
    on.interrupt();
    assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    let resolved = on.client.wait_event("permissionResolved", |data| data["requestId"] == question["requestId"]);
    assert_eq!(resolved["behavior"], "cancelled");
    let yes = json!({"sessionId": on.session, "requestId": question["requestId"], "behavior": "allow"});
    assert_eq!(on.client.must_fail("answerPermission", yes)["code"], "stale_request");
    assert_eq!(on.answer("say:still here"), "still here");
    assert_eq!(on.client.events_named("permissionResolved").len(), 1);
}

/// Claude runs it by itself, and its answer comes in one piece, not as deltas.
#[test]
fn a_slash_command_gives_its_text() {
    let on = start();
    let prompt = on.ask("/cost");
    let response = on.client.wait_response(&prompt);
    let text = response["fullResponse"].as_str().expect("a text");
    assert!(text.contains("cost"), "{response}");
    assert_eq!(on.client.chunks(&prompt).concat(), text);
    assert_eq!(response["status"], "done");
    assert_eq!(on.api.turns().len(), 0);
}

/// 2.1.197 echoes prompts, but not those that it answers by itself: neither name nor echo says whose result it is.
#[test]
fn a_prompt_that_claude_answers_itself_ends_also_after_others() {
    let on = start();
    assert_eq!(on.answer("say:first"), "first");
    for prompt in ["/cost", "/no-such-command", "/clear", "/model no-such-model", "/compact"] {
        let response = on.ask_and_wait(prompt);
        assert!(["done", "failed"].contains(&response["status"].as_str().expect("a status")), "{response}");
    }
    let response = on.ask_and_wait("error:400:no such thing");
    assert_eq!(response["status"], "failed", "{response}");
    assert_eq!(on.answer("say:last"), "last");
}

#[test]
fn an_api_error_is_a_failed_prompt_with_a_sentence() {
    let on = start();
    let response = on.ask_and_wait("error:400:no such thing");
    assert_eq!(response["status"], "failed", "{response}");
    assert!(response["error"].as_str().is_some_and(|error| error.contains("no such thing")), "{response}");
    assert_eq!(response["fullResponse"], on.client.chunks(response["promptId"].as_str().expect("a name")).concat());
    assert_eq!(on.answer("say:fine"), "fine");
}

#[test]
fn prompts_that_look_like_flags_are_text() {
    let on = start();
    for prompt in ["--help", "-p", "--session-id=1", "-"] {
        assert_eq!(on.answer(prompt), format!("you said: {prompt}"));
    }
}

/// Every byte that JSON has to escape, and some that other encodings would spoil.
#[test]
fn text_comes_back_as_it_was_sent() {
    let on = start();
    let text = "say:\"quotes\" \\ and\ttabs, äöü, 漢字, 🎉, \u{2028} and\nlines";
    assert_eq!(on.answer(text), text.strip_prefix("say:").expect("it begins so"));
}

#[test]
fn the_summary_names_model_and_version_after_the_first_turn() {
    let on = start();
    assert_eq!(on.summary()["state"], "stopped");
    let version = on.server.workspace().command(claude()).arg("--version").output().expect("it runs");
    let version = String::from_utf8(version.stdout).expect("text");
    let version = version.split_whitespace().next().expect("a version");
    let health = || on.server.http("GET", "/health", &[]).json();
    processes::eventually("the version is known without a process", DEADLINE, || health()["agentVersion"] == version);
    assert_eq!(health()["agentWarning"], Value::Null);
    on.answer("say:hello");
    let summary = on.summary();
    assert_eq!(summary["agent"], "claude");
    assert_eq!(summary["agentVersion"], version, "{summary}");
    assert!(summary["model"].as_str().is_some_and(|model| model.starts_with("claude-")), "{summary}");
    assert_eq!(summary["permissionMode"], "default");
    assert_eq!(summary["state"], "idle");
    assert_eq!(summary["turns"], 1);
    assert_eq!(summary["title"], "say:hello");
    let details = on.client.must("getSession", json!({"sessionId": on.session}));
    let commands = details["commands"].as_array().expect("a list");
    assert!(commands.iter().any(|command| command["name"] == "compact"), "{commands:?}");
    assert!(details["models"].as_array().is_some_and(|models| !models.is_empty()), "{details}");
    assert_eq!((&health()["agent"], &health()["agentVersion"]), (&json!("claude"), &summary["agentVersion"]));
}

#[test]
fn isolated_clients_have_a_process_each() {
    let on = start();
    let other = on.server.connect(Value::Null);
    let session = other.session_id();
    assert_ne!(session, on.session);
    assert_eq!(on.answer("say:mine"), "mine");
    assert_eq!(other.ask_and_wait(&session, "say:yours")["fullResponse"], "yours");
    assert_eq!(claudes(on.server.workspace()).len(), 2);
    assert_eq!(said(&on.api.wait_for_prompt("say:yours")).len(), 1);
    assert!(!other.events().iter().any(|event| event.data["sessionId"] == on.session.as_str()));
}

#[test]
fn shared_clients_have_one_process_and_see_the_same() {
    let api = FakeApi::start();
    let server: Server = builder(&api).arg("--mode=shared").start();
    processes::eventually("Claude started with the server", DEADLINE, || claudes(server.workspace()).len() == 1);
    let pid = claudes(server.workspace())[0].pid;
    let (one, two) = (server.connect(Value::Null), server.connect(Value::Null));
    assert_eq!([one.session_id(), two.session_id()], ["global-session"; 2]);
    let prompts = [one.ask("global-session", "slow:4:10"), two.ask("global-session", "say:second")];
    for client in [&one, &two] {
        let answers = prompts.each_ref().map(|prompt| client.wait_response(prompt)["fullResponse"].clone());
        assert_eq!(answers, [json!("w1 w2 w3 w4"), json!("second")]);
    }
    let seen = |client: &crate::support::client::Client| {
        let of_answers =
            client.events().into_iter().filter(|event| event.name.starts_with("claude") || event.name == "prompt");
        of_answers.map(|event| event.raw).collect::<Vec<_>>()
    };
    assert_eq!(seen(&one), seen(&two));
    assert_eq!(claudes(server.workspace()).iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    assert_eq!(said(&api.wait_for_prompt("say:second")).len(), 3);
}

/// An interrupt is for the prompt that runs; the next one is not hit by what is left of it.
#[test]
fn an_interrupt_spares_the_prompts_that_wait() {
    let on = start();
    assert_eq!(on.answer("say:up"), "up");
    for round in 0..5 {
        let ask = |name: &str, prompt: &str| {
            let ask = json!({"sessionId": on.session, "prompt": prompt, "promptId": format!("{name}-{round}")});
            on.client.start_emit("askClaudeCode", ask)
        };
        let asked = [ask("first", "hang"), ask("second", "say:two"), ask("third", "/cost")];
        let interrupted = on.client.start_emit("interruptClaude", json!({"sessionId": on.session}));
        assert!(asked.iter().all(|id| on.client.wait_ack(*id)["ok"] == true));
        assert_eq!(on.client.wait_ack(interrupted)["ok"], true);
        let statuses = ["first", "second", "third"]
            .map(|name| on.client.wait_response(&format!("{name}-{round}"))["status"].clone());
        assert_eq!(statuses, ["interrupted", "done", "done"].map(|status| json!(status)), "round {round}");
    }
}

#[test]
fn prompts_that_wait_are_taken_back_and_never_reach_the_model() {
    let on = start();
    let first = on.ask("hang");
    on.client.wait_chunk(&first);
    let [second, third, fourth] = ["say:two", "say:three", "say:four"].map(|prompt| on.ask(prompt));
    on.client.must("cancelPrompt", json!({"sessionId": on.session, "promptId": second}));
    assert_eq!(on.client.wait_response(&second)["status"], "interrupted");
    let ack = on.client.must("interruptClaude", json!({"sessionId": on.session, "clearQueue": true}));
    assert_eq!(ack["stillQueued"], json!([]));
    for prompt in [first, third, fourth] {
        assert_eq!(on.client.wait_response(&prompt)["status"], "interrupted");
    }
    assert_eq!(on.answer("say:last"), "last");
    let told = on.api.turns().last().expect("a turn").body.to_string();
    assert!(told.contains("say:last") && !["say:two", "say:three", "say:four"].iter().any(|gone| told.contains(gone)));
}

#[test]
fn an_interrupt_before_the_first_word_ends_the_prompt() {
    let on = start();
    for round in 1..=3 {
        let prompt = on.ask("hang-before");
        processes::eventually("the API asked", DEADLINE, || on.api.turns().len() == round);
        on.interrupt();
        let response = on.client.wait_response(&prompt);
        assert_eq!((&response["status"], &response["fullResponse"]), (&json!("interrupted"), &json!("")), "{response}");
    }
    assert_eq!(on.answer("say:still here"), "still here");
}

/// When a background task ends, Claude begins a turn by itself.
#[test]
fn what_claude_begins_by_itself_belongs_to_no_prompt() {
    let on = start();
    let go = on.server.workspace().work().join("go");
    let mark = on.client.mark();
    let command = format!("until [ -e {} ]; do tail -n 1 /dev/null; done; touch {0}", go.display());
    let prompt = on.ask(&format!("bg:{command}"));
    on.allow(&on.question(mark));
    let response = on.client.wait_response(&prompt);
    assert_eq!(response["status"], "done", "{response}");
    std::fs::write(&go, "").expect("a file");
    on.client.wait_event("claudeStreamStart", |data| data["promptId"].is_null());
    // Asked while that turn runs, or just after it: each gets its own answer.
    for prompt in ["say:mine", "/cost", "say:mine too"] {
        let response = on.ask_and_wait(prompt);
        let text = response["fullResponse"].as_str().expect("a text");
        let expected = prompt.strip_prefix("say:").unwrap_or("cost");
        assert!(text == expected || (expected == "cost" && text.contains("Total")), "{prompt}: {response}");
    }
    on.client.wait_event("claudeStreamEnd", |data| data["promptId"].is_null());
    assert_eq!(on.summary()["state"], "idle");
}

/// A prompt that meets such a turn at its beginning. 2.1.330 says whose the turn is; 2.1.197 only when it is over, and
/// until then its chunks count as the prompt's: there only `fullResponse` is the prompt's alone.
#[test]
fn a_prompt_that_meets_a_turn_of_claudes_own_gets_its_own_answer() {
    let on = start();
    assert_eq!(on.answer("say:up"), "up");
    let tells = on.summary()["agentVersion"] != "2.1.197";
    for round in 0..6 {
        let go = on.server.workspace().work().join(format!("go-{round}"));
        let mark = on.client.mark();
        let command = format!("until [ -e {} ]; do tail -n 1 /dev/null; done; touch {0}", go.display());
        let prompt = on.ask(&format!("bg:{command}"));
        on.allow(&on.question(mark));
        on.client.wait_response(&prompt);
        std::fs::write(&go, "").expect("a file");
        // The CLI notices the task's end within a tenth of a second: the rounds meet it before, at and after that.
        std::thread::sleep(std::time::Duration::from_millis(25 * round));
        let prompt = on.ask(&format!("say:mine {round}"));
        let response = on.client.wait_response(&prompt);
        assert_eq!((&response["status"], &response["fullResponse"]), (&json!("done"), &json!(format!("mine {round}"))));
        if tells {
            assert_eq!(on.client.chunks(&prompt).concat(), format!("mine {round}"), "round {round}");
        }
    }
}
