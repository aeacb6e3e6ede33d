//! Reads members of the service's answers for users.

use serde_json::Value;

use crate::display_text::one_line;

/// Longest name that is shown, in characters.
const MAX_TEXT: usize = 120;

/// Returns the member as one line for users; an empty one counts as absent.
pub fn text(value: &Value, name: &str) -> Option<String> {
    value[name].as_str().map(|text| one_line(text, MAX_TEXT)).filter(|text| !text.is_empty())
}

/// Returns a member by its camel-case name, or else by the same name in snake case; null if both are missing.
pub fn member<'v>(value: &'v Value, name: &str) -> &'v Value {
    let found = &value[name];
    if found.is_null() { &value[snake_case(name).as_str()] } else { found }
}

/// Converts `limitMonthTotal` to `limit_month_total`; snake case stays.
pub fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() && !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
