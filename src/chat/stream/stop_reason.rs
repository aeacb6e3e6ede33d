//! Why an answer ended, and what the service's words for it mean in both dialects.

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// Why an answer ended, in Pi's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StopReason {
    /// The model was done.
    Stop,
    /// The output budget was used up.
    Length,
    /// Tools are to be run.
    ToolUse,
}

/// Maps the reasons for stopping that mean the same in both dialects; `None` for all others. `member` names the reason in errors.
pub fn common_stop_reason(member: &str, reason: &str) -> Option<Result<StopReason>> {
    match reason {
        "length" | "max_tokens" | "model_context_window_exceeded" => Some(Ok(StopReason::Length)),
        "content_filter" | "refusal" | "sensitive" => Some(Err(Error::new(
            ErrorKind::Filtered,
            format!("Provider {member}: {reason} (the service withheld the rest of the answer)"),
        ))),
        _ => None,
    }
}
