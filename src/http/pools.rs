//! The shared connection pools (docs/architecture.md#http-clients).
//!
//! One pool per set of network settings and process: turns of all sessions share connections, and two sessions behind
//! different proxies never share any. Accounts play no part here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::Client;

use super::proxy::proxies;
use super::tls;
use crate::config::NetworkSettings;
use crate::error::{Error, ErrorKind, Result, cause_chain};

/// How long an unused connection is kept: users think for minutes between two turns.
const IDLE_CONNECTION: Duration = Duration::from_secs(600);

/// Largest response head, in bytes. Gateways add long headers.
const MAX_RESPONSE_HEAD: u32 = 256 << 10;

/// Pools that are kept. Network settings rarely change within one process.
const MAX_POOLS: usize = 16;

/// The connection pools of a process, by network settings.
#[derive(Default)]
pub struct Pools(Mutex<HashMap<NetworkSettings, Client>>);

impl Pools {
    /// Returns the pool for these settings. Reads certificate files the first time, so it must not run on an async worker.
    pub fn client(&self, settings: &NetworkSettings) -> Result<Client> {
        let mut pools = self.lock();
        if let Some(client) = pools.get(settings) {
            return Ok(client.clone());
        }
        let client = build(settings)?;
        if pools.len() >= MAX_POOLS {
            pools.clear();
        }
        pools.insert(settings.clone(), client.clone());
        Ok(client)
    }

    /// Replaces the pool for these settings, so that neither a retry after a stall nor later turns meet the same connection
    /// again. Requests in progress keep the old one.
    pub fn fresh_client(&self, settings: &NetworkSettings) -> Result<Client> {
        let client = build(settings)?;
        self.lock().insert(settings.clone(), client.clone());
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NetworkSettings, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn build(settings: &NetworkSettings) -> Result<Client> {
    // Err only means that it is already installed.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder()
        .pool_idle_timeout(IDLE_CONNECTION)
        .tcp_keepalive(Duration::from_secs(30))
        .http2_keep_alive_interval(Duration::from_secs(30))
        .http2_keep_alive_timeout(Duration::from_secs(20))
        .http2_keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_RESPONSE_HEAD)
        // A credential must not follow a redirect to somewhere else; the service has no redirects.
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .no_proxy();
    if let Some(timeout) = settings.connect_timeout {
        builder = builder.connect_timeout(timeout);
    }
    for proxy in proxies(settings)? {
        builder = builder.proxy(proxy);
    }
    if let Some(tls) = tls::config(settings)? {
        builder = builder.tls_backend_preconfigured(tls);
    }
    builder.build().map_err(|error| Error::new(ErrorKind::Config, format!("no HTTP client: {}", cause_chain(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_unusable_settings_are_named_without_their_password() {
        let pools = Pools::default();
        assert!(pools.client(&NetworkSettings::default()).is_ok());
        let bad = NetworkSettings { https_proxy: Some("http://user:hunter2@[".into()), ..Default::default() };
        let message = pools.client(&bad).unwrap_err().message;
        assert!(message.contains("HTTPS_PROXY") && !message.contains("hunter2"), "{message}");
        let missing = NetworkSettings { extra_ca: Some("/nonexistent/ca.pem".into()), ..Default::default() };
        assert!(pools.client(&missing).unwrap_err().message.contains("NODE_EXTRA_CA_CERTS names /nonexistent/ca.pem"));
    }
}
