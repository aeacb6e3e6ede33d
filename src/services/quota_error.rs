//! Errors that name the quota window which is used up.
//!
//! The service's own text rarely says which window is used up and when it opens again (docs/protocol.md#quota-errors); `/usages`
//! does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Zoned;

use super::quota_cache;
use super::quota_display::{now, opening};
use super::usage::{Usage, Window};
use crate::auth::Credential;
use crate::client::Kimi;
use crate::error::{Error, ErrorKind, QuotaWindow};

/// Limit for asking `/usages` about a quota error: the user waits for an error message, not for an answer.
const EXPLAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// How old the quota may be that explains an error: of several processes that are refused at once, one asks.
const EXPLAINED_BY: Duration = Duration::from_secs(10);

/// Adds window and reset to the text of a quota error, and the reset as a number; any other error is returned unchanged. Where nothing can be found out, so is this one.
pub async fn explain(kimi: &Kimi, credential: &Credential, mut error: Error) -> Error {
    if error.kind != ErrorKind::QuotaExhausted {
        return error;
    }
    let asked = tokio::time::timeout(EXPLAIN_TIMEOUT, quota_cache::quota(kimi, credential, EXPLAINED_BY)).await;
    let usage = match asked {
        Ok(Ok(snapshot)) => snapshot.usage.unwrap_or_default(),
        _ => Usage::default(),
    };
    let now = now(&kimi.config);
    if let Some(sentence) = sentence(&error, &usage, &now) {
        error.message = format!("{sentence} ({})", error.message);
    }
    let is_to_come = |at: &i64| *at > now.timestamp().as_millisecond();
    error.resets_at = opens_at(&error, &usage).or(error.resets_at).filter(is_to_come);
    error
}

/// Returns when the window that is used up opens, as far as `/usages` or the refusal says so.
fn opens_at(error: &Error, usage: &Usage) -> Option<i64> {
    match used_up_window(usage, error.window) {
        Some(window) => window.resets_at,
        None => error.retry_after.and_then(end_of_wait),
    }
}

/// "5-hour window is used up, opens 14:32 (in 1 h 12 min)"
fn sentence(error: &Error, usage: &Usage, now: &Zoned) -> Option<String> {
    let used_up = used_up_window(usage, error.window);
    let label = used_up.map_or_else(|| error.window.map(QuotaWindow::label), |window| Some(window.label.as_str()));
    match (label, opens_at(error, usage).and_then(|at| opening(at, now))) {
        (Some(label), Some(opens)) => Some(format!("{label} is used up, {opens}")),
        (Some(label), None) => Some(format!("{label} is used up")),
        (None, Some(opens)) => Some(format!("The quota is used up, {opens}")),
        (None, None) => None,
    }
}

/// Returns when a wait that begins now ends, in milliseconds since 1970.
fn end_of_wait(wait: Duration) -> Option<i64> {
    let at = SystemTime::now().checked_add(wait)?.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(at.as_millis()).ok().filter(|_| !wait.is_zero())
}

/// Returns the window that is used up; of several spans of time, the one that opens last. Where none reads as full, the one that the
/// text names.
pub fn used_up_window(usage: &Usage, named: Option<QuotaWindow>) -> Option<&Window> {
    let full = usage.windows.iter().filter(|window| window.is_used_up());
    full.max_by_key(|window| (window.is_of_time(), window.resets_at))
        .or_else(|| usage.windows.iter().find(|window| named.is_some_and(|named| window.id == named.id())))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;
    use serde_json::json;

    use super::*;
    use crate::error::from_response;
    use crate::services::usage::parse;

    fn at(text: &str, zone: &str) -> Zoned {
        text.parse::<Timestamp>().unwrap().to_zoned(TimeZone::get(zone).unwrap())
    }

    fn error(message: &str, wait: Option<u64>) -> Error {
        Error { retry_after: wait.map(Duration::from_secs), ..Error::new(ErrorKind::QuotaExhausted, message) }
    }

    #[test]
    fn quota_error_names_window_and_opening() {
        let usage = parse(&json!({"usages": {
            "limit_5h": {"used_ratio": 1, "reset_time": "2026-11-22T13:32:00Z"},
            "limit_7d": {"used_ratio": 0.4, "reset_time": "2026-11-27T00:00:00Z"}}}))
        .unwrap();
        let now = at("2026-11-22T12:20:00Z", "Europe/Berlin");
        let text = sentence(&error("403 limit", None), &usage, &now).unwrap();
        assert_eq!(text, "5-hour window is used up, opens 14:32 (in 1 h 12 min)");
    }

    #[test]
    fn quota_error_of_two_full_windows_names_the_later_one() {
        let usage = parse(&json!({"usages": {
            "limit_5h": {"used_ratio": 1, "reset_time": "2026-11-22T13:32:00Z"},
            "limit_7d": {"used_ratio": 1.02, "reset_time": "2026-11-24T15:00:00Z"}}}))
        .unwrap();
        let text = sentence(&error("x", None), &usage, &at("2026-11-22T12:00:00Z", "UTC")).unwrap();
        assert_eq!(text, "Weekly window is used up, opens Tue 15:00 (in 2 d 3 h)");
    }

    #[test]
    fn quota_error_without_a_full_window_uses_the_services_own_words() {
        let now = at("2026-11-22T12:00:00Z", "UTC");
        let usage = parse(&json!({"usages": {"limit_7d": {"used_ratio": 0.97}}})).unwrap();
        let named = |text: &str, usage: &Usage| {
            let body = json!({ "error": { "message": text } }).to_string();
            sentence(&from_response(403, &body, None, None), usage, &now).unwrap()
        };
        assert_eq!(named("You've reached your weekly limit", &usage), "Weekly window is used up");
        let month =
            parse(&json!({"usages": {"limit_month_total": {"used_ratio": 0.9, "reset_time": "2026-11-22T13:00:00Z"}}}));
        assert_eq!(
            named("You've reached your usage limit for this billing cycle", &month.unwrap()),
            "Monthly window is used up, opens 13:00 (in 1 h)"
        );
        assert_eq!(named("5-hour limit reached", &Usage::default()), "5-hour window is used up");
        assert_eq!(sentence(&error("x", None), &Usage::default(), &now), None);
    }
}
