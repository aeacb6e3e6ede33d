//! The transaction under the locks: adopt what is newer, else spend one refresh token and keep its successor.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::in_flight::RefreshThread;
use super::locks::{RefreshLock, SLOW_CALL, Waited};
use super::refusals::{self, PEER_GRACE, RefusalMeaning, Refused};
use super::{Refresh, login_again};
use crate::auth::credential_sources::Account;
use crate::auth::kimi_auth_file::{KimiCodeFile, ReservedAuthFile, Stored};
use crate::auth::token::Tokens;
use crate::auth::token_endpoint::{Issued, SendGate, TokenEndpoint};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::runtime;
use crate::storage::clock::AwakeTime;

/// Time in which a login that was stored without the lock is watched, because the program that took the lock over may still
/// write a tombstone. The official client writes it 0.1 s after its refusal.
const WATCH_TIME: Duration = Duration::from_secs(3);

/// Transactions that are begun anew because the lock was lost.
const MAX_RESTARTS: u32 = 3;

/// A candidate's call, and why it was not made or failed.
enum Failed {
    /// The lock was lost before anything was sent.
    NotSent,
    Error(Error),
}

impl Account {
    /// Returns a token that meets the requirement: adopted if there is one, else newly issued. `on_slow` is called once if the
    /// answer takes long.
    pub(super) fn adopt_or_refresh(&self, refresh: &Refresh<'_>, mut on_slow: impl FnMut()) -> Result<Tokens> {
        for _ in 0..MAX_RESTARTS {
            let adoptable = || self.adoptable(refresh);
            let lock = match self.lock_refresh(refresh.scope, refresh.pi.is_some(), adoptable)? {
                Waited::Found(tokens) => return Ok(tokens),
                Waited::Locked(lock) => lock,
            };
            if let Some(tokens) = self.refresh_locked(refresh, lock, &mut on_slow)? {
                return Ok(tokens);
            }
        }
        let message = "the login's lock was taken over by another program several times; try again";
        Err(Error::new(ErrorKind::Timeout(Phase::Headers), message))
    }

    /// Reads a token that meets the requirement from the official client's file.
    pub(super) fn adoptable(&self, refresh: &Refresh<'_>) -> Result<Option<Tokens>> {
        let stored = self.shared_login(refresh.scope)?;
        let usable = |tokens: &&Tokens| same_account_as(refresh.pi, tokens) && refresh.requirement.is_met_by(tokens);
        Ok(stored.tokens().filter(usable).cloned())
    }

    /// Runs the transaction. `None`: the lock was lost, before anything was sent or to a program that left no successor, so
    /// everything has to be read again.
    fn refresh_locked(
        &self,
        refresh: &Refresh<'_>,
        lock: RefreshLock,
        on_slow: &mut dyn FnMut(),
    ) -> Result<Option<Tokens>> {
        let Refresh { scope, pi, .. } = *refresh;
        let file = self.kimi_code(scope);
        file.recover(pi, lock.is_exclusive());
        if let Some(tokens) = self.adoptable(refresh)? {
            return Ok(Some(tokens));
        }
        let shared = self.shared_login(scope)?;
        let is_ours = |tokens: &Tokens| same_account_as(pi, tokens);
        // Before anything is spent: an answer that cannot be stored would be the end of the login.
        let reserved = file.reserve()?.filter(|_| shared.tokens().is_none_or(is_ours));
        let may_write = reserved.is_some();
        let read_only = match pi {
            _ if may_write => None,
            None => Some(file.path().to_owned()),
            Some(_) if self.pi().is_writable()? => None,
            Some(_) => Some(self.pi().path().to_owned()),
        };
        if let Some(path) = read_only {
            let message = format!("{} cannot be written, so the login in it cannot be refreshed", path.display());
            return Err(Error::new(ErrorKind::Io, message));
        }
        let candidates = candidates(shared.tokens().filter(|tokens| is_ours(tokens)), pi);
        if candidates.is_empty() {
            return Err(login_again(match shared {
                Stored::Revoked => "the service has ended this login",
                _ => "there is no refresh token",
            }));
        }
        let mut exchange = TokenExchange {
            endpoint: self.oauth.at(scope.oauth_host()),
            thread: Arc::clone(refresh.thread),
            lock: Arc::new(lock),
            reserved,
        };
        let mut refused = Refused { tokens: Vec::new(), error: None, is_open: false, grace: Duration::ZERO };
        let state = self.paths.state.as_deref();
        for candidate in &candidates {
            if let Some(meaning) = refusals::recent(state, &candidate.refresh) {
                refused.error = Some(login_again("the service has just refused this login"));
                refused.is_open |= meaning == RefusalMeaning::Open;
                continue;
            }
            refused.grace = PEER_GRACE;
            match exchange.run(&candidate.refresh, on_slow) {
                Ok(tokens) => {
                    if let Some(reserved) = exchange.reserved.take() {
                        let stored = store(&file, &shared, reserved, &tokens, &exchange.lock);
                        if let Err(error) = stored {
                            // The caller still gets the token, and Pi's own file may still take it.
                            tracing::warn!(%error, "the refreshed login could not be saved for the kimi CLI");
                            if pi.is_none() {
                                return Err(error);
                            }
                        }
                    }
                    self.login_tokens().add(&tokens.access);
                    return Ok(Some(tokens));
                }
                Err(Failed::NotSent) => return Ok(None),
                Err(Failed::Error(error)) if error.kind == ErrorKind::LoginRequired => {
                    refused.tokens.push(&candidate.refresh);
                    refused.error = Some(error);
                }
                Err(Failed::Error(error)) => return Err(error),
            }
        }
        drop(exchange.reserved.take());
        self.judge_refusal(refresh, &exchange.lock, &candidates, may_write, refused)
    }
}

/// Token calls under one lock.
struct TokenExchange {
    endpoint: TokenEndpoint,
    thread: Arc<RefreshThread>,
    lock: Arc<RefreshLock>,
    /// Where the answer goes.
    reserved: Option<ReservedAuthFile>,
}

impl TokenExchange {
    /// Spends a refresh token. The answer is handed to the system on the I/O thread, right after its last byte was read.
    fn run(&mut self, refresh_token: &str, on_slow: &mut dyn FnMut()) -> std::result::Result<Tokens, Failed> {
        // The answer must not wait in the socket for a tick of the streams.
        let _urgent = runtime::tick().urgent();
        let (lock, thread) = (Arc::clone(&self.lock), Arc::clone(&self.thread));
        let gate = SendGate::new(move || lock.is_held() && thread.may_send());
        let reserved = Arc::new(Mutex::new(self.reserved.take()));
        let (sender, receiver) = mpsc::channel();
        let call = {
            let (endpoint, gate, reserved) = (self.endpoint.clone(), Arc::clone(&gate), Arc::clone(&reserved));
            let refresh_token = refresh_token.to_owned();
            async move {
                let issued = endpoint.refresh(&refresh_token, &gate).await;
                let written = match (&issued, &mut *reserved.lock().unwrap_or_else(PoisonError::into_inner)) {
                    (Ok(Issued { tokens, .. }), Some(file)) => file.write(tokens),
                    _ => Ok(()),
                };
                if let Ok(Issued { received, .. }) = &issued {
                    tracing::info!(micros = received.elapsed().as_micros() as u64, "the new login is written");
                }
                // The receiver waits in any case.
                let _ = sender.send((issued, written));
            }
        };
        self.thread.runtime.spawn(call);
        let began = Instant::now();
        let mut was_slow = false;
        let (issued, written) = loop {
            match receiver.recv_timeout(Duration::from_millis(500)) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Timeout) if !was_slow && began.elapsed() > SLOW_CALL => {
                    was_slow = true;
                    on_slow();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failed::Error(Error::new(ErrorKind::Internal, "the token call ended unexpectedly")));
                }
            }
        };
        if let Err(error) = written {
            tracing::info!(%error, "the reserved file cannot be written");
        }
        self.reserved = reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        match issued {
            Ok(Issued { tokens, .. }) => Ok(tokens),
            Err(_) if gate.has_refused() => Err(Failed::NotSent),
            Err(error) => Err(Failed::Error(error)),
        }
    }
}

/// Stores new tokens, whatever has happened to the reserved file, its folder or the lock since the refresh began. `before` is what
/// the file held then; a login that the user made since is kept.
fn store(
    file: &KimiCodeFile,
    before: &Stored,
    reserved: ReservedAuthFile,
    tokens: &Tokens,
    lock: &RefreshLock,
) -> Result<()> {
    let now = file.read().unwrap_or(Stored::Absent);
    if matches!(now, Stored::Login(_)) && now != *before {
        tracing::info!("another login was stored meanwhile and is kept");
        return Ok(());
    }
    let stored = match reserved.commit() {
        Ok(()) if file.read().is_ok_and(|stored| stored.tokens().is_some_and(|t| t.refresh == tokens.refresh)) => {
            Ok(())
        }
        // The reserved file or its folder was removed, or the write failed.
        _ => file.write(tokens),
    };
    if !lock.is_held() {
        let mut time = AwakeTime::start();
        while time.look() < WATCH_TIME {
            std::thread::sleep(Duration::from_millis(100));
            if matches!(file.read(), Ok(Stored::Revoked)) {
                file.write(tokens)?;
            }
        }
    }
    stored
}

/// Whether the shared login belongs to the account that Pi uses, as far as the tokens tell.
pub(super) fn same_account_as(pi: Option<&Tokens>, shared: &Tokens) -> bool {
    pi.is_none_or(|pi| pi.same_account(shared))
}

/// Returns what can be refreshed, the most recently issued first.
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
