//! What a session has cost, and how full the model's context is.
//!
//! Claude tells totals: what is added is what came since its last account. 2.1.197 counts from the start of its process.
//! 2.1.330 counts anew from each `/clear`, and a process that resumes or forks a conversation goes on from what the last
//! one had when it ended well (killed, it has kept nothing).
//! Tokens are those of all models, sub-agents included (`modelUsage`); the `usage` of a `result` line is its turn's alone,
//! and leaves sub-agents out.

use serde::{Deserialize, Serialize};

use super::state::{NAME_CHARS_MAX, shortened};
use super::todos::{Todo, Todos};
use crate::proto::claude::{Context, ModelUsage, Outcome, of};

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

    /// Adds what `now` has more than `before`, both counted from the same beginning.
    fn grow(&mut self, before: &Usage, now: &Usage) {
        let (before, now) = (before.counts(), now.counts());
        for (n, sum) in self.counts_mut().into_iter().enumerate() {
            *sum = sum.saturating_add(now[n].saturating_sub(before[n]));
        }
    }

    /// Whether it goes on from `before`, and what is more holds `turn`, all of it.
    fn goes_on_from(&self, before: &Usage, turn: &Usage) -> bool {
        let counts = before.counts().into_iter().zip(self.counts()).zip(turn.counts());
        { counts }.all(|((before, now), turn)| now.checked_sub(before) >= Some(turn))
    }

    fn counts(&self) -> [u64; 4] {
        [self.input_tokens, self.output_tokens, self.cache_read_tokens, self.cache_creation_tokens]
    }

    fn counts_mut(&mut self) -> [&mut u64; 4] {
        [&mut self.input_tokens, &mut self.output_tokens, &mut self.cache_read_tokens, &mut self.cache_creation_tokens]
    }
}

/// What Claude has counted, from wherever it counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Totals {
    cost_usd: f64,
    usage: Usage,
}

/// What the end of a turn tells of Claude's totals, as far as it can be read.
struct Told {
    cost_usd: Option<f64>,
    usage: Option<Usage>,
}

impl Told {
    fn of(outcome: &Outcome<'_>) -> Told {
        let models = outcome.model_usage.as_ref();
        Told {
            cost_usd: outcome.total_cost_usd,
            usage: models.map(|models| Usage::of(models.iter().map(|(_, usage)| usage))),
        }
    }

    /// Whether it goes on from `before`, and what is more holds `turn`, all of it. It does so by accident where sub-agents
    /// alone have used as much as a process's first account is compared with; then so much is not counted.
    fn goes_on_from(&self, before: &Totals, turn: &Usage) -> bool {
        self.cost_usd.is_none_or(|now| now >= before.cost_usd)
            && self.usage.is_none_or(|now| now.goes_on_from(&before.usage, turn))
    }

    /// The totals, if they were these before.
    fn after(&self, before: &Totals) -> Totals {
        Totals { cost_usd: self.cost_usd.unwrap_or(before.cost_usd), usage: self.usage.unwrap_or(before.usage) }
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
    /// What this process has told until now; nothing before the end of its first turn.
    told: Option<Totals>,
    /// What the last process that has ended well had told: the next one may go on from that.
    saved: Totals,
}

impl Account {
    /// A process starts.
    pub fn begin_process(&mut self) {
        self.told = None;
    }

    /// A process has ended by itself, as it should, and kept what it has counted.
    pub fn end_process_well(&mut self) {
        self.saved = self.told.take().unwrap_or(self.saved);
    }

    /// The conversation begins anew. `true`: that is news.
    pub fn begin_conversation(&mut self) -> bool {
        self.context_tokens.take().is_some()
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
        let told = Told::of(outcome);
        if let Some(window) = self.window(outcome) {
            self.context_window = Some(window);
        }
        if told.cost_usd.is_none() && told.usage.is_none() {
            return 0.0;
        }
        let before = match self.told {
            Some(before) => Some(before).filter(|before| told.goes_on_from(before, &Usage::default())),
            None => Some(self.saved).filter(|saved| told.goes_on_from(saved, &turn_usage(outcome))),
        };
        // Otherwise it counts from nothing, or anew.
        let before = before.unwrap_or_default();
        let now = told.after(&before);
        let added = now.cost_usd - before.cost_usd;
        self.cost_usd = (self.cost_usd + added).min(f64::MAX);
        self.usage.grow(&before.usage, &now.usage);
        self.told = Some(now);
        added
    }

    /// Of the model that has answered. `modelUsage` may name it with what it was asked for: `claude-opus-4-8[1m]`.
    fn window(&self, outcome: &Outcome<'_>) -> Option<u64> {
        let model = self.model.as_deref()?;
        let is_it = |name: &str| name.strip_prefix(model).is_some_and(|rest| rest.is_empty() || rest.starts_with('['));
        let of_model = outcome.model_usage.iter().flatten().filter(|(name, _)| is_it(name));
        of_model.map(|(_, usage)| usage.context_window).filter(|window| *window > 0).max()
    }
}

/// What a turn has used, sub-agents left out.
fn turn_usage(outcome: &Outcome<'_>) -> Usage {
    Usage::of(of(outcome.usage).iter())
}

/// What is stored, beside the dollars.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Kept {
    usage: Usage,
    context_tokens: Option<u64>,
    context_window: Option<u64>,
    todos: Vec<Todo>,
    saved: Totals,
}

impl Kept {
    pub fn of(account: &Account, todos: &Todos) -> Kept {
        let Account { usage, context_tokens, context_window, saved, .. } = *account;
        Kept { usage, context_tokens, context_window, todos: todos.list().to_vec(), saved }
    }

    /// Of a fork, which begins with nothing; but its process may go on from what the other's has counted.
    pub fn of_fork(account: &Account) -> Kept {
        Kept { saved: account.saved, ..Kept::default() }
    }

    pub fn back(self, cost_usd: f64) -> (Account, Todos) {
        let Kept { usage, context_tokens, context_window, todos, saved } = self;
        let account = Account { cost_usd, usage, context_tokens, context_window, saved, ..Account::default() };
        (account, Todos::of(todos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::claude::{Kind, parse};

    fn add_line(account: &mut Account, line: &str) -> f64 {
        let Ok(Kind::Result(outcome)) = parse(line.as_bytes()).map(|line| line.kind) else { panic!("{line}") };
        account.add(&outcome)
    }

    fn add(account: &mut Account, cost: f64, models: &str) -> f64 {
        add_line(account, &format!(r#"{{"type":"result","total_cost_usd":{cost},"modelUsage":{models}}}"#))
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

    /// 2.1.330 goes on from what the last process had counted, if it ended well; 2.1.197 does not.
    #[test]
    fn a_process_may_go_on_from_what_the_last_has_counted() {
        let turn = |account: &mut Account, cost: f64, tokens: u64, turn: u64| {
            let line = format!(
                r#"{{"type":"result","total_cost_usd":{cost},"usage":{{"input_tokens":{turn}}},"modelUsage":{{"a":{{"inputTokens":{tokens}}}}}}}"#
            );
            let Ok(Kind::Result(outcome)) = parse(line.as_bytes()).map(|line| line.kind) else { panic!("{line}") };
            account.add(&outcome)
        };
        let after_two_turns = || {
            let mut account = Account::default();
            turn(&mut account, 1.0, 10, 10);
            turn(&mut account, 2.0, 20, 10);
            account
        };
        // Whether the process ended well, what the next tells first, and what is the truth.
        let cases = [
            ("goes on", true, (3.0, 30, 10), (3.0, 30)),
            ("from zero", true, (1.0, 10, 10), (3.0, 30)),
            ("from zero, a large turn", true, (5.0, 50, 50), (7.0, 70)),
            ("killed", false, (1.0, 10, 10), (3.0, 30)),
            ("killed, a large turn", false, (5.0, 50, 50), (7.0, 70)),
            ("a command of its own, goes on", true, (2.0, 20, 0), (2.0, 20)),
            ("a command of its own, from zero", true, (0.0, 0, 0), (2.0, 20)),
        ];
        for (name, well, (cost, tokens, of_turn), (cost_after, tokens_after)) in cases {
            let mut account = after_two_turns();
            if well {
                account.end_process_well();
            }
            let kept = serde_json::to_string(&Kept::of(&account, &Todos::default())).expect("JSON");
            let kept: Kept = serde_json::from_str(&kept).expect("what was written");
            let (mut account, _) = kept.back(account.cost_usd);
            account.begin_process();
            turn(&mut account, cost, tokens, of_turn);
            assert!((account.cost_usd - cost_after).abs() < 1e-9, "{name}: {account:?}");
            assert_eq!(account.usage.input_tokens, tokens_after, "{name}");
        }
        // So does a fork's, which has cost nothing itself.
        let mut account = after_two_turns();
        account.end_process_well();
        let (mut fork, _) = Kept::of_fork(&account).back(0.0);
        assert!((turn(&mut fork, 2.5, 25, 5) - 0.5).abs() < 1e-9);
        assert_eq!(fork.usage.input_tokens, 5);
    }

    #[test]
    fn what_cannot_be_counted_changes_nothing() {
        let mut account = Account::default();
        let small = r#"{"a":{"inputTokens":10}}"#;
        add(&mut account, 0.5, small);
        let before = account.clone();
        for line in [
            r#"{"type":"result"}"#,
            r#"{"type":"result","total_cost_usd":-1,"modelUsage":null}"#,
            r#"{"type":"result","total_cost_usd":1e999,"modelUsage":{"a":{"inputTokens":-1}}}"#,
            r#"{"type":"result","total_cost_usd":"NaN","modelUsage":{"a":{"inputTokens":9007199254740992}}}"#,
            r#"{"type":"result","total_cost_usd":0.5,"modelUsage":{"a":{"inputTokens":10},"b":7}}"#,
        ] {
            assert!(add_line(&mut account, line).abs() < 1e-9, "{line}");
            assert_eq!(account, before, "{line}");
        }
        // Only one of both is told, by the first account of a process, too.
        account.end_process_well();
        account.begin_process();
        assert!((add_line(&mut account, r#"{"type":"result","total_cost_usd":0.75}"#) - 0.25).abs() < 1e-9);
        add(&mut account, 0.75, r#"{"a":{"inputTokens":12}}"#);
        assert_eq!(account.usage.input_tokens, 12);
        for cost in [f64::MAX, 0.0, f64::MAX] {
            let added = add(&mut account, cost, "{}");
            assert!(added.is_finite() && account.cost_usd.is_finite(), "{account:?}");
        }
        let most = Usage { input_tokens: u64::MAX, ..Usage::default() };
        account.usage = most;
        add(&mut account, 0.0, small);
        assert_eq!(account.usage, most);
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
