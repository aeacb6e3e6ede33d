//! What connects a turn to JavaScript.

use futures_channel::mpsc;
use tokio_util::sync::CancellationToken;

use super::media_transfer::{BufferPool, ChunkReceiver};
use crate::chat::stream::op_queue::OpWriter;
use crate::runtime::StreamPace;

/// A turn's connection to JavaScript.
pub struct TurnChannels {
    /// Takes the ops.
    pub ops: OpWriter,
    /// Says how urgent the turn is.
    pub pace: StreamPace,
    /// Aborts the turn.
    pub cancel: CancellationToken,
    /// Bodies from the payload hook, one for each `Body` op.
    pub hooked_bodies: mpsc::UnboundedReceiver<String>,
    /// Content that was asked for with a `Media` op.
    pub chunks: ChunkReceiver,
    /// Memory for that content.
    pub buffer_pool: BufferPool,
    /// The user's answers, one for each question.
    pub answers: mpsc::UnboundedReceiver<String>,
}
