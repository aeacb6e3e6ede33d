//! Uploads each content once: index lookup, cross-process lease, upload, index write.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::index::{Index, Key};
use super::upload_request::{Upload, UploadClient};
use crate::auth::AccountId;
use crate::blocking::in_background;
use crate::config::UploadLimits;
use crate::error::Result;
use crate::storage::lease::Lease;

/// How often a process looks whether another one has finished the same upload.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Lets one turn at a time upload a content.
type Queue = tokio::sync::Mutex<()>;

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
pub(super) struct Uploader {
    client: UploadClient,
    active: Arc<ActiveUploads>,
    pub index: Index,
    pub limits: UploadLimits,
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
    pub async fn file_id(&self, key: &Key, upload: &Upload, stale: Option<&str>) -> Result<(String, bool)> {
        let queue = self.active.queue(self.index.account(), key);
        let _only_one = queue.lock().await;
        let started = Instant::now();
        let lease = loop {
            if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
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
        let id = self.client.upload(upload, self.limits.time_for(upload.size())).await?;
        drop(permit);
        log(key, upload.size(), "uploaded", &format!("{id} in {} ms", started.elapsed().as_millis()));
        let (index, key, bytes, stale) = (self.index.clone(), *key, upload.size(), stale.map(str::to_owned));
        let fallback = id.clone();
        let recorded = in_background(move || Ok(index.record(&key, &id, bytes, stale.as_deref()))).await;
        drop(lease);
        Ok((recorded.unwrap_or(fallback), true))
    }

    /// Looks a content up in the index.
    pub async fn find(&self, key: &Key) -> Option<String> {
        let (index, key) = (self.index.clone(), *key);
        in_background(move || Ok(index.find(&key))).await.ok().flatten()
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
    let header = client.extra.iter().find(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
    match header {
        Some((_, Some(value))) => value.strip_prefix("Bearer ").unwrap_or(value).to_owned(),
        _ => client.credential.token(),
    }
}

/// Writes a decision to the debug log.
pub(super) fn log(key: &Key, bytes: u64, decision: &str, why: &str) {
    let content = key.digest.to_string();
    tracing::debug!(content = &content[..12], mime = key.media_type.mime, bytes, decision, why, "media");
}
