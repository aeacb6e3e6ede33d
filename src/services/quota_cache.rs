//! Shares one `/usages` request among all processes of a user: it is sent at most once per interval.
//!
//! The last answer is in our state folder with the time it was fetched. The process that finds it too old sends the request,
//! and the others wait for that answer. A failed request counts as well, so that a broken network is not tried after each turn.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::{self, Usage};
use crate::auth::{AccountId, Credential};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::error::Result;
use crate::storage::private_file::replace;

/// Limit for a whole request of quota or account (docs/protocol.md#usages).
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);

/// Longest answer that is read, in bytes; an ordinary one has 2,000.
const MAX_ANSWER: usize = 256 << 10;

/// A claim older than this was left by a process that died.
const CLAIM_EXPIRES: Duration = Duration::from_secs(15);

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

/// The file on disk. It holds the answer as it came, so that a newer version may read more out of it.
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
        let usage = usage::parse(&self.answer);
        Snapshot { usage, fetched_at: self.fetched_at, problem: self.problem.clone() }
    }
}

/// Returns the quota, at most `max_age` old unless the service cannot be reached. Zero always sends a request.
pub async fn quota(kimi: &Kimi, credential: &Credential, max_age: Duration) -> Result<Snapshot> {
    let state = kimi.config.state_directory.clone();
    let (root, token) = (kimi.config.endpoint.root().to_owned(), credential.token());
    let (file, known) = in_background(move || {
        let file = state.map(|state| file(&state, &root, &token));
        let known = file.as_deref().map(read).unwrap_or_default();
        Ok((file, known))
    })
    .await?;
    if !max_age.is_zero() && age(known.checked_at) < max_age {
        return Ok(known.snapshot());
    }
    let turn = {
        let file = file.clone();
        in_background(move || Ok(file.map(|file| FetchRole::take(&file, max_age)))).await?
    };
    let (claim, known) = match (turn, &file) {
        (Some(FetchRole::Answered(record)), _) => return Ok(record.snapshot()),
        (Some(FetchRole::Ours(claim, record)), _) => (Some(claim), record),
        (Some(FetchRole::Theirs), Some(file)) if !max_age.is_zero() => {
            return Ok(wait_for_another(file, known).await?.snapshot());
        }
        _ => (None, known),
    };
    let url = format!("{}/usages", kimi.config.endpoint.v1());
    let answer = kimi.get(&url, credential, REQUEST_TIMEOUT, MAX_ANSWER).await.and_then(|bytes| {
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if answer.is_object() {
            Ok(answer)
        } else {
            Err(kimi.no_document("the usage answer is no object", &bytes, credential))
        }
    });
    let now = Some(now());
    let record = match &answer {
        Ok(answer) => Record { fetched_at: now, checked_at: now, problem: None, answer: answer.clone() },
        Err(error) => Record { checked_at: now, problem: Some(error.message.clone()), ..known },
    };
    let kept = record.clone();
    in_background(move || Ok(file.map(|file| write(&file, &kept)))).await?;
    drop(claim);
    match answer {
        Err(error) if record.fetched_at.is_none() => Err(error),
        _ => Ok(record.snapshot()),
    }
}

/// Whose turn it is to ask.
enum FetchRole {
    Ours(Lease, Record),
    Theirs,
    /// Nobody's any more: another process asked while we were looking.
    Answered(Record),
}

impl FetchRole {
    /// What was read before the claim was won may be older than what its last holder wrote, so it is read again.
    fn take(file: &Path, max_age: Duration) -> Self {
        let Some(claim) = Lease::take(file) else { return Self::Theirs };
        let record = read(file);
        if !max_age.is_zero() && age(record.checked_at) < max_age {
            return Self::Answered(record);
        }
        Self::Ours(claim, record)
    }
}

/// Waits for the answer that another process has requested.
async fn wait_for_another(file: &Path, known: Record) -> Result<Record> {
    let step = Duration::from_millis(100);
    for _ in 0..(REQUEST_TIMEOUT.as_millis() / step.as_millis()) {
        tokio::time::sleep(step).await;
        let file = file.to_owned();
        let record = in_background(move || Ok(read(&file))).await?;
        if record.checked_at > known.checked_at {
            return Ok(record);
        }
    }
    Ok(known)
}

/// Returns the file of a deployment and account.
fn file(state: &Path, root: &str, token: &str) -> PathBuf {
    state.join(format!("usage-{}.json", &AccountId::new(root, token, Some(state)).name()[..16]))
}

fn read(file: &Path) -> Record {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(file: &Path, record: &Record) {
    let written = serde_json::to_vec(record).map_err(std::io::Error::from).and_then(|bytes| replace(file, &bytes));
    if let Err(error) = written {
        tracing::debug!(%error, "the quota cannot be written");
    }
}

/// The right to ask, held by one process at a time.
struct Lease(PathBuf);

impl Lease {
    fn take(file: &Path) -> Option<Self> {
        let claim = file.with_extension("asking");
        let _ = crate::storage::private_file::create_private_dir(file.parent()?);
        let age = fs::metadata(&claim).and_then(|metadata| metadata.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > CLAIM_EXPIRES) {
            let _ = fs::remove_file(&claim);
        }
        match OpenOptions::new().write(true).create_new(true).open(&claim) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
            // A folder that cannot be written to cannot be shared either; then everybody asks.
            _ => Some(Self(claim)),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Returns the age of a record. A time in the future means that the clock was set back, and counts as old.
fn age(then: Option<i64>) -> Duration {
    then.and_then(|then| u64::try_from(now().saturating_sub(then)).ok()).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_sends_the_request_and_a_dead_ones_lease_expires() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        let claim = Lease::take(&file).unwrap();
        assert!(Lease::take(&file).is_none());
        drop(claim);
        let left = Lease::take(&file).unwrap();
        let old = SystemTime::now() - CLAIM_EXPIRES - Duration::from_secs(5);
        fs::File::options().write(true).open(&left.0).unwrap().set_modified(old).unwrap();
        assert!(Lease::take(&file).is_some());
    }

    #[test]
    fn lease_won_too_late_returns_the_answer_of_its_last_holder() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        let minute = Duration::from_secs(60);
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Ours(..)));
        write(&file, &Record { checked_at: Some(now()), ..Record::default() });
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Answered(record) if record.checked_at.is_some()));
        let FetchRole::Ours(_claim, _) = FetchRole::take(&file, Duration::ZERO) else {
            panic!("the claim is free again")
        };
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Theirs));
    }

    #[test]
    fn clock_that_was_set_back_makes_an_answer_old() {
        assert_eq!(age(Some(now() + 60_000)), Duration::MAX);
        assert!(age(Some(now() - 1000)) >= Duration::from_secs(1));
        assert!(age(Some(i64::MIN)) > Duration::from_secs(1), "whatever a damaged file says");
        assert_eq!(age(None), Duration::MAX);
    }

    #[test]
    fn broken_file_counts_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        fs::write(&file, "{\"fetchedAt\": 5, \"answ").unwrap();
        assert_eq!(read(&file).snapshot(), Snapshot::default());
    }
}
