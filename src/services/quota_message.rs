//! A quota error that says which window is used up and when it opens again (docs/protocol.md#quota-errors).
//!
//! The service's own text rarely says so; `/usages` does. Asking takes one request, a few seconds at most, and only helps: where
//! nothing can be found out the error stays as it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::quota_cache;
use super::usage::{Usage, Window};
use crate::auth::Credential;
use crate::client::Kimi;
use crate::error::{Error, ErrorKind};

/// The person is waiting for an error message, not for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Adds window and reset to a quota error; any other error passes unchanged.
pub async fn explain(kimi: &Kimi, credential: &Credential, mut error: Error) -> Error {
    if error.kind != ErrorKind::QuotaExhausted {
        return error;
    }
    let asked = tokio::time::timeout(PATIENCE, quota_cache::quota(kimi, credential, Duration::ZERO)).await;
    let usage = match asked {
        Ok(Ok(snapshot)) => snapshot.usage.unwrap_or_default(),
        _ => Usage::default(),
    };
    let zone = kimi.config.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC);
    let now = Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    if let Some(sentence) = sentence(&error, &usage, &now) {
        error.message = format!("{sentence} ({})", error.message);
    }
    error
}

/// "5-hour window is used up, opens 14:32 (in 1 h 12 min)."
fn sentence(error: &Error, usage: &Usage, now: &Zoned) -> Option<String> {
    if let Some(window) = rejected_item(usage, &error.message) {
        let opens = window.resets_at.and_then(|at| opening(at, now));
        return Some(match opens {
            Some(opens) => format!("{} is used up, {opens}", window.label),
            None => format!("{} is used up", window.label),
        });
    }
    let wait = error.retry_after.filter(|wait| !wait.is_zero())?;
    let at = SystemTime::now().checked_add(wait)?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("The quota is used up, {}", opening(i64::try_from(at.as_millis()).ok()?, now)?))
}

/// The window that keeps the person waiting longest. Where none reads as full, the one that the text speaks of.
fn rejected_item<'u>(usage: &'u Usage, text: &str) -> Option<&'u Window> {
    let full = usage.windows.iter().filter(|window| window.exhausted()).max_by_key(|window| window.resets_at);
    let text = text.to_ascii_lowercase();
    let named = || {
        let id = if text.contains("week") {
            "7d"
        } else if text.contains("5-hour") || text.contains("5 hour") {
            "5h"
        } else {
            return None;
        };
        usage.windows.iter().find(|window| window.id == id)
    };
    full.or_else(named)
}

/// "opens 14:32 (in 1 h 12 min)", with the day where it is another one; `None` for a moment that has passed.
fn opening(at: i64, now: &Zoned) -> Option<String> {
    let then = Timestamp::from_millisecond(at).ok()?.to_zoned(now.time_zone().clone());
    let seconds = then.timestamp().as_second() - now.timestamp().as_second();
    if seconds <= 0 {
        return None;
    }
    let pattern = match seconds {
        _ if then.date() == now.date() => "%H:%M",
        0..=518_400 => "%a %H:%M",
        _ => "%b %-d %H:%M",
    };
    Some(format!("opens {} (in {})", then.strftime(pattern), duration(seconds)))
}

/// `12 min`, `1 h 12 min`, `2 d 3 h`, rounded up to the minute.
fn duration(seconds: i64) -> String {
    let minutes = (seconds + 59) / 60;
    let (days, hours, rest) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours, rest) {
        (0, 0, rest) => format!("{rest} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, rest) => format!("{hours} h {rest} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::services::usage::parse;

    fn at(text: &str, zone: &str) -> Zoned {
        text.parse::<Timestamp>().unwrap().to_zoned(TimeZone::get(zone).unwrap())
    }

    fn millis(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn error(message: &str, wait: Option<u64>) -> Error {
        Error { retry_after: wait.map(Duration::from_secs), ..Error::new(ErrorKind::QuotaExhausted, message) }
    }

    #[test]
    fn the_sentence_names_window_and_opening() {
        let usage = parse(&json!({"usages": {
            "limit_5h": {"used_ratio": 1, "reset_time": "2026-11-22T13:32:00Z"},
            "limit_7d": {"used_ratio": 0.4, "reset_time": "2026-11-27T00:00:00Z"}}}))
        .unwrap();
        let now = at("2026-11-22T12:20:00Z", "Europe/Berlin");
        let said = sentence(&error("403 limit", None), &usage, &now).unwrap();
        assert_eq!(said, "5-hour window is used up, opens 14:32 (in 1 h 12 min)");
    }

    #[test]
    fn of_two_full_windows_the_later_one_counts() {
        let usage = parse(&json!({"usages": {
            "limit_5h": {"used_ratio": 1, "reset_time": "2026-11-22T13:32:00Z"},
            "limit_7d": {"used_ratio": 1.02, "reset_time": "2026-11-24T15:00:00Z"}}}))
        .unwrap();
        let said = sentence(&error("x", None), &usage, &at("2026-11-22T12:00:00Z", "UTC")).unwrap();
        assert_eq!(said, "Weekly window is used up, opens Tue 15:00 (in 2 d 3 h)");
    }

    #[test]
    fn the_services_own_words_and_pause_count_where_the_quota_says_nothing() {
        let now = at("2026-11-22T12:00:00Z", "UTC");
        let usage = parse(&json!({"usages": {"limit_7d": {"used_ratio": 0.97}}})).unwrap();
        let said = sentence(&error("You've reached your weekly limit", None), &usage, &now).unwrap();
        assert_eq!(said, "Weekly window is used up");
        assert_eq!(sentence(&error("x", None), &Usage::default(), &now), None);
    }

    /// In Berlin clocks went back at 03:00 on October 25th 2026: the hour from two to three came twice.
    #[test]
    fn an_opening_after_the_clocks_changed_is_told_in_the_new_time() {
        let now = at("2026-10-24T22:30:00Z", "Europe/Berlin");
        assert_eq!(opening(millis("2026-10-25T03:30:00Z"), &now).unwrap(), "opens 04:30 (in 5 h)");
        let spring = at("2026-03-28T23:30:00Z", "Europe/Berlin");
        assert_eq!(opening(millis("2026-03-29T04:30:00Z"), &spring).unwrap(), "opens 06:30 (in 5 h)");
        assert_eq!(opening(millis("2026-10-24T22:30:00Z"), &now), None);
        assert_eq!(opening(millis("2026-11-24T22:30:00Z"), &now).unwrap(), "opens Nov 24 23:30 (in 31 d)");
    }
}
