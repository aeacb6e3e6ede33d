//! The lock of npm's `proper-lockfile`, spoken natively.
//!
//! Pi and the official client guard their credential files with it: a directory `<file>.lock` whose modification time the
//! holder keeps fresh. They touch it from the JavaScript thread, which a long computation can stall until others take the
//! lock for abandoned; ours is touched by a thread of its own. Protocol: docs/protocol.md#lock-protocol.
//!
//! Additions that the npm package understands without knowing them: a holder looks once more whether the lock is still its
//! own before it does anything that cannot be undone ([`Lock::is_held`]); a lock whose time lies in the future is abandoned
//! if nobody touches it for its stale time; a stale lock with a file inside is moved aside instead of blocking everybody.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind as Io};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filetime::FileTime;

/// How often a held lock is touched. Kimi's waiters give up on a lock after 5 s, Pi's synchronous ones after 10 s.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A failing file system is forgiven for this long, as long as nobody else took the lock.
const HEARTBEAT_PATIENCE: Duration = Duration::from_secs(5);

/// Shortest and longest pause between two looks at a lock somebody else holds.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// A lock we hold. Dropping it releases it.
#[derive(Debug)]
pub struct Lock(Arc<Held>);

#[derive(Debug)]
struct Held {
    directory: PathBuf,
    /// Modification time as the file system stored it, in milliseconds.
    written: AtomicU64,
    lost: AtomicBool,
    released: Mutex<bool>,
    wake: Condvar,
}

/// What one look at the lock showed.
enum Attempt {
    Held(Lock),
    /// Somebody else has it; its modification time.
    Busy(u64),
}

/// Waits for locks; remembers what it has seen of one, because a lock nobody touches is abandoned whatever its time says.
#[derive(Debug)]
pub struct Waiter {
    directory: PathBuf,
    stale: Duration,
    seen: Option<(u64, Instant)>,
    pause: Duration,
}

impl Waiter {
    /// Will take `<target>.lock`, and take it over from a holder that has not touched it for `stale`.
    pub fn new(target: &Path, stale: Duration) -> Self {
        let mut name = OsString::from(target);
        name.push(".lock");
        Self { directory: name.into(), stale, seen: None, pause: PAUSE.0 }
    }

    /// One attempt, without waiting. `None` means that somebody else holds the lock.
    pub fn try_lock(&mut self) -> io::Result<Option<Lock>> {
        match self.attempt()? {
            Attempt::Held(lock) => Ok(Some(lock)),
            Attempt::Busy(modified) => {
                if self.seen.is_none_or(|(known, _)| known != modified) {
                    self.seen = Some((modified, Instant::now()));
                }
                Ok(None)
            }
        }
    }

    /// How long to wait before the next attempt: growing, and never in step with other waiters.
    pub fn pause(&mut self) -> Duration {
        let now = self.pause;
        self.pause = (now * 2).min(PAUSE.1);
        now.mul_f64(1.0 + rand::random::<f64>())
    }

    /// The directory itself, for messages.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn attempt(&mut self) -> io::Result<Attempt> {
        // A second round after a takeover or a release in between, never a third: others have the same right.
        for round in 0..2 {
            match fs::create_dir(&self.directory) {
                Ok(()) => return self.taken(round > 0),
                Err(error) if error.kind() == Io::AlreadyExists => {}
                // Windows says so of a directory that is being removed.
                Err(error) if cfg!(windows) && error.kind() == Io::PermissionDenied => return Ok(Attempt::Busy(0)),
                Err(error) => return Err(error),
            }
            let modified = match modified(&self.directory) {
                Ok(modified) => modified,
                Err(error) if error.kind() == Io::NotFound && round == 0 => continue,
                Err(error) => return Err(error),
            };
            if round > 0 || !self.is_abandoned(modified) {
                return Ok(Attempt::Busy(modified));
            }
            self.clear()?;
        }
        Ok(Attempt::Busy(0))
    }

    fn is_abandoned(&self, modified: u64) -> bool {
        let stale = self.stale.as_millis() as u64;
        let unchanged = self.seen.is_some_and(|(known, since)| known == modified && since.elapsed() > self.stale);
        modified.saturating_add(stale) < millis(SystemTime::now()) || unchanged
    }

    /// Removes an abandoned lock. One with something inside is moved aside: deleting what we do not know is not ours to do.
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

    fn taken(&self, took_over: bool) -> io::Result<Attempt> {
        let written = touch(&self.directory)?;
        let held = Arc::new(Held {
            directory: self.directory.clone(),
            written: AtomicU64::new(written),
            lost: AtomicBool::new(false),
            released: Mutex::new(false),
            wake: Condvar::new(),
        });
        if took_over {
            // Of two that found the same lock abandoned, the slower one removes the faster one's new lock.
            std::thread::sleep(Duration::from_millis(5));
            if !held.is_ours() {
                return Ok(Attempt::Busy(0));
            }
        }
        let beating = Arc::clone(&held);
        std::thread::Builder::new().name("kimi-code-lock".to_owned()).spawn(move || beating.beat())?;
        all().lock().unwrap_or_else(PoisonError::into_inner).insert(self.directory.clone(), Arc::clone(&held));
        Ok(Attempt::Held(Lock(held)))
    }
}

impl Lock {
    /// Whether the lock is still ours. To be asked right before a step that cannot be undone.
    pub fn is_held(&self) -> bool {
        // Not in the middle of a heartbeat, when the time on disk is newer than the one we know.
        let released = self.0.released.lock().unwrap_or_else(PoisonError::into_inner);
        !*released && self.0.is_ours()
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

    /// Keeps the modification time fresh until the lock is released or somebody took it.
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
                Ok(_) => touch(&self.directory).ok(),
                Err(error) if error.kind() == Io::NotFound => None,
                Err(_) if last_success.elapsed() < HEARTBEAT_PATIENCE => continue,
                Err(_) => None,
            };
            match touched {
                Some(written) => {
                    self.written.store(written, Ordering::Release);
                    last_success = Instant::now();
                }
                None => {
                    self.lost.store(true, Ordering::Release);
                    tracing::debug!(lock = %self.directory.display(), "the lock was taken by somebody else");
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
        // A lock that somebody took over is theirs now.
        if self.is_ours() {
            let _ = fs::remove_dir(&self.directory);
        }
        let mut all = all().lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&self.directory).is_some_and(|held| std::ptr::eq(&raw const **held, self)) {
            all.remove(&self.directory);
        }
    }
}

/// Every lock this process holds, for [`release_all`].
fn all() -> &'static Mutex<HashMap<PathBuf, Arc<Held>>> {
    static ALL: OnceLock<Mutex<HashMap<PathBuf, Arc<Held>>>> = OnceLock::new();
    ALL.get_or_init(Mutex::default)
}

/// Releases every lock of this process. For its exit, where destructors do not run.
pub fn release_all() {
    let held: Vec<_> = all().lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
    for lock in held {
        lock.release();
    }
}

/// Sets the modification time to now and returns what the file system made of it.
fn touch(directory: &Path) -> io::Result<u64> {
    filetime::set_file_mtime(directory, FileTime::now())?;
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
            Waiter::new(&self.0.path().join("file"), Duration::from_millis(stale_ms))
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
    fn only_one_holds_it_and_release_frees_it() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        assert!(lock.is_held());
        assert!(place.waiter(5000).try_lock().unwrap().is_none());
        drop(lock);
        assert!(!place.directory().exists());
        assert!(place.waiter(5000).try_lock().unwrap().is_some());
    }

    #[test]
    fn a_lock_left_by_a_dead_process_is_taken_over_once_stale() {
        let place = Place::new();
        place.leave_behind(400_000);
        assert!(place.waiter(500_000).try_lock().unwrap().is_none());
        assert!(place.waiter(300_000).try_lock().unwrap().is_some());
    }

    #[test]
    fn a_time_in_the_future_does_not_block_for_ever() {
        let place = Place::new();
        place.leave_behind(-3_600_000);
        let mut waiter = place.waiter(60);
        assert!(waiter.try_lock().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(90));
        assert!(waiter.try_lock().unwrap().is_some());
    }

    #[test]
    fn an_abandoned_lock_with_a_file_inside_is_moved_aside_with_its_content() {
        let place = Place::new();
        fs::create_dir(place.directory()).unwrap();
        fs::write(place.directory().join("note"), "mine").unwrap();
        filetime::set_file_mtime(place.directory(), FileTime::from_unix_time(1, 0)).unwrap();
        let lock = place.waiter(3000).try_lock().unwrap();
        assert!(lock.is_some());
        let aside = fs::read_dir(place.0.path()).unwrap().map(|entry| entry.unwrap().path());
        let aside = aside.into_iter().find(|path| path.to_string_lossy().contains(".abandoned-")).unwrap();
        assert_eq!(fs::read_to_string(aside.join("note")).unwrap(), "mine");
    }

    #[test]
    fn a_stolen_lock_is_noticed_and_left_to_its_new_owner() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        fs::remove_dir(place.directory()).unwrap();
        place.leave_behind(-5);
        assert!(!lock.is_held());
        drop(lock);
        assert!(place.directory().exists());
    }

    #[test]
    fn a_heartbeat_is_not_taken_for_a_theft() {
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
    fn a_lock_can_be_released_before_its_owner_is_dropped() {
        let place = Place::new();
        let lock = place.waiter(5000).try_lock().unwrap().unwrap();
        lock.0.release();
        assert!(!place.directory().exists());
        assert!(!lock.is_held());
    }
}
