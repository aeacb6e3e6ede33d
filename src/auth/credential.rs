//! The credential that a request carries, and what happens when the service refuses it. `credential_sources.rs` finds it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::credential_sources::Account;
use super::token::Tokens;
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;

/// Access tokens that are remembered. A process with more logins than this is generating them.
const MAX_LOGIN_TOKENS: usize = 64;

/// What authorizes a request: a static key, or the current access token of a login, which can be refreshed.
#[derive(Debug, Clone)]
pub struct Credential {
    token: Arc<Mutex<Secret>>,
    /// The logins among which a refused token is looked up.
    account: Option<Arc<Account>>,
    /// Known to come from a login.
    from_login: bool,
}

struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Credential {
    /// Wraps a static key. It is never exchanged for anything.
    pub fn key(key: &str) -> Self {
        Self { token: Arc::new(Mutex::new(Secret(key.to_owned()))), account: None, from_login: false }
    }

    /// Wraps what Pi or a caller passed, which may be the access token of a login.
    pub(super) fn supplied(token: &str, account: Account) -> Self {
        let from_login = account.login_tokens().contains(token);
        Self { account: Some(Arc::new(account)), from_login, ..Self::key(token) }
    }

    /// Wraps the access token of a login.
    pub(super) fn login(tokens: &Tokens, account: Account) -> Self {
        account.login_tokens().add(&tokens.access);
        Self { account: Some(Arc::new(account)), from_login: true, ..Self::key(&tokens.access) }
    }

    /// Whether this is a login, as opposed to a static key.
    pub fn is_login(&self) -> bool {
        self.from_login || self.account.as_ref().is_some_and(|account| account.login_tokens().contains(&self.token()))
    }

    /// Returns the value to send now.
    pub fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Sends with the token. After a 401 the login is refreshed and the request sent once more; that happens before any output,
    /// so nothing is shown twice. The error of a second 401 says what to do about this kind of credential.
    pub async fn send_with_reauth<T, F: Future<Output = Result<T>>>(&self, send: impl Fn(String) -> F) -> Result<T> {
        let token = self.token();
        let error = match send(token.clone()).await {
            Err(error) if error.kind == ErrorKind::Unauthorized => error,
            result => return result,
        };
        tracing::info!("the service refused the access token");
        let result = match self.reauthenticate(&token).await? {
            Some(token) => send(token).await,
            None => Err(error),
        };
        result.map_err(|error| self.explain(error))
    }

    /// Renews the login after the service refused `rejected` inside a stream, where no status says so. `Ok` means that the request is
    /// worth sending once more; else the refusal comes back with advice.
    pub async fn renew_refused(&self, rejected: &str, refusal: Error) -> Result<()> {
        match self.reauthenticate(rejected).await? {
            Some(_) => Ok(()),
            None => Err(self.explain(refusal)),
        }
    }

    /// Returns another token for one that the service refused, or `None` if this is a static key or there is nothing newer.
    async fn reauthenticate(&self, rejected: &str) -> Result<Option<String>> {
        let current = self.token();
        if current != rejected {
            return Ok(Some(current));
        }
        let Some(account) = &self.account else { return Ok(None) };
        let replacement = account.reauthenticate(rejected, self.from_login).await?;
        let Some(token) = replacement.filter(|token| token != rejected) else { return Ok(None) };
        account.login_tokens().add(&token);
        token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner).0);
        Ok(Some(token))
    }

    /// Adds to a refusal what the user can do about it.
    pub fn explain(&self, error: Error) -> Error {
        if error.kind != ErrorKind::Unauthorized {
            return error;
        }
        let advice = if self.is_login() {
            "Kimi Code authorization is no longer valid. Sign in again with /login kimi-coding."
        } else {
            "The API key was refused. Check it where you set it (KIMI_API_KEY, or Pi's /login), or sign in with \
             /login kimi-coding."
        };
        Error { message: format!("{} {advice}", error.message), ..error }
    }
}

/// Access tokens that logins of this process had, the newest last. Pi passes a token and a static key in the same place.
#[derive(Debug, Default)]
pub struct LoginTokens(Mutex<VecDeque<Secret>>);

impl LoginTokens {
    /// Remembers that this is the access token of a login.
    pub fn add(&self, access: &str) {
        if access.is_empty() || self.contains(access) {
            return;
        }
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() == MAX_LOGIN_TOKENS {
            tokens.pop_front();
        }
        tokens.push_back(Secret(access.to_owned()));
    }

    fn contains(&self, token: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known.0 == token)
    }
}

/// Remembers that this is the access token of a login.
pub fn register_oauth_token(access: &str) {
    ProcessState::shared().get::<LoginTokens>().add(access);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credential_debug_output_hides_the_key() {
        assert!(!format!("{:?}", Credential::key("sk-kimi-hunter2")).contains("hunter2"));
    }

    #[test]
    fn credential_refused_with_401_advises_about_its_kind() {
        let refused = || Error { status: Some(401), ..Error::new(ErrorKind::Unauthorized, "401 Unauthorized") };
        let key = Credential::key("sk-kimi").explain(refused()).message;
        assert!(key.starts_with("401 ") && key.contains("KIMI_API_KEY") && !key.contains("no longer valid"), "{key}");
        let login = Credential { from_login: true, ..Credential::key("token") }.explain(refused()).message;
        assert!(login.contains("/login kimi-coding") && !login.to_lowercase().contains("key"), "{login}");
        let other = Credential::key("sk-kimi").explain(Error::new(ErrorKind::Entitlement, "403 no"));
        assert_eq!(other.message, "403 no");
    }

    #[test]
    fn login_tokens_number_is_bounded_and_the_oldest_go_first() {
        let tokens = LoginTokens::default();
        (0..=MAX_LOGIN_TOKENS).for_each(|at| tokens.add(&at.to_string()));
        assert!(!tokens.contains("0") && tokens.contains("1") && tokens.contains("64"));
    }
}
