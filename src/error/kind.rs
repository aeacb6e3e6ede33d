//! The kinds of errors: their codes, and which of them may pass if the request is sent again.

/// Where in a request something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// DNS, TCP, proxy, TLS.
    Connect,
    /// The request is out, the response head is not here yet.
    Headers,
    /// The response runs, but nothing with meaning has arrived.
    FirstToken,
    /// Between two pieces of meaning.
    Gap,
    /// Reading the body.
    Body,
}

impl Phase {
    /// The words used in messages.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Connect => "while connecting",
            Self::Headers => "while waiting for the response to begin",
            Self::FirstToken => "while waiting for the first words of the answer",
            Self::Gap => "in the middle of the answer",
            Self::Body => "while reading the response",
        }
    }
}

/// What went wrong, as far as anything has to act on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// The caller aborted.
    Cancelled,
    /// One of our clocks ran out.
    Timeout(Phase),
    /// The connection failed or broke.
    Network(Phase),
    /// The proxy refused or failed.
    Proxy,
    /// Certificate or handshake trouble.
    Tls,
    /// There is no credential at all.
    LoginRequired,
    /// The service refuses the credential (401).
    Unauthorized,
    /// The plan does not include what was asked for (401/402/403 texts about plans and subscriptions).
    Entitlement,
    /// The service refuses this client program (403).
    ClientRefused,
    /// The plan's quota is used up; waiting a few seconds cannot help.
    QuotaExhausted,
    /// Too many requests right now.
    RateLimited,
    /// The engine is overloaded.
    Overloaded,
    /// The prompt does not fit into the model's window.
    ContextOverflow,
    /// The request body is too large (413).
    PayloadTooLarge,
    /// An image or video was refused.
    BadMedia,
    /// Another refusal of the request's content.
    BadRequest,
    /// The answer was withheld by a content filter.
    Filtered,
    /// The answer is larger than the setting allows.
    AnswerTooLarge,
    /// The answer held nothing, or reasoning only.
    EmptyAnswer,
    /// The stream closed before the answer was finished.
    Truncated,
    /// The service sent something that is not its protocol, or reported an error inside the stream.
    Protocol,
    /// Any other unsuccessful status.
    Server(u16),
    /// A setting is unusable.
    Config,
    /// A local file operation failed.
    Io,
    /// A defect of ours; the turn ends, the process goes on.
    Internal,
}

impl ErrorKind {
    /// Stable identifier for JavaScript callers.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout(_) => "timeout",
            Self::Network(_) => "network",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::LoginRequired => "login_required",
            Self::Unauthorized => "unauthorized",
            Self::Entitlement => "entitlement",
            Self::ClientRefused => "client_refused",
            Self::QuotaExhausted => "quota_exhausted",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ContextOverflow => "context_overflow",
            Self::PayloadTooLarge => "payload_too_large",
            Self::BadMedia => "bad_media",
            Self::BadRequest => "bad_request",
            Self::Filtered => "filtered",
            Self::AnswerTooLarge => "answer_too_large",
            Self::EmptyAnswer => "empty_answer",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
            Self::Server(_) => "server",
            Self::Config => "config",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed if it is simply sent again (docs/protocol.md#retry-guidance).
    pub fn retryable(&self) -> bool {
        match self {
            Self::Timeout(_)
            | Self::Network(_)
            | Self::RateLimited
            | Self::Overloaded
            | Self::EmptyAnswer
            | Self::Truncated
            | Self::Protocol => true,
            Self::Server(status) => matches!(status, 408 | 409 | 500 | 502..=504 | 520..=529),
            _ => false,
        }
    }
}
