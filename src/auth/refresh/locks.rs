//! The locks of a refresh.
//!
//! A waiting process keeps looking whether the holder has already done the work, so a crowd is served by its first member.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::in_flight::{Refreshes, Transaction};
use crate::auth::credential_sources::Account;
use crate::auth::kimi_auth_file::is_forbidden;
use crate::auth::token::Tokens;
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::storage::clock::AwakeTime;
use crate::storage::dir_lock::{Lock, LockState, Waiter};
use crate::storage::lease::Lease;
use crate::storage::private_file::{create_private_dir, private_options};

/// Age at which the official client's lock counts as abandoned (docs/protocol.md#refresh-lock).
const KIMI_STALE: Duration = Duration::from_secs(5);

/// Time by which we date the official client's lock ahead, because that client judges it by its own clock alone: a living holder's
/// lock is respected by one whose clock is ahead by up to this time, and a stopped holder's for this time more. A killed holder's lock
/// keeps the official client waiting for 25 s, less than half of what it waits, and for as much longer as its clock is behind. Ours
/// notice at once that a holder has died.
const KIMI_LEAD: Duration = Duration::from_secs(20);

/// Age at which Pi's does.
const PI_STALE: Duration = Duration::from_secs(30);

/// Longest wait for Pi's lock: longer than its stale time, so that a dead holder never makes us fail.
const PI_WAIT: Duration = Duration::from_secs(40);

/// Age of a token call from which Pi's lock is no longer held for it, because Pi's own waiters give up after 30 s.
pub(super) const SLOW_CALL: Duration = Duration::from_secs(20);

/// Longest wait for a refresh of another process.
const REFRESH_WAIT: Duration = Duration::from_secs(30);

/// How waiting for a lock ended.
pub(super) enum Waited<T> {
    /// Another process or thread did the work meanwhile.
    Found(Tokens),
    Locked(T),
}

/// The right to refresh the login of one scope: in this process, among ours, and towards the official client.
#[derive(Debug)]
pub(super) struct RefreshLock {
    /// The official client's lock, where it can be taken; it comes with our lease.
    directory: Option<Lock>,
    /// Our lease, where it stands alone.
    lease: Option<Lease>,
    _transaction: Transaction,
}

impl RefreshLock {
    /// Whether the official client still respects it.
    pub fn is_held(&self) -> bool {
        self.directory.as_ref().is_none_or(Lock::is_held)
    }

    /// Whether no program of another kind can be in the middle of a refresh: the lock is held, or with a process of ours that waits
    /// for this one.
    pub fn is_guarded(&self) -> bool {
        self.directory.as_ref().is_none_or(Lock::is_guarded)
    }

    /// Whether the program that took it over has released it.
    pub fn is_vacant(&self) -> bool {
        self.directory.as_ref().is_some_and(Lock::is_vacant)
    }

    /// Whether another program had the lock before and had ceased to touch it. It may be stopped in the middle of its own token call.
    pub fn has_stalled_predecessor(&self) -> bool {
        self.directory.as_ref().is_some_and(Lock::has_stalled_predecessor)
    }

    /// Whether the kernel guarantees that no other process of ours is in the middle of a refresh.
    pub fn is_exclusive(&self) -> bool {
        self.directory.as_ref().is_some_and(Lock::is_exclusive) || self.lease.as_ref().is_some_and(Lease::is_exclusive)
    }
}

impl Account {
    /// Takes Pi's lock; where `auth.json` is a link, also that of its target, which some versions of Pi take instead.
    pub(super) fn lock_pi(&self, mut look: impl FnMut() -> Result<Option<Tokens>>) -> Result<Waited<Vec<Lock>>> {
        let path = self.pi().path().to_owned();
        let mut targets = vec![path.clone()];
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            targets.extend(std::fs::canonicalize(&path));
        }
        let mut locks = Vec::new();
        for target in targets {
            let mut waiter = Waiter::new(&target, PI_STALE, &self.process.get()).with_owner(owner_of(&target));
            let directory = waiter.directory().to_owned();
            let attempt = || {
                waiter.try_lock().map_err(|error| cannot_lock(&directory, &error)).map(|lock| (lock, waiter.pause()))
            };
            // A living holder of ours cannot become stale.
            let owner = owner_of(&target);
            let limit = || if Lease::is_held(&owner) { REFRESH_WAIT } else { PI_WAIT };
            match wait(limit, Some(&directory), &mut look, attempt)? {
                Waited::Found(found) => return Ok(Waited::Found(found)),
                Waited::Locked(lock) => locks.push(lock),
            }
        }
        Ok(Waited::Locked(locks))
    }

    /// Takes the right to refresh the login of a scope. `optional`: Pi's file is the one that matters, so where this user may not
    /// write into the official client's home, and so no program of this user can refresh there, it works without its lock.
    pub(super) fn lock_refresh(
        &self,
        scope: &CredentialScope,
        optional: bool,
        mut adoptable: impl FnMut() -> Result<Option<Tokens>>,
    ) -> Result<Waited<RefreshLock>> {
        let (login, refreshes) = (self.login_key(scope), self.process.get::<Refreshes>());
        let sentinel = self.sentinel(scope);
        let mut owner = self.owner_file(scope);
        let mut waiter = None;
        match create_sentinel(&sentinel) {
            Ok(()) if self.paths.without_kimi_lock => {}
            Ok(()) => {
                let unowned = Waiter::new(&sentinel, KIMI_STALE, &self.process.get());
                waiter = Some(unowned.with_owner(owner.clone()).with_lead(KIMI_LEAD));
            }
            Err(error) if self.paths.without_kimi_lock || (optional && is_forbidden(&error)) => {
                owner = self.owner_file_beside_pi(scope);
            }
            Err(error) => {
                let message = format!("the login cannot be locked, {}: {error}", sentinel.display());
                return Err(Error::new(ErrorKind::Io, message).caused_by(error));
            }
        }
        let directory = waiter.as_ref().map(|waiter| waiter.directory().to_owned());
        let mut transaction = None;
        let attempt = || {
            transaction = transaction.take().or_else(|| refreshes.begin(&login));
            let Some(begun) = transaction.take() else { return Ok((None, Duration::from_millis(20))) };
            let mut pause = Duration::from_millis(50);
            let (directory, lease) = match &mut waiter {
                Some(waiting) => match waiting.try_lock() {
                    Ok(Some(lock)) => (Some(lock), None),
                    Ok(None) => {
                        pause = waiting.pause();
                        transaction = Some(begun);
                        return Ok((None, pause));
                    }
                    Err(error) if optional && is_forbidden(&error) => {
                        waiter = None;
                        owner = self.owner_file_beside_pi(scope);
                        transaction = Some(begun);
                        return Ok((None, Duration::ZERO));
                    }
                    Err(error) => return Err(cannot_lock(waiting.directory(), &error)),
                },
                None => match Lease::try_take(&owner) {
                    Ok(None) => {
                        transaction = Some(begun);
                        return Ok((None, pause));
                    }
                    // Where nothing can be written, no other process of this user can refresh either.
                    taken => (None, taken.ok().flatten()),
                },
            };
            Ok((Some(RefreshLock { directory, lease, _transaction: begun }), pause))
        };
        wait(|| REFRESH_WAIT, directory.as_deref(), &mut adoptable, attempt)
    }

    /// Whether a living process of ours is in the middle of a refresh. What the files say is then not final.
    pub(super) fn is_refreshing(&self, scope: &CredentialScope) -> bool {
        Lease::is_held(&self.owner_file(scope)) || Lease::is_held(&self.owner_file_beside_pi(scope))
    }

    /// Looks at the locks of Pi's login and of the official client's in these scopes, as they are now.
    pub fn locks(&self, scopes: &[CredentialScope]) -> Vec<LockState> {
        let pi = self.pi().path().to_owned();
        let mut found: Vec<LockState> =
            LockState::of(&pi, &owner_of(&pi), PI_STALE, Duration::ZERO).into_iter().collect();
        for scope in scopes {
            found.extend(LockState::of(&self.sentinel(scope), &self.owner_file(scope), KIMI_STALE, KIMI_LEAD));
        }
        found
    }

    /// Names a login of this machine.
    pub(super) fn login_key(&self, scope: &CredentialScope) -> PathBuf {
        self.paths.kimi_home.join(scope.name())
    }

    fn sentinel(&self, scope: &CredentialScope) -> PathBuf {
        self.paths.kimi_home.join("oauth").join(scope.name())
    }

    fn owner_file(&self, scope: &CredentialScope) -> PathBuf {
        owner_of(&self.sentinel(scope))
    }

    fn owner_file_beside_pi(&self, scope: &CredentialScope) -> PathBuf {
        owner_of(&self.paths.agent_dir.join(scope.name()))
    }
}

/// Names the file whose kernel lock proves that the holder of a lock lives: `<target>.owner`.
fn owner_of(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".owner");
    name.into()
}

/// Creates the empty file beside which the official client creates its lock (docs/protocol.md#refresh-lock).
fn create_sentinel(sentinel: &Path) -> io::Result<()> {
    sentinel.parent().map_or(Ok(()), create_private_dir)?;
    match private_options().append(true).create(true).open(sentinel) {
        // It only has to exist.
        Err(_) if sentinel.exists() => Ok(()),
        result => result.map(drop),
    }
}

fn cannot_lock(directory: &Path, error: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("the lock {} cannot be taken: {error}", directory.display()))
}

/// Makes attempts until one succeeds, and looks before each whether it is still needed. After `limit`, not counting time in which
/// this process was stopped, it fails with a `timeout`, which callers may retry and which names the lock's directory. A lease is never
/// named: removing its file would let a second process in.
fn wait<T>(
    limit: impl Fn() -> Duration,
    directory: Option<&Path>,
    mut look: impl FnMut() -> Result<Option<Tokens>>,
    mut attempt: impl FnMut() -> Result<(Option<T>, Duration)>,
) -> Result<Waited<T>> {
    let mut time = AwakeTime::start();
    loop {
        if let Some(found) = look()? {
            return Ok(Waited::Found(found));
        }
        let (taken, pause) = attempt()?;
        if let Some(taken) = taken {
            return Ok(Waited::Locked(taken));
        }
        let waited = time.look();
        if waited >= limit() {
            let directory = directory.map(|directory| format!(" ({})", directory.display())).unwrap_or_default();
            let message = format!(
                "another program is refreshing the Kimi Code login and has not finished in {} s{directory}. It may be stopped; try again",
                waited.as_secs()
            );
            return Err(Error::new(ErrorKind::Timeout(Phase::Headers), message));
        }
        std::thread::sleep(pause);
    }
}
