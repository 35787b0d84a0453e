//! What a session has cost, and how full the model's context is.
//!
//! Claude counts dollars and tokens from the start of its process, 2.1.330 also anew from each `/clear`. So what is added is
//! what came since its last account. Tokens are those of all models, sub-agents included (`modelUsage`); the `usage` of a
//! `result` line is its turn's alone, and leaves sub-agents out.

use serde::{Deserialize, Serialize};

use super::state::{NAME_CHARS_MAX, shortened};
use super::todos::{Todo, Todos};
use crate::proto::claude::{Context, ModelUsage, Outcome};

/// Tokens of all models.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Usage {
    /// Read, without those from the cache.
    pub input_tokens: u64,
    /// Written.
    pub output_tokens: u64,
    /// Read from the cache.
    pub cache_read_tokens: u64,
    /// Put into the cache.
    pub cache_creation_tokens: u64,
}

impl Usage {
    fn of<'a>(models: impl Iterator<Item = &'a ModelUsage>) -> Usage {
        models.fold(Usage::default(), |sum, model| Usage {
            input_tokens: sum.input_tokens.saturating_add(model.input_tokens),
            output_tokens: sum.output_tokens.saturating_add(model.output_tokens),
            cache_read_tokens: sum.cache_read_tokens.saturating_add(model.cache_read_input_tokens),
            cache_creation_tokens: sum.cache_creation_tokens.saturating_add(model.cache_creation_input_tokens),
        })
    }

    /// Adds what `now` has more than `before`, both counted from the same beginning; all of it, where it was begun anew.
    fn grow(&mut self, before: &Usage, now: &Usage) {
        let grow = |sum: &mut u64, before: u64, now: u64| {
            *sum = sum.saturating_add(now.checked_sub(before).unwrap_or(now));
        };
        grow(&mut self.input_tokens, before.input_tokens, now.input_tokens);
        grow(&mut self.output_tokens, before.output_tokens, now.output_tokens);
        grow(&mut self.cache_read_tokens, before.cache_read_tokens, now.cache_read_tokens);
        grow(&mut self.cache_creation_tokens, before.cache_creation_tokens, now.cache_creation_tokens);
    }
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Account {
    /// Dollars, of all processes.
    pub cost_usd: f64,
    /// Tokens, of all processes.
    pub usage: Usage,
    /// How much the model was given for the last message of the main conversation.
    pub context_tokens: Option<u64>,
    /// How much it can hold.
    pub context_window: Option<u64>,
    /// The model of that message.
    model: Option<String>,
    /// What this process has told until now.
    told: (f64, Usage),
}

impl Account {
    /// A process starts, and counts from zero.
    pub fn begin_process(&mut self) {
        self.told = Default::default();
    }

    /// The conversation begins anew.
    pub fn begin_conversation(&mut self) {
        self.context_tokens = None;
    }

    /// A message of the main conversation. `true`: that is news.
    pub fn follow(&mut self, context: &Context<'_>) -> bool {
        if self.model.as_deref() != Some(context.model.as_ref()) {
            // After a restart it is not known which it was: most likely the same.
            self.context_window.take_if(|_| self.model.is_some());
            self.model = Some(shortened(&context.model, NAME_CHARS_MAX));
        }
        self.context_tokens.replace(context.tokens) != Some(context.tokens)
    }

    /// The end of a turn. Returns the dollars that have come since the last.
    pub fn add(&mut self, outcome: &Outcome<'_>) -> f64 {
        let (dollars, tokens) = &mut self.told;
        let mut added = 0.0;
        if let Some(total) = outcome.total_cost_usd {
            added = if total >= *dollars { total - *dollars } else { total };
            *dollars = total;
        }
        self.cost_usd += added;
        let now = Usage::of(outcome.model_usage.iter().map(|(_, usage)| usage));
        self.usage.grow(tokens, &now);
        *tokens = now;
        if let Some(window) = self.window(outcome) {
            self.context_window = Some(window);
        }
        added
    }

    /// Of the model that has answered. `modelUsage` may name it with what it was asked for: `claude-opus-4-8[1m]`.
    fn window(&self, outcome: &Outcome<'_>) -> Option<u64> {
        let model = self.model.as_deref()?;
        let is_it = |name: &str| name.strip_prefix(model).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
        let of_model = outcome.model_usage.iter().filter(|(name, _)| is_it(name));
        of_model.map(|(_, usage)| usage.context_window).filter(|window| *window > 0).max()
    }
}

/// What is stored, beside the dollars.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Kept {
    usage: Usage,
    context_tokens: Option<u64>,
    context_window: Option<u64>,
    todos: Vec<Todo>,
}

impl Kept {
    pub fn of(account: &Account, todos: &Todos) -> Kept {
        let Account { usage, context_tokens, context_window, .. } = *account;
        Kept { usage, context_tokens, context_window, todos: todos.list().to_vec() }
    }

    pub fn back(self, cost_usd: f64) -> (Account, Todos) {
        let Kept { usage, context_tokens, context_window, todos } = self;
        (Account { cost_usd, usage, context_tokens, context_window, ..Account::default() }, Todos::of(todos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::claude::{Kind, parse};

    fn add(account: &mut Account, cost: f64, models: &str) -> f64 {
        let line = format!(r#"{{"type":"result","total_cost_usd":{cost},"modelUsage":{models}}}"#);
        let Ok(Kind::Result(outcome)) = parse(line.as_bytes()).map(|line| line.kind) else { panic!("{line}") };
        account.add(&outcome)
    }

    #[test]
    fn what_a_process_tells_is_cumulative() {
        let mut account = Account::default();
        let small = r#"{"a":{"inputTokens":10,"outputTokens":1},"b":{"inputTokens":5,"cacheReadInputTokens":7}}"#;
        assert!((add(&mut account, 0.5, small) - 0.5).abs() < 1e-9);
        assert!(add(&mut account, 0.5, small).abs() < 1e-9);
        let large = r#"{"a":{"inputTokens":30,"outputTokens":2.0},"b":{"inputTokens":5,"cacheReadInputTokens":7}}"#;
        assert!((add(&mut account, 0.75, large) - 0.25).abs() < 1e-9);
        let expected = Usage { input_tokens: 35, output_tokens: 2, cache_read_tokens: 7, cache_creation_tokens: 0 };
        assert_eq!(account.usage, expected);
        assert!((account.cost_usd - 0.75).abs() < 1e-9);
        // The next process, and one that begins to count anew in the middle.
        account.begin_process();
        add(&mut account, 0.25, small);
        add(&mut account, 0.0, "{}");
        add(&mut account, 0.5, small);
        assert!((account.cost_usd - 1.5).abs() < 1e-9);
        assert_eq!(account.usage.input_tokens, 35 + 15 + 15);
    }

    #[test]
    fn the_window_is_that_of_the_model_that_answers() {
        let usage = r#"{"claude-x[1m]":{"contextWindow":1000000},"claude-small":{"contextWindow":200000}}"#;
        for (model, expected) in
            [("claude-x", Some(1_000_000)), ("claude-small", Some(200_000)), ("claude", None), ("other", None)]
        {
            let mut account = Account::default();
            assert!(account.follow(&Context { model: model.into(), tokens: 7 }));
            add(&mut account, 0.0, usage);
            assert_eq!((account.context_tokens, account.context_window), (Some(7), expected), "{model}");
        }
    }
}
