//! Maps contents to file ids, for one account.
//!
//! There is one small file per content under `uploads/<scope>/`, replaced atomically: concurrent processes never see half an
//! entry, a damaged entry costs one upload, and every file may be deleted at any time. The scope is a hash of API root and
//! account, so two logins on one machine, or two regions, never share an id. Access tokens take no part, because they rotate
//! every few minutes (docs/protocol.md#upload-index). An entry repeats its own key, so that a file which was copied, renamed or
//! edited is ignored.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::media_info::Digest;
use super::media_type::MediaType;
use crate::auth::AccountId;
use crate::storage::private_file::{create_private_dir, replace};
use crate::storage::regular_file::open_regular;
use crate::storage::remembered::Remembered;

/// Entries per account; the service documents 1,000 files per account (docs/protocol.md#file-limits).
const MAX_ENTRIES: usize = 1000;

/// An entry that was not used for this long is dropped.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Precision of the time of last use: a younger entry is not touched again.
const TOUCH_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Age from which locks and temporary files count as left behind by a process that died.
const LEFTOVER_AGE: Duration = Duration::from_secs(3600);

/// Longest entry that is read, in bytes.
const MAX_ENTRY: u64 = 4096;

/// What a file id stands for.
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

/// What this process knows about the indexes of all accounts.
#[derive(Debug, Default)]
pub struct KnownUploads {
    /// At most 8192 ids.
    ids: Remembered<(AccountId, Key), String, 8192>,
    pruned: AtomicBool,
}

/// The index of one account. Its functions block.
#[derive(Debug, Clone)]
pub struct Index {
    account: AccountId,
    /// Absent where there is no home directory.
    directory: Option<PathBuf>,
    known: Arc<KnownUploads>,
}

impl Index {
    /// Opens the index of an account; `state` is our directory in the user's home.
    pub fn new(state: Option<&Path>, account: AccountId, known: Arc<KnownUploads>) -> Self {
        let directory = state.map(|state| state.join("uploads").join(account.name()));
        Self { account, directory, known }
    }

    /// The account whose files these are.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// Returns the file id of a content.
    pub fn find(&self, key: &Key) -> Option<String> {
        if let Some(id) = self.known.ids.get(&self.known_key(key)) {
            return Some(id);
        }
        let path = self.path(key)?;
        let id = self.read(&path, key)?;
        touch(&path);
        self.remember(key, &id);
        Some(id)
    }

    /// Records a new id. Returns the id that counts from now on: another process may have been first.
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

    /// Removes an id that the service no longer knows. Returns the id that another process has put in its place.
    pub fn remove(&self, key: &Key, stale: &str) -> Option<String> {
        let known_key = self.known_key(key);
        self.known.ids.remove_if(&known_key, |id| id == stale);
        let newer = self.find(key).filter(|id| id != stale);
        if newer.is_none() {
            self.known.ids.remove(&known_key);
        }
        newer
    }

    /// Returns the lock file of the process that uploads this content.
    pub fn claim_path(&self, key: &Key) -> Option<PathBuf> {
        self.path(key).map(|path| path.with_extension("lock"))
    }

    /// Creates the directory if it is missing.
    pub fn prepare(&self) -> io::Result<()> {
        self.directory.as_deref().map_or(Ok(()), create_private_dir)
    }

    fn path(&self, key: &Key) -> Option<PathBuf> {
        let name = format!("{}-{}", key.digest, key.media_type.kind.word());
        self.directory.as_ref().map(|directory| directory.join(name))
    }

    fn known_key(&self, key: &Key) -> (AccountId, Key) {
        (self.account.clone(), *key)
    }

    fn remember(&self, key: &Key, id: &str) {
        self.known.ids.insert(self.known_key(key), id.to_owned());
    }

    fn read(&self, path: &Path, key: &Key) -> Option<String> {
        let mut text = String::new();
        open_regular(path).ok()?.take(MAX_ENTRY).read_to_string(&mut text).ok()?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        let matches = entry.scope == self.account.name()
            && entry.digest == key.digest.to_string()
            && entry.purpose == key.media_type.kind.word()
            && entry.mime == key.media_type.mime;
        // Reject timestamps that overflow `SystemTime`.
        let created = UNIX_EPOCH.checked_add(Duration::from_secs(entry.created));
        let plausible = created.is_some_and(|created| created <= SystemTime::now() + TOUCH_INTERVAL);
        (matches && plausible && is_file_id(&entry.id)).then_some(entry.id)
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
        let written = replace(path, &serde_json::to_vec(&entry)?);
        self.prune_once();
        written
    }

    /// Bounds the directory, once per process: no process uploads a thousand files.
    fn prune_once(&self) {
        if !self.known.pruned.swap(true, Ordering::Relaxed)
            && let Some(directory) = &self.directory
        {
            prune(directory, MAX_ENTRIES);
        }
    }
}

/// Removes entries that were not used for long, and the least recently used ones beyond `max`.
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
        let is_entry = path.extension().is_none();
        kept += usize::from(is_entry);
        if if is_entry { age > MAX_AGE || kept > max } else { age > LEFTOVER_AGE } {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether `id` needs no escaping in URLs and JSON; the official client checks the same alphabet (docs/protocol.md#upload-request).
pub fn is_file_id(id: &str) -> bool {
    id.len() <= 256
        && id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Notes the use, for the age limit. Errors are ignored: they cost one upload in a month.
fn touch(path: &Path) {
    let now = SystemTime::now();
    let used = fs::metadata(path).and_then(|metadata| metadata.modified());
    if used.is_ok_and(|used| now.duration_since(used).unwrap_or_default() > TOUCH_INTERVAL) {
        let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(now));
    }
}
