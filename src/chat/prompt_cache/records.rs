//! The sessions of this process, and their copies on disk.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::chain::Chain;
use super::report::{self, Report};
use super::session::{CacheScope, Request, Session};
use super::store::Store;
use super::verdict::{CacheUsage, Judgement, Verdict};
use crate::storage::clock::now_ms;

/// Sessions that are kept in memory; the one that was used longest ago goes first.
const MAX_SESSIONS: usize = 16;

/// A session: its id, and the state folder that holds its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionKey {
    /// The state folder; without one nothing is stored.
    pub state: Option<PathBuf>,
    /// The session's id.
    pub session: String,
}

/// A request that is about to be sent.
#[derive(Debug, Clone)]
pub struct Sending {
    /// Whose cache it reads.
    pub scope: CacheScope,
    /// The model's id.
    pub model: String,
    /// When it is sent, in milliseconds since 1970.
    pub at: i64,
    /// How long the service keeps prompts, in milliseconds, where it says so.
    pub lifetime_ms: Option<i64>,
    /// A payload hook changed the body.
    pub is_rewritten: bool,
}

/// A session in memory.
#[derive(Debug)]
struct Known {
    key: SessionKey,
    store: Store,
    session: Session,
}

/// All sessions of the process.
#[derive(Debug, Default)]
pub struct PromptCaches {
    sessions: Mutex<Vec<Known>>,
    /// Number of the last request.
    requests: AtomicU64,
    /// Held while a file is written, so that an older state never replaces a newer one.
    writing: Mutex<()>,
}

impl PromptCaches {
    /// Records a request, predicts what it finds in the cache, and returns its number. Blocks: a session that is new to this
    /// process is read from disk.
    pub fn send(&self, key: &SessionKey, body: &[u8], sending: Sending) -> u64 {
        let (before, seed) =
            self.with(key, |known, _| (known.session.newest().cloned().unwrap_or_default(), known.store.seed()));
        let chain = Chain::read(body, &before, seed);
        self.with(key, |known, others| {
            let Sending { scope, model, at, lifetime_ms, is_rewritten } = sending;
            let others = others.iter().map(|other| &other.session);
            let expected = known.session.expect(others, &chain, scope, at, lifetime_ms);
            let id = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            known.session.add(Request {
                id,
                at,
                scope,
                model: Some(model.into()),
                chain: chain.into(),
                is_rewritten,
                usage: None,
                expected,
                verdict: Verdict::Unknown,
                change: None,
            });
            id
        })
    }

    /// Finishes a request with the usage that the service reported.
    pub fn finish(
        &self,
        key: &SessionKey,
        id: u64,
        usage: Option<CacheUsage>,
        lifetime_ms: Option<i64>,
    ) -> Option<Judgement> {
        self.with(key, |known, _| known.session.finish(id, usage, lifetime_ms))
    }

    /// Forgets a request that the service did not answer.
    pub fn drop_request(&self, key: &SessionKey, id: u64) {
        self.with(key, |known, _| known.session.remove(id));
    }

    /// Whether this has not been told in the session yet.
    pub fn is_news(&self, key: &SessionKey, judgement: &Judgement) -> bool {
        self.with(key, |known, _| known.session.is_news(judgement))
    }

    /// Writes a session's copy. Blocks.
    pub fn save(&self, key: &SessionKey) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (store, session) = self.with(key, |known, _| (known.store.clone(), known.session.clone()));
        if let Err(error) = store.write(&session) {
            tracing::info!(%error, "the prompt cache's records cannot be written");
        }
    }

    /// Returns what users see of a session. `models` are the ids that a stored request may have had. Blocks.
    pub fn report(&self, key: &SessionKey, last: usize, models: &[(String, u64)]) -> Report {
        self.with(key, |known, _| report::report(&known.session, last, models))
    }

    /// Returns the tokens that a session's next request to `scope` would read again because they have expired, and since when they
    /// have, in milliseconds. Blocks.
    pub fn expired(&self, key: &SessionKey, model: u64, lifetime_ms: i64) -> Option<Expired> {
        self.with(key, |known, _| {
            let last = known.session.requests.back().filter(|request| request.scope.model == model)?;
            let since = now_ms().saturating_sub(last.at).saturating_sub(lifetime_ms);
            (since > 0).then_some(Expired { at: last.at, since_ms: since, tokens: last.usage?.prompt })
        })
    }

    /// Uses a session, which is read from disk where this process does not know it, and the other ones.
    fn with<T>(&self, key: &SessionKey, work: impl FnOnce(&mut Known, &[Known]) -> T) -> T {
        let mut sessions = self.lock();
        if !sessions.iter().any(|known| known.key == *key) {
            drop(sessions);
            let store = Store::open(key);
            let known = Known { key: key.clone(), session: store.read().unwrap_or_default(), store };
            sessions = self.lock();
            // Another turn may have read it meanwhile.
            if !sessions.iter().any(|known| known.key == *key) {
                sessions.insert(0, known);
                sessions.truncate(MAX_SESSIONS);
            }
        }
        let at = sessions.iter().position(|known| known.key == *key).unwrap_or_default();
        if let Some(newer) = sessions.get_mut(..=at) {
            newer.rotate_right(1);
        }
        match sessions.split_first_mut() {
            Some((known, others)) => work(known, others),
            // It was inserted above.
            None => work(&mut Known { key: key.clone(), store: Store::default(), session: Session::default() }, &[]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prompt whose cache has expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// When it was sent, in milliseconds since 1970.
    pub at: i64,
    /// How long ago it expired, in milliseconds.
    pub since_ms: i64,
    /// Its tokens.
    pub tokens: u64,
}
