//! The addon's own I/O thread.
//!
//! Node ends the runtime of an addon together with the last environment that loaded it, for example with `worker.terminate()`. A
//! token call must outlive that, so this runtime belongs to the process: it starts with the first request and is never shut down.
//! One thread serves all streams, so work that computes for more than half a millisecond goes to [`crate::blocking`].

mod tick;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::thread;

use tokio::runtime::{Builder, Handle};

pub use self::tick::{CycleJob, StreamPace, TICK, Tick, Urgent, cycle_start};
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;

/// Threads for file work and hashing.
const BLOCKING_THREADS: usize = 4;

/// The runtime of a process, or why there is none.
#[derive(Debug)]
struct IoRuntime {
    handle: io::Result<Handle>,
    tick: Arc<Tick>,
}

impl Default for IoRuntime {
    fn default() -> Self {
        let tick = Arc::<Tick>::default();
        Self { handle: start(&tick), tick }
    }
}

/// Starts the runtime on a thread of its own. The only place that decides how this thread waits.
fn start(tick: &Arc<Tick>) -> io::Result<Handle> {
    let (parking, parked, empty_ticks) = (Arc::clone(tick), Arc::clone(tick), AtomicU32::new(0));
    let runtime = Builder::new_current_thread()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("kimi-code")
        .on_thread_park(move || parking.before_park(&empty_ticks))
        .on_thread_unpark(move || parked.after_park())
        .enable_all()
        .build()?;
    let (handle, tick) = (runtime.handle().clone(), Arc::clone(tick));
    thread::Builder::new().name("kimi-code".to_owned()).spawn(move || runtime.block_on(tick.poller()))?;
    Ok(handle)
}

/// Returns a handle to the runtime, started on first use. An error means that the system gives this process no more threads.
pub fn handle() -> Result<Handle> {
    match &ProcessState::shared().get::<IoRuntime>().handle {
        Ok(handle) => Ok(handle.clone()),
        Err(error) => Err(Error::new(ErrorKind::Io, format!("no thread for network requests: {error}"))),
    }
}

/// Returns the tick of the runtime.
pub fn tick() -> Arc<Tick> {
    Arc::clone(&ProcessState::shared().get::<IoRuntime>().tick)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtime_work_goes_on_after_its_caller_has_ended() {
        let (done, wait) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            handle().unwrap().spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                done.send(()).unwrap();
            });
        })
        .join()
        .unwrap();
        wait.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    }
}
