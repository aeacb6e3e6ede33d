//! Reads members of the service's answers for users.

use serde_json::Value;

use crate::display_text::one_line;

/// Longest name that is shown, in characters.
const MAX_TEXT: usize = 120;

/// Returns the member as one line for users; an empty one counts as absent.
pub fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(|text| one_line(text, MAX_TEXT)).filter(|text| !text.is_empty())
}
