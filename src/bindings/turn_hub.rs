//! Hands the ops of all turns of one JavaScript environment over, with one crossing for all of them.
//!
//! While turns are open there is one threadsafe function without payload, whose callback takes from every queue on the JavaScript
//! thread (docs/architecture.md#one-function-for-all-streams). It is strong, so that the process lives as long as a stream, and the
//! last turn drops it, so that an idle addon never keeps a process alive.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use napi::Status;
use napi::bindgen_prelude::{ClassInstance, Function};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;

use super::context::EncodedContext;
use super::media::MediaHandle;
use super::turn::{JsOp, TurnHandle, js_op, start};
use crate::chat::stream::frame_clock::FrameClock;
use crate::chat::stream::op_queue::{Op, OpQueue, OpWriter, WakeFn};
use crate::runtime::{self, CycleJob};

/// The ops of one turn: `[turn, ops]`.
pub type TurnOps = (u32, Vec<JsOp>);

/// Takes what waits for JavaScript, without arguments from Rust.
type FrameFunction = ThreadsafeFunction<(), (), Vec<TurnOps>, Status, false>;

/// All turns of one JavaScript environment.
#[napi]
#[derive(Default)]
pub struct TurnHub {
    turns: Arc<Turns>,
    clock: Arc<FrameClock>,
    /// Gone while no turn is open.
    consumer: Mutex<Weak<Consumer>>,
}

/// The turns whose terminal op JavaScript has not taken.
#[derive(Default)]
struct Turns(Mutex<Vec<OpenTurn>>);

struct OpenTurn {
    number: u32,
    queue: Arc<OpQueue>,
    /// A turn may end while a hook holds its ops back, and then nothing else keeps the way to JavaScript.
    _consumer: Arc<Consumer>,
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Vec<OpenTurn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes from every queue, and forgets turns that have ended.
    fn take(&self) -> Vec<TurnOps> {
        let mut frames = Vec::new();
        let mut was_full = false;
        let ended: Vec<OpenTurn> = self
            .lock()
            .extract_if(.., |turn| {
                was_full |= turn.queue.is_full();
                let ops = turn.queue.take();
                let ended = matches!(ops.last(), Some(Op::Done(_) | Op::Failed { .. }));
                if !ops.is_empty() {
                    frames.push((turn.number, ops.into_iter().map(js_op).collect()));
                }
                ended
            })
            .collect();
        // The last turn drops the consumer, without the lock.
        drop(ended);
        if was_full {
            // Reading waited for this.
            runtime::tick().wake();
        }
        frames
    }
}

/// JavaScript's end, which open turns keep alive.
struct Consumer {
    function: FrameFunction,
    /// A call is on its way.
    called: Arc<AtomicBool>,
    /// A call will be made at the end of the cycle.
    asked: AtomicBool,
    alive: AtomicBool,
}

impl Consumer {
    fn new(turns: Arc<Turns>, on_frame: &Function<'_, Vec<TurnOps>, ()>) -> napi::Result<Self> {
        let called = Arc::new(AtomicBool::new(false));
        let taken = Arc::clone(&called);
        let function =
            on_frame.build_threadsafe_function::<()>().callee_handled::<false>().build_callback(move |_| {
                // Cleared before taking: an op that arrives in between calls again and finds an empty queue, instead of being lost.
                taken.store(false, Ordering::Release);
                Ok(turns.take())
            })?;
        Ok(Self { function, called, asked: AtomicBool::new(false), alive: AtomicBool::new(true) })
    }

    /// Calls JavaScript once all streams have been read; false once it is gone.
    fn wake(self: &Arc<Self>) -> bool {
        let tick = runtime::tick();
        if !tick.cycle_ends_soon() {
            self.call();
        } else if !self.asked.swap(true, Ordering::AcqRel) {
            let consumer = Arc::clone(self);
            let call: CycleJob = Arc::new(move || consumer.call());
            tick.at_end_of_cycle(call);
        }
        self.alive.load(Ordering::Relaxed)
    }

    fn call(&self) {
        self.asked.store(false, Ordering::Release);
        let reached = self.called.swap(true, Ordering::AcqRel)
            || self.function.call((), ThreadsafeFunctionCallMode::NonBlocking) == Status::Ok;
        self.alive.store(reached, Ordering::Relaxed);
    }
}

#[napi]
impl TurnHub {
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a turn. `on_frame` receives the ops of all turns, the last one of each turn terminal; nothing is ever thrown for a
    /// failed request. It has to be the same function for all turns.
    #[napi(catch_unwind)]
    pub fn start_turn(
        &self,
        turn: u32,
        request: String,
        context: EncodedContext<'_>,
        media: Vec<ClassInstance<'_, MediaHandle>>,
        on_frame: Function<'_, Vec<TurnOps>, ()>,
    ) -> napi::Result<TurnHandle> {
        let consumer = self.consumer(&on_frame)?;
        let queue = Arc::new(OpQueue::default());
        let open = OpenTurn { number: turn, queue: Arc::clone(&queue), _consumer: Arc::clone(&consumer) };
        self.turns.lock().push(open);
        let resume: WakeFn = Arc::new({
            let consumer = Arc::downgrade(&consumer);
            move || consumer.upgrade().is_some_and(|consumer| consumer.wake())
        });
        let ops = OpWriter::new(Arc::clone(&queue), Arc::new(move || consumer.wake()), Arc::clone(&self.clock));
        let media = media.iter().map(|handle| handle.media_item()).collect();
        start(request, context.copy()?, media, ops, queue, resume)
    }

    /// Sets the time between frames in milliseconds.
    #[napi(catch_unwind)]
    pub fn set_frame_interval(&self, ms: u32) {
        self.clock.set_interval(Duration::from_millis(ms.into()));
    }

    fn consumer(&self, on_frame: &Function<'_, Vec<TurnOps>, ()>) -> napi::Result<Arc<Consumer>> {
        let mut known = self.consumer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(consumer) = known.upgrade() {
            return Ok(consumer);
        }
        let consumer = Arc::new(Consumer::new(Arc::clone(&self.turns), on_frame)?);
        *known = Arc::downgrade(&consumer);
        Ok(consumer)
    }
}
