//! The two request formats of the service.

use serde::{Deserialize, Serialize};

/// A dialect of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `POST {root}/v1/chat/completions`.
    #[default]
    OpenAi,
    /// `POST {root}/v1/messages`.
    Anthropic,
}
