//! One refresh per machine.
//!
//! A refresh token works once, so whoever spends it must be alone, must look first whether somebody else has been faster,
//! and must put the answer where everybody finds it before anything else can go wrong. The order, always:
//!
//! 1. Pi's `auth.json` lock (taken here after a 401; already held by Pi when Pi asks), then the official client's lock;
//! 2. read again: a newer token on disk is adopted, and no refresh token is spent;
//! 3. the token call, the only network traffic under a lock;
//! 4. the official client's file, then Pi's. If the process dies in between, the next reader adopts from the first.
//!
//! A transaction runs on a thread of its own: file systems block, and nothing the caller does – aborting, ending, being
//! busy – may interrupt it between 3 and 4. Sources: design §5, protocol reference §3.6–3.9, kimi-code-2.1 §3.2.

use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::runtime::Handle;

use super::account::Account;
use super::atomic::create_private_dir;
use super::credential::remember;
use super::lineage;
use super::lock::{Lock, Waiter};
use super::pi_auth::pi_entry;
use super::process::{Spending, detached, flight, rest, rests};
use super::store::{Stored, is_forbidden};
use super::token::{TokenEndpoint, Tokens};
use crate::background::in_background;
use crate::endpoint::Slot;
use crate::error::{Error, ErrorKind, Result};

/// After this the official client's lock counts as abandoned (protocol reference §3.8).
const KIMI_STALE: Duration = Duration::from_secs(5);

/// After this Pi's does.
const PI_STALE: Duration = Duration::from_secs(30);

/// Longest wait for Pi's lock: longer than its stale time, so that a dead holder never makes us fail.
const PI_WAIT: Duration = Duration::from_secs(40);

/// Longest wait for the official client's lock; its holder may be in the middle of a slow token call.
const KIMI_WAIT: Duration = Duration::from_secs(30);

/// The same while Pi's lock is held, whose own waiters give up after 30 s.
const KIMI_WAIT_IN_PI: Duration = Duration::from_secs(14);

/// All attempts of one token call together.
pub(super) const TOKEN_BUDGET: Duration = Duration::from_secs(14);

/// How long a refused refresh token may be the sign of a peer that has not finished writing.
const PEER_GRACE: Duration = Duration::from_secs(2);

/// Which token would do.
#[derive(Debug, Clone)]
struct Wish {
    /// Not this one.
    not: Option<String>,
    /// With enough life left to start something with it.
    fresh: bool,
}

impl Wish {
    fn is_met_by(&self, tokens: &Tokens) -> bool {
        self.not.as_deref() != Some(tokens.access.as_str())
            && if self.fresh { !tokens.is_due() } else { tokens.is_valid() }
    }
}

impl Account {
    /// Pi asks for a fresh credential and holds its own lock, and will write what is returned. `entry` is Pi's credential; all
    /// its other members come back unchanged.
    pub async fn renew(&self, entry: Map<String, Value>) -> Result<Map<String, Value>> {
        let account = self.clone();
        detached(move |runtime| {
            let parsed = pi_entry(&entry);
            let slot = account.slot(Some(&parsed))?;
            let Stored::Login(known) = parsed.stored else { return Err(login_again("this login is empty")) };
            let wish = Wish { not: Some(known.access.clone()), fresh: true };
            let tokens =
                account.or_keep(&slot, &known, |account| account.obtain(&slot, &wish, Some(&known), runtime))?;
            account.note(&known.access, &tokens);
            let mut entry = entry;
            entry.insert("access".to_owned(), tokens.access.as_str().into());
            entry.insert("refresh".to_owned(), tokens.refresh.as_str().into());
            entry.insert("expires".to_owned(), tokens.expires_at_ms.into());
            Ok(entry)
        })
        .await
    }

    /// The service refused `rejected` although nobody expected it. Returns another access token, found or newly issued, or
    /// `None` if the token is not that of a login (then it is a static key, and those are never replaced).
    pub async fn heal(&self, rejected: &str, from_login: bool) -> Result<Option<String>> {
        let account = self.clone();
        let rejected = rejected.to_owned();
        detached(move |runtime| {
            let healed = account.heal_blocking(&rejected, from_login, runtime)?;
            healed.iter().for_each(|tokens| account.note(&rejected, tokens));
            Ok(healed.map(|tokens| tokens.access))
        })
        .await
    }

    /// A login that the official client left on this machine, refreshed if its time has come. `None` if there is none.
    pub async fn ambient(&self) -> Result<Option<(Tokens, Slot)>> {
        let account = self.clone();
        let found = in_background(move || {
            for slot in account.ambient_slots()? {
                if let Stored::Login(known) = account.shared_login(&slot)? {
                    return Ok(Some((known, slot)));
                }
            }
            Ok(None)
        });
        match found.await? {
            Some((known, slot)) if known.is_due() => {
                let account = self.clone();
                detached(move |runtime| account.current(&slot, &known, runtime).map(|tokens| Some((tokens, slot))))
                    .await
            }
            found => Ok(found),
        }
    }

    /// Puts a login that has just been made where the official client finds it too, unless another account lives there.
    pub async fn share(&self, slot: &Slot, tokens: &Tokens) -> Result<()> {
        let (account, slot, tokens) = (self.clone(), slot.clone(), tokens.clone());
        detached(move |_| {
            let Waited::Locked(_locks) = account.lock_kimi(&slot, false, &|| Ok(None))? else { return Ok(()) };
            let stored = account.kimi_code(&slot).read()?;
            if stored.tokens().is_none_or(|theirs| ours(Some(&tokens), theirs)) {
                account.kimi_code(&slot).write(&tokens)?;
            }
            Ok(())
        })
        .await
    }

    /// The login in Pi's file, for programs that have no Pi to ask, refreshed if its time has come.
    pub async fn stored_in_pi(&self) -> Result<Option<(Tokens, Slot)>> {
        let account = self.clone();
        let found = in_background(move || {
            let entry = account.pi().read()?;
            let Stored::Login(known) = &entry.stored else { return Ok(None) };
            Ok(Some((known.clone(), account.slot(Some(&entry))?)))
        });
        match found.await? {
            Some((known, slot)) if known.is_due() => {
                let account = self.clone();
                detached(move |runtime| {
                    let tokens = account.or_keep(&slot, &known, |account| {
                        // Not read from the file again: it may be one that cannot be written.
                        account.heal_blocking(&known.access, true, runtime)?.ok_or_else(Error::login_required)
                    })?;
                    account.note(&known.access, &tokens);
                    Ok(Some((tokens, slot)))
                })
                .await
            }
            found => Ok(found),
        }
    }

    /// The login of one slot, refreshed if its time has come.
    fn current(&self, slot: &Slot, known: &Tokens, runtime: &Handle) -> Result<Tokens> {
        let wish = Wish { not: None, fresh: true };
        if wish.is_met_by(known) {
            return Ok(known.clone());
        }
        let tokens = self.or_keep(slot, known, |account| account.obtain(slot, &wish, None, runtime))?;
        self.note(&known.access, &tokens);
        Ok(tokens)
    }

    /// `tokens` came in the place of `old`.
    fn note(&self, old: &str, tokens: &Tokens) {
        lineage::succeed(self.places.state.as_deref(), old, &tokens.access);
    }

    /// Runs a refresh that nobody is forced to have: if it fails for no fault of the login, what still works stays in use.
    fn or_keep(&self, slot: &Slot, known: &Tokens, refresh: impl FnOnce(&Self) -> Result<Tokens>) -> Result<Tokens> {
        let key = self.key(slot);
        if known.is_valid() && rests(&key) {
            return Ok(known.clone());
        }
        match refresh(self) {
            Err(error) if error.kind != ErrorKind::LoginRequired && known.is_valid() => {
                tracing::debug!(%error, "the refresh failed; the old token still works");
                rest(key);
                Ok(known.clone())
            }
            result => result,
        }
    }

    fn heal_blocking(&self, rejected: &str, from_login: bool, runtime: &Handle) -> Result<Option<Tokens>> {
        let pi = self.pi();
        let entry = pi.read()?;
        let slot = self.slot(Some(&entry))?;
        let is_rejected = |stored: &Stored| stored.tokens().is_some_and(|tokens| tokens.access == rejected);
        if !from_login && !is_rejected(&entry.stored) && !is_rejected(&self.shared_login(&slot)?) {
            return Ok(None);
        }
        let wish = Wish { not: Some(rejected.to_owned()), fresh: false };
        if entry.stored.tokens().is_none() {
            return self.obtain(&slot, &wish, None, runtime).map(Some);
        }
        let mut known = entry.stored;
        let found = |known: &Stored| known.tokens().filter(|tokens| wish.is_met_by(tokens)).cloned();
        let _locks = match self.lock_pi(|| {
            known = pi.read()?.stored;
            Ok(found(&known))
        })? {
            Waited::Found(tokens) => return Ok(Some(tokens)),
            Waited::Locked(locks) => locks,
        };
        known = pi.read()?.stored;
        if let Some(tokens) = found(&known) {
            return Ok(Some(tokens));
        }
        let tokens = self.obtain(&slot, &wish, known.tokens(), runtime)?;
        remember(&tokens.access);
        if known.tokens().is_some_and(|known| known.same_account(&tokens))
            && let Err(error) = pi.write(&tokens)
        {
            // Whoever asked still gets the token, and the next one adopts it from the official client's file.
            tracing::warn!(%error, "the refreshed login could not be saved for Pi");
        }
        Ok(Some(tokens))
    }

    /// Takes Pi's lock; where `auth.json` is a link, also that of its target, which some versions of Pi take instead.
    fn lock_pi(&self, mut look: impl FnMut() -> Result<Option<Tokens>>) -> Result<Waited<Tokens>> {
        let path = self.pi().path().to_owned();
        let mut targets = vec![path.clone()];
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            targets.extend(std::fs::canonicalize(&path));
        }
        let mut locks = Vec::new();
        for target in targets {
            match wait(&mut Waiter::new(&target, PI_STALE), PI_WAIT, false, &mut look)? {
                Waited::Found(found) => return Ok(Waited::Found(found)),
                Waited::Locked(lock) => locks.extend(lock),
            }
        }
        Ok(Waited::Locked(locks))
    }

    /// A token that fulfils the wish, under the official client's lock: adopted if there is one, else newly issued.
    fn obtain(&self, slot: &Slot, wish: &Wish, pi: Option<&Tokens>, runtime: &Handle) -> Result<Tokens> {
        let file = self.kimi_code(slot);
        let adoptable = || -> Result<Option<Tokens>> {
            let shared = self.shared_login(slot)?;
            Ok(shared.tokens().filter(|tokens| ours(pi, tokens) && wish.is_met_by(tokens)).cloned())
        };
        let flight = flight(&self.key(slot));
        let _flight = flight.lock().unwrap_or_else(PoisonError::into_inner);
        let locks = match self.lock_kimi(slot, pi.is_some(), &adoptable)? {
            Waited::Found(tokens) => return Ok(tokens),
            Waited::Locked(locks) => locks,
        };
        if !locks.is_empty() {
            file.recover(pi);
        }
        if let Some(tokens) = adoptable()? {
            return Ok(tokens);
        }
        let shared = self.shared_login(slot)?;
        // Asked before anything is spent: an answer that cannot be stored would be the end of the login.
        let mut place = file.reserve()?.filter(|_| shared.tokens().is_none_or(|tokens| ours(pi, tokens)));
        let may_write = place.is_some();
        let nowhere = match pi {
            _ if may_write => None,
            None => Some(file.path().to_owned()),
            Some(_) if self.pi().is_writable()? => None,
            Some(_) => Some(self.pi().path().to_owned()),
        };
        if let Some(path) = nowhere {
            let message = format!("{} cannot be written, so the login in it cannot be refreshed", path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        let candidates = candidates(shared.tokens().filter(|tokens| ours(pi, tokens)), pi);
        if candidates.is_empty() {
            return Err(login_again(match shared {
                Stored::Revoked => "the service has ended this login",
                _ => "there is no refresh token",
            }));
        }
        let endpoint = TokenEndpoint { host: slot.oauth_host().to_owned(), ..self.oauth.clone() };
        let mut refused = None;
        for candidate in &candidates {
            if locks.iter().any(|lock| !lock.is_held()) {
                return Err(Error::new(ErrorKind::Io, "the login's lock was taken over by another program; try again"));
            }
            let spending = Spending::begin();
            match runtime.block_on(endpoint.refresh(&candidate.refresh, TOKEN_BUDGET)) {
                Ok(tokens) => {
                    if let Some(Err(error)) = place.take().map(|place| place.fill(&tokens)) {
                        // Whoever asked still gets the token, and Pi's own file may still take it.
                        tracing::warn!(%error, "the refreshed login could not be saved for the kimi CLI");
                        if pi.is_none() {
                            return Err(error);
                        }
                    }
                    drop(spending);
                    remember(&tokens.access);
                    return Ok(tokens);
                }
                Err(error) if error.kind == ErrorKind::LoginRequired => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        drop(place);
        // A peer without our locks may have been faster and still be writing.
        let until = Instant::now() + PEER_GRACE;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            if let Some(tokens) = adoptable()? {
                return Ok(tokens);
            }
            let stored = self.pi().read().map(|entry| entry.stored).unwrap_or(Stored::Absent);
            if let Some(tokens) = stored.tokens().filter(|tokens| pi.is_some() && wish.is_met_by(tokens)) {
                return Ok(tokens.clone());
            }
        }
        let spent = |stored: &Stored| {
            stored.tokens().is_some_and(|tokens| candidates.iter().any(|used| used.refresh == tokens.refresh))
        };
        if may_write && spent(&file.read()?) {
            file.write_tombstone()?;
        }
        Err(refused.unwrap_or_else(Error::login_required))
    }

    /// Takes the official client's lock. `optional`: Pi's file is the one that counts, so where this user may not write into
    /// the official client's home – where nobody else of this user can refresh either – it works without.
    fn lock_kimi(
        &self,
        slot: &Slot,
        optional: bool,
        adoptable: &dyn Fn() -> Result<Option<Tokens>>,
    ) -> Result<Waited<Tokens>> {
        if self.places.without_kimi_lock {
            return Ok(Waited::Locked(Vec::new()));
        }
        let directory = self.places.kimi_home.join("oauth");
        let sentinel = directory.join(slot.name());
        // The official client locks an empty file of this name and creates it first (protocol reference §3.8).
        let create = || -> io::Result<()> {
            create_private_dir(&directory)?;
            let mut options = OpenOptions::new();
            options.append(true).create(true);
            #[cfg(unix)]
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
            match options.open(&sentinel) {
                // It only has to be there; the lock is a directory beside it.
                Err(_) if sentinel.exists() => Ok(()),
                result => result.map(drop),
            }
        };
        match create() {
            Ok(()) => {}
            Err(error) if optional && is_forbidden(&error) => return Ok(Waited::Locked(Vec::new())),
            Err(error) => {
                let message = format!("the login cannot be locked, {}: {error}", sentinel.display());
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        let patience = if optional { KIMI_WAIT_IN_PI } else { KIMI_WAIT };
        wait(&mut Waiter::new(&sentinel, KIMI_STALE), patience, optional, adoptable)
    }

    fn key(&self, slot: &Slot) -> PathBuf {
        self.places.kimi_home.join(slot.name())
    }
}

/// How waiting for a lock ended.
enum Waited<T> {
    /// Somebody else did the work meanwhile.
    Found(T),
    Locked(Vec<Lock>),
}

/// Waits for a lock, and looks before every attempt whether it is still needed. `optional`: where this user may not take it,
/// it works without.
fn wait<T>(
    waiter: &mut Waiter,
    patience: Duration,
    optional: bool,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<Waited<T>> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look()? {
            return Ok(Waited::Found(found));
        }
        match waiter.try_lock() {
            Ok(Some(lock)) => return Ok(Waited::Locked(vec![lock])),
            Ok(None) => {}
            Err(error) if optional && is_forbidden(&error) => return Ok(Waited::Locked(Vec::new())),
            Err(error) => {
                let message = format!("the lock {} cannot be taken: {error}", waiter.directory().display());
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        if Instant::now() >= deadline {
            let directory = waiter.directory().display();
            return Err(Error::new(
                ErrorKind::Io,
                format!(
                    "another program holds the login's lock {directory}; if none is running, remove that directory"
                ),
            ));
        }
        std::thread::sleep(waiter.pause());
    }
}

/// The shared login belongs to the account that Pi uses, as far as the tokens tell.
fn ours(pi: Option<&Tokens>, shared: &Tokens) -> bool {
    pi.is_none_or(|pi| pi.same_account(shared))
}

/// What can be refreshed, the most recently issued first.
fn candidates(shared: Option<&Tokens>, pi: Option<&Tokens>) -> Vec<Tokens> {
    let mut candidates: Vec<Tokens> =
        [shared, pi].into_iter().flatten().filter(|tokens| !tokens.refresh.is_empty()).cloned().collect();
    candidates.dedup_by(|one, other| one.refresh == other.refresh);
    if let [first, second] = &candidates[..]
        && second.issued_after(first)
    {
        candidates.reverse();
    }
    candidates
}

fn login_again(why: &str) -> Error {
    let message = format!("Kimi Code login required: {why}. Sign in again with /login kimi-coding.");
    Error::new(ErrorKind::LoginRequired, message)
}
