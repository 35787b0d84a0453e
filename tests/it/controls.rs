//! What is asked of Claude beside prompts: it is acknowledged once, whatever becomes of it.

use serde_json::{Value, json};

use crate::{
    scene::{Scene, bad, init, make, result, scene},
    support::{
        DEADLINE,
        client::Client,
        processes::{Process, eventually},
        server::Server,
        workspace::Workspace,
    },
};

fn set(scene: &Scene, name: &str, value: &str) -> Value {
    let event = format!("set{}{}", name[..1].to_uppercase(), &name[1..]);
    scene.client.must(&event, scene.data(json!({name: value})))
}

fn set_fails(scene: &Scene, name: &str, value: &str) -> Value {
    let event = format!("set{}{}", name[..1].to_uppercase(), &name[1..]);
    scene.client.must_fail(&event, scene.data(json!({name: value})))
}

fn summary(client: &Client, id: &str) -> Value {
    client.must("getSession", json!({"sessionId": id}))["session"].clone()
}

/// Model, mode and effort, as the summary has them.
fn chosen(scene: &Scene) -> Value {
    let summary = summary(&scene.client, &scene.id);
    json!([summary["model"], summary["permissionMode"], summary["effort"]])
}

/// The arguments of the agent that runs, or is started for this question.
fn choice_args(scene: &Scene) -> Vec<String> {
    let is_choice =
        |arg: &String| ["--model=", "--permission-mode=", "--effort="].iter().any(|flag| arg.starts_with(flag));
    let args: Vec<String> = serde_json::from_value(scene.json("args")).expect("arguments");
    args.into_iter().filter(is_choice).collect()
}

#[test]
fn a_living_process_is_told_and_the_summary_has_what_it_confirms() {
    let scene = scene(bad("proper"));
    let pid = scene.text("pid");
    let other = scene.server.connect(json!({"sessionId": scene.id, "stream": "events"}));
    assert_eq!(set(&scene, "model", "quick"), json!({"ok": true, "model": "bad-quick"}));
    assert_eq!(set(&scene, "permissionMode", "plan"), json!({"ok": true, "permissionMode": "plan"}));
    assert_eq!(set(&scene, "effort", "high"), json!({"ok": true, "effort": "high"}));
    assert_eq!(chosen(&scene), json!(["bad-quick", "plan", "high"]));
    for client in [&scene.client, &other] {
        client.wait_event("sessionUpdated", |session| {
            (&session["model"], &session["permissionMode"], &session["effort"])
                == (&json!("bad-quick"), &json!("plan"), &json!("high"))
        });
    }
    assert_eq!(scene.text("pid"), pid, "the same process");
    assert_eq!(chosen(&scene), json!(["bad-quick", "plan", "high"]), "its next turn says the same");
    scene.finish();
}

#[test]
fn without_a_process_a_choice_waits_for_the_next_and_lasts() {
    let scene = scene(bad("proper"));
    set(&scene, "model", "quick");
    set(&scene, "permissionMode", "plan");
    set(&scene, "effort", "low");
    assert_eq!(chosen(&scene), json!(["quick", "plan", "low"]));
    assert_eq!(summary(&scene.client, &scene.id)["state"], "stopped", "nothing is started for that");
    let expected = ["--model=quick", "--permission-mode=plan", "--effort=low"];
    assert_eq!(choice_args(&scene), expected);
    set(&scene, "model", "slow");
    let workspace = scene.server.workspace().clone();
    let (id, forked) = (scene.id.clone(), scene.client.must("forkSession", scene.data(json!({})))["session"].clone());
    scene.finish();
    let server = bad("proper").workspace(&workspace).start();
    for id in [id.as_str(), forked["sessionId"].as_str().expect("an id")] {
        let client = server.connect(json!({"sessionId": id}));
        let scene = Scene { client, id: id.to_owned(), server: bad("proper").start() };
        assert_eq!(choice_args(&scene), ["--model=slow", "--permission-mode=plan", "--effort=low"], "{id}");
    }
}

#[test]
fn while_claude_starts_a_choice_waits_and_comes_before_the_prompt() {
    let file = Workspace::new();
    let go = file.root().join("go");
    let scene = scene(bad("slow-start").arg(format!("--agent-arg={}", go.display())));
    let prompt = scene.ask("hi");
    scene.wait_state("starting");
    let ask = scene.client.start_emit("setModel", scene.data(json!({"model": "quick"})));
    let usage = scene.client.start_emit("getContextUsage", scene.data(json!({})));
    make(&go);
    assert_eq!(scene.client.wait_ack(ask), json!({"ok": true, "model": "bad-quick"}));
    assert_eq!(scene.client.wait_ack(usage)["usage"]["totalTokens"], 10);
    assert_eq!(scene.client.wait_response(&prompt)["status"], "done");
    let inits = || scene.client.must("getHistory", scene.data(json!({})))["events"].clone();
    let init =
        inits().as_array().expect("a list").iter().find(|item| item["data"]["event"]["subtype"] == "init").cloned();
    assert_eq!(init.expect("the turn's first line")["data"]["event"]["model"], "bad-quick");
    scene.finish();
}

/// Both are sent together, and what is in use after the first is the second already.
#[test]
fn two_choices_at_once_are_both_taken() {
    let file = Workspace::new();
    let go = file.root().join("go");
    let scene = scene(bad("slow-start").arg(format!("--agent-arg={}", go.display())));
    let usage = scene.client.start_emit("getContextUsage", scene.data(json!({})));
    scene.wait_state("starting");
    let efforts =
        ["low", "high"].map(|effort| scene.client.start_emit("setEffort", scene.data(json!({"effort": effort}))));
    let models =
        ["slow", "quick"].map(|model| scene.client.start_emit("setModel", scene.data(json!({"model": model}))));
    make(&go);
    assert_eq!(scene.client.wait_ack(usage)["ok"], true);
    for id in efforts {
        assert_eq!(scene.client.wait_ack(id), json!({"ok": true, "effort": "high"}));
    }
    for id in models {
        assert_eq!(scene.client.wait_ack(id), json!({"ok": true, "model": "bad-quick"}));
    }
    assert_eq!(chosen(&scene), json!(["bad-quick", Value::Null, "high"]));
    scene.close();
    scene.client.must("resumeSession", scene.data(json!({})));
    assert_eq!(choice_args(&scene), ["--model=quick", "--effort=high"]);
    scene.finish();
}

#[test]
fn what_claude_refuses_changes_nothing() {
    let scene = scene(bad("proper"));
    scene.text("hi");
    let before = chosen(&scene);
    for (name, value, message) in [
        ("model", "refused", "there is no such model"),
        ("permissionMode", "auto", "auto is not for everybody"),
        ("effort", "enormous", "bad_agent does not take the effort enormous"),
    ] {
        let error = set_fails(&scene, name, value);
        assert_eq!((&error["code"], &error["message"]), (&json!("agent_failed"), &json!(message)));
    }
    assert_eq!(chosen(&scene), before);
    scene.close();
    scene.client.must("resumeSession", scene.data(json!({})));
    assert!(choice_args(&scene).is_empty());
    scene.finish();
}

/// It confirms no effort, whatever is asked.
#[test]
fn a_model_without_efforts_is_given_only_those_that_there_are() {
    let scene = scene(bad("proper"));
    scene.text("pid");
    set(&scene, "model", "effortless");
    assert_eq!(set(&scene, "effort", "high"), json!({"ok": true, "effort": "high"}));
    let error = set_fails(&scene, "effort", "enormous");
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!("agent_failed"), &json!("bad_agent does not take the effort enormous"))
    );
    scene.text("/effort tiny");
    // An answer to a later request: by then the command's choice is confirmed, or not.
    set(&scene, "permissionMode", "plan");
    assert_eq!(chosen(&scene), json!(["bad-effortless", "plan", "high"]));
    scene.finish();
}

/// Nobody wants to be in a mode again that Claude has left for one without questions; nor in that, unasked.
#[test]
fn a_mode_that_was_left_for_one_without_questions_is_not_kept() {
    let scene = scene(bad("proper").arg("--allow-bypass-permissions"));
    scene.text("pid");
    set(&scene, "permissionMode", "plan");
    let left = json!({"type": "system", "subtype": "status", "permissionMode": "bypassPermissions"});
    scene.turn(&[init(), left, result()]);
    scene.close();
    scene.client.must("resumeSession", scene.data(json!({})));
    assert!(choice_args(&scene).is_empty());
    scene.finish();
}

/// As at a terminal; but there it is for one process only.
#[test]
fn what_a_slash_command_chooses_lasts_too() {
    let scene = scene(bad("proper"));
    scene.text("/model quick");
    scene.text("/effort high");
    scene.client.wait_event("sessionUpdated", |session| {
        (&session["model"], &session["effort"]) == (&json!("bad-quick"), &json!("high"))
    });
    scene.close();
    scene.client.must("resumeSession", scene.data(json!({})));
    assert_eq!(choice_args(&scene), ["--model=quick", "--effort=high"]);
    scene.finish();
}

/// 2.1.197 confirms less, and a stand-in may not tell its settings at all.
#[test]
fn what_is_taken_without_more_words_counts() {
    let scene = scene(bad("old"));
    scene.text("hi");
    set(&scene, "model", "quick");
    set(&scene, "effort", "high");
    assert_eq!(chosen(&scene), json!(["quick", "default", "high"]));
    scene.finish();
}

#[test]
fn forbidden_choices_are_refused_with_and_without_a_process() {
    let scene = scene(bad("proper"));
    for _ in 0..2 {
        for (name, value) in [
            ("permissionMode", "bypassPermissions"),
            ("permissionMode", "root"),
            ("permissionMode", ""),
            ("model", "--help"),
            ("model", ""),
            ("effort", "Very High"),
        ] {
            assert_eq!(set_fails(&scene, name, value)["code"], "forbidden_option", "{name} {value}");
        }
        for (event, data) in [("setModel", json!({})), ("setEffort", json!({"effort": 7}))] {
            assert_eq!(scene.client.must_fail(event, scene.data(data))["code"], "bad_request");
        }
        scene.text("hi");
    }
    let rule = json!([{"type": "setMode", "mode": "bypassPermissions", "destination": "session"}]);
    scene.ask("ask");
    let question = scene.client.wait_event("permissionRequest", |_| true);
    let answer = |rule: &Value| {
        scene.data(json!({"requestId": question["requestId"], "behavior": "allow", "updatedPermissions": rule}))
    };
    assert_eq!(scene.client.must_fail("answerPermission", answer(&rule))["code"], "forbidden_option");
    scene.client.must("answerPermission", answer(&json!([{"type": "setMode", "mode": "plan"}])));
    scene.finish();
}

#[test]
fn no_questions_at_all_only_where_the_server_allows_it_also_later() {
    let allowed = scene(bad("proper").arg("--allow-bypass-permissions").env("IS_SANDBOX", "1"));
    let args = allowed.json("args");
    assert!(args.as_array().expect("a list").contains(&json!("--allow-dangerously-skip-permissions")), "{args}");
    set(&allowed, "permissionMode", "bypassPermissions");
    assert_eq!(chosen(&allowed)[1], "bypassPermissions");
    let (workspace, id) = (allowed.server.workspace().clone(), allowed.id.clone());
    allowed.finish();
    let server = bad("proper").workspace(&workspace).start();
    let lister = server.connect(Value::Null);
    assert_eq!(lister.must("listSessions", json!({}))["sessions"][0]["permissionMode"], Value::Null);
    let client = server.connect(json!({"sessionId": id}));
    assert_eq!(client.registered()["session"]["permissionMode"], Value::Null);
    let args = client.ask_and_wait(&id, "args")["fullResponse"].as_str().expect("text").to_owned();
    assert!(!args.contains("--permission-mode") && !args.contains("--allow-dangerously"), "{args}");
    assert!(args.contains("disableBypassPermissionsMode"), "{args}");
}

#[test]
fn in_shared_mode_it_is_everybodys() {
    let scene = scene(bad("proper").arg("--mode=shared"));
    let other = scene.server.connect(Value::Null);
    scene.wait_state("idle");
    assert_eq!(set(&scene, "model", "quick")["model"], "bad-quick");
    other.wait_event("sessionUpdated", |session| session["model"] == "bad-quick");
    scene.finish();
}

#[test]
fn what_claude_knows_is_passed_on() {
    let scene = scene(bad("proper"));
    let ask = |event: &str, data: Value| scene.client.must(event, scene.data(data));
    // The first of them starts the process.
    assert_eq!(
        ask("fileSuggestions", json!({"query": "ma"})),
        json!({"ok": true, "suggestions": [{"path": "src/ma"}]})
    );
    let usage = json!({"categories": [], "totalTokens": 10, "maxTokens": 200_000, "percentage": 0});
    assert_eq!(ask("getContextUsage", json!({})), json!({"ok": true, "usage": usage}));
    assert_eq!(ask("stopTask", json!({"taskId": "t"})), json!({"ok": true, "stopped": true}));
    let rewind = json!({"canRewind": true, "filesChanged": ["u"], "insertions": 1, "deletions": 2});
    assert_eq!(
        ask("rewindFiles", json!({"userMessageId": "u", "dryRun": true})),
        json!({"ok": true, "rewind": rewind})
    );
    assert_eq!(ask("rewindFiles", json!({"userMessageId": "u", "dryRun": false}))["rewind"]["canRewind"], true);
    let error = scene.client.must_fail("rewindFiles", scene.data(json!({"userMessageId": "u"})));
    assert_eq!((&error["code"], &error["field"]), (&json!("bad_request"), &json!("dryRun")));
    let details = ask("getSession", json!({}));
    assert!(
        details["agents"].is_array() && details["models"].is_array() && details["commands"].is_array(),
        "{details}"
    );
    scene.finish();
}

#[test]
fn the_list_of_commands_is_the_last_that_claude_told() {
    let scene = scene(bad("proper"));
    let told = |commands: Value| {
        let file = scene.server.workspace().root().join("told");
        let line = json!({"type": "system", "subtype": "commands_changed", "commands": commands});
        std::fs::write(&file, format!("{line}\n")).expect("the line");
        assert_eq!(scene.text(&format!("raw {}", file.display())), "done");
        scene.client.must("getSession", scene.data(json!({})))["commands"].clone()
    };
    let knit = json!([{"name": "knit", "description": "Knits", "argumentHint": ""}]);
    assert_eq!(told(knit.clone()), knit);
    let too_long = json!([{"name": "k".repeat(200_000)}]);
    for odd in [too_long, json!({"name": "knit"}), json!("knit"), Value::Null] {
        assert_eq!(told(odd), knit);
    }
    assert_eq!(told(json!([])), json!([]));
    scene.finish();
}

#[test]
fn files_are_not_rewound_under_a_running_answer() {
    let scene = scene(bad("proper"));
    let file = scene.file("go");
    let prompt = scene.ask(&format!("wait {}", file.display()));
    scene.client.wait_chunk(&prompt);
    let rewind = |dry_run: bool| scene.data(json!({"userMessageId": "u", "dryRun": dry_run}));
    assert_eq!(scene.client.must_fail("rewindFiles", rewind(false))["code"], "conflict");
    scene.client.must("rewindFiles", rewind(true));
    // Everything else is answered while Claude works.
    set(&scene, "model", "quick");
    scene.client.must("getContextUsage", scene.data(json!({})));
    make(&file);
    scene.client.wait_response(&prompt);
    scene.finish();
}

/// Whatever ends the wait, there is one answer.
#[test]
fn each_request_is_answered_once_also_when_claude_says_nothing() {
    let mute = || scene(bad("mute"));
    let ask = |scene: &Scene| {
        scene.text("hi");
        let id = scene.client.start_emit("getContextUsage", scene.data(json!({})));
        // Behind it: now Claude has it.
        summary(&scene.client, &scene.id);
        id
    };
    let failed = |scene: &Scene, id: u64| {
        let ack = scene.client.wait_ack(id);
        assert_eq!(ack["error"]["code"], "agent_failed", "{ack}");
        ack["error"]["message"].as_str().expect("a sentence").to_owned()
    };
    let closed = mute();
    let id = ask(&closed);
    closed.close();
    assert!(failed(&closed, id).contains("has ended"));
    assert_eq!(set_fails(&closed, "model", "quick")["code"], "session_ended");
    closed.finish();

    let crashed = mute();
    let id = ask(&crashed);
    crashed.ask("crash 3");
    assert!(failed(&crashed, id).contains("has ended"));
    drop(crashed);

    let stopped = mute();
    let id = ask(&stopped);
    assert_eq!(stopped.server.stop().code(), Some(0));
    assert!(failed(&stopped, id).contains("has ended"));

    let late = scene(bad("mute").arg("--start-timeout=1s"));
    let ids = [ask(&late), late.client.start_emit("setEffort", late.data(json!({"effort": "high"})))];
    for id in ids {
        assert!(failed(&late, id).contains("did not answer within 1 s"));
    }
    assert_eq!(chosen(&late)[2], Value::Null);
    assert_eq!(late.text("still"), "you said: still");
    late.finish();
}

#[test]
fn only_so_many_requests_wait() {
    let scene = scene(bad("mute"));
    scene.text("hi");
    let ask = || scene.client.start_emit("getContextUsage", scene.data(json!({})));
    let ids: Vec<u64> = (0..32).map(|_| ask()).collect();
    assert_eq!(scene.client.wait_ack(ask())["error"]["code"], "rate_limited");
    scene.close();
    for id in ids {
        assert_eq!(scene.client.wait_ack(id)["error"]["code"], "agent_failed");
    }
    scene.finish();
}

/// Nobody waits in line for it, behind prompts.
#[test]
fn where_all_processes_are_busy_nothing_is_started_for_a_request() {
    let busy = scene(bad("proper").arg("--max-processes=1"));
    let file = busy.file("go");
    let prompt = busy.ask(&format!("wait {}", file.display()));
    busy.client.wait_chunk(&prompt);
    let other = busy.server.connect(Value::Null);
    let id = other.session_id();
    let query = json!({"sessionId": id, "query": "a"});
    assert_eq!(other.must_fail("fileSuggestions", query.clone())["code"], "rate_limited");
    assert_eq!(other.must("stopTask", json!({"sessionId": id, "taskId": "t"}))["stopped"], true, "there is none");
    busy.close();
    eventually("a place is free", DEADLINE, || other.emit_with_ack("fileSuggestions", query.clone())["ok"] == true);
    busy.server.stop();
}

#[test]
fn a_request_waits_no_longer_than_a_failing_start() {
    let scene = scene(bad("exit-at-once"));
    let error = scene.client.must_fail("fileSuggestions", scene.data(json!({"query": ""})));
    assert_eq!(error["code"], "agent_failed", "{error}");
    let failure = scene.wait_state("failed");
    assert_eq!(failure["failure"]["code"], "agent_failed");
    // Twice at once, then only with a pause.
    let errors: Vec<Value> =
        (0..4).map(|_| scene.client.must_fail("fileSuggestions", scene.data(json!({"query": ""})))).collect();
    assert!(
        errors.iter().any(|error| error["message"].as_str().is_some_and(|text| text.contains("keeps failing"))),
        "{errors:?}"
    );
    scene.server.stop();
}

/// With a process that has nothing to do and nobody there, asking holds it, and then it sleeps.
#[test]
fn a_hibernated_session_wakes_for_a_request_and_sleeps_again() {
    let scene = scene(bad("proper").arg("--idle-timeout=1s"));
    scene.text("hi");
    scene.client.must("setModel", scene.data(json!({"model": "quick"})));
    let server: &Server = &scene.server;
    scene.client.disconnect();
    let other = server.connect(Value::Null);
    let is_agent = |process: &Process| process.cmdline[0].ends_with("bad_agent");
    let sleeps = || !server.started().iter().any(is_agent);
    eventually("it sleeps", DEADLINE, sleeps);
    other.must("getContextUsage", json!({"sessionId": scene.id}));
    eventually("it sleeps again", DEADLINE, sleeps);
    assert_eq!(summary(&other, &scene.id)["model"], "bad-quick");
    server.stop();
}

/// As prompts do.
#[test]
fn what_comes_while_a_process_is_stopped_goes_to_the_next() {
    let scene = scene(bad("ignore-eof").args(["--stop-grace=500ms", "--idle-timeout=100ms"]));
    let first = scene.text("pid");
    scene.client.disconnect();
    let other = scene.server.connect(Value::Null);
    // It is idle and alone, and ends by SIGKILL only, some time after this.
    scene.server.wait_log("idle, its process is stopped");
    let query = json!({"sessionId": scene.id, "query": "a"});
    assert_eq!(other.must("fileSuggestions", query)["suggestions"][0]["path"], "src/a");
    let pid = other.ask_and_wait(&scene.id, "pid")["fullResponse"].clone();
    assert_ne!(pid, json!(first));
    // In a session that is closed there is no next.
    let asked = {
        other.start_emit("closeSession", json!({"sessionId": scene.id}));
        other.start_emit("fileSuggestions", json!({"sessionId": scene.id, "query": "a"}))
    };
    assert_eq!(other.wait_ack(asked)["error"]["code"], "session_ended");
    scene.server.stop();
}

#[test]
fn the_demo_agent_follows_too() {
    let scene = scene(Server::builder(crate::scene::EXE).demo());
    scene.text("hi");
    set(&scene, "model", "other");
    set(&scene, "permissionMode", "plan");
    scene.text("hi");
    assert_eq!(chosen(&scene), json!(["other", "plan", null]));
    scene.server.stop();
}

/// The name that Claude knows a prompt by, as its event tells it and as Claude echoes it.
fn names_of(client: &Client, id: &str, prompt: &str) -> (Value, Value) {
    let history = client.must("getHistory", json!({"sessionId": id}))["events"].clone();
    let history = history.as_array().expect("a list");
    let asked = history.iter().find(|item| item["data"]["promptId"] == prompt).expect("its event");
    let echoes = |item: &&Value| item["data"]["event"]["isReplay"] == true;
    let echo = history.iter().rfind(echoes).expect("an echo");
    (asked["data"]["userMessageId"].clone(), echo["data"]["event"]["uuid"].clone())
}

#[test]
fn a_prompt_tells_claudes_name_for_it_also_when_the_next_server_sends_it() {
    let file = Workspace::new();
    let go = file.root().join("go");
    let first = scene(bad("slow-start").arg(format!("--agent-arg={}", go.display())));
    let prompt = first.ask("hi");
    let told = first.client.wait_event("prompt", |_| true)["userMessageId"].clone();
    assert_eq!(told.as_str().map(str::len), Some(36));
    let id = first.id.clone();
    first.wait_state("starting");
    // What was told is on the disk when the session is listed anew.
    first.client.must("renameSession", first.data(json!({"title": "t"})));
    first.server.signal(libc::SIGKILL);
    first.server.wait_exit(DEADLINE);
    let server = bad("proper").workspace(first.server.workspace()).start();
    let client = server.connect(json!({"sessionId": id}));
    eventually("it has run", DEADLINE, || {
        let summary = summary(&client, &id);
        summary["turns"] == 1 && summary["state"] == "idle"
    });
    let (asked, echoed) = names_of(&client, &id, &prompt);
    assert_eq!((&asked, &echoed), (&told, &told));
}

#[test]
fn a_picker_sees_directories_under_the_roots_only() {
    let scene = scene(bad("proper"));
    let work = scene.server.workspace().work();
    std::fs::create_dir_all(work.join("src/deep")).expect("made");
    std::os::unix::fs::symlink(scene.server.workspace().root(), work.join("out")).expect("linked");
    let top = scene.client.must("listDirectories", json!({}));
    assert_eq!((&top["path"], &top["parent"], &top["more"]), (&json!(work), &Value::Null, &json!(false)));
    assert_eq!(top["roots"], json!([work]));
    let src = json!({"name": "src", "path": work.join("src"), "hidden": false});
    assert_eq!(top["directories"], json!([src]));
    let below = scene.client.must("listDirectories", json!({"path": work.join("src")}));
    assert_eq!((&below["parent"], &below["directories"][0]["name"]), (&json!(work), &json!("deep")));
    let refused = |path: Value| scene.client.must_fail("listDirectories", json!({"path": path}));
    let of_cwd = scene.client.must_fail("createSession", json!({"cwd": "/"}));
    for path in [json!("/"), json!(work.join("..")), json!(work.join("out")), json!("src"), json!(""), json!("/a\u{0}")]
    {
        assert_eq!(refused(path), of_cwd);
    }
    assert_eq!(refused(json!(7))["field"], "path");
    // What is chosen there makes a session.
    scene.client.must("createSession", json!({"cwd": below["directories"][0]["path"]}));
    scene.server.stop();
}
