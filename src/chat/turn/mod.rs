//! Runs one turn, from Pi's context to the terminal op.
//!
//! Prepares the request ([`prepare`]), sends it and reads the answer ([`answer_stream`]), and repeats that as long as the user has seen
//! nothing of the answer ([`attempt`]). Exactly one terminal op leaves, whatever happens: `Done` or `Failed`.
//!
//! A future is as large as its largest step. What is done before or after the stream is boxed, so that an open stream keeps no room for
//! it.

mod answer_stream;
mod attempt;
mod cache_watch;
mod channels;
mod media_transfer;
mod model;
mod options;
mod plan_gate;
mod prepare;
mod request;
mod request_cost;
mod response_kind;

use std::sync::Arc;

use serde_json::{Value, json};

use self::answer_stream::Finished;
use self::attempt::Turn;
use self::prepare::ConversationSource;
use super::request::transcript::{ContextText, Media};
use super::stream::message::Blocks;
use super::stream::op_queue::Op;
use crate::error::{Error, RetryOutcome};
use crate::http::retry::{GaveUp, run_with_retry};
use crate::runtime;

pub use self::channels::TurnChannels;
pub use self::media_transfer::{BufferPool, MediaChunk};
pub use self::model::TurnModel;
pub use self::options::TurnOptions;
pub use self::request::TurnRequest;

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
        rejected_items: Vec::new(),
        lost_media: Vec::new(),
        without_videos: false,
    };
    let mut turn = Box::pin(Turn::prepare(request, source, blocks, channels)).await?;
    let policy = turn.retry_policy();
    let result = Box::pin(run_with_retry(&mut turn, &policy)).await;
    // What is recorded below must not keep the end of the turn waiting for a tick of the streams.
    let _urgent = runtime::tick().urgent();
    Box::pin(turn.record()).await;
    match result {
        Ok(finished) => Ok(finished),
        Err(GaveUp { error, outcome }) => Err(GaveUp { error: Box::pin(turn.explain(error)).await, outcome }),
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
