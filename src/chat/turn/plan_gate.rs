//! What a request passes before it is sent: the reserve of its quota window, then a slot of the plan. A request that meets a used-up
//! window waits here as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_channel::mpsc::UnboundedReceiver;
use serde_json::{Value, json};

use super::request::TurnRequest;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::chat::stream::op_queue::{Op, OpWriter};
use crate::client::Kimi;
use crate::config::OnExhausted;
use crate::error::{Error, ErrorKind, Result};
use crate::plan::compaction_advice::RECENT;
use crate::plan::history::LearnedCosts;
use crate::plan::ledger::{Ledger, LedgerEntry, TokenCounts, samples};
use crate::plan::park::{ParkEvent, ParkFile, ParkHost, ParkPolicy, Waits, keep_reserve, park};
use crate::plan::{Governor, Permit, Priority};
use crate::services::quota_cache::{Snapshot, known, quota};
use crate::services::quota_display::{clock_at, opening_at};
use crate::services::usage::Window;
use crate::storage::clock::now_ms;
use crate::storage::remembered::Remembered;

/// How old the quota record may be that says how many requests the plan allows at once.
const LIMIT_AGE: Duration = Duration::from_secs(3600);

/// Longest wait for that record before a request is sent without it.
const LIMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests under way from which on the plan's limit matters: a single session never asks for it.
const LIMIT_MATTERS: usize = 2;

/// The gate of one turn.
pub(super) struct PlanGate {
    governor: Governor,
    file: ParkFile,
    policy: ParkPolicy,
    priority: Priority,
    account: String,
    session: Option<String>,
    /// Folder of the project.
    project: String,
    /// The credential that the caller passed.
    passed: Option<String>,
    /// It is the key in Pi's file, so that file says whether it still counts.
    is_stored_key: bool,
    /// Quota windows that this turn has waited for.
    waits: Waits,
    /// The last refusal said that too much is under way, so the next request takes part in the shared budget of retries.
    is_retry: bool,
    /// Spending bought credit was reported.
    spends_credit: bool,
}

/// Sessions and accounts that are memory. One that was dropped costs a notice or a sample.
const MAX_REMEMBERED: usize = 256;

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

/// Percent of a window from which on the cost of a request is told before it is sent.
const NOTABLE_PERCENT: f64 = 1.0;

/// What a request holds: its slot until the end of the stream, and the right to retry until the response begins.
pub(super) struct Admitted {
    pub slot: Permit,
    pub retry: Option<Permit>,
}

impl PlanGate {
    pub async fn open(kimi: &Kimi, credential: &Credential, request: &TurnRequest) -> Self {
        let options = &request.options;
        let account = account(kimi, credential).await;
        let state = kimi.config.state_directory.as_deref();
        let settings = &kimi.config.settings;
        let process = Arc::clone(&kimi.process);
        Self {
            governor: Governor::new(state, &account, settings.concurrency, process),
            file: ParkFile::new(state, &account),
            policy: ParkPolicy::new(settings, options.on_quota, options.can_ask),
            priority: options.priority,
            account,
            session: options.session_id.clone(),
            project: kimi.config.project.clone().unwrap_or_default(),
            passed: options.api_key.clone(),
            is_stored_key: false,
            waits: Waits::default(),
            is_retry: false,
            spends_credit: false,
        }
    }

    /// The name of the account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// Waits until the request may be sent.
    pub async fn admit(
        &mut self,
        kimi: &Kimi,
        credential: &Credential,
        ops: &mut OpWriter,
        answers: &mut UnboundedReceiver<String>,
    ) -> Result<Admitted> {
        let (file, policy) = (self.file.clone(), self.policy.clone());
        if !policy.reserve.is_empty() {
            self.find_stored_key(kimi, credential).await;
            keep_reserve(&mut self.host(kimi, credential, ops, answers), &file, &policy).await?;
        }
        let mut slot = self.wait_for_slot(ops).await;
        // Asked with the slot in hand: of many requests that start at once, each sees the others.
        self.learn_limit(kimi, credential, &slot).await;
        while !self.governor.fits(&slot).await {
            drop(slot);
            slot = self.wait_for_slot(ops).await;
        }
        let retry = if self.is_retry { Some(self.governor.admit_retry(self.priority).await) } else { None };
        Ok(Admitted { slot, retry })
    }

    async fn wait_for_slot(&self, ops: &mut OpWriter) -> Permit {
        let mut waited = false;
        let tell = |ahead| {
            waited = true;
            ops.send(notice(json!({ "kind": "slot", "ahead": ahead })));
        };
        let slot = self.governor.admit(self.priority, tell).await;
        if waited {
            ops.send(notice(json!({ "kind": "slot", "ahead": null })));
        }
        slot
    }

    /// Tells the expected cost of a request that takes a notable part of a window.
    pub fn tell_cost(&self, kimi: &Kimi, model: &str, prompt_tokens: u64, ops: &mut OpWriter) {
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

    /// Learns from an error that says that too much is under way.
    pub async fn learn(&mut self, error: &Error) {
        self.is_retry = error.crowded;
        if error.crowded {
            self.governor.refused().await;
        }
    }

    /// Waits until the window that refused a request is open again, or returns the refusal.
    pub async fn park(
        &mut self,
        kimi: &Kimi,
        credential: &Credential,
        ops: &mut OpWriter,
        answers: &mut UnboundedReceiver<String>,
        refusal: Error,
    ) -> Result<()> {
        let (file, policy) = (self.file.clone(), self.policy.clone());
        if policy.on_exhausted == OnExhausted::Stop {
            return Err(refusal);
        }
        self.find_stored_key(kimi, credential).await;
        let mut waits = std::mem::take(&mut self.waits);
        let parked = park(&mut self.host(kimi, credential, ops, answers), &file, &policy, &mut waits, refusal).await;
        self.waits = waits;
        parked
    }

    /// Finds out whether the request's key is the one in Pi's file.
    async fn find_stored_key(&mut self, kimi: &Kimi, credential: &Credential) {
        let stored = if credential.is_login() { None } else { kimi.stored_key().await.ok().flatten() };
        self.is_stored_key = stored.is_some() && stored == self.passed;
    }

    /// Asks the service for the plan's limit once an hour, where several requests run at once.
    async fn learn_limit(&self, kimi: &Kimi, credential: &Credential, slot: &Permit) {
        if !self.governor.wants_limit(slot, LIMIT_MATTERS).await {
            return;
        }
        let asked = tokio::time::timeout(LIMIT_TIMEOUT, quota(kimi, credential, LIMIT_AGE)).await;
        let usage = asked.ok().and_then(Result::ok).and_then(|snapshot| snapshot.usage);
        self.governor.tell_limit(usage.map(|usage| usage.parallel_limit.map(u64::from))).await;
    }

    fn host<'h>(
        &'h mut self,
        kimi: &'h Kimi,
        credential: &'h Credential,
        ops: &'h mut OpWriter,
        answers: &'h mut UnboundedReceiver<String>,
    ) -> TurnHost<'h> {
        let Self { account, passed, is_stored_key, spends_credit, .. } = self;
        let (passed, is_stored_key) = (passed.as_deref(), *is_stored_key);
        TurnHost { kimi, credential, account, passed, is_stored_key, ops, answers, spends_credit }
    }
}

fn io_error(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("ledger: {error}"))
}

async fn account(kimi: &Kimi, credential: &Credential) -> String {
    kimi.account_id(credential).await.map(|id| id.name().to_owned()).unwrap_or_default()
}

fn another_account() -> Error {
    let message = "Another account is signed in now, so the request that waited for a quota window was not sent";
    Error::new(ErrorKind::QuotaExhausted, message)
}

fn notice(notice: Value) -> Op {
    Op::Notice(notice.to_string())
}

/// Parking, as a turn does it.
struct TurnHost<'h> {
    kimi: &'h Kimi,
    credential: &'h Credential,
    account: &'h str,
    passed: Option<&'h str>,
    is_stored_key: bool,
    ops: &'h mut OpWriter,
    answers: &'h mut UnboundedReceiver<String>,
    spends_credit: &'h mut bool,
}

impl ParkHost for TurnHost<'_> {
    async fn quota(&mut self, max_age: Duration) -> Result<Snapshot> {
        quota(self.kimi, self.credential, max_age).await
    }

    async fn signed_in(&mut self) -> Result<()> {
        let mut kimi = self.kimi.clone();
        // Pi passes its credential with the request, and it would go on counting here after a logout.
        let found = if self.credential.is_login() {
            kimi.stored_login().await
        } else if self.is_stored_key {
            match kimi.stored_key().await {
                // A file that cannot be read says nothing about the key.
                Ok(key) if key.as_deref() != self.passed => match kimi.stored_login().await {
                    Err(error) if key.is_none() => Err(error),
                    _ => return Err(another_account()),
                },
                _ => return Ok(()),
            }
        } else {
            kimi.authorize(self.passed).await
        };
        let credential = found.map_err(|error| match error.kind {
            ErrorKind::LoginRequired => {
                Error { message: format!("Signed out while waiting for the quota window. {}", error.message), ..error }
            }
            _ => error,
        })?;
        if account(&kimi, &credential).await == self.account { Ok(()) } else { Err(another_account()) }
    }

    fn tell(&mut self, event: ParkEvent) {
        let config = &self.kimi.config;
        self.ops.send(notice(match event {
            ParkEvent::Parked { window, label, short, used_up, resets_at } => json!({
                "kind": "parked", "window": window, "label": label, "short": short, "usedUp": used_up,
                "resetsAt": resets_at, "at": clock_at(config, resets_at),
            }),
            ParkEvent::Resumed => json!({ "kind": "resumed" }),
            ParkEvent::SpendsCredit { label } => {
                if std::mem::replace(self.spends_credit, true) {
                    return;
                }
                json!({ "kind": "note", "message": format!("{label}: the reserve is reached; bought credit is spent now") })
            }
        }));
    }

    async fn ask(&mut self, window: &Window, used_up: bool) -> Option<OnExhausted> {
        let opens = window.resets_at.and_then(|at| opening_at(&self.kimi.config, at));
        self.ops.send(notice(json!({
            "kind": "quotaQuestion", "label": window.label, "usedUp": used_up, "opens": opens,
        })));
        let answer = self.answers.recv().await.ok()?;
        serde_json::from_value(Value::from(answer)).ok()
    }
}
