//! Where a login may be found, and which one is used.

use std::path::Path;
use std::sync::Arc;

use super::credential::LoginTokens;
use super::kimi_auth_file::{KimiCodeFile, Stored};
use super::pi_auth_file::{PiAuth, PiEntry};
use super::token::OAuthClient;
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

impl Account {
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

    /// Refuses a login in Pi's file of another region than the user has chosen. Hosts are recorded unless they are the default ones.
    pub fn check_region_of(&self, entry: &PiEntry) -> Result<()> {
        if self.region_is_open {
            return Ok(());
        }
        check_region(entry.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL), &self.endpoint)
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

    /// Returns the scopes in which the official client may have a login, best first (docs/protocol.md#hosts-and-regions).
    pub fn cli_login_scopes(&self) -> Result<Vec<CredentialScope>> {
        if !self.region_is_open {
            return Ok(vec![self.scope(None)?]);
        }
        let mut scopes = Region::ALL.map(CredentialScope::of_region).to_vec();
        if chosen_region(&self.paths.kimi_home) == Some(Region::Global) {
            scopes.reverse();
        }
        Ok(scopes)
    }

    /// Returns the region that the official client would log in to: its last login's, else what its installer noted.
    pub fn preferred_region(&self, ignore_marker: bool) -> Option<Region> {
        let home = &self.paths.kimi_home;
        let marker = || std::fs::read_to_string(home.join("region")).ok().and_then(|text| Region::from_id(&text));
        chosen_region(home).or_else(|| if ignore_marker { None } else { marker() })
    }

    /// Returns the same account with the endpoint of a scope.
    pub fn at(&self, scope: &CredentialScope) -> Result<Self> {
        let endpoint = Endpoint::from_base(scope.base_url())?;
        Ok(Self { endpoint, oauth_host: Some(scope.oauth_host().to_owned()), region_is_open: false, ..self.clone() })
    }

    /// Returns the account in a region that the user has just chosen. It outranks the setting, but not custom hosts.
    pub fn in_chosen_region(self, region: Option<Region>, has_custom_hosts: bool) -> Result<Self> {
        match region {
            Some(region) if !has_custom_hosts && self.endpoint.region().is_some() => {
                self.at(&CredentialScope::of_region(region))
            }
            _ => Ok(self),
        }
    }

    /// Returns the account to sign in to: where nothing else decides, in the region that the official client would take.
    pub fn to_sign_in(self, ignore_marker: bool) -> Result<Self> {
        match self.preferred_region(ignore_marker) {
            Some(region) if self.region_is_open => self.at(&CredentialScope::of_region(region)),
            _ => Ok(self),
        }
    }

    pub(super) fn login_tokens(&self) -> Arc<LoginTokens> {
        self.process.get()
    }
}

/// Refuses a login of another region. `recorded` is the API base that the login was made for, `configured` the endpoint that the
/// settings lead to.
pub fn check_region(recorded: &str, configured: &Endpoint) -> Result<()> {
    match (Endpoint::from_base(recorded)?.region(), configured.region()) {
        (Some(recorded), Some(configured)) if recorded != configured => Err(Error::new(
            ErrorKind::LoginRequired,
            format!(
                "this login belongs to the region {}, but the environment asks for {}; sign in again with /login kimi-coding",
                recorded.id(),
                configured.id()
            ),
        )),
        _ => Ok(()),
    }
}

/// Reads the region of the login that the official client uses from its `config.toml` (docs/protocol.md#client-configuration): the
/// managed provider's OAuth host, or the default scope by its key.
fn chosen_region(home: &Path) -> Option<Region> {
    let config: toml::Table = std::fs::read_to_string(home.join("config.toml")).ok()?.parse().ok()?;
    let oauth = config.get("providers")?.get("managed:kimi-code")?.get("oauth")?;
    let text = |name: &str| oauth.get(name).and_then(toml::Value::as_str);
    match text("oauth_host") {
        Some(host) => Region::ALL.into_iter().find(|region| region.oauth_host() == host.trim_end_matches('/')),
        None => (text("key") == Some("oauth/kimi-code")).then_some(Region::MainlandCn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn official_clients_region_is_read_from_every_spelling_of_its_config() {
        let home = tempfile::tempdir().unwrap();
        let region = |text: &str| {
            std::fs::write(home.path().join("config.toml"), text).unwrap();
            chosen_region(home.path())
        };
        assert_eq!(chosen_region(home.path()), None);
        let global = [
            "[providers.\"managed:kimi-code\".oauth]\nkey = \"oauth/kimi-code-env-0e4f99c69cc27850\"\noauth_host = \"https://auth.kimi.ai\"",
            "  [ providers . \"managed:kimi-code\" . oauth ]\n  oauth_host = \"https://auth.kimi.ai\" # global",
            "[providers.\"managed:kimi-code\"]\noauth = { storage = \"file\", oauth_host = 'https://auth.kimi.ai/' }",
            "default_model = \"x\"\nproviders.\"managed:kimi-code\".oauth.oauth_host = \"https://auth.kimi.ai\"\n[thinking]\nenabled = true",
        ];
        for text in global {
            assert_eq!(region(text), Some(Region::Global), "{text}");
        }
        let table = "[providers.\"managed:kimi-code\".oauth]\nstorage = \"file\"\n";
        assert_eq!(region(&format!("{table}key = \"oauth/kimi-code\"")), Some(Region::MainlandCn));
        assert_eq!(region(&format!("{table}oauth_host = \"http://127.0.0.1:1\"")), None);
        assert_eq!(region(&format!("# {}", global[0])), None);
        assert_eq!(region("not = [toml"), None);
    }

    #[test]
    fn login_of_another_region_is_refused() {
        let endpoint = Endpoint::from_base(CredentialScope::of_region(Region::Global).base_url()).unwrap();
        let mainland = CredentialScope::of_region(Region::MainlandCn);
        assert!(check_region(endpoint.root(), &endpoint).is_ok());
        assert_eq!(check_region(mainland.base_url(), &endpoint).unwrap_err().kind, ErrorKind::LoginRequired);
    }
}
