//! Tool names: the service takes a letter or underscore, then letters, digits, `_` and `-`, at most 256 in all
//! (docs/protocol.md#tools). Others get a name of their own on the wire, and the decoder maps it back.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// Longest name that the service takes.
const MAX_NAME: usize = 256;

/// Hands out names in order of appearance, so that a name never changes when the conversation goes on.
#[derive(Default)]
pub struct ToolNames {
    /// Original → wire.
    wire: HashMap<String, String, RandomState>,
    taken: HashSet<String, RandomState>,
}

impl ToolNames {
    /// The name on the wire. `built_ins`: Moonshot's own tools, whose names begin with `$`, may be called.
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

    /// The name itself, or numbered if another tool has it.
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

    /// Every name that is another one on the wire: wire → original.
    pub fn renamed(self) -> HashMap<String, String> {
        self.wire
            .into_iter()
            .filter(|(original, wire)| wire != original)
            .map(|(original, wire)| (wire, original))
            .collect()
    }
}

/// Moonshot's built-in tools are sent by name alone (docs/protocol.md#tools).
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
