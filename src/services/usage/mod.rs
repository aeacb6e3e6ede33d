//! Reads the plan's quota: `GET /usages` in every form it has been seen in.
//!
//! New answers hold ratios (`usages.limit_5h` …), old ones counts (`usage`, `limits[]`), most of them both, and one view may lag
//! behind the other. Members are written in camel case or snake case. Windows are matched by their length, and unknown ones
//! are shown, not dropped (docs/protocol.md#usages).

use serde::Serialize;
use serde_json::Value;

use super::members::{member, text};
use super::money::{Wallet, wallet};
use super::window_name::WindowName;
use crate::display_text::one_line;
use crate::json::lenient::integer;

/// Most windows that are read.
const MAX_WINDOWS: usize = 24;

/// Largest share that is believed, 1 is the whole window. A window may be overdrawn, but a larger number is an error or a
/// percentage.
const MAX_SHARE: f64 = 10.0;

/// Most parallel requests that are believed.
const MAX_PARALLEL: i128 = 10_000;

/// Smallest share of a window that counts as used up: what rounds to 100 %.
const USED_UP: f64 = 0.9995;

/// Names of the member with the reset.
const RESET_NAMES: [&str; 4] = ["resetTime", "resetAt", "resetsAt", "nextResetTime"];

/// The used part of a plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Quota periods, in the service's order.
    pub windows: Vec<Window>,
    /// Bought credit.
    pub wallet: Option<Wallet>,
    /// The plan, where the answer names it.
    pub plan: Option<String>,
    /// Requests that may run at the same time, where the answer says so.
    pub parallel_limit: Option<u32>,
}

/// One quota period.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// `5h`, `7d`, `month`, or the service's own name.
    pub id: String,
    /// `5-hour window`.
    pub label: String,
    /// `5h`, `wk`.
    pub short: String,
    /// Used share, 1 is the whole window; the larger one where ratio and counts differ. Absent where there is no limit.
    pub used_ratio: Option<f64>,
    /// Count as text, where the answer counts.
    pub used: Option<String>,
    /// Limit as text, where the answer counts.
    pub limit: Option<String>,
    /// When it opens again, in milliseconds since 1970.
    pub resets_at: Option<i64>,
    /// What the share is made of.
    pub parts: Vec<QuotaPart>,
}

/// A part of a window's use.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QuotaPart {
    /// Who used it.
    pub label: String,
    /// Its share of the whole window.
    pub used_ratio: f64,
}

impl Window {
    fn new(name: WindowName) -> Self {
        let WindowName { id, label, short } = name;
        Self { id, label, short, used_ratio: None, used: None, limit: None, resets_at: None, parts: Vec::new() }
    }

    /// Whether nothing is left of it.
    pub fn is_used_up(&self) -> bool {
        self.used_ratio.is_some_and(|ratio| ratio >= USED_UP)
    }

    /// Whether the window is a span of time, so that it is about requests; others may count minutes of video.
    pub fn is_of_time(&self) -> bool {
        self.id.starts_with(|first: char| first.is_ascii_digit()) || self.id.starts_with(WindowName::MONTH)
    }

    /// Adds the other view of the same window. Either may lag behind, so the larger share counts, with its reset.
    fn merge(&mut self, other: Self) {
        let larger = other.used_ratio.is_some_and(|theirs| self.used_ratio.is_none_or(|ours| theirs > ours));
        if larger {
            self.used_ratio = other.used_ratio;
        }
        self.resets_at = if larger { other.resets_at.or(self.resets_at) } else { self.resets_at.or(other.resets_at) };
        self.used = self.used.take().or(other.used);
        self.limit = self.limit.take().or(other.limit);
    }
}

/// Reads an answer; `None` if it holds nothing to show.
pub fn parse(answer: &Value) -> Option<Usage> {
    let mut windows: Vec<Window> = Vec::new();
    let limits = member(answer, "limits").as_array().map(Vec::as_slice).unwrap_or_default();
    let counted = limits
        .iter()
        .enumerate()
        .filter_map(|(index, item)| limit(item, index))
        .chain(summary(member(answer, "usage")));
    for window in ratios(member(answer, "usages")).into_iter().chain(counted) {
        let known = windows.iter().position(|known| known.id == window.id);
        match known {
            Some(position) => windows[position].merge(window),
            None if windows.len() < MAX_WINDOWS => windows.push(window),
            None => {}
        }
    }
    let level = member(member(member(answer, "user"), "membership"), "level");
    let usage = Usage {
        windows,
        wallet: wallet(member(answer, "boosterWallet")),
        plan: level.as_str().map(plan_name).filter(|plan| !plan.is_empty()),
        parallel_limit: parallel_limit(member(answer, "parallel")),
    };
    (usage != Usage::default()).then_some(usage)
}

/// Reads `parallel`: the number of requests that may run at the same time.
fn parallel_limit(parallel: &Value) -> Option<u32> {
    let limit = integer(parallel.get("limit")).filter(|limit| (1..=MAX_PARALLEL).contains(limit))?;
    u32::try_from(limit).ok()
}

/// Reads `usages`: one member per window.
fn ratios(usages: &Value) -> Vec<Window> {
    let Some(members) = usages.as_object() else { return Vec::new() };
    let of_month = |name: &str| share(member(member(usages, name), "usedRatio"));
    let (total, code) = (of_month("limitMonthTotal"), of_month("limitMonthCode"));
    let mut windows = Vec::new();
    for (name, entry) in members {
        let window_name = WindowName::of_member(name);
        let mut window = Window {
            used_ratio: share(member(entry, "usedRatio")),
            resets_at: reset(entry),
            ..Window::new(window_name)
        };
        if !entry.is_object() || (window.used_ratio.is_none() && window.resets_at.is_none()) {
            continue;
        }
        match (window.id.as_str(), total, code) {
            // The coding plan's share is a part of the month.
            (WindowName::MONTH_CODE, Some(_), _) => continue,
            (WindowName::MONTH, Some(total), Some(code)) => {
                window.parts = vec![
                    QuotaPart { label: "kimi".to_owned(), used_ratio: (total - code).max(0.0) },
                    QuotaPart { label: "code".to_owned(), used_ratio: code },
                ];
            }
            _ => {}
        }
        windows.push(window);
    }
    windows
}

/// Reads an item of `limits[]`: counts under `detail` or directly.
fn limit(item: &Value, index: usize) -> Option<Window> {
    let detail = if item["detail"].is_object() { &item["detail"] } else { item };
    let label = text(detail, "name").or_else(|| text(detail, "title"));
    let name = match (period(item), label) {
        (Some(name), Some(label)) => WindowName { label, ..name },
        (Some(name), None) => name,
        (None, Some(label)) => WindowName::free(&label),
        (None, None) => WindowName::free(&format!("Limit #{}", index + 1)),
    };
    counts(detail, name)
}

/// Reads `usage`: the week, unless it says something else.
fn summary(value: &Value) -> Option<Window> {
    let label = text(value, "name").or_else(|| text(value, "title"));
    let name = period(value).or_else(|| label.map(|label| WindowName::of_label(&label)));
    counts(value, name.unwrap_or_else(WindowName::week))
}

/// Reads the `window` of an item; `None` where it has none, or none that can be understood.
fn period(item: &Value) -> Option<WindowName> {
    let window = member(item, "window");
    let duration = integer(window.get("duration")).and_then(|duration| u64::try_from(duration).ok())?;
    WindowName::of_period(duration, member(window, "timeUnit").as_str()?)
}

fn counts(detail: &Value, name: WindowName) -> Option<Window> {
    let count = |name: &str| integer(detail.get(name)).filter(|count| *count >= 0);
    let limit = count("limit").filter(|limit| *limit > 0);
    let left = || Some(limit?.saturating_sub(count("remaining")?)).filter(|used| *used >= 0);
    let used = count("used").or_else(left)?;
    let used_ratio = limit.map(|limit| used as f64 / limit as f64).filter(|share| is_plausible(*share));
    Some(Window {
        used_ratio,
        used: Some(used.to_string()),
        limit: limit.map(|limit| limit.to_string()),
        resets_at: reset(detail),
        ..Window::new(name)
    })
}

/// Reads a share. One that is negative, not a number or absurdly large does not count.
fn share(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    // A negative zero would be shown with its sign.
    is_plausible(number).then_some(number.abs())
}

fn is_plausible(share: f64) -> bool {
    (0.0..=MAX_SHARE).contains(&share)
}

fn reset(entry: &Value) -> Option<i64> {
    RESET_NAMES.iter().find_map(|name| moment(member(entry, name)))
}

/// Reads a date, or seconds or milliseconds since 1970, as number or text. Returns milliseconds.
fn moment(value: &Value) -> Option<i64> {
    if let Some(epoch) = integer(Some(value)) {
        let millis = if epoch < 1_000_000_000_000 { epoch.saturating_mul(1000) } else { epoch };
        return i64::try_from(millis).ok().filter(|millis| (1..=253_402_300_799_999).contains(millis));
    }
    let text = value.as_str()?.trim();
    let moment = text.parse::<jiff::Timestamp>().ok().or_else(|| {
        // Without an offset it is UTC, which the service writes everywhere else.
        let date: jiff::civil::DateTime = text.parse().ok()?;
        Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
    })?;
    Some(moment.as_millisecond()).filter(|millis| *millis > 0)
}

/// Returns the name of a membership level (docs/protocol.md#membership-levels).
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

#[cfg(test)]
mod tests;
