//! What the ledger tells a user: who spent how much of which window, what was spent elsewhere, and what comes next.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::compaction_advice::Advice;
use super::learned_costs::{DAY_MS, LEARNED_FROM_DAYS, WINDOWS, advice};
use super::ledger::{Ledger, LedgerEntry, TokenCounts};
use super::token_costs::{Fit, Weight, fit};

/// What the rows are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// One row for each session.
    #[default]
    Session,
    /// One row for each project folder.
    Project,
    /// One row for each model.
    Model,
    /// One row for each day of the user.
    Day,
}

/// Which lines are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Account name, as on disk.
    pub account: String,
    /// First and last moment, in milliseconds since 1970.
    pub from: i64,
    /// See `from`.
    pub to: i64,
    /// What the rows are about.
    pub by: By,
    /// The session and project of the caller, which are labeled so.
    pub session: String,
    /// See `session`.
    pub project: String,
}

/// The answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct History {
    /// First moment, in milliseconds since 1970.
    pub from: i64,
    /// Last moment.
    pub to: i64,
    /// What the rows are about.
    pub by: By,
    /// The largest first; days in their order.
    pub rows: Vec<Row>,
    /// Percent of each window that other programs spent; `null` where too little is known.
    pub elsewhere: BTreeMap<&'static str, Option<f64>>,
    /// Percent per token, by window and model.
    pub weights: BTreeMap<&'static str, Option<BTreeMap<String, Weight>>>,
    /// When each window will be used up.
    pub forecast: BTreeMap<&'static str, Forecast>,
    /// Whether compacting the caller's session would save quota.
    pub advice: Option<Advice>,
}

/// A row.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Row {
    /// Hash of session or project, model id, or day.
    pub key: String,
    /// For users.
    pub label: String,
    /// Number of requests.
    pub requests: u64,
    /// Prompt tokens that the service had to read.
    pub uncached: u64,
    /// Prompt tokens from the cache.
    pub cached: u64,
    /// Answer tokens.
    pub output: u64,
    /// Reasoning tokens among them.
    pub reasoning: u64,
    /// Percent of each window; `null` where the costs are not known.
    pub percent: BTreeMap<&'static str, Option<f64>>,
}

/// What a window is expected to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// When it will be used up, in milliseconds since 1970; `null` if it opens before that, or too little is known.
    pub full_at: Option<i64>,
}

/// Reads the ledger and answers. Blocks.
pub fn history(ledger: &Ledger, question: &Question, zone: &TimeZone, now: i64) -> std::io::Result<History> {
    let account = ledger.hash("account", &question.account);
    let learned_from = question.from.min(now.saturating_sub(LEARNED_FROM_DAYS * DAY_MS));
    let mut entries = ledger.read(learned_from, now.max(question.to))?;
    entries.retain(|entry| entry.account == account);
    let asked: Vec<LedgerEntry> =
        entries.iter().filter(|entry| (question.from..=question.to).contains(&entry.at)).cloned().collect();
    let fits = WINDOWS.map(|window| (window, fit(&entries, window)));
    let own = ledger.hash("session", &question.session);
    let session: Vec<&LedgerEntry> = entries.iter().filter(|entry| entry.session == own).collect();
    let advice = session.last().filter(|_| !question.session.is_empty()).and_then(|last| {
        let tokens: Vec<TokenCounts> =
            session.iter().filter(|entry| entry.model == last.model).map(|entry| entry.tokens).collect();
        advice(fits.iter().filter_map(|(window, fit)| Some((*window, fit.as_ref()?))), &last.model, &tokens)
    });
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for entry in &asked {
        let key = key(entry, question.by, zone);
        let row = rows.entry(key.clone()).or_insert_with(|| {
            let percent = fits.iter().map(|(window, fit)| (*window, fit.as_ref().map(|_| 0.0))).collect();
            Row { label: label(ledger, question, &key), key, percent, ..Row::default() }
        });
        row.add(entry, &fits);
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    if question.by != By::Day {
        rows.sort_by(|one, other| other.size().total_cmp(&one.size()));
    }
    Ok(History {
        from: question.from,
        to: question.to,
        by: question.by,
        rows,
        elsewhere: WINDOWS
            .iter()
            .map(|window| (*window, fit(&asked, window).map(|fit| round(fit.elsewhere))))
            .collect(),
        weights: fits.iter().map(|(window, fit)| (*window, fit.as_ref().map(|fit| fit.weights.clone()))).collect(),
        forecast: fits
            .iter()
            .map(|(window, fit)| {
                (*window, Forecast { full_at: fit.as_ref().and_then(|fit| fit.full_at(&entries, now)) })
            })
            .collect(),
        advice,
    })
}

impl Row {
    fn add(&mut self, entry: &LedgerEntry, fits: &[(&'static str, Option<Fit>)]) {
        let TokenCounts { uncached, cached, output, reasoning } = entry.tokens;
        self.requests += 1;
        self.uncached = self.uncached.saturating_add(uncached);
        self.cached = self.cached.saturating_add(cached);
        self.output = self.output.saturating_add(output);
        self.reasoning = self.reasoning.saturating_add(reasoning);
        for (window, fit) in fits {
            let cost = fit.as_ref().and_then(|fit| fit.cost(&entry.model, &entry.tokens));
            if let (Some(Some(sum)), Some(cost)) = (self.percent.get_mut(window), cost) {
                *sum += cost;
            }
        }
    }

    /// What rows are ordered by: the share of the week, or the tokens where no share is known.
    fn size(&self) -> f64 {
        let share = self.percent.get("7d").copied().flatten().or_else(|| self.percent.get("5h").copied().flatten());
        share.unwrap_or((self.uncached + self.cached / 10 + self.output * 4) as f64)
    }
}

fn round(percent: f64) -> f64 {
    (percent * 10.0).round() / 10.0
}

fn key(entry: &LedgerEntry, by: By, zone: &TimeZone) -> String {
    match by {
        By::Session => entry.session.clone(),
        By::Project => entry.project.clone(),
        By::Model => entry.model.clone(),
        By::Day => {
            let at = Timestamp::from_millisecond(entry.at).unwrap_or(Timestamp::UNIX_EPOCH);
            at.to_zoned(zone.clone()).strftime("%Y-%m-%d").to_string()
        }
    }
}

fn label(ledger: &Ledger, question: &Question, key: &str) -> String {
    let (kind, own) = match question.by {
        By::Session => ("session", &question.session),
        By::Project => ("project", &question.project),
        By::Model | By::Day => return key.to_owned(),
    };
    match key {
        "" => format!("no {kind}"),
        _ if ledger.hash(kind, own) == key => format!("this {kind}"),
        _ => format!("{kind} {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Sample;
    use super::*;

    const NOW: i64 = 1_795_757_911_000;

    fn fill(ledger: &Ledger, requests: i64) {
        for turn in 0..requests {
            let at = NOW - (requests - turn) * 60_000;
            let uncached = 3_000 + (turn as u64 * 7_919) % 9_000;
            let percent = (turn as f64 * 0.4).floor();
            ledger
                .append(&LedgerEntry {
                    at,
                    account: ledger.hash("account", "a"),
                    session: ledger.hash("session", if turn % 4 == 0 { "mine" } else { "other" }),
                    project: ledger.hash("project", "/p"),
                    model: "k3".to_owned(),
                    tokens: TokenCounts { uncached, cached: 0, output: 500, reasoning: 100 },
                    sampled_at: at,
                    samples: vec![Sample { window: "5h".to_owned(), percent, resets_at: Some(NOW / 1000 + 3_600) }],
                })
                .unwrap();
        }
    }

    fn question(by: By) -> Question {
        Question {
            account: "a".to_owned(),
            from: NOW - 7 * DAY_MS,
            to: NOW,
            by,
            session: "mine".to_owned(),
            project: "/p".to_owned(),
        }
    }

    #[test]
    fn history_rows_add_up_and_name_the_own_session() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        fill(&ledger, 120);
        let history = history(&ledger, &question(By::Session), &TimeZone::UTC, NOW).unwrap();
        let labels: Vec<&str> = history.rows.iter().map(|row| row.label.as_str()).collect();
        assert_eq!((labels.len(), labels[1]), (2, "this session"));
        assert_eq!(history.rows.iter().map(|row| row.requests).sum::<u64>(), 120);
        let spent: f64 = history.rows.iter().map(|row| row.percent["5h"].unwrap()).sum();
        assert!((45.0..50.0).contains(&spent), "{spent}");
        assert_eq!(history.rows[0].percent["7d"], None);
        assert!(history.weights["7d"].is_none() && history.weights["5h"].is_some());
    }

    #[test]
    fn history_another_account_has_none_and_little_data_claims_nothing() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        fill(&ledger, 19);
        let other = Question { account: "b".to_owned(), ..question(By::Model) };
        assert!(history(&ledger, &other, &TimeZone::UTC, NOW).unwrap().rows.is_empty());
        let own = history(&ledger, &question(By::Model), &TimeZone::UTC, NOW).unwrap();
        assert_eq!((own.rows[0].label.as_str(), own.rows[0].percent["5h"], own.elsewhere["5h"]), ("k3", None, None));
        assert_eq!(own.forecast["5h"], Forecast::default());
    }

    #[test]
    fn history_days_are_those_of_the_user() {
        let state = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(state.path()).unwrap();
        fill(&ledger, 1);
        let day = |zone: &str| {
            let zone = TimeZone::get(zone).unwrap();
            history(&ledger, &question(By::Day), &zone, NOW).unwrap().rows[0].label.clone()
        };
        assert_eq!((day("UTC").as_str(), day("Pacific/Auckland").as_str()), ("2026-11-27", "2026-11-27"));
        assert_eq!(day("Pacific/Honolulu"), "2026-11-26");
    }
}
