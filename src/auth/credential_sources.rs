//! Where a credential may be found, and which one is used.

use std::sync::Arc;

use super::credential::{Credential, LoginTokens};
use super::kimi_auth_file::{KimiCodeFile, Stored};
use super::pi_auth_file::{PiAuth, PiEntry};
use super::token::Tokens;
use super::token_endpoint::OAuthClient;
use crate::config::Paths;
use crate::endpoint::{CredentialScope, DEFAULT_BASE_URL, Endpoint, Region};
use crate::error::{Error, ErrorKind, Result};
use crate::process_state::ProcessState;

/// The folders, hosts and settings that decide which login is used.
#[derive(Debug, Clone)]
pub struct Account {
    /// Folders of the programs involved.
    pub paths: Paths,
    /// API that the tokens are for.
    pub endpoint: Endpoint,
    /// `KIMI_CODE_OAUTH_HOST`.
    pub oauth_host: Option<String>,
    /// The user has chosen neither base nor host, so the login decides the region.
    pub region_is_open: bool,
    /// Reaches OAuth hosts.
    pub oauth: OAuthClient,
    /// What outlives this account: refreshes under way, held locks, known tokens.
    pub process: Arc<ProcessState>,
}

/// What Pi or a caller passed as the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppliedKey<'k> {
    /// Nothing, or nothing but blanks.
    Nothing,
    /// The name of `KIMI_API_KEY`: old versions of Pi pass it instead of its value (docs/pi-contract.md#key-syntax).
    Variable,
    /// A key or an access token.
    Token(&'k str),
}

impl<'k> SuppliedKey<'k> {
    /// Classifies what was passed.
    pub fn new(passed: Option<&'k str>) -> Self {
        match passed.map(str::trim) {
            None | Some("") => Self::Nothing,
            Some("$KIMI_API_KEY" | "${KIMI_API_KEY}") => Self::Variable,
            Some(token) => Self::Token(token),
        }
    }
}

/// A credential, and the endpoint of the login that was found.
#[derive(Debug)]
pub struct Found {
    /// What authorizes requests.
    pub credential: Credential,
    /// Where a login belongs that this process has looked for itself.
    pub endpoint: Option<Endpoint>,
}

impl Account {
    /// Finds what authorizes a request (docs/architecture.md#credential-order): what Pi or the caller passed, else the login in
    /// Pi's file, else `api_key` (from `KIMI_API_KEY`), else a login of the official client. `None` if there is nothing. A static
    /// key never turns into a login.
    pub async fn credential(self, passed: Option<&str>, api_key: Option<&str>) -> Result<Option<Found>> {
        let key = |key: &str| Found { credential: Credential::key(key), endpoint: None };
        match SuppliedKey::new(passed) {
            SuppliedKey::Variable => Ok(api_key.map(key)),
            SuppliedKey::Token(token) => {
                Ok(Some(Found { credential: Credential::supplied(token, self), endpoint: None }))
            }
            SuppliedKey::Nothing => {
                let found = match (self.stored_in_pi().await?, api_key) {
                    (Some(found), _) => Some(found),
                    (None, Some(api_key)) => return Ok(Some(key(api_key))),
                    (None, None) => self.cli_login().await?,
                };
                found.map(|(tokens, scope)| self.found(&tokens, &scope)).transpose()
            }
        }
    }

    fn found(&self, tokens: &Tokens, scope: &CredentialScope) -> Result<Found> {
        let account = self.at(scope)?;
        let endpoint = Some(account.endpoint.clone());
        Ok(Found { credential: Credential::login(tokens, account), endpoint })
    }

    /// Finds a stored login for requests that no key authorizes. Where requests go to `target` whatever the login is, only a login
    /// counts that was made for it: a user who names another address for a key has not chosen it for the login.
    pub async fn login_in_place_of_key(self, target: Option<Endpoint>) -> Result<Option<Found>> {
        let belongs = move |base: &str| match &target {
            Some(target) => Ok(Endpoint::from_base(base)? == *target),
            None => Ok(true),
        };
        let in_pi = {
            let belongs = belongs.clone();
            self.pi_login(move |_, entry| belongs(entry.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL)))
        };
        let found = match in_pi.await? {
            Some(found) => Some(found),
            None => self.cli_login().await?,
        };
        match found {
            Some((tokens, scope)) if belongs(scope.base_url())? => self.found(&tokens, &scope).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether there is a login that requests without a key can use. Only looks at files.
    pub fn has_login(&self) -> Result<bool> {
        let entry = self.pi().read()?;
        if !matches!(entry.stored, Stored::Login(_)) {
            return self.has_cli_login();
        }
        self.check_region_of(&entry)?;
        self.scope(Some(&entry)).map(|_| true)
    }

    /// Returns the scope of a login. `entry` is Pi's entry, which may say where the login came from.
    pub fn scope(&self, entry: Option<&PiEntry>) -> Result<CredentialScope> {
        let recorded = entry.and_then(|entry| entry.oauth_host.as_deref());
        let endpoint = match entry.and_then(|entry| entry.base_url.as_deref()) {
            Some(base) if self.region_is_open => Endpoint::from_base(base)?,
            _ => self.endpoint.clone(),
        };
        let scope = |host: &str| CredentialScope::new(host, &endpoint);
        match (self.oauth_host.as_deref(), recorded) {
            (Some(chosen), Some(recorded)) if scope(chosen)? != scope(recorded)? => Err(Error::new(
                ErrorKind::LoginRequired,
                "This Kimi Code login belongs to another OAuth host than KIMI_CODE_OAUTH_HOST names, and tokens are never \
                 sent to a host they did not come from. Sign in again with /login kimi-coding, or unset the variable.",
            )),
            (Some(host), _) | (None, Some(host)) => scope(host),
            (None, None) => scope(endpoint.region().unwrap_or(Region::MainlandCn).oauth_host()),
        }
    }

    /// Returns Pi's file.
    pub fn pi(&self) -> PiAuth {
        PiAuth::new(&self.paths.agent_dir)
    }

    /// Returns the official client's file of a scope.
    pub fn kimi_code(&self, scope: &CredentialScope) -> KimiCodeFile {
        KimiCodeFile::new(&self.paths.kimi_home, &scope.name())
    }

    /// Reads what the official client left for this scope. Only where it has no file at all its predecessor's is used, and only for
    /// the one deployment the predecessor knew; a tombstone is final.
    pub fn shared_login(&self, scope: &CredentialScope) -> Result<Stored> {
        let stored = self.kimi_code(scope).read()?;
        if matches!(stored, Stored::Absent | Stored::Unusable(_)) && scope.is_default() {
            let legacy = KimiCodeFile::new(&self.paths.legacy_home, "kimi-code").read()?;
            if matches!(legacy, Stored::Login(_)) {
                return Ok(legacy);
            }
        }
        Ok(stored)
    }

    /// Returns the same account with the endpoint of a scope.
    pub fn at(&self, scope: &CredentialScope) -> Result<Self> {
        let endpoint = Endpoint::from_base(scope.base_url())?;
        Ok(Self { endpoint, oauth_host: Some(scope.oauth_host().to_owned()), region_is_open: false, ..self.clone() })
    }

    pub(super) fn login_tokens(&self) -> Arc<LoginTokens> {
        self.process.get()
    }
}
