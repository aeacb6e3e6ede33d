//! The economy of one account, as JavaScript asks about it.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::governor::Governor;
use super::history::{By, History, Question, history};
use super::learned_costs::{Costs, LearnedCosts};
use super::ledger::Ledger;
use super::park::{ParkFile, ParkRecord};
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::config::OnExhausted;
use crate::error::{Error, ErrorKind, Result};
use crate::services::quota_display::{clock_at, opening_at, time_zone};
use crate::storage::clock::{DAY_MS, now_ms};

/// The account, and where its state lies.
pub struct PlanState<'k> {
    kimi: &'k Kimi,
    account: String,
    state: Option<PathBuf>,
}

/// Whether requests wait for a quota window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// `parked`, or `open` while no request waits.
    pub state: &'static str,
    /// The window, `5h`.
    pub window: Option<String>,
    /// When it opens again, in milliseconds since 1970.
    pub resets_at: Option<i64>,
    /// Since when a request waits for it, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Requests that wait.
    pub sessions: usize,
    /// All of this in a sentence, for users.
    pub text: String,
}

impl<'k> PlanState<'k> {
    /// The economy of the account behind a credential.
    pub async fn of(kimi: &'k Kimi, credential: &Credential) -> Self {
        let state = kimi.config.state_directory.clone();
        let account = kimi.account_id(credential).await.map(|id| id.name().to_owned()).unwrap_or_default();
        Self { kimi, account, state }
    }

    /// The governor.
    pub fn governor(&self) -> Governor {
        let concurrency = self.kimi.config.settings.concurrency;
        Governor::new(self.state.as_deref(), &self.account, concurrency, Arc::clone(&self.kimi.process))
    }

    /// What tokens cost; nothing where the ledger cannot be read.
    pub async fn costs(&self) -> Costs {
        let learned = self.kimi.process.get::<LearnedCosts>();
        if let Some(costs) = learned.recent(&self.account) {
            return costs;
        }
        let (state, account) = (self.state.clone(), self.account.clone());
        let read = in_background(move || {
            let ledger = state.and_then(|state| Ledger::open(&state).ok());
            Ok(ledger.map(|ledger| learned.learn(&ledger, account)).unwrap_or_default())
        });
        read.await.unwrap_or_default()
    }

    /// What the last `span` milliseconds were spent on. `session` is the caller's.
    pub async fn history(&self, span: i64, by: By, session: String) -> Result<History> {
        let (state, account) = (self.state.clone(), self.account.clone());
        let config = &self.kimi.config;
        let zone = time_zone(config);
        let project = config.project.clone().unwrap_or_default();
        in_background(move || {
            let now = now_ms();
            let question = Question { account, from: now.saturating_sub(span), to: now, by, session, project };
            let state = state.ok_or_else(|| Error::new(ErrorKind::Io, "there is no home folder for a ledger"))?;
            let read = Ledger::open(&state).and_then(|ledger| history(&ledger, &question, &zone, now));
            read.map_err(|error| {
                Error::new(ErrorKind::Io, format!("the ledger cannot be read: {error}")).caused_by(error)
            })
        })
        .await
    }

    /// Whether requests wait for a window.
    pub async fn parked(&self) -> Parked {
        let file = self.park_file();
        let ParkRecord { window, label, reserved, resets_at, since, .. } = file.read().await;
        let sessions = file.sessions().await;
        if sessions == 0 {
            let text = "No request waits for a quota window.".to_owned();
            return Parked { state: "open", window: None, resets_at: None, since: None, sessions, text };
        }
        let config = &self.kimi.config;
        let requests = if sessions == 1 { "1 request waits".to_owned() } else { format!("{sessions} requests wait") };
        let since_text = clock_at(config, since).unwrap_or_default();
        let opens = opening_at(config, resets_at).unwrap_or_else(|| "opens now".to_owned());
        Parked {
            state: "parked",
            window: Some(window),
            resets_at: Some(resets_at),
            since: Some(since),
            sessions,
            text: format!("{requests} since {since_text}: {label} is {}, {opens}.", closed_as(reserved)),
        }
    }

    /// Applies a user's choice to the window that is waited for: `wait`, `stop`, or `resume` to try now.
    pub async fn choose(&self, choice: &str) -> Result<()> {
        let file = self.park_file();
        if choice == "resume" {
            return file.update(|record| record.resume_at = Some(now_ms())).await;
        }
        let choice: OnExhausted = serde_json::from_value(Value::from(choice))
            .ok()
            .filter(|choice| *choice != OnExhausted::Ask)
            .ok_or_else(|| Error::new(ErrorKind::Config, format!("{choice:?}: write wait, stop or resume")))?;
        file.update(|record| record.choose(choice, now_ms())).await
    }

    fn park_file(&self) -> ParkFile {
        ParkFile::new(self.state.as_deref(), &self.account)
    }
}

/// What a window is that requests wait for.
fn closed_as(reserved: bool) -> &'static str {
    if reserved { "down to its reserve" } else { "used up" }
}

/// Reads a span of time: `7d`, `24h`. `None` for anything else.
pub fn span_ms(text: &str) -> Option<i64> {
    let text = text.trim();
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number = number.parse::<i64>().ok().filter(|number| (1..=10_000).contains(number))?;
    match unit {
        "h" => Some(number * 3_600_000),
        "d" => Some(number * DAY_MS),
        "w" => Some(number * 7 * DAY_MS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_hours_days_and_weeks_and_nothing_else() {
        assert_eq!(
            (span_ms("7d"), span_ms(" 24h "), span_ms("1w")),
            (Some(604_800_000), Some(86_400_000), Some(604_800_000))
        );
        for text in ["", "d", "0d", "-1d", "7", "7x", "1.5d", "99999999999d", "é"] {
            assert_eq!(span_ms(text), None, "{text}");
        }
    }
}
