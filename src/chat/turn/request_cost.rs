//! What a request costs of the plan: told before it is sent where that is much, recorded in the ledger after its answer.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::plan_gate::notice;
use super::request::TurnRequest;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::chat::stream::op_queue::OpWriter;
use crate::client::Kimi;
use crate::error::{Error, ErrorKind};
use crate::plan::compaction_advice::RECENT;
use crate::plan::learned_costs::LearnedCosts;
use crate::plan::ledger::{Ledger, LedgerEntry, TokenCounts, samples};
use crate::services::quota_cache::known;
use crate::storage::clock::now_ms;
use crate::storage::remembered::Remembered;

/// Sessions and accounts that are memory. One that was dropped costs a notice or a sample.
const MAX_REMEMBERED: usize = 256;

/// Percent of a window from which on the cost of a request is told before it is sent.
const NOTABLE_PERCENT: f64 = 1.0;

/// What this process remembers of sessions and accounts between turns.
#[derive(Default)]
pub(super) struct PlanMemory {
    /// Session → its last requests. The last prompt is expected to be cached.
    sessions: Remembered<String, Vec<TokenCounts>, MAX_REMEMBERED>,
    /// Sessions that were advised to compact.
    advised: Remembered<String, (), MAX_REMEMBERED>,
    /// The user knows that there is no ledger.
    told_no_ledger: AtomicBool,
    /// Account → when the quota was fetched that its last line holds.
    sampled: Remembered<String, i64, MAX_REMEMBERED>,
}

/// Whom a request is recorded for.
pub(super) struct RequestCost {
    account: String,
    session: Option<String>,
    /// Folder of the project.
    project: String,
}

impl RequestCost {
    pub fn new(kimi: &Kimi, account: &str, request: &TurnRequest) -> Self {
        Self {
            account: account.to_owned(),
            session: request.options.session_id.clone(),
            project: kimi.config.project.clone().unwrap_or_default(),
        }
    }

    /// Tells the expected cost of a request that takes a notable part of a window.
    pub fn tell(&self, kimi: &Kimi, model: &str, prompt_tokens: u64, ops: &mut OpWriter) {
        let memory = kimi.process.get::<PlanMemory>();
        let recent = self.session.as_ref().and_then(|session| memory.sessions.get(session)).unwrap_or_default();
        let last = recent.last().map_or(0, |last| last.uncached.saturating_add(last.cached));
        let cached = last.min(prompt_tokens);
        let tokens = TokenCounts { uncached: prompt_tokens - cached, cached, ..TokenCounts::default() };
        let costs = kimi.process.get::<LearnedCosts>().known(&self.account);
        let largest = costs.and_then(|costs| costs.largest(model, &tokens));
        if let Some((window, percent)) = largest.filter(|(_, percent)| *percent >= NOTABLE_PERCENT) {
            let percent = (percent * 10.0).round() / 10.0;
            ops.send(notice(json!({ "kind": "cost", "window": window, "percent": percent })));
        }
    }

    /// Writes the ledger's line of an answer, and tells what follows from it.
    pub async fn record(
        &self,
        kimi: &Kimi,
        credential: &Credential,
        model: &str,
        tokens: TokenCounts,
        ops: &mut OpWriter,
    ) {
        let Some(state) = kimi.config.state_directory.clone() else { return };
        if tokens == TokenCounts::default() {
            return;
        }
        let snapshot = known(kimi, credential).await;
        let (memory, learned) = (kimi.process.get::<PlanMemory>(), kimi.process.get::<LearnedCosts>());
        self.remember(&memory, tokens);
        self.advise(&memory, &learned, model, ops);
        let sampled_at = snapshot.fetched_at.unwrap_or_default();
        let is_newer = memory.sampled.get(&self.account).is_none_or(|last| last < sampled_at);
        let samples = snapshot.usage.filter(|_| is_newer).map(|usage| samples(&usage)).unwrap_or_default();
        memory.sampled.insert(self.account.clone(), sampled_at);
        let (account, session, project) = (self.account.clone(), self.session.clone(), self.project.clone());
        let model = model.to_owned();
        let written = in_background(move || {
            let ledger = Ledger::open(&state).map_err(io_error)?;
            ledger
                .append(&LedgerEntry {
                    at: now_ms(),
                    account: ledger.hash("account", &account),
                    session: ledger.hash("session", session.as_deref().unwrap_or_default()),
                    project: ledger.hash("project", &project),
                    model,
                    tokens,
                    sampled_at,
                    samples,
                })
                .map_err(io_error)?;
            Ok(learned.recent(&account).is_none().then_some((ledger, account, learned)))
        });
        match written.await {
            Ok(Some((ledger, account, learned))) => {
                // No answer waits for this.
                tokio::task::spawn_blocking(move || learned.learn(&ledger, account));
            }
            Ok(None) => {}
            Err(error) => {
                tracing::info!(%error, "the ledger cannot be written");
                if !memory.told_no_ledger.swap(true, Ordering::Relaxed) {
                    let message = format!("What requests use of the plan is not recorded: {}", error.message);
                    ops.send(notice(json!({ "kind": "note", "message": message })));
                }
            }
        }
    }

    fn remember(&self, memory: &PlanMemory, tokens: TokenCounts) {
        let Some(session) = &self.session else { return };
        let mut recent = memory.sessions.get(session).unwrap_or_default();
        if recent.len() >= RECENT {
            recent.remove(0);
        }
        recent.push(tokens);
        memory.sessions.insert(session.clone(), recent);
    }

    /// Advises to compact the session where that pays, once.
    fn advise(&self, memory: &PlanMemory, learned: &LearnedCosts, model: &str, ops: &mut OpWriter) {
        let Some(session) = self.session.as_ref().filter(|session| memory.advised.get(session).is_none()) else {
            return;
        };
        let recent = memory.sessions.get(session).unwrap_or_default();
        let advice = learned.known(&self.account).and_then(|costs| costs.advice(model, &recent));
        if let Some(advice) = advice {
            memory.advised.insert(session.clone(), ());
            ops.send(notice(json!({ "kind": "advice", "message": advice.text })));
        }
    }
}

fn io_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("ledger: {error}"))
}
