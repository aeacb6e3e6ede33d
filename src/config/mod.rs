//! Settings and environment, read once per request.
//!
//! Settings come in layers ([`layers`]): defaults, the home file, the project file, variables, the program. One table ([`keys`])
//! says what each of them accepts. Proxies, certificates and the API key come from the environment alone. Names:
//! docs/protocol.md#environment-variables; docs/ENV.md and docs/settings.md describe them.

mod address;
mod edit;
mod environment;
mod headers;
mod keys;
mod layers;
mod legacy;
mod network;
mod paths;
mod protocol;
mod quota;
mod recording;
mod retry;
mod settings;
#[cfg(test)]
mod tests;
mod thinking;
mod timeouts;
mod uploads;
mod values;

use std::path::PathBuf;

use self::address::AppliedAddresses;
pub use self::address::{NamedAddresses, RequestAddresses};
pub use self::edit::{Scope, set, set_text};
pub use self::environment::Environment;
pub use self::headers::{Identity, ascii, custom_headers, is_of_connection, is_of_every_request};
pub use self::keys::{KEYS, SettingKey, SettingScope, schema, setting_path, values as setting_values};
pub use self::layers::{FILE_NAME, Files, Layer, Layers, SettingProblem, load};
pub use self::network::NetworkSettings;
pub use self::paths::Paths;
pub use self::protocol::Dialect;
pub use self::quota::{OnExhausted, window_id, window_span};
pub use self::recording::RecordingSettings;
pub use self::retry::RetryPolicy;
pub use self::settings::{CacheKeeper, Concurrency, ModelOverrides, RegionChoice, Settings, ToolSettings, Uploads};
pub use self::thinking::ThinkingPreference;
pub use self::timeouts::TimeoutLimits;
pub use self::uploads::UploadLimits;
pub use self::values::ValueKind;

use crate::endpoint::Endpoint;
use crate::error::Result;

/// Everything a request needs to know besides its content.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests go.
    pub endpoint: Endpoint,
    /// The API that logins are for. Differs from `endpoint` only where `models.json` names another address.
    pub login_endpoint: Endpoint,
    /// `KIMI_API_KEY`.
    pub api_key: Option<String>,
    /// Where logins are kept.
    pub paths: Paths,
    /// `oauthHost`.
    pub oauth_host: Option<String>,
    /// Neither base, host nor region are chosen, so the login decides where requests go.
    pub region_is_open: bool,
    /// `KIMI_CODE_CUSTOM_HEADERS`, already checked.
    pub custom_headers: Vec<(String, String)>,
    /// Proxies and certificates.
    pub network: NetworkSettings,
    /// Timeouts.
    pub limits: TimeoutLimits,
    /// Largest answer, in bytes of memory.
    pub answer_bytes: usize,
    /// Retries.
    pub retry: RetryPolicy,
    /// All settings.
    pub settings: Settings,
    /// Directory of our own state; `None` without a home.
    pub state_directory: Option<PathBuf>,
    /// The folder of the project that the session works in.
    pub project: Option<String>,
    /// IANA name of the user's time zone.
    pub time_zone: Option<String>,
    /// `PI_CACHE_RETENTION=none`.
    pub without_cache_key: bool,
    /// `KIMI_CODE_RECORD`: where exchanges are recorded.
    pub recording: Option<RecordingSettings>,
    /// `KIMI_DATASOURCE_API_URL`: the complete address of the data sources, where it is not below the API root.
    pub datasource_url: Option<String>,
}

impl Config {
    /// Reads settings files and environment; blocks on two small files. Fails if the address that counts cannot be used. Other
    /// invalid settings are left out; [`load`] tells which.
    pub fn from_environment(environment: &Environment, addresses: &RequestAddresses) -> Result<Self> {
        let Layers { settings, addresses: named, .. } = load(environment);
        let AppliedAddresses { endpoint, login_endpoint, oauth_host, region_is_open } =
            AppliedAddresses::choose(&named, settings.region, addresses)?;
        let text = |name: &str| environment.get_any_case(name).map(str::to_owned);
        let limits = settings.timeout_limits();
        Ok(Self {
            region_is_open,
            endpoint,
            login_endpoint,
            paths: Paths::from_environment(environment),
            oauth_host,
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
            answer_bytes: settings.answer_bytes(),
            retry: settings.retry_policy(environment.has_screen()),
            settings,
            state_directory: environment.state_directory(),
            project: environment.get("KIMI_CODE_PROJECT").or_else(|| environment.get("PWD")).map(str::to_owned),
            time_zone: environment.get("TZ").map(str::to_owned),
            without_cache_key: environment.get("PI_CACHE_RETENTION") == Some("none"),
            recording: RecordingSettings::from_environment(environment),
            datasource_url: environment.get("KIMI_DATASOURCE_API_URL").map(str::to_owned),
        })
    }

    /// Makes requests go where a login belongs, unless `models.json` names another address.
    pub fn follow_login(&mut self, endpoint: &Endpoint) {
        if self.endpoint == self.login_endpoint {
            self.endpoint = endpoint.clone();
        }
        self.login_endpoint = endpoint.clone();
    }
}
