//! When a window will be used up, if the recent pace goes on.

use super::ledger::LedgerEntry;
use super::token_costs::Fit;

/// Recent time whose pace is expected to go on, in milliseconds.
const PACE_MS: i64 = 2 * 3_600_000;

impl Fit {
    /// When the window will be used up at the recent pace, in milliseconds since 1970. `None` if it opens before that.
    pub fn full_at(&self, entries: &[LedgerEntry], now: i64) -> Option<i64> {
        let resets_at = self.last.resets_at.map_or(i64::MAX, |at| at.saturating_mul(1000));
        if resets_at <= now {
            return None;
        }
        let since = now - PACE_MS;
        let recent: Vec<&LedgerEntry> = entries.iter().filter(|entry| entry.at > since && entry.at <= now).collect();
        let begin = recent.first()?.at;
        let explained = |entries: &mut dyn Iterator<Item = &LedgerEntry>| -> f64 {
            entries.filter_map(|entry| self.cost(&entry.model, &entry.tokens)).sum()
        };
        // The first request of the recent time began before it: it tells when, not how fast.
        let spent = explained(&mut recent.iter().skip(1).copied());
        let elapsed = (now - begin).max(1) as f64;
        // What the reading does not hold yet. A reading is the middle of its interval.
        let since_reading = explained(&mut entries.iter().filter(|entry| entry.at > self.last.at));
        let used = self.last.percent + 0.5 + since_reading;
        let pace = spent / elapsed;
        let left = (100.0 - used).max(0.0);
        let full_at = now.saturating_add((left / pace) as i64);
        (pace > 0.0 && full_at < resets_at).then_some(full_at)
    }
}
