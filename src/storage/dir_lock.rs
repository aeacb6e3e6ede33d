//! The lock of npm's `proper-lockfile`, spoken natively.
//!
//! Pi and the official client guard their credential files with it: a directory `<file>.lock` whose modification time the
//! holder keeps fresh. They touch it from the JavaScript thread, which a long computation can stall until others take the
//! lock for abandoned; ours is touched by a thread of its own. Protocol: docs/protocol.md#lock-protocol.
//!
//! Additions that the npm package understands without knowing them (reasons: docs/architecture.md#refresh-transaction):
//!
//! * No lock is judged by the clock alone: it must also have been watched without anybody touching it.
//! * Beside the directory, a [`Lease`] proves that a holder of ours lives. A dead one's lock is taken over at once; a stopped
//!   one's directory may be taken over, but not its right to act.
//! * The holder looks once more whether the lock is still its own before it does anything that cannot be undone
//!   ([`Lock::is_held`]).
//! * A holder may date its directory ahead, so that a waiter whose clock is ahead does not take it for stale.
//! * A stale lock with a file inside is moved aside instead of blocking everybody.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filetime::FileTime;
use serde::{Deserialize, Serialize};

use super::clock::{self, AwakeTime};
use super::lease::Lease;

/// How often a held lock is touched. Kimi's waiters give up on a lock after 5 s, Pi's synchronous ones after 10 s.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Time in which a failing file system is tolerated, as long as no other process took the lock.
const HEARTBEAT_GRACE: Duration = Duration::from_secs(5);

/// Shortest and longest pause between two looks at a lock that another process holds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Time without a touch after which the modification time is believed: more than the 2.5 s between two touches of the official
/// client, so that neither a step of the clock nor the different clock of another process makes a living holder look dead.
const WATCH: Duration = Duration::from_millis(3500);

/// Every lock that this process holds.
#[derive(Debug, Default)]
pub struct HeldLocks(Mutex<HashMap<PathBuf, Arc<Held>>>);

impl HeldLocks {
    /// Releases them. For the exit of the process, where destructors do not run.
    pub fn release_all(&self) {
        let held: Vec<_> = self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        held.iter().for_each(|lock| lock.release());
    }
}

/// A lock we hold. Dropping it releases it.
#[derive(Debug)]
pub struct Lock(Arc<Held>);

#[derive(Debug)]
struct Held {
    directory: PathBuf,
    /// Modification time as the file system stored it, in milliseconds.
    written: AtomicU64,
    /// Time by which the directory is dated ahead.
    lead: Duration,
    /// Whether another program had the lock before and had ceased to touch it.
    has_stalled_predecessor: bool,
    lost: AtomicBool,
    released: Mutex<bool>,
    wake: Condvar,
    /// Proof that this holder lives, where there is one.
    lease: Mutex<Option<Lease>>,
    /// The file of the lease.
    owner: Option<PathBuf>,
    /// While another process still has the lease: proof, for that process, that the directory is with one that waits for it.
    waiting: Mutex<Option<Lease>>,
    all: Arc<HeldLocks>,
}

/// What the lease's file says about its holder.
#[derive(Debug, Serialize, Deserialize)]
struct Owner {
    pid: u32,
    /// Last modification time that the holder gave the directory, in milliseconds.
    touched: u64,
}

impl Owner {
    /// Reads the record of a lease; `None` where there is none that can be read.
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(file).ok()?).ok()
    }
}

/// What was seen of a lock that another process holds.
#[derive(Debug)]
struct Seen {
    modified: u64,
    /// Whether a record of ours names it.
    is_ours: bool,
    /// Time in which it was not touched while we were looking. While we are stopped, the holder may be as well.
    watched: AwakeTime,
}

/// A lock as other programs see it.
#[derive(Debug)]
pub struct LockState {
    /// Its directory.
    pub directory: PathBuf,
    /// Time since its holder touched it.
    pub age: Duration,
    /// Process id of a holder of ours. Pi and the official client leave none.
    pub holder: Option<u32>,
    /// Whether the holder seems to live. A dead one's lock is taken over by the next program that needs it.
    pub is_alive: bool,
}

impl LockState {
    /// Looks at `<target>.lock` without touching it; `None` if there is none. `lead`: time by which our processes date it ahead.
    pub fn of(target: &Path, owner: &Path, stale: Duration, lead: Duration) -> Option<Self> {
        let mut name = OsString::from(target);
        name.push(".lock");
        let directory = PathBuf::from(name);
        let touched = modified(&directory).ok()?;
        let record = Owner::read(owner);
        let is_ours = record.as_ref().is_some_and(|record| record.touched == touched);
        let lead = if is_ours { lead } else { Duration::ZERO };
        let age = Duration::from_millis(millis(clock::now() + lead).saturating_sub(touched));
        let is_alive = Lease::is_held(owner) || (age <= stale && !is_ours);
        Some(Self { directory, age, holder: record.map(|record| record.pid), is_alive })
    }
}

/// Waits for a lock.
#[derive(Debug)]
pub struct Waiter {
    directory: PathBuf,
    stale: Duration,
    lead: Duration,
    owner: Option<PathBuf>,
    all: Arc<HeldLocks>,
    seen: Option<Seen>,
    pause: Duration,
    /// The directory is ours, but a stopped holder still has the lease.
    pending: Option<Lock>,
}

impl Waiter {
    /// Will take `<target>.lock`, and take it over from a holder that has not touched it for `stale`.
    pub fn new(target: &Path, stale: Duration, all: &Arc<HeldLocks>) -> Self {
        let mut name = OsString::from(target);
        name.push(".lock");
        Self {
            directory: name.into(),
            stale,
            lead: Duration::ZERO,
            owner: None,
            all: Arc::clone(all),
            seen: None,
            pause: PAUSE.0,
            pending: None,
        }
    }

    /// Asks for the lease on this file as well.
    pub fn with_owner(self, owner: PathBuf) -> Self {
        Self { owner: Some(owner), ..self }
    }

    /// Will date the directory ahead by this time, so that a waiter whose clock is ahead by no more than that respects it. A dead
    /// holder's lock then becomes stale for other programs later by this time.
    pub fn with_lead(self, lead: Duration) -> Self {
        Self { lead, ..self }
    }

    /// Makes one attempt, without waiting. `None` means that another process holds the lock.
    pub fn try_lock(&mut self) -> io::Result<Option<Lock>> {
        if let Some(lock) = self.pending.take()
            && lock.is_held()
        {
            return Ok(self.with_lease(lock));
        }
        // A second round after a takeover or a release in between, never a third: others have the same right.
        let mut lease = None;
        for round in 0..2 {
            match fs::create_dir(&self.directory) {
                Ok(()) => return Ok(self.taken(round > 0, lease)?.and_then(|lock| self.with_lease(lock))),
                Err(error) if error.kind() == Io::AlreadyExists => {}
                // Windows says so of a directory that is being removed.
                Err(error) if cfg!(windows) && error.kind() == Io::PermissionDenied => return Ok(None),
                Err(error) => return Err(error),
            }
            let modified = match modified(&self.directory) {
                Ok(modified) => modified,
                Err(error) if error.kind() == Io::NotFound && round == 0 => continue,
                Err(error) if error.kind() == Io::NotFound => return Ok(None),
                Err(error) => return Err(error),
            };
            if round > 0 {
                break;
            }
            lease = self.lease_of_dead_holder(modified);
            if !self.is_abandoned(modified) && lease.is_none() {
                break;
            }
            self.clear()?;
        }
        Ok(None)
    }

    /// Returns how long to wait before the next attempt: growing, and never in step with other waiters.
    pub fn pause(&mut self) -> Duration {
        let now = self.pause;
        self.pause = (now * 2).min(PAUSE.1);
        now.mul_f64(1.0 + rand::random::<f64>())
    }

    /// Returns the directory, for messages.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn is_abandoned(&mut self, modified: u64) -> bool {
        if self.seen.as_ref().is_none_or(|seen| seen.modified != modified) {
            self.seen = Some(Seen { modified, is_ours: false, watched: AwakeTime::start() });
        }
        let is_ours = self.seen.as_ref().is_some_and(|seen| seen.is_ours) || self.is_recorded(modified);
        let watched = self.seen.as_mut().map_or(Duration::ZERO, |seen| {
            // A record is written after the directory was touched, and goes before the directory does.
            seen.is_ours = is_ours;
            seen.watched.look()
        });
        let is_old = modified.saturating_add(self.stale.as_millis() as u64) < millis(clock::now());
        watched > self.stale || (is_old && watched >= WATCH)
    }

    /// Whether a process of ours says that it gave the directory this time.
    fn is_recorded(&self, modified: u64) -> bool {
        let Some(owner) = &self.owner else { return false };
        [owner.clone(), waiting_file(owner)]
            .iter()
            .any(|file| Owner::read(file).is_some_and(|record| record.touched == modified))
    }

    /// Whether the lock that was there last was another program's, which had ceased to touch it before it was taken over, here or by
    /// another waiter.
    fn has_seen_stalled_program(&mut self) -> bool {
        let limit = self.stale.min(WATCH);
        self.seen.as_mut().is_some_and(|seen| !seen.is_ours && seen.watched.look() >= limit)
    }

    /// Takes the lease of a holder of ours that died: the kernel has given it back, and the directory is as the holder left it.
    fn lease_of_dead_holder(&self, modified: u64) -> Option<Lease> {
        let lease =
            self.owner.as_ref().filter(|owner| owner.exists()).and_then(|owner| Lease::try_take(owner).ok()?)?;
        let record: Owner = serde_json::from_slice(&lease.read_record().ok()?).ok()?;
        Some(lease).filter(|lease| lease.is_exclusive() && record.touched == modified)
    }

    /// Removes an abandoned lock. One with something inside is moved aside, because its content is not ours to delete.
    fn clear(&self) -> io::Result<()> {
        match fs::remove_dir(&self.directory) {
            Err(error) if error.kind() == Io::NotFound => Ok(()),
            Err(error) if error.kind() == Io::DirectoryNotEmpty => {
                let mut aside = OsString::from(&self.directory);
                aside.push(format!(".abandoned-{:08x}", rand::random::<u32>()));
                fs::rename(&self.directory, aside)
            }
            result => result,
        }
    }

    fn taken(&mut self, took_over: bool, lease: Option<Lease>) -> io::Result<Option<Lock>> {
        let written = touch(&self.directory, self.lead)?;
        let held = Arc::new(Held {
            directory: self.directory.clone(),
            written: AtomicU64::new(written),
            lead: self.lead,
            has_stalled_predecessor: self.has_seen_stalled_program(),
            lost: AtomicBool::new(false),
            released: Mutex::new(false),
            wake: Condvar::new(),
            lease: Mutex::new(lease),
            owner: self.owner.clone(),
            waiting: Mutex::default(),
            all: Arc::clone(&self.all),
        });
        if took_over {
            // Of two that found the same lock abandoned, the slower one removes the faster one's new lock.
            std::thread::sleep(Duration::from_millis(5));
            if !held.is_ours() {
                return Ok(None);
            }
        }
        let beating = Arc::clone(&held);
        std::thread::Builder::new().name("kimi-code-lock".to_owned()).spawn(move || beating.beat())?;
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).insert(self.directory.clone(), Arc::clone(&held));
        held.write_record();
        Ok(Some(Lock(held)))
    }

    /// Completes a lock with its lease. While a stopped holder has that, the directory is kept, so that everybody else waits too.
    fn with_lease(&mut self, lock: Lock) -> Option<Lock> {
        let Some(owner) = &self.owner else { return Some(lock) };
        let mut lease = lock.0.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if lease.is_none() {
            match Lease::try_take(owner) {
                Ok(None) => {
                    drop(lease);
                    lock.0.wait_openly(owner);
                    self.pending = Some(lock);
                    return None;
                }
                Ok(taken) => *lease = taken,
                Err(error) => tracing::info!(%error, owner = %owner.display(), "there is no lease beside the lock"),
            }
        }
        drop(lease);
        drop(lock.0.waiting.lock().unwrap_or_else(PoisonError::into_inner).take());
        lock.0.write_record();
        Some(lock)
    }
}

/// The file with which a process says that it has taken over the directory and waits for the lease.
fn waiting_file(owner: &Path) -> PathBuf {
    let mut name = OsString::from(owner);
    name.push(".next");
    name.into()
}

impl Lock {
    /// Whether the lock is still ours. To be asked right before a step that cannot be undone.
    pub fn is_held(&self) -> bool {
        // Not in the middle of a heartbeat, when the time on disk is newer than the one we know.
        let released = self.0.released.lock().unwrap_or_else(PoisonError::into_inner);
        !*released && self.0.is_ours()
    }

    /// Whether the lock is ours, or was taken over by a process of this package, which then waits until this one gives up its lease.
    pub fn is_guarded(&self) -> bool {
        self.is_held() || self.0.is_with_waiter()
    }

    /// Whether no program holds the lock any more: it was taken over, and released since.
    pub fn is_vacant(&self) -> bool {
        !self.is_held() && modified(&self.0.directory).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    }

    /// Whether another program had the lock before and had ceased to touch it: it is dead or stopped, and if it is stopped, it may
    /// still finish what it had locked for.
    pub fn has_stalled_predecessor(&self) -> bool {
        self.0.has_stalled_predecessor
    }

    /// Whether the kernel guarantees that no other holder of ours lives.
    pub fn is_exclusive(&self) -> bool {
        self.0.lease.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Lease::is_exclusive)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl Held {
    fn is_ours(&self) -> bool {
        !self.lost.load(Ordering::Acquire)
            && modified(&self.directory).is_ok_and(|modified| modified == self.written.load(Ordering::Acquire))
    }

    /// Whether the directory is with a process that waits for our lease.
    fn is_with_waiter(&self) -> bool {
        let has_lease =
            self.lease.lock().unwrap_or_else(PoisonError::into_inner).as_ref().is_some_and(Lease::is_exclusive);
        let Some(file) = self.owner.as_deref().filter(|_| has_lease).map(waiting_file) else { return false };
        Lease::is_held(&file)
            && Owner::read(&file)
                .is_some_and(|record| modified(&self.directory).is_ok_and(|modified| modified == record.touched))
    }

    /// Lets the process that has the lease know who has its directory.
    fn wait_openly(&self, owner: &Path) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_none() {
            *waiting = Lease::try_take(&waiting_file(owner)).ok().flatten();
            drop(waiting);
            self.write_record();
        }
    }

    /// Tells others which directory the lease, or the wait for it, belongs to. Errors are ignored: a dead holder's lock then becomes
    /// stale as any other.
    fn write_record(&self) {
        let owner = Owner { pid: std::process::id(), touched: self.written.load(Ordering::Acquire) };
        let Ok(record) = serde_json::to_vec(&owner) else { return };
        for lease in [&self.lease, &self.waiting] {
            if let Some(lease) = &*lease.lock().unwrap_or_else(PoisonError::into_inner) {
                let _ = lease.write_record(&record);
            }
        }
    }

    /// Keeps the modification time fresh until the lock is released or taken over.
    fn beat(&self) {
        let mut last_success = Instant::now();
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (guard, _) = self
                .wake
                .wait_timeout_while(released, HEARTBEAT, |released| !*released)
                .unwrap_or_else(PoisonError::into_inner);
            released = guard;
            if *released {
                return;
            }
            let touched = match modified(&self.directory) {
                Ok(modified) if modified != self.written.load(Ordering::Acquire) => None,
                Ok(_) => touch(&self.directory, self.lead).ok(),
                Err(error) if error.kind() == Io::NotFound => None,
                Err(_) if last_success.elapsed() < HEARTBEAT_GRACE => continue,
                Err(_) => None,
            };
            match touched {
                Some(written) => {
                    self.written.store(written, Ordering::Release);
                    self.write_record();
                    last_success = Instant::now();
                }
                None => {
                    self.lost.store(true, Ordering::Release);
                    tracing::info!(lock = %self.directory.display(), "the lock was taken over by another process");
                    return;
                }
            }
        }
    }

    fn release(&self) {
        let mut released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        if *released {
            return;
        }
        *released = true;
        self.wake.notify_all();
        // A lock that was taken over belongs to its new holder.
        if self.is_ours() {
            let _ = fs::remove_dir(&self.directory);
        }
        for lease in [&self.lease, &self.waiting] {
            drop(lease.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.directory).is_some_and(|held| std::ptr::eq(&raw const **held, self)) {
            all.remove(&self.directory);
        }
    }
}

/// Sets the modification time to now, dated ahead by `lead`, and returns what the file system made of it.
fn touch(directory: &Path, lead: Duration) -> io::Result<u64> {
    filetime::set_file_mtime(directory, FileTime::from_system_time(clock::now() + lead))?;
    modified(directory)
}

fn modified(directory: &Path) -> io::Result<u64> {
    Ok(millis(fs::metadata(directory)?.modified()?))
}

/// Milliseconds are what JavaScript compares.
fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }
        fn waiter(&self, stale_ms: u64) -> Waiter {
            Waiter::new(&self.0.path().join("file"), Duration::from_millis(stale_ms), &Arc::default())
        }
        fn owned_waiter(&self, stale_ms: u64) -> Waiter {
            self.waiter(stale_ms).with_owner(self.0.path().join("file.owner"))
        }
        /// Lets a holder die: its kernel lock is gone, its directory stays as it was.
        fn die(lock: Lock) {
            *lock.0.released.lock().unwrap() = true;
            lock.0.wake.notify_all();
            let lease = lock.0.lease.lock().unwrap().take().unwrap();
            let record = lease.read_record().unwrap();
            let path = lock.0.directory.with_extension("owner");
            drop(lease);
            fs::write(path, record).unwrap();
        }
        fn directory(&self) -> PathBuf {
            self.0.path().join("file.lock")
        }
        fn leave_behind(&self, age_ms: i64) {
            fs::create_dir(self.directory()).unwrap();
            let then = millis(SystemTime::now()) as i64 - age_ms;
            let time = FileTime::from_unix_time(then / 1000, (then % 1000) as u32 * 1_000_000);
            filetime::set_file_mtime(self.directory(), time).unwrap();
        }
    }

    #[test]
    fn directory_lock_has_one_holder_until_released() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        assert!(lock.is_held());
        assert!(place.waiter(5000).try_lock().unwrap().is_none());
        drop(lock);
        assert!(!place.directory().exists());
        assert!(place.waiter(5000).try_lock().unwrap().is_some());
    }

    /// Looks again and again, as a waiter does, for at most this long.
    fn watch(waiter: &mut Waiter, time: Duration) -> Option<Lock> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if let Some(lock) = waiter.try_lock().unwrap() {
                return Some(lock);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    #[test]
    fn directory_lock_with_an_old_date_is_taken_over_only_after_it_was_watched() {
        let place = Place::new();
        place.leave_behind(400_000);
        let mut waiter = place.waiter(300_000);
        assert!(watch(&mut waiter, WATCH - Duration::from_secs(1)).is_none());
        assert!(watch(&mut waiter, Duration::from_secs(5)).is_some());
    }

    #[test]
    fn directory_lock_whose_holder_has_a_late_clock_stays_with_it() {
        let place = Place::new();
        place.leave_behind(400_000);
        let mut waiter = place.waiter(5000);
        for touch in 1..5 {
            assert!(watch(&mut waiter, Duration::from_secs(1)).is_none());
            let then = millis(SystemTime::now()) as i64 / 1000 - 400 + touch;
            filetime::set_file_mtime(place.directory(), FileTime::from_unix_time(then, 0)).unwrap();
        }
    }

    #[test]
    fn directory_lock_is_not_watched_while_the_waiter_is_stopped() {
        let place = Place::new();
        place.leave_behind(400_000);
        let mut waiter = place.waiter(5000);
        assert!(waiter.try_lock().unwrap().is_none());
        waiter.seen.as_mut().unwrap().watched.stop(Duration::from_secs(60));
        assert!(waiter.try_lock().unwrap().is_none());
    }

    #[test]
    fn directory_lock_of_a_dead_holder_of_ours_is_taken_over_at_once() {
        let place = Place::new();
        Place::die(place.owned_waiter(5000).try_lock().unwrap().unwrap());
        assert!(place.directory().exists());
        let lock = place.owned_waiter(5000).try_lock().unwrap().unwrap();
        assert!(lock.is_exclusive());
    }

    #[test]
    fn directory_lock_taken_over_by_another_program_is_not_mistaken_for_the_dead_holders() {
        let place = Place::new();
        Place::die(place.owned_waiter(5000).try_lock().unwrap().unwrap());
        fs::remove_dir(place.directory()).unwrap();
        place.leave_behind(100);
        assert!(place.owned_waiter(5000).try_lock().unwrap().is_none());
    }

    #[test]
    fn directory_lock_of_a_stopped_holder_is_kept_fresh_but_not_given_out() {
        let place = Place::new();
        let stopped = place.owned_waiter(5000).try_lock().unwrap().unwrap();
        *stopped.0.released.lock().unwrap() = true;
        stopped.0.wake.notify_all();
        let mut waiter = place.owned_waiter(100);
        assert!(watch(&mut waiter, Duration::from_millis(500)).is_none());
        assert!(waiter.pending.as_ref().unwrap().is_held());
        assert!(watch(&mut place.owned_waiter(5000), Duration::from_millis(100)).is_none());
        drop(stopped.0.lease.lock().unwrap().take());
        assert!(waiter.try_lock().unwrap().unwrap().is_exclusive());
    }

    #[test]
    fn directory_lock_taken_over_by_a_waiter_of_ours_stays_guarded() {
        let place = Place::new();
        let holder = place.owned_waiter(60).try_lock().unwrap().unwrap();
        let mut waiter = place.owned_waiter(60);
        assert!(watch(&mut waiter, Duration::from_millis(400)).is_none());
        assert!(!holder.is_held() && holder.is_guarded());
        // The waiter loses the directory to another program.
        fs::remove_dir(place.directory()).unwrap();
        place.leave_behind(0);
        assert!(!holder.is_guarded());
        drop((holder, waiter));
        assert!(!place.0.path().join("file.owner.next").exists());
    }

    #[test]
    fn directory_lock_knows_that_another_program_had_ceased_to_touch_it() {
        let place = Place::new();
        place.leave_behind(0);
        // Both watch it; one of them removes it, and then either may get it.
        let (mut slower, mut waiter) = (place.owned_waiter(60), place.owned_waiter(60));
        assert!(slower.try_lock().unwrap().is_none());
        let lock = watch(&mut waiter, Duration::from_secs(5)).unwrap();
        assert!(lock.has_stalled_predecessor());
        drop(lock);
        assert!(slower.try_lock().unwrap().unwrap().has_stalled_predecessor());
        assert!(!place.owned_waiter(60).try_lock().unwrap().unwrap().has_stalled_predecessor());
    }

    #[test]
    fn directory_lock_of_a_process_of_ours_is_not_mistaken_for_another_programs() {
        let place = Place::new();
        let holder = place.owned_waiter(60).try_lock().unwrap().unwrap();
        let mut waiter = place.owned_waiter(60);
        assert!(watch(&mut waiter, Duration::from_millis(400)).is_none());
        drop(holder);
        assert!(!waiter.try_lock().unwrap().unwrap().has_stalled_predecessor());
    }

    #[test]
    fn directory_lock_dated_ahead_is_respected_by_a_clock_ahead_and_its_age_is_known() {
        let place = Place::new();
        let lead = Duration::from_secs(20);
        let lock = place.owned_waiter(5000).with_lead(lead).try_lock().unwrap().unwrap();
        let ahead = (millis(SystemTime::now()) + 19_000).saturating_sub(modified(&place.directory()).unwrap());
        assert!(ahead < 5000, "by a clock 19 s ahead it is {ahead} ms old");
        let file = place.0.path().join("file");
        let state = || LockState::of(&file, &file.with_extension("owner"), Duration::from_secs(5), lead).unwrap();
        assert!(state().is_alive && state().age < Duration::from_secs(5));
        Place::die(lock);
        assert!(!state().is_alive && state().age < Duration::from_secs(5));
    }

    #[test]
    fn directory_lock_dated_in_the_future_is_taken_over_once_watched() {
        let place = Place::new();
        place.leave_behind(-3_600_000);
        let mut waiter = place.waiter(60);
        assert!(waiter.try_lock().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(90));
        assert!(waiter.try_lock().unwrap().is_some());
    }

    #[test]
    fn directory_lock_with_a_file_inside_is_moved_aside_with_its_content() {
        let place = Place::new();
        fs::create_dir(place.directory()).unwrap();
        fs::write(place.directory().join("note"), "mine").unwrap();
        filetime::set_file_mtime(place.directory(), FileTime::from_unix_time(1, 0)).unwrap();
        let lock = watch(&mut place.waiter(100), Duration::from_secs(5));
        assert!(lock.is_some());
        let aside = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(".abandoned-")).unwrap();
        assert_eq!(fs::read_to_string(aside.join("note")).unwrap(), "mine");
    }

    #[test]
    fn directory_lock_taken_over_is_noticed_and_left_to_its_new_holder() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        fs::remove_dir(place.directory()).unwrap();
        place.leave_behind(-5);
        assert!(!lock.is_held());
        drop(lock);
        assert!(place.directory().exists());
    }

    #[test]
    fn directory_lock_is_held_in_the_middle_of_a_heartbeat() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        let beating = lock.0.released.lock().unwrap();
        filetime::set_file_mtime(place.directory(), FileTime::from_unix_time(1, 0)).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| lock.is_held());
            std::thread::sleep(Duration::from_millis(50));
            lock.0.written.store(modified(&place.directory()).unwrap(), Ordering::Release);
            drop(beating);
            assert!(asking.join().unwrap());
        });
    }

    #[test]
    fn directory_lock_can_be_released_before_it_is_dropped() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        lock.0.release();
        assert!(!place.directory().exists());
        assert!(!lock.is_held());
    }
}
