//! Refreshes a login: once per machine, and never so that its successor can be lost.
//!
//! A refresh token works once, so the process that spends it must be alone, must look first whether another one was faster, and
//! must store the answer where everybody finds it before anything else can go wrong. The order:
//!
//! 1. Pi's `auth.json` lock (taken here after a 401; held by Pi when Pi asks), then the official client's lock and our lease;
//! 2. read again: a newer token on disk is adopted, and no refresh token is spent;
//! 3. the token call, the only network traffic under a lock;
//! 4. the official client's file, then Pi's. If the process dies in between, the next reader adopts from the first.
//!
//! A transaction runs on a thread of its own: file systems block, and a caller that aborts, ends or gives up must not interrupt it
//! between 3 and 4. Reasons: docs/architecture.md#refresh-transaction; facts: docs/protocol.md#refresh-under-the-lock.

mod in_flight;
mod locks;
mod refusals;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use in_flight::shutdown;
use in_flight::{RefreshThread, Refreshes, detached};
use locks::Waited;
use transaction::same_account_as;

use super::account_id::record_successor;
use super::credential_sources::Account;
use super::kimi_auth_file::Stored;
use super::pi_auth_file::{PiEntry, pi_entry};
use super::token::Tokens;
use crate::blocking::in_background;
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::storage::clock::AwakeTime;

/// Longest wait of a caller. The refresh itself goes on.
const CALLER_WAIT: Duration = Duration::from_secs(30);

/// The same while Pi holds its lock, whose own waiters give up after 30 s.
const PI_CALLER_WAIT: Duration = Duration::from_secs(28);

/// The same where Pi's lock is taken first, which may mean waiting for a dead holder's to become stale.
const LOCKING_CALLER_WAIT: Duration = Duration::from_secs(45);

/// How often the files are read while another process refreshes.
const PEEK: Duration = Duration::from_millis(100);

/// Which token would do.
#[derive(Debug, Clone)]
struct TokenRequirement {
    /// Not this one.
    not: Option<String>,
    /// With enough life left to start something with it.
    fresh: bool,
}

impl TokenRequirement {
    fn is_met_by(&self, tokens: &Tokens) -> bool {
        self.not.as_deref() != Some(tokens.access.as_str())
            && if self.fresh { !tokens.is_due() } else { tokens.is_valid() }
    }
}

/// What one refresh is made for.
struct Refresh<'a> {
    scope: &'a CredentialScope,
    requirement: &'a TokenRequirement,
    /// Pi's login, where it is the one to refresh.
    pi: Option<&'a Tokens>,
    thread: &'a Arc<RefreshThread>,
}

impl Account {
    /// Refreshes the login for Pi, which holds its own lock and writes what is returned. `entry` is Pi's credential; all its other
    /// members are returned unchanged.
    pub async fn renew(&self, entry: Map<String, Value>) -> Result<Map<String, Value>> {
        let parsed = pi_entry(&entry);
        self.check_region_of(&parsed)?;
        let scope = self.scope(Some(&parsed))?;
        let Stored::Login(known) = parsed.stored else { return Err(login_again("this login is empty")) };
        let requirement = TokenRequirement { not: Some(known.access.clone()), fresh: true };
        let (account, late, login) = (self.clone(), self.clone(), (scope.clone(), known.clone()));
        let work = move |thread: &_| {
            let (scope, known) = login;
            let refresh = Refresh { scope: &scope, requirement: &requirement, pi: Some(&known), thread };
            let tokens = account.adopt_or_refresh(&refresh, || {})?;
            account.record(&known, &tokens);
            Ok(tokens)
        };
        let spent = known.clone();
        let unclaimed = move |tokens: Tokens| late.store_for_pi(&spent, &tokens);
        let tokens = self.or_keep(&scope, &known, detached(&self.process, PI_CALLER_WAIT, work, unclaimed)).await?;
        let mut entry = entry;
        entry.insert("access".to_owned(), tokens.access.as_str().into());
        entry.insert("refresh".to_owned(), tokens.refresh.as_str().into());
        entry.insert("expires".to_owned(), tokens.expires_at_ms.unwrap_or(0).into());
        Ok(entry)
    }

    /// Returns another access token for one that the service refused before its time, found or newly issued. `None` if the token is
    /// not that of a login: static keys are never replaced.
    pub async fn reauthenticate(&self, rejected: &str, from_login: bool) -> Result<Option<String>> {
        let account = self.clone();
        let rejected = rejected.to_owned();
        let work = move |thread: &_| account.replace_rejected(&rejected, from_login, thread);
        Ok(detached(&self.process, LOCKING_CALLER_WAIT, work, |_| ()).await?.map(|tokens| tokens.access))
    }

    /// Returns a login that the official client left on this machine, refreshed if it is due. `None` if there is none.
    pub async fn cli_login(&self) -> Result<Option<(Tokens, CredentialScope)>> {
        let scopes = {
            let account = self.clone();
            in_background(move || account.cli_login_scopes()).await?
        };
        for scope in scopes {
            if let Stored::Login(known) = self.settled_login(&scope).await? {
                return Ok(Some((self.current(&scope, &known).await?, scope)));
            }
        }
        Ok(None)
    }

    /// Whether there is such a login. Only looks at files.
    pub fn has_cli_login(&self) -> Result<bool> {
        let scopes = self.cli_login_scopes()?;
        // In this order: what a refresh has stored before it ended is then read.
        Ok(scopes
            .iter()
            .any(|scope| self.is_refreshing(scope) || matches!(self.shared_login(scope), Ok(Stored::Login(_)))))
    }

    /// Puts a login that has just been made where the official client finds it too, unless another account is there.
    pub async fn share(&self, scope: &CredentialScope, tokens: &Tokens) -> Result<()> {
        let (account, scope, tokens) = (self.clone(), scope.clone(), tokens.clone());
        let work = move |_: &_| {
            let Waited::Locked(_lock) = account.lock_refresh(&scope, false, || Ok(None))? else { return Ok(()) };
            let stored = account.kimi_code(&scope).read()?;
            if stored.tokens().is_none_or(|theirs| same_account_as(Some(&tokens), theirs)) {
                account.kimi_code(&scope).write(&tokens)?;
            }
            Ok(())
        };
        detached(&self.process, CALLER_WAIT, work, |()| ()).await
    }

    /// Removes the official client's login on this machine, as its own logout does; Pi's login stays. Returns whether there was one.
    pub async fn sign_out(&self) -> Result<bool> {
        let account = self.clone();
        let work = move |_: &_| {
            let mut found = false;
            for scope in account.cli_login_scopes()? {
                if !matches!(account.shared_login(&scope), Ok(Stored::Login(_))) {
                    continue;
                }
                let Waited::Locked(_lock) = account.lock_refresh(&scope, false, || Ok(None))? else { continue };
                account.kimi_code(&scope).remove()?;
                // The file of the client's predecessor would count again, and only its own program may change it.
                if matches!(account.shared_login(&scope), Ok(Stored::Login(_))) {
                    account.kimi_code(&scope).write_tombstone()?;
                }
                found = true;
            }
            Ok(found)
        };
        detached(&self.process, CALLER_WAIT, work, |_| ()).await
    }

    /// Returns the login in Pi's file, for programs without Pi, refreshed if it is due.
    pub async fn stored_in_pi(&self) -> Result<Option<(Tokens, CredentialScope)>> {
        self.pi_login(|account, entry| account.check_region_of(entry).map(|()| true)).await
    }

    /// Returns the login in Pi's file as [`Self::stored_in_pi`] does, if `counts` says that it counts.
    pub(super) async fn pi_login(
        &self,
        counts: impl FnOnce(&Self, &PiEntry) -> Result<bool> + Send + 'static,
    ) -> Result<Option<(Tokens, CredentialScope)>> {
        let account = self.clone();
        let found = in_background(move || {
            let entry = account.pi().read()?;
            match &entry.stored {
                Stored::Login(known) if counts(&account, &entry)? => {
                    Ok(Some((known.clone(), account.scope(Some(&entry))?)))
                }
                _ => Ok(None),
            }
        });
        let Some((known, scope)) = found.await? else { return Ok(None) };
        if !known.is_due() {
            return Ok(Some((known, scope)));
        }
        let (account, rejected) = (self.clone(), known.access.clone());
        // Not read from the file again: it may be one that cannot be written.
        let work =
            move |thread: &_| account.replace_rejected(&rejected, true, thread)?.ok_or_else(Error::login_required);
        let refreshing = detached(&self.process, LOCKING_CALLER_WAIT, work, |_| ());
        Ok(Some((self.or_keep(&scope, &known, refreshing).await?, scope)))
    }

    /// Reads the official client's login. While another process of ours refreshes it, a missing login or a tombstone is not final:
    /// then this waits for what that process stores.
    async fn settled_login(&self, scope: &CredentialScope) -> Result<Stored> {
        let mut time = AwakeTime::start();
        loop {
            let (account, scope) = (self.clone(), scope.clone());
            let look = move || {
                // In this order: what was stored before the answer to the first question is read by the second.
                let is_refreshing = account.is_refreshing(&scope);
                Ok((account.shared_login(&scope)?, is_refreshing))
            };
            match in_background(look).await? {
                (stored, is_refreshing) if !is_refreshing || stored.tokens().is_some() => return Ok(stored),
                _ if time.look() >= CALLER_WAIT => {
                    let message = "another program is refreshing the Kimi Code login and has not finished; try again";
                    return Err(Error::new(ErrorKind::Timeout(Phase::Headers), message));
                }
                _ => tokio::time::sleep(PEEK).await,
            }
        }
    }

    /// Returns the login of one scope, refreshed if it is due.
    async fn current(&self, scope: &CredentialScope, known: &Tokens) -> Result<Tokens> {
        if !known.is_due() {
            return Ok(known.clone());
        }
        let (account, scope_of_login, old) = (self.clone(), scope.clone(), known.clone());
        let work = move |thread: &_| {
            let requirement = TokenRequirement { not: None, fresh: true };
            let refresh = Refresh { scope: &scope_of_login, requirement: &requirement, pi: None, thread };
            let tokens = account.adopt_or_refresh(&refresh, || {})?;
            account.record(&old, &tokens);
            Ok(tokens)
        };
        self.or_keep(scope, known, detached(&self.process, CALLER_WAIT, work, |_| ())).await
    }

    /// Records that `tokens` replaced `old`.
    fn record(&self, old: &Tokens, tokens: &Tokens) {
        record_successor(self.paths.state.as_deref(), &old.access, &tokens.access);
    }

    /// Runs a refresh that is not urgent: if it fails through no fault of the login, the old token stays in use while it works.
    async fn or_keep(
        &self,
        scope: &CredentialScope,
        known: &Tokens,
        refreshing: impl Future<Output = Result<Tokens>>,
    ) -> Result<Tokens> {
        let (login, refreshes) = (self.login_key(scope), self.process.get::<Refreshes>());
        if known.is_valid() && refreshes.in_cooldown(&login) {
            return Ok(known.clone());
        }
        match refreshing.await {
            Err(error) if error.kind != ErrorKind::LoginRequired && known.is_valid() => {
                tracing::info!(%error, "the refresh failed; the old token still works");
                refreshes.start_cooldown(login);
                Ok(known.clone())
            }
            result => result,
        }
    }

    fn replace_rejected(
        &self,
        rejected: &str,
        from_login: bool,
        thread: &std::sync::Arc<in_flight::RefreshThread>,
    ) -> Result<Option<Tokens>> {
        let pi = self.pi();
        let entry = pi.read()?;
        let scope = self.scope(Some(&entry))?;
        let is_rejected = |stored: &Stored| stored.tokens().is_some_and(|tokens| tokens.access == rejected);
        if !from_login && !is_rejected(&entry.stored) && !is_rejected(&self.shared_login(&scope)?) {
            return Ok(None);
        }
        let requirement = TokenRequirement { not: Some(rejected.to_owned()), fresh: false };
        let found = |known: &Stored| known.tokens().filter(|tokens| requirement.is_met_by(tokens)).cloned();
        let record = |tokens: Tokens| {
            record_successor(self.paths.state.as_deref(), rejected, &tokens.access);
            Ok(Some(tokens))
        };
        if entry.stored.tokens().is_none() {
            let refresh = Refresh { scope: &scope, requirement: &requirement, pi: None, thread };
            return record(self.adopt_or_refresh(&refresh, || {})?);
        }
        let mut locks = match self.lock_pi(|| Ok(found(&pi.read()?.stored)))? {
            Waited::Found(tokens) => return record(tokens),
            Waited::Locked(locks) => Some(locks),
        };
        let known = pi.read()?.stored;
        if let Some(tokens) = found(&known) {
            return record(tokens);
        }
        let refresh = Refresh { scope: &scope, requirement: &requirement, pi: known.tokens(), thread };
        let tokens = self.adopt_or_refresh(&refresh, || locks = None)?;
        self.login_tokens().add(&tokens.access);
        let Some(spent) = known.tokens().filter(|known| known.same_account(&tokens)) else { return record(tokens) };
        if locks.as_ref().is_some_and(|locks| locks.iter().all(crate::storage::dir_lock::Lock::is_held)) {
            // The caller gets the token in any case, and the next one adopts it from the official client's file.
            if let Err(error) = pi.write(&tokens) {
                tracing::warn!(%error, "the refreshed login could not be saved for Pi");
            }
        } else {
            drop(locks);
            self.store_for_pi(spent, &tokens);
        }
        record(tokens)
    }

    /// Stores a login for Pi whose answer came after Pi's lock had been given back, unless Pi has another one by now.
    fn store_for_pi(&self, spent: &Tokens, tokens: &Tokens) {
        let still_spent = || {
            self.pi().read().is_ok_and(|entry| entry.stored.tokens().is_some_and(|now| now.refresh == spent.refresh))
        };
        let stored = match self.lock_pi(|| Ok((!still_spent()).then(|| tokens.clone()))) {
            Ok(Waited::Locked(_locks)) if still_spent() => self.pi().write(tokens),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        if let Err(error) = stored {
            tracing::warn!(%error, "the refreshed login could not be saved for Pi");
        }
    }
}

fn login_again(why: &str) -> Error {
    let message = format!("Kimi Code login required: {why}. Sign in again with /login kimi-coding.");
    Error::new(ErrorKind::LoginRequired, message)
}
