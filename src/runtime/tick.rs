//! One tick for all streams: decides when the I/O thread looks at its sockets.
//!
//! A stream brings a few hundred small packets a second, and each would wake the thread, although frames leave every 33 ms at most. So
//! while every open stream is past its first output and nothing else is urgent, the thread sleeps to a tick that all streams share, then
//! reads everything that is there without waiting. It sleeps in the hook that tokio calls before it would wait for its sockets; tokio's
//! own wake-ups do not end that sleep, so everything that comes from JavaScript calls [`Tick::wake`].

use std::cell::Cell;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// Time between two ticks, and the shortest time between two frames: 30 a second look fluent.
pub const TICK: Duration = Duration::from_millis(33);

/// Bytes of one stream within one tick that show a burst, which is read without waiting. Less than the smallest usual receive buffer.
const BURST: usize = 32 << 10;

/// Ticks without data after which the thread waits for its sockets again, because the streams are slower than the tick.
const EMPTY_TICKS: u32 = 2;

/// Time after the first output of a stream in which it does not wait for ticks: an answer of a few words is over by then.
const SHORT_ANSWER: Duration = Duration::from_millis(5);

/// Longest time for which work is put off to the end of a cycle, because in a burst the thread may not rest for long.
const LONGEST_CYCLE: Duration = Duration::from_millis(10);

thread_local! {
    /// When the I/O thread was woken last; absent on all other threads.
    static CYCLE_START: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Work to be done once per cycle, when all streams have been read.
pub type CycleJob = Arc<dyn Fn() + Send + Sync>;

/// The state that streams and the I/O thread share.
#[derive(Default)]
pub struct Tick {
    /// Tasks that must not wait for a tick.
    urgent: AtomicUsize,
    /// Streams that may.
    paced: AtomicUsize,
    /// Number of the current tick, for the bytes that each stream counts.
    number: AtomicUsize,
    /// Something was read since the last tick, and whether it was a burst.
    read: AtomicBool,
    burst: AtomicBool,
    jobs: Mutex<Vec<CycleJob>>,
    woken: Mutex<bool>,
    wake: Condvar,
    /// Wakes a task that does nothing, so that tokio looks at its sockets without waiting for them.
    poll: Mutex<Option<Waker>>,
}

impl Tick {
    /// Returns a guard for work that must not wait for a tick, and wakes the thread.
    pub fn urgent(self: &Arc<Self>) -> Urgent {
        self.urgent.fetch_add(1, Ordering::SeqCst);
        self.wake();
        Urgent(Arc::clone(self))
    }

    /// Wakes the thread if it sleeps to a tick.
    pub fn wake(&self) {
        *lock(&self.woken) = true;
        self.wake.notify_one();
    }

    /// Puts `job` off until everything that has arrived is read, so that several streams cause one job.
    pub fn at_end_of_cycle(&self, job: CycleJob) {
        lock(&self.jobs).push(job);
    }

    /// Whether work can be put off to the end of the cycle: on the I/O thread, unless it has not rested for long.
    pub fn cycle_ends_soon(&self) -> bool {
        CYCLE_START.get().is_some_and(|start| start.elapsed() < LONGEST_CYCLE)
    }

    /// Runs as the task whose waker makes tokio poll without waiting.
    pub(super) async fn poller(&self) {
        std::future::poll_fn(|context| {
            *lock(&self.poll) = Some(context.waker().clone());
            Poll::<()>::Pending
        })
        .await;
    }

    /// Called before the thread waits for its sockets: ends the cycle, and sleeps to the next tick if nothing is urgent.
    pub(super) fn before_park(&self, empty_ticks: &AtomicU32) {
        for job in mem::take(&mut *lock(&self.jobs)) {
            job();
        }
        if self.urgent.load(Ordering::SeqCst) > 0 || self.paced.load(Ordering::SeqCst) == 0 {
            return;
        }
        let empty = if self.read.swap(false, Ordering::Relaxed) { 0 } else { empty_ticks.load(Ordering::Relaxed) + 1 };
        empty_ticks.store(empty.min(EMPTY_TICKS), Ordering::Relaxed);
        if self.burst.swap(false, Ordering::Relaxed) || empty > EMPTY_TICKS {
            return;
        }
        self.sleep();
        self.number.fetch_add(1, Ordering::Relaxed);
        if let Some(poll) = &*lock(&self.poll) {
            poll.wake_by_ref();
        }
    }

    /// Called when the thread has waited for its sockets.
    pub(super) fn after_park(&self) {
        CYCLE_START.set(Some(Instant::now()));
    }

    fn sleep(&self) {
        let start = CYCLE_START.get().unwrap_or_else(Instant::now);
        let mut woken = lock(&self.woken);
        while !mem::take(&mut *woken) {
            let rest = TICK.saturating_sub(start.elapsed());
            if rest.is_zero() {
                return;
            }
            woken = self.wake.wait_timeout(woken, rest).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Returns when the I/O thread was woken last, so that all streams of one cycle agree on the time; `None` on other threads.
pub fn cycle_start() -> Option<Instant> {
    CYCLE_START.get()
}

/// Keeps the thread from sleeping to a tick while it exists.
#[derive(Debug)]
pub struct Urgent(Arc<Tick>);

impl Drop for Urgent {
    fn drop(&mut self) {
        self.0.urgent.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How urgent a turn is: at first it must not wait for a tick, once its output flows it may.
#[derive(Debug)]
pub struct StreamPace {
    tick: Arc<Tick>,
    /// Present while the turn is urgent.
    urgent: Option<Urgent>,
    /// When its output began, since it was made urgent last.
    output_start: Option<Instant>,
    /// Bytes that were read within a tick, and its number.
    bytes: usize,
    number: usize,
}

impl StreamPace {
    /// Starts urgent.
    pub fn new(tick: Arc<Tick>) -> Self {
        Self { urgent: Some(tick.urgent()), tick, output_start: None, bytes: 0, number: 0 }
    }

    /// Lets the turn wait for ticks.
    pub fn relax(&mut self) {
        if self.urgent.is_some() {
            self.tick.paced.fetch_add(1, Ordering::SeqCst);
            self.urgent = None;
        }
    }

    /// Notes that the turn has output. It may wait for ticks if more comes later.
    pub fn has_output(&mut self) {
        match self.output_start {
            None => self.output_start = Some(Instant::now()),
            Some(start) if start.elapsed() >= SHORT_ANSWER => self.relax(),
            Some(_) => {}
        }
    }

    /// Makes the turn urgent again.
    pub fn hurry(&mut self) {
        self.output_start = None;
        if self.urgent.is_none() {
            self.urgent = Some(self.tick.urgent());
            self.tick.paced.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Notes that so many bytes were read.
    pub fn read(&mut self, bytes: usize) {
        let number = self.tick.number.load(Ordering::Relaxed);
        if mem::replace(&mut self.number, number) != number {
            self.bytes = 0;
        }
        self.bytes += bytes;
        self.tick.read.store(true, Ordering::Relaxed);
        if self.bytes >= BURST {
            self.bytes = 0;
            self.tick.burst.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for StreamPace {
    fn drop(&mut self) {
        self.hurry();
    }
}

impl std::fmt::Debug for Tick {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tick")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that is about to wait for its sockets: whether it slept to a tick instead.
    fn slept(tick: &Tick, empty_ticks: &AtomicU32) -> bool {
        let before = tick.number.load(Ordering::Relaxed);
        tick.before_park(empty_ticks);
        tick.number.load(Ordering::Relaxed) > before
    }

    fn relaxed(tick: &Arc<Tick>) -> StreamPace {
        let mut pace = StreamPace::new(Arc::clone(tick));
        pace.relax();
        *lock(&tick.woken) = false;
        pace
    }

    #[test]
    fn tick_thread_sleeps_while_all_streams_are_relaxed_and_nothing_is_urgent() {
        let (tick, empty) = (Arc::<Tick>::default(), AtomicU32::new(0));
        assert!(!slept(&tick, &empty), "without streams nothing is paced");
        let mut pace = relaxed(&tick);
        pace.read(100);
        let start = Instant::now();
        assert!(slept(&tick, &empty));
        assert!(start.elapsed() >= TICK);
        let urgent = tick.urgent();
        assert!(!slept(&tick, &empty), "urgent work");
        drop(urgent);
        let first = StreamPace::new(Arc::clone(&tick));
        assert!(!slept(&tick, &empty), "another stream waits for its first output");
        drop(first);
        pace.read(100);
        assert!(slept(&tick, &empty));
        pace.hurry();
        assert!(!slept(&tick, &empty), "the stream is retried");
    }

    #[test]
    fn tick_end_of_a_short_answer_is_read_without_sleeping() {
        let (tick, empty) = (Arc::<Tick>::default(), AtomicU32::new(0));
        let mut pace = StreamPace::new(Arc::clone(&tick));
        pace.read(100);
        pace.has_output();
        assert!(!slept(&tick, &empty), "the rest may follow at once");
        std::thread::sleep(SHORT_ANSWER);
        pace.read(100);
        pace.has_output();
        *lock(&tick.woken) = false;
        assert!(slept(&tick, &empty), "its output flows");
        pace.hurry();
        pace.has_output();
        assert!(!slept(&tick, &empty), "another attempt begins anew");
    }

    #[test]
    fn tick_bursts_and_silence_are_read_without_sleeping() {
        let (tick, empty) = (Arc::<Tick>::default(), AtomicU32::new(0));
        let mut pace = relaxed(&tick);
        pace.read(BURST);
        assert!(!slept(&tick, &empty), "a burst");
        pace.read(BURST - 1);
        assert!(slept(&tick, &empty));
        assert!(slept(&tick, &empty) && slept(&tick, &empty), "the stream may come back");
        assert!(!slept(&tick, &empty) && !slept(&tick, &empty), "it is slower than the tick");
        pace.read(1);
        assert!(slept(&tick, &empty));
    }

    #[test]
    fn tick_wake_ends_the_sleep() {
        let (tick, empty) = (Arc::<Tick>::default(), AtomicU32::new(0));
        let mut pace = relaxed(&tick);
        let shortest = (0..20).map(|_| {
            pace.read(1);
            let waker = std::thread::spawn({
                let tick = Arc::clone(&tick);
                move || tick.wake()
            });
            let start = Instant::now();
            tick.before_park(&empty);
            let took = start.elapsed();
            waker.join().unwrap();
            took
        });
        assert!(shortest.min().unwrap() < TICK);
    }

    #[test]
    fn tick_jobs_of_a_cycle_are_done_before_the_sleep() {
        let (tick, empty) = (Arc::<Tick>::default(), AtomicU32::new(0));
        let done = Arc::new(AtomicUsize::new(0));
        let job = Arc::clone(&done);
        tick.at_end_of_cycle(Arc::new(move || _ = job.fetch_add(1, Ordering::Relaxed)));
        assert_eq!(done.load(Ordering::Relaxed), 0);
        tick.before_park(&empty);
        tick.before_park(&empty);
        assert_eq!(done.load(Ordering::Relaxed), 1);
    }
}
