//! What Claude's lines tell beside the answer: it stands in the summary, which goes out when that changes.

use serde_json::value::RawValue;

use super::events::RateLimited;
use super::fanout::Batch;
use super::plain::{NAME_CHARS_MAX, shortened};
use super::state::State;
use super::tasks::is_over;
use crate::proto::claude::{Kind, RateLimit};

/// A list of what Claude knows (commands, models, agents) that is longer is not passed on: `getSession` tells all three.
const KNOWN_BYTES_MAX: usize = 192 << 10;

/// Limits of an account of which it is remembered that viewers were warned.
const LIMITS_MAX: usize = 16;

/// A list of what Claude knows, if it is one and may be passed on.
pub(super) fn known(list: &RawValue) -> Option<Box<RawValue>> {
    (list.get().starts_with('[') && list.get().len() <= KNOWN_BYTES_MAX).then(|| list.to_owned())
}

impl State {
    /// Takes note of a line; of a piece of the answer there is nothing to note.
    pub(super) fn on_aside(&mut self, line: &Kind<'_>, batch: &mut Batch) {
        let changed = match line {
            Kind::Assistant { tool_uses, context, .. } => {
                self.end_past_retry();
                tool_uses.iter().for_each(|tool| self.todos.on_use(tool));
                context.as_ref().is_some_and(|context| self.account.follow(context))
            }
            Kind::User { tool_results, tool_outcome, .. } => self.todos.on_result(tool_results, *tool_outcome),
            Kind::BackgroundTasks(all) => self.tasks.replace(all),
            Kind::Task { subtype, news } => {
                if is_over(subtype, news) {
                    let id = shortened(&news.task.id, NAME_CHARS_MAX);
                    self.close_questions(batch, |question| question.agent.as_ref() == Some(&id));
                }
                self.tasks.follow(subtype, news)
            }
            Kind::RateLimit(limit) => self.on_rate_limit(limit, batch),
            Kind::Retry(retry) => {
                self.on_retry(retry, batch);
                true
            }
            Kind::Compacted => self.account.begin_conversation(),
            Kind::PermissionMode(mode) => {
                self.follow_permission_mode(mode);
                false
            }
            Kind::Commands(list) => {
                // Where the new one may not be passed on, better an old one than none.
                self.commands = known(list).or(self.commands.take());
                false
            }
            Kind::Title(title) => {
                self.on_title(title);
                false
            }
            _ => false,
        };
        self.changed |= changed;
    }

    /// Another conversation has begun: what was told of the last does not hold for it.
    pub(super) fn forget_asides(&mut self) {
        let (had_context, had_todos) = (self.account.begin_conversation(), self.todos.clear());
        self.changed |= had_context || had_todos;
    }

    /// How much of the account's limits is used: viewers are told when it comes near the end. `true`: that is news.
    fn on_rate_limit(&mut self, limit: &RateLimit<'_>, batch: &mut Batch) -> bool {
        let name = |name: &str| shortened(name, NAME_CHARS_MAX);
        let now = RateLimited {
            status: name(&limit.status),
            kind: limit.kind.as_deref().map(name),
            resets_at: limit.resets_at.map(|seconds| seconds.saturating_mul(1000)),
            utilization: limit.utilization,
        };
        let before = self.account.rate_limit.replace(now.clone());
        if before.as_ref() == Some(&now) {
            return false;
        }
        // There are several limits, of which Claude may tell in turn.
        let warned = self.limits_warned.iter().position(|kind| *kind == now.kind);
        if now.status != "allowed_warning" {
            warned.map(|at| self.limits_warned.swap_remove(at));
        } else if warned.is_none() && self.limits_warned.len() < LIMITS_MAX {
            self.limits_warned.push(now.kind.clone());
            let which = now.kind.as_deref().map(|kind| format!(" ({kind})")).unwrap_or_default();
            let text = format!("the account's limit{which} is nearly used up");
            self.notice(batch, "warning", "rate_limit_warning", &text);
        }
        true
    }
}
