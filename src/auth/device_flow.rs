//! Signing in: the OAuth 2.0 device flow (docs/protocol.md#device-flow).
//!
//! The user confirms a code in a browser while this polls. Only a refusal by the user ends it early: it goes on after rate limits,
//! server errors and network failures, and replaces an expired code by a new one.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::token::Tokens;
use super::token_endpoint::{CLIENT_ID, TokenEndpoint, TokenResponse, tokens};
use crate::config::ascii;
use crate::endpoint::parse_url;
use crate::error::{Error, ErrorKind, Result};

/// Longest wait for the user's confirmation.
const CONFIRMATION_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Pause between two polls where the service names none, and the shortest one it may name.
const INTERVAL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(1));

/// Time that each `slow_down` adds to the pause, for the rest of the flow.
const SLOW_DOWN: Duration = Duration::from_secs(5);

/// Limit for one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests for a device code until a failure ends the login.
const CODE_ATTEMPTS: u32 = 4;

/// What the user has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceCode {
    /// Code that the page shows as well, for comparison.
    pub user_code: String,
    /// Page to open in a browser, http or https.
    pub url: String,
    /// Pause between two polls.
    pub interval: Duration,
    /// Life of the code.
    pub expires_in: Duration,
    device_code: String,
}

/// A step of the flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// There is a code to confirm.
    Code(DeviceCode),
    /// The last code expired; another one follows.
    Expired,
    /// The service cannot be reached at the moment, for this reason; polling goes on.
    Trouble(String),
}

/// Runs the flow to its end. Dropping the future aborts it.
pub async fn sign_in(endpoint: &TokenEndpoint, mut report: impl FnMut(Step)) -> Result<Tokens> {
    let deadline = Instant::now() + CONFIRMATION_TIMEOUT;
    loop {
        let asked = Instant::now();
        let code = request_code(endpoint).await?;
        report(Step::Code(code.clone()));
        if let Some(tokens) = poll(endpoint, &code, deadline, &mut report).await? {
            return Ok(tokens);
        }
        // Codes that expire at once are requested no faster than the service wants to be polled.
        let next = asked + code.interval;
        if next >= deadline {
            return Err(abandoned());
        }
        report(Step::Expired);
        tokio::time::sleep_until(next).await;
    }
}

fn abandoned() -> Error {
    let message = "The Kimi Code login was not confirmed within 15 minutes. Start /login kimi-coding again.";
    Error::new(ErrorKind::LoginRequired, message)
}

async fn request_code(endpoint: &TokenEndpoint) -> Result<DeviceCode> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        let result =
            endpoint.post("/api/oauth/device_authorization", &[("client_id", CLIENT_ID)], REQUEST_TIMEOUT).await;
        let error = match result {
            Ok(answer) if answer.status.is_success() => return device_code(&answer),
            Ok(answer) => failure("device authorization", &answer, &[]),
            Err(error) => error,
        };
        if attempt == CODE_ATTEMPTS || !error.kind.retryable() {
            return Err(error);
        }
        tokio::time::sleep(Duration::from_secs(1 << (attempt - 1))).await;
    }
}

fn failure(what: &str, answer: &TokenResponse, secrets: &[&str]) -> Error {
    let status = answer.status.as_u16();
    let kind = if status == 429 { ErrorKind::RateLimited } else { ErrorKind::Server(status) };
    let message = format!("Kimi Code {what} failed: {status} {}", answer.reason(secrets));
    Error { status: Some(status), ..Error::new(kind, message) }
}

fn device_code(answer: &TokenResponse) -> Result<DeviceCode> {
    let text =
        |name: &str| answer.body.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty());
    let seconds = |name: &str| answer.body.get(name).and_then(seconds);
    let invalid =
        |what: &str| Error::new(ErrorKind::Protocol, format!("the device authorization answer of Kimi Code {what}"));
    let url = text("verification_uri_complete")
        .or_else(|| text("verification_uri"))
        .ok_or_else(|| invalid("names no page to open"))?;
    // The operating system opens it, so nothing but a web page is accepted.
    let url = parse_url(url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.host().is_some());
    Ok(DeviceCode {
        user_code: ascii(text("user_code").ok_or_else(|| invalid("has no user code"))?),
        url: url.ok_or_else(|| invalid("names a page that is not http(s)"))?.to_string(),
        interval: seconds("interval").unwrap_or(INTERVAL.0).max(INTERVAL.1),
        expires_in: seconds("expires_in").unwrap_or(Duration::from_secs(1800)),
        device_code: text("device_code").ok_or_else(|| invalid("has no device code"))?.to_owned(),
    })
}

/// Reads a time in seconds, as number or text. It is cut to the longest wait, so that adding it to a clock cannot overflow.
fn seconds(value: &Value) -> Option<Duration> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|duration| !duration.is_zero())
        .map(|time| time.min(CONFIRMATION_TIMEOUT))
}

/// Polls one code. `None` means that it expired.
async fn poll(
    endpoint: &TokenEndpoint,
    code: &DeviceCode,
    deadline: Instant,
    report: &mut impl FnMut(Step),
) -> Result<Option<Tokens>> {
    let form = [
        ("client_id", CLIENT_ID),
        ("device_code", code.device_code.as_str()),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
    ];
    let expiry = Instant::now() + code.expires_in;
    let mut interval = code.interval;
    loop {
        match endpoint.post("/api/oauth/token", &form, REQUEST_TIMEOUT).await {
            // The body decides, whatever the status: some gateways answer 200 where RFC 8628 wants 400.
            Ok(answer) => match answer.error() {
                "authorization_pending" => {}
                "slow_down" => {
                    let asked = answer.body.get("interval").and_then(seconds).unwrap_or_default();
                    interval = (interval + SLOW_DOWN).max(asked);
                }
                "expired_token" => return Ok(None),
                "access_denied" => {
                    return Err(Error::new(ErrorKind::LoginRequired, "The Kimi Code login was denied in the browser."));
                }
                "" if answer.status.is_success() && answer.body.is_object() => {
                    let unusable =
                        || Error::new(ErrorKind::Protocol, "Kimi Code confirmed the login but sent no usable tokens");
                    return tokens(&answer.body).map(Some).ok_or_else(unusable);
                }
                "" if answer.status.is_success() => {
                    report(Step::Trouble("something answers that is not the service".to_owned()));
                }
                _ if answer.status.as_u16() == 429 || answer.status.is_server_error() => {
                    report(Step::Trouble(format!("the service answers {}", answer.status.as_u16())));
                }
                _ => return Err(failure("login", &answer, &[&code.device_code])),
            },
            Err(error) if error.kind.retryable() => report(Step::Trouble(error.message)),
            Err(error) => return Err(error),
        }
        let now = Instant::now();
        if now + interval >= deadline {
            return Err(abandoned());
        }
        if now + interval >= expiry {
            return Ok(None);
        }
        tokio::time::sleep(interval).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn device_flow_times_are_cut_to_the_longest_wait() {
        for absurd in [json!(1e19), json!("1e19"), json!(u64::MAX)] {
            assert_eq!(seconds(&absurd).unwrap_or(CONFIRMATION_TIMEOUT), CONFIRMATION_TIMEOUT, "{absurd}");
        }
        assert_eq!(seconds(&json!("5")), Some(Duration::from_secs(5)));
        assert_eq!([seconds(&json!(0)), seconds(&json!(-1)), seconds(&json!("soon"))], [None; 3]);
    }
}
