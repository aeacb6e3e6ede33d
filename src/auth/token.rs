//! Tokens, and the one endpoint that issues them (docs/protocol.md#token-answers).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use reqwest::header::{ACCEPT, HeaderMap};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use super::jwt::Claims;
use crate::error::{Error, ErrorKind, Phase, Result, clip, service_text};
use crate::http::body::read_whole;

/// The client id that the service knows; the same in both regions.
pub const CLIENT_ID: &str = "17e5f671-d194-4dfb-9706-5516cb48c098";

/// Attempts of one exchange, and the pauses between them.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// Longest answer that is read; a token answer has about a kilobyte.
const MAX_ANSWER: usize = 64 << 10;

/// One login. Times are Unix milliseconds by our own clock.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Goes into `Authorization`.
    pub access: String,
    /// Works once.
    pub refresh: String,
    /// When `access` ends; 0 if unknown.
    pub expires_at_ms: i64,
    /// Life it was issued for, in seconds; 0 if unknown.
    pub expires_in: u64,
    /// As the service said it.
    pub scope: String,
    /// As the service said it.
    pub token_type: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_at_ms", &self.expires_at_ms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Life left by our clock.
    pub fn remaining(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.expires_at_ms.saturating_sub(now_ms())).unwrap_or(0))
    }

    /// Whether `access` may still be sent. One whose end is unknown may.
    pub fn is_valid(&self) -> bool {
        !self.access.is_empty() && (self.expires_at_ms == 0 || !self.remaining().is_zero())
    }

    /// Whether it is time to refresh before somebody needs it: less than 5 minutes or half of its life left
    /// (docs/protocol.md#refresh-threshold).
    pub fn is_due(&self) -> bool {
        let half = Duration::from_secs(self.expires_in / 2);
        self.access.is_empty() || (self.expires_at_ms != 0 && self.remaining() < half.max(Duration::from_secs(300)))
    }

    /// Whose login this is, where the token says it.
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

    /// What tells the age of a login, the most telling first, in seconds. A refresh token's end will do for its issue: all have
    /// the same life.
    fn dates(&self) -> [Option<f64>; 7] {
        let (access, refresh) = (Claims::of(&self.access), Claims::of(&self.refresh));
        let end = access.as_ref().and_then(Claims::end);
        let our_end = (self.expires_at_ms != 0).then_some(self.expires_at_ms as f64 / 1000.0);
        let life = (self.expires_in > 0).then_some(self.expires_in as f64);
        let begin = |end: Option<f64>| Some(end? - life?);
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

    /// Both tokens say whose they are, and say the same.
    pub fn is_surely_of(&self, other: &Self) -> bool {
        self.subject().is_some_and(|ours| other.subject() == Some(ours))
    }

    /// False only if both tokens say whose they are and say it differently. Two accounts on one machine must never be
    /// mixed up by whoever refreshes last.
    pub fn same_account(&self, other: &Self) -> bool {
        match (self.subject(), other.subject()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The OAuth endpoints of one host.
#[derive(Debug, Clone)]
pub struct TokenEndpoint {
    /// Without a trailing slash.
    pub host: String,
    /// Follows no redirects: a token posted to one host must not wander to another.
    pub http: Client,
    /// Who we are.
    pub headers: HeaderMap,
}

/// An answer of the OAuth host, whatever its status.
pub(super) struct TokenResponse {
    pub status: StatusCode,
    pub body: Value,
    text: String,
}

impl TokenResponse {
    /// The OAuth error code, or an empty text. The service's other endpoints wrap theirs in an object.
    pub fn error(&self) -> &str {
        let error = self.body.get("error").unwrap_or(&Value::Null);
        let wrapped = || ["code", "type"].iter().find_map(|name| error.get(name)?.as_str());
        error.as_str().or_else(wrapped).unwrap_or_default()
    }

    /// What the service says about it, without anything of `secrets`.
    pub fn reason(&self, secrets: &[&str]) -> String {
        let mut text = service_text(&self.text);
        for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
            text = text.replace(secret, "[redacted]");
        }
        let text = clip(text.trim(), 300);
        if text.is_empty() { "no reason given".to_owned() } else { text }
    }
}

impl TokenEndpoint {
    /// Posts a form and reads the whole answer.
    pub(super) async fn post(&self, path: &str, form: &[(&str, &str)], timeout: Duration) -> Result<TokenResponse> {
        let url = format!("{}{path}", self.host);
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let exchange = async {
            let sending = self
                .http
                .post(&url)
                .headers(self.headers.clone())
                .header(ACCEPT, "application/json")
                .header(reqwest::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(body)
                .send();
            let response = sending.await.map_err(|error| Error::from_reqwest(error, Phase::Headers))?;
            let status = response.status();
            let bytes = match read_whole(response, MAX_ANSWER).await {
                // Far too large to be an answer with tokens.
                Err(error) if error.kind == ErrorKind::Protocol => Vec::new(),
                body => body?,
            };
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Ok(TokenResponse { status, body: serde_json::from_str(&text).unwrap_or(Value::Null), text })
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout(Phase::Headers), format!("{} did not answer in time", self.host)))
        })
    }

    /// Exchanges a refresh token. It is spent the moment the service has seen it, so the result must be written whatever
    /// becomes of the caller. `LoginRequired` means that the service refuses this token for good.
    pub async fn refresh(&self, refresh_token: &str, budget: Duration) -> Result<Tokens> {
        let deadline = Instant::now() + budget;
        let form = [("client_id", CLIENT_ID), ("grant_type", "refresh_token"), ("refresh_token", refresh_token)];
        let mut pauses = PAUSES.iter();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let error = match self.post("/api/oauth/token", &form, left).await {
                Ok(answer) if answer.status.is_success() => return tokens(&answer.body).ok_or_else(|| odd(&answer)),
                Ok(answer) => refusal(&answer, refresh_token),
                Err(error) => error,
            };
            if !error.kind.retryable() {
                return Err(error);
            }
            match pauses.next() {
                Some(pause) if Instant::now() + *pause < deadline => tokio::time::sleep(*pause).await,
                _ => return Err(error),
            }
        }
    }
}

/// What an unsuccessful refresh means (docs/protocol.md#refresh-refusal).
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

/// A success that is none: nothing of it may be kept (docs/protocol.md#token-answers).
fn odd(answer: &TokenResponse) -> Error {
    let what = if answer.body.is_object() { "without the expected tokens" } else { "that is not JSON" };
    let kind = ErrorKind::Server(answer.status.as_u16());
    Error::new(kind, format!("the OAuth host answered {} {what}", answer.status.as_u16()))
}

/// The tokens of an answer that carries all that is mandatory.
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
        expires_at_ms: now_ms().saturating_add((expires_in * 1000.0) as i64),
        expires_in: expires_in as u64,
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
        let expires_at_ms = now_ms() + remaining * 1000;
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
    fn a_token_is_due_at_half_its_life_and_never_later_than_five_minutes_before_its_end() {
        assert!(!login("a".into(), 520, 900).is_due());
        assert!(login("a".into(), 440, 900).is_due());
        assert!(login("a".into(), 290, 400).is_due());
        assert!(!login("a".into(), 310, 0).is_due());
        let undated = Tokens { expires_at_ms: 0, ..login("a".into(), 0, 900) };
        assert!(!undated.is_due() && undated.is_valid());
        assert!(!login("a".into(), -1, 900).is_valid());
    }

    #[test]
    fn an_absurd_date_is_only_a_date() {
        let dated = |expires_at_ms| Tokens { expires_at_ms, ..login("a".into(), 0, 900) };
        assert!(dated(i64::MIN).is_due() && !dated(i64::MIN).is_valid());
        assert!(dated(i64::MAX).is_valid());
        let endless = json!({ "access_token": "a", "refresh_token": "b", "expires_in": 1e300 });
        assert_eq!(tokens(&endless).unwrap().expires_at_ms, i64::MAX);
    }

    #[test]
    fn accounts_are_told_apart_by_what_the_tokens_say() {
        let of = |subject: &str| login(jwt(&json!({ "sub": subject })), 900, 900);
        assert!(of("me").same_account(&of("me")));
        assert!(!of("me").same_account(&of("you")));
        assert!(of("me").same_account(&login("opaque".into(), 900, 900)));
    }

    #[test]
    fn the_younger_login_is_told_by_the_services_clock_where_ours_was_set_in_between() {
        let of = |service_end: i64, our_end: i64| login(jwt(&json!({ "exp": service_end })), our_end, 900);
        assert!(of(2000, 800).issued_after(&of(1000, 4400)));
        assert!(!of(1000, 4400).issued_after(&of(2000, 800)));
        assert!(login("opaque".into(), 900, 900).issued_after(&of(2000, 100)));
    }

    #[test]
    fn a_younger_login_with_a_shorter_life_is_still_the_younger_one() {
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
    fn an_answer_without_all_mandatory_members_is_no_login() {
        let whole = json!({"access_token":"a","refresh_token":"r","expires_in":"900","scope":"kimi-code"});
        assert_eq!(tokens(&whole).unwrap().expires_in, 900);
        for missing in ["access_token", "refresh_token", "expires_in"] {
            let mut part = whole.clone();
            part.as_object_mut().unwrap().remove(missing);
            assert!(tokens(&part).is_none(), "{missing}");
        }
        assert!(tokens(&json!({"access_token":"a","refresh_token":"r","expires_in":0})).is_none());
    }

    #[test]
    fn a_refusal_never_quotes_the_token() {
        let text = r#"{"error":"invalid_grant","error_description":"token secret-token is spent"}"#;
        let answer = TokenResponse {
            status: StatusCode::BAD_REQUEST,
            body: serde_json::from_str(text).unwrap(),
            text: text.to_owned(),
        };
        let error = refusal(&answer, "secret-token");
        assert_eq!(error.kind, ErrorKind::LoginRequired);
        assert!(error.message.contains("[redacted] is spent") && !error.message.contains("secret-token"));
        assert!(!format!("{:?}", login("secret".into(), 1, 1)).contains("secret"));
    }
}
