//! Shares one `/usages` request among all processes of a user: it is sent at most once per interval.
//!
//! The last answer is in our state folder with the time it was fetched. The process that finds it too old sends the request,
//! and the others wait for that answer. A failed request counts as well, so that a broken network is not tried after each turn.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::{self, Usage};
use crate::auth::{AccountId, Credential};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::error::Result;
use crate::http::error_answer::not_a_document;
use crate::http::redact::KnownSecrets;
use crate::storage::clock::{age, now_ms};
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, replace};
use crate::storage::remembered::Remembered;

/// Limit for a whole request of quota or account (docs/protocol.md#usages).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest answer that is read, in bytes; an ordinary one has 2,000.
const MAX_ANSWER: usize = 256 << 10;

/// How often a process looks whether another one has the answer.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The last known quota.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The last good answer.
    pub usage: Option<Usage>,
    /// When it was fetched, in milliseconds since 1970.
    pub fetched_at: Option<i64>,
    /// Why the last request failed.
    pub problem: Option<String>,
}

/// What is stored: the answer as it came, so that a newer version may read more out of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    fetched_at: Option<i64>,
    /// When the last request was sent, in milliseconds since 1970.
    checked_at: Option<i64>,
    problem: Option<String>,
    answer: Value,
}

impl Record {
    fn snapshot(&self) -> Snapshot {
        Snapshot { usage: usage::parse(&self.answer), fetched_at: self.fetched_at, problem: self.problem.clone() }
    }

    /// Whether the record answers a caller that accepts this age. Zero always asks for a new request.
    fn is_recent(&self, max_age: Duration) -> bool {
        !max_age.is_zero() && age(self.checked_at) < max_age
    }
}

/// Records of this process that could not be written, for the last 16 accounts.
type UnwrittenRecords = Remembered<AccountId, Record, 16>;

/// Where the record of one deployment and account is stored. Its functions block.
#[derive(Debug, Clone)]
struct QuotaStore {
    account: AccountId,
    /// Absent where there is no home directory.
    file: Option<PathBuf>,
    unwritten: Arc<UnwrittenRecords>,
}

/// Which process sends the request.
enum FetchRole {
    /// This one; without a lease where the folder cannot be written, because it cannot be shared either.
    Fetch(Option<Lease>, Record),
    /// Another one is at it.
    Wait,
    /// None: another process got the answer since.
    Done(Record),
}

/// Returns the quota, at most `max_age` old unless the service cannot be reached. Zero always sends a request.
pub async fn quota(kimi: &Kimi, credential: &Credential, max_age: Duration) -> Result<Snapshot> {
    let (store, known) = QuotaStore::open(kimi, credential).await?;
    if known.is_recent(max_age) {
        return Ok(known.snapshot());
    }
    let role = {
        let store = store.clone();
        in_background(move || Ok(store.role(max_age))).await?
    };
    let (lease, known) = match role {
        FetchRole::Done(record) => return Ok(record.snapshot()),
        FetchRole::Fetch(lease, record) => (lease, record),
        FetchRole::Wait if !max_age.is_zero() => return Ok(wait_for_another(store, known).await?.snapshot()),
        FetchRole::Wait => (None, known),
    };
    let url = format!("{}/usages", kimi.config.endpoint.v1());
    let answer = kimi.get(&url, credential, REQUEST_TIMEOUT, MAX_ANSWER).await.and_then(|bytes| {
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if answer.is_object() { Ok(answer) } else { Err(not_a_document("the usage answer is no object", &bytes)) }
    });
    let now = Some(now_ms());
    let record = match &answer {
        Ok(answer) => Record { fetched_at: now, checked_at: now, problem: None, answer: answer.clone() },
        Err(error) => Record { checked_at: now, problem: Some(KnownSecrets::shared().redact(&error.message)), ..known },
    };
    let snapshot = record.snapshot();
    in_background(move || {
        store.write(record);
        Ok(())
    })
    .await?;
    drop(lease);
    match answer {
        Err(error) if snapshot.fetched_at.is_none() => Err(error),
        _ => Ok(snapshot),
    }
}

/// Returns the last quota that any process fetched, without asking the service.
pub async fn known(kimi: &Kimi, credential: &Credential) -> Snapshot {
    QuotaStore::open(kimi, credential).await.map(|(_, record)| record).unwrap_or_default().snapshot()
}

/// Waits for the answer that another process has requested.
async fn wait_for_another(store: QuotaStore, known: Record) -> Result<Record> {
    for _ in 0..(REQUEST_TIMEOUT.as_millis() / POLL_INTERVAL.as_millis()) {
        tokio::time::sleep(POLL_INTERVAL).await;
        let store = store.clone();
        let record = in_background(move || Ok(store.read())).await?;
        if record.checked_at > known.checked_at {
            return Ok(record);
        }
    }
    Ok(known)
}

impl QuotaStore {
    /// Finds the record of a credential's account, and reads it.
    async fn open(kimi: &Kimi, credential: &Credential) -> Result<(Self, Record)> {
        let (state, unwritten) = (kimi.config.state_directory.clone(), kimi.process.get());
        let (root, token) = (kimi.config.endpoint.root().to_owned(), credential.token());
        in_background(move || {
            let account = AccountId::new(&root, &token, state.as_deref());
            let file = state.map(|state| state.join(format!("usage-{}.json", &account.name()[..16])));
            let store = Self { account, file, unwritten };
            let record = store.read();
            Ok((store, record))
        })
        .await
    }

    /// Reads the newest record; a file that cannot be read counts as missing.
    fn read(&self) -> Record {
        let written = self.file.as_ref().and_then(|file| serde_json::from_slice::<Record>(&fs::read(file).ok()?).ok());
        let unwritten = self.unwritten.get(&self.account);
        written.into_iter().chain(unwritten).max_by_key(|record| record.checked_at).unwrap_or_default()
    }

    /// Writes a record; where that fails, this process remembers it.
    fn write(&self, record: Record) {
        let written = serde_json::to_vec(&record).map_err(std::io::Error::from);
        match (&self.file, written) {
            (Some(file), Ok(bytes)) => match replace(file, &bytes) {
                Ok(()) => return self.unwritten.remove(&self.account),
                Err(error) => tracing::info!(%error, "the quota cannot be written"),
            },
            (_, Err(error)) => tracing::info!(%error, "the quota cannot be written"),
            (None, Ok(_)) => {}
        }
        self.unwritten.insert(self.account.clone(), record);
    }

    fn role(&self, max_age: Duration) -> FetchRole {
        let lease = match self.lease() {
            Ok(None) => return FetchRole::Wait,
            taken => taken.ok().flatten(),
        };
        // The lease's last holder may have written a newer record since we read it.
        let record = self.read();
        if record.is_recent(max_age) { FetchRole::Done(record) } else { FetchRole::Fetch(lease, record) }
    }

    /// Takes the lease: `Ok(None)` while another process has it, an error where the folder cannot be written.
    fn lease(&self) -> std::io::Result<Option<Lease>> {
        let file = self.file.as_ref().ok_or(std::io::ErrorKind::NotFound)?;
        file.parent().map_or(Ok(()), create_private_dir)?;
        Lease::try_take(&file.with_extension("asking"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(file: PathBuf) -> QuotaStore {
        QuotaStore { account: AccountId::new("r", "k", None), file: Some(file), unwritten: Arc::default() }
    }

    fn checked_now() -> Record {
        Record { checked_at: Some(now_ms()), ..Record::default() }
    }

    #[test]
    fn lease_won_too_late_returns_the_answer_of_its_last_holder() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path().join("usage-1.json"));
        let minute = Duration::from_secs(60);
        assert!(matches!(store.role(minute), FetchRole::Fetch(Some(_), _)));
        store.write(checked_now());
        assert!(matches!(store.role(minute), FetchRole::Done(record) if record.checked_at.is_some()));
        let FetchRole::Fetch(_lease, _) = store.role(Duration::ZERO) else { panic!("the lease is free again") };
        assert!(matches!(store.role(minute), FetchRole::Wait));
    }

    #[test]
    fn clock_that_was_set_back_makes_an_answer_old() {
        assert_eq!(age(Some(now_ms() + 60_000)), Duration::MAX);
        assert!(age(Some(now_ms() - 1000)) >= Duration::from_secs(1));
        assert!(age(Some(i64::MIN)) > Duration::from_secs(1), "whatever a damaged file says");
        assert_eq!(age(None), Duration::MAX);
    }

    #[test]
    fn broken_file_counts_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        fs::write(&file, "{\"fetchedAt\": 5, \"answ").unwrap();
        assert_eq!(store(file).read().snapshot(), Snapshot::default());
    }

    #[test]
    fn folder_that_cannot_be_written_the_process_remembers_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        let closed = directory.path().join("file");
        fs::write(&closed, "in the way").unwrap();
        let store = store(closed.join("usage-1.json"));
        assert!(matches!(store.role(Duration::ZERO), FetchRole::Fetch(None, _)));
        store.write(checked_now());
        assert!(store.read().is_recent(Duration::from_secs(60)));
        fs::remove_file(&closed).unwrap();
        store.write(checked_now());
        assert!(store.file.as_ref().unwrap().exists() && store.unwritten.get(&store.account).is_none());
    }
}
