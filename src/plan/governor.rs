//! Admits requests of all processes of one account, up to its parallel limit.
//!
//! A permit belongs to one request, from sending to the end of its stream, never to a whole run: an agent that waits for its own
//! sub-agents holds nothing. Whatever goes wrong with files or locks, the request leaves as it would without a governor.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use super::concurrency_limit::{LIMIT_MATTERS, Limits, MAX_SLOTS, now};
use super::slots::{Kind, Priority, Slot, Slots, Ticket};
use super::watch::Watch;
use crate::blocking::in_background;
use crate::config::Concurrency;
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;
use crate::storage::remembered::Remembered;

/// The request at the head of the queue looks this often even if no event came, and those behind it less often: the limit grows, and
/// events can be lost.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
const LOOK_AGAIN_BEHIND: Duration = Duration::from_secs(30);

/// Longest wait for the budget of retries, whose holders may be suspended or wait for a silent service themselves.
const MAX_RETRY_WAIT: Duration = Duration::from_secs(180);

/// A ticket that leaves a slot free for this long belongs to a process that is suspended.
const SUSPENDED: Duration = Duration::from_secs(1);

/// After an event the lock may still be closing, or held by another process that only looks. The request at the head of the queue
/// looks again after these times.
const SETTLE: [Duration; 4] =
    [Duration::from_millis(20), Duration::from_millis(40), Duration::from_millis(80), Duration::from_millis(160)];

/// The right to have one request under way; given back when dropped.
#[derive(Debug, Default)]
pub struct Permit {
    slot: Option<Slot>,
    _here: Option<CountedHere>,
    /// A limit was known when the slot was taken, so the slot is within it.
    limit_known: bool,
    /// The service should be asked for its limit again.
    limit_due: bool,
}

/// The slot that a request of this process had last, by folder: likely free, and found at once.
type LastSlots = Remembered<PathBuf, usize, 64>;

/// Requests under way in this process, by folder of slots.
#[derive(Debug, Default)]
struct UnderWayHere(Mutex<HashMap<PathBuf, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct CountedHere {
    counts: Arc<UnderWayHere>,
    folder: PathBuf,
}

impl CountedHere {
    fn new(process: &ProcessState, folder: &Path) -> Self {
        let (counts, folder) = (process.get::<UnderWayHere>(), folder.to_owned());
        *counts.0.lock().unwrap_or_else(PoisonError::into_inner).entry(folder.clone()).or_default() += 1;
        Self { counts, folder }
    }
}

impl Drop for CountedHere {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.folder) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.folder);
            }
        }
    }
}

/// How busy the account is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Requests that may be under way at once; `None` if no limit is known.
    pub limit: Option<u64>,
    /// Requests under way, of all processes.
    #[serde(rename = "inUse")]
    pub in_use: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
}

/// The governor of one account.
#[derive(Debug, Clone)]
pub struct Governor {
    slots: Option<Slots>,
    concurrency: Concurrency,
    process: Arc<ProcessState>,
}

/// What one look at the folder found.
enum Look {
    /// Without a slot, none is needed or can be had.
    Admitted(Permit),
    Queued(QueuePlace),
}

/// A place among the waiting requests.
#[derive(Default)]
struct QueuePlace {
    /// Retries take no part in the queue: they hold their slot already.
    ticket: Option<Ticket>,
    ahead: usize,
    /// When it was last looked for a slot that the head of the queue does not take.
    checked: Option<Instant>,
    head: Head,
}

/// The ticket at the head of the queue.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
enum Head {
    /// No slot is free.
    #[default]
    Busy,
    /// Something has changed since it was looked at.
    Unknown,
    /// A slot was free that it did not take.
    Idle(String),
}

impl QueuePlace {
    /// How long to wait for an event before looking without one.
    fn pause(&self) -> Duration {
        let pause = match &self.head {
            _ if self.ahead == 0 => LOOK_AGAIN,
            Head::Busy => LOOK_AGAIN_BEHIND,
            Head::Unknown | Head::Idle(_) => SUSPENDED,
        };
        self.ticket.as_ref().map_or(pause, |ticket| pause.min(ticket.next_promotion(SystemTime::now())))
    }
}

impl Governor {
    /// The governor of `account` (a name fit for a file) in our state folder. Without a usable folder it admits everything.
    pub fn new(state: Option<&Path>, account: &str, concurrency: Concurrency, process: Arc<ProcessState>) -> Self {
        let slots = state.map(|state| Slots::new(state.join("slots").join(account)));
        Self { slots, concurrency, process }
    }

    /// Waits for a slot. `tell` hears how many requests go first, each time that changes. Dropping the future leaves the queue.
    pub async fn admit(&self, priority: Priority, tell: impl FnMut(usize)) -> Permit {
        self.take(Kind::Request, priority, tell).await
    }

    /// Waits until few enough requests are repeated at once after an overload. Hold the permit until the response begins.
    pub async fn admit_retry(&self, priority: Priority) -> Permit {
        let permit = tokio::time::timeout(MAX_RETRY_WAIT, self.take(Kind::Retry, priority, |_| ())).await;
        permit.unwrap_or_default()
    }

    async fn take(&self, kind: Kind, priority: Priority, mut tell: impl FnMut(usize)) -> Permit {
        let Some(slots) = &self.slots else { return Permit::default() };
        match self.try_take(slots, kind, priority, &mut tell).await {
            Ok(mut permit) => {
                if kind == Kind::Request
                    && let Some(slot) = &permit.slot
                {
                    self.process.get::<LastSlots>().insert(slots.folder().to_owned(), slot.number());
                    permit._here = Some(CountedHere::new(&self.process, slots.folder()));
                }
                permit
            }
            Err(error) => {
                tracing::info!(%error, "the request is not counted across processes");
                Permit::default()
            }
        }
    }

    async fn try_take(
        &self,
        slots: &Slots,
        kind: Kind,
        priority: Priority,
        tell: &mut impl FnMut(usize),
    ) -> Result<Permit> {
        let mut place = match self.look(slots, kind, priority, QueuePlace::default()).await? {
            Look::Admitted(permit) => return Ok(permit),
            Look::Queued(place) => place,
        };
        tell(place.ahead);
        let watch = Watch::of(slots, &self.process).map_err(io_error)?;
        let mut changes = watch.subscribe();
        let mut settling = SETTLE.iter();
        loop {
            // Subscribed before looking, so that no change between the two is missed.
            let told = place.ahead;
            match self.look(slots, kind, priority, place).await? {
                Look::Admitted(permit) => return Ok(permit),
                Look::Queued(next) => place = next,
            }
            if place.ahead != told {
                tell(place.ahead);
            }
            let soon = if place.ahead == 0 { settling.next().copied() } else { None };
            tokio::select! {
                _ = changes.changed() => settling = SETTLE.iter(),
                () = tokio::time::sleep(soon.unwrap_or_else(|| place.pause())) => {}
            }
        }
    }

    async fn look(&self, slots: &Slots, kind: Kind, priority: Priority, place: QueuePlace) -> Result<Look> {
        let (slots, concurrency) = (slots.clone(), self.concurrency);
        let likely = self.process.get::<LastSlots>().get(&slots.folder().to_owned());
        in_background(move || {
            slots.prepare().and_then(|()| look(&slots, kind, &concurrency, (priority, likely), place)).map_err(io_error)
        })
        .await
    }

    /// Whether the slot of this permit is one that the limit allows, which may have become known after it was taken.
    pub async fn fits(&self, permit: &Permit) -> bool {
        let (Some(slots), Some(slot)) = (self.slots.clone(), &permit.slot) else { return true };
        let (concurrency, number) = (self.concurrency, slot.number());
        if number == 0 || (permit.limit_known && !permit.limit_due) {
            return true;
        }
        let known = in_background(move || Ok(Limits::read(slots.folder()).slots(&concurrency, now())));
        known.await.ok().flatten().is_none_or(|count| number < count)
    }

    /// Learns from a refusal of a request that holds a permit.
    pub async fn refused(&self) {
        let Some(slots) = self.slots.clone() else { return };
        let concurrency = self.concurrency;
        let learned = in_background(move || {
            let under_way = slots.held(Kind::Request, 0).map_err(io_error)?;
            let refuse = |limits: &mut Limits| {
                let learned = limits.refuse(under_way, &concurrency, now());
                if learned {
                    tracing::info!(under_way, "fewer requests at once");
                }
                learned
            };
            Limits::change(slots.folder(), refuse).map_err(io_error)
        });
        if let Err(error) = learned.await {
            tracing::info!(%error, "what a refusal taught could not be kept");
        }
    }

    /// Whether the service's own limit should be asked for again: it is unknown or old, and several requests run.
    pub async fn wants_limit(&self, permit: &Permit) -> bool {
        let Some(slots) = self.slots.clone().filter(|_| permit.limit_due) else { return false };
        let wants = in_background(move || {
            // Another process may have asked since.
            let due = Limits::read(slots.folder()).is_due(now());
            Ok(due && slots.held(Kind::Request, 0).map_err(io_error)? >= LIMIT_MATTERS)
        });
        wants.await.unwrap_or_default()
    }

    /// Notes the service's own limit: `None` if it gave no answer, `Some(None)` if it names no limit.
    pub async fn tell_limit(&self, limit: Option<Option<u64>>) {
        let Some(slots) = self.slots.clone() else { return };
        let told = in_background(move || {
            let tell = |limits: &mut Limits| {
                // Of many requests that asked at once, one needs to write the answer.
                let is_news = limits.is_due(now()) || limit.is_some_and(|limit| limits.told() != limit);
                match limit {
                    Some(limit) => limits.tell(limit, now()),
                    None => limits.no_answer(now()),
                }
                is_news
            };
            Limits::change(slots.folder(), tell).map_err(io_error)
        });
        if let Err(error) = told.await {
            tracing::info!(%error, "the service's parallel limit could not be kept");
        }
    }

    /// Requests of this process that are under way.
    pub fn under_way_here(&self) -> usize {
        let counts = self.process.get::<UnderWayHere>();
        let counts = counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.slots.as_ref().and_then(|slots| counts.get(slots.folder()).copied()).unwrap_or_default()
    }

    /// How busy the account is now.
    pub async fn load(&self) -> Load {
        let Some(slots) = self.slots.clone() else { return Load::default() };
        let concurrency = self.concurrency;
        let load = in_background(move || {
            let limits = Limits::read(slots.folder());
            let limit =
                concurrency.max.or(limits.told()).or(limits.slots(&concurrency, now()).map(|slots| slots as u64));
            let in_use = slots.held(Kind::Request, 0).map_err(io_error)?;
            Ok(Load { limit, in_use, waiting: slots.ahead(None).map_err(io_error)? })
        });
        load.await.unwrap_or_default()
    }
}

fn look(
    slots: &Slots,
    kind: Kind,
    concurrency: &Concurrency,
    (priority, likely): (Priority, Option<usize>),
    QueuePlace { ticket, checked, head, .. }: QueuePlace,
) -> io::Result<Look> {
    let limits = Limits::read(slots.folder());
    let known = limits.slots(concurrency, now());
    let count = match kind {
        Kind::Request => known.unwrap_or(MAX_SLOTS),
        Kind::Retry => limits.retries(concurrency, now()),
    };
    let ahead = if kind == Kind::Request { slots.ahead(ticket.as_ref())? } else { 0 };
    let limit_due = kind == Kind::Request && concurrency.max.is_none() && limits.is_due(now());
    let permit = |slot| Permit { slot, _here: None, limit_known: known.is_some(), limit_due };
    // With several slots free, as many of the first ones take theirs at the same time.
    let is_next = ahead == 0 || slots.held(kind, 0)? + ahead < count;
    if is_next && let Some(slot) = slots.take(kind, count, likely.filter(|_| kind == Kind::Request))? {
        return Ok(Look::Admitted(permit(Some(slot))));
    }
    if kind == Kind::Retry {
        return Ok(Look::Queued(QueuePlace::default()));
    }
    if known.is_none() {
        return Ok(Look::Admitted(permit(None)));
    }
    let ticket = ticket.map_or_else(|| slots.join(priority), Ok)?;
    let is_recent = checked.is_some_and(|at| at.elapsed() < SUSPENDED);
    let (checked, head) = match head {
        head if ahead == 0 => (checked, head),
        Head::Busy if is_recent => (checked, Head::Unknown),
        head if is_recent => (checked, head),
        head => (Some(Instant::now()), look_at_head(slots, count, &ticket, &head)?),
    };
    let ahead = slots.ahead(Some(&ticket))?;
    Ok(Look::Queued(QueuePlace { ticket: Some(ticket), ahead, checked, head }))
}

/// Sets the ticket at the head aside if it left a slot free `before` as well.
fn look_at_head(slots: &Slots, count: usize, own: &Ticket, before: &Head) -> io::Result<Head> {
    let Some(first) = slots.idle_first(count, own)?.map(Head::Idle) else { return Ok(Head::Busy) };
    match &first {
        Head::Idle(name) if first == *before => {
            slots.set_aside(name)?;
            // The next one may be suspended as well.
            Ok(Head::Unknown)
        }
        _ => Ok(first),
    }
}

fn io_error(error: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("slots: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn governor(folder: &tempfile::TempDir, max: Option<u64>) -> Governor {
        let concurrency = Concurrency { max, reserve: 2 };
        Governor::new(Some(folder.path()), "account", concurrency, Arc::default())
    }

    /// Lets a request wait for a slot, and returns when so many wait.
    async fn join_queue(governor: &Governor, waiting: usize) -> tokio::task::JoinHandle<Permit> {
        let request = {
            let governor = governor.clone();
            tokio::spawn(async move { governor.admit(Priority::Batch, |_| ()).await })
        };
        while governor.load().await.waiting < waiting {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        request
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn governor_many_requests_never_more_than_the_limit_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = Vec::new();
        for _ in 0..6 {
            let governor = governor(&folder, Some(4));
            for _ in 0..5 {
                let (governor, running, most) = (governor.clone(), Arc::clone(&running), Arc::clone(&most));
                tasks.push(tokio::spawn(async move {
                    let permit = governor.admit(Priority::Batch, |_| ()).await;
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(permit);
                }));
            }
        }
        for task in tasks {
            tokio::time::timeout(Duration::from_secs(20), task).await.unwrap().unwrap();
        }
        assert_eq!(most.load(Ordering::SeqCst), 4);
        assert_eq!(governor(&folder, Some(4)).load().await, Load { limit: Some(4), in_use: 0, waiting: 0 });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn governor_a_freed_slot_goes_to_the_interactive_request() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, Some(1));
        let held = governor.admit(Priority::Batch, |_| ()).await;
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for priority in [Priority::Batch, Priority::Batch, Priority::Agent, Priority::Interactive] {
            let (governor, done) = (governor.clone(), done.clone());
            let (queued, mut is_queued) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                let permit = governor.admit(priority, |_| queued.send(()).unwrap_or_default()).await;
                done.send(priority).unwrap();
                drop(permit);
            });
            is_queued.recv().await.unwrap();
        }
        assert_eq!(governor.load().await.waiting, 4);
        drop(held);
        for expected in [Priority::Interactive, Priority::Agent, Priority::Batch, Priority::Batch] {
            assert_eq!(order.recv().await.unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn governor_nothing_known_admits_all_and_a_refusal_teaches_every_process() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (governor(&folder, None), governor(&folder, None));
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(one.admit(Priority::Batch, |_| panic!("nothing to wait for")).await);
        }
        one.refused().await;
        assert_eq!(other.load().await, Load { limit: Some(4), in_use: 8, waiting: 0 });
        let waits = tokio::time::timeout(Duration::from_millis(50), other.admit(Priority::Interactive, |_| ())).await;
        assert!(waits.is_err());
        assert_eq!(other.load().await.waiting, 0, "an abandoned wait leaves the queue");
    }

    #[tokio::test]
    async fn governor_a_suspended_head_of_the_queue_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, Some(1));
        let held = governor.admit(Priority::Batch, |_| ()).await;
        // A process that is suspended while it waits: its ticket stays locked, and it takes nothing.
        let suspended = governor.slots.as_ref().unwrap().join(Priority::Interactive).unwrap();
        let waiting = join_queue(&governor, 2).await;
        drop(held);
        let permit = tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        assert_eq!(governor.under_way_here(), 1);
        drop((permit, suspended));
        assert_eq!((governor.under_way_here(), governor.load().await.waiting), (0, 0));
    }

    #[tokio::test]
    async fn governor_several_slots_come_free_a_suspended_head_of_the_queue_takes_one_of_them_only() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, Some(2));
        let held = [governor.admit(Priority::Batch, |_| ()).await, governor.admit(Priority::Batch, |_| ()).await];
        let _suspended = governor.slots.as_ref().unwrap().join(Priority::Interactive).unwrap();
        let waiting = join_queue(&governor, 2).await;
        drop(held);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
        // The first ticket was not set aside.
        let names = std::fs::read_dir(governor.slots.as_ref().unwrap().waiting_folder()).unwrap();
        assert!(names.flatten().all(|entry| entry.file_name().to_string_lossy().starts_with('0')));
    }

    #[tokio::test(start_paused = true)]
    async fn governor_a_budget_of_retries_that_a_suspended_process_holds_stops_nobody_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, Some(4));
        let _suspended = governor.admit_retry(Priority::Batch).await;
        let begun = tokio::time::Instant::now();
        let second = governor.admit_retry(Priority::Batch).await;
        assert!(second.slot.is_none() && begun.elapsed() >= MAX_RETRY_WAIT);
    }

    #[tokio::test]
    async fn governor_a_slot_taken_before_the_limit_was_known_is_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, None);
        let (first, second) =
            (governor.admit(Priority::Batch, |_| ()).await, governor.admit(Priority::Batch, |_| ()).await);
        governor.tell_limit(Some(Some(3))).await;
        assert_eq!((governor.fits(&first).await, governor.fits(&second).await), (true, false));
    }

    #[tokio::test]
    async fn governor_accounts_wait_apart() {
        let folder = tempfile::tempdir().unwrap();
        let one = governor(&folder, Some(1));
        let concurrency = Concurrency { max: Some(1), reserve: 2 };
        let other = Governor::new(Some(folder.path()), "other", concurrency, Arc::default());
        let _held = one.admit(Priority::Batch, |_| ()).await;
        let _second = other.admit(Priority::Batch, |_| panic!("nothing to wait for")).await;
        assert_eq!((one.load().await.in_use, other.load().await.in_use), (1, 1));
    }

    #[tokio::test]
    async fn governor_unusable_folder_admits_everything() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("slots"), "a file").unwrap();
        let governor = governor(&folder, Some(1));
        let _first = governor.admit(Priority::Batch, |_| ()).await;
        let _second = governor.admit(Priority::Batch, |_| panic!("nothing to wait for")).await;
        assert_eq!(governor.load().await, Load::default());
    }

    #[tokio::test]
    async fn governor_a_freed_slot_is_noticed_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let governor = governor(&folder, Some(1));
        let held = governor.admit(Priority::Batch, |_| ()).await;
        let waiting = join_queue(&governor, 1).await;
        let freed = Instant::now();
        drop(held);
        waiting.await.unwrap();
        // Far below the second after which a request looks without having been told.
        #[cfg(target_os = "linux")]
        assert!(freed.elapsed() < Duration::from_millis(500), "{:?}", freed.elapsed());
    }
}
