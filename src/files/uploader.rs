//! Whoever uploads: asks the index, makes sure that nobody else is at the same content, uploads, writes it down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::index::{Account, Index, Key};
use super::upload_request::{Upload, UploadClient};
use crate::blocking::in_background;
use crate::config::UploadLimits;
use crate::error::Result;
use crate::storage::lease::Lease;

/// Uploads under way at once, over all turns of the process.
static PARALLEL: Semaphore = Semaphore::const_new(4);

/// How often a process looks whether another one has finished the same upload.
const PEEK: Duration = Duration::from_millis(100);

/// Uploads for one account.
#[derive(Debug, Clone)]
pub(super) struct Uploader {
    sender: UploadClient,
    pub index: Index,
    pub settings: UploadLimits,
}

impl Uploader {
    /// Finds out whose files these are.
    pub async fn new(sender: UploadClient) -> Result<Self> {
        let settings = sender.kimi.config.uploads();
        let (config, credential) = (&sender.kimi.config, credential(&sender));
        let (root, state) = (config.endpoint.root().to_owned(), config.state_directory.clone());
        let index = in_background(move || {
            let account = Account::new(&root, &credential, state.as_deref());
            Ok(Index::new(state.as_deref(), account))
        })
        .await?;
        Ok(Self { sender, index, settings })
    }

    /// The id of a content: from whoever has it by now, or by uploading it. `stale` is an id that does not work any more.
    pub async fn file_id(&self, key: &Key, upload: &Upload, stale: Option<&str>) -> Result<(String, bool)> {
        let turn = queue(&self.index, key);
        let _only_one = turn.lock().await;
        let started = Instant::now();
        let claim = loop {
            if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
                log(key, upload.size(), "known", &id);
                return Ok((id, false));
            }
            match self.claim(key).await {
                Claimed::Ours(claim) => break claim,
                Claimed::Elsewhere if self.settings.timeout.is_some_and(|limit| started.elapsed() > limit) => {
                    break None;
                }
                Claimed::Elsewhere => sleep(PEEK).await,
            }
        };
        // Another process may have finished between the look and the claim.
        if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
            return Ok((id, false));
        }
        let permit = PARALLEL.acquire().await;
        let began = Instant::now();
        let id = self.sender.upload(upload, self.settings.time_for(upload.size())).await?;
        drop(permit);
        log(key, upload.size(), "uploaded", &format!("{id} in {} ms", began.elapsed().as_millis()));
        let (index, key, bytes, stale) = (self.index.clone(), *key, upload.size(), stale.map(str::to_owned));
        let fallback = id.clone();
        let recorded = in_background(move || Ok(index.record(&key, &id, bytes, stale.as_deref()))).await;
        drop(claim);
        Ok((recorded.unwrap_or(fallback), true))
    }

    pub async fn find(&self, key: &Key) -> Option<String> {
        let (index, key) = (self.index.clone(), *key);
        in_background(move || Ok(index.find(&key))).await.ok().flatten()
    }

    async fn claim(&self, key: &Key) -> Claimed {
        let Some(path) = self.index.claim_path(key) else { return Claimed::Ours(None) };
        let index = self.index.clone();
        match in_background(move || Ok(index.prepare().and_then(|()| Lease::try_take(&path)))).await {
            Ok(Ok(Some(claim))) => Claimed::Ours(Some(claim)),
            Ok(Ok(None)) => Claimed::Elsewhere,
            // A directory that cannot be written keeps nobody from uploading.
            Ok(Err(_)) | Err(_) => Claimed::Ours(None),
        }
    }
}

/// The credential that will really be sent.
fn credential(sender: &UploadClient) -> String {
    let theirs = sender.extra.iter().find(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
    match theirs {
        Some((_, Some(value))) => value.strip_prefix("Bearer ").unwrap_or(value).to_owned(),
        _ => sender.credential.token(),
    }
}

enum Claimed {
    Ours(Option<Lease>),
    Elsewhere,
}

type Queues = HashMap<(Index, Key), Weak<tokio::sync::Mutex<()>>>;

/// The queue of those who want the same content uploaded, within this process.
fn queue(index: &Index, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
    static QUEUES: OnceLock<Mutex<Queues>> = OnceLock::new();
    let mut queues = QUEUES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    queues.retain(|_, queue| queue.strong_count() > 0);
    let place = (index.clone(), *key);
    if let Some(queue) = queues.get(&place).and_then(Weak::upgrade) {
        return queue;
    }
    let queue = Arc::default();
    queues.insert(place, Arc::downgrade(&queue));
    queue
}

/// Every decision, for `KIMI_CODE_DEBUG=1`.
pub(super) fn log(key: &Key, bytes: u64, decision: &str, why: &str) {
    let content = key.digest.to_string();
    tracing::debug!(content = &content[..12], mime = key.media_type.mime, bytes, decision, why, "medium");
}
