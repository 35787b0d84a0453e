//! When Claude could not ask the model: a code for programs, and a sentence that tells a person what to do.
//!
//! Claude says itself in the model's place what went wrong, and ends the turn with `is_error`. What it was is told by two
//! fields on every version: the word in `error` of the `assistant` line, and `api_error_status` of the `result`. The
//! same two are in each `api_retry`, with which Claude tells that it waits and tries again. English is never looked at.

use super::events::{Failure, Retrying, now_ms};
use super::fanout::Batch;
use super::plain::shortened;
use super::state::State;
use crate::proto::claude::{Outcome, Retry};

/// Claude's own sentence about it is cut.
const SAID_CHARS_MAX: usize = 400;

/// What the API has against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    NotLoggedIn,
    BadKey,
    AccountRefused,
    Billing,
    RateLimited,
    NoNetwork,
    ModelRefused,
    Overloaded,
    PromptTooLong,
    Other,
}

impl Trouble {
    /// `error`: Claude's word for it. `status`: what the API answered with, if it answered.
    fn of(error: &str, status: Option<u16>) -> Trouble {
        match (error, status) {
            (_, Some(529)) | ("overloaded", _) => Trouble::Overloaded,
            ("authentication_failed", None) => Trouble::NotLoggedIn,
            ("authentication_failed" | "cloud_credential_error", _) | ("", Some(401)) => Trouble::BadKey,
            ("oauth_org_not_allowed" | "account_on_hold" | "verification_required", _) => Trouble::AccountRefused,
            ("billing_error", _) => Trouble::Billing,
            ("rate_limit", _) | (_, Some(429)) => Trouble::RateLimited,
            ("model_not_found", _) => Trouble::ModelRefused,
            // There was no answer at all.
            ("server_error" | "unknown", None) => Trouble::NoNetwork,
            _ => Trouble::Other,
        }
    }

    /// What made a turn fail. `error`: the last that Claude said in the model's place.
    fn of_turn(error: Option<&str>, outcome: &Outcome<'_>) -> Option<Trouble> {
        if !outcome.is_error || outcome.subtype != "success" {
            return None;
        }
        match (outcome.terminal_reason.as_deref(), error, outcome.api_error_status) {
            (Some("prompt_too_long"), ..) => Some(Trouble::PromptTooLong),
            // Nothing says that it was the API.
            (_, None, None) => None,
            (_, error, status) => Some(Trouble::of(error.unwrap_or_default(), status)),
        }
    }

    /// Its name on the wire.
    pub fn code(self) -> &'static str {
        match self {
            Trouble::NotLoggedIn => "not_logged_in",
            Trouble::BadKey => "bad_key",
            Trouble::AccountRefused => "account_refused",
            Trouble::Billing => "billing",
            Trouble::RateLimited => "api_rate_limited",
            Trouble::NoNetwork => "no_network",
            Trouble::ModelRefused => "model_refused",
            Trouble::Overloaded => "overloaded",
            Trouble::PromptTooLong => "prompt_too_long",
            Trouble::Other => "api_error",
        }
    }

    /// What it is, and what to do about it.
    fn sentence(self) -> &'static str {
        match self {
            Trouble::NotLoggedIn => {
                "Claude is not logged in: run `claude` in a terminal on the server's machine and log in, then ask again"
            }
            Trouble::BadKey => {
                "the API refuses the key or login that Claude has: run `claude` in a terminal on the server's machine and log in, or correct the key in the server's environment"
            }
            Trouble::AccountRefused => {
                "the API refuses this account: run `claude` in a terminal on the server's machine to see what it wants"
            }
            Trouble::Billing => "the API wants to be paid: check the account's balance or plan, then ask again",
            Trouble::RateLimited => "the account's limit is used up for now: wait until it is renewed, then ask again",
            Trouble::NoNetwork => {
                "the API cannot be reached: check the network of the server's machine, then ask again"
            }
            Trouble::ModelRefused => "the API does not give this model to this account: choose another one",
            Trouble::Overloaded => "the API is overloaded: ask again in a moment",
            Trouble::PromptTooLong => {
                "the conversation is too long for the model: send /compact, or begin a new session"
            }
            Trouble::Other => {
                "the API has answered with an error: ask again, and if that does not help, read what it says"
            }
        }
    }
}

impl State {
    /// A turn has failed. Returns the code and the sentence for its prompt, if the API is to blame; then viewers are told,
    /// and the summary says so until a turn ends well.
    pub(super) fn on_trouble(&mut self, outcome: &Outcome<'_>, batch: &mut Batch) -> Option<(&'static str, String)> {
        let error = self.turn.as_ref().and_then(|turn| turn.error.as_deref());
        let trouble = Trouble::of_turn(error, outcome)?;
        let said = shortened(outcome.result.as_deref().unwrap_or_default(), SAID_CHARS_MAX);
        let sentence = trouble.sentence();
        let message = if said.is_empty() { sentence.to_owned() } else { format!("{sentence}. Claude says: {said}") };
        log::warn!("session {}: {}: {message}", self.id, trouble.code());
        self.notice(batch, "error", trouble.code(), &message);
        let failure = Failure { code: trouble.code().to_owned(), message: message.clone(), stderr: String::new() };
        self.failure = Some(failure);
        Some((trouble.code(), message))
    }

    /// The API did not answer as it should, and Claude tries again: a notice for the first time in a row, since there may
    /// be many, and in the summary for how long it waits.
    pub(super) fn on_retry(&mut self, retry: &Retry<'_>, batch: &mut Batch) {
        let trouble = Trouble::of(&retry.error, retry.status);
        if self.retrying.as_ref().is_none_or(|before| before.code != trouble.code()) {
            let text =
                format!("{}. Claude tries again by itself, {} times at most", trouble.sentence(), retry.attempts_max);
            self.notice(batch, "warning", trouble.code(), &text);
        }
        self.retrying = Some(Retrying {
            code: trouble.code(),
            attempt: retry.attempt,
            attempts_max: retry.attempts_max,
            until: now_ms().saturating_add(retry.delay_ms),
        });
        self.changed = true;
    }

    /// The API has answered somebody. Where several agents ask at once, that need not be the one that tries again, until
    /// it has tried.
    pub(super) fn end_past_retry(&mut self) {
        if self.retrying.as_ref().is_some_and(|retrying| retrying.until <= now_ms()) {
            self.end_retry();
        }
    }

    /// The API has answered, or the turn is over.
    pub(super) fn end_retry(&mut self) {
        self.changed |= self.retrying.take().is_some();
    }
}

impl Failure {
    /// Whether the process itself is to blame, which is gone then.
    pub(super) fn is_of_process(&self) -> bool {
        matches!(self.code.as_str(), "agent_failed" | "internal")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::claude::{Kind, parse};

    #[test]
    fn what_the_fields_say_has_a_code() {
        let cases = [
            ("authentication_failed", "null", "api_error", "not_logged_in"),
            ("authentication_failed", "401", "api_error", "bad_key"),
            ("authentication_failed", "403", "completed", "bad_key"),
            ("cloud_credential_error", "null", "api_error", "bad_key"),
            ("account_on_hold", "403", "api_error", "account_refused"),
            ("billing_error", "400", "completed", "billing"),
            ("rate_limit", "429", "api_error", "api_rate_limited"),
            ("rate_limit", "null", "api_error", "api_rate_limited"),
            ("model_not_found", "404", "api_error", "model_refused"),
            ("server_error", "529", "completed", "overloaded"),
            ("server_error", "500", "completed", "api_error"),
            ("server_error", "null", "completed", "no_network"),
            ("unknown", "null", "completed", "no_network"),
            ("invalid_request", "400", "prompt_too_long", "prompt_too_long"),
            ("invalid_request", "400", "completed", "api_error"),
            ("never_heard_of", "null", "never_heard_of", "api_error"),
        ];
        for (error, status, reason, expected) in cases {
            let line = format!(
                r#"{{"type":"result","subtype":"success","is_error":true,"api_error_status":{status},"terminal_reason":"{reason}"}}"#
            );
            let Ok(Kind::Result(outcome)) = parse(line.as_bytes()).map(|line| line.kind) else { panic!("{line}") };
            let trouble = Trouble::of_turn(Some(error), &outcome).map(Trouble::code);
            assert_eq!(trouble, Some(expected), "{error} {status} {reason}");
        }
    }

    #[test]
    fn an_interrupt_is_no_trouble() {
        for line in [
            r#"{"type":"result","subtype":"error_during_execution","is_error":true}"#,
            r#"{"type":"result","subtype":"error_max_turns","is_error":true}"#,
            r#"{"type":"result","subtype":"success","is_error":false,"api_error_status":429}"#,
        ] {
            let Ok(Kind::Result(outcome)) = parse(line.as_bytes()).map(|line| line.kind) else { panic!("{line}") };
            assert_eq!(Trouble::of_turn(Some("rate_limit"), &outcome), None, "{line}");
        }
        let line = br#"{"type":"result","subtype":"success","is_error":true}"#;
        let Ok(Kind::Result(outcome)) = parse(line).map(|line| line.kind) else { panic!("a result") };
        assert_eq!(Trouble::of_turn(None, &outcome), None, "nobody says that it was the API");
    }
}
