//! One attempt of a turn: sends the request and decides what follows from the outcome.
//!
//! A request is sent again only while the user has seen nothing of its answer. Before that it is changed where the service refuses a
//! part of it, or waits for the quota window that refused it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::Instant;

use super::answer_stream::{AnswerStream, Finished};
use super::cache_watch::CacheWatch;
use super::channels::TurnChannels;
use super::plan_gate::{Admitted, PlanGate};
use super::prepare::{ConversationSource, PreparedRequest, ResolvedRequest, prepare};
use super::request::TurnRequest;
use super::request_cost::RequestCost;
use crate::blocking::in_background;
use crate::chat::request::rejected::parameters::{Parameter, RefusedParameters};
use crate::chat::request::rejected::{RejectedItem, SessionRejections};
use crate::chat::stream::message::{Blocks, ContentState};
use crate::chat::stream::op_queue::Op;
use crate::chat::stream::stop_reason::StopReason;
use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::files::Reuploaded;
use crate::http::retry::{Attempt, Operation, Retry};
use crate::process_state::ProcessState;
use crate::services::quota_error;

/// A turn whose request is prepared.
pub(super) struct Turn<'t> {
    request: &'t TurnRequest,
    source: ConversationSource,
    prepared: PreparedRequest,
    gate: PlanGate,
    cost: RequestCost,
    cache: CacheWatch,
    blocks: &'t mut Blocks,
    channels: &'t mut TurnChannels,
    /// The service refused the token inside a stream, and it was renewed. That happens once per turn.
    token_renewed: bool,
    /// Time spent waiting for a slot of the plan or for a quota window.
    uncounted: Duration,
}

impl Operation for Turn<'_> {
    type Output = Finished;

    async fn attempt(&mut self) -> Attempt<Finished> {
        let ResolvedRequest { kimi, credential, .. } = &self.prepared.resolved;
        let TurnChannels { ops, answers, .. } = &mut *self.channels;
        let start = Instant::now();
        let admitted = match Box::pin(self.gate.admit(kimi, credential, ops, answers)).await {
            Ok(admitted) => admitted,
            Err(error) => return Attempt::Fatal(error),
        };
        self.cost.tell(kimi, &self.request.model.id, self.prepared.prompt_tokens, ops);
        self.uncounted += start.elapsed();
        Box::pin(self.cache.send(&self.prepared.body, self.prepared.is_rewritten)).await;
        let mut token = None;
        let result = self.send(admitted, &mut token).await;
        self.channels.pace.hurry();
        match result {
            Ok(finished) if self.is_complete(&finished) => {
                self.learn_rejections(true);
                Attempt::Success(finished)
            }
            // If a second request brings no more, reasoning that the user has seen is worth more than an error.
            Ok(finished) => {
                let only_reasoning = self.blocks.content_state() == ContentState::ReasoningOnly;
                let error = Error::new(ErrorKind::EmptyAnswer, "Kimi answered without any content");
                Attempt::Failed { error, fallback: only_reasoning.then_some(finished) }
            }
            Err(error) => {
                // A refusal before the stream began was answered by a new token already.
                if let Some(token) = token
                    && error.kind == ErrorKind::Unauthorized
                    && !self.authorizes_itself()
                {
                    return Box::pin(self.renew_token(&token, error)).await;
                }
                Box::pin(self.gate.learn(&error)).await;
                match error.kind {
                    _ if self.blocks.visible() => Attempt::Fatal(error),
                    ErrorKind::QuotaExhausted => Box::pin(self.park(error)).await,
                    _ => Box::pin(self.repair(error)).await,
                }
            }
        }
    }

    fn uncounted(&self) -> Duration {
        self.uncounted
    }

    async fn before_retry(&mut self, retry: Retry<'_>) {
        let Retry { attempt, attempts, delay, error } = retry;
        tracing::info!(attempt, ?delay, %error, "trying again");
        let notice = json!({
            "kind": "retry", "attempt": attempt, "attempts": attempts, "delayMs": delay.as_millis() as u64,
            "code": error.kind.code(), "message": error.message,
        });
        self.channels.ops.send(Op::Notice(notice.to_string()));
    }

    async fn reset(&mut self, error: &Error) -> Result<()> {
        self.blocks.restart();
        // A connection that stalled must not be used again.
        if matches!(error.kind, ErrorKind::Timeout(_) | ErrorKind::Network(Phase::Headers | Phase::Body)) {
            let kimi = self.prepared.resolved.kimi.clone();
            self.prepared.resolved.kimi = in_background(move || kimi.on_fresh_connection()).await?;
        }
        Ok(())
    }
}

impl<'t> Turn<'t> {
    pub async fn prepare(
        request: &'t TurnRequest,
        source: ConversationSource,
        blocks: &'t mut Blocks,
        channels: &'t mut TurnChannels,
    ) -> Result<Self> {
        let prepared = ready(request, &source, blocks, channels).await?;
        let ResolvedRequest { kimi, credential, cache_lifetime, .. } = &prepared.resolved;
        let gate = PlanGate::open(kimi, credential, request).await;
        let cache = CacheWatch::open(kimi, gate.account(), request, *cache_lifetime);
        let cost = RequestCost::new(kimi, gate.account(), request);
        let uncounted = Duration::ZERO;
        Ok(Self { request, source, prepared, gate, cost, cache, blocks, channels, token_renewed: false, uncounted })
    }

    /// Returns how often and after which pauses a failed request is sent again.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.prepared.resolved.kimi.config.retry
    }

    /// Records what the turn used: for the prompt cache and for the plan.
    pub async fn record(&mut self) {
        let ops = &mut self.channels.ops;
        self.cache.finish(self.blocks.prompt_tokens(), ops).await;
        let ResolvedRequest { kimi, credential, .. } = &self.prepared.resolved;
        self.cost.record(kimi, credential, &self.request.model.id, self.blocks.tokens(), ops).await;
    }

    /// Adds to a refusal for lack of quota which window is used up.
    pub async fn explain(&self, error: Error) -> Error {
        let ResolvedRequest { kimi, credential, .. } = &self.prepared.resolved;
        quota_error::explain(kimi, credential, error).await
    }

    /// Sends the request and reads its answer. `token` becomes the one that was accepted once the response begins.
    async fn send(&mut self, admitted: Admitted, token: &mut Option<String>) -> Result<Finished> {
        let mut stream =
            Box::pin(AnswerStream::open(&self.prepared, self.request, &mut self.channels.ops, admitted)).await?;
        *token = Some(stream.token.clone());
        stream.read_until_answer(self.blocks, self.channels).await?;
        if self.blocks.content_state() == ContentState::Answer {
            // Nothing will be sent again, so the memory of the request is free.
            self.prepared.body = Bytes::new();
            self.source.context = Arc::default();
            self.source.media = Arc::default();
        }
        stream.read_to_end(self.blocks, self.channels).await
    }

    /// Whether Pi can go on with this answer. One that ran out of budget while thinking counts: Pi reacts to "length".
    fn is_complete(&self, finished: &Finished) -> bool {
        self.blocks.content_state() == ContentState::Answer || finished.reason == StopReason::Length
    }

    /// Keeps which images the service has refused, and which it has accepted with an answer.
    fn learn_rejections(&self, accepted: bool) {
        let PreparedRequest { resolved, images, rejected_images, .. } = &self.prepared;
        let rejections = resolved.kimi.process.get::<SessionRejections>();
        rejections.learn(resolved.session.as_deref(), if accepted { images } else { &[] }, rejected_images);
    }

    /// Prepares the request again with less in it. If that fails, `error` is what there is to report.
    async fn prepare_again(&mut self, error: Error) -> Attempt<Finished> {
        match ready(self.request, &self.source, self.blocks, self.channels).await {
            Ok(prepared) => {
                self.prepared = prepared;
                Attempt::Changed { counts: false }
            }
            Err(_) => Attempt::Fatal(error),
        }
    }

    /// Waits for the quota window that refused the request.
    async fn park(&mut self, refusal: Error) -> Attempt<Finished> {
        let ResolvedRequest { kimi, credential, .. } = &self.prepared.resolved;
        let TurnChannels { ops, answers, pace, .. } = &mut *self.channels;
        let start = Instant::now();
        pace.relax();
        let parked = self.gate.park(kimi, credential, ops, answers, refusal).await;
        pace.hurry();
        self.uncounted += start.elapsed();
        match parked {
            Ok(()) => Attempt::Changed { counts: false },
            Err(error) => Attempt::Fatal(error),
        }
    }

    /// Whether headers of the caller authorize the request in place of our credential.
    fn authorizes_itself(&self) -> bool {
        self.prepared.resolved.kimi.own_authorization(&self.request.extra_headers()).is_some()
    }

    /// Renews the token that the service refused inside a stream, once and while the user has seen nothing.
    async fn renew_token(&mut self, refused: &str, error: Error) -> Attempt<Finished> {
        let credential = &self.prepared.resolved.credential;
        if self.blocks.visible() || std::mem::replace(&mut self.token_renewed, true) {
            return Attempt::Fatal(credential.explain(error));
        }
        match credential.renew_refused(refused, error).await {
            Ok(()) => Attempt::Changed { counts: false },
            Err(error) => Attempt::Fatal(error),
        }
    }

    /// Changes what the service refuses in the request: files that it no longer knows, then a message or image that it names.
    async fn repair(&mut self, error: Error) -> Attempt<Finished> {
        match self.prepared.reupload(&error, &self.source, self.channels).await {
            Ok(Reuploaded::Body(_)) => return Attempt::Changed { counts: false },
            Ok(Reuploaded::Lost(media)) => {
                self.source.lost_media.extend(media);
                return self.prepare_again(error).await;
            }
            Ok(Reuploaded::No) => {}
            Err(error) => return Attempt::Fatal(error),
        }
        if let Some(parameter) = Parameter::refused_by(&error, &self.prepared.options) {
            let kimi = &self.prepared.resolved.kimi;
            let refused = kimi.process.get::<RefusedParameters>();
            refused.learn(parameter, kimi.config.endpoint.root(), &self.prepared.options);
            return self.prepare_again(error).await;
        }
        if !self.source.without_videos && self.prepared.refuses_videos(&error, &self.request.model.id).await {
            self.source.without_videos = true;
            return self.prepare_again(error).await;
        }
        let Some(item) = RejectedItem::of(&error) else { return Attempt::Failed { error, fallback: None } };
        let has_images = !self.prepared.images.is_empty();
        match self.source.rejected_items.as_slice() {
            [] => self.source.rejected_items.push(item),
            [_] if item.is_image() && has_images => self.source.rejected_items.push(item.with_suspects()),
            [.., last] => {
                if last.is_resolved_by(&item) {
                    // This turn fails. The next one leaves these items out from the beginning and can replace this one.
                    self.learn_rejections(false);
                }
                return Attempt::Failed { error, fallback: None };
            }
        }
        self.prepare_again(error).await
    }
}

/// Prepares the request, sends its notes and applies the payload hook.
async fn ready(
    request: &TurnRequest,
    source: &ConversationSource,
    blocks: &mut Blocks,
    channels: &mut TurnChannels,
) -> Result<PreparedRequest> {
    let mut prepared = prepare(request, source, channels).await?;
    for note in &prepared.notes {
        let wanted = request.repeat_notes || !source.rejected_items.is_empty();
        if ToldNotes::is_news(&prepared.resolved.kimi.process, note) || wanted {
            channels.ops.send(Op::Notice(json!({ "kind": "note", "message": note }).to_string()));
        }
    }
    if request.payload_hook {
        prepared.apply_payload_hook(channels).await?;
    }
    blocks.set_request(std::mem::take(&mut prepared.context));
    Ok(prepared)
}

/// Notes that this process has already shown, because a tool that loses something loses it in every request.
#[derive(Default)]
struct ToldNotes(Mutex<BTreeSet<String>>);

impl ToldNotes {
    /// Number of notes that are kept; further ones are not shown.
    const MAX: usize = 1000;

    fn is_news(process: &ProcessState, note: &str) -> bool {
        let told = process.get::<Self>();
        let mut told = told.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < Self::MAX && told.insert(note.to_owned())
    }
}
