//! What it means that the service refuses a refresh token: the login has ended, or another program has its successor.
//!
//! A successor is looked for before a login is declared dead. Refusals are kept for a while: programs that queue for the same dead
//! login, each of which would have to wait for the service, believe the first one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Refresh;
use super::locks::RefreshLock;
use crate::auth::account_id::hash;
use crate::auth::credential_sources::Account;
use crate::auth::kimi_auth_file::Stored;
use crate::auth::token::Tokens;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::storage::clock::{AwakeTime, now_ms};
use crate::storage::private_file::replace;

/// Time in which a refused refresh token may be the sign of a peer that has not finished writing.
pub(super) const PEER_GRACE: Duration = Duration::from_secs(2);

/// The same where another program took our lock over and may be in the middle of its own token call.
const TAKEOVER_GRACE: Duration = Duration::from_secs(30);

/// File of the refusals, in our state folder: hashes of tokens and when they were refused, in milliseconds since 1970.
const FILE: &str = "refused-tokens.json";

/// How long a refusal is believed without asking the service again.
const BELIEVED: Duration = Duration::from_secs(60);

/// Refusals that are kept.
const MAX_REFUSALS: usize = 16;

/// A token that the service has refused.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    /// Hash of the token.
    token: String,
    /// When, in milliseconds since 1970.
    at: i64,
    meaning: RefusalMeaning,
}

/// What a refusal says about the login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RefusalMeaning {
    /// It has ended.
    Final,
    /// Another program, which is stopped or has not finished, may have its successor.
    Open,
}

impl Account {
    /// Looks for a successor, for a time of grace, before a login is declared dead, and records what the refusal means. That is not
    /// known before, and until then the lease keeps our other processes waiting. `None`: the program that took the lock over has
    /// ended without a successor.
    pub(super) fn judge_refusal(
        &self,
        refresh: &Refresh<'_>,
        lock: &RefreshLock,
        candidates: &[Tokens],
        may_write: bool,
        refused: Refused<'_>,
    ) -> Result<Option<Tokens>> {
        let mut time = AwakeTime::start();
        let (is_guarded, is_vacant) = loop {
            std::thread::sleep(Duration::from_millis(100));
            if let Some(tokens) = self.adoptable(refresh)? {
                return Ok(Some(tokens));
            }
            let stored = self.pi().read().map(|entry| entry.stored).unwrap_or(Stored::Absent);
            let usable = |tokens: &&Tokens| refresh.pi.is_some() && refresh.requirement.is_met_by(tokens);
            if let Some(tokens) = stored.tokens().filter(usable) {
                return Ok(Some(tokens.clone()));
            }
            // A program that took the lock over while this process was stopped may have spent the token and still be waiting.
            let is_guarded = lock.is_guarded();
            let is_vacant = !is_guarded && lock.is_vacant();
            let limit = if is_guarded || is_vacant { refused.grace } else { TAKEOVER_GRACE };
            if time.look() >= limit {
                break (is_guarded, is_vacant);
            }
        };
        let is_final = (is_guarded || is_vacant) && !lock.has_stalled_predecessor();
        let meaning = if is_final { RefusalMeaning::Final } else { RefusalMeaning::Open };
        for token in &refused.tokens {
            record(self.paths.state.as_deref(), token, meaning);
        }
        if is_vacant {
            // It left no successor, so the login is judged anew, under a lock.
            return Ok(None);
        }
        if !is_guarded {
            let message = "another program is refreshing the Kimi Code login and has not finished; try again";
            return Err(Error::new(ErrorKind::Timeout(Phase::Headers), message));
        }
        if refused.is_open || !is_final {
            let message = "the service refused the Kimi Code login, but another program began to refresh it and was stopped or killed. \
                           It may still store the new login; try again";
            return Err(Error::new(ErrorKind::Timeout(Phase::Headers), message));
        }
        let file = self.kimi_code(refresh.scope);
        let is_spent = |tokens: &Tokens| candidates.iter().any(|used| used.refresh == tokens.refresh);
        if may_write && file.read()?.tokens().is_some_and(is_spent) {
            file.write_tombstone()?;
        }
        Err(refused.error.unwrap_or_else(Error::login_required))
    }
}

/// That the service refused all tokens there are.
pub(super) struct Refused<'a> {
    /// Those that it was asked about now.
    pub tokens: Vec<&'a str>,
    pub error: Option<Error>,
    /// Whether one of them was refused before, to a program that could not tell what it meant.
    pub is_open: bool,
    /// How long a successor is looked for. Where the service is not asked again, the program that asked it has looked for one.
    pub grace: Duration,
}

impl Refusal {
    /// Whether it is believed. The clock of the program that recorded it may have been ahead.
    fn is_recent(&self) -> bool {
        now_ms().abs_diff(self.at) < BELIEVED.as_millis() as u64
    }
}

/// What it meant that the service refused this token, if it did lately.
pub(super) fn recent(state: Option<&Path>, refresh_token: &str) -> Option<RefusalMeaning> {
    let hash = hash(refresh_token);
    let refusals = read(state?);
    refusals.iter().find(|refusal| refusal.token == hash && refusal.is_recent()).map(|refusal| refusal.meaning)
}

/// Records that the service has refused this token. Where nothing can be written, everybody asks.
pub(super) fn record(state: Option<&Path>, refresh_token: &str, meaning: RefusalMeaning) {
    let Some(state) = state else { return };
    let token = hash(refresh_token);
    let mut refusals = read(state);
    refusals.retain(|refusal| refusal.token != token && refusal.is_recent());
    refusals.push(Refusal { token, at: now_ms(), meaning });
    let surplus = refusals.len().saturating_sub(MAX_REFUSALS);
    refusals.drain(..surplus);
    let bytes = serde_json::to_vec(&refusals).map_err(std::io::Error::from);
    if let Err(error) = bytes.and_then(|bytes| replace(&state.join(FILE), &bytes)) {
        tracing::info!(%error, "the refused token cannot be recorded");
    }
}

/// An unreadable file counts as empty.
fn read(state: &Path) -> Vec<Refusal> {
    fs::read(state.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_found_by_others_for_a_minute_and_hold_no_token() {
        let folder = tempfile::tempdir().unwrap();
        let state = Some(folder.path());
        record(state, "token-dead", RefusalMeaning::Final);
        record(state, "token-open", RefusalMeaning::Open);
        assert_eq!(recent(state, "token-dead"), Some(RefusalMeaning::Final));
        assert_eq!(recent(state, "token-open"), Some(RefusalMeaning::Open));
        assert_eq!(recent(state, "token-alive"), None);
        let path = folder.path().join(FILE);
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("token-dead"), "{text}");
        for (seconds, expected) in
            [(-61, None), (-50, Some(RefusalMeaning::Final)), (50, Some(RefusalMeaning::Final)), (61, None)]
        {
            let refusal =
                Refusal { token: hash("token-dead"), at: now_ms() + seconds * 1000, meaning: RefusalMeaning::Final };
            fs::write(&path, serde_json::to_vec(&[refusal]).unwrap()).unwrap();
            assert_eq!(recent(state, "token-dead"), expected, "{seconds} s");
        }
    }

    #[test]
    fn refusals_damaged_file_or_no_folder_counts_as_none() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), "{ broken").unwrap();
        assert_eq!(recent(Some(state.path()), "token"), None);
        record(Some(state.path()), "token", RefusalMeaning::Final);
        assert_eq!(recent(Some(state.path()), "token"), Some(RefusalMeaning::Final));
        record(None, "token", RefusalMeaning::Final);
        assert_eq!(recent(None, "token"), None);
    }

    #[test]
    fn refusals_number_is_bounded() {
        let state = tempfile::tempdir().unwrap();
        (0..3 * MAX_REFUSALS).for_each(|at| record(Some(state.path()), &at.to_string(), RefusalMeaning::Final));
        assert_eq!(read(state.path()).len(), MAX_REFUSALS);
    }
}
