//! The plan's quota: `GET /usages` in every shape it has been seen in.
//!
//! New answers hold ratios (`usages.limit_5h` …), old ones counts (`usage`, `limits[]`), most of them both. Windows are matched by
//! their length, and one that nobody has seen before is shown, not dropped (docs/protocol.md#usages).

use serde::Serialize;
use serde_json::Value;

use super::members::text;
use super::money::{Wallet, wallet};
use crate::display_text::one_line;
use crate::json::lenient::integer;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// More windows than this is not a plan.
const MAX_WINDOWS: usize = 24;

/// Names under which a reset has been seen.
const RESET_NAMES: [&str; 8] =
    ["resetTime", "reset_time", "resetAt", "reset_at", "resetsAt", "resets_at", "nextResetTime", "next_reset_time"];

/// What is used of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Shortest first, unknown ones last.
    pub windows: Vec<Window>,
    /// Bought credit.
    pub wallet: Option<Wallet>,
    /// The plan, where the answer names it.
    pub plan: Option<String>,
}

/// One quota period.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `5h`, `7d`, `month`, or whatever the service calls it.
    pub id: String,
    /// `5-hour window`.
    pub label: String,
    /// `5h`, `wk`.
    pub short: String,
    /// Used share, 1 is all of it; absent where there is no limit.
    pub used_ratio: Option<f64>,
    /// Count as text, where the answer counts.
    pub used: Option<String>,
    /// Limit as text, where the answer counts.
    pub limit: Option<String>,
    /// When it opens again, in milliseconds since 1970.
    pub resets_at: Option<i64>,
    /// What the share is made of.
    pub parts: Vec<Part>,
}

/// A part of a window's use.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// Who used it.
    pub label: String,
    /// Its share of the whole window.
    pub used_ratio: f64,
}

impl Window {
    fn new(span: Span) -> Self {
        let Span { id, label, short } = span;
        Self { id, label, short, used_ratio: None, used: None, limit: None, resets_at: None, parts: Vec::new() }
    }

    /// Nothing is left of it.
    pub fn exhausted(&self) -> bool {
        self.used_ratio.is_some_and(|ratio| ratio >= 0.9995)
    }
}

/// Reads an answer; `None` if it is no object or holds nothing to show.
pub fn parse(answer: &Value) -> Option<Usage> {
    let mut windows: Vec<Window> = ratios(&answer["usages"]);
    let mut add = |window: Window| match windows.iter_mut().find(|known| known.id == window.id) {
        Some(known) => {
            known.used = known.used.take().or(window.used);
            known.limit = known.limit.take().or(window.limit);
            known.resets_at = known.resets_at.or(window.resets_at);
            known.used_ratio = known.used_ratio.or(window.used_ratio);
        }
        None => windows.push(window),
    };
    let mut counted: Vec<Window> = Vec::new();
    for (index, item) in answer["limits"].as_array().map(Vec::as_slice).unwrap_or_default().iter().enumerate() {
        counted.extend(limit(item, index));
    }
    counted.extend(summary(&answer["usage"]));
    counted.into_iter().take(MAX_WINDOWS).for_each(&mut add);
    windows.truncate(MAX_WINDOWS);
    let plan = answer["user"]["membership"]["level"].as_str().map(plan_name).filter(|plan| !plan.is_empty());
    let usage = Usage { windows, wallet: wallet(&answer["boosterWallet"]), plan };
    (usage != Usage::default()).then_some(usage)
}

/// `usages`: one member per window.
fn ratios(usages: &Value) -> Vec<Window> {
    let Some(members) = usages.as_object() else { return Vec::new() };
    let of_month =
        |suffix: &str| usages.get(format!("limit_month_{suffix}")).and_then(|entry| ratio(&entry["used_ratio"]));
    let mut windows = Vec::new();
    for (name, entry) in members.iter().take(MAX_WINDOWS) {
        let Some(used) = entry.is_object().then(|| ratio(&entry["used_ratio"])) else { continue };
        let resets_at = reset(entry);
        if used.is_none() && resets_at.is_none() {
            continue;
        }
        let parts = match (name.as_str(), of_month("total"), of_month("code")) {
            ("limit_month_code", Some(_), _) => continue,
            ("limit_month_total", Some(total), Some(code)) => vec![
                Part { label: "kimi".to_owned(), used_ratio: (total - code).max(0.0) },
                Part { label: "code".to_owned(), used_ratio: code },
            ],
            _ => Vec::new(),
        };
        windows.push(Window { used_ratio: used, resets_at, parts, ..Window::new(Span::named(name)) });
    }
    windows
}

/// An item of `limits[]`: counts under `detail` or directly.
fn limit(item: &Value, index: usize) -> Option<Window> {
    let detail = if item["detail"].is_object() { &item["detail"] } else { item };
    let window = &item["window"];
    let unit = ["timeUnit", "time_unit"].iter().find_map(|name| window[*name].as_str()).unwrap_or_default();
    let seconds = integer(window.get("duration"))
        .and_then(|duration| u64::try_from(duration).ok())
        .filter(|duration| *duration > 0)
        .and_then(|duration| duration.checked_mul(unit_seconds(unit)?));
    let name = text(detail, "name").or_else(|| text(detail, "title"));
    let span = match (seconds, name) {
        (Some(seconds), name) => Span { label: name.unwrap_or_else(|| Span::of(seconds).label), ..Span::of(seconds) },
        (None, Some(name)) => Span::free(&name),
        (None, None) if index == 0 => Span::of(5 * HOUR),
        (None, None) => Span::free(&format!("Limit #{}", index + 1)),
    };
    counts(detail, span)
}

/// `usage`: the week, unless its name says something else.
fn summary(value: &Value) -> Option<Window> {
    let name = text(value, "name").or_else(|| text(value, "title"));
    let span = match name {
        Some(name) if !name.to_ascii_lowercase().contains("week") => Span::free(&name),
        _ => Span::of(WEEK),
    };
    counts(value, span)
}

fn counts(detail: &Value, span: Span) -> Option<Window> {
    let limit = integer(detail.get("limit"));
    let used =
        integer(detail.get("used")).or_else(|| Some(limit?.saturating_sub(integer(detail.get("remaining"))?)))?.max(0);
    let used_ratio = limit.filter(|limit| *limit > 0).map(|limit| used as f64 / limit as f64);
    Some(Window {
        used_ratio,
        used: Some(used.to_string()),
        limit: limit.filter(|limit| *limit > 0).map(|limit| limit.to_string()),
        resets_at: reset(detail),
        ..Window::new(span)
    })
}

fn ratio(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    number.is_finite().then(|| number.clamp(0.0, 10.0))
}

fn unit_seconds(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    [("MINUTE", MINUTE), ("HOUR", HOUR), ("DAY", DAY), ("WEEK", WEEK), ("SECOND", 1)]
        .iter()
        .find_map(|(word, seconds)| unit.contains(word).then_some(*seconds))
}

fn reset(entry: &Value) -> Option<i64> {
    RESET_NAMES.iter().find_map(|name| moment(&entry[*name]))
}

/// A date, or seconds or milliseconds since 1970, as number or text. Milliseconds come out.
fn moment(value: &Value) -> Option<i64> {
    if let Some(epoch) = integer(Some(value)) {
        let millis = if epoch < 1_000_000_000_000 { epoch.saturating_mul(1000) } else { epoch };
        return i64::try_from(millis).ok().filter(|millis| (1..=253_402_300_799_999).contains(millis));
    }
    let text = value.as_str()?.trim();
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        // Without an offset it is meant as UTC, which is what the service writes everywhere else.
        let date: jiff::civil::DateTime = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(moment.as_millisecond()).filter(|millis| *millis > 0)
}

/// The membership levels that have been seen (docs/protocol.md#membership-levels).
fn plan_name(level: &str) -> String {
    match level {
        "LEVEL_FREE" => "Free".to_owned(),
        "LEVEL_BASIC" => "Adagio".to_owned(),
        "LEVEL_STANDARD" => "Moderato".to_owned(),
        "LEVEL_INTERMEDIATE" => "Allegretto".to_owned(),
        "LEVEL_ADVANCED" => "Allegro".to_owned(),
        "LEVEL_PREMIUM" => "Vivace".to_owned(),
        other => one_line(other.strip_prefix("LEVEL_").unwrap_or(other), 40),
    }
}

/// How a window is called.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    id: String,
    label: String,
    short: String,
}

impl Span {
    /// A window of this length.
    fn of(seconds: u64) -> Self {
        let (count, unit, word) = match seconds {
            WEEK => {
                return Self { id: "7d".to_owned(), label: "Weekly window".to_owned(), short: "wk".to_owned() };
            }
            _ if seconds.is_multiple_of(DAY) => (seconds / DAY, "d", "day"),
            _ if seconds.is_multiple_of(HOUR) => (seconds / HOUR, "h", "hour"),
            _ if seconds.is_multiple_of(MINUTE) => (seconds / MINUTE, "m", "minute"),
            _ => (seconds, "s", "second"),
        };
        let id = format!("{count}{unit}");
        Self { label: format!("{count}-{word} window"), short: id.clone(), id }
    }

    /// From a member of `usages`: `limit_5h`, `limit_7d`, `limit_month_total`, or something new.
    fn named(name: &str) -> Self {
        let bare = name.strip_prefix("limit_").unwrap_or(name);
        let digits = bare.find(|c: char| !c.is_ascii_digit()).unwrap_or(bare.len());
        let unit = match &bare[digits..] {
            "m" | "min" => Some(MINUTE),
            "h" => Some(HOUR),
            "d" => Some(DAY),
            "w" => Some(WEEK),
            _ => None,
        };
        let length = bare[..digits].parse::<u64>().ok().filter(|count| *count > 0);
        if let Some(seconds) = length.zip(unit).and_then(|(count, unit)| count.checked_mul(unit)) {
            return Self::of(seconds);
        }
        match bare {
            "month_total" | "month" => {
                Self { id: "month".to_owned(), label: "Monthly window".to_owned(), short: "mo".to_owned() }
            }
            "month_code" => {
                Self { id: "month_code".to_owned(), label: "Monthly window (code)".to_owned(), short: "mo".to_owned() }
            }
            other => Self::free(&other.replace('_', " ")),
        }
    }

    /// Under a name of the service's own.
    fn free(name: &str) -> Self {
        let label = one_line(name, 40);
        Self { id: label.to_lowercase(), short: one_line(name, 10), label }
    }
}

#[cfg(test)]
mod tests;
