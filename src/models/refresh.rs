//! Asks the service for its models: when a caller wants it, and by itself where the stored list is missing or old.
//!
//! By itself it asks at most once per hour for each account of the machine. The process that asks holds a lease, and the others
//! use the list that it stores.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::cache::{self, StoredList, UnsavedLists};
use super::{list, prompt_cache_hints};
use crate::auth::{AccountId, Credential};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::error::Result;
use crate::http::body::read_whole;
use crate::storage::clock::{age, now_ms};
use crate::storage::lease::Lease;
use crate::storage::private_file::create_private_dir;
use crate::storage::remembered::Remembered;

/// Limit for the whole `GET /models` request.
const MODELS_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest model list that is read, in bytes. Generous, because one entry with an absurd name must not cost the others.
const MAX_LIST: usize = 32 << 20;

/// Limit for the whole request for the cache hints, as in the official client (docs/protocol.md#client-configs).
const HINTS_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest answer with cache hints that is read, in bytes.
const MAX_HINTS: usize = 256 << 10;

/// How long an explicit refresh waits for the cache hints once the list is there.
const HINTS_WAIT: Duration = Duration::from_secs(1);

/// Least time between two requests that no user asked for, failed ones included.
const CHECK_INTERVAL: Duration = Duration::from_secs(3600);

/// Age at which a stored list is renewed.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Longest wait of a turn for the list where none is stored for the account.
pub const TURN_WAIT: Duration = Duration::from_millis(1500);

/// How often a process looks whether another one has stored the list.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Accounts whose list did not come in time and is still awaited, the last 16 of them.
type OverdueLists = Remembered<AccountId, (), 16>;

/// Asks the service and stores the answer. After an error the last list stays.
pub async fn refresh(kimi: &Kimi, credential: &Credential) -> Result<()> {
    let (account, _) = ListAccount::with_list(kimi, credential).await?;
    refresh_list(kimi, credential, &account).await?;
    // Not at the same time, because both change what is stored. Hints that take longer come with the next reading.
    let hints = tokio::spawn(refresh_hints(kimi.clone(), credential.clone(), account));
    let _ = timeout(HINTS_WAIT, hints).await;
    Ok(())
}

/// Returns what is stored for this account, and makes sure that it is a list: waits at most `max_wait` where there is none, and
/// renews an old one in the background. Errors of the service are ignored, because a turn can do without a list.
pub async fn ensure(kimi: &Kimi, credential: &Credential, max_wait: Duration) -> Result<StoredList> {
    let deadline = Instant::now() + max_wait;
    let (account, known) = ListAccount::with_list(kimi, credential).await?;
    let has_list = !known.models.is_empty();
    if (has_list && age(known.fetched_at) < MAX_AGE) || age(known.checked_at) < CHECK_INTERVAL {
        return Ok(known);
    }
    // A service that did not answer in time once is not waited for again; its answer still counts when it comes.
    let overdue = kimi.process.get::<OverdueLists>();
    if !has_list && overdue.get(&account.id).is_some() {
        return Ok(known);
    }
    let (listed, mut done) = oneshot::channel();
    tokio::spawn(refresh_shared(kimi.clone(), credential.clone(), account.clone(), listed));
    if has_list {
        return Ok(known);
    }
    match timeout_at(deadline, &mut done).await {
        Ok(Ok(RefreshRole::Done)) => return account.read().await,
        Ok(Ok(RefreshRole::Waits)) => {}
        Err(_) => {
            overdue.insert(account.id.clone(), ());
            // The task answers before it removes the account, so an answer that came meanwhile is seen here.
            if !matches!(done.try_recv(), Err(TryRecvError::Empty)) {
                overdue.remove(&account.id);
            }
            return Ok(known);
        }
        // The task has failed.
        Ok(Err(_)) => return Ok(known),
    }
    while Instant::now() < deadline {
        sleep(POLL_INTERVAL).await;
        let now = account.read().await?;
        if now.checked_at > known.checked_at {
            return Ok(now);
        }
    }
    Ok(known)
}

/// Returns what is stored for this account.
pub async fn stored(kimi: &Kimi, credential: &Credential) -> Result<StoredList> {
    ListAccount::with_list(kimi, credential).await.map(|(_, stored)| stored)
}

/// What this process did about a missing list.
#[derive(Debug)]
enum RefreshRole {
    /// It asked, or another process had just done so.
    Done,
    /// Another process is asking.
    Waits,
}

/// Asks unless another process does, and says so as soon as the list is stored.
async fn refresh_shared(
    kimi: Kimi,
    credential: Credential,
    account: ListAccount,
    listed: oneshot::Sender<RefreshRole>,
) {
    let role = refresh_leased(&kimi, &credential, &account).await;
    let asked = matches!(role, Ok(RefreshRole::Done));
    // Answered first: see `ensure`.
    let _ = role.map(|role| listed.send(role));
    kimi.process.get::<OverdueLists>().remove(&account.id);
    if asked {
        refresh_hints(kimi, credential, account).await;
    }
}

/// Asks and stores the list under the lease. Errors of the service are logged.
async fn refresh_leased(kimi: &Kimi, credential: &Credential, account: &ListAccount) -> Result<RefreshRole> {
    let lease = {
        let account = account.clone();
        in_background(move || Ok(account.lease())).await?
    };
    if matches!(lease, Ok(None)) {
        return Ok(RefreshRole::Waits);
    }
    // The lease's last holder may have stored a list since it was read.
    if account.read().await.is_ok_and(|known| age(known.checked_at) >= CHECK_INTERVAL)
        && let Err(error) = refresh_list(kimi, credential, account).await
    {
        tracing::info!(%error, "the model list cannot be fetched");
    }
    Ok(RefreshRole::Done)
}

async fn refresh_list(kimi: &Kimi, credential: &Credential, account: &ListAccount) -> Result<()> {
    let url = format!("{}/models", kimi.config.endpoint.v1());
    let answer = kimi.get(&url, credential, MODELS_TIMEOUT, MAX_LIST).await;
    account
        .update(move |stored| {
            stored.checked_at = Some(now_ms());
            stored.models = list::parse(&answer?)?;
            stored.fetched_at = stored.checked_at;
            Ok(())
        })
        .await
}

/// Asks for the cache hints at most once per hour. Errors are ignored.
async fn refresh_hints(kimi: Kimi, credential: Credential, account: ListAccount) {
    if account.read().await.is_ok_and(|known| age(known.hints_checked_at) < CHECK_INTERVAL) {
        return;
    }
    let url = format!("{}/client_configs", kimi.config.endpoint.v1());
    let body = Bytes::from(json!({ "name": prompt_cache_hints::CONFIG_NAME }).to_string());
    let request = async {
        let response = kimi.post_json(&url, &credential, body, &Vec::new(), &Default::default()).await?;
        read_whole(response, MAX_HINTS).await
    };
    let answer = timeout(HINTS_TIMEOUT, request).await;
    let stored = account.update(move |stored| {
        stored.hints_checked_at = Some(now_ms());
        if let Ok(Ok(body)) = answer {
            stored.cache_hints = prompt_cache_hints::parse(&body);
        }
        Ok(())
    });
    if let Err(error) = stored.await {
        tracing::info!(%error, "the cache hints cannot be stored");
    }
}

/// The account whose list is refreshed, and where it is stored.
#[derive(Debug, Clone)]
struct ListAccount {
    id: AccountId,
    root: String,
    /// Absent where there is no home directory.
    state: Option<PathBuf>,
    unsaved: Arc<UnsavedLists>,
}

impl ListAccount {
    async fn with_list(kimi: &Kimi, credential: &Credential) -> Result<(Self, StoredList)> {
        let (state, unsaved) = (kimi.config.state_directory.clone(), kimi.process.get());
        let (root, token) = (kimi.config.endpoint.root().to_owned(), credential.token());
        in_background(move || {
            let account = Self { id: AccountId::new(&root, &token, state.as_deref()), root, state, unsaved };
            let stored = account.stored();
            Ok((account, stored))
        })
        .await
    }

    async fn read(&self) -> Result<StoredList> {
        let account = self.clone();
        in_background(move || Ok(account.stored())).await
    }

    /// Changes what is stored. What `change` did before an error is stored as well.
    async fn update(&self, change: impl FnOnce(&mut StoredList) -> Result<()> + Send + 'static) -> Result<()> {
        let account = self.clone();
        in_background(move || {
            let mut stored = account.stored();
            let changed = change(&mut stored);
            cache::store(&account.unsaved, account.state.as_deref(), &account.id, stored);
            changed
        })
        .await
    }

    fn stored(&self) -> StoredList {
        cache::read_account(&self.unsaved, self.state.as_deref(), &self.root, &self.id)
            .unwrap_or_else(|| StoredList { root: self.root.clone(), ..StoredList::default() })
    }

    /// Takes the lease: `Ok(None)` while another process has it, an error where the folder cannot be written.
    fn lease(&self) -> std::io::Result<Option<Lease>> {
        let state = self.state.as_deref().ok_or(std::io::ErrorKind::NotFound)?;
        create_private_dir(state)?;
        let name = self.id.name();
        Lease::try_take(&state.join(format!("models-{}.asking", &name[..name.len().min(16)])))
    }
}
