//! The shared connection pools.
//!
//! One pool per set of network settings and process: turns of all sessions share connections, and two sessions behind
//! different proxies never share any. Nothing about accounts lives here. Sources: docs/architecture.md#http-clients,
//! docs/protocol.md#proxies-and-loopback.

pub mod body;
pub mod redact;
pub mod retry;
pub mod timeout;
mod tls;
pub mod user_agent;

use crate::config::NetworkSettings;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Client, NoProxy, Proxy};

use crate::error::{Error, ErrorKind, Result, cause_chain};

/// A person thinks for minutes between two turns.
const IDLE_CONNECTION: Duration = Duration::from_secs(600);

/// Settings changes within one process are rare; more pools than this means that they are generated.
const MAX_POOLS: usize = 16;

/// The pool for these settings. Reads certificate files the first time, so it must not run on an async worker.
pub fn client(settings: &NetworkSettings) -> Result<Client> {
    let mut pools = pools();
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

/// Replaces the pool for these settings: a retry after a stall must not meet the same connection again, and neither should
/// the turns after it. Requests that are under way keep the old one.
pub fn fresh_client(settings: &NetworkSettings) -> Result<Client> {
    let client = build(settings)?;
    pools().insert(settings.clone(), client.clone());
    Ok(client)
}

fn pools() -> MutexGuard<'static, HashMap<NetworkSettings, Client>> {
    static POOLS: OnceLock<Mutex<HashMap<NetworkSettings, Client>>> = OnceLock::new();
    POOLS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
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

/// The loopback is always direct, whatever the environment says (docs/protocol.md#proxies-and-loopback).
fn proxies(settings: &NetworkSettings) -> Result<Vec<Proxy>> {
    let direct = format!("{},localhost,127.0.0.0/8,::1", settings.no_proxy.as_deref().unwrap_or_default());
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
    fn equal_settings_share_a_pool_and_bad_ones_name_themselves() {
        assert!(client(&NetworkSettings::default()).is_ok());
        let bad = NetworkSettings { https_proxy: Some("http://user:hunter2@[".into()), ..Default::default() };
        let message = client(&bad).unwrap_err().message;
        assert!(message.contains("HTTPS_PROXY") && !message.contains("hunter2"), "{message}");
        let missing = NetworkSettings { extra_ca: Some("/nonexistent/ca.pem".into()), ..Default::default() };
        assert!(client(&missing).unwrap_err().message.contains("NODE_EXTRA_CA_CERTS names /nonexistent/ca.pem"));
    }
}
