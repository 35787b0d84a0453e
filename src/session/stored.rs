//! How a session comes back: from its row, and from what was left open when the server stopped.

use std::sync::Arc;

use super::error::Error;
use super::events::{PromptAsked, Summary, json, now_ms};
use super::fanout::{Audience, Batch, Reply};
use super::log::Log;
use super::prompt::WithSession;
use super::session::Session;
use super::state::{
    Choices, Context, Conversation, Phase, Prompt, State, TITLE_CHARS_MAX, shortened, storage_error, uuid_v4,
};
use crate::store::{Change, OpenPrompt, PromptState, SessionRow, Submission};

impl Session {
    /// The session of that row.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn load(row: SessionRow, context: Arc<Context>) -> Result<Arc<Session>, Error> {
        let seq = context.store.last_seq(row.key).map_err(storage_error)?;
        let id: Arc<str> = row.id.as_str().into();
        Ok(Session::of(State::from_row(id, row, seq), context))
    }

    /// Stores a new session. `done` is told when it is on the disk; where it cannot be, the session is gone.
    pub fn store_first(&self, done: impl FnOnce(Result<Summary, Error>) + Send + 'static) {
        let Some(session) = self.itself.upgrade() else { return };
        self.with(|state, _| {
            let mut changes = vec![Change::Session(Box::new(state.row()))];
            changes.extend(state.choices.title.clone().map(|title| Change::Text(state.key, 0, title)));
            let outcome = Box::new(move |outcome: Result<_, _>| match outcome {
                Ok(_) => done(Ok(session.summary())),
                Err(trouble) => {
                    session.with(|state, _| (state.gone, state.deleted) = (true, true));
                    session.context.live.remove(&session.id);
                    done(Err(storage_error(trouble)));
                }
            });
            state.submit(&self.context.store);
            let on_its_way = state.on_its_way.clone();
            self.context.store.submit(Submission { changes, done: vec![outcome], refusable: true, on_its_way });
        });
    }

    /// What this server was started with goes before what the session had.
    pub fn choose(&self, given: &Choices) {
        self.with(|state, _| {
            let choices = &mut state.choices;
            choices.cwd.clone_from(&given.cwd);
            let choose = |had: &mut Option<String>, given: &Option<String>| {
                let other = given.is_some() && had != given;
                if other {
                    had.clone_from(given);
                }
                other
            };
            if choose(&mut choices.model, &given.model) {
                state.model_in_use = None;
            }
            if choose(&mut choices.permission_mode, &given.permission_mode) {
                state.permission_mode_in_use = None;
            }
            choose(&mut choices.effort, &given.effort);
            state.changed = true;
        });
    }

    /// Makes a new session of that name that goes on from where this one is.
    pub fn fork(&self, id: &str, reply: Reply) {
        let (context, id) = (self.context.clone(), id.to_owned());
        self.with(|state, _| {
            if state.deleted {
                return reply.fail(&Error::invalid_session());
            }
            let key = context.store.new_key();
            let row = SessionRow {
                key,
                id,
                source: "here".into(),
                uuid: uuid_v4(),
                has_turns: false,
                forked_from: (state.conversation.has_turns)
                    .then(|| state.conversation.uuid.clone())
                    .or_else(|| state.conversation.forked_from.clone()),
                title: state.choices.title.as_ref().map(|title| shortened(&format!("{title} (fork)"), TITLE_CHARS_MAX)),
                created_at: now_ms(),
                last_activity: now_ms(),
                ended: false,
                cost_usd: 0.0,
                failure: None,
                imported_bytes: 0,
                ..state.row()
            };
            let seq = state.log.position().seq;
            let changes = vec![
                Change::Session(Box::new(row.clone())),
                Change::Text(key, 0, row.title.clone().unwrap_or_default()),
                Change::Fork { to: key, from: state.key, seq },
            ];
            // What is to be copied is on its way to the store before it.
            state.submit(&context.store);
            let known = context.clone();
            let done = Box::new(move |outcome: Result<_, _>| match outcome {
                Err(trouble) => reply.fail(&storage_error(trouble)),
                Ok(_) => {
                    let session = Session::of(State::from_row(row.id.as_str().into(), row, seq), known.clone());
                    known.live.insert(&session);
                    reply.ok(&WithSession { ok: true, session: session.summary() });
                }
            });
            let on_its_way = state.on_its_way.clone();
            context.store.submit(Submission { changes, done: vec![done], refusable: true, on_its_way });
        });
    }

    /// Takes up what was open when the server stopped. What was accepted runs now; what may have been with Claude is
    /// interrupted, and never runs again by itself.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn take_up(&self) -> Result<(), Error> {
        let store = &self.context.store;
        let prompts = store.open_prompts(self.key).map_err(storage_error)?;
        let questions = store.open_questions(self.key).map_err(storage_error)?;
        if prompts.is_empty() && questions.is_empty() {
            return Ok(());
        }
        log::info!("session {}: takes up {} prompt(s) of the server before", self.id, prompts.len());
        self.with(|state, batch| {
            for request_id in questions {
                state.record_resolved(batch, &request_id, "cancelled", "restart");
            }
            for prompt in prompts {
                state.take_up(prompt, batch);
            }
            state.changed = true;
            state.advance(batch, self);
        });
        Ok(())
    }
}

impl State {
    /// What lists show of it, and what the next start needs.
    pub(super) fn row(&self) -> SessionRow {
        SessionRow {
            key: self.key,
            id: self.id.to_string(),
            source: self.source.to_owned(),
            uuid: self.conversation.uuid.clone(),
            has_turns: self.conversation.has_turns,
            forked_from: self.conversation.forked_from.clone(),
            title: self.choices.title.clone(),
            cwd: self.choices.cwd.clone(),
            model: self.choices.model.clone(),
            permission_mode: self.choices.permission_mode.clone(),
            effort: self.choices.effort.clone(),
            model_in_use: self.model_in_use.clone(),
            permission_mode_in_use: self.permission_mode_in_use.clone(),
            agent_version: self.agent_version.clone(),
            created_at: self.created_at,
            last_activity: self.last_activity,
            ended: self.ended,
            turns: self.turns,
            cost_usd: self.cost_usd,
            last_words: self.last_words.clone(),
            failure: self.failure.as_ref().map(json),
            prompts: self.prompts,
            imported_bytes: self.imported_bytes,
        }
    }

    /// The state of a session without a process whose events up to `seq` are stored.
    pub(super) fn from_row(id: Arc<str>, row: SessionRow, seq: u64) -> State {
        let choices = Choices {
            cwd: row.cwd,
            model: row.model,
            permission_mode: row.permission_mode,
            effort: row.effort,
            title: row.title,
        };
        let failure = row.failure.and_then(|failure| serde_json::from_str(&failure).ok());
        State {
            source: source(&row.source),
            created_at: row.created_at,
            last_activity: row.last_activity,
            conversation: Conversation {
                uuid: row.uuid,
                has_turns: row.has_turns,
                tried_other: false,
                forked_from: row.forked_from,
            },
            phase: if failure.is_some() { Phase::Failed } else { Phase::Stopped },
            failure,
            model_in_use: row.model_in_use,
            permission_mode_in_use: row.permission_mode_in_use,
            agent_version: row.agent_version,
            ended: row.ended,
            turns: row.turns,
            cost_usd: row.cost_usd,
            last_words: row.last_words,
            prompts: row.prompts,
            imported_bytes: row.imported_bytes,
            log: Log::stored_up_to(seq),
            ..State::new(id, row.key, choices, false)
        }
    }

    fn take_up(&mut self, open: OpenPrompt, batch: &mut Batch) {
        let asked = open.seq.is_some();
        let prompt = Prompt {
            number: open.number,
            marked: open.state == PromptState::Written,
            asked,
            id: open.id,
            text: open.text,
            content: open.content,
            attachments: open.attachments.and_then(|list| serde_json::from_str(&list).ok()).unwrap_or_default(),
        };
        let (code, text) = match (open.is_damaged, prompt.marked) {
            (true, _) => ("storage_damaged", "what was stored of this prompt is damaged: ask again"),
            (false, true) => (
                "interrupted_by_restart",
                "the server was stopped while this prompt was with Claude: ask again if it is still wanted",
            ),
            (false, false) => return self.queue.push_back(prompt),
        };
        self.record_asked(batch, &prompt);
        self.notice_of(batch, "warning", code, text, Some(&prompt.id));
        self.respond_unasked(batch, &prompt);
    }

    /// The event of a prompt whose turn it is; once.
    pub(super) fn record_asked(&mut self, batch: &mut Batch, prompt: &Prompt) {
        if prompt.asked {
            return;
        }
        let (id, seq) = (self.id.clone(), self.log.next_seq());
        let essentials = format!(r#""promptId":{}"#, json(&prompt.id));
        self.record(batch, Audience::All, "prompt", &essentials, |seq| {
            let Prompt { id: prompt_id, text, attachments, .. } = prompt;
            json(&PromptAsked { session_id: &id, seq, prompt_id, text, attachments })
        });
        self.pending.push(Change::Asked(self.key, prompt.id.clone(), seq));
    }
}

/// The names that there are; lists of older servers may have had others.
fn source(name: &str) -> &'static str {
    if name == "terminal" { "terminal" } else { "here" }
}
