//! The shared connection pools.
//!
//! One pool per set of network settings and process: turns of all sessions share connections, and two sessions behind
//! different proxies never share any. Nothing about accounts lives here. Sources: docs/architecture.md#http-clients,
//! docs/protocol.md#proxies-and-loopback.

pub mod body;
pub mod redact;
pub mod retry;
pub mod timeout;
pub mod user_agent;

use crate::config::NetworkSettings;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use reqwest::{Certificate, Client, NoProxy, Proxy};

use crate::error::{Error, ErrorKind, Result, cause_chain};

/// A person thinks for minutes between two turns.
const IDLE_CONNECTION: Duration = Duration::from_secs(600);

/// Settings changes within one process are rare; more pools than this means that somebody is generating them.
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
    if let Some(roots) = roots(settings)? {
        builder = builder.tls_certs_only(roots);
    }
    if let Some(file) = &settings.extra_ca {
        builder = builder.tls_certs_merge(certificates("NODE_EXTRA_CA_CERTS", file)?);
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

/// The roots that the environment names in place of the system's, as OpenSSL reads them.
fn roots(settings: &NetworkSettings) -> Result<Option<Vec<Certificate>>> {
    let mut roots = Vec::new();
    if let Some(file) = &settings.ca_file {
        roots.extend(certificates("SSL_CERT_FILE", file)?);
    }
    for directory in settings.ca_directories.iter().flat_map(std::env::split_paths) {
        let entries =
            std::fs::read_dir(&directory).map_err(|error| unusable("SSL_CERT_DIR", &directory, &error.to_string()))?;
        // Such directories also hold links, lists and keys; what is no certificate is passed over.
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file());
        roots.extend(files.filter_map(|file| certificates("SSL_CERT_DIR", &file).ok()).flatten());
    }
    Ok(Some(roots).filter(|roots| !roots.is_empty()))
}

fn unusable(variable: &str, path: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Tls, format!("{variable} names {}, which is unusable: {why}", path.display()))
}

fn certificates(variable: &str, file: &Path) -> Result<Vec<Certificate>> {
    let pem = std::fs::read(file).map_err(|error| unusable(variable, file, &error.to_string()))?;
    let certificates =
        Certificate::from_pem_bundle(&pem).map_err(|error| unusable(variable, file, &cause_chain(&error)))?;
    if certificates.is_empty() { Err(unusable(variable, file, "it holds no certificate")) } else { Ok(certificates) }
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
