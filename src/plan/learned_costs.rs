//! The costs that this process has learned from the ledger, and how long they are used.

use std::time::{Duration, Instant};

use super::compaction_advice::{Advice, compaction};
use super::ledger::{Ledger, TokenCounts};
use super::token_costs::{Fit, fit};
use crate::storage::clock::now_ms;
use crate::storage::remembered::Remembered;

/// The windows whose costs are learned.
pub(super) const WINDOWS: [&str; 2] = ["5h", "7d"];

/// Days of the ledger that costs are learned from, at least.
pub(super) const LEARNED_FROM_DAYS: i64 = 14;

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Accounts whose costs are remembered.
const MAX_ACCOUNTS: usize = 256;

/// How long costs are used before the ledger is read again.
const COSTS_AGE: Duration = Duration::from_secs(600);

/// The costs that this process has learned, by account. Fitting two weeks takes long enough to do it rarely.
#[derive(Debug, Default)]
pub struct LearnedCosts(Remembered<String, (Instant, Costs), MAX_ACCOUNTS>);

impl LearnedCosts {
    /// Returns costs that were learned lately.
    pub fn recent(&self, account: &String) -> Option<Costs> {
        self.0.get(account).filter(|(since, _)| since.elapsed() < COSTS_AGE).map(|(_, costs)| costs)
    }

    /// Returns costs however old; before a request those are better than none.
    pub fn known(&self, account: &String) -> Option<Costs> {
        self.0.get(account).map(|(_, costs)| costs)
    }

    /// Learns the costs of an account from the ledger; nothing where it cannot be read. Blocks.
    pub fn learn(&self, ledger: &Ledger, account: String) -> Costs {
        let costs = costs(ledger, &account, now_ms()).unwrap_or_default();
        self.0.insert(account, (Instant::now(), costs.clone()));
        costs
    }
}

/// What tokens cost, and when windows will be used up.
#[derive(Debug, Clone, Default)]
pub struct Costs {
    windows: Vec<(&'static str, Fit, Option<i64>)>,
}

impl Costs {
    /// The window that these tokens take most of, and how much in percent.
    pub fn largest(&self, model: &str, tokens: &TokenCounts) -> Option<(&'static str, f64)> {
        let costs = self.windows.iter().filter_map(|(window, fit, _)| Some((*window, fit.cost(model, tokens)?)));
        costs.max_by(|(_, one), (_, other)| one.total_cmp(other))
    }

    /// Whether compacting a session with these last requests would save quota.
    pub fn advice(&self, model: &str, session: &[TokenCounts]) -> Option<Advice> {
        advice(self.windows.iter().map(|(window, fit, _)| (*window, fit)), model, session)
    }

    /// When a window will be used up before it opens again: the first of them.
    pub fn full_at(&self) -> Option<(&'static str, i64)> {
        self.windows.iter().filter_map(|(window, _, full_at)| Some((*window, (*full_at)?))).min_by_key(|(_, at)| *at)
    }
}

/// The advice by the first window whose costs are known.
pub(super) fn advice<'f>(
    mut fits: impl Iterator<Item = (&'static str, &'f Fit)>,
    model: &str,
    session: &[TokenCounts],
) -> Option<Advice> {
    fits.find_map(|(window, fit)| compaction(window, fit.weights.get(model)?, session))
}

/// The costs of each window for an account, from the recent ledger. Blocks.
fn costs(ledger: &Ledger, account: &str, now: i64) -> std::io::Result<Costs> {
    let account = ledger.hash("account", account);
    let mut entries = ledger.read(now.saturating_sub(LEARNED_FROM_DAYS * DAY_MS), now)?;
    entries.retain(|entry| entry.account == account);
    let windows = WINDOWS.iter().filter_map(|window| {
        let fit = fit(&entries, window)?;
        let full_at = fit.full_at(&entries, now);
        Some((*window, fit, full_at))
    });
    Ok(Costs { windows: windows.collect() })
}
