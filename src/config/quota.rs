//! What a request does at the end of a quota window.

use serde::{Deserialize, Serialize};

/// What happens to a request when a quota window is used up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExhausted {
    /// It fails.
    #[default]
    Stop,
    /// The user is asked, once for the window.
    Ask,
    /// It waits until the window opens.
    Wait,
}
