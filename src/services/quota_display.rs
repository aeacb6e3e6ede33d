//! Words about quotas: the footer and the rows of `/kimi-usage`. Times are in the user's time zone.

use std::time::{Duration, SystemTime};

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Serialize;

use super::quota_cache::Snapshot;
use super::usage::Window;
use super::window_name::WindowName;
use crate::config::Config;
use crate::display_text::{duration, visible};

/// Age from which a quota counts as stale; it is older than several refresh intervals of the footer.
const STALE_AFTER: Duration = Duration::from_secs(10 * 60);

/// Used share from which a window is shown as a warning, and as an alarm.
const WARNING_SHARE: f64 = 0.8;
const ALARM_SHARE: f64 = 0.95;

/// How full a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum QuotaLevel {
    /// Below 80 %, or unknown.
    Ok,
    /// From 80 % on.
    Warning,
    /// From 95 % on.
    Alarm,
}

impl QuotaLevel {
    fn of(share: Option<f64>) -> Self {
        match share {
            Some(share) if share >= ALARM_SHARE => Self::Alarm,
            Some(share) if share >= WARNING_SHARE => Self::Warning,
            _ => Self::Ok,
        }
    }
}

/// A quota and the words that show it, as JavaScript gets them.
#[derive(Debug, Serialize)]
pub struct QuotaReport {
    #[serde(flatten)]
    snapshot: Snapshot,
    /// The words.
    pub display: QuotaDisplay,
}

/// The words that show a quota at one moment.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaDisplay {
    /// The footer: `5h 62%`, `wk 18%`, `resets 14:32`. Empty if there is nothing to show.
    pub status: Vec<StatusPart>,
    /// The quota is old, or the last request for it failed.
    pub stale: bool,
    /// When it was fetched, `14:32`.
    pub as_of: Option<String>,
    /// One row for each window of the usage, in the same order.
    pub windows: Vec<WindowDisplay>,
}

/// A part of the footer.
#[derive(Debug, PartialEq, Serialize)]
pub struct StatusPart {
    /// The words.
    pub text: String,
    /// How full the window is that the part speaks of.
    pub level: QuotaLevel,
}

/// The words that show a window.
#[derive(Debug, PartialEq, Serialize)]
pub struct WindowDisplay {
    /// `5-hour window`.
    pub label: String,
    /// `62%`; absent where there is no limit.
    pub share: Option<String>,
    /// How full it is.
    pub level: QuotaLevel,
    /// When it opens again, `14:32`, if that is still to come.
    pub resets: Option<String>,
    /// How long until then, `1 h 12 min`.
    pub remaining: Option<String>,
    /// What the share is made of, `kimi 10%`.
    pub parts: Vec<String>,
}

/// Adds the words that show a quota now. The problem may quote the service, so it is made safe to print.
pub fn report(config: &Config, mut snapshot: Snapshot) -> QuotaReport {
    snapshot.problem = snapshot.problem.map(|problem| visible(&problem).into_owned());
    let display = display(&snapshot, &now(config));
    QuotaReport { snapshot, display }
}

impl QuotaReport {
    /// Adds when a window will be used up, `full 13:50`, to the footer.
    pub fn tell_forecast(&mut self, config: &Config, full_at: i64) {
        if let Some(at) = clock(full_at, &now(config)) {
            self.display.status.push(StatusPart { text: format!("→ full {at}"), level: QuotaLevel::Warning });
        }
    }
}

/// Returns the user's time zone: the one that the environment names, else the system's.
pub fn time_zone(config: &Config) -> TimeZone {
    let named = config.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok());
    named.or_else(|| TimeZone::try_system().ok()).unwrap_or(TimeZone::UTC)
}

/// Formats when a window opens, "opens 14:32 (in 1 h 12 min)"; `None` for a moment that has passed.
pub fn opening_at(config: &Config, at: i64) -> Option<String> {
    opening(at, &now(config))
}

/// Formats a moment as the user's clock shows it, `14:32`, with the day where it is another one.
pub fn clock_at(config: &Config, at: i64) -> Option<String> {
    clock(at, &now(config))
}

/// Returns the time in the user's zone.
pub(super) fn now(config: &Config) -> Zoned {
    Timestamp::try_from(SystemTime::now()).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(time_zone(config))
}

/// Returns the words that show a quota at `now`, in its time zone.
pub fn display(snapshot: &Snapshot, now: &Zoned) -> QuotaDisplay {
    let windows = snapshot.usage.as_ref().map(|usage| usage.windows.as_slice()).unwrap_or_default();
    let as_of = snapshot.fetched_at.and_then(|at| clock(at, now));
    let age = snapshot.fetched_at.map(|at| now.timestamp().as_millisecond().saturating_sub(at));
    let fresh = age.is_some_and(|age| u128::try_from(age).is_ok_and(|age| age <= STALE_AFTER.as_millis()));
    let stale = snapshot.problem.is_some() || !fresh;
    let mut status = status(windows, now);
    if stale && !status.is_empty() {
        status.extend(as_of.as_ref().map(|at| StatusPart { text: format!("as of {at}"), level: QuotaLevel::Ok }));
    }
    QuotaDisplay { status, stale, as_of, windows: windows.iter().map(|window| row(window, now)).collect() }
}

fn row(window: &Window, now: &Zoned) -> WindowDisplay {
    let reset = window.resets_at.and_then(|at| Some((clock(at, now)?, until(at, now)?)));
    let (resets, remaining) = reset.map(|(clock, left)| (clock, duration(left))).unzip();
    WindowDisplay {
        label: window.label.clone(),
        share: window.used_ratio.map(percent),
        level: QuotaLevel::of(window.used_ratio),
        resets,
        remaining,
        parts: window.parts.iter().map(|part| format!("{} {}", part.label, percent(part.used_ratio))).collect(),
    }
}

/// The windows that fit into one line (the 5-hour and the weekly one, and those that are nearly used up), and the next reset.
fn status(windows: &[Window], now: &Zoned) -> Vec<StatusPart> {
    let known: Vec<&Window> = windows.iter().filter(|window| window.used_ratio.is_some()).collect();
    let essential = |window: &&&Window| {
        matches!(window.id.as_str(), WindowName::FIVE_HOURS | WindowName::WEEK)
            || QuotaLevel::of(window.used_ratio) != QuotaLevel::Ok
    };
    let mut chosen: Vec<&Window> = known.iter().filter(essential).copied().collect();
    if chosen.is_empty() {
        chosen = known.into_iter().take(2).collect();
    }
    let mut status: Vec<StatusPart> = chosen
        .iter()
        .filter_map(|window| {
            let text = format!("{} {}", window.short, percent(window.used_ratio?));
            Some(StatusPart { text, level: QuotaLevel::of(window.used_ratio) })
        })
        .collect();
    // The reset that matters is that of the fullest window.
    let resetting = || chosen.iter().filter(|window| window.resets_at.is_some());
    let nearly_used_up = resetting()
        .filter(|window| QuotaLevel::of(window.used_ratio) != QuotaLevel::Ok)
        .max_by(|a, b| a.used_ratio.unwrap_or(0.0).total_cmp(&b.used_ratio.unwrap_or(0.0)));
    let next = nearly_used_up.or_else(|| resetting().next()).and_then(|window| window.resets_at);
    if let Some(at) = next.filter(|at| until(*at, now).is_some()).and_then(|at| clock(at, now)) {
        status.push(StatusPart { text: format!("resets {at}"), level: QuotaLevel::Ok });
    }
    status
}

/// Formats a share: `62%`. What is used never reads as 0 %, and what is left never as 100 %.
fn percent(share: f64) -> String {
    let exact = share * 100.0;
    match exact {
        _ if exact > 0.0 && exact < 1.0 => "1%".to_owned(),
        _ if exact > 99.0 && exact < 99.95 => "99%".to_owned(),
        _ => format!("{}%", exact.round().clamp(0.0, 999.0)),
    }
}

/// "opens 14:32 (in 1 h 12 min)"; `None` for a moment that has passed.
pub(super) fn opening(at: i64, now: &Zoned) -> Option<String> {
    Some(format!("opens {} (in {})", clock(at, now)?, duration(until(at, now)?)))
}

/// Returns the time left until a moment in milliseconds since 1970; `None` if it has passed.
fn until(at: i64, now: &Zoned) -> Option<Duration> {
    let left = at.checked_sub(now.timestamp().as_millisecond()).and_then(|left| u64::try_from(left).ok())?;
    Some(Duration::from_millis(left)).filter(|left| !left.is_zero())
}

/// Formats a moment: `14:32`, with the day where it is another one: `Fri 14:32`, `Dec 12 14:32`.
fn clock(at: i64, now: &Zoned) -> Option<String> {
    let then = Timestamp::from_millisecond(at).ok()?.to_zoned(now.time_zone().clone());
    let days = (then.timestamp().as_second() - now.timestamp().as_second()) / 86_400;
    let pattern = match days {
        _ if then.date() == now.date() => "%H:%M",
        // A weekday names one day of the coming week only.
        0..6 => "%a %H:%M",
        _ => "%b %-d %H:%M",
    };
    Some(then.strftime(pattern).to_string())
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

    /// In Berlin clocks went back at 03:00 on October 25th 2026: the hour from two to three came twice.
    #[test]
    fn opening_after_a_clock_change_is_in_the_new_time() {
        let now = at("2026-10-24T22:30:00Z", "Europe/Berlin");
        assert_eq!(opening(millis("2026-10-25T03:30:00Z"), &now).unwrap(), "opens 04:30 (in 5 h)");
        let spring = at("2026-03-28T23:30:00Z", "Europe/Berlin");
        assert_eq!(opening(millis("2026-03-29T04:30:00Z"), &spring).unwrap(), "opens 06:30 (in 5 h)");
        assert_eq!(opening(millis("2026-10-24T22:30:00Z"), &now), None);
        assert_eq!(opening(millis("2026-11-24T22:30:00Z"), &now).unwrap(), "opens Nov 24 23:30 (in 31 d)");
    }

    fn footer(answer: &serde_json::Value, fetched: Option<&str>, problem: Option<&str>) -> (String, bool) {
        let now = at("2026-11-22T12:00:00Z", "UTC");
        let snapshot =
            Snapshot { usage: parse(answer), fetched_at: fetched.map(millis), problem: problem.map(str::to_owned) };
        let display = display(&snapshot, &now);
        let parts: Vec<String> =
            display.status.into_iter().map(|part| format!("{} {:?}", part.text, part.level)).collect();
        (parts.join(" · "), display.stale)
    }

    #[test]
    fn footer_shows_the_essential_windows_and_the_reset_that_matters() {
        let fresh = Some("2026-11-22T11:59:00Z");
        let quiet = json!({"usages": {
            "limit_5h": {"used_ratio": 0.62, "reset_time": "2026-11-22T14:32:00Z"},
            "limit_7d": {"used_ratio": 0.18, "reset_time": "2026-11-27T00:00:00Z"},
            "limit_month_total": {"used_ratio": 0.4, "reset_time": "2026-12-12T00:00:00Z"}}});
        assert_eq!(footer(&quiet, fresh, None), ("5h 62% Ok · wk 18% Ok · resets 14:32 Ok".to_owned(), false));
        let full = json!({"usages": {
            "limit_5h": {"used_ratio": 0.8, "reset_time": "2026-11-22T14:32:00Z"},
            "limit_month_total": {"used_ratio": 0.998, "reset_time": "2026-12-12T00:00:00Z"}}});
        assert_eq!(
            footer(&full, fresh, None),
            ("5h 80% Warning · mo 99% Alarm · resets Dec 12 00:00 Ok".to_owned(), false)
        );
        assert_eq!(footer(&json!({}), None, Some("offline")), (String::new(), true));
    }

    #[test]
    fn footer_of_an_old_quota_says_when_it_was_fetched() {
        let answer = json!({"usages": {"limit_5h": {"used_ratio": 0.001}}});
        assert_eq!(footer(&answer, Some("2026-11-22T11:00:00Z"), None), ("5h 1% Ok · as of 11:00 Ok".to_owned(), true));
        let failed = footer(&answer, Some("2026-11-22T11:59:00Z"), Some("offline"));
        assert_eq!(failed, ("5h 1% Ok · as of 11:59 Ok".to_owned(), true));
    }
}
