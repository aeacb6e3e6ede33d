//! Every URL of the service, derived from one configured base.
//!
//! A base is configured with and without a final `/v1`, with and without slashes; the official client, Pi and the TypeScript
//! extension each expect another form. It is reduced to its root once, and both dialects append `/v1/…`
//! (docs/protocol.md#base-url). A login belongs to one pair of OAuth host and API base; its [`CredentialScope`] names the file
//! that holds it (docs/protocol.md#credential-scopes), so that a test host or the other region never touches the default login.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::{ParseError, Url};

use crate::error::{Error, ErrorKind, Result};

/// API root of the mainland region, the default (docs/protocol.md#hosts-and-regions).
pub const DEFAULT_BASE_URL: &str = "https://api.kimi.com/coding";

/// The API root of one deployment: no trailing slash, no final `/v1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    root: String,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::of_region(Region::MainlandCn)
    }
}

impl Endpoint {
    /// Returns the API of a public region.
    pub fn of_region(region: Region) -> Self {
        Self { root: region.base_url().to_owned() }
    }

    /// Reads `https://host/path`, with or without a final `/v1` and slashes.
    pub fn from_base(base: &str) -> Result<Self> {
        let mut url = http_url(base).map_err(|why| {
            let message = format!("the Kimi base URL {why} (expected something like {DEFAULT_BASE_URL})");
            Error::new(ErrorKind::Config, message)
        })?;
        url.set_query(None);
        url.set_fragment(None);
        let text = url.as_str().trim_end_matches('/');
        let root = text.strip_suffix("/v1").unwrap_or(text).trim_end_matches('/');
        Ok(Self { root: root.to_owned() })
    }

    /// Returns the base as the official client writes it: root and `/v1`.
    pub fn v1(&self) -> String {
        format!("{}/v1", self.root)
    }

    /// Returns the public region whose API this is, if it is one.
    pub fn region(&self) -> Option<Region> {
        Region::ALL.into_iter().find(|region| region.base_url() == self.root)
    }

    /// Returns the root, for display and for Pi's model entries.
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

/// Parses an http(s) address without user name and password. The error completes "the address …"; it quotes the text only if
/// that cannot hold a secret.
pub fn http_url(text: &str) -> std::result::Result<Url, String> {
    let text = text.trim();
    let quoted = if is_quotable(text) { format!("{text:?} ") } else { String::new() };
    let url = parse_url(text).map_err(|error| match error {
        ParseError::IdnaError => {
            format!("{quoted}is unusable: write a host name with other than ASCII letters as Punycode")
        }
        error => format!("{quoted}is unusable: {error}"),
    })?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{quoted}is unusable: it is not an http or https address"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("is unusable: it holds a user name or password; KIMI_API_KEY takes a key".to_owned());
    }
    Ok(url)
}

/// Parses a URL whose host is in ASCII. One with other letters is refused before it is parsed, because `idna` without its Unicode tables
/// asserts in debug builds that there are no capital letters beside them.
pub fn parse_url(text: &str) -> std::result::Result<Url, ParseError> {
    let rest = text.split_once(':').map_or("", |(_, rest)| rest).trim_start_matches(['/', '\\', '\t', '\n', '\r']);
    let authority = rest.split(['/', '\\', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.is_ascii() && !host.contains('%') { Url::parse(text) } else { Err(ParseError::IdnaError) }
}

/// Whether nothing in this address can be a key, a password or a query: short words of host names and paths.
fn is_quotable(text: &str) -> bool {
    const LONGEST_WORD: usize = 19;
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '.']).all(|word| {
        word.len() <= LONGEST_WORD
            && !word.starts_with("sk-")
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    })
}

/// One of the two public deployments (docs/protocol.md#hosts-and-regions). Accounts, tokens and hosts of one mean nothing to the
/// other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// `kimi.com`.
    MainlandCn,
    /// `kimi.ai`.
    Global,
}

impl Region {
    /// Both.
    pub const ALL: [Self; 2] = [Self::MainlandCn, Self::Global];

    /// Returns the name used in settings, in kimi-code's `region` file and in its command line.
    pub fn id(self) -> &'static str {
        match self {
            Self::MainlandCn => "mainland-cn",
            Self::Global => "global",
        }
    }

    /// Finds a region by its name.
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
    /// Builds the scope. The host must be an http(s) address without user name and query: tokens are posted there.
    pub fn new(oauth_host: &str, endpoint: &Endpoint) -> Result<Self> {
        let invalid = |why: &str| {
            let message = format!("the Kimi OAuth host {why} (expected something like https://auth.kimi.com)");
            Error::new(ErrorKind::Config, message)
        };
        let host = oauth_host.trim().trim_end_matches('/');
        let url = http_url(host).map_err(|why| invalid(&why))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("is unusable: it holds a query"));
        }
        Ok(Self { oauth_host: host.to_owned(), base_url: endpoint.v1() })
    }

    /// Returns the scope of a region's own login.
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

    /// Whether this is the one scope whose files carry no suffix.
    pub fn is_default(&self) -> bool {
        *self == Self::of_region(Region::MainlandCn)
    }

    /// Returns the stem of the credential file and of the lock (docs/protocol.md#credential-scopes).
    pub fn name(&self) -> String {
        if self.is_default() {
            return "kimi-code".to_owned();
        }
        let pair = serde_json::json!({ "oauthHost": self.oauth_host, "baseUrl": self.base_url }).to_string();
        let hash = Sha256::digest(pair.as_bytes());
        format!("kimi-code-env-{}", hex::encode(&hash[..8]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// File names of the official client (docs/protocol.md#credential-scopes).
    #[test]
    fn credential_scope_named_as_the_official_client_names_it() {
        assert_eq!(CredentialScope::of_region(Region::MainlandCn).name(), "kimi-code");
        assert_eq!(CredentialScope::of_region(Region::Global).name(), "kimi-code-env-0e4f99c69cc27850");
        let local = Endpoint::from_base("http://127.0.0.1:18787/coding").unwrap();
        let scope = CredentialScope::new("http://127.0.0.1:18787/", &local).unwrap();
        assert_eq!(scope.name(), "kimi-code-env-89494f7cfcc7062e");
        let default = Endpoint::from_base("https://api.kimi.com/coding/v1/").unwrap();
        assert!(CredentialScope::new(" https://auth.kimi.com/ ", &default).unwrap().is_default());
    }

    #[test]
    fn credential_scope_custom_host_never_shares_the_default_file() {
        let default = Endpoint::from_base(DEFAULT_BASE_URL).unwrap();
        assert_ne!(CredentialScope::new("http://127.0.0.1:1", &default).unwrap().name(), "kimi-code");
        let local = Endpoint::from_base("http://127.0.0.1:1/coding").unwrap();
        assert_ne!(CredentialScope::new("https://auth.kimi.com", &local).unwrap().name(), "kimi-code");
        assert!(CredentialScope::new("https://user:pw@auth.kimi.com", &default).is_err());
        assert!(CredentialScope::new("file:///etc", &default).is_err());
    }

    #[test]
    fn base_url_with_other_letters_in_its_host_is_asked_for_as_punycode() {
        for base in [
            "https://k\u{e4}mi.com",
            "https:KIMI\u{e4}.com/v1",
            "http://me:pw@K\u{0130}.com",
            "https:/\t/A\u{e4}",
            "https://A%C3%84.com",
        ] {
            let error = Endpoint::from_base(base).unwrap_err();
            assert!(error.message.contains("Punycode"), "{base}: {error}");
        }
        assert!(Endpoint::from_base("https://xn--kmi-qla.com/p\u{e4}th%20?q=\u{e4}").is_ok());
    }

    #[test]
    fn base_url_may_end_in_slashes_and_v1() {
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
    fn base_url_unusable_is_quoted_unless_it_may_hold_a_secret() {
        assert!(Endpoint::from_base("kimi").unwrap_err().message.contains("\"kimi\""));
        assert_eq!(Endpoint::from_base("ftp://api.kimi.com").unwrap_err().kind, ErrorKind::Config);
        let error = Endpoint::from_base("https://me:hunter2@api.kimi.com").unwrap_err();
        assert!(!error.message.contains("hunter2"));
        for secret in
            ["me:hunter2@kimi", "sk-kimi-hunter2", "https://kimi:hunter2", "kimi?key=hunter2", "hunter2hunter2hunter2"]
        {
            let error = Endpoint::from_base(secret).unwrap_err();
            assert!(!error.message.contains("hunter2"), "{}", error.message);
        }
    }
}
