//! A broken rule.

use std::fmt;

/// A rule that a schema breaks, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Members on the way, joined by dots; `root` for the schema itself.
    pub path: String,
    /// The rule.
    pub message: String,
}

impl Problem {
    /// Creates a problem at this path.
    pub fn at(path: &[String], message: impl Into<String>) -> Self {
        let path = if path.is_empty() { "root".to_owned() } else { path.join(".") };
        Self { path, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at path '{}': {}", self.path, self.message)
    }
}
