//! Uploads each content once: index lookup, cross-process lease, upload, index write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::index::{Index, Key, KnownFile};
use super::media_source::MediaSource;
use super::progress::upload_notice;
use super::prompt_media::PromptMedia;
use super::upload_request::{Upload, UploadClient, upload_timeout};
use crate::auth::AccountId;
use crate::blocking::in_background;
use crate::config::UploadLimits;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::lease::Lease;

/// How often a process looks whether another one has finished the same upload.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Lets one turn at a time upload a content.
type Queue = tokio::sync::Mutex<()>;

/// Delay of the first notice about uploads, and the interval of the following ones.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

/// An uploaded file: its id, and whether it was uploaded just now.
pub(super) type UploadedId = (String, bool);

/// A file to upload.
#[derive(Debug)]
pub(super) struct UploadJob {
    pub key: Key,
    pub upload: Upload,
    /// An id that no longer works.
    pub stale: Option<String>,
}

/// The uploads of this process.
#[derive(Debug)]
pub(super) struct ActiveUploads {
    /// Uploads that may run at once, over all turns.
    permits: Semaphore,
    /// One lock per content that is being uploaded; entries without a holder are removed on the next upload.
    queues: Mutex<HashMap<(AccountId, Key), Weak<Queue>>>,
}

impl Default for ActiveUploads {
    fn default() -> Self {
        Self { permits: Semaphore::new(4), queues: Mutex::default() }
    }
}

impl ActiveUploads {
    /// Returns the lock that lets one turn of this process at a time upload this content.
    fn queue(&self, account: &AccountId, key: &Key) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| queue.strong_count() > 0);
        let content = (account.clone(), *key);
        if let Some(queue) = queues.get(&content).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = Arc::default();
        queues.insert(content, Arc::downgrade(&queue));
        queue
    }
}

/// Uploads for one account.
#[derive(Debug, Clone)]
pub struct Uploader {
    client: UploadClient,
    active: Arc<ActiveUploads>,
    pub(super) index: Index,
    pub(super) limits: UploadLimits,
}

/// The right to upload a content.
enum LeaseOutcome {
    /// Ours; without a lease where the directory cannot be written.
    Acquired(Option<Lease>),
    HeldElsewhere,
}

impl Uploader {
    /// Finds the account that the files belong to, and opens its index.
    pub async fn new(client: UploadClient) -> Result<Self> {
        let limits = client.kimi.config.settings.upload_limits();
        let process = Arc::clone(&client.kimi.process);
        let (config, credential) = (&client.kimi.config, sent_credential(&client));
        let (root, state) = (config.endpoint.root().to_owned(), config.state_directory.clone());
        let (known, active) = (process.get(), process.get());
        let index = in_background(move || {
            let account = AccountId::new(&root, &credential, state.as_deref());
            Ok(Index::new(state.as_deref(), account, known))
        })
        .await?;
        Ok(Self { client, active, index, limits })
    }

    /// Returns the file id of a content, and whether it was uploaded just now. `stale` is an id that no longer works.
    pub(super) async fn file_id(&self, key: &Key, upload: &Upload, stale: Option<&str>) -> Result<UploadedId> {
        let queue = self.active.queue(self.index.account(), key);
        let _only_one = queue.lock().await;
        let started = Instant::now();
        let lease = loop {
            if let Some(id) = self.find_for(key, upload).await.filter(|id| Some(id.as_str()) != stale) {
                log(key, upload.size(), "known", &id);
                return Ok((id, false));
            }
            match self.lease(key).await {
                LeaseOutcome::Acquired(lease) => break lease,
                LeaseOutcome::HeldElsewhere if self.limits.timeout.is_some_and(|limit| started.elapsed() > limit) => {
                    break None;
                }
                LeaseOutcome::HeldElsewhere => sleep(POLL_INTERVAL).await,
            }
        };
        // Another process may have finished between the lookup and the lease.
        if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
            return Ok((id, false));
        }
        let permit = self.active.permits.acquire().await;
        let started = Instant::now();
        let id = self.client.upload(upload, upload_timeout(&self.limits, upload.size())).await?;
        drop(permit);
        log(key, upload.size(), "uploaded", &format!("{id} in {} ms", started.elapsed().as_millis()));
        let fallback = id.clone();
        let file = KnownFile { id, media_type: key.media_type, bytes: upload.size(), path: upload.path().cloned() };
        let (index, digest, stale) = (self.index.clone(), key.digest, stale.map(str::to_owned));
        let recorded = in_background(move || Ok(index.record(digest, file, stale.as_deref()))).await;
        drop(lease);
        Ok((recorded.unwrap_or(fallback), true))
    }

    /// Returns the contents that prompts may upload.
    pub(super) fn prompt_media(&self) -> Arc<PromptMedia> {
        self.client.kimi.process.get()
    }

    /// Looks a content up in the index.
    pub(super) async fn find(&self, key: &Key) -> Option<String> {
        let (index, key) = (self.index.clone(), *key);
        in_background(move || Ok(index.find(&key))).await.ok().flatten()
    }

    /// Uploads files in parallel, with notices about the progress. Returns an outcome for each, or the first error that
    /// `is_fatal`.
    pub(super) async fn upload_all(
        &self,
        uploads: Vec<UploadJob>,
        source: &mut impl MediaSource,
        is_fatal: impl Fn(&Error) -> bool,
    ) -> Result<Vec<Result<UploadedId>>> {
        let mut outcomes: Vec<Option<Result<UploadedId>>> = uploads.iter().map(|_| None).collect();
        let mut tasks = JoinSet::new();
        let mut progress = Vec::new();
        for (position, UploadJob { key, upload, stale }) in uploads.into_iter().enumerate() {
            progress.push((Arc::clone(&upload.progress), upload.size()));
            let uploader = self.clone();
            tasks.spawn(async move { (position, uploader.file_id(&key, &upload, stale.as_deref()).await) });
        }
        let started = Instant::now();
        let mut due = started + NOTICE_INTERVAL;
        let mut shown = false;
        while !tasks.is_empty() {
            let done = tokio::select! {
                done = tasks.join_next() => done,
                () = sleep_until(due) => {
                    due += NOTICE_INTERVAL;
                    shown = true;
                    source.notice(upload_notice(&progress, tasks.len(), started.elapsed()));
                    continue;
                }
            };
            match done {
                // Dropping the set aborts the other uploads.
                Some(Ok((_, Err(error)))) if is_fatal(&error) => return Err(error),
                Some(Ok((position, outcome))) => outcomes[position] = Some(outcome),
                _ => break,
            }
        }
        if shown {
            source.notice(upload_notice(&progress, 0, started.elapsed()));
        }
        let failed = || Err(Error::new(ErrorKind::Internal, "an upload failed unexpectedly"));
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(failed)).collect())
    }

    /// Whether the service has refused videos for this model and account.
    pub async fn refuses_videos(&self, model: &str) -> bool {
        let (index, model) = (self.index.clone(), model.to_owned());
        in_background(move || Ok(index.refuses_videos(&model))).await.unwrap_or(false)
    }

    /// Records that the service refuses videos for this model and account.
    pub async fn record_video_refusal(&self, model: &str) {
        let (index, model) = (self.index.clone(), model.to_owned());
        // An error costs one more refused request.
        let _ = in_background(move || {
            index.record_video_refusal(&model);
            Ok(())
        })
        .await;
    }

    /// Looks a content up, and remembers where it is on disk now.
    pub(super) async fn find_for(&self, key: &Key, upload: &Upload) -> Option<String> {
        let (index, key, path) = (self.index.clone(), *key, upload.path().cloned());
        let find = move || {
            let id = index.find(&key);
            if let Some(path) = path.filter(|_| id.is_some()) {
                index.record_path(key.digest, key.media_type.kind, &path);
            }
            Ok(id)
        };
        in_background(find).await.ok().flatten()
    }

    async fn lease(&self, key: &Key) -> LeaseOutcome {
        let Some(path) = self.index.claim_path(key) else { return LeaseOutcome::Acquired(None) };
        let index = self.index.clone();
        match in_background(move || Ok(index.prepare().and_then(|()| Lease::try_take(&path)))).await {
            Ok(Ok(Some(lease))) => LeaseOutcome::Acquired(Some(lease)),
            Ok(Ok(None)) => LeaseOutcome::HeldElsewhere,
            Ok(Err(_)) | Err(_) => LeaseOutcome::Acquired(None),
        }
    }
}

/// Returns the credential that is really sent: a header of the caller outranks ours.
fn sent_credential(client: &UploadClient) -> String {
    match client.kimi.own_authorization(&client.extra) {
        Some(Some(value)) => value.strip_prefix("Bearer ").unwrap_or(value).to_owned(),
        _ => client.credential.token(),
    }
}

/// Writes a decision to the debug log.
pub(super) fn log(key: &Key, bytes: u64, decision: &str, why: &str) {
    let content = key.digest.to_string();
    tracing::info!(content = &content[..12], mime = key.media_type.mime, bytes, decision, why, "media");
}
