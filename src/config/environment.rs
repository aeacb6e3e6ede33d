//! The variables that JavaScript handed over.
//!
//! A snapshot instead of the process environment: a change of `process.env` counts from the next request on, worker threads
//! have environments of their own, and reading it from another thread is a data race in libc
//! (docs/architecture.md#environment-from-javascript).

use std::collections::HashMap;
use std::path::PathBuf;

/// Environment variables as JavaScript sees them. Blank values count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Wraps a snapshot.
    pub fn new(variables: HashMap<String, String>) -> Self {
        Self(variables)
    }

    /// The trimmed value, if there is one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn either(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| self.get(&name.to_ascii_uppercase()))
    }

    /// The person's home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// Where our own state lives: everything in it can be deleted at any time without loss beyond work redone.
    pub fn state_directory(&self) -> Option<PathBuf> {
        Some(self.home()?.join(".pi").join("pi-provider-kimi-code"))
    }

    /// The project that the session works in, and whether the person trusts it. Set by the extension for each call; not a
    /// variable that anybody exports.
    pub(super) fn project(&self) -> Option<(PathBuf, bool)> {
        let directory = self.get("KIMI_CODE_PROJECT").map(PathBuf::from)?;
        Some((directory, self.get("KIMI_CODE_PROJECT_TRUSTED") == Some("1")))
    }
}
