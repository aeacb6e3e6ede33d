//! The transaction under the official client's lock: adopt what is newer, else spend one refresh token and keep its successor.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::locks::Waited;
use super::single_flight::{InFlightRefresh, single_flight};
use super::{TokenRequirement, login_again};
use crate::auth::credential::register_oauth_token;
use crate::auth::kimi_auth_file::Stored;
use crate::auth::login_sources::Account;
use crate::auth::token::{TokenEndpoint, Tokens};
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Result};

/// All attempts of one token call together.
pub(in crate::auth) const TOKEN_BUDGET: Duration = Duration::from_secs(14);

/// How long a refused refresh token may be the sign of a peer that has not finished writing.
const PEER_GRACE: Duration = Duration::from_secs(2);

impl Account {
    /// A token that fulfils the wish, under the official client's lock: adopted if there is one, else newly issued.
    pub(super) fn adopt_or_refresh(
        &self,
        slot: &CredentialScope,
        wish: &TokenRequirement,
        pi: Option<&Tokens>,
        runtime: &Handle,
    ) -> Result<Tokens> {
        let file = self.kimi_code(slot);
        let adoptable = || -> Result<Option<Tokens>> {
            let shared = self.shared_login(slot)?;
            Ok(shared.tokens().filter(|tokens| same_account_as(pi, tokens) && wish.is_met_by(tokens)).cloned())
        };
        let single_flight = single_flight(&self.key(slot));
        let _flight = single_flight.lock().unwrap_or_else(PoisonError::into_inner);
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
        let mut place = file.reserve()?.filter(|_| shared.tokens().is_none_or(|tokens| same_account_as(pi, tokens)));
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
        let candidates = candidates(shared.tokens().filter(|tokens| same_account_as(pi, tokens)), pi);
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
            let spending = InFlightRefresh::begin();
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
                    register_oauth_token(&tokens.access);
                    return Ok(tokens);
                }
                Err(error) if error.kind == ErrorKind::LoginRequired => refused = Some(error),
                Err(error) => return Err(error),
            }
        }
        drop(place);
        if let Some(tokens) = self.late_answer_of_a_peer(wish, pi, adoptable)? {
            return Ok(tokens);
        }
        let spent = |stored: &Stored| {
            stored.tokens().is_some_and(|tokens| candidates.iter().any(|used| used.refresh == tokens.refresh))
        };
        if may_write && spent(&file.read()?) {
            file.write_tombstone()?;
        }
        Err(refused.unwrap_or_else(Error::login_required))
    }

    /// A peer without our locks may have been faster and still be writing.
    fn late_answer_of_a_peer(
        &self,
        wish: &TokenRequirement,
        pi: Option<&Tokens>,
        adoptable: impl Fn() -> Result<Option<Tokens>>,
    ) -> Result<Option<Tokens>> {
        let until = Instant::now() + PEER_GRACE;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(100));
            if let Some(tokens) = adoptable()? {
                return Ok(Some(tokens));
            }
            let stored = self.pi().read().map(|entry| entry.stored).unwrap_or(Stored::Absent);
            if let Some(tokens) = stored.tokens().filter(|tokens| pi.is_some() && wish.is_met_by(tokens)) {
                return Ok(Some(tokens.clone()));
            }
        }
        Ok(None)
    }
}

/// The shared login belongs to the account that Pi uses, as far as the tokens tell.
pub(super) fn same_account_as(pi: Option<&Tokens>, shared: &Tokens) -> bool {
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
