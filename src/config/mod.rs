//! What a person and the environment have decided, read once per request.
//!
//! Settings come in layers ([`layers`]): defaults, the home file, the project file, variables, overrides. One table ([`keys`])
//! says what each of them accepts. What is no setting – proxies, certificates, the API key – comes from the environment
//! alone. Names: docs/protocol.md#environment-variables; ours are listed in docs/ENV.md and docs/settings.md.

mod edit;
mod environment;
mod identity;
mod keys;
mod kind;
mod layers;
mod legacy;
mod network;
mod paths;
mod protocol;
mod retry;
mod settings;
#[cfg(test)]
mod tests;
mod thinking;
mod timeouts;
mod uploads;

use std::path::PathBuf;
use std::time::Duration;

pub use self::edit::{Scope, set};
pub use self::environment::Environment;
pub use self::identity::{Identity, ascii, custom_headers};
pub use self::keys::{KEYS, Key, SettingScope, schema};
pub use self::kind::ValueKind;
pub use self::layers::{FILE_NAME, Files, Layers, Problem, load};
pub use self::network::NetworkSettings;
pub use self::paths::Paths;
pub use self::protocol::Dialect;
pub use self::retry::RetryPolicy;
pub use self::settings::{ModelOverrides, Settings, Tool, Uploads};
pub use self::thinking::ThinkingPreference;
pub use self::timeouts::TimeoutLimits;
pub use self::uploads::UploadLimits;

use crate::endpoint::{DEFAULT_BASE_URL, Endpoint, Region};
use crate::error::Result;

/// Everything a request needs to know besides its content.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the service is.
    pub endpoint: Endpoint,
    /// Where the catalog names no dialect.
    pub dialect: Option<Dialect>,
    /// `KIMI_API_KEY`.
    pub api_key: Option<String>,
    /// Where logins are kept.
    pub paths: Paths,
    /// `oauthHost`.
    pub oauth_host: Option<String>,
    /// `region`, unless it is left open.
    pub region: Option<Region>,
    /// Neither base, host nor region are chosen, so that a login decides where to go.
    pub region_is_open: bool,
    /// As whom we introduce ourselves.
    pub identity: Identity,
    /// `KIMI_CODE_CUSTOM_HEADERS`, already checked.
    pub custom_headers: Vec<(String, String)>,
    /// Proxies and certificates.
    pub network: NetworkSettings,
    /// Clocks.
    pub limits: TimeoutLimits,
    /// Retries.
    pub retry: RetryPolicy,
    /// All settings.
    pub settings: Settings,
    /// Where our own state lives; `None` without a home.
    pub state_directory: Option<PathBuf>,
    /// IANA name of the person's time zone.
    pub time_zone: Option<String>,
    /// `PI_CACHE_RETENTION=none`.
    pub without_cache_key: bool,
    /// `KIMI_DATASOURCE_API_URL`: the complete address of the data sources, wherever they are instead of below the API root.
    pub datasource_url: Option<String>,
}

impl Config {
    /// Reads settings files and environment; blocks on two small files. `model_base` is the base URL of Pi's model entry, used where
    /// nobody names one. Settings that make no sense are left out here; [`load`] tells which.
    pub fn from_environment(environment: &Environment, model_base: Option<&str>) -> Result<Self> {
        let settings = load(environment).settings;
        let limits = limits(&settings);
        let endpoint = Endpoint::from_base(base_url(&settings, model_base))?;
        let region = Region::from_id(&settings.region);
        let text = |name: &str| environment.either(name).map(str::to_owned);
        Ok(Self {
            region_is_open: region.is_none()
                && settings.oauth_host.is_none()
                && settings.base_url.is_none()
                && endpoint.region().is_some(),
            endpoint,
            paths: Paths::from_environment(environment),
            oauth_host: settings.oauth_host.clone(),
            region,
            identity: if settings.identity == "kimi-code" { Identity::KimiCode } else { Identity::Honest },
            dialect: Dialect::named(&settings.protocol),
            api_key: environment.get("KIMI_API_KEY").map(str::to_owned),
            custom_headers: environment.get("KIMI_CODE_CUSTOM_HEADERS").map(custom_headers).unwrap_or_default(),
            network: NetworkSettings {
                http_proxy: text("http_proxy"),
                https_proxy: text("https_proxy"),
                all_proxy: text("all_proxy"),
                no_proxy: text("no_proxy"),
                extra_ca: environment.get("NODE_EXTRA_CA_CERTS").map(PathBuf::from),
                ca_file: environment.get("SSL_CERT_FILE").map(PathBuf::from),
                ca_directories: environment.get("SSL_CERT_DIR").map(str::to_owned),
                connect_timeout: limits.connect,
            },
            limits,
            retry: RetryPolicy {
                attempts: settings.retry.attempts.max(1),
                max_delay: Duration::from_millis(settings.retry.max_delay_ms),
            },
            settings,
            state_directory: environment.state_directory(),
            time_zone: environment.get("TZ").map(str::to_owned),
            without_cache_key: environment.get("PI_CACHE_RETENTION") == Some("none"),
            datasource_url: environment.get("KIMI_DATASOURCE_API_URL").map(|url| url.trim().to_owned()),
        })
    }

    /// What the person wants of this model's reasoning beyond Pi's level.
    pub fn thinking(&self, model: &str) -> ThinkingPreference {
        let wishes = self.settings.wishes(model).thinking;
        ThinkingPreference { keep: wishes.keep.filter(|keep| keep != "none"), effort: wishes.effort }
    }

    /// Which media are uploaded.
    pub fn uploads(&self) -> UploadLimits {
        let said = &self.settings.uploads;
        UploadLimits {
            threshold: said.threshold_bytes,
            budget: said.total_bytes,
            inline_limit: said.inline_limit_bytes,
            timeout: (said.timeout_ms > 0).then(|| Duration::from_millis(said.timeout_ms)),
        }
    }

    /// Upper bound of the output cap for this model.
    pub fn max_completion_tokens(&self, model: &str) -> Option<u64> {
        self.settings.wishes(model).max_completion_tokens.filter(|tokens| *tokens > 0)
    }
}

/// The base URL that counts: what the person set, then Pi's model entry, then the region, then the default.
pub fn base_url<'a>(settings: &'a Settings, model_base: Option<&'a str>) -> &'a str {
    settings
        .base_url
        .as_deref()
        .or_else(|| model_base.filter(|base| !base.trim().is_empty()))
        .or_else(|| Region::from_id(&settings.region).map(Region::base_url))
        .unwrap_or(DEFAULT_BASE_URL)
}

fn limits(settings: &Settings) -> TimeoutLimits {
    let clock = |millis: u64| (millis > 0).then(|| Duration::from_millis(millis));
    let said = &settings.limits;
    let default = TimeoutLimits::default();
    TimeoutLimits {
        connect: clock(said.connect_ms),
        headers: clock(said.headers_ms),
        first: said.first_ms.map_or(default.first, clock),
        first_long: said.first_ms.map_or(default.first_long, clock),
        idle_text: clock(said.gap_ms),
        idle_thinking: clock(said.thinking_gap_ms),
    }
}
