//! Ids of tool calls: safe characters, at most 64 of them, unique in the request although Moonshot's models count `Read:0`,
//! `Read:1` anew in every answer (protocol reference §6.4, rules 6 and 7).

use std::collections::{HashMap, HashSet};

/// Longest id that the service takes.
const MAX_ID: usize = 64;

/// Hands out ids in order of appearance, so that an id never changes when the conversation goes on.
#[derive(Default)]
pub struct CallIds {
    used: HashSet<String>,
    repeats: HashMap<String, u32>,
}

impl CallIds {
    /// The id for the next call, whatever was recorded.
    pub fn assign(&mut self, recorded: &str) -> String {
        let safe: String = recorded
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
            .take(MAX_ID)
            .collect();
        let base = if safe.is_empty() { "tool_call".to_owned() } else { safe };
        if self.used.insert(base.clone()) {
            return base;
        }
        let count = self.repeats.entry(base.clone()).or_insert(1);
        loop {
            *count += 1;
            let suffix = format!("__{count}");
            let id = format!("{}{suffix}", &base[..base.len().min(MAX_ID - suffix.len())]);
            if self.used.insert(id.clone()) {
                return id;
            }
        }
    }
}
