//! The endpoint that issues tokens (docs/protocol.md#token-answers): how often a refresh is tried and how long its answer is waited for.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, StatusCode};
use serde_json::Value;

use super::token::Tokens;
use crate::error::{Error, ErrorKind, Phase, Result, clip, service_text};
use crate::http::body::read_whole;
use crate::http::redact::KnownSecrets;
use crate::storage::clock::{AwakeTime, now_ms};

/// The client id that the service knows; the same in both regions.
pub const CLIENT_ID: &str = "17e5f671-d194-4dfb-9706-5516cb48c098";

/// Pauses between the three attempts of a refresh (docs/protocol.md#refresh-attempts).
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Time in which attempts of one refresh are begun, and in which an attempt must have been sent.
const ATTEMPT_TIME: Duration = Duration::from_secs(14);

/// Longest wait for the answer to a refresh that was sent. The service has rotated the tokens when it begins to answer, so
/// giving up loses the login.
const ANSWER_TIME: Duration = Duration::from_secs(300);

/// How often a limit is looked at while a request runs.
const TICK: Duration = Duration::from_millis(500);

/// Longest answer that is read, in bytes; a token answer has about a kilobyte.
const MAX_ANSWER: usize = 64 << 10;

/// Sends requests to OAuth hosts.
#[derive(Debug, Clone)]
pub struct OAuthClient {
    /// Follows no redirects: a token posted to one host must not wander to another.
    pub http: Client,
    /// Headers that name this client.
    pub headers: HeaderMap,
}

impl OAuthClient {
    /// Returns the endpoints of a host, given without a trailing slash.
    pub fn at(&self, host: &str) -> TokenEndpoint {
        TokenEndpoint { client: self.clone(), host: host.to_owned() }
    }
}

/// The OAuth endpoints of one host.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    client: OAuthClient,
    host: String,
}

/// An answer of the OAuth host, whatever its status.
pub(super) struct TokenResponse {
    pub status: StatusCode,
    pub body: Value,
    text: String,
    /// When its last byte was read.
    received: Instant,
}

impl TokenResponse {
    /// Returns the OAuth error code, or an empty text. The service's other endpoints wrap theirs in an object.
    pub fn error(&self) -> &str {
        let error = self.body.get("error").unwrap_or(&Value::Null);
        let wrapped = || ["code", "type"].iter().find_map(|name| error.get(name)?.as_str());
        error.as_str().or_else(wrapped).unwrap_or_default()
    }

    /// Returns the reason that the service gives, with `secrets` redacted.
    pub fn reason(&self, secrets: &[&str]) -> String {
        let mut text = service_text(&self.text);
        let known = KnownSecrets::default();
        secrets.iter().for_each(|secret| known.add_credential(secret));
        text = known.redact(&text);
        let text = clip(text.trim(), 300);
        if text.is_empty() { "no reason given".to_owned() } else { text }
    }
}

/// Decides at the last moment whether a request may be sent, and knows whether it was.
///
/// A request waits for a connection for seconds. What allowed it, a lock for example, may be lost by then, so its body asks again
/// when the connection is ready.
pub(super) struct SendGate {
    is_allowed: Box<dyn Fn() -> bool + Send + Sync>,
    sent: AtomicBool,
    refused: AtomicBool,
}

impl SendGate {
    /// Asks `is_allowed` right before the body is sent.
    pub fn new(is_allowed: impl Fn() -> bool + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            is_allowed: Box::new(is_allowed),
            sent: AtomicBool::new(false),
            refused: AtomicBool::new(false),
        })
    }

    /// Whether the request was held back.
    pub fn has_refused(&self) -> bool {
        self.refused.load(Ordering::Acquire)
    }

    fn has_sent(&self) -> bool {
        self.sent.load(Ordering::Acquire)
    }
}

/// A form that passes a gate.
struct GatedBody {
    content: Option<Bytes>,
    gate: Arc<SendGate>,
}

impl Body for GatedBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let Some(content) = self.content.take() else { return Poll::Ready(None) };
        if !(self.gate.is_allowed)() {
            self.gate.refused.store(true, Ordering::Release);
            return Poll::Ready(Some(Err(std::io::Error::other("the request was held back"))));
        }
        self.gate.sent.store(true, Ordering::Release);
        Poll::Ready(Some(Ok(Frame::data(content))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |content| content.len() as u64))
    }
}

/// New tokens, and when their answer was complete.
pub(super) struct Issued {
    pub tokens: Tokens,
    pub received: Instant,
}

impl TokenEndpoint {
    /// Posts a form. An answer that is not JSON is an answer too.
    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)], limit: Duration) -> Result<TokenResponse> {
        self.post_gated(path, form, limit, limit, &SendGate::new(|| true)).await
    }

    /// The same, with other limits before and after the request was sent. Limits do not count while this process is stopped, and
    /// an answer that is there is read before a limit is looked at.
    async fn post_gated(
        &self,
        path: &str,
        form: &[(&str, &str)],
        unsent_limit: Duration,
        sent_limit: Duration,
        gate: &Arc<SendGate>,
    ) -> Result<TokenResponse> {
        let secrets = KnownSecrets::shared();
        let sent = form.iter().filter(|(name, _)| matches!(*name, "refresh_token" | "device_code"));
        sent.for_each(|(_, secret)| secrets.add_credential(secret));
        let url = format!("{}{path}", self.host);
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let body = GatedBody { content: Some(form.into()), gate: Arc::clone(gate) };
        let exchange = async {
            let sending = self
                .client
                .http
                .post(&url)
                .headers(self.client.headers.clone())
                .header(ACCEPT, "application/json")
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(reqwest::Body::wrap(body))
                .send();
            let response = sending.await.map_err(|error| Error::from_reqwest(error, Phase::Headers))?;
            let status = response.status();
            let bytes = match read_whole(response, MAX_ANSWER).await {
                // Far too large to be an answer with tokens.
                Err(error) if error.kind == ErrorKind::Protocol => Vec::new(),
                body => body?,
            };
            let received = Instant::now();
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(TokenResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text, received })
        };
        let mut exchange = std::pin::pin!(exchange);
        let mut time = AwakeTime::start();
        loop {
            if let Ok(result) = tokio::time::timeout(TICK, &mut exchange).await {
                return result;
            }
            let limit = if gate.has_sent() { sent_limit } else { unsent_limit };
            if time.look() >= limit {
                let message = format!("{} did not answer in time", self.host);
                return Err(Error::new(ErrorKind::Timeout(Phase::Headers), message));
            }
        }
    }

    /// Exchanges a refresh token. It is spent when the service has seen it, so the result must be stored, whatever happens to the
    /// caller. `LoginRequired` means that the service refuses this token for good.
    pub(super) async fn refresh(&self, refresh_token: &str, gate: &Arc<SendGate>) -> Result<Issued> {
        let form = [("client_id", CLIENT_ID), ("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let began = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let left = ATTEMPT_TIME.saturating_sub(began.elapsed());
            let error = match self.post_gated("/api/oauth/token", &form, left, ANSWER_TIME, gate).await {
                Ok(answer) if answer.status.is_success() => {
                    let received = answer.received;
                    return tokens(&answer.body)
                        .map(|tokens| Issued { tokens, received })
                        .ok_or_else(|| unusable(&answer));
                }
                Ok(answer) => refusal(&answer, refresh_token),
                Err(error) => error,
            };
            if gate.has_refused() || !error.kind.retryable() {
                return Err(error);
            }
            match pauses.next() {
                Some(pause) if began.elapsed() + *pause < ATTEMPT_TIME => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }
}

/// Returns the error for an unsuccessful refresh (docs/protocol.md#refresh-refusal).
fn refusal(answer: &TokenResponse, refresh_token: &str) -> Error {
    let status = answer.status.as_u16();
    let reason = answer.reason(&[refresh_token]);
    let (kind, message) = match status {
        _ if answer.error() == "invalid_grant" || matches!(status, 401 | 403) => (
            ErrorKind::LoginRequired,
            format!(
                "Kimi Code authorization is no longer valid ({status} {reason}). Sign in again with /login kimi-coding."
            ),
        ),
        429 => (ErrorKind::RateLimited, format!("token refresh: {status} {reason}")),
        500..=599 => (ErrorKind::Server(502), format!("token refresh: {status} {reason}")),
        300..=399 => (
            ErrorKind::Server(status),
            format!("token refresh: {status}, the OAuth host points somewhere else; the token was not sent there"),
        ),
        _ => (ErrorKind::Server(400), format!("token refresh: {status} {reason}")),
    };
    Error { status: Some(status), ..Error::new(kind, message) }
}

/// Returns the error for a success without tokens, of which nothing may be kept (docs/protocol.md#token-answers).
fn unusable(answer: &TokenResponse) -> Error {
    let what = if answer.body.is_object() { "without the expected tokens" } else { "that is not JSON" };
    let kind = ErrorKind::Server(answer.status.as_u16());
    Error::new(kind, format!("the OAuth host answered {} {what}", answer.status.as_u16()))
}

/// Reads the tokens of an answer that carries all mandatory members.
pub fn tokens(body: &Value) -> Option<Tokens> {
    let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().trim().to_owned();
    let expires_in = match body.get("expires_in")? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let (access, refresh) = (text("access_token"), text("refresh_token"));
    if access.is_empty() || refresh.is_empty() || !expires_in.is_finite() || expires_in <= 0.0 {
        return None;
    }
    Some(Tokens {
        access,
        refresh,
        expires_at_ms: Some(now_ms().saturating_add((expires_in * 1000.0) as i64)),
        expires_in: Some(expires_in as u64),
        scope: text("scope"),
        token_type: text("token_type"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn token_answer_without_a_mandatory_member_is_no_login() {
        let whole = json!({"access_token":"a","refresh_token":"r","expires_in":"900","scope":"kimi-code"});
        assert_eq!(tokens(&whole).unwrap().expires_in, Some(900));
        for missing in ["access_token", "refresh_token", "expires_in"] {
            let mut part = whole.clone();
            part.as_object_mut().unwrap().remove(missing);
            assert!(tokens(&part).is_none(), "{missing}");
        }
        assert!(tokens(&json!({"access_token":"a","refresh_token":"r","expires_in":0})).is_none());
        let endless = json!({ "access_token": "a", "refresh_token": "b", "expires_in": 1e300 });
        assert_eq!(tokens(&endless).unwrap().expires_at_ms, Some(i64::MAX));
    }

    #[test]
    fn refusal_redacts_the_token() {
        let text = r#"{"error":"invalid_grant","error_description":"token secret-token is spent"}"#;
        let answer = TokenResponse {
            status: StatusCode::BAD_REQUEST,
            body: serde_json::from_str(text).unwrap(),
            text: text.to_owned(),
            received: Instant::now(),
        };
        let error = refusal(&answer, "secret-token");
        assert_eq!(error.kind, ErrorKind::LoginRequired);
        assert!(error.message.contains("[redacted] is spent") && !error.message.contains("secret-token"));
    }
}
