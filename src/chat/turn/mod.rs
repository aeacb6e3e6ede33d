//! Runs one turn, from Pi's context to the terminal op.
//!
//! Prepares the request ([`prepare`]), sends it and reads the answer ([`attempt`]), and repeats that as long as the user has seen
//! nothing of the answer. Exactly one terminal op leaves, whatever happens: `Done` or `Failed`.
//!
//! A future is as large as its largest step. What is done before or after the stream is boxed, so that an open stream keeps no room for
//! it.

mod attempt;
mod cache_watch;
mod channels;
mod media_transfer;
mod plan_gate;
mod prepare;
mod request;
mod response_kind;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::attempt::{AnswerStream, Finished};
use self::cache_watch::CacheWatch;
use self::plan_gate::{Admitted, PlanGate};
use self::prepare::{ConversationSource, PreparedRequest, ResolvedRequest, prepare};
use super::request::parameters::{Parameter, RefusedParameters};
use super::request::rejected::{RejectedItem, SessionRejections};
use super::request::transcript::{ContextText, Media};
use super::stream::event::StopReason;
use super::stream::message::{Blocks, ContentState};
use super::stream::op_queue::Op;
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Phase, Result, RetryOutcome};
use crate::files::Reuploaded;
use crate::http::retry::{Attempt, GaveUp, Operation, Retry, run_with_retry};
use crate::process_state::ProcessState;
use crate::runtime;
use crate::services::quota_error::explain;

pub use self::channels::TurnChannels;
pub use self::media_transfer::{BufferPool, MediaChunk};
pub use self::request::{TurnModel, TurnOptions, TurnRequest};

/// Runs a turn to its terminal op. `context` is Pi's context, `media` the media items taken out of it.
pub async fn run(request: &TurnRequest, context: ContextText, media: Vec<Media>, channels: &mut TurnChannels) {
    let mut blocks = Blocks::new(request.model.cost);
    let cancel = channels.cancel.clone();
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled().into()),
        result = answer(request, context, media, &mut blocks, channels) => result,
    };
    blocks.close_all(&mut channels.ops);
    channels.ops.send(terminal_op(result, &blocks, &request.model.id));
}

/// Makes the terminal op of a turn that never started, or whose task panicked.
pub fn failure(error: Error) -> Op {
    failed(error, RetryOutcome::Open, json!({}))
}

/// Prepares the request and sends it until there is an answer, or nothing is left to try.
async fn answer(
    request: &TurnRequest,
    context: ContextText,
    media: Vec<Media>,
    blocks: &mut Blocks,
    channels: &mut TurnChannels,
) -> Result<Finished, GaveUp> {
    let source = ConversationSource {
        context: Arc::new(context),
        media: Arc::new(media),
        rejected_item: None,
        lost_media: Vec::new(),
        without_videos: false,
    };
    let mut turn = Box::pin(Turn::prepare(request, source, blocks, channels)).await?;
    let policy = turn.prepared.resolved.kimi.config.retry;
    let result = Box::pin(run_with_retry(&mut turn, &policy)).await;
    // What is recorded below must not keep the end of the turn waiting for a tick of the streams.
    let _urgent = runtime::tick().urgent();
    Box::pin(turn.cache.finish(turn.blocks.prompt_tokens(), &mut turn.channels.ops)).await;
    let resolved = &turn.prepared.resolved;
    let tokens = turn.blocks.tokens();
    let ops = &mut turn.channels.ops;
    Box::pin(turn.gate.record(&resolved.kimi, &resolved.credential, &request.model.id, tokens, ops)).await;
    match result {
        Ok(finished) => Ok(finished),
        Err(GaveUp { error, outcome }) => {
            let error = Box::pin(explain(&resolved.kimi, &resolved.credential, error)).await;
            Err(GaveUp { error, outcome })
        }
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
        let wanted = request.repeat_notes || source.rejected_item.is_some();
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

/// A turn whose request is prepared.
struct Turn<'t> {
    request: &'t TurnRequest,
    source: ConversationSource,
    prepared: PreparedRequest,
    gate: PlanGate,
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
        self.gate.tell_cost(kimi, &self.request.model.id, self.prepared.prompt_tokens, ops);
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
                    && !self.request.has_own_authorization()
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
    async fn prepare(
        request: &'t TurnRequest,
        source: ConversationSource,
        blocks: &'t mut Blocks,
        channels: &'t mut TurnChannels,
    ) -> Result<Self> {
        let prepared = ready(request, &source, blocks, channels).await?;
        let ResolvedRequest { kimi, credential, cache_lifetime, .. } = &prepared.resolved;
        let gate = PlanGate::open(kimi, credential, request).await;
        let cache = CacheWatch::open(kimi, gate.account(), request, *cache_lifetime);
        let uncounted = Duration::ZERO;
        Ok(Self { request, source, prepared, gate, cache, blocks, channels, token_renewed: false, uncounted })
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
        match (RejectedItem::of(&error), &self.source.rejected_item) {
            (Some(item), None) => {
                self.source.rejected_item = Some(item);
                self.prepare_again(error).await
            }
            (second, first) => {
                if let (Some(second), Some(first)) = (second, first)
                    && first.is_resolved_by(&second)
                {
                    // This turn fails. The next one leaves the first item out from the beginning and can replace the second.
                    self.learn_rejections(false);
                }
                Attempt::Failed { error, fallback: None }
            }
        }
    }
}

fn terminal_op(result: Result<Finished, GaveUp>, blocks: &Blocks, model: &str) -> Op {
    match result {
        Ok(finished) => Op::Done(blocks.summary(Some(finished.reason), &finished.raw_reason, model).to_string()),
        Err(GaveUp { error, outcome }) => {
            tracing::info!(code = error.kind.code(), %error, "turn failed");
            failed(error, outcome, blocks.summary(None, "", model))
        }
    }
}

fn failed(error: Error, outcome: RetryOutcome, summary: Value) -> Op {
    Op::Failed { error: Box::new(Error { message: error.message_for_pi(outcome), ..error }), summary }
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
