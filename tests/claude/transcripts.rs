//! Conversations made by the CLI alone, with no server, read back from its own record of them.

use claude_session_manager::claude::transcripts::{Found, Transcripts, What, projects_dir, read};
use serde_json::{Value, json};

use crate::support::{
    agent::{Agent, claude, uuid, wait_transcript},
    fake_api::FakeApi,
    workspace::Workspace,
};

struct Terminal {
    workspace: Workspace,
    api: FakeApi,
}

impl Terminal {
    fn new() -> Terminal {
        Terminal { workspace: Workspace::new(), api: FakeApi::start() }
    }

    fn agent(&self, args: &[&str]) -> Agent {
        let agent = Agent::start(&self.workspace, &claude(), args, &self.api.env());
        agent.initialize();
        agent
    }

    fn transcripts(&self) -> Transcripts {
        let projects = projects_dir(None, Some(self.workspace.home().into())).expect("a home");
        Transcripts::new(projects, vec![self.workspace.work()])
    }

    /// The one that is listed when its record holds `text`.
    fn listed(&self, uuid: &str, text: &str) -> Found {
        wait_transcript(&self.workspace, uuid, text);
        let list = self.transcripts().list();
        assert_eq!(list.len(), 1, "{list:#?}");
        // The CLI may still be writing: only what does not change with that is compared.
        assert_eq!(self.transcripts().find(uuid).map(|found| found.path).as_ref(), Some(&list[0].path));
        assert_eq!((list[0].uuid.as_str(), &list[0].cwd), (uuid, &self.workspace.work()));
        list[0].clone()
    }
}

/// What is read back, with prompts as JSON strings.
fn told(found: &Found) -> Vec<Value> {
    let events = read(&found.path).expect("it can be read");
    let value = |what| match what {
        What::Prompt(text) => json!(text),
        What::Event(event) => serde_json::from_str(&event).expect("JSON"),
    };
    events
        .map(|told| {
            assert!(told.time >= found.created_at, "{told:?}");
            value(told.what)
        })
        .collect()
}

/// The texts alone: `> ` before what was asked.
fn texts(found: &Found) -> Vec<String> {
    let text = |value: Value| match value {
        Value::String(prompt) => format!("> {prompt}"),
        event => event["message"]["content"][0]["text"].as_str().or(event["type"].as_str()).expect("one").to_owned(),
    };
    told(found).into_iter().map(text).collect()
}

/// What both forms of a line have: the record's has a few fields fewer, and the later of two token counts.
fn core(line: &Value) -> Value {
    let message = json!({"role": line["message"]["role"], "content": line["message"]["content"]});
    let mut core = json!({"message": message});
    for name in ["type", "uuid", "session_id", "parent_tool_use_id", "tool_use_result"] {
        core[name] = line[name].clone();
    }
    core
}

#[test]
fn what_was_printed_is_what_is_read_back() {
    let on = Terminal::new();
    let id = uuid();
    let agent = on.agent(&[&format!("--session-id={id}")]);
    let asked = ["say:hello there", "bash:echo made", "say:bye for now"];
    let mut printed = Vec::new();
    for prompt in asked {
        let turn = agent.turn(prompt);
        let lines = turn.lines.into_iter().filter(|line| line["isReplay"] != true);
        printed.push(json!(prompt));
        printed
            .extend(lines.filter(|line| line["type"] == "assistant" || line["type"] == "user").map(|line| core(&line)));
    }
    let found = on.listed(&id, "\"text\":\"bye for now\"");
    let read: Vec<Value> =
        told(&found).iter().map(|event| if event.is_string() { event.clone() } else { core(event) }).collect();
    assert_eq!(read, printed);
    assert!(printed.iter().any(|line| line["tool_use_result"].is_object()), "{printed:#?}");
    assert_eq!((found.title.as_deref(), found.last_words.as_deref()), (Some("say:hello there"), Some("bye for now")));
    let model = agent.wait(0, |line| line["subtype"] == "init").1["model"].clone();
    let name = found.model.as_deref().expect("a model");
    assert!(model.as_str().is_some_and(|model| model.starts_with(name)), "{model} {name}");
    assert_eq!(found.entrypoint.as_deref(), Some("sdk-cli"));
    // A name given by the user is the title from then on.
    agent.request(json!({"subtype": "rename_session", "title": "A fine name"}));
    assert_eq!(on.listed(&id, "custom-title").title.as_deref(), Some("A fine name"));
}

#[test]
fn commands_and_compaction_are_read_back() {
    let on = Terminal::new();
    let id = uuid();
    let agent = on.agent(&[&format!("--session-id={id}")]);
    agent.turn("say:one");
    // 2.1.197 does not compact less than two turns.
    agent.turn("say:more");
    agent.turn("/compact all of it");
    agent.turn("say:two");
    let read = told(&on.listed(&id, "\"text\":\"two\""));
    let position = |wanted: &dyn Fn(&Value) -> bool| read.iter().position(wanted).unwrap_or_else(|| panic!("{read:?}"));
    let places = [
        position(&|event| event == "say:one"),
        position(&|event| event["subtype"] == "compact_boundary" && event["compact_metadata"]["trigger"] == "manual"),
        position(&|event| event["isSynthetic"] == true),
        position(&|event| event == "/compact all of it"),
        position(&|event| event == "say:two"),
    ];
    assert!(places.is_sorted(), "{places:?} {read:?}");
}

/// Going back to an earlier message leaves what followed it in the file, but no longer in the conversation.
#[test]
fn what_was_gone_back_behind_is_not_read() {
    let on = Terminal::new();
    let id = uuid();
    let agent = on.agent(&[&format!("--session-id={id}")]);
    agent.turn("say:one");
    agent.turn("say:two");
    let first = agent.wait(0, |line| line["type"] == "assistant").1["uuid"].as_str().expect("a uuid").to_owned();
    assert_eq!(texts(&on.listed(&id, "\"text\":\"two\"")), ["> say:one", "one", "> say:two", "two"]);
    agent.finish(crate::support::DEADLINE);
    let agent = on.agent(&[&format!("--resume={id}"), &format!("--resume-session-at={first}")]);
    agent.turn("say:other");
    let found = on.listed(&id, "\"text\":\"other\"");
    assert_eq!(texts(&found), ["> say:one", "one", "> say:other", "other"]);
    let record = std::fs::read_to_string(&found.path).expect("it can be read");
    assert!(record.contains("\"text\":\"two\""), "it is still there");
}
