//! Proxies and certificates.

use std::path::PathBuf;
use std::time::Duration;

/// What decides how a connection is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct NetworkSettings {
    /// Proxy for `http://` URLs.
    pub http_proxy: Option<String>,
    /// Proxy for `https://` URLs.
    pub https_proxy: Option<String>,
    /// Proxy where no other one is named; also `socks5://` and `socks5h://`.
    pub all_proxy: Option<String>,
    /// Hosts that are reached directly.
    pub no_proxy: Option<String>,
    /// `NODE_EXTRA_CA_CERTS`: PEM file, added to the system's roots.
    pub extra_ca: Option<PathBuf>,
    /// `SSL_CERT_FILE`: PEM file, instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// `SSL_CERT_DIR`: list of directories of PEM files, instead of the system's roots.
    pub ca_directories: Option<String>,
    /// DNS, TCP, proxy and TLS together.
    pub connect_timeout: Option<Duration>,
}
