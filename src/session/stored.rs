//! How a session comes back: from its row, and from what was left open when the server stopped.

use std::sync::Arc;

use super::account::Kept;
use super::conversation::uuid_v4;
use super::conversation::{Conversation, Covered, is_uuid};
use super::error::Error;
use super::events::{Failure, PromptAsked, Summary, json, now_ms};
use super::fanout::{Audience, Batch};
use super::log::Log;
use super::prompt::Prompt;
use super::record::storage_error;
use super::session::Session;
use super::state::{Choices, Context, Phase, State};
use crate::config::BYPASS_PERMISSIONS;
use crate::store::{Change, Key, OpenPrompt, PromptRow, PromptState, SessionRow, Submission, Trouble};

impl Session {
    /// The session of that row.
    ///
    /// # Errors
    /// When its history cannot be read.
    pub fn load(row: SessionRow, context: Arc<Context>) -> Result<Arc<Session>, Error> {
        let seq = context.store.last_seq(row.key).map_err(storage_error)?;
        if seq == 0 && row.turns > 0 {
            // Its numbers would begin anew, and be taken for those that clients know.
            log::error!("session {}: none of its events is found", row.id);
            return Err(storage_error(Trouble::Damaged));
        }
        let id: Arc<str> = row.id.as_str().into();
        Ok(Session::of(State::from_row(id, row, seq).allowed_in(&context), context))
    }

    /// Stores a new session. `done` is told when it is on the disk; where it cannot be, the session is gone.
    pub fn store_first(&self, done: impl FnOnce(Result<Summary, Error>) + Send + 'static) {
        let Some(session) = self.itself.upgrade() else { return };
        self.with(|state, _| {
            let mut changes = vec![Change::Session(Box::new(state.row()))];
            changes.extend(state.choices.title.clone().map(|title| Change::Title(state.key, title)));
            let outcome = Box::new(move |outcome: Result<_, _>| match outcome {
                Ok(_) => done(Ok(session.summary())),
                Err(trouble) => {
                    // It may have its process already, which nobody else would stop.
                    session.with(|state, batch| {
                        (state.gone, state.deleted, state.ended) = (true, true, true);
                        state.stop(batch, &session);
                    });
                    session.context.live.remove(&session.id);
                    done(Err(storage_error(trouble)));
                }
            });
            state.submit(&self.context.store);
            let on_its_way = state.on_its_way.clone();
            self.context.store.submit(Submission { changes, done: vec![outcome], refusable: true, on_its_way });
        });
    }

    /// Stores the session as it is, now or when there is room.
    pub fn store(&self) {
        self.with(|state, _| state.changed = true);
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
            last_message: self.conversation.last_message.clone(),
            forked_from: self.conversation.forked_from.clone(),
            title: self.choices.title.clone(),
            title_given: self.title_given,
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
            cost_usd: self.account.cost_usd,
            last_words: self.last_words.clone(),
            failure: self.failure.as_ref().map(json),
            prompts: self.prompts,
            imported_bytes: self.imported_bytes,
            account: Some(Kept::of(&self.account, &self.todos))
                .filter(|kept| *kept != Kept::default())
                .map(|kept| json(&kept)),
        }
    }

    /// The state of a session without a process whose events up to `seq` are stored.
    pub(super) fn from_row(id: Arc<str>, row: SessionRow, seq: u64) -> State {
        let (account, todos) = Kept::in_row(&row).back(row.cost_usd);
        let choices = Choices {
            cwd: row.cwd,
            model: row.model,
            permission_mode: row.permission_mode,
            effort: row.effort,
            title: row.title,
        };
        let failure: Option<Failure> = row.failure.and_then(|failure| serde_json::from_str(&failure).ok());
        State {
            source: source(&row.source),
            created_at: row.created_at,
            last_activity: row.last_activity,
            title_given: row.title_given,
            conversation: Conversation {
                has_turns: row.has_turns,
                forked_from: row.forked_from,
                last_message: row.last_message,
                covered: Covered { seq, text_bytes: 0 },
                ..Conversation::new(row.uuid)
            },
            phase: if failure.as_ref().is_some_and(Failure::is_of_process) { Phase::Failed } else { Phase::Stopped },
            failure,
            model_in_use: row.model_in_use,
            permission_mode_in_use: row.permission_mode_in_use,
            agent_version: row.agent_version,
            ended: row.ended,
            turns: row.turns,
            account,
            todos,
            last_words: row.last_words,
            prompts: row.prompts,
            imported_bytes: row.imported_bytes,
            log: Log::stored_up_to(seq),
            ..State::new(id, row.key, choices, false)
        }
    }

    /// Without a permission mode that was chosen when the server allowed it, if it does not any more.
    pub(super) fn allowed_in(mut self, context: &Context) -> State {
        let may_stay = |mode: &String| context.allow_bypass_permissions || mode != BYPASS_PERMISSIONS;
        self.choices.permission_mode = self.choices.permission_mode.filter(may_stay);
        self.permission_mode_in_use = self.permission_mode_in_use.filter(may_stay);
        self
    }

    fn take_up(&mut self, open: OpenPrompt, batch: &mut Batch) {
        let mut prompt = Prompt {
            number: open.number,
            marked: open.state == PromptState::Written,
            asked: open.seq,
            uuid: open.uuid.filter(|uuid| is_uuid(uuid)).unwrap_or_else(uuid_v4),
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
            // The server was killed between the end of the session and that of the prompt.
            (false, false) if self.ended => return self.cancel_prompt(batch, &prompt),
            (false, false) => return self.queue.push_back(prompt),
        };
        self.record_asked(batch, &mut prompt);
        self.notice_of(batch, "warning", code, text, Some(&prompt.id));
        self.respond_interrupted(batch, &prompt, "");
    }

    /// The event of a prompt whose turn it is; once.
    pub(super) fn record_asked(&mut self, batch: &mut Batch, prompt: &mut Prompt) {
        if prompt.asked.is_some() {
            return;
        }
        self.conversation.expect_answer_behind(self.log.position().seq);
        let (id, seq) = (self.id.clone(), self.log.next_seq());
        prompt.asked = Some(seq);
        let essentials = format!(r#""promptId":{}"#, json(&prompt.id));
        self.record(batch, Audience::All, "prompt", &essentials, |seq| {
            let Prompt { id: prompt_id, uuid, text, attachments, .. } = &*prompt;
            let user_message_id = Some(uuid.as_str());
            json(&PromptAsked { session_id: &id, seq, prompt_id, user_message_id, text, attachments })
        });
        self.pending.push(Change::Asked(self.key, prompt.id.clone(), seq));
    }
}

impl Prompt {
    /// What is stored of it.
    pub(super) fn row(&self, session: Key, state: PromptState) -> PromptRow {
        PromptRow {
            session,
            number: self.number,
            id: self.id.clone(),
            uuid: self.uuid.clone(),
            state,
            time: now_ms(),
            text: self.text.clone(),
            content: self.content.clone(),
            attachments: Some(&self.attachments).filter(|some| !some.is_empty()).map(json),
        }
    }
}

/// The names that there are; lists of older servers may have had others.
fn source(name: &str) -> &'static str {
    if name == "terminal" { "terminal" } else { "here" }
}
