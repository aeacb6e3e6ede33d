//! Which content has which file id, for which account.
//!
//! One small file per content under `uploads/<scope>/`, replaced atomically: concurrent processes never see half an entry, a
//! damaged entry costs one upload, and every file may be deleted at any time. The scope is a hash of API root and account, so
//! two logins on one machine, or two regions, never share an id; access tokens take no part, because they rotate every
//! few minutes (docs/protocol.md#upload-index). An entry repeats its own key inside, so that a file which was copied,
//! renamed or edited is not believed.

#[cfg(test)]
mod tests;

use crate::storage::private_file::{create_private_dir, create_private_file};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::media::Digest;
use super::media_type::MediaType;
/// Whose files they are.
pub use crate::auth::AccountId as Account;

/// Entries per account; the service documents 1,000 files per account (docs/protocol.md#file-limits).
const MAX_ENTRIES: usize = 1000;

/// An entry that nobody used for this long is dropped.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// How exactly the last use is kept.
const TOUCH: Duration = Duration::from_secs(24 * 3600);

/// Leftovers of processes that died.
const MAX_LITTER: Duration = Duration::from_secs(3600);

/// Longest entry that is read.
const MAX_ENTRY: u64 = 4096;

/// Entries in memory, over all accounts.
const MAX_REMEMBERED: usize = 8192;

/// What an id stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Identity of the content.
    pub digest: Digest,
    /// What it was uploaded as.
    pub media_type: MediaType,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    scope: String,
    digest: String,
    purpose: String,
    mime: String,
    bytes: u64,
    created: u64,
}

type Remembered = HashMap<(Account, Key), String>;

/// The index of one account. Its functions block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Index {
    account: Account,
    /// Absent where there is no home directory.
    directory: Option<PathBuf>,
}

impl Index {
    /// `state` is our directory in the person's home.
    pub fn new(state: Option<&Path>, account: Account) -> Self {
        let directory = state.map(|state| state.join("uploads").join(account.name()));
        Self { account, directory }
    }

    /// The id of a content.
    pub fn find(&self, key: &Key) -> Option<String> {
        if let Some(id) = remembered().get(&(self.account.clone(), *key)) {
            return Some(id.clone());
        }
        let path = self.path(key)?;
        let id = self.read(&path, key)?;
        touch(&path);
        self.remember(key, &id);
        Some(id)
    }

    /// Takes over a new id. Returns the one that counts from now on: another process may have been first.
    pub fn record(&self, key: &Key, id: &str, bytes: u64, stale: Option<&str>) -> String {
        let id = match self.path(key) {
            None => id.to_owned(),
            Some(path) => match self.read(&path, key).filter(|known| Some(known.as_str()) != stale) {
                Some(first) => first,
                None => {
                    if let Err(error) = self.write(&path, key, id, bytes) {
                        // Without the file the upload is remembered by this process only.
                        tracing::debug!(error = %error, "upload index cannot be written");
                    }
                    id.to_owned()
                }
            },
        };
        self.remember(key, &id);
        id
    }

    /// The service does not know `stale` any more. Returns the id that another process has put in its place.
    pub fn remove(&self, key: &Key, stale: &str) -> Option<String> {
        remembered().retain(|(account, known), id| (account, known) != (&self.account, key) || id != stale);
        self.find(key).filter(|id| id != stale).or_else(|| {
            remembered().remove(&(self.account.clone(), *key));
            None
        })
    }

    /// Where a process says that it is uploading this content.
    pub fn claim_path(&self, key: &Key) -> Option<PathBuf> {
        self.path(key).map(|path| path.with_extension("lock"))
    }

    /// The directory exists, or cannot be made.
    pub fn prepare(&self) -> io::Result<()> {
        self.directory.as_deref().map_or(Ok(()), create_private_dir)
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        let name = format!("{}-{}", key.digest, key.media_type.kind.word());
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    fn remember(&self, key: &Key, id: &str) {
        let mut map = remembered();
        if map.len() >= MAX_REMEMBERED {
            map.clear();
        }
        map.insert((self.account.clone(), *key), id.to_owned());
    }

    fn read(&self, path: &Path, key: &Key) -> Option<String> {
        let mut text = String::new();
        File::open(path).ok()?.take(MAX_ENTRY).read_to_string(&mut text).ok()?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        let ours = entry.scope == self.account.name()
            && entry.digest == key.digest.to_string()
            && entry.purpose == key.media_type.kind.word()
            && entry.mime == key.media_type.mime;
        // A time that no clock can hold is no time.
        let created = UNIX_EPOCH.checked_add(Duration::from_secs(entry.created));
        let plausible = created.is_some_and(|created| created <= SystemTime::now() + TOUCH);
        (ours && plausible && is_file_id(&entry.id)).then_some(entry.id)
    }

    fn write(&self, path: &Path, key: &Key, id: &str, bytes: u64) -> io::Result<()> {
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let entry = Entry {
            id: id.to_owned(),
            scope: self.account.name().to_owned(),
            digest: key.digest.to_string(),
            purpose: key.media_type.kind.word().to_owned(),
            mime: key.media_type.mime.to_owned(),
            bytes,
            created,
        };
        self.prepare()?;
        let temporary = path.with_extension(format!("{:016x}.tmp", rand::random::<u64>()));
        let written = create_private_file(&temporary)
            .and_then(|mut file| file.write_all(&serde_json::to_vec(&entry)?))
            .and_then(|()| fs::rename(&temporary, path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        self.prune_sometimes();
        written
    }

    /// Bounds the directory, once per process: a process that uploads a thousand files is none of ours.
    fn prune_sometimes(&self) {
        static DONE: AtomicBool = AtomicBool::new(false);
        if !DONE.swap(true, Ordering::Relaxed)
            && let Some(directory) = &self.directory
        {
            prune(directory, MAX_ENTRIES);
        }
    }
}

/// Removes what nobody used for long, and the least recently used beyond `max`.
fn prune(directory: &Path, max: usize) {
    let now = SystemTime::now();
    let mut entries: Vec<(SystemTime, PathBuf)> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    entries.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    let mut kept = 0;
    for (used, path) in entries {
        let age = now.duration_since(used).unwrap_or_default();
        let litter = path.extension().is_some();
        kept += usize::from(!litter);
        if if litter { age > MAX_LITTER } else { age > MAX_AGE || kept > max } {
            let _ = fs::remove_file(path);
        }
    }
}

/// Ids go into URLs and JSON; the official client checks the same alphabet (docs/protocol.md#upload-request).
pub fn is_file_id(id: &str) -> bool {
    id.len() <= 256
        && id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn remembered() -> MutexGuard<'static, Remembered> {
    static REMEMBERED: OnceLock<Mutex<Remembered>> = OnceLock::new();
    REMEMBERED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes the use, for the age limit; a failure costs an upload in a month.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let used = fs::metadata(path).and_then(|metadata| metadata.modified());
    if used.is_ok_and(|used| now.duration_since(used).unwrap_or_default() > TOUCH) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(now));
    }
}
