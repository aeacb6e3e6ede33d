//! The credential that a request carries, and what becomes of it when the service refuses it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::login_sources::Account;
use super::token::Tokens;
use crate::error::{Error, ErrorKind, Result};

/// More logins than this in one process means that somebody is generating them.
const MAX_REMEMBERED: usize = 64;

/// What Pi or a caller passed as the credential. Who asks for what an account was told last time has to understand it as who
/// sends it, or never finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppliedKey<'p> {
    /// Nothing, or nothing but blanks.
    Nothing,
    /// The name of `KIMI_API_KEY`: old versions of Pi pass it instead of its value (docs/pi-contract.md#key-syntax).
    Variable,
    /// A key or an access token.
    Token(&'p str),
}

impl<'p> SuppliedKey<'p> {
    /// Understands it.
    pub fn new(passed: Option<&'p str>) -> Self {
        match passed.map(str::trim) {
            None | Some("") => Self::Nothing,
            Some("$KIMI_API_KEY" | "${KIMI_API_KEY}") => Self::Variable,
            Some(token) => Self::Token(token),
        }
    }
}

/// What authorises a request: a static key, or the current access token of a login that can reauthenticate itself.
#[derive(Debug, Clone)]
pub struct Credential {
    token: Arc<Mutex<Secret>>,
    /// The login behind the token.
    account: Option<Arc<Account>>,
    /// RequestContext to come from a login, and not merely to look like it.
    from_login: bool,
}

struct Secret(String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Credential {
    /// A key of the user's own. It is never exchanged for anything.
    pub fn key(key: &str) -> Self {
        Self { token: Arc::new(Mutex::new(Secret(key.to_owned()))), account: None, from_login: false }
    }

    /// What Pi or a caller passed: a key, or an access token that we handed out before.
    pub fn passed(token: &str, account: Account) -> Self {
        let from_login = is_remembered(token);
        Self { account: Some(Arc::new(account)), from_login, ..Self::key(token) }
    }

    /// The access token of a login.
    pub fn login(tokens: &Tokens, account: Account) -> Self {
        register_oauth_token(&tokens.access);
        Self { account: Some(Arc::new(account)), from_login: true, ..Self::key(&tokens.access) }
    }

    /// Whether this is a login, as opposed to a static key.
    pub fn is_login(&self) -> bool {
        self.from_login || is_remembered(&self.token())
    }

    /// The value to send now.
    pub fn token(&self) -> String {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    /// Sends with the token. A 401 is answered once by healing the login and sending again; that happens before anything of
    /// an answer exists, so nothing can be said twice. A 401 that stays says what to do about this kind of credential.
    pub async fn send_with_reauth<T, F: Future<Output = Result<T>>>(&self, send: impl Fn(String) -> F) -> Result<T> {
        let token = self.token();
        let error = match send(token.clone()).await {
            Err(error) if error.kind == ErrorKind::Unauthorized => error,
            result => return result,
        };
        tracing::debug!("the service refused the access token");
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

    /// The service refused `rejected` with 401. `Some` is another token, worth one more request; `None` means that this
    /// is a static key, or that there is nothing newer.
    async fn reauthenticate(&self, rejected: &str) -> Result<Option<String>> {
        let current = self.token();
        if current != rejected {
            return Ok(Some(current));
        }
        let Some(account) = &self.account else { return Ok(None) };
        let healed = account.reauthenticate(rejected, self.from_login).await?;
        if let Some(token) = healed.as_deref().filter(|token| *token != rejected) {
            register_oauth_token(token);
            token.clone_into(&mut self.token.lock().unwrap_or_else(PoisonError::into_inner).0);
            return Ok(Some(token.to_owned()));
        }
        Ok(None)
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

/// Access tokens that logins of this process had. Pi passes a token and a static key in the same place.
fn remembered() -> &'static Mutex<Vec<String>> {
    static REMEMBERED: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    REMEMBERED.get_or_init(Mutex::default)
}

/// Notes that this is the access token of a login.
pub fn register_oauth_token(access: &str) {
    let mut tokens = remembered().lock().unwrap_or_else(PoisonError::into_inner);
    if !access.is_empty() && !tokens.iter().any(|known| known == access) {
        if tokens.len() == MAX_REMEMBERED {
            tokens.remove(0);
        }
        tokens.push(access.to_owned());
    }
}

fn is_remembered(token: &str) -> bool {
    remembered().lock().unwrap_or_else(PoisonError::into_inner).iter().any(|known| known == token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_shows_in_debug_output() {
        assert!(!format!("{:?}", Credential::key("sk-kimi-hunter2")).contains("hunter2"));
    }

    #[test]
    fn a_refusal_speaks_of_what_was_refused() {
        let refused = || Error { status: Some(401), ..Error::new(ErrorKind::Unauthorized, "401 Unauthorized") };
        let key = Credential::key("sk-kimi").explain(refused()).message;
        assert!(key.starts_with("401 ") && key.contains("KIMI_API_KEY") && !key.contains("no longer valid"), "{key}");
        let login = Credential { from_login: true, ..Credential::key("token") }.explain(refused()).message;
        assert!(login.contains("/login kimi-coding") && !login.to_lowercase().contains("key"), "{login}");
        let other = Credential::key("sk-kimi").explain(Error::new(ErrorKind::Entitlement, "403 no"));
        assert_eq!(other.message, "403 no");
    }
}
