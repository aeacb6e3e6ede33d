//! One upload per machine: a process that uploads a content says so in a lock file beside the index entry.
//!
//! The holder keeps the file young; one that has grown old belongs to a process that died and is taken over. Every doubt is
//! resolved by uploading: the worst that can happen is a second copy of a file on the service.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::private_file::private_file;
use crate::blocking::in_background;

/// How often the holder touches its file.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A file that was not touched for this long has no holder any more.
const STALE: Duration = Duration::from_secs(10);

/// The right to upload, given back when dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    mark: String,
    heartbeat: JoinHandle<()>,
}

impl Lease {
    /// `Ok(None)`: somebody else is at it. Blocks for the time of a few file operations; needs a Tokio context.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        if is_stale(path) {
            // Whoever renames it away has it; the rename keeps two takers from deleting each other's new file.
            let aside = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
            if fs::rename(path, &aside).is_ok() {
                let _ = fs::remove_file(aside);
            }
        }
        let mark = format!("{} {:032x}", std::process::id(), rand::random::<u128>());
        match private_file(path) {
            Ok(mut file) => file.write_all(mark.as_bytes()).inspect_err(|_| {
                // A claim that nobody keeps young would hold everybody up until it is stale.
                let _ = fs::remove_file(path);
            })?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) => return Err(error),
        }
        let heartbeat = tokio::spawn(beat(path.to_owned()));
        Ok(Some(Self { path: path.to_owned(), mark, heartbeat }))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.heartbeat.abort();
        // Two calls on a file of fifty bytes; leaving them to another thread would lose them when the process exits.
        if fs::read_to_string(&self.path).is_ok_and(|mark| mark == self.mark) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

async fn beat(path: PathBuf) {
    loop {
        tokio::time::sleep(HEARTBEAT).await;
        let path = path.clone();
        let touch = || File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
        if !matches!(in_background(move || Ok(touch())).await, Ok(Ok(()))) {
            return;
        }
    }
}

fn is_stale(path: &Path) -> bool {
    let Ok(touched) = fs::metadata(path).and_then(|metadata| metadata.modified()) else { return false };
    // A time in the future is as dead as one in the past: the clock was set back.
    let now = SystemTime::now();
    now.duration_since(touched).unwrap_or_else(|ahead| ahead.duration()) > STALE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> PathBuf {
        std::env::temp_dir().join(format!("kimi-claim-{:016x}.lock", rand::random::<u64>()))
    }

    #[tokio::test]
    async fn only_one_holds_it_and_giving_back_frees_it() {
        let path = scratch();
        let first = Lease::attempt(&path).unwrap().unwrap();
        assert!(Lease::attempt(&path).unwrap().is_none());
        drop(first);
        assert!(!path.exists());
        drop(Lease::attempt(&path).unwrap().unwrap());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_taken_over_and_its_late_end_harms_nobody() {
        let path = scratch();
        let dead = Lease::attempt(&path).unwrap().unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - STALE * 2).unwrap();
        let taken = Lease::attempt(&path).unwrap().unwrap();
        drop(dead);
        assert!(path.exists(), "it belongs to somebody else now");
        drop(taken);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_says_so() {
        assert!(Lease::attempt(Path::new("/nonexistent/x.lock")).is_err());
    }
}
