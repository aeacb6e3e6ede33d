//! `Kimi`: one configured client. Every public operation starts here.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::multipart::Form;
use reqwest::{Client, RequestBuilder, Response};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Phase, Result, from_response};
use crate::http;
use crate::identity::{Host, ascii};
use crate::retry::retry_after;

/// Longest error body that is read, in bytes.
const MAX_ERROR_BODY: usize = 256 << 10;

/// Longest wait for an error body once its status is known.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Headers a caller adds; `None` removes one of ours.
pub type ExtraHeaders = Vec<(String, Option<String>)>;

/// A configured client.
#[derive(Debug, Clone)]
pub struct Kimi {
    /// What it was configured with.
    pub config: Config,
    host: Host,
    http: Client,
}

impl Kimi {
    /// Builds or reuses a connection pool; reads certificate files the first time, so not for async workers.
    pub fn new(config: Config, host: Host) -> Result<Self> {
        let http = http::client(&config.network)?;
        Ok(Self { config, host, http })
    }

    /// The same client on connections of its own.
    pub fn on_fresh_connection(&self) -> Result<Self> {
        Ok(Self { http: http::fresh_client(&self.config.network)?, ..self.clone() })
    }

    /// The static credential: what the caller passed, else `KIMI_API_KEY`.
    pub fn api_key(&self, explicit: Option<&str>) -> Result<String> {
        explicit
            .map(str::trim)
            // Old versions of Pi pass the name of the variable instead of its value (protocol reference §1.3).
            .filter(|key| !key.is_empty() && !matches!(*key, "$KIMI_API_KEY" | "${KIMI_API_KEY}"))
            .or(self.config.api_key.as_deref())
            .map(str::to_owned)
            .ok_or_else(Error::login_required)
    }

    /// Posts JSON and returns the response once its head is here and says success.
    pub async fn post_json(&self, url: &str, key: &str, body: Bytes, extra: &ExtraHeaders) -> Result<Response> {
        let headers = self.headers(key, extra)?;
        sent(self.http.post(url).headers(headers).body(body)).await
    }

    /// Posts a form and returns the response once its head is here and says success. Headers of the caller that describe
    /// a JSON body do not count.
    pub async fn post_form(&self, url: &str, key: &str, form: Form, extra: &ExtraHeaders) -> Result<Response> {
        let mut headers = self.headers(key, extra)?;
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.remove(CONTENT_TYPE);
        headers.remove(CONTENT_LENGTH);
        sent(self.http.post(url).headers(headers).multipart(form)).await
    }

    fn headers(&self, key: &str, extra: &ExtraHeaders) -> Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.config.custom_headers {
            insert(&mut headers, name, value)?;
        }
        headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        insert(&mut headers, USER_AGENT.as_str(), &self.host.user_agent())?;
        for (name, value) in extra {
            match value {
                Some(value) => insert(&mut headers, name, &ascii(value))?,
                None => {
                    headers.remove(name.as_str());
                }
            }
        }
        if !extra.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str())) {
            let mut bearer = HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| {
                Error::new(ErrorKind::Config, "the Kimi API key contains characters that no HTTP header may hold")
            })?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
        }
        Ok(headers)
    }
}

async fn sent(request: RequestBuilder) -> Result<Response> {
    let response = request.send().await.map_err(|error| Error::from_reqwest(&error, Phase::Headers))?;
    if response.status().is_success() { Ok(response) } else { Err(failed(response).await) }
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<()> {
    let invalid = || Error::new(ErrorKind::Config, format!("header {name:?} cannot be sent"));
    let header = HeaderName::try_from(name).map_err(|_| invalid())?;
    headers.insert(header, HeaderValue::try_from(value).map_err(|_| invalid())?);
    Ok(())
}

/// The error of an unsuccessful answer.
async fn failed(mut response: Response) -> Error {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let wait = retry_after(header, SystemTime::now());
    let trace_id = header("x-trace-id").map(ascii).filter(|id| !id.is_empty());
    let mut body = Vec::new();
    // The status says enough; a body that does not come must not keep it from us.
    let _ = tokio::time::timeout(ERROR_BODY_TIMEOUT, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ERROR_BODY {
                break;
            }
        }
    })
    .await;
    from_response(status, &String::from_utf8_lossy(&body), wait, trace_id)
}
