//! A right that one process at a time has: a file that its holder keeps locked by the kernel.
//!
//! The kernel keeps the lock while the holder is stopped and gives it back when the holder ends, however it ends. So there is no
//! heartbeat, no age to judge and no takeover. Where files cannot be locked (Android, some network file systems) everybody gets
//! the lease and [`Lease::is_exclusive`] says so: uploads and quota queries may then be made twice, and refreshes rely on the
//! directory locks alone.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::private_file::private_options;

/// Attempts to lock a file that its last holder removes at the same time.
const ATTEMPTS: usize = 3;

/// Longest record that is read, in bytes.
const MAX_RECORD: u64 = 4 << 10;

/// The right, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    file: File,
    exclusive: bool,
}

impl Lease {
    /// Takes the lease, or returns `None` while a living holder has it. Creates the file, 0600, but no folder.
    pub fn try_take(path: &Path) -> io::Result<Option<Self>> {
        for _ in 0..ATTEMPTS {
            let file = private_options().read(true).create(true).truncate(false).open(path)?;
            let exclusive = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => {
                    tracing::info!(%error, path = %path.display(), "files cannot be locked here");
                    false
                }
            };
            if is_current(&file, path) {
                return Ok(Some(Self { path: path.to_owned(), file, exclusive }));
            }
        }
        Ok(None)
    }

    /// Whether a living process has the lease.
    pub fn is_held(path: &Path) -> bool {
        // A shared lock, so that two processes that only ask do not see each other.
        OpenOptions::new().read(true).open(path).is_ok_and(|file| {
            matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) && is_current(&file, path)
        })
    }

    /// Whether the kernel guarantees that no other process has the lease.
    pub fn is_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Replaces the text in the file, which tells others about the holder.
    pub fn write_record(&self, record: &[u8]) -> io::Result<()> {
        let mut file = &self.file;
        file.rewind()?;
        file.write_all(record)?;
        file.set_len(record.len() as u64)
    }

    /// Returns the text in the file: the holder's own, or what the last one left.
    pub fn read_record(&self) -> io::Result<Vec<u8>> {
        let mut file = &self.file;
        file.rewind()?;
        let mut record = Vec::new();
        file.take(MAX_RECORD).read_to_end(&mut record)?;
        Ok(record)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Removed before it is unlocked, so that no process can hold a file that is about to vanish. Windows cannot tell an open file
        // from its successor, so the file stays there.
        if cfg!(unix) && self.exclusive && is_current(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
        // Explicitly, because a child process that is being started may still share the file.
        let _ = self.file.unlock();
    }
}

/// Whether `path` still leads to this open file.
#[cfg(unix)]
fn is_current(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(id), fs::metadata(path).map(id)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

#[cfg(not(unix))]
fn is_current(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lease_held_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = Lease::try_take(&path).unwrap().unwrap();
        assert!(first.is_exclusive() && Lease::is_held(&path));
        assert!(Lease::try_take(&path).unwrap().is_none());
        drop(first);
        assert!(!path.exists() && !Lease::is_held(&path));
        assert!(Lease::try_take(&path).unwrap().is_some());
    }

    #[test]
    fn lease_of_an_ended_holder_is_free_at_once_and_its_record_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        fs::write(&path, "a record that is longer").unwrap();
        assert!(!Lease::is_held(&path));
        let lease = Lease::try_take(&path).unwrap().unwrap();
        assert_eq!(lease.read_record().unwrap(), b"a record that is longer");
        lease.write_record(b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn lease_whose_file_was_removed_leaves_the_new_one_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.lock");
        let first = Lease::try_take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        let second = Lease::try_take(&path).unwrap().unwrap();
        drop(first);
        assert!(path.exists() && Lease::is_held(&path));
        drop(second);
    }

    #[test]
    fn lease_in_a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Lease::try_take(&folder.path().join("missing").join("x.lock")).is_err());
    }
}
