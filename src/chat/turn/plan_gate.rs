//! What a request passes before it is sent: the reserve of its quota window, then a slot of the plan. A request that meets a used-up
//! window waits here as well.

use std::sync::Arc;
use std::time::Duration;

use futures_channel::mpsc::UnboundedReceiver;
use serde_json::{Value, json};

use super::request::TurnRequest;
use crate::auth::Credential;
use crate::chat::stream::op_queue::{Op, OpWriter};
use crate::client::Kimi;
use crate::config::OnExhausted;
use crate::error::{Error, Result};
use crate::plan::concurrency_limit::ask_service;
use crate::plan::park::sign_in::check_signed_in;
use crate::plan::park::{ParkEvent, ParkFile, ParkHost, ParkPolicy, Waits, keep_reserve, park};
use crate::plan::{Governor, Permit, Priority};
use crate::services::quota_cache::{Snapshot, quota};
use crate::services::quota_display::{clock_at, opening_at};
use crate::services::usage::Window;

/// The gate of one turn.
pub(super) struct PlanGate {
    governor: Governor,
    file: ParkFile,
    policy: ParkPolicy,
    priority: Priority,
    account: String,
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
        if self.governor.wants_limit(slot).await {
            self.governor.tell_limit(ask_service(kimi, credential).await).await;
        }
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

async fn account(kimi: &Kimi, credential: &Credential) -> String {
    kimi.account_id(credential).await.map(|id| id.name().to_owned()).unwrap_or_default()
}

pub(super) fn notice(notice: Value) -> Op {
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
        check_signed_in(self.kimi, self.credential, self.account, self.passed, self.is_stored_key).await
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
