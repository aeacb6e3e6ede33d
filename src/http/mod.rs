//! The shared connection pools (docs/architecture.md#http-clients).
//!
//! One pool per set of network settings and process: turns of all sessions share connections, and two sessions behind
//! different proxies never share any. Accounts play no part here.

pub mod body;
pub mod recording;
pub mod redact;
pub mod retry;
pub mod sent_signal;
pub mod timeout;
mod tls;
pub mod user_agent;

use crate::config::NetworkSettings;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{Client, NoProxy, Proxy};

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

/// Returns the proxy through which `url` is requested, if any.
pub fn proxy_for(settings: &NetworkSettings, url: &str) -> Option<http::Uri> {
    let text = |proxy: &Option<String>| proxy.clone().unwrap_or_default();
    let matcher = Matcher::builder()
        .http(text(&settings.http_proxy))
        .https(text(&settings.https_proxy))
        .all(text(&settings.all_proxy))
        .no(direct_hosts(settings))
        .build();
    matcher.intercept(&url.parse().ok()?).map(|found| found.uri().clone())
}

/// Returns the hosts that are reached without a proxy.
fn direct_hosts(settings: &NetworkSettings) -> String {
    format!("{},localhost,127.0.0.0/8,::1", settings.no_proxy.as_deref().unwrap_or_default())
}

/// Returns the proxies. The loopback is always reached directly (docs/protocol.md#proxies-and-loopback).
fn proxies(settings: &NetworkSettings) -> Result<Vec<Proxy>> {
    let direct = direct_hosts(settings);
    let no_proxy = || NoProxy::from_string(&direct);
    let mut proxies = Vec::new();
    let mut add = |name: &str, url: &Option<String>, make: fn(String) -> reqwest::Result<Proxy>| {
        let Some(url) = url else { return Ok(()) };
        // The URL may hold a password, so it stays out of the message.
        let proxy = make(url.clone())
            .map_err(|_| Error::new(ErrorKind::Config, format!("environment variable {name} is not a proxy URL")))?;
        proxies.push(proxy.no_proxy(no_proxy()));
        Ok(())
    };
    add("HTTP_PROXY", &settings.http_proxy, Proxy::http)?;
    add("HTTPS_PROXY", &settings.https_proxy, Proxy::https)?;
    add("ALL_PROXY", &settings.all_proxy, Proxy::all)?;
    Ok(proxies)
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
