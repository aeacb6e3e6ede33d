//! Sends a request of one of Kimi's own tools and reads the answer (docs/protocol.md#plan-tools).
//!
//! A call is one `POST` with the login's bearer token and the id of the model's tool call.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::auth::Credential;
use crate::client::Kimi;
use crate::config::ascii;
use crate::endpoint::{Endpoint, http_url};
use crate::error::{Error, ErrorKind, Result, clip, html_title};
use crate::http::body::read_whole;
use crate::http::error_answer::failed;

/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// Headers that name a request for Moonshot's support; the first one that is not blank counts (docs/protocol.md#request-ids).
const REQUEST_ID: [&str; 5] = ["x-request-id", "x-trace-id", "x-msh-request-id", "x-msh-trace-id", "request-id"];

/// Sends the requests of one tool call.
pub(super) struct Service {
    pub kimi: Kimi,
    pub credential: Credential,
    pub call_id: String,
}

/// A complete answer.
pub(super) struct Reply {
    pub bytes: Bytes,
    /// In lower case, possibly empty.
    pub content_type: String,
    pub request_id: Option<String>,
}

impl Service {
    /// Returns the deployment that the login belongs to.
    pub fn endpoint(&self) -> &Endpoint {
        &self.kimi.config.endpoint
    }

    /// Returns the address of the data sources (docs/protocol.md#environment-variables).
    pub fn datasources(&self) -> Result<String> {
        let Some(chosen) = &self.kimi.config.datasource_url else { return Ok(self.endpoint().tools()) };
        let refuse =
            |why| Error::new(ErrorKind::Config, format!("KIMI_DATASOURCE_API_URL is not an http(s) address: {why}"));
        http_url(chosen).map_err(refuse).map(String::from)
    }

    /// Posts `body`. After a 401 the request is repeated once with a refreshed token.
    pub async fn post(&self, url: &str, body: &Value, accept: &str) -> Result<Reply> {
        let body = Bytes::from(body.to_string());
        self.credential
            .send_with_reauth(|token| {
                let body = body.clone();
                async move { self.post_once(url, &token, body, accept).await }
            })
            .await
    }

    async fn post_once(&self, url: &str, token: &str, body: Bytes, accept: &str) -> Result<Reply> {
        let extra = vec![
            (ACCEPT.to_string(), Some(accept.to_owned())),
            ("X-Msh-Tool-Call-Id".to_owned(), Some(self.call_id.clone())),
        ];
        let response = self.kimi.send_json(url, token, body, &extra).await?;
        let request_id = request_id(&response);
        // Only 200 carries an answer (docs/protocol.md#plan-tools).
        if response.status() != StatusCode::OK {
            let error = self.kimi.explain_refusal(&extra, failed(response).await);
            return Err(Error { trace_id: request_id, ..error });
        }
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_ascii_lowercase();
        let bytes = self.kimi.scrub(read_whole(response, MAX_ANSWER).await?);
        Ok(Reply { bytes: bytes.into(), content_type, request_id })
    }
}

fn request_id(response: &Response) -> Option<String> {
    REQUEST_ID
        .iter()
        .filter_map(|name| response.headers().get(*name)?.to_str().ok())
        .map(ascii)
        .find(|id| !id.is_empty())
}

impl Reply {
    /// Returns the body as text, and whether parts of it were not UTF-8.
    pub fn text(&self) -> (String, bool) {
        let bytes = self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes);
        match std::str::from_utf8(bytes) {
            Ok(text) => (text.to_owned(), false),
            Err(_) => (String::from_utf8_lossy(bytes).into_owned(), true),
        }
    }

    /// Returns the error for a success whose body is not what the service documents.
    pub fn unexpected(&self, what: &str) -> Error {
        let (text, _) = self.text();
        let excerpt = html_title(&text).unwrap_or_else(|| clip(&text, 200));
        Error { trace_id: self.request_id.clone(), ..Error::protocol(what, &excerpt) }
    }
}
