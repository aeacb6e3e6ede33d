//! Maps tool names to names that the service takes: a letter or underscore, then letters, digits, `_` and `-`, at most 256
//! characters (docs/protocol.md#tools). The decoder maps them back.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// Longest name that the service takes, in bytes.
const MAX_NAME: usize = 256;

/// Hands out names in order of appearance, so that a name stays the same as the conversation grows.
#[derive(Default)]
pub struct ToolNames {
    /// Original → wire.
    wire: HashMap<String, String, RandomState>,
    taken: HashSet<String, RandomState>,
}

impl ToolNames {
    /// Returns the wire name. `built_ins`: Moonshot's own tools, whose names begin with `$`, are available.
    pub fn wire(&mut self, original: &str, built_ins: bool) -> String {
        if let Some(known) = self.wire.get(original) {
            return known.clone();
        }
        let base = if acceptable(original) || (built_ins && is_built_in(original)) {
            original.to_owned()
        } else {
            acceptable_form(original)
        };
        let name = self.free(base);
        self.taken.insert(name.clone());
        self.wire.insert(original.to_owned(), name.clone());
        name
    }

    /// Returns the name, numbered if another tool has it.
    fn free(&self, base: String) -> String {
        if !self.taken.contains(&base) {
            return base;
        }
        let mut count = 1;
        loop {
            count += 1;
            let suffix = format!("_{count}");
            let name = format!("{}{suffix}", &base[..base.len().min(MAX_NAME - suffix.len())]);
            if !self.taken.contains(&name) {
                return name;
            }
        }
    }

    /// Returns every name that differs on the wire: wire → original.
    pub fn renamed(self) -> HashMap<String, String> {
        self.wire
            .into_iter()
            .filter(|(original, wire)| wire != original)
            .map(|(original, wire)| (wire, original))
            .collect()
    }
}

/// Returns whether this names one of Moonshot's built-in tools, which are sent by name alone (docs/protocol.md#tools).
pub fn is_built_in(name: &str) -> bool {
    name.strip_prefix('$').is_some_and(acceptable)
}

fn safe(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn acceptable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(safe) && name.len() <= MAX_NAME
}

fn acceptable_form(name: &str) -> String {
    let safe: String = name.chars().map(|c| if safe(c) { c } else { '_' }).take(MAX_NAME - 2).collect();
    match safe.chars().next() {
        None => "unnamed_tool".to_owned(),
        Some(first) if first.is_ascii_alphabetic() => safe,
        Some(_) => format!("t_{safe}"),
    }
}
