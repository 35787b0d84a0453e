//! A session that goes on from where another is.
//!
//! Claude makes the fork when its first process starts, which may be long after: so where it leaves the other conversation
//! is kept, with the message that was the last then. In the middle of an answer that is a message of the answer, or the one
//! before it, and the history is cut there.

use super::account::{Bases, Kept};
use super::conversation::uuid_v4;
use super::error::Error;
use super::events::WithSession;
use super::events::{json, now_ms};
use super::fanout::{Batch, Reply};
use super::files::Files;
use super::plain::{TITLE_CHARS_MAX, shortened};
use super::prompt::Prompt;
use super::record::storage_error;
use super::session::Session;
use super::state::State;
use crate::claude::command::{Begin, ForkPoint};
use crate::claude::process::Exit;
use crate::store::{Change, PromptState, SessionRow, Submission, Trouble};

/// What a fork gets.
struct Cut {
    /// Where it leaves Claude's conversation; none where there is nothing to go on from.
    point: Option<ForkPoint>,
    /// The last event.
    seq: u64,
    /// The prompt that has no answer yet, if the fork's history has it, and the text that it has.
    unfinished: Option<(Prompt, String)>,
}

impl Session {
    /// Makes a new session of that name that goes on from where this one is.
    pub fn fork(&self, id: &str, reply: Reply) {
        let (context, id) = (self.context.clone(), id.to_owned());
        // Before there is a fork, since the other one may be deleted as soon as there is; and before the lock, since it
        // may take a while. What is noted for a fork that never comes is removed at the next start.
        let files = |id: &str| Files::of(&context.data_dir, id);
        if let Err(error) = files(&id).borrow_from(&files(&self.id)) {
            log::error!("session {}: its fork cannot note whose files it needs: {error}", self.id);
            return reply.fail(&storage_error(Trouble::Full));
        }
        self.with(|state, _| {
            if state.deleted {
                return reply.fail(&Error::invalid_session());
            }
            let key = context.store.new_key();
            let Cut { point, seq, unfinished } = state.cut();
            let asked = state.questions.iter().filter(|question| question.seq <= seq);
            let asked: Vec<String> = asked.map(|question| question.request_id.clone()).collect();
            let row = SessionRow {
                key,
                id,
                source: "here".into(),
                uuid: uuid_v4(),
                has_turns: false,
                last_message: point.as_ref().and_then(|point| point.at.clone()),
                forked_from: point,
                // Told from the other's, and so it stays.
                title_given: state.choices.title.is_some(),
                title: state.choices.title.as_ref().map(|title| shortened(&format!("{title} (fork)"), TITLE_CHARS_MAX)),
                created_at: now_ms(),
                last_activity: now_ms(),
                ended: false,
                cost_usd: 0.0,
                failure: None,
                imported_bytes: 0,
                account: Some(json(&Kept::of_fork(&state.account))),
                ..state.row()
            };
            let mut changes = vec![
                Change::Session(Box::new(row.clone())),
                Change::Title(key, row.title.clone().unwrap_or_default()),
                Change::Fork { to: key, from: state.key, seq },
            ];
            if let Some((prompt, _)) = &unfinished {
                changes.push(Change::Accept(Box::new(prompt.row(key, PromptState::Written))));
                changes.push(Change::Said(key, prompt.text.clone()));
            }
            // What is to be copied is on its way to the store before it.
            state.submit(&context.store);
            let known = context.clone();
            let done = Box::new(move |outcome: Result<_, _>| match outcome {
                Err(trouble) => reply.fail(&storage_error(trouble)),
                Ok(_) => {
                    let session = Session::of(State::from_row(row.id.as_str().into(), row, seq), known.clone());
                    // It can be found since it was committed: whoever was faster has brought it into memory.
                    let there = if known.live.insert(&session) { None } else { known.live.get(&session.id) };
                    let session = there.unwrap_or(session);
                    session.with(|state, batch| {
                        // Who asks goes on in the other session alone.
                        asked.iter().for_each(|id| state.record_resolved(batch, id, "cancelled", "fork"));
                        if let Some((prompt, text)) = unfinished {
                            state.leave_unfinished(&prompt, &text, batch);
                        }
                    });
                    reply.ok(&WithSession { ok: true, session: session.summary() });
                }
            });
            let on_its_way = state.on_its_way.clone();
            context.store.submit(Submission { changes, done: vec![done], refusable: true, on_its_way });
        });
    }

    /// What the process that now makes the fork may go on from counting: the other session may have gone on since it was
    /// forked. `None`: nothing is known but what it was then.
    pub(super) fn bases_of_fork(&self) -> Option<Bases> {
        let begin = self.peek(|state| state.conversation.begin());
        let Begin::Fork(ForkPoint { conversation, .. }) = begin else { return None };
        let found = self.context.store.session_of(&conversation);
        let unknown =
            |trouble: &_| log::warn!("session {}: what it is forked from cannot be read: {trouble:?}", self.id);
        let row = found.inspect_err(unknown).ok()??;
        let Some(other) = self.context.live.get(&row.id) else { return Some(Kept::in_row(&row).bases()) };
        other.peek(|state| (state.conversation.uuid == conversation).then(|| state.account.bases()))
    }
}

impl State {
    /// What a fork of it gets now.
    fn cut(&self) -> Cut {
        let conversation = &self.conversation;
        let in_answer = self.running.is_some() || self.turn.is_some();
        let point = match &conversation.last_message {
            _ if !conversation.has_turns => conversation.forked_from.clone(),
            // All that there is is the beginning of the first answer.
            None if in_answer && self.source == "here" => None,
            at => Some(ForkPoint { conversation: conversation.uuid.clone(), at: at.clone() }),
        };
        if !in_answer {
            return Cut { point, seq: self.log.position().seq, unfinished: None };
        }
        let covered = conversation.covered;
        let running = self.running.as_ref().map(|running| &running.prompt);
        let unfinished = running.filter(|prompt| prompt.asked.is_some_and(|asked| asked <= covered.seq));
        let text = self.turn.as_ref().and_then(|turn| turn.text.get(..covered.text_bytes)).unwrap_or_default();
        Cut { point, seq: covered.seq, unfinished: unfinished.map(|prompt| (prompt.clone(), text.to_owned())) }
    }

    /// Ends, in a new fork, the prompt that the other session goes on with.
    fn leave_unfinished(&mut self, prompt: &Prompt, text: &str, batch: &mut Batch) {
        let notice = "this session was forked in the middle of this answer: here it ends";
        self.notice_of(batch, "info", "forked_in_answer", notice, Some(&prompt.id));
        self.respond_interrupted(batch, prompt, text);
    }

    /// A start has failed. `true`: as a fork, and it is to be started again, another way.
    pub(super) fn mend_fork(&mut self, exit: &Exit, batch: &mut Batch) -> bool {
        let conversation = &mut self.conversation;
        let Some(point) = conversation.forked_from.as_mut().filter(|_| !conversation.has_turns) else { return false };
        conversation.last_message = None;
        if point.at.is_some() && exit.stderr.contains("No message found") {
            point.at = None;
            let text = "Claude does not find where this session was forked: it knows all that the other session has";
            self.notice(batch, "warning", "fork_point_lost", text);
        } else if exit.stderr.contains("No conversation found") {
            conversation.forked_from = None;
            let text = "Claude does not find the conversation that this session was forked from: it begins anew, and \
                        knows nothing of what is above";
            self.notice(batch, "warning", "conversation_lost", text);
        } else {
            return false;
        }
        true
    }
}
