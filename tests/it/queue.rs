//! Prompts that wait, run, are stopped or asked twice, with agents that make it hard.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    scene::{bad, make, scene},
    support::workspace::Workspace,
};

#[test]
fn prompts_sent_at_once_are_answered_in_order() {
    for mode in ["proper", "old", "no-replay", "garbage"] {
        let scene = scene(bad(mode));
        // Some never say that they dropped a prompt.
        let silent = matches!(mode, "old" | "no-replay");
        let dropped = if silent { ("/local", "done") } else { ("vanish", "interrupted") };
        let prompts = ["slow 5 10", "words 2", dropped.0, "fail", "history"];
        let acks: Vec<u64> = prompts
            .iter()
            .map(|prompt| scene.client.start_emit("askClaudeCode", scene.data(json!({"prompt": prompt}))))
            .collect();
        let acks: Vec<Value> = acks.into_iter().map(|ack| scene.client.wait_ack(ack)).collect();
        let ids: Vec<&str> = acks.iter().map(|ack| ack["promptId"].as_str().expect("a name")).collect();
        scene.client.wait_response(ids[4]);
        let responses = scene.client.events_named("claudeResponse");
        let told: Vec<_> = responses.iter().map(|r| (r["promptId"].as_str(), r["status"].as_str())).collect();
        let statuses = ["done", "done", dropped.1, "failed", "done"];
        let expected: Vec<_> = ids.iter().zip(statuses).map(|(id, status)| (Some(*id), Some(status))).collect();
        assert_eq!(told, expected, "{mode}");
        let last = responses[4]["fullResponse"].as_str().expect("text");
        assert!(last.ends_with(&json!(prompts[..4]).to_string()), "{mode}: {last}");
        let positions: Vec<_> = acks.iter().map(|ack| ack["position"].clone()).collect();
        assert_eq!(positions[0], 0, "{mode}: {positions:?}");
        scene.finish();
    }
}

#[test]
fn an_interrupt_ends_the_turn_of_every_kind_of_agent() {
    for mode in ["proper", "old", "late-interrupt", "no-replay", "garbage"] {
        let scene = scene(bad(mode));
        let id = scene.ask("slow 100000 5");
        let next = scene.ask("hi");
        scene.client.wait_chunk(&id);
        let ack = scene.client.must("interruptClaude", scene.data(json!({})));
        assert_eq!(ack["stillQueued"], json!([next]), "{mode}");
        let response = scene.client.wait_response(&id);
        assert_eq!(response["status"], "interrupted", "{mode}");
        let text = scene.client.wait_response(&next)["fullResponse"].as_str().expect("text").to_owned();
        assert!(text.ends_with("you said: hi"), "{mode}: {text}");
        assert_eq!(scene.notices(), [""; 0], "{mode}");
        // With nothing to stop, it is already as wanted.
        scene.wait_state("idle");
        assert_eq!(scene.client.must("interruptClaude", scene.data(json!({})))["stillQueued"], json!([]), "{mode}");
        assert!(scene.text("history").ends_with(r#"["slow 100000 5","hi"]"#), "{mode}");
        scene.finish();
    }
}

/// Sent without waiting for any acknowledgement: the prompts may still be on their way to the disk.
#[test]
fn what_is_stopped_right_behind_its_prompt_is_stopped() {
    let scene = scene(bad("proper"));
    scene.text("up");
    let emit = |name: &str, more: Value| scene.client.start_emit(name, scene.data(more));
    let ask = |id: &str, prompt: &str| emit("askClaudeCode", json!({"promptId": id, "prompt": prompt}));
    for round in 0..5 {
        let ids = ["first", "second", "third"].map(|name| format!("{name}-{round}"));
        let asked = [ask(&ids[0], "slow 100000 5"), ask(&ids[1], "slow 100000 5"), ask(&ids[2], "hi")];
        let taken_back = emit("cancelPrompt", json!({"promptId": ids[1]}));
        let interrupted = emit("interruptClaude", json!({}));
        assert!(asked.iter().all(|ack| scene.client.wait_ack(*ack)["ok"] == true));
        assert_eq!(scene.client.wait_ack(taken_back), json!({"ok": true}));
        assert_eq!(scene.client.wait_ack(interrupted), json!({"ok": true, "stillQueued": [ids[2]]}));
        let statuses = ids.each_ref().map(|id| scene.client.wait_response(id)["status"].clone());
        assert_eq!(statuses, ["interrupted", "interrupted", "done"].map(|status| json!(status)), "{round}");
    }
    for round in 0..4 {
        let ids = ["fourth", "fifth"].map(|name| format!("{name}-{round}"));
        let asked = [ask(&ids[0], "slow 100000 5"), ask(&ids[1], "hi")];
        let interrupted = emit("interruptClaude", json!({"clearQueue": true, "promptId": ids[0]}));
        assert!(asked.iter().all(|ack| scene.client.wait_ack(*ack)["ok"] == true));
        assert_eq!(scene.client.wait_ack(interrupted), json!({"ok": true, "stillQueued": []}));
        let statuses = ids.each_ref().map(|id| scene.client.wait_response(id)["status"].clone());
        assert_eq!(statuses, ["interrupted", "interrupted"].map(|status| json!(status)), "{round}");
    }
    scene.finish();
}

#[test]
fn what_waits_can_be_taken_back() {
    let scene = scene(bad("proper"));
    let file = scene.file("go");
    let running = scene.ask(&format!("wait {}", file.display()));
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|prompt| scene.ask(prompt));
    scene.client.wait_chunk(&running);
    let cancel = |id: &str| scene.data(json!({"promptId": id}));
    scene.client.must("cancelPrompt", cancel(&two));
    assert_eq!(scene.client.wait_response(&two)["status"], "interrupted");
    assert_eq!(scene.client.must_fail("cancelPrompt", cancel(&two))["code"], "conflict");
    assert_eq!(scene.client.must_fail("cancelPrompt", cancel(&running))["code"], "conflict");
    let unknown = scene.client.must_fail("cancelPrompt", cancel("unheard of"));
    assert_eq!((&unknown["code"], &unknown["field"]), (&json!("bad_request"), &json!("promptId")));
    // An interrupt of what does not run stops nothing.
    let ack = scene.client.must("interruptClaude", scene.data(json!({"promptId": three})));
    assert_eq!(ack["stillQueued"], json!([one, three, four]));
    make(&file);
    assert_eq!(scene.client.wait_response(&running)["fullResponse"], "waiting no more");
    assert_eq!(scene.client.wait_response(&four)["fullResponse"], "you said: four");
    let prompts = scene.client.events_named("prompt");
    let shown: Vec<_> = prompts.iter().map(|data| data["promptId"].as_str().expect("a name")).collect();
    assert_eq!(shown, [&running, &one, &three, &four], "what was taken back was never asked");
    scene.finish();
}

#[test]
fn the_queue_can_be_cleared_with_the_interrupt() {
    let scene = scene(bad("proper"));
    let running = scene.ask("slow 100000 5");
    let waiting = ["one", "two"].map(|prompt| scene.ask(prompt));
    scene.client.wait_chunk(&running);
    let ack = scene.client.must("interruptClaude", scene.data(json!({"clearQueue": true})));
    assert_eq!(ack["stillQueued"], json!([]));
    for id in waiting.iter().chain([&running]) {
        assert_eq!(scene.client.wait_response(id)["status"], "interrupted");
    }
    assert_eq!(scene.json("history"), json!(["slow 100000 5"]));
    scene.finish();
}

#[test]
fn a_prompt_sent_twice_is_asked_once() {
    let scene = scene(bad("proper"));
    let file = scene.file("go");
    let ask = |id: &str, prompt: &str| scene.data(json!({"promptId": id, "prompt": prompt}));
    let wait = format!("wait {}", file.display());
    for _ in 0..3 {
        let ack = scene.client.must("askClaudeCode", ask("first", &wait));
        assert_eq!(ack, json!({"ok": true, "promptId": "first", "position": 0}));
        let ack = scene.client.must("askClaudeCode", ask("second", "hi"));
        assert_eq!(ack, json!({"ok": true, "promptId": "second", "position": 1}));
    }
    for id in ["first", "second"] {
        assert_eq!(scene.client.must_fail("askClaudeCode", ask(id, "something else"))["code"], "conflict");
    }
    make(&file);
    scene.client.wait_response("second");
    // Long over, it is still known.
    assert_eq!(scene.client.must("askClaudeCode", ask("first", &wait))["promptId"], "first");
    assert_eq!(scene.client.must_fail("askClaudeCode", ask("first", "hi"))["code"], "conflict");
    assert_eq!(scene.json("history"), json!([wait, "hi"]));
    scene.finish();
}

#[test]
fn a_permission_outlives_neither_its_process_nor_an_interrupt() {
    for (mode, by) in [("crash", "exit"), ("interrupt", "claude")] {
        let scene = scene(bad("proper"));
        let pid = scene.process("pid").pid;
        let id = scene.ask("ask");
        let question = scene.client.wait_event("permissionRequest", |_| true)["requestId"].clone();
        scene.wait_state("waiting");
        let status = if mode == "crash" {
            crate::support::processes::signal(pid, libc::SIGKILL);
            "failed"
        } else {
            scene.client.must("interruptClaude", scene.data(json!({})));
            "interrupted"
        };
        assert_eq!(scene.client.wait_response(&id)["status"], status);
        let resolved = scene.client.wait_event("permissionResolved", |data| data["requestId"] == question);
        assert_eq!((&resolved["behavior"], &resolved["by"]), (&json!("cancelled"), &json!(by)));
        let late = scene.data(json!({"requestId": question, "behavior": "allow"}));
        assert_eq!(scene.client.must_fail("answerPermission", late)["code"], "stale_request");
        scene.finish();
    }
}

/// Who asks while the process is on its way out takes the prompt for the one that runs, and so it is stopped like one.
#[test]
fn a_prompt_that_waits_for_the_end_of_the_last_process_can_be_stopped() {
    for named in [true, false] {
        let scene = scene(bad("ignore-eof").arg("--stop-grace=1s"));
        scene.text("pid");
        let closing = scene.client.start_emit("closeSession", scene.data(json!({})));
        scene.client.wait_event("sessionUpdated", |session| session["state"] == "stopping");
        scene.client.must("resumeSession", scene.data(json!({})));
        let [first, second] = ["words 2", "words 3"].map(|prompt| scene.ask(prompt));
        let which = if named { json!({"promptId": first}) } else { json!({}) };
        assert_eq!(scene.client.must("interruptClaude", scene.data(which))["stillQueued"], json!([second]));
        let response = scene.client.wait_response(&first);
        assert_eq!((&response["status"], &response["fullResponse"]), (&json!("interrupted"), &json!("")));
        scene.client.wait_ack(closing);
        assert_eq!(scene.client.wait_response(&second)["fullResponse"], "w1 w2 w3");
        scene.finish();
    }
}

/// A prompt that the store has not got yet when its session is deleted is refused, not forgotten.
#[test]
fn a_prompt_that_is_overtaken_by_the_delete_is_refused() {
    let place = Arc::new(Workspace::new());
    let [armed, until] = ["armed", "until"].map(|name| place.root().join(name));
    let server = bad("proper").workspace(&place).env("CSM_FAILPOINT", "hold:before-commit:1");
    let server = server.env("CSM_FAILPOINT_SINCE", armed.display().to_string());
    let scene = scene(server.env("CSM_FAILPOINT_UNTIL", until.display().to_string()));
    make(&armed);
    let asked = scene.client.start_emit("askClaudeCode", scene.data(json!({"prompt": "hi"})));
    scene.server.wait_log("held at before-commit");
    let deleted = scene.client.start_emit("deleteSession", scene.data(json!({})));
    // What comes behind it is answered: so the delete is under way.
    scene.client.must("listSessions", json!({}));
    make(&until);
    assert_eq!(scene.client.wait_ack(asked)["error"]["code"], "invalid_session");
    assert_eq!(scene.client.wait_ack(deleted)["ok"], true);
}

/// What was acknowledged is on the disk: or the next server would run what was taken out of the queue.
#[test]
fn a_cleared_queue_is_acknowledged_when_it_is_stored() {
    for stopped in [true, false] {
        let place = Arc::new(Workspace::new());
        let [armed, until, go] = ["armed", "until", "go"].map(|name| place.root().join(name));
        let server = bad("proper").workspace(&place).env("CSM_FAILPOINT", "hold:before-commit:1");
        let server = server.env("CSM_FAILPOINT_SINCE", armed.display().to_string());
        let scene = scene(server.env("CSM_FAILPOINT_UNTIL", until.display().to_string()));
        let running = scene.ask(&format!("wait {}", go.display()));
        let waiting = scene.ask("hi");
        scene.client.wait_chunk(&running);
        make(&armed);
        // With the running prompt Claude is to be asked first; with another one there is nothing to stop.
        let named = if stopped { &running } else { &waiting };
        let data = scene.data(json!({"promptId": named, "clearQueue": true}));
        let ack = scene.client.start_emit("interruptClaude", data);
        if stopped {
            scene.client.wait_response(&running);
        }
        scene.client.wait_response(&waiting);
        scene.client.must("getSession", scene.data(json!({})));
        assert!(!scene.client.has_ack(ack), "not while the commit is held");
        make(&until);
        assert_eq!(scene.client.wait_ack(ack)["stillQueued"], json!([]));
        make(&go);
        scene.client.wait_response(&running);
        scene.finish();
    }
}
