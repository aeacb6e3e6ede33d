//! What the environment says, read once per request.
//!
//! The environment is handed over by JavaScript instead of being read here: a change of `process.env` counts from the next
//! request on, worker threads have environments of their own, and reading it from another thread is a data race in libc
//! (napi-stack §4.3). Names: protocol reference §1.3, kimi-code-2.1 §11; ours are listed in docs/ENV.md.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::auth::Places;
use crate::chat::dialect::Dialect;
use crate::chat::thinking::Wishes;
use crate::chat::watchdog::Limits;
use crate::endpoint::{DEFAULT_BASE_URL, Endpoint, Region};
use crate::error::{Error, ErrorKind, Result};
use crate::files::UploadSettings;
use crate::http::NetworkSettings;
use crate::identity::{Identity, custom_headers};
use crate::retry::RetryPolicy;

/// Environment variables as JavaScript sees them. Blank values count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Wraps a snapshot.
    pub fn new(variables: HashMap<String, String>) -> Self {
        Self(variables)
    }

    /// The trimmed value, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn either(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| self.get(&name.to_ascii_uppercase()))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| invalid(name, text, expected))
    }
}

fn invalid(name: &str, value: &str, expected: &str) -> Error {
    Error::new(ErrorKind::Config, format!("environment variable {name} is {value:?}, expected {expected}"))
}

/// Everything a request needs to know besides its content.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the service is.
    pub endpoint: Endpoint,
    /// `KIMI_CODE_PROTOCOL`; a model's own protocol wins over it.
    pub dialect: Option<Dialect>,
    /// `KIMI_API_KEY`.
    pub api_key: Option<String>,
    /// Where logins are kept.
    pub places: Places,
    /// `KIMI_CODE_OAUTH_HOST`, `KIMI_OAUTH_HOST`.
    pub oauth_host: Option<String>,
    /// `KIMI_CODE_REGION`.
    pub region: Option<Region>,
    /// Neither base, host nor region are chosen, so that a login decides where to go.
    pub region_is_open: bool,
    /// `KIMI_CODE_IDENTITY`.
    pub identity: Identity,
    /// `KIMI_CODE_CUSTOM_HEADERS`, already checked.
    pub custom_headers: Vec<(String, String)>,
    /// Proxies and certificates.
    pub network: NetworkSettings,
    /// Clocks.
    pub limits: Limits,
    /// Retries.
    pub retry: RetryPolicy,
    /// Thinking beyond Pi's level.
    pub thinking: Wishes,
    /// `KIMI_MODEL_TEMPERATURE`.
    pub temperature: Option<f64>,
    /// `KIMI_MODEL_TOP_P`.
    pub top_p: Option<f64>,
    /// `KIMI_MODEL_MAX_COMPLETION_TOKENS`, an upper bound.
    pub max_completion_tokens: Option<u64>,
    /// `PI_CACHE_RETENTION=none`.
    pub without_cache_key: bool,
    /// Which media are uploaded.
    pub uploads: UploadSettings,
    /// Our directory in the person's home; absent where nobody is at home.
    pub state: Option<PathBuf>,
}

impl Config {
    /// Reads the environment. `model_base` is the base URL of Pi's model entry, used where the environment names none.
    pub fn from_environment(environment: &Environment, model_base: Option<&str>) -> Result<Self> {
        let limits = limits(environment)?;
        let endpoint = Endpoint::from_base(base_url(environment, model_base))?;
        let oauth_host = first(environment, &["KIMI_CODE_OAUTH_HOST", "KIMI_OAUTH_HOST"]).map(str::to_owned);
        let region = region(environment)?;
        Ok(Self {
            dialect: dialect(environment)?,
            region_is_open: region.is_none()
                && oauth_host.is_none()
                && endpoint.region().is_some()
                && chosen_base(environment).is_none(),
            endpoint,
            places: Places::from_environment(environment),
            oauth_host,
            region,
            identity: identity(environment)?,
            api_key: environment.get("KIMI_API_KEY").map(str::to_owned),
            custom_headers: environment.get("KIMI_CODE_CUSTOM_HEADERS").map(custom_headers).unwrap_or_default(),
            network: NetworkSettings {
                http_proxy: environment.either("http_proxy").map(str::to_owned),
                https_proxy: environment.either("https_proxy").map(str::to_owned),
                all_proxy: environment.either("all_proxy").map(str::to_owned),
                no_proxy: environment.either("no_proxy").map(str::to_owned),
                extra_ca: environment.get("NODE_EXTRA_CA_CERTS").map(PathBuf::from),
                ca_file: environment.get("SSL_CERT_FILE").map(PathBuf::from),
                ca_directories: environment.get("SSL_CERT_DIR").map(str::to_owned),
                connect_timeout: limits.connect,
            },
            limits,
            retry: RetryPolicy {
                attempts: environment
                    .number::<u32>("KIMI_LOOP_MAX_ATTEMPTS_PER_STEP", "a number of attempts, at least 1")?
                    .unwrap_or(RetryPolicy::default().attempts)
                    .max(1),
                ..RetryPolicy::default()
            },
            thinking: Wishes {
                keep: thinking_keep(environment),
                effort: environment.get("KIMI_MODEL_THINKING_EFFORT").map(str::to_owned),
            },
            temperature: environment.number("KIMI_MODEL_TEMPERATURE", "a number")?,
            top_p: environment.number("KIMI_MODEL_TOP_P", "a number")?,
            max_completion_tokens: environment
                .number::<i64>("KIMI_MODEL_MAX_COMPLETION_TOKENS", "a number of tokens")?
                .and_then(|tokens| u64::try_from(tokens).ok())
                .filter(|tokens| *tokens > 0),
            without_cache_key: environment.get("PI_CACHE_RETENTION") == Some("none"),
            uploads: uploads(environment)?,
            state: home(environment).map(|home| home.join(".pi").join("pi-provider-kimi-code")),
        })
    }
}

/// The base URL that counts: environment, then Pi's model entry, then the region, then the default.
pub fn base_url<'a>(environment: &'a Environment, model_base: Option<&'a str>) -> &'a str {
    chosen_base(environment)
        .or_else(|| model_base.filter(|base| !base.trim().is_empty()))
        .or_else(|| region(environment).ok().flatten().map(Region::base_url))
        .unwrap_or(DEFAULT_BASE_URL)
}

fn dialect(environment: &Environment) -> Result<Option<Dialect>> {
    const NAME: &str = "KIMI_CODE_PROTOCOL";
    let Some(value) = environment.get(NAME) else { return Ok(None) };
    Dialect::named(value).map(Some).ok_or_else(|| invalid(NAME, value, "openai or anthropic"))
}

/// The base URL that the user named.
fn chosen_base(environment: &Environment) -> Option<&str> {
    first(environment, &["KIMI_CODE_BASE_URL", "KIMI_BASE_URL"])
}

fn first<'a>(environment: &'a Environment, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| environment.get(name))
}

fn region(environment: &Environment) -> Result<Option<Region>> {
    let Some(text) = environment.get("KIMI_CODE_REGION") else { return Ok(None) };
    Region::from_id(text).map(Some).ok_or_else(|| invalid("KIMI_CODE_REGION", text, "\"mainland-cn\" or \"global\""))
}

fn identity(environment: &Environment) -> Result<Identity> {
    match environment.get("KIMI_CODE_IDENTITY") {
        None | Some("honest") => Ok(Identity::Honest),
        Some("kimi-code") => Ok(Identity::KimiCode),
        Some(text) => Err(invalid("KIMI_CODE_IDENTITY", text, "\"honest\" or \"kimi-code\"")),
    }
}

/// Earlier reasoning is kept unless somebody says otherwise (kimi-code-2.1 §6.1).
fn thinking_keep(environment: &Environment) -> Option<String> {
    match environment.get("KIMI_MODEL_THINKING_KEEP") {
        None => Some("all".to_owned()),
        Some("0" | "false" | "no" | "off" | "none" | "null") => None,
        Some(other) => Some(other.to_owned()),
    }
}

fn home(environment: &Environment) -> Option<PathBuf> {
    environment.get("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}

fn uploads(environment: &Environment) -> Result<UploadSettings> {
    let size = |name: &str, default: u64| -> Result<u64> {
        Ok(environment.number(name, "a number of bytes")?.unwrap_or(default))
    };
    let default = UploadSettings::default();
    Ok(UploadSettings {
        threshold: size("KIMI_CODE_UPLOAD_THRESHOLD_BYTES", default.threshold)?,
        budget: size("KIMI_CODE_BODY_BUDGET_BYTES", default.budget)?,
        inline_limit: size("KIMI_CODE_INLINE_LIMIT_BYTES", default.inline_limit)?,
        timeout: clock(environment, "KIMI_CODE_UPLOAD_TIMEOUT_MS", default.timeout)?,
    })
}

fn clock(environment: &Environment, name: &str, default: Option<Duration>) -> Result<Option<Duration>> {
    Ok(match environment.number::<u64>(name, "milliseconds, or 0 for no limit")? {
        None => default,
        Some(0) => None,
        Some(millis) => Some(Duration::from_millis(millis)),
    })
}

fn limits(environment: &Environment) -> Result<Limits> {
    let clock = |name: &str, default: Option<Duration>| clock(environment, name, default);
    let default = Limits::default();
    let first = clock("KIMI_CODE_FIRST_TIMEOUT_MS", default.first)?;
    let said = environment.get("KIMI_CODE_FIRST_TIMEOUT_MS").is_some();
    Ok(Limits {
        connect: clock("KIMI_CODE_CONNECT_TIMEOUT_MS", default.connect)?,
        headers: clock("KIMI_CODE_HEADERS_TIMEOUT_MS", default.headers)?,
        first,
        first_long: if said { first } else { default.first_long },
        gap_text: clock("KIMI_CODE_GAP_TIMEOUT_MS", default.gap_text)?,
        gap_thinking: clock("KIMI_CODE_THINKING_GAP_TIMEOUT_MS", default.gap_thinking)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config> {
        let map = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::from_environment(&Environment::new(map), Some("https://model.example/coding"))
    }

    #[test]
    fn the_base_url_comes_from_the_environment_then_the_model_then_the_default() {
        let root = |variables: &[(&str, &str)]| config(variables).unwrap().endpoint.root().to_owned();
        assert_eq!(root(&[("KIMI_CODE_BASE_URL", "https://a/x"), ("KIMI_BASE_URL", "https://b")]), "https://a/x");
        assert_eq!(root(&[("KIMI_CODE_BASE_URL", " "), ("KIMI_BASE_URL", "https://b/v1")]), "https://b");
        assert_eq!(root(&[]), "https://model.example/coding");
        let none = Config::from_environment(&Environment::default(), None).unwrap();
        assert_eq!(none.endpoint.root(), DEFAULT_BASE_URL);
    }

    #[test]
    fn a_region_is_chosen_by_name_and_outranked_by_hosts() {
        let of = |variables: &[(&str, &str)]| {
            let map = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Config::from_environment(&Environment::new(map), None)
        };
        assert!(of(&[]).unwrap().region_is_open);
        let global = of(&[("KIMI_CODE_REGION", "global")]).unwrap();
        assert_eq!(global.endpoint.region(), Some(Region::Global));
        assert!(!global.region_is_open);
        let custom = of(&[("KIMI_CODE_REGION", "global"), ("KIMI_BASE_URL", "http://127.0.0.1:1/coding")]).unwrap();
        assert_eq!(custom.endpoint.root(), "http://127.0.0.1:1/coding");
        assert!(of(&[("KIMI_CODE_REGION", "mars")]).unwrap_err().message.contains("\"mainland-cn\" or \"global\""));
    }

    #[test]
    fn a_bad_value_names_its_variable_and_what_was_expected() {
        let error = config(&[("KIMI_MODEL_TEMPERATURE", "warm")]).unwrap_err();
        assert_eq!(error.message, "environment variable KIMI_MODEL_TEMPERATURE is \"warm\", expected a number");
    }

    #[test]
    fn the_dialect_is_one_of_two_names() {
        assert_eq!(config(&[("KIMI_CODE_PROTOCOL", "anthropic")]).unwrap().dialect, Some(Dialect::Anthropic));
        assert_eq!(config(&[("KIMI_CODE_PROTOCOL", " ")]).unwrap().dialect, None);
        let error = config(&[("KIMI_CODE_PROTOCOL", "claude")]).unwrap_err();
        assert_eq!(
            error.message,
            "environment variable KIMI_CODE_PROTOCOL is \"claude\", expected openai or anthropic"
        );
    }

    #[test]
    fn proxies_are_found_in_either_case() {
        let network = config(&[("HTTPS_PROXY", "http://p:1"), ("all_proxy", "socks5://q:2")]).unwrap().network;
        assert_eq!(network.https_proxy.as_deref(), Some("http://p:1"));
        assert_eq!(network.all_proxy.as_deref(), Some("socks5://q:2"));
    }

    #[test]
    fn clocks_are_set_in_milliseconds_and_switched_off_with_zero() {
        let limits =
            config(&[("KIMI_CODE_GAP_TIMEOUT_MS", "0"), ("KIMI_CODE_FIRST_TIMEOUT_MS", "1500")]).unwrap().limits;
        assert_eq!(limits.gap_text, None);
        assert_eq!(limits.first_long, Some(Duration::from_millis(1500)));
    }

    #[test]
    fn keeping_earlier_reasoning_can_be_switched_off() {
        assert_eq!(config(&[]).unwrap().thinking.keep.as_deref(), Some("all"));
        assert_eq!(config(&[("KIMI_MODEL_THINKING_KEEP", "none")]).unwrap().thinking.keep, None);
        assert_eq!(config(&[("KIMI_MODEL_THINKING_KEEP", "last")]).unwrap().thinking.keep.as_deref(), Some("last"));
    }
}
