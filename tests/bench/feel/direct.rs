//! The CLI without a server: what the server is measured against.

use std::time::{Duration, Instant};

use claude_session_manager::claude::command::{Begin, Launch, arguments};

use crate::{
    agents::Answering,
    report::Samples,
    support::{
        DEADLINE,
        agent::{Agent, uuid},
        program::Program,
        workspace::Workspace,
    },
};

/// Nobody who has seen one thing end asks the next in the same millisecond, and both the CLI and the server have a few
/// things to do behind a boot and behind a turn. All get this pause before a prompt to a process that is up.
pub const PAUSE: Duration = Duration::from_millis(100);

/// What the fake API answers with `hello there`.
pub const PROMPT: &str = "say:hello there";

/// Runs it as the server does, in a home of its own.
pub struct Direct<'a> {
    answering: &'a Answering,
    place: Workspace,
}

impl Direct<'_> {
    pub fn new(answering: &Answering) -> Direct<'_> {
        Direct { answering, place: Workspace::new() }
    }

    /// One run of all measures.
    pub fn run(&self, samples: &mut Samples) {
        let mut add = |name, time| samples.add_time(&format!("{}/direct/{name}", self.answering.name), time);
        let conversation = uuid();
        add("boot", self.boot(&conversation, Begin::New));
        let agent = self.start(&uuid(), Begin::New);
        for number in 0..self.answering.prompts {
            std::thread::sleep(PAUSE);
            add(if number == 0 { "first" } else { "later" }, first_text(&agent, Instant::now()));
        }
        end(&agent);
        // As with a hibernated session, that it ran is a while ago.
        add("resume", self.boot(&conversation, Begin::Resume));
    }

    /// From the start of the process to the first text.
    fn boot(&self, conversation: &str, begin: Begin) -> Duration {
        let began = Instant::now();
        let agent = self.start(conversation, begin);
        let took = first_text(&agent, began);
        end(&agent);
        took
    }

    /// A process that has answered the first request, as the server asks for before it hands over a prompt.
    fn start(&self, conversation: &str, begin: Begin) -> Agent {
        let Answering { agent, env, .. } = self.answering;
        let launch = Launch {
            conversation: conversation.to_owned(),
            begin,
            cwd: self.place.work(),
            model: None,
            permission_mode: None,
            effort: None,
            marker: String::new(),
        };
        let mut command = self.place.command(&agent.program);
        command.args(&agent.first_args).args(arguments(&launch)).envs(env.iter().cloned());
        let agent = Agent { program: Program::start("the agent", command) };
        agent.initialize();
        agent
    }
}

/// Asks, waits for the whole turn, and gives the time from `began` to the first text of the answer.
fn first_text(agent: &Agent, began: Instant) -> Duration {
    let turn = agent.turn(PROMPT);
    turn.first_delta_at.expect("a text").duration_since(began)
}

fn end(agent: &Agent) {
    assert!(agent.finish(DEADLINE).success());
}
