//! Decides which address of the service applies.
//!
//! The strongest layer that names an address decides, also where its address cannot be used: requests then fail instead of going to the
//! address of a weaker layer or to the default host. A project never decides where requests and credentials go.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::layers::{Layer, SettingProblem};
use super::settings::RegionChoice;
use crate::endpoint::{CredentialScope, Endpoint};
use crate::error::{Error, ErrorKind, Result};

/// Addresses that come with a request and not from a setting.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAddresses {
    /// `baseUrl` of the provider or model in the user's `models.json`. It outranks the home file and the login's own address,
    /// and does not change which login is used.
    pub models_json_base_url: Option<String>,
    /// Base of the login behind the credential, or of Pi's model entry. Used where the user names no address.
    pub base_url: Option<String>,
}

impl RequestAddresses {
    /// Addresses of a request whose credential belongs to `base_url`.
    pub fn of_login(base_url: Option<String>) -> Self {
        Self { base_url, ..Self::default() }
    }
}

/// What the strongest layer that names an address says.
#[derive(Debug, Clone)]
struct NamedAddress {
    layer: Layer,
    /// The address, or why it cannot be used.
    value: Result<String, SettingProblem>,
}

/// The addresses that settings name, by key.
#[derive(Debug, Clone, Default)]
pub struct NamedAddresses(BTreeMap<&'static str, NamedAddress>);

impl NamedAddresses {
    /// Notes what a layer says about an address, in place of what the layers below it say.
    pub(super) fn name(&mut self, key: &'static str, layer: Layer, value: Result<String, SettingProblem>) {
        self.0.insert(key, NamedAddress { layer, value });
    }

    /// Returns the address and its layer, or an error that names the layer.
    fn usable(&self, key: &str) -> Result<Option<(String, Layer)>> {
        let Some(NamedAddress { layer, value }) = self.0.get(key) else { return Ok(None) };
        match value {
            Ok(value) => Ok(Some((value.clone(), *layer))),
            Err(problem) => Err(Error::new(ErrorKind::Config, problem.to_string())),
        }
    }
}

/// The addresses that apply.
pub(super) struct AppliedAddresses {
    pub endpoint: Endpoint,
    /// The API that logins are for. Differs from `endpoint` only where `models.json` names another address.
    pub login_endpoint: Endpoint,
    pub oauth_host: Option<String>,
    /// Neither base, host nor region are chosen, so the login decides where requests go.
    pub region_is_open: bool,
}

impl AppliedAddresses {
    /// Chooses between settings, the login and `models.json`. Fails if the address that counts cannot be used.
    pub fn choose(named: &NamedAddresses, region: RegionChoice, request: &RequestAddresses) -> Result<Self> {
        let own = named.usable("baseUrl")?;
        let oauth_host = named.usable("oauthHost")?.map(|(host, _)| host);
        if let Some(host) = &oauth_host {
            CredentialScope::new(host, &Endpoint::default())?;
        }
        let region = region.region();
        let login_endpoint = match (&own, present(&request.base_url)) {
            (Some((base, _)), _) => Endpoint::from_base(base)?,
            (None, Some(base)) => from_source("the login or Pi's model entry", base)?,
            (None, None) => region.map(Endpoint::of_region).unwrap_or_default(),
        };
        let endpoint = match present(&request.models_json_base_url) {
            Some(base) if own.as_ref().is_none_or(|(_, layer)| *layer < Layer::Variable) => {
                from_source("models.json", base)?
            }
            _ => login_endpoint.clone(),
        };
        let region_is_open =
            region.is_none() && oauth_host.is_none() && own.is_none() && login_endpoint.region().is_some();
        Ok(Self { endpoint, login_endpoint, oauth_host, region_is_open })
    }
}

fn present(base: &Option<String>) -> Option<&str> {
    base.as_deref().map(str::trim).filter(|base| !base.is_empty())
}

fn from_source(source: &str, base: &str) -> Result<Endpoint> {
    Endpoint::from_base(base).map_err(|error| Error { message: format!("{source}: {}", error.message), ..error })
}
