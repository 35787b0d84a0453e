//! The programs that answer.

use std::path::Path;

use claude_session_manager::claude::command::Agent;

use crate::support::{agent::claude, fake_api::FakeApi, workspace::Workspace};

/// A program that answers, and how it is run.
pub struct Answering {
    /// In the names of what is measured.
    pub name: &'static str,
    /// What is executed.
    pub agent: Agent,
    /// How the server is told.
    pub flag: String,
    /// Its environment, besides what all have.
    pub env: Vec<(String, String)>,
    /// How many prompts one conversation gets in one run.
    pub prompts: usize,
}

impl Answering {
    /// Claude Code: what a user feels. Its own time moves by more than what the server adds.
    pub fn claude(api: &FakeApi) -> Answering {
        Answering {
            name: "Claude",
            agent: Agent::at(claude(), Vec::new()),
            flag: format!("--agent={}", claude().display()),
            env: api.env(),
            prompts: 8,
        }
    }

    /// The demo agent, which has its first word ready: what is left is what the server adds.
    pub fn demo(server: &Path, state: &Workspace) -> Answering {
        let state = format!("--state-dir={}", state.data().display()).into();
        Answering {
            name: "demo",
            agent: Agent::demo(server.to_owned(), state, Vec::new()),
            flag: "--agent=demo".to_owned(),
            env: Vec::new(),
            prompts: 4,
        }
    }
}
