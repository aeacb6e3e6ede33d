//! One question to the service for all processes of a person: `/usages` is asked at most once per interval, whoever asks.
//!
//! The last answer lies in our state folder with the time it was fetched. Whoever finds it too old asks, and the others wait for
//! that answer. A failed question counts as asked, so that a broken network is not asked after each turn.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::usage::{self, Usage};
use crate::auth::{AccountId, Credential};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::error::Result;
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, replace};

/// Longest wait for an answer (docs/protocol.md#usages).
pub const PATIENCE: Duration = Duration::from_secs(8);

/// An answer beyond this is not a quota.
const MAX_ANSWER: usize = 256 << 10;

/// What is known about the quota.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The last good answer.
    pub usage: Option<Usage>,
    /// When it was fetched, in milliseconds since 1970; 0 if never.
    pub fetched_at: i64,
    /// Why there is nothing newer.
    pub problem: Option<String>,
}

/// What lies on disk: the answer as it came, so that a newer version of us may read more out of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Record {
    fetched_at: i64,
    checked_at: i64,
    problem: Option<String>,
    answer: Value,
}

impl Record {
    fn snapshot(&self) -> Snapshot {
        let usage = usage::parse(&self.answer);
        Snapshot { usage, fetched_at: self.fetched_at, problem: self.problem.clone() }
    }
}

/// The quota, at most `max_age` old unless the service cannot be reached. Zero asks in any case.
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
    let (lease, known) = match (turn, &file) {
        (Some(FetchRole::Answered(record)), _) => return Ok(record.snapshot()),
        (Some(FetchRole::Ours(lease, record)), _) => (lease, record),
        (Some(FetchRole::Theirs), Some(file)) if !max_age.is_zero() => {
            return Ok(wait_for_another(file, known).await?.snapshot());
        }
        _ => (None, known),
    };
    let url = format!("{}/usages", kimi.config.endpoint.v1());
    let answer = kimi.get(&url, credential, PATIENCE, MAX_ANSWER).await.and_then(|bytes| {
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if answer.is_object() {
            Ok(answer)
        } else {
            Err(kimi.no_document("the usage answer is no object", &bytes, credential))
        }
    });
    let now = now();
    let record = match &answer {
        Ok(answer) => Record { fetched_at: now, checked_at: now, problem: None, answer: answer.clone() },
        Err(error) => Record { checked_at: now, problem: Some(error.message.clone()), ..known },
    };
    let kept = record.clone();
    // Without a place to write the next process asks again; that is all.
    in_background(move || Ok(file.map(|file| write(&file, &kept)))).await?;
    drop(lease);
    match answer {
        Err(error) if record.fetched_at == 0 => Err(error),
        _ => Ok(record.snapshot()),
    }
}

/// Whose turn it is to ask.
enum FetchRole {
    Ours(Option<Lease>, Record),
    Theirs,
    /// Nobody's any more: another process asked while we were looking.
    Answered(Record),
}

impl FetchRole {
    /// What was read before the claim was won may be older than what its last holder wrote, so it is read again.
    fn take(file: &Path, max_age: Duration) -> Self {
        // A folder that cannot be written cannot be shared either; then every process asks.
        let lease = match take_lease(file) {
            Ok(None) => return Self::Theirs,
            taken => taken.ok().flatten(),
        };
        let record = read(file);
        if !max_age.is_zero() && age(record.checked_at) < max_age {
            return Self::Answered(record);
        }
        Self::Ours(lease, record)
    }
}

/// Another process is asking: its answer is ours.
async fn wait_for_another(file: &Path, known: Record) -> Result<Record> {
    let step = Duration::from_millis(100);
    for _ in 0..(PATIENCE.as_millis() / step.as_millis()) {
        tokio::time::sleep(step).await;
        let file = file.to_owned();
        let record = in_background(move || Ok(read(&file))).await?;
        if record.checked_at > known.checked_at {
            return Ok(record);
        }
    }
    Ok(known)
}

/// Per deployment and account.
fn file(state: &Path, root: &str, token: &str) -> PathBuf {
    state.join(format!("usage-{}.json", &AccountId::new(root, token, Some(state)).name()[..16]))
}

fn read(file: &Path) -> Record {
    fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn write(file: &Path, record: &Record) {
    let written = serde_json::to_vec(record).map_err(std::io::Error::from).and_then(|bytes| replace(file, &bytes));
    if let Err(error) = written {
        tracing::debug!(%error, "the quota cannot be kept");
    }
}

/// Takes the right to ask: `Ok(None)` while another process has it, an error where the folder cannot be written.
fn take_lease(file: &Path) -> std::io::Result<Option<Lease>> {
    file.parent().map_or(Ok(()), create_private_dir)?;
    Lease::try_take(&file.with_extension("asking"))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// A time in the future is a clock that was set back, and counts as old.
fn age(then: i64) -> Duration {
    u64::try_from(now().saturating_sub(then)).map_or(Duration::MAX, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wins_the_claim_too_late_takes_the_answer_of_the_one_before() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        let minute = Duration::from_secs(60);
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Ours(..)));
        write(&file, &Record { checked_at: now(), ..Record::default() });
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Answered(record) if record.checked_at > 0));
        let FetchRole::Ours(_claim, _) = FetchRole::take(&file, Duration::ZERO) else {
            panic!("the claim is free again")
        };
        assert!(matches!(FetchRole::take(&file, minute), FetchRole::Theirs));
    }

    #[test]
    fn a_clock_that_was_set_back_makes_an_answer_old() {
        assert_eq!(age(now() + 60_000), Duration::MAX);
        assert!(age(now() - 1000) >= Duration::from_secs(1));
        assert!(age(i64::MIN) > Duration::from_secs(1), "whatever a damaged file says");
    }

    #[test]
    fn a_broken_file_is_as_good_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("usage-1.json");
        fs::write(&file, "{\"fetchedAt\": 5, \"answ").unwrap();
        assert_eq!(read(&file).snapshot(), Snapshot::default());
    }
}
