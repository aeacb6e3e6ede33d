//! A running turn as JavaScript sees it: what it can do to the turn, and the form of the turn's ops.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_channel::mpsc;
use futures_util::FutureExt;
use napi::JsString;
use napi::bindgen_prelude::Utf16String;
use napi_derive::napi;
use tokio_util::sync::CancellationToken;

use super::context::CopiedContext;
use super::error::{defect, redact_json, safe_text, with_error};
use super::js_string::utf8;
use super::media;
use super::node_runtime::{spawn, spawn_paced};
use super::{JsText, read};
use crate::chat::request::transcript::Media;
use crate::chat::stream::op_queue::{Op, OpCode, OpQueue, OpWriter, WakeFn};
use crate::chat::turn::{BufferPool, MediaChunk, TurnChannels, TurnRequest, failure, run};
use crate::display_text::visible_json;
use crate::runtime::{self, StreamPace};

/// `[code, index, text, extra]`, described for JavaScript beside its table of codes.
pub type JsOp = (u32, u32, JsText, Option<JsText>);

/// A running turn, as JavaScript holds it.
#[napi]
pub struct TurnHandle {
    cancel: CancellationToken,
    body: mpsc::UnboundedSender<String>,
    media: mpsc::UnboundedSender<MediaChunk>,
    buffer_pool: BufferPool,
    answers: mpsc::UnboundedSender<String>,
    queue: Arc<OpQueue>,
    /// Tells JavaScript that ops are waiting.
    resume: WakeFn,
}

#[napi]
impl TurnHandle {
    /// Aborts. The terminal op still arrives.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
        runtime::tick().wake();
        self.pause(false);
    }

    /// Stops or resumes handing ops over. Meanwhile the socket is not read once 1 MiB is waiting.
    #[napi(catch_unwind)]
    pub fn pause(&self, paused: bool) {
        self.queue.set_paused(paused);
        if !paused {
            (self.resume)();
        }
    }

    /// Answers a `Body` op with the JSON text to send.
    #[napi(catch_unwind)]
    pub fn send_body(&self, body: Utf16String) {
        let (sender, cancel) = (self.body.clone(), self.cancel.clone());
        let sent = spawn(async move {
            match utf8(body).await {
                // The turn may be over already.
                Ok(body) => drop(sender.unbounded_send(body)),
                Err(_) => cancel.cancel(),
            }
        });
        if sent.is_err() {
            self.cancel.cancel();
        }
    }

    /// Answers a question that a notice asked: `stop` or `wait`.
    #[napi(catch_unwind)]
    pub fn send_answer(&self, answer: String) {
        // The turn may be over already.
        let _ = self.answers.unbounded_send(answer);
        runtime::tick().wake();
    }

    /// Answers a `Media` op with a chunk of base64 text.
    #[napi(catch_unwind)]
    pub fn send_media(&self, index: u32, from: u32, text: JsString<'_>) -> napi::Result<()> {
        let text = media::copy(&text, self.buffer_pool.take().unwrap_or_default())?;
        // The turn may be over already.
        let _ = self.media.unbounded_send(MediaChunk { media_item: index as usize, from: from as usize, text });
        Ok(())
    }
}

/// Starts a turn whose ops go to `queue`; `resume` tells JavaScript that ops are waiting.
pub(super) fn start(
    request: String,
    context: CopiedContext,
    media: Vec<Media>,
    ops: OpWriter,
    queue: Arc<OpQueue>,
    resume: WakeFn,
) -> napi::Result<TurnHandle> {
    let cancel = CancellationToken::new();
    let (body, hooked_bodies) = mpsc::unbounded();
    let buffer_pool = BufferPool::default();
    let (media_sender, chunks) = mpsc::unbounded();
    let (answer_sender, answers) = mpsc::unbounded();
    let channels = TurnChannels {
        ops,
        pace: StreamPace::new(runtime::tick()),
        cancel: cancel.clone(),
        hooked_bodies,
        chunks,
        buffer_pool: buffer_pool.clone(),
        answers,
    };
    spawn_paced(guarded(request, context, media, channels))?;
    Ok(TurnHandle { cancel, body, media: media_sender, buffer_pool, answers: answer_sender, queue, resume })
}

/// Runs a turn and ends it with an error op if it panics.
async fn guarded(request: String, context: CopiedContext, media: Vec<Media>, mut channels: TurnChannels) {
    let read = read(&request);
    drop(request);
    let request: TurnRequest = match read {
        Ok(request) => request,
        Err(error) => return channels.ops.send(failure(error)),
    };
    let context = match context.convert().await {
        Ok(context) => context,
        Err(error) => return channels.ops.send(failure(error)),
    };
    let mut spare = channels.ops.spare();
    // Boxed, because a task keeps a future twice that it is given by value.
    let running = Box::pin(run(&request, context, media, &mut channels));
    if AssertUnwindSafe(running).catch_unwind().await.is_err() {
        spare.send(failure(defect("turn")));
    }
}

/// Removes secrets from a JSON text that may quote the service, and makes it safe to print where users see it.
fn safe_json(text: String, is_printed: bool) -> String {
    let Ok(mut value) = serde_json::from_str(&text) else { return safe_text(&text) };
    redact_json(&mut value);
    if is_printed {
        visible_json(&mut value);
    }
    value.to_string()
}

pub(super) fn js_op(op: Op) -> JsOp {
    let code = op.code();
    let (index, text, extra) = match op {
        Op::Notice(text) => (0, safe_json(text, true), None),
        // A program gets the headers as they came, but for our own secrets.
        Op::Response(text) => (0, safe_json(text, false), None),
        Op::Body(text) | Op::Raw(text) | Op::Done(text) => (0, text, None),
        Op::Failed { error, summary } => (0, with_error(summary, &error), None),
        Op::Media { index, from, to } => (index, format!("[{from},{to}]"), None),
        Op::Start { index, head: text, .. }
        | Op::Delta { index, text, .. }
        | Op::End { index, verdict: text, .. }
        | Op::Amend { index, members: text } => (index, text, None),
        Op::ToolDelta { index, text, changes } => (index, text, Some(changes.into_text().into())),
    };
    // Positions in a message's content fit into 32 bits by a wide margin.
    (code as u32, u32::try_from(index).unwrap_or(u32::MAX), text.into(), extra)
}

/// Returns the codes of the ops by name, as a JSON object, for the test that compares them with JavaScript's table.
#[napi(catch_unwind)]
pub fn op_codes() -> String {
    let codes = OpCode::ALL.iter().map(|(name, code)| ((*name).to_owned(), (*code).into()));
    serde_json::Value::Object(codes.collect()).to_string()
}
