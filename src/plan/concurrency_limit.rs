//! How many requests of one account may be under way: told by the service, set by the user, or learned from refusals.
//!
//! What was told and learned lies in one small file beside the slots, so that it binds every process with its next request.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::auth::Credential;
use crate::client::Kimi;
use crate::config::Concurrency;
use crate::services::quota_cache::quota;
use crate::storage::clock::now_ms;
use crate::storage::lease::Lease;
use crate::storage::private_file::replace;

/// Most slots of an account. Beyond that many requests the governor steps aside.
pub const MAX_SLOTS: usize = 512;

/// A refused burst is one event: further refusals within this time do not lower the limit again.
const SAME_BURST_MS: u64 = 2_000;

/// The learned limit grows by one for each of these without a refusal.
const CLEAN_MS: u64 = 60_000;

/// A limit that the service told counts this long, then it is asked again.
const TOLD_MS: u64 = 3_600_000;

/// How old the quota record may be that says how many requests the plan allows at once.
const LIMIT_AGE: Duration = Duration::from_secs(3600);

/// Longest wait for that record before a request is sent without it.
const LIMIT_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests under way from which on the plan's limit matters. A single session reaches it at most where a turn begins while the
/// response of the last one is ending.
pub(super) const LIMIT_MATTERS: usize = 2;

/// How long a change waits for another process that changes the limits as well.
const CHANGE_WAIT: Duration = Duration::from_secs(2);

/// Share of the slots that may repeat requests after an overload at the same time, as a divisor.
const RETRY_SHARE: usize = 4;

/// The file. Times are milliseconds since 1970.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// `parallel.limit` of the quota record.
    told: Option<u64>,
    told_at: u64,
    /// Half of what was under way when a refusal came.
    learned: Option<u64>,
    refused_at: u64,
}

/// Asks the service for its limit: `None` without an answer, `Some(None)` if it names no limit.
pub async fn ask_service(kimi: &Kimi, credential: &Credential) -> Option<Option<u64>> {
    let asked = tokio::time::timeout(LIMIT_TIMEOUT, quota(kimi, credential, LIMIT_AGE)).await;
    let usage = asked.ok().and_then(Result::ok).and_then(|snapshot| snapshot.usage);
    usage.map(|usage| usage.parallel_limit.map(u64::from))
}

/// Milliseconds since 1970.
pub fn now() -> u64 {
    u64::try_from(now_ms()).unwrap_or_default()
}

impl Limits {
    /// Reads the file of this folder; one that is missing or cannot be understood says nothing.
    pub fn read(folder: &Path) -> Self {
        let text = fs::read(folder.join("limits.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Changes the file of this folder, so that no two processes undo each other's changes; `change` returns whether there is one.
    /// Blocks for the time of a few file operations, and where another process is stopped in between for [`CHANGE_WAIT`].
    pub fn change(folder: &Path, change: impl FnOnce(&mut Self) -> bool) -> std::io::Result<()> {
        let begun = Instant::now();
        let _lease = loop {
            let lease = Lease::try_take(&folder.join("limits.lock"))?;
            if lease.is_some() || begun.elapsed() >= CHANGE_WAIT {
                break lease;
            }
            thread::sleep(Duration::from_millis(2));
        };
        let mut limits = Self::read(folder);
        if change(&mut limits) { replace(&folder.join("limits.json"), &serde_json::to_vec(&limits)?) } else { Ok(()) }
    }

    /// Whether the service should be asked for its limit again.
    pub fn is_due(&self, now: u64) -> bool {
        now.abs_diff(self.told_at) >= TOLD_MS
    }

    /// Notes that the service was asked and gave no answer: what it told before stays, and it is not asked again for an hour.
    pub fn no_answer(&mut self, now: u64) {
        self.told_at = now;
    }

    /// Notes what the service says; `None` if it names no limit.
    pub fn tell(&mut self, limit: Option<u64>, now: u64) {
        (self.told, self.told_at) = (limit, now);
    }

    /// Lowers the limit after a refusal with `under_way` requests, this one included. Returns whether that changed anything.
    pub fn refuse(&mut self, under_way: usize, concurrency: &Concurrency, now: u64) -> bool {
        if self.learned.is_some() && now.abs_diff(self.refused_at) < SAME_BURST_MS {
            return false;
        }
        let under_way = under_way.max(1);
        let known = self.slots(concurrency, now).map_or(under_way, |slots| slots.min(under_way));
        (self.learned, self.refused_at) = (Some((known / 2).max(1) as u64), now);
        true
    }

    /// How many requests may be under way; `None` where no limit is known, or one that is beyond counting.
    pub fn slots(&self, concurrency: &Concurrency, now: u64) -> Option<usize> {
        let told = self.told.map(|limit| limit.saturating_sub(concurrency.reserve));
        // By how much a clock was set back says nothing, so a refusal from the future does not bind until then.
        let clean = now.abs_diff(self.refused_at) / CLEAN_MS;
        let learned = self.learned.map(|slots| slots.saturating_add(clean));
        // Without another limit the learned one has nothing to grow back to, and ends when it has grown beyond use.
        let slots = [concurrency.max.or(told), learned].into_iter().flatten().min()?;
        (slots < MAX_SLOTS as u64).then_some(slots.max(1) as usize)
    }

    /// How many requests may be repeated at once after an overload.
    pub fn retries(&self, concurrency: &Concurrency, now: u64) -> usize {
        (self.slots(concurrency, now).unwrap_or(RETRY_SHARE) / RETRY_SHARE).max(1)
    }

    /// The limit as the service tells it.
    pub fn told(&self) -> Option<u64> {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const PLAIN: Concurrency = Concurrency { max: None, reserve: 2 };

    #[test]
    fn limit_told_by_the_service_keeps_the_reserve_but_at_least_one() {
        let mut limits = Limits::default();
        assert_eq!(limits.slots(&PLAIN, 0), None);
        for (told, expected) in [(30, Some(28)), (0, Some(1)), (1, Some(1)), (3, Some(1)), (1_000_000_000, None)] {
            limits.tell(Some(told), 0);
            assert_eq!(limits.slots(&PLAIN, 0), expected, "{told}");
        }
        assert_eq!(limits.slots(&Concurrency { max: Some(5), reserve: 2 }, 0), Some(5));
        assert_eq!(limits.slots(&Concurrency { max: Some(1_000_000_000), reserve: 2 }, 0), None);
        limits.tell(Some(30), 0);
        limits.no_answer(2 * TOLD_MS);
        assert_eq!((limits.slots(&PLAIN, 0), limits.is_due(2 * TOLD_MS)), (Some(28), false));
        limits.tell(None, 0);
        assert_eq!(limits.slots(&PLAIN, 0), None);
    }

    #[test]
    fn limit_learned_from_a_refusal_halves_once_per_burst_and_grows_by_the_minute() {
        let mut limits = Limits::default();
        limits.tell(Some(30), 0);
        let start = 10 * MINUTE;
        assert!(limits.refuse(28, &PLAIN, start));
        assert_eq!(limits.slots(&PLAIN, start), Some(14));
        assert!(!limits.refuse(27, &PLAIN, start + 500));
        assert_eq!(limits.slots(&PLAIN, start + 3 * MINUTE), Some(17));
        assert_eq!(limits.slots(&PLAIN, start + 60 * MINUTE), Some(28));
        assert!(limits.refuse(2, &PLAIN, start + 60 * MINUTE));
        assert!(limits.refuse(1, &PLAIN, start + 61 * MINUTE));
        assert_eq!(limits.slots(&PLAIN, start + 61 * MINUTE), Some(1));
    }

    #[test]
    fn limit_learned_before_the_clock_was_set_back_ends_as_well() {
        let mut limits = Limits::default();
        limits.tell(Some(30), 0);
        limits.refuse(28, &PLAIN, 600 * MINUTE);
        assert_eq!(limits.slots(&PLAIN, 600 * MINUTE), Some(14));
        assert_eq!(limits.slots(&PLAIN, MINUTE), Some(28));
    }

    #[test]
    fn limit_learned_where_none_was_known_is_half_of_what_was_under_way() {
        let mut limits = Limits::default();
        limits.refuse(40, &PLAIN, MINUTE);
        assert_eq!(limits.slots(&PLAIN, MINUTE), Some(20));
        assert_eq!(limits.retries(&PLAIN, MINUTE), 5);
        assert_eq!(limits.slots(&PLAIN, 600 * MINUTE), None);
    }

    #[test]
    fn limits_file_broken_or_missing_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Limits::read(folder.path()), Limits::default());
        fs::write(folder.path().join("limits.json"), "{\"told\":\"x\"").unwrap();
        assert_eq!(Limits::read(folder.path()), Limits::default());
        let mut limits = Limits::default();
        limits.tell(Some(3), 5);
        Limits::change(folder.path(), |kept| {
            kept.tell(Some(3), 5);
            true
        })
        .unwrap();
        assert_eq!(Limits::read(folder.path()), limits);
    }

    #[test]
    fn limits_changed_by_many_at_once_keep_every_change() {
        let folder = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for number in 0..8_u64 {
                let folder = folder.path();
                scope.spawn(move || {
                    let change = |limits: &mut Limits| {
                        if number == 0 {
                            limits.tell(Some(30), 5);
                        } else {
                            limits.told_at += 1;
                            limits.refused_at += 1;
                        }
                        true
                    };
                    Limits::change(folder, change).unwrap();
                });
            }
        });
        let limits = Limits::read(folder.path());
        assert_eq!((limits.told, limits.refused_at), (Some(30), 7));
    }

    #[test]
    fn limits_whose_lock_a_stopped_process_holds_are_changed_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let _stopped = Lease::try_take(&folder.path().join("limits.lock")).unwrap();
        let change = |limits: &mut Limits| {
            limits.tell(Some(30), 5);
            true
        };
        Limits::change(folder.path(), change).unwrap();
        assert_eq!(Limits::read(folder.path()).told(), Some(30));
    }
}
