//! What refreshes of one process share: threads that no caller interrupts, one transaction per login, a cooldown after a failure,
//! and an orderly end.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::error::{Error, ErrorKind, Phase, Result};
use crate::process_state::ProcessState;
use crate::storage::clock::AwakeTime;
use crate::storage::dir_lock::HeldLocks;

/// Pause after a refresh that failed through no fault of the token, as long as the old token still works.
const COOLDOWN: Duration = Duration::from_secs(30);

/// Longest time that the exit of the process waits for the answer to a token call that was sent.
const EXIT_WAIT: Duration = Duration::from_secs(30);

/// How often a caller's limit is looked at.
const TICK: Duration = Duration::from_millis(500);

/// The refreshes of one process.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    /// Logins with a transaction under way.
    busy: Mutex<HashSet<PathBuf>>,
    /// When the last refresh of a login failed.
    failed: Mutex<HashMap<PathBuf, Instant>>,
    /// Token calls that were sent and whose answers are not stored yet.
    sent: Mutex<usize>,
    stored: Condvar,
    /// The process ends: nothing is sent any more.
    closing: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Refreshes {
    /// Begins a transaction, or returns `None` while another one of this process handles the same login.
    pub fn begin(self: &Arc<Self>, login: &Path) -> Option<Transaction> {
        let transaction = || Transaction { refreshes: Arc::clone(self), login: login.to_owned() };
        locked(&self.busy).insert(login.to_owned()).then(transaction)
    }

    /// Records a failure.
    pub fn start_cooldown(&self, login: PathBuf) {
        locked(&self.failed).insert(login, Instant::now());
    }

    /// Whether it is too early for another attempt.
    pub fn in_cooldown(&self, login: &Path) -> bool {
        locked(&self.failed).get(login).is_some_and(|since| since.elapsed() < COOLDOWN)
    }

    /// Waits for the answers to token calls that were sent, and lets no other one be sent.
    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        let mut time = AwakeTime::start();
        let mut sent = locked(&self.sent);
        while *sent > 0 && time.look() < EXIT_WAIT {
            sent = self.stored.wait_timeout(sent, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The right of one thread to refresh a login.
#[derive(Debug)]
pub(super) struct Transaction {
    refreshes: Arc<Refreshes>,
    login: PathBuf,
}

impl Drop for Transaction {
    fn drop(&mut self) {
        locked(&self.refreshes.busy).remove(&self.login);
    }
}

/// A thread that refreshes. While a token call of it was sent and nothing is stored, the exit of the process waits for it.
#[derive(Debug)]
pub(super) struct RefreshThread {
    pub runtime: Handle,
    refreshes: Arc<Refreshes>,
    has_sent: AtomicBool,
}

impl RefreshThread {
    /// Counts a token call that is about to be sent. False: the process ends, so it must not be.
    pub fn may_send(&self) -> bool {
        let mut sent = locked(&self.refreshes.sent);
        if self.refreshes.closing.load(Ordering::Acquire) {
            return false;
        }
        if !self.has_sent.swap(true, Ordering::AcqRel) {
            *sent += 1;
        }
        true
    }
}

impl Drop for RefreshThread {
    fn drop(&mut self) {
        if self.has_sent.load(Ordering::Acquire) {
            *locked(&self.refreshes.sent) -= 1;
            self.refreshes.stored.notify_all();
        }
    }
}

/// Runs `work` on a thread of its own, to its end. The caller waits for `limit` at most, not counting time in which the process
/// was stopped; then it gets a `timeout`, and `unclaimed` the result.
pub(super) async fn detached<T: Send + 'static>(
    process: &ProcessState,
    limit: Duration,
    work: impl FnOnce(&Arc<RefreshThread>) -> Result<T> + Send + 'static,
    unclaimed: impl FnOnce(T) + Send + 'static,
) -> Result<T> {
    let (sender, mut receiver) = oneshot::channel();
    let (runtime, refreshes) = (Handle::current(), process.get::<Refreshes>());
    std::thread::Builder::new()
        .name("kimi-code-auth".to_owned())
        .spawn(move || {
            let thread = Arc::new(RefreshThread { runtime, refreshes, has_sent: AtomicBool::new(false) });
            if let Err(Ok(result)) = sender.send(work(&thread)) {
                unclaimed(result);
            }
        })
        .map_err(|error| Error::new(ErrorKind::Io, format!("no thread for the login: {error}")))?;
    let mut time = AwakeTime::start();
    loop {
        let received = match tokio::time::timeout(TICK, &mut receiver).await {
            Ok(received) => received.ok(),
            Err(_) if time.look() < limit => continue,
            Err(_) => {
                // Closed first: a result that is sent from now on is unclaimed.
                receiver.close();
                match receiver.try_recv() {
                    Ok(result) => Some(result),
                    Err(_) => return Err(too_slow()),
                }
            }
        };
        return received
            .unwrap_or_else(|| Err(Error::new(ErrorKind::Internal, "the credential step ended unexpectedly")));
    }
}

fn too_slow() -> Error {
    let message = "the Kimi Code login is still being refreshed; the answer will be kept when it comes. Try again";
    Error::new(ErrorKind::Timeout(Phase::Headers), message)
}

/// Ends the refreshes of this process, for its exit: waits for the answers to token calls that were sent, at most 30 s, then
/// releases all locks. Returns at once if there is nothing to wait for.
pub fn shutdown() {
    let process = ProcessState::shared();
    process.get::<Refreshes>().close();
    process.get::<HeldLocks>().release_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_one_per_login_until_dropped() {
        let refreshes = Arc::new(Refreshes::default());
        let first = refreshes.begin(Path::new("a")).unwrap();
        assert!(refreshes.begin(Path::new("a")).is_none() && refreshes.begin(Path::new("b")).is_some());
        drop(first);
        assert!(refreshes.begin(Path::new("a")).is_some());
    }

    #[tokio::test]
    async fn caller_that_waited_too_long_gets_a_timeout_and_the_result_is_kept() {
        let process = ProcessState::default();
        let (done, wait) = std::sync::mpsc::channel();
        let slow = |_: &Arc<RefreshThread>| {
            std::thread::sleep(Duration::from_millis(900));
            Ok(7)
        };
        let result = detached(&process, Duration::from_millis(100), slow, move |kept| done.send(kept).unwrap()).await;
        assert_eq!(result.unwrap_err().kind, ErrorKind::Timeout(Phase::Headers));
        assert_eq!(wait.recv_timeout(Duration::from_secs(10)).unwrap(), 7);
    }

    #[tokio::test]
    async fn closing_waits_for_a_call_that_was_sent_and_lets_no_other_one_out() {
        let process = Arc::new(ProcessState::default());
        let refreshes = process.get::<Refreshes>();
        let (sent, was_sent) = std::sync::mpsc::channel();
        let call = move |thread: &Arc<RefreshThread>| {
            assert!(thread.may_send());
            sent.send(()).unwrap();
            std::thread::sleep(Duration::from_millis(300));
            Ok(())
        };
        let running = tokio::spawn(async move { detached(&process, Duration::from_secs(9), call, |()| ()).await });
        let closing = tokio::task::spawn_blocking(move || {
            was_sent.recv().unwrap();
            refreshes.close();
            let thread = RefreshThread {
                runtime: Handle::current(),
                refreshes: Arc::clone(&refreshes),
                has_sent: AtomicBool::new(false),
            };
            let sent = *locked(&refreshes.sent);
            (sent, thread.may_send())
        });
        assert_eq!(closing.await.unwrap(), (0, false));
        running.await.unwrap().unwrap();
    }
}
