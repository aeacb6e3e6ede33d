//! Which region a login belongs to: the one that is signed in to, and the refusal of a login of another one.

use std::path::Path;

use super::credential_sources::Account;
use super::pi_auth_file::PiEntry;
use crate::endpoint::{CredentialScope, DEFAULT_BASE_URL, Endpoint, Region};
use crate::error::{Error, ErrorKind, Result};

impl Account {
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

    /// Refuses a login in Pi's file of another region than the user has chosen. Hosts are recorded unless they are the default ones.
    pub fn check_region_of(&self, entry: &PiEntry) -> Result<()> {
        if self.region_is_open {
            return Ok(());
        }
        check_region(entry.base_url.as_deref().unwrap_or(DEFAULT_BASE_URL), &self.endpoint)
    }

    /// Returns the region that the official client would log in to: its last login's, else what its installer noted.
    pub fn preferred_region(&self, ignore_marker: bool) -> Option<Region> {
        let home = &self.paths.kimi_home;
        let marker = || std::fs::read_to_string(home.join("region")).ok().and_then(|text| Region::from_id(&text));
        chosen_region(home).or_else(|| if ignore_marker { None } else { marker() })
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
