//! Reads members of the service's answers, whichever way it writes them.

use serde_json::Value;

use crate::display_text::one_line;

/// Longest name that is shown, in characters.
const MAX_TEXT: usize = 120;

/// Returns a whole number, written as JSON number of any size or as text.
pub fn integer(value: Option<&Value>) -> Option<i128> {
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

/// Returns the member as one line for users; an empty one counts as absent.
pub fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(|text| one_line(text, MAX_TEXT)).filter(|text| !text.is_empty())
}
