//! The addon's own I/O thread.
//!
//! Node ends the runtime of an addon together with the last environment that loaded it, for example with `worker.terminate()`. A
//! token call must outlive that, so this runtime belongs to the process: it starts with the first request and is never shut down.
//! One worker serves all streams, so work that computes for more than half a millisecond goes to [`crate::blocking`].

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;

/// Threads for file work and hashing.
const BLOCKING_THREADS: usize = 4;

/// The runtime of a process, or why there is none.
#[derive(Debug)]
struct IoRuntime(std::io::Result<Runtime>);

impl Default for IoRuntime {
    fn default() -> Self {
        Self(build())
    }
}

/// Builds the runtime. The only place that decides how its thread waits.
fn build() -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("kimi-code")
        .enable_all()
        .build()
}

/// Returns a handle to the runtime, started on first use. An error means that the system gives this process no more threads.
pub fn handle() -> Result<Handle> {
    match &ProcessState::shared().get::<IoRuntime>().0 {
        Ok(runtime) => Ok(runtime.handle().clone()),
        Err(error) => Err(Error::new(ErrorKind::Io, format!("no thread for network requests: {error}"))),
    }
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
