//! The two locks of a refresh, and what waiting for them is good for.
//!
//! Whoever waits keeps looking whether the holder has already done the work, so a crowd is served by its first member.

use std::fs::OpenOptions;
use std::io;
use std::time::{Duration, Instant};

use crate::auth::kimi_auth_file::is_forbidden;
use crate::auth::login_sources::Account;
use crate::auth::token::Tokens;
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;
use crate::storage::dir_lock::{Lock, Waiter};
use crate::storage::private_file::create_private_dir;

/// After this the official client's lock counts as abandoned (docs/protocol.md#refresh-lock).
const KIMI_STALE: Duration = Duration::from_secs(5);

/// After this Pi's does.
const PI_STALE: Duration = Duration::from_secs(30);

/// Longest wait for Pi's lock: longer than its stale time, so that a dead holder never makes us fail.
const PI_WAIT: Duration = Duration::from_secs(40);

/// Longest wait for the official client's lock; its holder may be in the middle of a slow token call.
const KIMI_WAIT: Duration = Duration::from_secs(30);

/// The same while Pi's lock is held, whose own waiters give up after 30 s.
const KIMI_WAIT_IN_PI: Duration = Duration::from_secs(14);

/// How waiting for a lock ended.
pub(super) enum Waited<T> {
    /// Somebody else did the work meanwhile.
    Found(T),
    Locked(Vec<Lock>),
}

impl Account {
    /// Takes Pi's lock; where `auth.json` is a link, also that of its target, which some versions of Pi take instead.
    pub(super) fn lock_pi(&self, mut look: impl FnMut() -> Result<Option<Tokens>>) -> Result<Waited<Tokens>> {
        let path = self.pi().path().to_owned();
        let mut targets = vec![path.clone()];
        if std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_symlink()) {
            targets.extend(std::fs::canonicalize(&path));
        }
        let mut locks = Vec::new();
        for target in targets {
            match wait(&mut Waiter::new(&target, PI_STALE, &ProcessState::shared().get()), PI_WAIT, false, &mut look)? {
                Waited::Found(found) => return Ok(Waited::Found(found)),
                Waited::Locked(lock) => locks.extend(lock),
            }
        }
        Ok(Waited::Locked(locks))
    }

    /// Takes the official client's lock. `optional`: Pi's file is the one that counts, so where this user may not write into
    /// the official client's home – where nobody else of this user can refresh either – it works without.
    pub(super) fn lock_kimi(
        &self,
        slot: &CredentialScope,
        optional: bool,
        adoptable: &dyn Fn() -> Result<Option<Tokens>>,
    ) -> Result<Waited<Tokens>> {
        if self.paths.without_kimi_lock {
            return Ok(Waited::Locked(Vec::new()));
        }
        let directory = self.paths.kimi_home.join("oauth");
        let sentinel = directory.join(slot.name());
        // The official client locks an empty file of this name and creates it first (docs/protocol.md#refresh-lock).
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
        wait(&mut Waiter::new(&sentinel, KIMI_STALE, &ProcessState::shared().get()), patience, optional, adoptable)
    }
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
