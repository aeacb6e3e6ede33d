//! What the service offers beside answers: the plan's quota, the account, and the tools of
//! the plan: web search, page fetch, data sources.

pub mod account;
pub mod call;
pub mod datasource;
pub mod fetch;
pub mod money;
pub mod output_files;
pub mod quota_cache;
pub mod quota_message;
pub mod search;
pub mod truncate;
pub mod usage;

use serde_json::Value;

/// A whole number, whichever way the service writes it: JSON number of any size, or text.
fn integer(value: Option<&Value>) -> Option<i128> {
    match value? {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(truncated)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse().ok().and_then(truncated))
        }
        _ => None,
    }
}

fn truncated(number: f64) -> Option<i128> {
    (number.is_finite() && number.abs() < 1e30).then_some(number.trunc() as i128)
}

/// Text for a person from somebody else: one line, nothing that steers a terminal, at most `max` characters.
pub fn plain(text: &str, max: usize) -> String {
    let hidden =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let visible: String =
        text.chars().take(max * 8).map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !hidden(*c)).collect();
    crate::error::clip(&visible.split_whitespace().collect::<Vec<_>>().join(" "), max)
}

/// The member as text for a person; an empty one counts as absent.
fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(|text| plain(text, 120)).filter(|text| !text.is_empty())
}
