//! Where a login may be found, and which one counts.

use std::path::Path;

use super::kimi_auth_file::{KimiCodeFile, Stored};
use super::pi_auth_file::{PiAuth, PiEntry};
use super::token::TokenEndpoint;
use crate::config::Paths;
use crate::endpoint::{CredentialScope, Endpoint, Region};
use crate::error::{Error, ErrorKind, Result};

/// What decides which login counts.
#[derive(Debug, Clone)]
pub struct Account {
    /// The folders.
    pub paths: Paths,
    /// API that the tokens are for.
    pub endpoint: Endpoint,
    /// `KIMI_CODE_OAUTH_HOST`.
    pub oauth_host: Option<String>,
    /// Neither base nor host are chosen by the user, so the login decides the region.
    pub region_is_open: bool,
    /// How to reach an OAuth host; `host` is filled in per slot.
    pub oauth: TokenEndpoint,
}

impl Account {
    /// The slot of a login. `entry` is Pi's entry, which may say where the login came from.
    pub fn slot(&self, entry: Option<&PiEntry>) -> Result<CredentialScope> {
        let recorded = entry.and_then(|entry| entry.oauth_host.as_deref());
        let endpoint = match entry.and_then(|entry| entry.base_url.as_deref()) {
            Some(base) if self.region_is_open => Endpoint::from_base(base)?,
            _ => self.endpoint.clone(),
        };
        let slot = |host: &str| CredentialScope::new(host, &endpoint);
        match (self.oauth_host.as_deref(), recorded) {
            (Some(chosen), Some(recorded)) if slot(chosen)? != slot(recorded)? => Err(Error::new(
                ErrorKind::LoginRequired,
                "This Kimi Code login belongs to another OAuth host than KIMI_CODE_OAUTH_HOST names, and tokens are never \
                 sent to a host they did not come from. Sign in again with /login kimi-coding, or unset the variable.",
            )),
            (Some(host), _) | (None, Some(host)) => slot(host),
            (None, None) => slot(endpoint.region().unwrap_or(Region::MainlandCn).oauth_host()),
        }
    }

    /// Pi's file.
    pub fn pi(&self) -> PiAuth {
        PiAuth::new(&self.paths.agent_dir)
    }

    /// The official client's file of a slot.
    pub fn kimi_code(&self, slot: &CredentialScope) -> KimiCodeFile {
        KimiCodeFile::new(&self.paths.kimi_home, &slot.name())
    }

    /// What the official client left for this slot. Only where it has no file at all its predecessor's counts, and only for
    /// the one deployment the predecessor knew; a tombstone is the last word.
    pub fn shared_login(&self, slot: &CredentialScope) -> Result<Stored> {
        let stored = self.kimi_code(slot).read()?;
        if matches!(stored, Stored::Absent | Stored::Unusable(_)) && slot.is_default() {
            let legacy = KimiCodeFile::new(&self.paths.legacy_home, "kimi-code").read()?;
            if matches!(legacy, Stored::Login(_)) {
                return Ok(legacy);
            }
        }
        Ok(stored)
    }

    /// The slots in which a login without Pi's doing may be found, best first (docs/protocol.md#hosts-and-regions).
    pub fn cli_login_scopes(&self) -> Result<Vec<CredentialScope>> {
        if !self.region_is_open {
            return Ok(vec![self.slot(None)?]);
        }
        let mut slots = Region::ALL.map(CredentialScope::of_region).to_vec();
        if chosen_region(&self.paths.kimi_home) == Some(Region::Global) {
            slots.reverse();
        }
        Ok(slots)
    }

    /// The region that the official client would log in to: its last login, else what its installer noted.
    pub fn preferred_region(&self, ignore_marker: bool) -> Option<Region> {
        let home = &self.paths.kimi_home;
        let marker = || std::fs::read_to_string(home.join("region")).ok().and_then(|text| Region::from_id(&text));
        chosen_region(home).or_else(|| if ignore_marker { None } else { marker() })
    }

    /// The same account with the endpoint of a slot.
    pub fn at(&self, slot: &CredentialScope) -> Result<Self> {
        let endpoint = Endpoint::from_base(slot.base_url())?;
        Ok(Self { endpoint, oauth_host: Some(slot.oauth_host().to_owned()), region_is_open: false, ..self.clone() })
    }
}

/// The region of the login that the official client uses, from its `config.toml` (docs/protocol.md#client-configuration): the
/// managed provider's OAuth host, or the default slot by its key.
fn chosen_region(home: &Path) -> Option<Region> {
    let text = std::fs::read_to_string(home.join("config.toml")).ok()?;
    let section = text
        .split("\n[")
        .find(|part| part.trim_start_matches('[').starts_with("providers.\"managed:kimi-code\".oauth]"))?;
    let value = |name: &str| {
        section.lines().find_map(|line| line.trim().strip_prefix(name)?.trim_start().strip_prefix('=')).map(|rest| {
            rest.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']).trim_end_matches('/').to_owned()
        })
    };
    match value("oauth_host") {
        Some(host) => Region::ALL.into_iter().find(|region| region.oauth_host() == host),
        None => (value("key").as_deref() == Some("oauth/kimi-code")).then_some(Region::MainlandCn),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_clients_region_is_read_from_its_config() {
        let home = std::env::temp_dir().join(format!("kimi-region-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&home).unwrap();
        let write = |oauth: &str| {
            let text = format!(
                "default_model = \"x\"\n\n[providers.\"managed:kimi-code\".oauth]\nstorage = \"file\"\n{oauth}\n\n[thinking]\nenabled = true\n"
            );
            std::fs::write(home.join("config.toml"), text).unwrap();
        };
        assert_eq!(chosen_region(&home), None);
        write("key = \"oauth/kimi-code-env-0e4f99c69cc27850\"\noauth_host = \"https://auth.kimi.ai\"  # x");
        assert_eq!(chosen_region(&home), Some(Region::Global));
        write("key = \"oauth/kimi-code\"");
        assert_eq!(chosen_region(&home), Some(Region::MainlandCn));
        write("key = \"oauth/kimi-code-env-89494f7cfcc7062e\"\noauth_host = \"http://127.0.0.1:1\"");
        assert_eq!(chosen_region(&home), None);
        std::fs::remove_dir_all(&home).unwrap();
    }
}
