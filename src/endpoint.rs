//! Every URL of the service, derived from one configured base.
//!
//! People configure the base with and without a final `/v1`, with and without slashes; the official client, Pi and the
//! TypeScript extension each expect another form. Here it is reduced to its root once, and both dialects append `/v1/…`
//! (protocol reference §1.2).

use url::Url;

use crate::error::{Error, ErrorKind, Result};

/// API root of the mainland region, the default (protocol reference §1.1).
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

    /// The root itself, for display and for Pi's model entries.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// `POST`, OpenAI dialect.
    pub fn chat_completions(&self) -> String {
        format!("{}/v1/chat/completions", self.root)
    }

    /// `POST`, uploads.
    pub fn files(&self) -> String {
        format!("{}/v1/files", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(endpoint.files(), "https://api.kimi.com/coding/v1/files", "{base}");
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
