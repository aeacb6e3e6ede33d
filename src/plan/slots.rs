//! Slots and waiting tickets of one account: one file each, held by a kernel lock.
//!
//! The kernel releases a lock when its process ends, however it ends, so nothing here expires and no process id is probed.
//! A holder keeps its slot file open for writing as well: closing that second handle raises the file event that wakes waiting
//! processes ([`super::watch`]). Everything that only looks opens files for reading, which raises none.
//!
//! A suspended process keeps its locks. In a slot that is right, since its stream is still open; in the queue its ticket is set aside
//! ([`Slots::set_aside`]), or it would stop everybody behind it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::storage::private_file::{create_private_dir, private_options};

/// A waiting request moves up one class after this time, so that a busy screen cannot starve a batch job.
pub const PROMOTION: Duration = Duration::from_secs(60);

/// Most tickets that are read when the queue is judged. A folder with more is not ours.
const MAX_TICKETS: usize = 4096;

/// Which requests go first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// A session that a user watches.
    Interactive,
    /// A process that an agent started.
    Agent,
    /// Print mode, JSON mode and programs that say nothing else.
    #[default]
    Batch,
}

/// Which set of slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One per request under way.
    Request,
    /// One per request that is repeated after an overload.
    Retry,
}

impl Kind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Request => "slot-",
            Self::Retry => "retry-",
        }
    }
}

/// A slot that is held; released when dropped, and by the kernel when the process ends.
#[derive(Debug)]
pub struct Slot {
    number: usize,
    /// Unlocks before `bell` closes, so that a waiter that is woken finds the slot free.
    lock: File,
    _bell: File,
}

impl Slot {
    /// Its number, from 0 on.
    pub fn number(&self) -> usize {
        self.number
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Closing releases the lock too; a failure leaves it to that.
        let _ = self.lock.unlock();
    }
}

/// A place in the queue; given up when dropped.
#[derive(Debug)]
pub struct Ticket {
    path: PathBuf,
    order: Order,
    _lock: File,
}

impl Ticket {
    /// When the ticket moves up a class for the next time.
    pub fn next_promotion(&self, now: SystemTime) -> Duration {
        let waited = now.duration_since(self.order.since).unwrap_or_default();
        PROMOTION.saturating_sub(Duration::from_nanos((waited.as_nanos() % PROMOTION.as_nanos()) as u64))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // A file that stays is removed by the next process that finds it unlocked.
        let _ = fs::remove_file(&self.path).or_else(|_| fs::remove_file(self.order.set_aside(&self.path)));
    }
}

/// What decides between two tickets.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Order {
    priority: u64,
    since: SystemTime,
    id: String,
}

/// The class of tickets whose process does not take the slots that are free. They never move up.
const SET_ASIDE: u64 = Priority::Batch as u64 + 1;

/// By how much tickets of processes that look at the same moment may differ.
const SAME_MOMENT: Duration = Duration::from_secs(1);

impl Order {
    fn key(&self, now: SystemTime) -> (u64, SystemTime, &str) {
        if self.priority != SET_ASIDE && self.since > now + SAME_MOMENT {
            // The clock was set back since, and by its new time this ticket would wait until then.
            return (0, UNIX_EPOCH, &self.id);
        }
        let waited = now.duration_since(self.since).unwrap_or_default();
        let steps = if self.priority == SET_ASIDE { 0 } else { waited.as_secs() / PROMOTION.as_secs() };
        (self.priority.saturating_sub(steps), self.since, &self.id)
    }

    fn file_name(&self) -> String {
        let nanos = self.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        format!("{}-{nanos}-{}", self.priority, self.id)
    }

    fn set_aside(&self, path: &Path) -> PathBuf {
        path.with_file_name(Self { priority: SET_ASIDE, ..self.clone() }.file_name())
    }

    /// `<class>-<nanoseconds since 1970>-<random>`.
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.split('-');
        let (priority, since, id) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let known = priority <= SET_ASIDE && id.len() == 16 && parts.next().is_none();
        let since = UNIX_EPOCH.checked_add(Duration::from_nanos(since))?;
        known.then(|| Self { priority, since, id: id.to_owned() })
    }
}

/// The slots and tickets of one account. All calls block for the time of a few file operations.
#[derive(Debug, Clone)]
pub struct Slots {
    folder: PathBuf,
}

impl Slots {
    /// The slots in this folder, which need not exist yet.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Creates the folder, 0700, if it does not exist. Refuses a link: a user who could place one chooses where the files go.
    pub fn prepare(&self) -> io::Result<()> {
        for part in [&self.folder, &self.waiting_folder()] {
            let found = fs::symlink_metadata(part).or_else(|_| {
                create_private_dir(part)?;
                fs::symlink_metadata(part)
            });
            if !found?.is_dir() {
                return Err(io::Error::other("the folder of slots is a link or a file"));
            }
        }
        Ok(())
    }

    /// The folder of the slots.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the tickets.
    pub fn waiting_folder(&self) -> PathBuf {
        self.folder.join("waiting")
    }

    /// Takes a free slot, if fewer than `count` are held. `likely` is the number to try first.
    pub fn take(&self, kind: Kind, count: usize, likely: Option<usize>) -> io::Result<Option<Slot>> {
        // Slots above `count` are held only for a while after the limit was lowered; until then they count like the others.
        if self.held(kind, count)? > 0 && self.held(kind, 0)? >= count {
            return Ok(None);
        }
        for number in likely.filter(|number| *number < count).into_iter().chain(0..count) {
            if let Some(slot) = take(number, &self.path(kind, number))? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    /// Returns the ticket that goes first, if a slot is free all the same.
    pub fn idle_first(&self, count: usize, own: &Ticket) -> io::Result<Option<String>> {
        if self.held(Kind::Request, 0)? >= count {
            return Ok(None);
        }
        let now = SystemTime::now();
        let waiting = entries(&self.waiting_folder())?;
        let orders = waiting.filter_map(|entry| entry.file_name().to_str().and_then(Order::parse));
        let first = orders.min_by(|one, other| one.key(now).cmp(&other.key(now)));
        Ok(first.filter(|first| first.key(now) < own.order.key(now)).map(|first| first.file_name()))
    }

    /// Puts a ticket behind all others. Its owner, if it goes on one day, still finds itself where it was.
    pub fn set_aside(&self, name: &str) -> io::Result<()> {
        let path = self.waiting_folder().join(name);
        match Order::parse(name).map(|order| fs::rename(&path, order.set_aside(&path))) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Counts the slots from number `first` on that are held.
    pub fn held(&self, kind: Kind, first: usize) -> io::Result<usize> {
        let names = entries(&self.folder)?;
        let slots = names.filter(|entry| {
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(kind.prefix()));
            number.and_then(|number| number.parse::<usize>().ok()).is_some_and(|number| number >= first)
        });
        Ok(slots.filter(|entry| is_locked(&entry.path())).count())
    }

    /// Joins the queue.
    pub fn join(&self, priority: Priority) -> io::Result<Ticket> {
        let since = SystemTime::now();
        let nanos = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64;
        let id = format!("{:016x}", rand::random::<u64>());
        let order = Order { priority: priority as u64, since: UNIX_EPOCH + Duration::from_nanos(nanos), id };
        let path = self.waiting_folder().join(order.file_name());
        // Locked under a name that is not read, or others would find it unlocked for a moment and remove it.
        let hidden = self.waiting_folder().join(format!(".{}", order.id));
        let lock = private_options().create_new(true).open(&hidden)?;
        let joined = lock.try_lock().map_err(lock_error).and_then(|()| fs::rename(&hidden, &path));
        if let Err(error) = joined {
            let _ = fs::remove_file(&hidden);
            return Err(error);
        }
        Ok(Ticket { path, order, _lock: lock })
    }

    /// Counts the waiting tickets that go before `ticket`; without one, all of them. Removes those of dead processes.
    pub fn ahead(&self, ticket: Option<&Ticket>) -> io::Result<usize> {
        let now = SystemTime::now();
        let mut ahead = 0;
        for entry in entries(&self.waiting_folder())? {
            let name = entry.file_name();
            let Some(order) = name.to_str().and_then(Order::parse) else { continue };
            if ticket.is_some_and(|own| own.order.key(now) <= order.key(now)) {
                continue;
            }
            if is_locked(&entry.path()) {
                ahead += 1;
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(ahead)
    }

    fn path(&self, kind: Kind, number: usize) -> PathBuf {
        self.folder.join(format!("{}{number}", kind.prefix()))
    }
}

/// Lists a folder; one that does not exist is empty.
fn entries(folder: &Path) -> io::Result<impl Iterator<Item = fs::DirEntry> + use<>> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        listed => Some(listed?),
    };
    Ok(listed.into_iter().flatten().take(MAX_TICKETS).flatten())
}

fn take(number: usize, path: &Path) -> io::Result<Option<Slot>> {
    let lock = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            private_options().create(true).truncate(false).open(path)?;
            File::open(path)?
        }
        opened => opened?,
    };
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(error),
    }
    let bell = OpenOptions::new().write(true).open(path)?;
    Ok(Some(Slot { number, lock, _bell: bell }))
}

/// Whether another handle holds the lock. What cannot be opened or locked counts as free.
fn is_locked(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

fn lock_error(error: TryLockError) -> io::Error {
    match error {
        TryLockError::Error(error) => error,
        TryLockError::WouldBlock => io::ErrorKind::WouldBlock.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(folder: &tempfile::TempDir) -> Slots {
        let slots = Slots::new(folder.path().join("slots"));
        slots.prepare().unwrap();
        slots
    }

    #[test]
    fn slots_all_held_none_left_until_one_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let slots = slots(&folder);
        let mut held: Vec<Slot> = (0..3).map(|_| slots.take(Kind::Request, 3, None).unwrap().unwrap()).collect();
        assert!(slots.take(Kind::Request, 3, None).unwrap().is_none());
        assert_eq!(slots.held(Kind::Request, 0).unwrap(), 3);
        assert!(slots.take(Kind::Retry, 1, None).unwrap().is_some());
        held.pop();
        assert_eq!(slots.held(Kind::Request, 0).unwrap(), 2);
        assert!(slots.take(Kind::Request, 3, None).unwrap().is_some());
    }

    #[test]
    fn queue_an_interactive_ticket_overtakes_and_a_dropped_one_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let slots = slots(&folder);
        let batch: Vec<Ticket> = (0..20).map(|_| slots.join(Priority::Batch).unwrap()).collect();
        let interactive = slots.join(Priority::Interactive).unwrap();
        assert_eq!(slots.ahead(Some(&interactive)).unwrap(), 0);
        assert_eq!(slots.ahead(Some(&batch[0])).unwrap(), 1);
        assert_eq!(slots.ahead(Some(&batch[19])).unwrap(), 20);
        drop(interactive);
        assert_eq!(slots.ahead(Some(&batch[19])).unwrap(), 19);
        assert_eq!(slots.ahead(None).unwrap(), 20);
    }

    #[test]
    fn queue_a_batch_ticket_that_waited_long_moves_up() {
        let now = SystemTime::now();
        let order =
            |priority, seconds| Order { priority, since: now - Duration::from_secs(seconds), id: String::new() };
        assert!(order(2, 61).key(now) < order(1, 5).key(now));
        assert!(order(2, 30).key(now) > order(1, 5).key(now));
        assert!(order(2, 200).key(now) < order(0, 5).key(now));
    }

    #[test]
    fn queue_a_ticket_from_before_the_clock_was_set_back_does_not_wait_for_that_time() {
        let now = SystemTime::now();
        let order = |priority, since| Order { priority, since, id: String::new() };
        let before = order(2, now + Duration::from_secs(3600));
        assert!(before.key(now) < order(0, now).key(now));
        assert!(order(2, now + Duration::from_millis(5)).key(now) > order(0, now).key(now));
    }

    #[test]
    fn queue_a_ticket_that_leaves_a_slot_free_is_set_aside_and_keeps_its_own_place() {
        let folder = tempfile::tempdir().unwrap();
        let slots = slots(&folder);
        let suspended = slots.join(Priority::Interactive).unwrap();
        let waiting = slots.join(Priority::Batch).unwrap();
        let held = slots.take(Kind::Request, 1, None).unwrap();
        assert_eq!(slots.idle_first(1, &waiting).unwrap(), None);
        drop(held);
        let first = slots.idle_first(1, &waiting).unwrap().unwrap();
        assert_eq!(slots.idle_first(1, &suspended).unwrap(), None);
        slots.set_aside(&first).unwrap();
        slots.set_aside(&first).unwrap();
        assert_eq!(slots.ahead(Some(&waiting)).unwrap(), 0);
        assert_eq!(slots.ahead(Some(&suspended)).unwrap(), 0);
        drop(suspended);
        drop(waiting);
        assert_eq!(fs::read_dir(slots.waiting_folder()).unwrap().count(), 0);
    }

    #[test]
    fn queue_files_of_dead_processes_and_strangers_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let slots = slots(&folder);
        let dead = slots.waiting_folder().join(format!("0-1-{:016x}", 1));
        fs::write(&dead, "").unwrap();
        fs::write(slots.waiting_folder().join("README"), "").unwrap();
        fs::create_dir(slots.waiting_folder().join("0-1-0000000000000002")).unwrap();
        assert_eq!(slots.ahead(None).unwrap(), 0);
        assert!(!dead.exists());
    }

    #[cfg(unix)]
    #[test]
    fn slots_a_linked_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("slots")).unwrap();
        assert!(Slots::new(folder.path().join("slots")).prepare().is_err());
    }
}
