//! Every URL of the service, derived from one configured base.
//!
//! People configure the base with and without a final `/v1`, with and without slashes; the official client, Pi and the
//! TypeScript extension each expect another form. Here it is reduced to its root once, and both dialects append `/v1/…`
//! (docs/protocol.md#base-url). A login belongs to one pair of OAuth host and API base; its [`CredentialScope`] names the file
//! that holds it (docs/protocol.md#credential-scopes), so that a test host or the other region can never touch the default login.

use sha2::{Digest, Sha256};
use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// API root of the mainland region, the default (docs/protocol.md#hosts-and-regions).
pub const DEFAULT_BASE_URL: &str = "https://api.kimi.com/coding";

/// The API root of one deployment: no trailing slash, no final `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    root: String,
}

impl Endpoint {
    /// Accepts `https://host/path`, with or without a final `/v1` and slashes.
    pub fn from_base(base: &str) -> Result<Self> {
        let invalid = |why: &str| {
            Error::new(
                ErrorKind::Config,
                format!("the Kimi base URL {base:?} is unusable: {why} (expected something like {DEFAULT_BASE_URL})"),
            )
        };
        let mut url = Url::parse(base.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("only http and https are supported"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Error::new(
                ErrorKind::Config,
                "the Kimi base URL must not contain a user name or password; use KIMI_API_KEY for the key",
            ));
        }
        url.set_query(None);
        url.set_fragment(None);
        let text = url.as_str().trim_end_matches('/');
        let root = text.strip_suffix("/v1").unwrap_or(text).trim_end_matches('/');
        Ok(Self { root: root.to_owned() })
    }

    /// The base as the official client writes it: root and `/v1`.
    pub fn v1(&self) -> String {
        format!("{}/v1", self.root)
    }

    /// The region this is the API of, if it is one of the two public ones.
    pub fn region(&self) -> Option<Region> {
        Region::ALL.into_iter().find(|region| region.base_url() == self.root)
    }

    /// The root itself, for display and for Pi's model entries.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// `POST`, OpenAI dialect.
    pub fn chat_completions(&self) -> String {
        format!("{}/v1/chat/completions", self.root)
    }

    /// `POST`, Anthropic dialect.
    pub fn messages(&self) -> String {
        format!("{}/v1/messages", self.root)
    }

    /// `POST`, uploads.
    pub fn files(&self) -> String {
        format!("{}/v1/files", self.root)
    }

    /// `POST`, web search.
    pub fn search(&self) -> String {
        format!("{}/v1/search", self.root)
    }

    /// `POST`, a page as text.
    pub fn fetch(&self) -> String {
        format!("{}/v1/fetch", self.root)
    }

    /// `POST`, data sources.
    pub fn tools(&self) -> String {
        format!("{}/v1/tools", self.root)
    }
}

/// One of the two public deployments (docs/protocol.md#hosts-and-regions). Accounts, tokens and hosts of one mean nothing to the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// `kimi.com`.
    MainlandCn,
    /// `kimi.ai`.
    Global,
}

impl Region {
    /// Both.
    pub const ALL: [Self; 2] = [Self::MainlandCn, Self::Global];

    /// The name used in settings, in kimi-code's `region` file and in its command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::MainlandCn => "mainland-cn",
            Self::Global => "global",
        }
    }

    /// The region of that name.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|region| region.id() == id.trim())
    }

    /// Where tokens come from.
    pub fn oauth_host(self) -> &'static str {
        match self {
            Self::MainlandCn => "https://auth.kimi.com",
            Self::Global => "https://auth.kimi.ai",
        }
    }

    /// API root.
    pub fn base_url(self) -> &'static str {
        match self {
            Self::MainlandCn => DEFAULT_BASE_URL,
            Self::Global => "https://api.kimi.ai/coding",
        }
    }
}

/// The credential scope of one pair of OAuth host and API base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialScope {
    oauth_host: String,
    base_url: String,
}

impl CredentialScope {
    /// The scope of these two. Only http(s) hosts without user names are taken: tokens are posted there.
    pub fn new(oauth_host: &str, endpoint: &Endpoint) -> Result<Self> {
        let invalid = || {
            Error::new(
                ErrorKind::Config,
                "the Kimi OAuth host is unusable (expected something like https://auth.kimi.com)",
            )
        };
        let host = oauth_host.trim().trim_end_matches('/');
        let url = Url::parse(host).map_err(|_| invalid())?;
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !matches!(url.scheme(), "http" | "https") || !plain {
            return Err(invalid());
        }
        Ok(Self { oauth_host: host.to_owned(), base_url: endpoint.v1() })
    }

    /// The scope of a region's own login.
    pub fn of_region(region: Region) -> Self {
        Self { oauth_host: region.oauth_host().to_owned(), base_url: format!("{}/v1", region.base_url()) }
    }

    /// Where tokens come from, without a trailing slash.
    pub fn oauth_host(&self) -> &str {
        &self.oauth_host
    }

    /// API root, without `/v1`.
    pub fn base_url(&self) -> &str {
        self.base_url.strip_suffix("/v1").unwrap_or(&self.base_url)
    }

    /// The one slot whose files carry no suffix.
    pub fn is_default(&self) -> bool {
        *self == Self::of_region(Region::MainlandCn)
    }

    /// Stem of the credential file and of the lock (docs/protocol.md#credential-scopes).
    pub fn name(&self) -> String {
        if self.is_default() {
            return "kimi-code".to_owned();
        }
        let scope = serde_json::json!({ "oauthHost": self.oauth_host, "baseUrl": self.base_url }).to_string();
        let hash = Sha256::digest(scope.as_bytes());
        format!("kimi-code-env-{}", hex::encode(&hash[..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File names of the official client (docs/protocol.md#credential-scopes).
    #[test]
    fn slots_are_named_exactly_as_the_official_client_names_them() {
        assert_eq!(CredentialScope::of_region(Region::MainlandCn).name(), "kimi-code");
        assert_eq!(CredentialScope::of_region(Region::Global).name(), "kimi-code-env-0e4f99c69cc27850");
        let local = Endpoint::from_base("http://127.0.0.1:18787/coding").unwrap();
        let slot = CredentialScope::new("http://127.0.0.1:18787/", &local).unwrap();
        assert_eq!(slot.name(), "kimi-code-env-89494f7cfcc7062e");
        let default = Endpoint::from_base("https://api.kimi.com/coding/v1/").unwrap();
        assert!(CredentialScope::new(" https://auth.kimi.com/ ", &default).unwrap().is_default());
    }

    #[test]
    fn a_custom_host_never_shares_the_default_slot() {
        let default = Endpoint::from_base(DEFAULT_BASE_URL).unwrap();
        assert_ne!(CredentialScope::new("http://127.0.0.1:1", &default).unwrap().name(), "kimi-code");
        let local = Endpoint::from_base("http://127.0.0.1:1/coding").unwrap();
        assert_ne!(CredentialScope::new("https://auth.kimi.com", &local).unwrap().name(), "kimi-code");
        assert!(CredentialScope::new("https://user:pw@auth.kimi.com", &default).is_err());
        assert!(CredentialScope::new("file:///etc", &default).is_err());
    }

    #[test]
    fn the_configured_base_may_end_in_anything() {
        for base in [
            "https://api.kimi.com/coding",
            "https://api.kimi.com/coding/",
            "https://api.kimi.com/coding/v1",
            " https://api.kimi.com/coding/v1// ",
        ] {
            let endpoint = Endpoint::from_base(base).unwrap();
            assert_eq!(endpoint.chat_completions(), "https://api.kimi.com/coding/v1/chat/completions", "{base}");
            assert_eq!(endpoint.messages(), "https://api.kimi.com/coding/v1/messages", "{base}");
        }
        let proxied = Endpoint::from_base("http://proxy.example:8080/kimi").unwrap();
        assert_eq!(proxied.chat_completions(), "http://proxy.example:8080/kimi/v1/chat/completions");
    }

    #[test]
    fn an_unusable_base_names_itself_but_never_a_password() {
        assert!(Endpoint::from_base("kimi").unwrap_err().message.contains("\"kimi\""));
        assert_eq!(Endpoint::from_base("ftp://api.kimi.com").unwrap_err().kind, ErrorKind::Config);
        let error = Endpoint::from_base("https://me:hunter2@api.kimi.com").unwrap_err();
        assert!(!error.message.contains("hunter2"));
    }
}
