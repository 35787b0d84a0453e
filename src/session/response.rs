//! How a prompt ends: the one `claudeResponse` that each gets.

use std::sync::Arc;

use super::events::{Response, json};
use super::fanout::{Audience, Batch, Stream};
use super::plain::shortened;
use super::prompt::Prompt;
use super::state::State;
use super::turn::Turn;
use crate::proto::claude::Outcome;
use crate::store::{Change, PromptState, response_head};

/// What lists show of the last answer.
const LAST_WORDS_CHARS: usize = 120;

/// How a prompt ended.
pub(super) struct End<'a> {
    /// `done`, `interrupted`, `failed`.
    pub status: &'static str,
    /// What went wrong, in words.
    pub error: Option<&'a str>,
    /// The same for programs, where it has a name.
    pub code: Option<&'a str>,
    /// Claude's own account, and the dollars that the prompt cost.
    pub outcome: Option<(&'a Outcome<'a>, f64)>,
}

impl<'a> End<'a> {
    /// Without an account of Claude's.
    pub fn unaccounted(status: &'static str, error: Option<&'a str>) -> End<'a> {
        End { status, error, code: None, outcome: None }
    }
}

impl State {
    /// Ends the running prompt: the one `claudeResponse` that each prompt gets.
    pub(super) fn finish_prompt(&mut self, batch: &mut Batch, end: &End<'_>) {
        let End { status, error, code, outcome } = *end;
        let Some(running) = self.running.take() else { return };
        // One of Claude's own is not this prompt's.
        let is_ours = |turn: &mut Turn| outcome.is_some() || turn.prompt_id.as_ref() == Some(&running.prompt.id);
        let turn = self.turn.take_if(is_ours);
        let (full_response, lost) = turn.map_or((String::new(), false), |turn| (turn.text, turn.text_lost));
        let duration = outcome.and_then(|(outcome, _)| outcome.duration_ms);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a saturating cast of milliseconds"
        )]
        let response = Response {
            session_id: &self.id,
            prompt_id: &running.prompt.id,
            seq: self.log.position().seq,
            status,
            full_response: &full_response,
            done: true,
            truncated: lost.then_some(true),
            error,
            code,
            usage: outcome.and_then(|(outcome, _)| outcome.usage),
            cost_usd: outcome.map(|(_, dollars)| dollars),
            duration_ms: duration.map(|duration| duration as u64),
        };
        let data = json(&response);
        self.respond(batch, &running.prompt, status, data);
        if !full_response.is_empty() {
            self.last_words = Some(last_words(&full_response));
            self.pending.push(Change::Said(self.key, full_response));
        }
        self.changed = true;
    }

    /// The running prompt ends before Claude got it.
    pub(super) fn finish_unwritten(&mut self, batch: &mut Batch) {
        self.notice(batch, "info", "prompt_cancelled", "this prompt was stopped before it began");
        self.finish_prompt(batch, &End::unaccounted("interrupted", None));
    }

    /// A prompt that waits is not wanted any more.
    pub(super) fn cancel_prompt(&mut self, batch: &mut Batch, prompt: &Prompt) {
        self.notice_of(batch, "info", "prompt_cancelled", "this prompt was taken out of the queue", Some(&prompt.id));
        self.respond_interrupted(batch, prompt, "");
    }

    pub(super) fn clear_queue(&mut self, batch: &mut Batch) {
        for prompt in std::mem::take(&mut self.queue) {
            self.cancel_prompt(batch, &prompt);
            self.changed = true;
        }
    }

    /// The response of a prompt that never ran here, or not to its end.
    pub(super) fn respond_interrupted(&mut self, batch: &mut Batch, prompt: &Prompt, text: &str) {
        let response = Response {
            session_id: &self.id,
            prompt_id: &prompt.id,
            seq: self.log.position().seq,
            status: "interrupted",
            full_response: text,
            done: true,
            truncated: None,
            error: None,
            code: None,
            usage: None,
            cost_usd: None,
            duration_ms: None,
        };
        let data = json(&response);
        self.respond(batch, prompt, "interrupted", data);
        if !text.is_empty() {
            self.pending.push(Change::Said(self.key, text.to_owned()));
        }
    }

    /// Sends a response, and notes that the prompt is over.
    fn respond(&mut self, batch: &mut Batch, prompt: &Prompt, status: &'static str, data: String) {
        batch.event(Audience::Only(Stream::Text), "claudeResponse", &[&data]);
        let response: Arc<str> = data.into();
        self.log.end_prompt(response.clone());
        self.pending.push(Change::Ended {
            session: self.key,
            id: prompt.id.clone(),
            state: match status {
                "done" => PromptState::Done,
                "failed" => PromptState::Failed,
                _ => PromptState::Interrupted,
            },
            end_seq: self.log.position().seq,
            response,
            rest_at: response_head(&self.id).len(),
        });
    }
}

/// The end of an answer, on one line.
fn last_words(text: &str) -> String {
    let line = shortened(text, usize::MAX);
    match line.char_indices().rev().nth(LAST_WORDS_CHARS - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &line[at..]),
        _ => line,
    }
}
