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
//! busy – may interrupt it between 3 and 4. Sources: docs/protocol.md#refresh-under-the-lock,
//! docs/architecture.md#refresh-transaction.

mod locks;
pub mod single_flight;
pub use single_flight::shutdown;
mod transaction;

use std::path::PathBuf;

use serde_json::{Map, Value};
use tokio::runtime::Handle;

use locks::Waited;
pub(super) use transaction::TOKEN_BUDGET;
use transaction::same_account_as;

use self::single_flight::{detached, in_cooldown, start_cooldown};
use super::credential::register_oauth_token;
use super::kimi_auth_file::Stored;
use super::login_sources::Account;
use super::pi_auth_file::pi_entry;
use super::token::Tokens;
use super::token_aliases;
use crate::blocking::in_background;
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Result};

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

impl Account {
    /// Pi asks for a fresh credential and holds its own lock, and will write what is returned. `entry` is Pi's credential; all
    /// its other members come back unchanged.
    pub async fn renew(&self, entry: Map<String, Value>) -> Result<Map<String, Value>> {
        let account = self.clone();
        detached(move |runtime| {
            let parsed = pi_entry(&entry);
            let slot = account.slot(Some(&parsed))?;
            let Stored::Login(known) = parsed.stored else { return Err(login_again("this login is empty")) };
            let wish = TokenRequirement { not: Some(known.access.clone()), fresh: true };
            let tokens = account
                .or_keep(&slot, &known, |account| account.adopt_or_refresh(&slot, &wish, Some(&known), runtime))?;
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
    pub async fn reauthenticate(&self, rejected: &str, from_login: bool) -> Result<Option<String>> {
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
    pub async fn cli_login(&self) -> Result<Option<(Tokens, CredentialScope)>> {
        let account = self.clone();
        let found = in_background(move || {
            for slot in account.cli_login_scopes()? {
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
    pub async fn share(&self, slot: &CredentialScope, tokens: &Tokens) -> Result<()> {
        let (account, slot, tokens) = (self.clone(), slot.clone(), tokens.clone());
        detached(move |_| {
            let Waited::Locked(_locks) = account.lock_kimi(&slot, false, &|| Ok(None))? else { return Ok(()) };
            let stored = account.kimi_code(&slot).read()?;
            if stored.tokens().is_none_or(|theirs| same_account_as(Some(&tokens), theirs)) {
                account.kimi_code(&slot).write(&tokens)?;
            }
            Ok(())
        })
        .await
    }

    /// The login in Pi's file, for programs that have no Pi to ask, refreshed if its time has come.
    pub async fn stored_in_pi(&self) -> Result<Option<(Tokens, CredentialScope)>> {
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
    fn current(&self, slot: &CredentialScope, known: &Tokens, runtime: &Handle) -> Result<Tokens> {
        let wish = TokenRequirement { not: None, fresh: true };
        if wish.is_met_by(known) {
            return Ok(known.clone());
        }
        let tokens = self.or_keep(slot, known, |account| account.adopt_or_refresh(slot, &wish, None, runtime))?;
        self.note(&known.access, &tokens);
        Ok(tokens)
    }

    /// `tokens` came in the place of `old`.
    fn note(&self, old: &str, tokens: &Tokens) {
        token_aliases::succeed(self.paths.state.as_deref(), old, &tokens.access);
    }

    /// Runs a refresh that nobody is forced to have: if it fails for no fault of the login, what still works stays in use.
    fn or_keep(
        &self,
        slot: &CredentialScope,
        known: &Tokens,
        refresh: impl FnOnce(&Self) -> Result<Tokens>,
    ) -> Result<Tokens> {
        let key = self.key(slot);
        if known.is_valid() && in_cooldown(&key) {
            return Ok(known.clone());
        }
        match refresh(self) {
            Err(error) if error.kind != ErrorKind::LoginRequired && known.is_valid() => {
                tracing::debug!(%error, "the refresh failed; the old token still works");
                start_cooldown(key);
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
        let wish = TokenRequirement { not: Some(rejected.to_owned()), fresh: false };
        if entry.stored.tokens().is_none() {
            return self.adopt_or_refresh(&slot, &wish, None, runtime).map(Some);
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
        let tokens = self.adopt_or_refresh(&slot, &wish, known.tokens(), runtime)?;
        register_oauth_token(&tokens.access);
        if known.tokens().is_some_and(|known| known.same_account(&tokens))
            && let Err(error) = pi.write(&tokens)
        {
            // Whoever asked still gets the token, and the next one adopts it from the official client's file.
            tracing::warn!(%error, "the refreshed login could not be saved for Pi");
        }
        Ok(Some(tokens))
    }

    fn key(&self, slot: &CredentialScope) -> PathBuf {
        self.paths.kimi_home.join(slot.name())
    }
}

fn login_again(why: &str) -> Error {
    let message = format!("Kimi Code login required: {why}. Sign in again with /login kimi-coding.");
    Error::new(ErrorKind::LoginRequired, message)
}
