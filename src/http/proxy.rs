//! Which proxy a request goes through, and which hosts are reached without one.

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::{NoProxy, Proxy};

use crate::config::NetworkSettings;
use crate::error::{Error, ErrorKind, Result};

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
pub(super) fn proxies(settings: &NetworkSettings) -> Result<Vec<Proxy>> {
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
