//! Starts turns for JavaScript and hands their ops over.
//!
//! Each stream has a threadsafe function without payload, whose callback drains the queue on the JavaScript thread
//! (docs/architecture.md#one-function-per-stream). It is strong from start to terminal op, so that the process lives as long as the
//! stream, and is dropped with the task, so that an idle addon never keeps a process alive.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use napi::bindgen_prelude::{ClassInstance, Function, Utf16String};
use napi::threadsafe_function::ThreadsafeFunctionCallMode;
use napi::{JsString, Status};
use napi_derive::napi;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::error::{defect, redact_json, safe_text, with_error};
use super::js_string::utf8;
use super::media::{self, MediaHandle};
use super::node_runtime::spawn;
use super::{JsText, read};
use crate::chat::request::transcript::Media;
use crate::chat::stream::op_queue::{Op, OpCode, OpQueue, OpWriter};
use crate::chat::turn::{BufferPool, MediaChunk, TurnChannels, TurnRequest, failure, run};
use crate::display_text::visible_json;

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
}

#[napi]
impl TurnHandle {
    /// Aborts. The terminal op still arrives.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// Answers a `Body` op with the JSON text to send.
    #[napi(catch_unwind)]
    pub fn send_body(&self, body: Utf16String) {
        let (sender, cancel) = (self.body.clone(), self.cancel.clone());
        let sent = spawn(async move {
            match utf8(body).await {
                // The turn may be over already.
                Ok(body) => drop(sender.send(body)),
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
        let _ = self.answers.send(answer);
    }

    /// Answers a `Media` op with a chunk of base64 text.
    #[napi(catch_unwind)]
    pub fn send_media(&self, index: u32, from: u32, text: JsString<'_>) -> napi::Result<()> {
        let text = media::copy(&text, self.buffer_pool.take().unwrap_or_default())?;
        // The turn may be over already.
        let _ = self.media.send(MediaChunk { media_item: index as usize, from: from as usize, text });
        Ok(())
    }
}

/// Starts a turn. `on_frame` receives batches of ops, the last one terminal; nothing is ever thrown for a failed request.
#[napi(catch_unwind)]
pub fn start_turn(
    request: String,
    context: Utf16String,
    media: Vec<ClassInstance<'_, MediaHandle>>,
    on_frame: Function<'_, Vec<JsOp>, ()>,
) -> napi::Result<TurnHandle> {
    let queue = Arc::new(OpQueue::default());
    let drain = Arc::clone(&queue);
    let armed = Arc::new(AtomicBool::new(false));
    let disarm = Arc::clone(&armed);
    let function = on_frame.build_threadsafe_function::<()>().callee_handled::<false>().build_callback(move |_| {
        // Cleared before taking: an op that arrives in between wakes again and finds an empty queue, instead of being lost.
        disarm.store(false, Ordering::Release);
        Ok(drain.take().into_iter().map(js_op).collect::<Vec<JsOp>>())
    })?;
    let wake = Arc::new(move || {
        armed.swap(true, Ordering::AcqRel) || function.call((), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
    });
    let cancel = CancellationToken::new();
    let (body, hooked_bodies) = mpsc::unbounded_channel();
    let buffer_pool = BufferPool::default();
    let (media_sender, chunks) = mpsc::unbounded_channel();
    let (answer_sender, answers) = mpsc::unbounded_channel();
    let channels = TurnChannels {
        ops: OpWriter::new(queue, wake),
        cancel: cancel.clone(),
        hooked_bodies,
        chunks,
        buffer_pool: buffer_pool.clone(),
        answers,
    };
    let media = media.iter().map(|handle| handle.media_item()).collect();
    spawn(guarded(request, context, media, channels))?;
    Ok(TurnHandle { cancel, body, media: media_sender, buffer_pool, answers: answer_sender })
}

/// Runs a turn and ends it with an error op if it panics.
async fn guarded(request: String, context: Utf16String, media: Vec<Media>, mut channels: TurnChannels) {
    let request: TurnRequest = match read(&request) {
        Ok(request) => request,
        Err(error) => return channels.ops.send(failure(error)),
    };
    let context = match utf8(context).await {
        Ok(context) => context,
        Err(error) => return channels.ops.send(failure(error)),
    };
    let mut spare = channels.ops.spare();
    if AssertUnwindSafe(run(request, context, media, channels)).catch_unwind().await.is_err() {
        spare.send(failure(defect("turn")));
    }
}

/// Removes secrets from a JSON text and makes it safe to print; it may quote the service.
fn safe_json(text: String) -> String {
    let Ok(mut value) = serde_json::from_str(&text) else { return safe_text(&text) };
    redact_json(&mut value);
    visible_json(&mut value);
    value.to_string()
}

fn js_op(op: Op) -> JsOp {
    let code = op.code();
    let (index, text, extra) = match op {
        Op::Notice(text) | Op::Response(text) => (0, safe_json(text), None),
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
