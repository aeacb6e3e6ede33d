//! Maps contents to file ids, for one account.
//!
//! There is one small file per content under `uploads/<scope>/`, replaced atomically: concurrent processes never see half an
//! entry, a damaged entry costs one upload, and every file may be deleted at any time. The scope is a hash of API root and
//! account, so two logins on one machine, or two regions, never share an id. Access tokens take no part, because they rotate
//! every few minutes (docs/protocol.md#upload-index). An entry repeats its own key, so that a file which was copied, renamed or
//! edited is ignored.

#[cfg(test)]
mod tests;
mod video_refusals;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::media_info::Digest;
use super::media_type::{MediaKind, MediaType};
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
const MAX_ENTRY: u64 = 8192;

/// Longest path that is remembered, in bytes.
const MAX_PATH: usize = 4096;

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
    /// Where the content was read, if it came from disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

/// A file that the service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// Id of the service.
    pub id: String,
    /// What it was uploaded as.
    pub media_type: MediaType,
    /// Size.
    pub bytes: u64,
    /// Where the content was read, if it came from disk.
    pub path: Option<PathBuf>,
}

/// What this process knows about the indexes of all accounts.
#[derive(Debug, Default)]
pub struct KnownUploads {
    /// At most 8192 files.
    files: Remembered<(AccountId, Digest, MediaKind), KnownFile, 8192>,
    /// Models whose videos the service refuses; at most 256.
    without_videos: Remembered<(AccountId, String), (), 256>,
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
        self.find_content(key.digest, key.media_type.kind)
            .filter(|known| known.media_type == key.media_type)
            .map(|known| known.id)
    }

    /// Returns the file of a content whose exact type is not known.
    pub fn find_content(&self, digest: Digest, kind: MediaKind) -> Option<KnownFile> {
        let memory_key = self.memory_key(digest, kind);
        if let Some(known) = self.known.files.get(&memory_key) {
            return Some(known);
        }
        let path = self.path(digest, kind)?;
        let known = self.read(&path, digest, kind)?;
        touch(&path);
        self.known.files.insert(memory_key, known.clone());
        Some(known)
    }

    /// Records a new file; `stale` is an id that no longer works. Returns the id that counts from now on: another process may have
    /// been first.
    pub fn record(&self, digest: Digest, file: KnownFile, stale: Option<&str>) -> String {
        let kind = file.media_type.kind;
        let same_type = |known: &KnownFile| known.media_type == file.media_type && Some(known.id.as_str()) != stale;
        let path = self.path(digest, kind);
        let first = path.as_deref().and_then(|path| self.read(path, digest, kind)).filter(same_type);
        let known = first.unwrap_or_else(|| {
            self.write(digest, &file);
            file
        });
        let id = known.id.clone();
        self.known.files.insert(self.memory_key(digest, kind), known);
        id
    }

    /// Remembers where a content is on disk, so that it can be uploaded again.
    pub fn record_path(&self, digest: Digest, kind: MediaKind, path: &Path) {
        let Some(mut known) = self.find_content(digest, kind).filter(|known| known.path.as_deref() != Some(path))
        else {
            return;
        };
        known.path = Some(path.to_owned());
        self.write(digest, &known);
        self.known.files.insert(self.memory_key(digest, kind), known);
    }

    /// Removes an id that the service no longer knows. Returns the id that another process has put in its place.
    pub fn remove(&self, key: &Key, stale: &str) -> Option<String> {
        let memory_key = self.memory_key(key.digest, key.media_type.kind);
        self.known.files.remove_if(&memory_key, |known| known.id == stale);
        let newer = self.find(key).filter(|id| id != stale);
        if newer.is_none() {
            self.known.files.remove(&memory_key);
        }
        newer
    }

    /// Deletes the entry of a file that the service no longer knows and that cannot be uploaded again.
    pub fn delete(&self, digest: Digest, kind: MediaKind) {
        self.known.files.remove(&self.memory_key(digest, kind));
        if let Some(path) = self.path(digest, kind) {
            // Without the deletion the next request finds the same stale id, and does the same.
            let _ = fs::remove_file(path);
        }
    }

    /// Returns the lock file of the process that uploads this content.
    pub fn claim_path(&self, key: &Key) -> Option<PathBuf> {
        self.path(key.digest, key.media_type.kind).map(|path| path.with_extension("lock"))
    }

    /// Returns the number of uploads on disk. An error where the directory cannot be read.
    pub fn count(&self) -> io::Result<usize> {
        let Some(directory) = &self.directory else { return Ok(0) };
        match fs::read_dir(directory) {
            Ok(entries) => Ok(entries.flatten().filter(|entry| entry.path().extension().is_none()).count()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Creates the directory if it is missing.
    pub fn prepare(&self) -> io::Result<()> {
        self.directory.as_deref().map_or(Ok(()), create_private_dir)
    }

    fn path(&self, digest: Digest, kind: MediaKind) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.join(format!("{digest}-{}", kind.word())))
    }

    fn memory_key(&self, digest: Digest, kind: MediaKind) -> (AccountId, Digest, MediaKind) {
        (self.account.clone(), digest, kind)
    }

    fn read(&self, path: &Path, digest: Digest, kind: MediaKind) -> Option<KnownFile> {
        let mut text = String::new();
        open_regular(path).ok()?.take(MAX_ENTRY).read_to_string(&mut text).ok()?;
        let entry: Entry = serde_json::from_str(&text).ok()?;
        let matches =
            entry.scope == self.account.name() && entry.digest == digest.to_string() && entry.purpose == kind.word();
        let media_type =
            MediaType::named(&entry.mime).filter(|known| known.kind == kind && known.mime == entry.mime)?;
        // Reject timestamps that overflow `SystemTime`.
        let created = UNIX_EPOCH.checked_add(Duration::from_secs(entry.created));
        let plausible = created.is_some_and(|created| created <= SystemTime::now() + TOUCH_INTERVAL);
        let path = entry.path.map(PathBuf::from).filter(|path| path.is_absolute());
        let known = KnownFile { id: entry.id, media_type, bytes: entry.bytes, path };
        (matches && plausible && is_file_id(&known.id)).then_some(known)
    }

    /// Writes an entry. Where that fails, this process remembers the upload.
    fn write(&self, digest: Digest, file: &KnownFile) {
        let kind = file.media_type.kind;
        let Some(path) = self.path(digest, kind) else { return };
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
        let entry = Entry {
            id: file.id.clone(),
            scope: self.account.name().to_owned(),
            digest: digest.to_string(),
            purpose: kind.word().to_owned(),
            mime: file.media_type.mime.to_owned(),
            bytes: file.bytes,
            created,
            path: file.path.as_deref().and_then(Path::to_str).filter(|path| path.len() <= MAX_PATH).map(str::to_owned),
        };
        let bytes = serde_json::to_vec(&entry).map_err(io::Error::from);
        if let Err(error) = bytes.and_then(|bytes| replace(&path, &bytes)) {
            tracing::info!(%error, "the upload index cannot be written");
        }
        self.prune_once();
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
