//! Starting a turn from JavaScript and handing its frames over.
//!
//! A turn pushes: one strong, payload-free threadsafe function per stream, whose callback drains the shared queue on the JavaScript
//! thread (docs/architecture.md#one-function-per-stream). It is strong from start to terminal op, so that the process lives as
//! long as the stream, and is dropped with the task, so that an idle addon never keeps a process alive.

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

use super::error::{defect, with_error};
use super::js_string::utf8;
use super::media;
use super::media::MediaHandle;
use super::node_runtime::spawn;
use super::{JsText, read};
use crate::chat::request::transcript::Media;
use crate::chat::stream::op_queue::{BlockKind, FrameQueue, Frames, Op};
use crate::chat::turn::{BufferPool, Chunk, TurnChannels, TurnRequest, failure, run};

/// `[code, index, text, extra]`, see `extension/native.ts`.
pub type JsOp = (u32, u32, JsText, Option<JsText>);

/// What JavaScript can do with a running turn.
#[napi]
pub struct TurnHandle {
    cancel: CancellationToken,
    body: mpsc::UnboundedSender<String>,
    media: mpsc::UnboundedSender<Chunk>,
    buffer_pool: BufferPool,
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

    /// Answers a `Media` op with a piece of base64 text.
    #[napi(catch_unwind)]
    pub fn send_media(&self, index: u32, from: u32, text: JsString<'_>) -> napi::Result<()> {
        let text = media::copy(&text, self.buffer_pool.take().unwrap_or_default())?;
        // As above.
        let _ = self.media.send(Chunk { media_item: index as usize, from: from as usize, text });
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
    let queue = Arc::new(FrameQueue::default());
    let drain = Arc::clone(&queue);
    let armed = Arc::new(AtomicBool::new(false));
    let disarm = Arc::clone(&armed);
    let wake = on_frame.build_threadsafe_function::<()>().callee_handled::<false>().build_callback(move |_| {
        // Before taking: an op that arrives in between rings again and finds an empty queue, instead of being lost.
        disarm.store(false, Ordering::Release);
        Ok(drain.take().into_iter().map(js_op).collect::<Vec<JsOp>>())
    })?;
    let bell = Arc::new(move || {
        armed.swap(true, Ordering::AcqRel) || wake.call((), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok
    });
    let cancel = CancellationToken::new();
    let (body, hooked_bodies) = mpsc::unbounded_channel();
    let buffer_pool = BufferPool::default();
    let (media_sender, chunks) = mpsc::unbounded_channel();
    let line = TurnChannels {
        frames: Frames::new(queue, bell),
        cancel: cancel.clone(),
        hooked_bodies,
        chunks,
        buffer_pool: buffer_pool.clone(),
    };
    let media = media.iter().map(|handle| handle.item()).collect();
    spawn(guarded(request, context, media, line))?;
    Ok(TurnHandle { cancel, body, media: media_sender, buffer_pool })
}

/// A panic anywhere ends the turn with an error op and nothing else.
async fn guarded(request: String, context: Utf16String, media: Vec<Media>, mut line: TurnChannels) {
    let request: TurnRequest = match read(&request) {
        Ok(request) => request,
        Err(error) => return line.frames.send(failure(error)),
    };
    let context = match utf8(context).await {
        Ok(context) => context,
        Err(error) => return line.frames.send(failure(error)),
    };
    let mut spare = line.frames.spare();
    if AssertUnwindSafe(run(request, context, media, line)).catch_unwind().await.is_err() {
        spare.send(failure(defect("turn")));
    }
}

fn js_op(op: Op) -> JsOp {
    let kind = |base: u32, kind: BlockKind| {
        base + match kind {
            BlockKind::Text => 0,
            BlockKind::Thinking => 1,
            BlockKind::Tool => 2,
        }
    };
    // Positions in a message's content fit into 32 bits by a wide margin.
    let at = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
    match op {
        Op::Body(text) => (0, 0, text.into(), None),
        Op::Response(text) => (1, 0, text.into(), None),
        Op::Notice(text) => (2, 0, text.into(), None),
        Op::Raw(text) => (3, 0, text.into(), None),
        Op::Media { index, from, to } => (4, at(index), format!("[{from},{to}]").into(), None),
        Op::Start { index, kind: block, head } => (kind(10, block), at(index), head.into(), None),
        Op::Delta { index, kind: block, text } => (kind(20, block), at(index), text.into(), None),
        Op::ToolDelta { index, text, changes } => (22, at(index), text.into(), Some(changes.into_text().into())),
        Op::End { index, kind: block, verdict } => (kind(30, block), at(index), verdict.into(), None),
        Op::Amend { index, members } => (40, at(index), members.into(), None),
        Op::Done(text) => (100, 0, text.into(), None),
        Op::Failed { error, summary } => (101, 0, with_error(summary, &error).into(), None),
    }
}
