//! What refreshes of one process share: threads that nobody interrupts, one transaction at a time, a rest after a failure, and
//! an orderly end.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::TOKEN_BUDGET;
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;
use crate::storage::dir_lock::HeldLocks;

/// A refresh that failed for no fault of the token is not tried again sooner, as long as the old token still works.
const COOLDOWN_AFTER_FAILURE: Duration = Duration::from_secs(30);

/// Runs a transaction on its own thread, to its end even if nobody waits for it any more.
pub async fn detached<T: Send + 'static>(work: impl FnOnce(&Handle) -> Result<T> + Send + 'static) -> Result<T> {
    let lost = |_| Error::new(ErrorKind::Internal, "the credential step ended unexpectedly");
    let (sender, receiver) = oneshot::channel();
    let runtime = Handle::current();
    std::thread::Builder::new()
        .name("kimi-code-auth".to_owned())
        .spawn(move || {
            // The caller may be gone.
            let _ = sender.send(work(&runtime));
        })
        .map_err(|error| Error::new(ErrorKind::Io, format!("no thread for the login: {error}")))?;
    receiver.await.map_err(lost)?
}

/// One transaction per slot and process, also where the official client's lock is switched off.
pub fn single_flight(key: &Path) -> Arc<Mutex<()>> {
    static FLIGHTS: OnceLock<Mutex<HashMap<PathBuf, Arc<Mutex<()>>>>> = OnceLock::new();
    let flights = FLIGHTS.get_or_init(Mutex::default);
    Arc::clone(flights.lock().unwrap_or_else(PoisonError::into_inner).entry(key.to_owned()).or_default())
}

fn failures() -> &'static Mutex<HashMap<PathBuf, Instant>> {
    static FAILURES: OnceLock<Mutex<HashMap<PathBuf, Instant>>> = OnceLock::new();
    FAILURES.get_or_init(Mutex::default)
}

/// Notes a failure.
pub fn start_cooldown(key: PathBuf) {
    failures().lock().unwrap_or_else(PoisonError::into_inner).insert(key, Instant::now());
}

/// Whether it is too early for another attempt.
pub fn in_cooldown(key: &Path) -> bool {
    let failures = failures().lock().unwrap_or_else(PoisonError::into_inner);
    failures.get(key).is_some_and(|since| since.elapsed() < COOLDOWN_AFTER_FAILURE)
}

/// A refresh token is on its way and its successor is not on disk yet.
pub struct InFlightRefresh;

fn spendings() -> &'static (Mutex<usize>, Condvar) {
    static SPENDINGS: (Mutex<usize>, Condvar) = (Mutex::new(0), Condvar::new());
    &SPENDINGS
}

impl InFlightRefresh {
    /// From now on the process' end waits, until this is dropped.
    pub fn begin() -> Self {
        *spendings().0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Self
    }
}

impl Drop for InFlightRefresh {
    fn drop(&mut self) {
        *spendings().0.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        spendings().1.notify_all();
    }
}

/// For the end of the process: waits until no refresh token is on its way any more, then releases all locks. Returns at once
/// if there is nothing to wait for.
pub fn shutdown() {
    let (count, done) = spendings();
    let running = count.lock().unwrap_or_else(PoisonError::into_inner);
    drop(done.wait_timeout_while(running, TOKEN_BUDGET + Duration::from_secs(1), |running| *running > 0));
    ProcessState::shared().get::<HeldLocks>().release_all();
}
