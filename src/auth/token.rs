//! Tokens, and the endpoint that issues them (docs/protocol.md#token-answers).

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

use super::jwt::Claims;
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

/// Life below which a token is refreshed in any case (docs/protocol.md#refresh-threshold).
const SHORT_LIFE: Duration = Duration::from_secs(300);

/// One login.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Goes into `Authorization`.
    pub access: String,
    /// Works once.
    pub refresh: String,
    /// End of `access` by our clock, in milliseconds since 1970, where it is known.
    pub expires_at_ms: Option<i64>,
    /// Life of `access` when it was issued, in seconds, where it is known.
    pub expires_in: Option<u64>,
    /// As the service sent it.
    pub scope: String,
    /// As the service sent it.
    pub token_type: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_at_ms", &self.expires_at_ms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Returns the life left by our clock, where the end is known.
    fn remaining(&self) -> Option<Duration> {
        let left = self.expires_at_ms?.saturating_sub(now_ms());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// Whether `access` may still be sent. A token whose end is unknown may.
    pub fn is_valid(&self) -> bool {
        !self.access.is_empty() && self.remaining().is_none_or(|left| !left.is_zero())
    }

    /// Whether the login should be refreshed before it is used: less than 5 minutes or half of its life are left
    /// (docs/protocol.md#refresh-threshold).
    pub fn is_due(&self) -> bool {
        let half = Duration::from_secs(self.expires_in.unwrap_or(0) / 2);
        self.access.is_empty() || self.remaining().is_some_and(|left| left < half.max(SHORT_LIFE))
    }

    /// Returns the user, where the token names one.
    fn subject(&self) -> Option<String> {
        Claims::of(&self.access)?.subject()
    }

    /// Whether this is the younger of two logins, by the first date that both have and that differs. The service's clock comes
    /// first, because ours may have been set between the two; dates of issue come before ends, because the younger token may have
    /// been given the shorter life.
    pub fn issued_after(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.dates(), other.dates());
        let pairs = ours.into_iter().zip(theirs).filter_map(|(ours, theirs)| Some((ours?, theirs?)));
        pairs.into_iter().find(|(ours, theirs)| ours != theirs).is_some_and(|(ours, theirs)| ours > theirs)
    }

    /// Returns what tells the age of a login, the most reliable first, in seconds. A refresh token's end stands for its issue,
    /// because all have the same life.
    fn dates(&self) -> [Option<f64>; 7] {
        let (access, refresh) = (Claims::of(&self.access), Claims::of(&self.refresh));
        let end = access.as_ref().and_then(Claims::end);
        let our_end = self.expires_at_ms.map(|end| end as f64 / 1000.0);
        let begin = |end: Option<f64>| Some(end? - self.expires_in? as f64);
        [
            access.as_ref().and_then(Claims::issued),
            refresh.as_ref().and_then(Claims::issued),
            refresh.as_ref().and_then(Claims::end),
            begin(end),
            begin(our_end),
            end,
            our_end,
        ]
    }

    /// Whether both tokens name the same user.
    pub fn is_surely_of(&self, other: &Self) -> bool {
        self.subject().is_some_and(|ours| other.subject() == Some(ours))
    }

    /// Whether both may belong to one user: false only if both tokens name one, and not the same. Two accounts on one machine
    /// must not be mixed up.
    pub fn same_account(&self, other: &Self) -> bool {
        match (self.subject(), other.subject()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

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
    use crate::auth::samples::jwt;
    use serde_json::json;

    fn login(access: String, remaining: i64, expires_in: u64) -> Tokens {
        let expires_at_ms = Some(now_ms() + remaining * 1000);
        let expires_in = Some(expires_in).filter(|life| *life > 0);
        Tokens {
            access,
            refresh: "r".into(),
            expires_at_ms,
            expires_in,
            scope: String::new(),
            token_type: String::new(),
        }
    }

    /// Observed boundaries of the official client: 520 s left no, 440 s left yes (docs/protocol.md#refresh-threshold).
    #[test]
    fn tokens_due_at_half_of_their_life_or_five_minutes_before_their_end() {
        assert!(!login("a".into(), 520, 900).is_due());
        assert!(login("a".into(), 440, 900).is_due());
        assert!(login("a".into(), 290, 400).is_due());
        assert!(!login("a".into(), 310, 0).is_due());
        let undated = Tokens { expires_at_ms: None, ..login("a".into(), 0, 900) };
        assert!(!undated.is_due() && undated.is_valid());
        assert!(!login("a".into(), -1, 900).is_valid());
    }

    #[test]
    fn tokens_with_an_extreme_date_do_not_overflow() {
        let dated = |end| Tokens { expires_at_ms: Some(end), ..login("a".into(), 0, 900) };
        assert!(dated(i64::MIN).is_due() && !dated(i64::MIN).is_valid());
        assert!(dated(i64::MAX).is_valid());
        let endless = json!({ "access_token": "a", "refresh_token": "b", "expires_in": 1e300 });
        assert_eq!(tokens(&endless).unwrap().expires_at_ms, Some(i64::MAX));
    }

    #[test]
    fn tokens_of_two_users_differ_and_opaque_ones_fit_any() {
        let of = |subject: &str| login(jwt(&json!({ "sub": subject })), 900, 900);
        assert!(of("me").same_account(&of("me")));
        assert!(!of("me").same_account(&of("you")));
        assert!(of("me").same_account(&login("opaque".into(), 900, 900)));
    }

    #[test]
    fn younger_login_by_the_services_clock_when_ours_was_set_in_between() {
        let of = |service_end: i64, our_end: i64| login(jwt(&json!({ "exp": service_end })), our_end, 900);
        assert!(of(2000, 800).issued_after(&of(1000, 4400)));
        assert!(!of(1000, 4400).issued_after(&of(2000, 800)));
        assert!(login("opaque".into(), 900, 900).issued_after(&of(2000, 100)));
    }

    #[test]
    fn younger_login_with_a_shorter_life_is_recognized() {
        let of = |claims: Value, end: i64, life: u64| login(jwt(&claims), end, life);
        let issued = |at: i64, end: i64| of(json!({ "iat": at, "exp": end }), end, 0);
        assert!(issued(1010, 1100).issued_after(&issued(1000, 1900)));
        assert!(!issued(1000, 1900).issued_after(&issued(1010, 1100)));
        let ending = |end: i64, life: u64| of(json!({ "exp": end }), 0, life);
        assert!(ending(1100, 60).issued_after(&ending(1900, 900)));
        let with_refresh = |at: i64, end: i64| Tokens { refresh: jwt(&json!({ "iat": at })), ..ending(end, 0) };
        assert!(with_refresh(1010, 1100).issued_after(&with_refresh(1000, 1900)));
        let opaque = |end: i64, life: u64| login("opaque".into(), end, life);
        assert!(opaque(100, 60).issued_after(&opaque(800, 900)));
        let same = opaque(100, 60);
        assert!(!same.issued_after(&same));
    }

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
        assert!(!format!("{:?}", login("secret".into(), 1, 1)).contains("secret"));
    }
}
