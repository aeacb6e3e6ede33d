//! What a request does at the end of a quota window.

use serde::{Deserialize, Serialize};

/// What happens to a request when a quota window is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExhausted {
    /// It fails.
    #[default]
    Stop,
    /// The user is asked, once for the window.
    Ask,
    /// It waits until the window opens.
    Wait,
}

/// Seconds of a day, after which windows are named.
const DAY: u64 = 86_400;

/// The names of windows that users know, as a message lists them.
pub const KNOWN_WINDOWS: &str = "5h, 7d or wk, month or mo";

/// Returns the id of the window that a user names: `5h`, `7d`, `month`. Screens say `wk` and `mo`, so these count as well. `None` if
/// it can be the name of no window.
pub fn window_id(name: &str) -> Option<String> {
    let name = name.trim().to_ascii_lowercase();
    match name.as_str() {
        "wk" | "week" => return Some(id_of_seconds(7 * DAY)),
        "mo" | "month" => return Some("month".to_owned()),
        "month_code" => return Some(name),
        "yr" | "year" => return Some("year".to_owned()),
        _ => {}
    }
    let digits = name.find(|c: char| !c.is_ascii_digit())?;
    let count: u64 = name[..digits].parse().ok().filter(|count| *count > 0)?;
    let unit = match &name[digits..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => DAY,
        "w" => 7 * DAY,
        "mo" if count == 1 => return window_id("mo"),
        "yr" if count == 1 => return window_id("yr"),
        unit @ ("mo" | "yr") => return Some(format!("{count}{unit}")),
        _ => return None,
    };
    count.checked_mul(unit).map(id_of_seconds)
}

/// Returns the id of a window of this length.
fn id_of_seconds(seconds: u64) -> String {
    let (count, unit) = window_span(seconds);
    format!("{count}{unit}")
}

/// Returns the length of a window in the largest unit that divides it.
pub fn window_span(seconds: u64) -> (u64, &'static str) {
    let units = [(DAY, "d"), (3600, "h"), (60, "m")];
    let unit = units.into_iter().find(|(unit, _)| seconds.is_multiple_of(*unit));
    unit.map_or((seconds, "s"), |(unit, name)| (seconds / unit, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_named_as_screens_and_users_do() {
        for (name, id) in [
            ("5h", "5h"),
            ("5H", "5h"),
            ("300m", "5h"),
            ("7d", "7d"),
            ("wk", "7d"),
            ("WK", "7d"),
            ("Week", "7d"),
            ("1w", "7d"),
            ("24h", "1d"),
            ("90m", "90m"),
            ("month", "month"),
            (" mo ", "month"),
            ("1mo", "month"),
            ("3mo", "3mo"),
            ("yr", "year"),
            ("month_code", "month_code"),
        ] {
            assert_eq!(window_id(name).as_deref(), Some(id), "{name}");
        }
        for name in
            ["", "h", "5", "0h", "weekend", "5 hours", "wk5", "5x", "*", "99999999999999999999h", "999999999999999999w"]
        {
            assert_eq!(window_id(name), None, "{name}");
        }
    }
}
