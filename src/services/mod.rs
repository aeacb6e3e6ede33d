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
