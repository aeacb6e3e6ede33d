//! The environment variables that JavaScript handed over.
//!
//! A snapshot instead of the process environment: a change of `process.env` counts from the next request on, worker threads
//! have environments of their own, and reading it from another thread is a data race in libc
//! (docs/architecture.md#environment-from-javascript).

use std::collections::HashMap;
use std::path::PathBuf;

use crate::storage::private_file::has_foreign_link;

/// Environment variables as JavaScript sees them. Blank values count as unset.
#[derive(Debug, Clone, Default)]
pub struct Environment(HashMap<String, String>);

impl Environment {
    /// Wraps a snapshot.
    pub fn new(variables: HashMap<String, String>) -> Self {
        Self(variables)
    }

    /// Returns the trimmed value of a variable that is set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Returns the value of a variable that may be spelled in lower or upper case.
    pub(super) fn get_any_case(&self, name: &str) -> Option<&str> {
        self.get(name).or_else(|| self.get(&name.to_ascii_uppercase()))
    }

    /// Returns the user's home directory.
    pub fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// Returns the directory of our own state, unless another user's link leads there. Everything in it can be deleted at any time
    /// at the cost of repeated work.
    pub fn state_directory(&self) -> Option<PathBuf> {
        Some(self.home()?.join(".pi").join("pi-provider-kimi-code")).filter(|directory| !has_foreign_link(directory))
    }

    /// Whether a user sees what a turn waits for. Set by the extension for each request.
    pub(super) fn has_screen(&self) -> bool {
        self.get("KIMI_CODE_SCREEN") == Some("1")
    }

    /// Returns the settings that the program passes to the client or the extension, as JSON. Set by both for each request; not a
    /// variable that users export.
    pub(super) fn program_options(&self) -> Option<&str> {
        self.get("KIMI_CODE_OPTIONS")
    }

    /// Returns the project that the session works in, and whether the user trusts it. Set by the extension for each request;
    /// not a variable that users export.
    pub(super) fn project(&self) -> Option<(PathBuf, bool)> {
        let directory = self.get("KIMI_CODE_PROJECT").map(PathBuf::from)?;
        Some((directory, self.get("KIMI_CODE_PROJECT_TRUSTED") == Some("1")))
    }
}
