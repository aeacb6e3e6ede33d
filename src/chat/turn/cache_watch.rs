//! Watches what the service's prompt cache does for one turn: predicts before the request, judges after the answer, and says so
//! where much was read again (docs/caching.md).

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use tokio::task::JoinHandle;

use super::request::TurnRequest;
use crate::blocking::in_background;
use crate::chat::prompt_cache::records::{PromptCaches, Sending, SessionKey};
use crate::chat::prompt_cache::report::sentence;
use crate::chat::prompt_cache::session::CacheScope;
use crate::chat::prompt_cache::verdict::CacheUsage;
use crate::chat::stream::op_queue::{Op, OpWriter};
use crate::client::Kimi;
use crate::storage::clock::now_ms;

/// Requests whose report a program gets with a note.
const REPORTED_REQUESTS: usize = 10;

/// The watch of one turn. Without a session there is nothing to compare with, and it does nothing.
pub(super) struct CacheWatch {
    caches: Arc<PromptCaches>,
    key: Option<SessionKey>,
    scope: CacheScope,
    model: String,
    lifetime_ms: Option<i64>,
    /// Tokens from which on a notice is given; 0 means never.
    notice_tokens: u64,
    /// The caller wants the records with a notice.
    wants_report: bool,
    sent: Option<Sent>,
}

/// A body that was sent.
struct Sent {
    /// Where it lies, to tell it from another one.
    body: (usize, usize),
    /// Reads it; becomes the number of the request.
    reading: JoinHandle<u64>,
}

impl CacheWatch {
    /// `account` is the account's name, `lifetime` how long the service keeps prompts of the model, in seconds, if it says so.
    pub fn open(kimi: &Kimi, account: &str, request: &TurnRequest, lifetime: Option<u64>) -> Self {
        let state = kimi.config.state_directory.clone();
        let session = request.options.session_id.clone().filter(|session| !session.is_empty());
        Self {
            caches: kimi.process.get::<PromptCaches>(),
            key: session.map(|session| SessionKey { state, session }),
            scope: CacheScope::new(account, &request.model.id),
            model: request.model.id.clone(),
            lifetime_ms: lifetime.and_then(|seconds| i64::try_from(seconds).ok()?.checked_mul(1000)),
            notice_tokens: kimi.config.settings.cache.notice_tokens,
            wants_report: request.repeat_notes,
            sent: None,
        }
    }

    /// Reads a body that is about to be sent, beside the request. One that is sent again counts once.
    pub async fn send(&mut self, body: &Bytes, is_rewritten: bool) {
        let Some(key) = self.key.clone() else { return };
        let place = (body.as_ptr() as usize, body.len());
        if self.sent.as_ref().is_some_and(|sent| sent.body == place) {
            return;
        }
        self.forget().await;
        let (caches, body) = (Arc::clone(&self.caches), body.clone());
        let Self { scope, lifetime_ms, .. } = *self;
        let sending = Sending { scope, model: self.model.clone(), at: now_ms(), lifetime_ms, is_rewritten };
        let reading = tokio::task::spawn_blocking(move || caches.send(&key, &body, sending));
        self.sent = Some(Sent { body: place, reading });
    }

    /// Judges the request by what the service reported: tokens of the prompt, and those from the cache. Without either it was not
    /// answered and does not count.
    pub async fn finish(&mut self, (prompt, cached): (Option<u64>, Option<u64>), ops: &mut OpWriter) {
        if prompt.is_none() && cached.is_none() {
            return self.forget().await;
        }
        let (Some(key), Some(sent)) = (self.key.clone(), self.sent.take()) else { return };
        let Ok(id) = sent.reading.await else { return };
        let Self { lifetime_ms, notice_tokens, wants_report, .. } = *self;
        let (caches, models) = (Arc::clone(&self.caches), vec![(self.model.clone(), self.scope.model)]);
        let judged = in_background(move || {
            let usage = CacheUsage::checked(prompt, cached);
            let judgement = caches.finish(&key, id, usage, lifetime_ms);
            let told = judgement
                .filter(|judgement| {
                    notice_tokens > 0 && judgement.read_again > notice_tokens && caches.is_news(&key, judgement)
                })
                .map(|judgement| (sentence(&judgement), caches.report(&key, REPORTED_REQUESTS, &models)));
            // No answer waits for this.
            tokio::task::spawn_blocking(move || caches.save(&key));
            Ok(told)
        });
        let Ok(Some((message, report))) = judged.await else { return };
        let mut note = json!({ "kind": "note", "message": message });
        if wants_report {
            note["cache"] = json!(report);
        }
        ops.send(Op::Notice(note.to_string()));
    }

    async fn forget(&mut self) {
        let (Some(key), Some(sent)) = (self.key.clone(), self.sent.take()) else { return };
        if let Ok(id) = sent.reading.await {
            let caches = Arc::clone(&self.caches);
            // Failing would mean that a record stays, which costs nothing.
            let dropped = in_background(move || {
                caches.drop_request(&key, id);
                Ok(())
            });
            let _ = dropped.await;
        }
    }
}
