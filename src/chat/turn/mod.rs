//! One turn from Pi's context to the terminal op.
//!
//! transcript → repair → encode → upload → (payload hook) → send → decode → blocks → frames, with retries as long as nothing visible has
//! come through. Whatever happens, exactly one terminal op leaves: `Done` or `Failed`.

mod attempt;
mod media_transfer;
mod prepare;
mod request;
mod response_kind;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::attempt::{Finished, attempt};
use self::prepare::{Prepared, Source, hook, prepare};
use super::request::rejected::{RejectedItem, SessionRejections};
use super::request::transcript::Media;
use super::stream::event::StopReason;
use super::stream::message::{Blocks, ContentState};
use super::stream::op_queue::{Frames, Op};
use crate::blocking::in_background;
use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind, Phase, Result, RetryOutcome};
use crate::http::retry::{RetryDecision, RetryState};
use crate::services::quota_message::explain;

pub use self::media_transfer::{BufferPool, Chunk, ChunkReceiver};
pub use self::request::{TurnModel, TurnOptions, TurnRequest};

/// A turn's connection to JavaScript.
pub struct TurnChannels {
    /// Where ops go.
    pub frames: Frames,
    /// Aborts the turn.
    pub cancel: CancellationToken,
    /// Bodies as the payload hook wants them, one for each `Body` op.
    pub hooked_bodies: mpsc::UnboundedReceiver<String>,
    /// Contents that were asked for with a `Media` op.
    pub chunks: ChunkReceiver,
    /// RejectionCache for them.
    pub buffer_pool: BufferPool,
}

/// Runs a turn to its terminal op. `context` is Pi's context as JSON text, `media` the images taken out of it.
pub async fn run(request: TurnRequest, context: String, media: Vec<Media>, mut line: TurnChannels) {
    let mut turn = Turn {
        blocks: Blocks::new(request.model.cost),
        retries: RetryState::default(),
        retry_outcome: RetryOutcome::Open,
    };
    let cancel = line.cancel.clone();
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        result = turn.run(&request, context, media, &mut line) => result,
    };
    turn.conclude(result, &request, &mut line.frames);
}

/// The terminal op for a turn that never got to run, or whose task panicked.
pub fn failure(error: Error) -> Op {
    failed(error, RetryOutcome::Open, json!({}))
}

fn failed(error: Error, outcome: RetryOutcome, summary: Value) -> Op {
    Op::Failed { error: Box::new(Error { message: error.message_for_pi(outcome), ..error }), summary }
}

struct Turn {
    blocks: Blocks,
    retries: RetryState,
    /// What is left to try if the turn fails.
    retry_outcome: RetryOutcome,
}

impl Turn {
    async fn run(
        &mut self,
        request: &TurnRequest,
        context: String,
        media: Vec<Media>,
        line: &mut TurnChannels,
    ) -> Result<Finished> {
        let mut source = Source { context: Arc::new(context), media: Arc::new(media), rejected_item: None };
        let mut prepared = self.ready(request, &source, line).await?;
        let policy = prepared.kimi.config.retry;
        loop {
            self.retries.attempts += 1;
            let outcome = attempt(&prepared, request, &mut self.blocks, &mut line.frames).await.map_err(|error| {
                // Errors inside the stream; those of its head are redact_error already.
                prepared.kimi.redact_error(error, &prepared.credential.token(), &request.extra_headers())
            });
            if let Err(error) = &outcome
                && !self.blocks.visible()
                && prepared.renew_files(error, &source, line).await?
            {
                // Nothing is wrong with the service; its budget of attempts stays whole.
                self.retries.attempts -= 1;
                continue;
            }
            let (error, second_best) = match outcome {
                Ok(finished) if self.complete(&finished) => {
                    prepared.kimi.process.get::<SessionRejections>().learn(
                        prepared.session.as_deref(),
                        &prepared.pictures,
                        &prepared.refused,
                    );
                    return Ok(finished);
                }
                // Reasoning that was seen is worth more than an error, once a second request has brought nothing else.
                Ok(finished) => {
                    (empty_answer(), Some(finished).filter(|_| self.blocks.substance() == ContentState::ReasoningOnly))
                }
                Err(error) if self.blocks.visible() => {
                    return Err(explain(&prepared.kimi, &prepared.credential, error).await);
                }
                Err(error) => match (RejectedItem::of(&error), &source.rejected_item) {
                    (Some(rejected_item), None) => {
                        source.rejected_item = Some(rejected_item);
                        // If the item cannot be found, the refusal itself is what there is to say.
                        prepared = self.ready(request, &source, line).await.map_err(|_| error)?;
                        continue;
                    }
                    (Some(second), Some(first)) if first.is_resolved_by(&second) => {
                        // This turn fails; the next one leaves the first item out from the beginning and can heal the second.
                        prepared.kimi.process.get::<SessionRejections>().learn(
                            prepared.session.as_deref(),
                            &[],
                            &prepared.refused,
                        );
                        (error, None)
                    }
                    _ => (error, None),
                },
            };
            let delay = match (self.retries.decide(&error, &policy), second_best) {
                (RetryDecision::Again(delay), _) => delay,
                (RetryDecision::Final(_), Some(finished)) => return Ok(finished),
                (RetryDecision::Final(retry_outcome), None) => {
                    self.retry_outcome = retry_outcome;
                    return Err(explain(&prepared.kimi, &prepared.credential, error).await);
                }
            };
            self.pause(&error, delay, &policy, line).await;
            self.blocks.restart();
            if stalled(&error.kind) {
                let kimi = prepared.kimi.clone();
                prepared.kimi = in_background(move || kimi.on_fresh_connection()).await?;
            }
        }
    }

    /// The request, its notes told and the payload hook asked.
    async fn ready(&mut self, request: &TurnRequest, source: &Source, line: &mut TurnChannels) -> Result<Prepared> {
        let mut prepared = prepare(request, source, line).await?;
        for note in prepared.notes.iter().filter(|note| source.rejected_item.is_some() || is_news(note)) {
            line.frames.send(Op::Notice(json!({ "kind": "note", "message": note }).to_string()));
        }
        if request.payload_hook {
            prepared.body = hook(prepared.body, line).await?;
        }
        self.blocks.know(std::mem::take(&mut prepared.known));
        Ok(prepared)
    }

    /// Whether this is an answer that Pi can go on with. A budget that ran out while thinking is one of its own kind: Pi reacts
    /// to "length".
    fn complete(&self, finished: &Finished) -> bool {
        self.blocks.substance() == ContentState::Answer || finished.reason == StopReason::Length
    }

    /// Waits before the next attempt, and says so.
    async fn pause(&self, error: &Error, delay: Duration, policy: &RetryPolicy, line: &mut TurnChannels) {
        let attempts = self.retries.attempts;
        tracing::debug!(attempts, ?delay, %error, "trying again");
        let notice = json!({
            "kind": "retry", "attempt": attempts + 1, "attempts": policy.attempts, "delayMs": delay.as_millis() as u64,
            "code": error.kind.code(), "message": error.message,
        });
        line.frames.send(Op::Notice(notice.to_string()));
        tokio::time::sleep(delay).await;
    }

    /// Closes what is open and emits the terminal op.
    fn conclude(&mut self, result: Result<Finished>, request: &TurnRequest, frames: &mut Frames) {
        self.blocks.close_all(frames);
        let op = match result {
            Ok(finished) => Op::Done(
                self.blocks.summary(Some(finished.reason), &finished.raw_reason, &request.model.id).to_string(),
            ),
            Err(error) => {
                tracing::debug!(code = error.kind.code(), %error, "turn failed");
                failed(error, self.retry_outcome, self.blocks.summary(None, "", &request.model.id))
            }
        };
        frames.send(op);
    }
}

/// Whether a note is said for the first time in this process: a tool that lost something loses it in every request.
fn is_news(note: &str) -> bool {
    const REMEMBERED: usize = 1000;
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    told.len() < REMEMBERED && told.insert(note.to_owned())
}

/// Whether the connection itself may be to blame, so that the next attempt must not meet it again.
fn stalled(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Timeout(_) | ErrorKind::Network(Phase::Headers | Phase::Body))
}

fn empty_answer() -> Error {
    Error::new(ErrorKind::EmptyAnswer, "Kimi answered without any content")
}
