//! One error type for the whole core.
//!
//! An error is typed once, where it arises; its [`ErrorKind`] then decides whether a retry is allowed, what a person reads and
//! what Pi does next (compact, retry, stop). Nothing further on looks at our own text. Sources: docs/protocol.md#error-bodies,
//! docs/protocol.md#error-wordings (what the service says), docs/pi-contract.md#error-words (which words make Pi act).

mod advice;
mod classify;
mod kind;
mod meanings;
mod pi_message;
mod quota_window;
#[cfg(test)]
mod tests;
mod text_search;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use crate::display_text::clip;
pub use advice::{explain_refused_client, for_program};
pub use classify::{from_response, from_stream, html_title, not_a_stream, reported, service_text};
pub use kind::{ErrorKind, Phase};
pub use pi_message::RetryOutcome;
pub use quota_window::QuotaWindow;
pub use transport::{CertificateProblem, cause_chain};

/// An error of the core. `Display` gives the text for users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What happened.
    pub kind: ErrorKind,
    /// Text for a person, complete with the cause chain.
    pub message: String,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
    /// How long the service asked to wait.
    pub retry_after: Option<Duration>,
    /// `x-trace-id` of the response: what Moonshot's support asks for.
    pub trace_id: Option<String>,
    /// The used-up window of the quota, if the service's text names one.
    pub window: Option<QuotaWindow>,
    /// When that window opens again, in milliseconds since 1970, where it is known.
    pub resets_at: Option<i64>,
    /// The service refuses because too much is under way at the same time. A rate limit alone does not say so.
    pub crowded: bool,
    /// What caused it, for logs and for callers that look for a type.
    pub cause: Option<Cause>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| &*cause.0 as &(dyn std::error::Error + 'static))
    }
}

/// The error behind an [`Error`]. Shared, so that errors can be cloned; equal only to itself.
#[derive(Clone)]
pub struct Cause(Arc<dyn std::error::Error + Send + Sync>);

impl PartialEq for Cause {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Cause {}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&cause_chain(&*self.0))
    }
}

/// Result of the core.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without an HTTP response behind it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            retry_after: None,
            trace_id: None,
            window: None,
            resets_at: None,
            crowded: false,
            cause: None,
        }
    }

    /// The same error with what caused it.
    pub fn caused_by(self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { cause: Some(Cause(Arc::new(cause))), ..self }
    }

    /// The caller aborted. The text is the one Pi's own providers use.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "Request was aborted")
    }

    /// No credential found anywhere.
    pub fn login_required() -> Self {
        Self::new(
            ErrorKind::LoginRequired,
            "No Kimi Code credentials found. Sign in with /login kimi-coding, or set KIMI_API_KEY.",
        )
    }

    /// Something in the stream is not the protocol; `excerpt` is cut to 200 characters.
    pub fn protocol(what: &str, excerpt: &str) -> Self {
        let excerpt = clip(excerpt.trim(), 200);
        let message = if excerpt.is_empty() { what.to_owned() } else { format!("{what}: {excerpt}") };
        Self::new(ErrorKind::Protocol, message)
    }
}
