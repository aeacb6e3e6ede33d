//! `Kimi`: one configured client. Every public operation starts here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::multipart::Form;
use reqwest::{Client, RequestBuilder, Response};
use serde::Deserialize;

use crate::auth::token::OAuthClient;
use crate::auth::{Account, Credential};
use crate::config::Config;
use crate::config::ascii;
use crate::error::{Error, ErrorKind, Phase, Result, from_response, html_title};
use crate::http;
use crate::http::body::{read_available, read_whole};
use crate::http::retry::retry_after;
use crate::http::user_agent::{Host, device_id};
use crate::process_state::ProcessState;

/// Longest error body that is read, in bytes.
const MAX_ERROR_BODY: usize = 256 << 10;

/// Longest wait for an error body once its status is known.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers a caller adds; `None` removes one of ours.
pub type ExtraHeaders = Vec<(String, Option<String>)>;

/// Who asks, as every question of JavaScript says it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallerContext {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program around us.
    #[serde(default)]
    pub host: Host,
    /// Key or token that Pi resolved or the caller passed; without one, the credential is looked for.
    #[serde(default)]
    pub api_key: Option<String>,
}

/// A configured client.
#[derive(Debug, Clone)]
pub struct Kimi {
    /// What it was configured with.
    pub config: Config,
    /// Who we say we are: found once, because a device id is a file.
    identity: HeaderMap,
    http: Client,
    /// What outlives this client: pools, refreshes under way, known uploads.
    pub process: Arc<ProcessState>,
}

impl Kimi {
    /// Builds or reuses a connection pool; reads certificate files the first time and may read a device id, so not for async
    /// workers.
    pub fn new(config: Config, host: Host) -> Result<Self> {
        let http = http::client(&config.network)?;
        let mut identity = HeaderMap::new();
        for (name, value) in host.headers(config.settings.identity, || device_id(&config.paths.kimi_home)) {
            insert(&mut identity, name, &value)?;
        }
        Ok(Self { config, identity, http, process: ProcessState::shared() })
    }

    /// The same client on connections of its own.
    pub fn on_fresh_connection(&self) -> Result<Self> {
        Ok(Self { http: http::fresh_client(&self.config.network)?, ..self.clone() })
    }

    /// Finds what authorizes a request, as [`Self::find_credential`] does; an error if there is nothing.
    pub async fn authorize(&mut self, passed: Option<&str>) -> Result<Credential> {
        self.find_credential(passed).await?.ok_or_else(Error::login_required)
    }

    /// Finds what authorizes a request (docs/architecture.md#credential-order). A login decides the region for this client, where
    /// the user has not chosen one.
    pub async fn find_credential(&mut self, passed: Option<&str>) -> Result<Option<Credential>> {
        let Some(found) = self.account()?.credential(passed, self.config.api_key.as_deref()).await? else {
            return Ok(None);
        };
        if let Some(endpoint) = &found.endpoint {
            self.config.follow_login(endpoint);
        }
        Ok(Some(found.credential))
    }

    /// Returns the logins that this configuration leads to.
    pub fn account(&self) -> Result<Account> {
        let config = &self.config;
        Ok(Account {
            paths: config.paths.clone(),
            endpoint: config.login_endpoint.clone(),
            oauth_host: config.oauth_host.clone(),
            region_is_open: config.region_is_open,
            oauth: OAuthClient { http: self.http.clone(), headers: self.identity.clone() },
            process: Arc::clone(&self.process),
        })
    }

    /// Posts JSON and returns the response once its head is here and says success.
    pub async fn post_json(
        &self,
        url: &str,
        credential: &Credential,
        body: Bytes,
        extra: &ExtraHeaders,
    ) -> Result<Response> {
        self.with_reauth(credential, extra, |token| {
            let request =
                self.headers(&token, extra).map(|headers| self.http.post(url).headers(headers).body(body.clone()));
            async { sent(request?).await }
        })
        .await
    }

    /// Posts a form, built anew for each attempt, and returns the response once its head is here and says success. Headers
    /// of the caller that describe a JSON body do not count.
    pub async fn post_form(
        &self,
        url: &str,
        credential: &Credential,
        form: impl Fn() -> Result<Form>,
        extra: &ExtraHeaders,
    ) -> Result<Response> {
        self.with_reauth(credential, extra, |token| {
            let request = self.headers(&token, extra).and_then(|mut headers| {
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                headers.remove(CONTENT_TYPE);
                headers.remove(CONTENT_LENGTH);
                Ok(self.http.post(url).headers(headers).multipart(form()?))
            });
            async { sent(request?).await }
        })
        .await
    }

    /// Headers of the caller that authorise the request themselves are neither healed nor explained.
    async fn with_reauth<F: Future<Output = Result<Response>>>(
        &self,
        credential: &Credential,
        extra: &ExtraHeaders,
        send: impl Fn(String) -> F,
    ) -> Result<Response> {
        let redact_error = |token: String| {
            let sending = send(token.clone());
            async move { sending.await.map_err(|error| self.redact_error(error, &token, extra)) }
        };
        if has(extra, AUTHORIZATION.as_str()) {
            redact_error(String::new()).await
        } else {
            credential.send_with_reauth(redact_error).await
        }
    }

    /// `error` without what the request carried in confidence: the credential, and headers of one's own that are long enough
    /// to be a key and no name.
    pub fn redact_error(&self, error: Error, token: &str, extra: &ExtraHeaders) -> Error {
        let own = self.config.custom_headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let callers = extra.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
        error.redact(std::iter::once(token).chain(own.chain(callers).filter_map(|(name, value)| secret(name, value))))
    }

    /// Posts JSON and returns the response once its head is here, whatever it says. `token` is sent as it is.
    pub async fn send_json(&self, url: &str, token: &str, body: Bytes, extra: &ExtraHeaders) -> Result<Response> {
        let headers = self.headers(token, extra)?;
        let sending = self.http.post(url).headers(headers).body(body).send();
        sending.await.map_err(|error| Error::from_reqwest(error, Phase::Headers))
    }

    /// Gets a small document. `patience` is for all of it, `max` is its largest size in bytes. A 401 heals as in [`Self::post_json`].
    pub async fn get(&self, url: &str, credential: &Credential, patience: Duration, max: usize) -> Result<Vec<u8>> {
        let work = credential.send_with_reauth(|token| async move { self.get_once(url, &token, max).await });
        let late = |_| {
            let seconds = patience.as_secs();
            Error::new(ErrorKind::Timeout(Phase::Body), format!("timeout: Kimi did not answer within {seconds} s"))
        };
        tokio::time::timeout(patience, work).await.map_err(late)?
    }

    async fn get_once(&self, url: &str, token: &str, max: usize) -> Result<Vec<u8>> {
        let accept = vec![(ACCEPT.to_string(), Some("application/json".to_owned()))];
        let mut headers = self.headers(token, &accept)?;
        headers.remove(CONTENT_TYPE);
        let request = self.http.get(url).headers(headers);
        let response = sent(request).await.map_err(|error| self.redact_error(error, token, &Vec::new()))?;
        read_whole(response, max).await
    }

    /// The error for something else in place of a document; where it is a page, its title tells whose.
    pub fn no_document(&self, what: &str, body: &[u8], credential: &Credential) -> Error {
        let title = html_title(&String::from_utf8_lossy(body)).unwrap_or_default();
        self.redact_error(Error::protocol(what, &title), &credential.token(), &Vec::new())
    }

    fn headers(&self, key: &str, extra: &ExtraHeaders) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.custom_headers {
            insert(&mut headers, name, value)?;
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.extend(self.identity.clone());
        for (name, value) in extra {
            match value {
                Some(value) => insert(&mut headers, name, &ascii(value))?,
                None => {
                    headers.remove(name.as_str());
                }
            }
        }
        if !has(extra, AUTHORIZATION.as_str()) {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::new(ErrorKind::Config, "the Kimi API key contains characters that no HTTP header may hold")
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(headers)
    }
}

/// What is secret of a header, if anything: a credential without its scheme, because gateways quote it without as well.
fn secret<'v>(name: &str, value: &'v str) -> Option<&'v str> {
    const LIKE_A_KEY: usize = 12;
    const HARMLESS: [&str; 6] = ["content-type", "user-agent", "referer", "http-referer", "x-title", "origin"];
    const SCHEMES: [&str; 6] = ["bearer", "basic", "digest", "negotiate", "token", "apikey"];
    let name = name.to_ascii_lowercase();
    if HARMLESS.contains(&name.as_str()) || ["accept", "anthropic-"].iter().any(|family| name.starts_with(family)) {
        return None;
    }
    let authorises = name.ends_with("authorization");
    let value = value.trim();
    let bare = match value.split_once(' ') {
        Some((scheme, rest)) if authorises || SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) => rest.trim(),
        _ => value,
    };
    (authorises || bare.len() >= LIKE_A_KEY).then_some(bare)
}

fn has(headers: &ExtraHeaders, name: &str) -> bool {
    headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
}

async fn sent(request: RequestBuilder) -> Result<Response> {
    let response = request.send().await.map_err(|error| Error::from_reqwest(error, Phase::Headers))?;
    if response.status().is_success() { Ok(response) } else { Err(failed(response).await) }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let invalid = || Error::new(ErrorKind::Config, format!("header {name:?} cannot be sent"));
    let header = HeaderName::try_from(name).map_err(|_| invalid())?;
    headers.insert(header, HeaderValue::try_from(value).map_err(|_| invalid())?);
    Ok(())
}

/// The error of an unsuccessful answer.
pub async fn failed(mut response: Response) -> Error {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let wait = retry_after(header, SystemTime::now());
    let trace_id = header("x-trace-id").map(ascii).filter(|id| !id.is_empty());
    let body = read_available(Vec::new(), &mut response, MAX_ERROR_BODY, ERROR_BODY_TIMEOUT).await;
    from_response(status, &String::from_utf8_lossy(&body), wait, trace_id)
}

#[cfg(test)]
mod tests {
    use super::secret;

    #[test]
    fn credentials_are_secret_without_their_scheme_and_plain_headers_are_not() {
        for (name, value, expected) in [
            ("Authorization", "Basic bWU6cGFzc3dvcmQ=", Some("bWU6cGFzc3dvcmQ=")),
            ("authorization", "bearer  corp-key", Some("corp-key")),
            ("Proxy-Authorization", "Corp-Scheme 0123456789", Some("0123456789")),
            ("X-Api-Key", "sk-corp-0123456789", Some("sk-corp-0123456789")),
            ("X-Gateway", "TOKEN sk-corp-0123456789", Some("sk-corp-0123456789")),
            ("X-Team", "blue", None),
            ("HTTP-Referer", "https://example.com/a", None),
            ("anthropic-beta", "context-management-2025-06-27", None),
        ] {
            assert_eq!(secret(name, value), expected, "{name}");
        }
    }
}
