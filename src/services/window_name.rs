//! Names quota windows: by length, by the member that holds them, or by the service's own words.

use super::members::snake_case;
use crate::config::window_span;
use crate::display_text::one_line;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// The name of a window. Windows with the same id are the same window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowName {
    /// `5h`, `7d`, `month`, or the service's own name.
    pub id: String,
    /// `5-hour window`.
    pub label: String,
    /// `5h`, `wk`.
    pub short: String,
}

impl WindowName {
    /// Id of the window of five hours.
    pub const FIVE_HOURS: &str = "5h";
    /// Id of the weekly window.
    pub const WEEK: &str = "7d";
    /// Id of the monthly window.
    pub const MONTH: &str = "month";
    /// Id of the coding plan's part of the month.
    pub const MONTH_CODE: &str = "month_code";

    /// Names the weekly window.
    pub fn week() -> Self {
        Self::new(Self::WEEK, "Weekly window", "wk")
    }

    /// Names the monthly window.
    pub fn month() -> Self {
        Self::new(Self::MONTH, "Monthly window", "mo")
    }

    fn new(id: &str, label: &str, short: &str) -> Self {
        Self { id: id.to_owned(), label: label.to_owned(), short: short.to_owned() }
    }

    /// Names a window of this length.
    fn of_seconds(seconds: u64) -> Self {
        if seconds == WEEK {
            return Self::week();
        }
        let (count, unit) = window_span(seconds);
        let word = match unit {
            "d" => "day",
            "h" => "hour",
            "m" => "minute",
            _ => "second",
        };
        let id = format!("{count}{unit}");
        Self { short: id.clone(), label: format!("{count}-{word} window"), id }
    }

    /// Names a window of `duration` units such as `TIME_UNIT_MINUTE`; `None` for units of unknown length, because a window must
    /// not be taken for another one.
    pub fn of_period(duration: u64, unit: &str) -> Option<Self> {
        let unit = unit.trim().to_ascii_uppercase();
        let unit = unit.strip_prefix("TIME_UNIT_").unwrap_or(&unit);
        let seconds = match unit.strip_suffix('S').unwrap_or(unit) {
            "SECOND" => 1,
            "MINUTE" => MINUTE,
            "HOUR" => HOUR,
            "DAY" => DAY,
            "WEEK" => WEEK,
            // Calendar units have no fixed length in seconds.
            unit @ ("MONTH" | "YEAR") if duration > 0 => {
                return Some(Self::of_calendar(duration, &unit.to_ascii_lowercase()));
            }
            _ => return None,
        };
        duration.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Self::of_seconds)
    }

    fn of_calendar(count: u64, unit: &str) -> Self {
        match (count, unit) {
            (1, "month") => Self::month(),
            (1, _) => Self::new(unit, "Yearly window", "yr"),
            _ => {
                let short = if unit == "month" { "mo" } else { "yr" };
                Self::new(&format!("{count}{short}"), &format!("{count}-{unit} window"), &format!("{count}{short}"))
            }
        }
    }

    /// Names the window of a member of `usages`: `limit_5h`, `limit_month_total`, in camel case or snake case.
    pub fn of_member(name: &str) -> Self {
        let name = snake_case(name);
        let bare = name.strip_prefix("limit").map_or(name.as_str(), |rest| rest.trim_start_matches('_'));
        let digits = bare.find(|c: char| !c.is_ascii_digit()).unwrap_or(bare.len());
        let count = bare[..digits].parse::<u64>().ok();
        let unit = match &bare[digits..] {
            "m" | "min" => Some("MINUTE"),
            "h" => Some("HOUR"),
            "d" => Some("DAY"),
            "w" => Some("WEEK"),
            "mo" => Some("MONTH"),
            _ => None,
        };
        if let Some(known) = count.zip(unit).and_then(|(count, unit)| Self::of_period(count, unit)) {
            return known;
        }
        match bare {
            "week" | "weekly" | "week_total" => Self::week(),
            "month" | "monthly" | "month_total" => Self::month(),
            "month_code" => Self::new(Self::MONTH_CODE, "Monthly window (code)", "mo"),
            "" => Self::free(&name),
            other => Self::free(&other.replace('_', " ")),
        }
    }

    /// Names a window by the service's own label; one that speaks of the week or the month is that window.
    pub fn of_label(label: &str) -> Self {
        let lower = label.to_lowercase();
        if lower.contains("week") {
            Self::week()
        } else if lower.contains("month") {
            Self::month()
        } else {
            Self::free(label)
        }
    }

    /// Names a window in the service's own words.
    pub fn free(name: &str) -> Self {
        let label = one_line(name, 40);
        Self { id: label.to_lowercase(), short: one_line(name, 10), label }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::window_id;

    fn labels(names: impl IntoIterator<Item = Option<WindowName>>) -> Vec<String> {
        names.into_iter().map(|name| name.map_or_else(|| "unknown".to_owned(), |name| name.label)).collect()
    }

    #[test]
    fn window_of_a_period_known_units_in_any_spelling() {
        let periods = [
            (300, "TIME_UNIT_MINUTE"),
            (5, "hours"),
            (7, "TIME_UNIT_DAY"),
            (1, "WEEK"),
            (1, "TIME_UNIT_MONTH"),
            (3, "month"),
            (1, "TIME_UNIT_YEAR"),
            (90, "MINUTE"),
        ];
        assert_eq!(
            labels(periods.map(|(count, unit)| WindowName::of_period(count, unit))),
            [
                "5-hour window",
                "5-hour window",
                "Weekly window",
                "Weekly window",
                "Monthly window",
                "3-month window",
                "Yearly window",
                "90-minute window"
            ]
        );
    }

    #[test]
    fn window_id_and_short_name_are_accepted_in_settings() {
        let periods = [
            (300, "MINUTE"),
            (1, "WEEK"),
            (1, "MONTH"),
            (3, "MONTH"),
            (1, "YEAR"),
            (2, "YEAR"),
            (1, "DAY"),
            (45, "SECOND"),
        ];
        for name in periods.into_iter().filter_map(|(count, unit)| WindowName::of_period(count, unit)) {
            assert_eq!(window_id(&name.id).as_ref(), Some(&name.id));
            assert_eq!(window_id(&name.short).as_ref(), Some(&name.id), "{}", name.short);
        }
        assert_eq!(window_id(WindowName::MONTH_CODE).as_deref(), Some(WindowName::MONTH_CODE));
    }

    #[test]
    fn window_of_a_period_unknown_units_are_not_guessed() {
        for (count, unit) in [
            (300, ""),
            (300, "TIME_UNIT_UNSPECIFIED"),
            (300, "MILLISECOND"),
            (5, "H"),
            (1, "FORTNIGHT"),
            (0, "MONTH"),
            (0, "HOUR"),
            (u64::MAX, "DAY"),
        ] {
            assert_eq!(WindowName::of_period(count, unit), None, "{count} {unit}");
        }
    }

    #[test]
    fn window_of_a_member_both_spellings() {
        let names = [
            "limit_5h",
            "limit5h",
            "limit_7d",
            "limitMonthTotal",
            "limit_month_code",
            "limit_24h",
            "limitVideoMinutes",
        ];
        assert_eq!(
            labels(names.map(|name| Some(WindowName::of_member(name)))),
            [
                "5-hour window",
                "5-hour window",
                "Weekly window",
                "Monthly window",
                "Monthly window (code)",
                "1-day window",
                "video minutes"
            ]
        );
    }
}
