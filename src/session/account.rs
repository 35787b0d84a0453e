//! What a session has cost, and how full the model's context is.
//!
//! Claude tells totals: what is added is what came since its last account. 2.1.197 counts from the start of its process.
//! 2.1.330 counts anew from each `/clear`, and a process that resumes or forks a conversation goes on from what the last
//! one had when it ended by itself, as it also does when the server is killed (killed, it has kept nothing). Which it was
//! shows only in its first account: so what it may go on from is kept ([`Bases`]).
//! Tokens are those of all models, sub-agents included (`modelUsage`); the `usage` of a `result` line is its turn's alone,
//! and leaves sub-agents out.

use serde::{Deserialize, Serialize};

use super::events::{RateLimited, now_ms};
use super::plain::{NAME_CHARS_MAX, shortened};
use super::todos::{Todo, Todos};
use crate::proto::claude::{Context, ModelUsage, Outcome, of};
use crate::store::SessionRow;

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

/// What a process may go on from; from nothing, otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Bases {
    /// What the last process had told: Claude has kept that, if the process ended by itself.
    told: Totals,
    /// What that one went on from: that is still kept, if it was killed.
    saved: Totals,
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

    /// Whether it goes on from `before`, and what is more holds `turn`, all of it.
    fn goes_on_from(&self, before: &Totals, turn: &Usage) -> bool {
        self.cost_usd.is_none_or(|now| now >= before.cost_usd)
            && self.usage.is_none_or(|now| now.goes_on_from(&before.usage, turn))
    }

    /// The base that a process whose first account this is goes on from: that which leaves least, but all of the turn. It
    /// is taken for one by accident where sub-agents alone have used as much as that; then so much is not counted.
    fn base(&self, bases: &Bases, turn: &Usage) -> Totals {
        let fitting = [bases.told, bases.saved].into_iter().filter(|base| self.goes_on_from(base, turn));
        fitting.max_by(|one, other| one.cost_usd.total_cmp(&other.cost_usd)).unwrap_or_default()
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
    /// How much of the user's limits is used, as this session was told last.
    pub rate_limit: Option<RateLimited>,
    /// The model of that message.
    model: Option<String>,
    /// What this process has told until now; nothing before the end of its first turn.
    told: Option<Totals>,
    /// What this process has gone on from, or may.
    bases: Bases,
}

impl Account {
    /// A process starts.
    pub fn begin_process(&mut self) {
        self.bases = self.bases();
        self.told = None;
    }

    /// What the next process of the conversation may go on from, or one that forks it now.
    pub fn bases(&self) -> Bases {
        Bases { told: self.told.unwrap_or(self.bases.told), ..self.bases }
    }

    /// The process that starts may go on from what another session's have counted.
    pub fn begin_fork(&mut self, bases: Bases) {
        self.bases = bases;
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
        let goes_on = self.told.filter(|before| told.goes_on_from(before, &Usage::default()));
        let before = goes_on.unwrap_or_else(|| {
            let counts_anew = self.told.is_some();
            self.bases.saved =
                if counts_anew { Totals::default() } else { told.base(&self.bases, &turn_usage(outcome)) };
            self.bases.saved
        });
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
    rate_limit: Option<RateLimited>,
    todos: Vec<Todo>,
    #[serde(flatten)]
    bases: Bases,
}

impl Kept {
    pub fn of(account: &Account, todos: &Todos) -> Kept {
        let Account { usage, context_tokens, context_window, .. } = *account;
        let (rate_limit, todos) = (account.rate_limit.clone(), todos.list().to_vec());
        Kept { usage, context_tokens, context_window, rate_limit, todos, bases: account.bases() }
    }

    /// Of a fork, which begins with nothing; but its process may go on from what the other's has counted.
    pub fn of_fork(account: &Account) -> Kept {
        Kept { bases: account.bases(), ..Kept::default() }
    }

    /// What is stored with that row.
    pub fn in_row(row: &SessionRow) -> Kept {
        row.account.as_ref().and_then(|kept| serde_json::from_str(kept).ok()).unwrap_or_default()
    }

    pub fn bases(&self) -> Bases {
        self.bases
    }

    pub fn back(self, cost_usd: f64) -> (Account, Todos) {
        let Kept { usage, context_tokens, context_window, rate_limit, todos, bases } = self;
        // One that was renewed since tells nothing.
        let rate_limit = rate_limit.filter(|limit| limit.resets_at.is_none_or(|at| at > now_ms()));
        let account =
            Account { cost_usd, usage, context_tokens, context_window, rate_limit, bases, ..Account::default() };
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

    #[test]
    fn a_limit_is_kept_until_it_is_renewed() {
        let kept = |resets_at: Option<u64>| {
            let limit = RateLimited {
                status: "rejected".into(),
                kind: Some("five_hour".into()),
                resets_at,
                utilization: Some(1.0),
            };
            let account = Account { rate_limit: Some(limit), ..Account::default() };
            let kept = serde_json::to_string(&Kept::of(&account, &Todos::default())).expect("JSON");
            let kept: Kept = serde_json::from_str(&kept).expect("what was written");
            let (back, _) = kept.back(0.0);
            assert!(back.rate_limit.is_none() || back == account);
            back.rate_limit.is_some()
        };
        let in_an_hour = now_ms() + 3_600_000;
        assert_eq!([None, Some(in_an_hour), Some(1)].map(kept), [true, true, false]);
    }

    /// An account as the next process finds it, after one more turn: what that tells of dollars, and of tokens in all and
    /// of its own.
    fn turn(account: &Account, (cost, tokens, own): (f64, u64, u64)) -> Account {
        let kept = serde_json::to_string(&Kept::of(account, &Todos::default())).expect("JSON");
        let kept: Kept = serde_json::from_str(&kept).expect("what was written");
        let (mut account, _) = kept.back(account.cost_usd);
        account.begin_process();
        let tells = format!(
            r#"{{"type":"result","total_cost_usd":{cost},"usage":{{"input_tokens":{own}}},"modelUsage":{{"a":{{"inputTokens":{tokens}}}}}}}"#
        );
        add_line(&mut account, &tells);
        account
    }

    /// 2.1.330 goes on from what a process before had counted, if that one ended by itself; 2.1.197 does not.
    #[test]
    fn a_process_may_go_on_from_what_one_before_has_counted() {
        // What each process tells, and the truth behind all of them.
        type Told = (f64, u64, u64);
        let cases: [(&str, &[Told], (f64, u64)); 8] = [
            ("goes on", &[(2.0, 20, 20), (3.0, 30, 10)], (3.0, 30)),
            ("from nothing", &[(2.0, 20, 20), (1.0, 10, 10)], (3.0, 30)),
            ("from nothing, a large turn", &[(2.0, 20, 20), (5.0, 50, 50)], (7.0, 70)),
            ("a command of its own, goes on", &[(2.0, 20, 20), (2.0, 20, 0)], (2.0, 20)),
            ("a command of its own, from nothing", &[(2.0, 20, 20), (0.0, 0, 0)], (2.0, 20)),
            ("the second was killed", &[(2.0, 20, 20), (3.0, 30, 10), (4.0, 40, 20)], (5.0, 50)),
            ("the second was not", &[(2.0, 20, 20), (3.0, 30, 10), (5.0, 50, 20)], (5.0, 50)),
            ("two were killed", &[(2.0, 20, 20), (3.0, 30, 10), (4.0, 40, 20), (3.5, 35, 15)], (6.5, 65)),
        ];
        for (name, told, (cost, tokens)) in cases {
            let account = told.iter().fold(Account::default(), |account, told| turn(&account, *told));
            assert!((account.cost_usd - cost).abs() < 1e-9, "{name}: {account:?}");
            assert_eq!(account.usage.input_tokens, tokens, "{name}");
        }
    }

    #[test]
    fn nothing_is_gone_on_from_behind_a_clear() {
        let mut account = turn(&turn(&Account::default(), (2.0, 20, 20)), (3.0, 30, 10));
        assert_ne!(account.bases().saved, Totals::default());
        add(&mut account, 0.0, "{}");
        assert_eq!(account.bases(), Bases::default());
    }

    /// So does a fork's, which has cost nothing itself.
    #[test]
    fn a_fork_may_go_on_from_what_the_other_has_counted() {
        let before = turn(&Account::default(), (2.0, 20, 20));
        let after = turn(&before, (3.0, 30, 10));
        for (told, expected) in [((2.5, 25, 5), (0.5, 5)), ((3.25, 32, 2), (0.25, 2)), ((0.125, 1, 1), (0.125, 1))] {
            let (mut fork, _) = Kept::of_fork(&before).back(0.0);
            fork.begin_process();
            fork.begin_fork(after.bases());
            let fork = turn(&fork, told);
            assert_eq!((fork.cost_usd, fork.usage.input_tokens), expected, "{told:?}");
        }
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
