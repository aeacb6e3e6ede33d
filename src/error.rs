//! One error type for the whole core.
//!
//! An error is typed once, where it arises; its [`ErrorKind`] then decides whether a retry is allowed, what a person reads and
//! what Pi does next (compact, retry, stop). Nothing further on looks at our own text. Sources: protocol reference §11,
//! kimi-code-2.1 §10 (what the service says), pi-extension §3.11 (which words make Pi act).

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Longest service text that is passed on, in characters; the same bound Pi's own providers keep.
const MAX_SERVICE_TEXT: usize = 4000;

/// Where in a request something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// DNS, TCP, proxy, TLS.
    Connect,
    /// The request is out, the response head is not here yet.
    Headers,
    /// The response runs, but nothing with meaning has arrived.
    FirstMeaning,
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
            Self::FirstMeaning => "while waiting for the first words of the answer",
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
            Self::EmptyAnswer => "empty_answer",
            Self::Truncated => "truncated",
            Self::Protocol => "protocol",
            Self::Server(_) => "server",
            Self::Config => "config",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// Whether the same request may succeed if it is simply sent again (kimi-code-2.1 §10).
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

/// An error of the core. `Display` gives the text for a person; no secret ever enters it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
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
}

/// Result of the core.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without an HTTP response behind it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), status: None, retry_after: None, trace_id: None }
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

    /// A failed request, with the whole chain of causes in the message.
    pub fn from_reqwest(error: &reqwest::Error, phase: Phase) -> Self {
        let chain = cause_chain(error);
        let lower = chain.to_ascii_lowercase();
        let at_connect = error.is_connect();
        let kind = if error.is_timeout() {
            ErrorKind::Timeout(if at_connect { Phase::Connect } else { phase })
        } else if at_connect && (lower.contains("proxy") || lower.contains("tunnel") || lower.contains("socks")) {
            ErrorKind::Proxy
        } else if at_connect && (lower.contains("certificate") || lower.contains("tls") || lower.contains("handshake"))
        {
            ErrorKind::Tls
        } else if error.is_builder() {
            ErrorKind::Config
        } else {
            ErrorKind::Network(if at_connect { Phase::Connect } else { phase })
        };
        let phase = if at_connect { Phase::Connect } else { phase };
        let head = match kind {
            ErrorKind::Timeout(_) => "timeout",
            ErrorKind::Proxy => "connection error (proxy)",
            ErrorKind::Tls => "connection error (TLS)",
            ErrorKind::Config => "unusable request",
            _ => "connection error",
        };
        Self::new(kind, format!("{head} {}: {chain}", phase.describe()))
    }

    /// The message for Pi's `errorMessage`. Pi matches the text to decide on a retry of its own; `exhausted` means that we have
    /// already retried to the end, which is said in words that Pi takes as final ("out of budget"). The trace id stays out
    /// of the text: a "429" somewhere in its digits would make Pi retry.
    pub fn message_for_pi(&self, attempts: u32, exhausted: bool) -> String {
        let text = match self.kind {
            ErrorKind::QuotaExhausted => format!("quota exceeded: {}", self.message),
            ErrorKind::ContextOverflow if !self.message.contains("exceeded model token limit") => {
                format!("context_length_exceeded: {}", self.message)
            }
            ErrorKind::PayloadTooLarge => format!("request_too_large: {}", self.message),
            _ => self.message.clone(),
        };
        if exhausted && self.kind.retryable() {
            return format!("Gave up after {attempts} attempts, retries are out of budget: {text}");
        }
        text
    }
}

/// `error` and everything it says it was caused by, without repeating a part that its parent already quotes.
pub fn cause_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let part = cause.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = cause.source();
    }
    text
}

/// The first `max` characters of `text`, with an ellipsis where something was cut.
pub fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What the service says about itself in an error, in either dialect's wrapping.
#[derive(Debug, Default, Deserialize)]
struct ServiceError {
    #[serde(default)]
    message: Option<String>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default)]
    code: Option<Value>,
}

/// Text of an error body: the service's own message, the `<title>` of an HTML page, or the beginning of whatever it is;
/// beside it the machine-readable type and code.
pub fn service_text(body: &str) -> (String, String) {
    if let Ok(value) = serde_json::from_str::<Value>(body) {
        let inner = match value.get("error") {
            Some(Value::Object(_)) => value.get("error").cloned(),
            Some(Value::String(text)) => {
                let description = value.get("error_description").and_then(Value::as_str);
                return (description.unwrap_or(text).to_owned(), text.clone());
            }
            _ => Some(value.clone()),
        };
        let error: ServiceError = inner.and_then(|v| serde_json::from_value(v).ok()).unwrap_or_default();
        let code = match error.code {
            Some(Value::String(code)) => code,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let label = format!("{} {code}", error.kind.unwrap_or_default());
        let detail = value.get("detail").and_then(Value::as_str).map(str::to_owned);
        return (error.message.or(detail).unwrap_or_else(|| clip(body, MAX_SERVICE_TEXT)), label.trim().to_owned());
    }
    if let Some(title) = html_title(body) {
        return (title, String::new());
    }
    (clip(body.trim(), MAX_SERVICE_TEXT), String::new())
}

fn html_title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower[open..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = body[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// Classifies an unsuccessful HTTP answer (protocol reference §11.1–11.3, kimi-code-2.1 §10).
pub fn from_response(status: u16, body: &str, retry_after: Option<Duration>, trace_id: Option<String>) -> Error {
    let (text, label) = service_text(body);
    let text = clip(&text.replace('\r', ""), MAX_SERVICE_TEXT);
    let kind = classify(Some(status), &text, &label);
    let text = if text.is_empty() { "the service gave no reason".to_owned() } else { text };
    let message = match kind {
        ErrorKind::Unauthorized => format!(
            "{status} {text} Kimi Code authorization is no longer valid. Sign in again with /login kimi-coding, \
             or set a valid KIMI_API_KEY."
        ),
        ErrorKind::ClientRefused => format!(
            "{status} {text} The service refused this client. If your plan is meant for the official CLI only, the setting \
             \"identity\": \"kimi-code\" makes Pi identify itself like it."
        ),
        _ => format!("{status} {text}"),
    };
    Error { kind, message, status: Some(status), retry_after, trace_id }
}

/// Classifies an error that the service reports inside a running stream; it has no status of its own.
pub fn from_stream(body: &Value) -> Error {
    let error: ServiceError = serde_json::from_value(body.clone()).unwrap_or_default();
    let text = error.message.unwrap_or_else(|| clip(&body.to_string(), 200));
    let label = format!("{} {}", error.kind.as_deref().unwrap_or_default(), error.code.unwrap_or_default());
    let kind = match classify(None, &text, &label) {
        ErrorKind::BadRequest => ErrorKind::Protocol,
        kind => kind,
    };
    Error::new(kind, clip(&text, MAX_SERVICE_TEXT))
}

fn classify(status: Option<u16>, text: &str, label: &str) -> ErrorKind {
    let text = text.to_ascii_lowercase();
    let label = label.to_ascii_lowercase();
    let any = |needles: &[&str]| needles.iter().any(|needle| text.contains(needle));
    let status_in = |set: &[u16]| status.is_none_or(|s| set.contains(&s));

    if matches!(status, Some(401..=403))
        && any(&["subscription does not have access", "current plan supports only", "upgrade to a"])
    {
        return ErrorKind::Entitlement;
    }
    if status == Some(401) {
        return ErrorKind::Unauthorized;
    }
    if status_in(&[429, 403])
        && (label.contains("exceeded_current_quota")
            || label.contains("insufficient_quota")
            || any(&[
                "exceeded your current quota",
                "exceeded your current token quota",
                "check your account balance",
                "insufficient balance",
                "recharge",
                "in arrears",
                "usage limit for this billing cycle",
                "reached your usage limit",
                "weekly limit",
                "weekly usage limit",
            ]))
    {
        return ErrorKind::QuotaExhausted;
    }
    if status == Some(402) {
        return ErrorKind::Entitlement;
    }
    if status == Some(403) {
        return if any(&["coding agents", "identity", "user-agent", "user agent", "client is not", "unsupported client"])
        {
            ErrorKind::ClientRefused
        } else {
            ErrorKind::Entitlement
        };
    }
    if status_in(&[400, 413, 422])
        && (label.contains("context_length_exceeded")
            || any(&[
                "context length",
                "context_length",
                "context-length",
                "maximum context",
                "exceeded model token limit",
                "exceeds model token limit",
                "exceed max tokens",
                "exceeds maximum tokens",
                "prompt is too long",
            ])
            || (text.contains("context window") && text.contains("exceed"))
            || (text.contains("too many tokens") && any(&["prompt", "input", "context"]))
            || (text.contains("input token count") && text.contains("exceed")))
    {
        return ErrorKind::ContextOverflow;
    }
    if status == Some(413) {
        return ErrorKind::PayloadTooLarge;
    }
    if status_in(&[400])
        && (any(&[
            "unsupported image",
            "does not represent a valid image",
            "failed to decode image",
            "failed to decode the image",
            "invalid image",
            "unsupported video",
        ]) || ((text.contains("process") || text.contains("decode"))
            && any(&["could not", "unable to"])
            && text.contains("image"))
            || (any(&["media_type", "mime_type"]) && text.contains("image")))
    {
        return ErrorKind::BadMedia;
    }
    match status {
        Some(429) => ErrorKind::RateLimited,
        Some(529) => ErrorKind::Overloaded,
        Some(500 | 503) if text.contains("overload") => ErrorKind::Overloaded,
        Some(400 | 404 | 405 | 415 | 422) => ErrorKind::BadRequest,
        Some(status) => ErrorKind::Server(status),
        None if text.contains("overload") || label.contains("overload") => ErrorKind::Overloaded,
        None if label.contains("rate_limit")
            || any(&["too many requests", "rate limit"])
            || (text.contains("reached") && text.contains("max rpm")) =>
        {
            ErrorKind::RateLimited
        }
        None => ErrorKind::BadRequest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        from_response(status, body, None, None).kind
    }

    /// Protocol reference §11.1 and kimi-code-2.1 §10, row by row.
    #[test]
    fn every_known_answer_has_its_kind() {
        let invalid = r#"{"error":{"message":"The API Key appears to be invalid or may have expired. Please verify your credentials and try again.","type":"invalid_authentication_error"}}"#;
        assert_eq!(kind(401, invalid), ErrorKind::Unauthorized);
        let k3 = r#"{"error":{"message":"Your current subscription does not have access to k3. Upgrade to a Moderato plan or above."}}"#;
        assert_eq!(kind(401, k3), ErrorKind::Entitlement);
        assert_eq!(kind(403, k3), ErrorKind::Entitlement);
        assert_eq!(kind(402, "{}"), ErrorKind::Entitlement);
        let quota = r#"{"error":{"message":"You exceeded your current token quota: <org-1> 31275, please check your account balance","type":"exceeded_current_quota_error"}}"#;
        assert_eq!(kind(429, quota), ErrorKind::QuotaExhausted);
        let cycle = r#"{"error":{"message":"You've reached your usage limit for this billing cycle","type":"access_terminated_error"}}"#;
        assert_eq!(kind(403, cycle), ErrorKind::QuotaExhausted);
        let agents = r#"{"error":{"message":"Kimi For Coding is currently only available for Coding Agents such as Kimi CLI, Claude Code, Roo Code, Kilo Code, etc.","type":"access_terminated_error"}}"#;
        assert_eq!(kind(403, agents), ErrorKind::ClientRefused);
        let rpm = r#"{"error":{"message":"too many requests","type":"rate_limit_reached_error"}}"#;
        assert_eq!(kind(429, rpm), ErrorKind::RateLimited);
        let busy = r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#;
        assert_eq!(kind(503, busy), ErrorKind::Overloaded);
        assert_eq!(kind(529, ""), ErrorKind::Overloaded);
        let overflow = r#"{"error":{"message":"Your request exceeded model token limit: 262144 (requested: 300000)"}}"#;
        assert_eq!(kind(400, overflow), ErrorKind::ContextOverflow);
        assert_eq!(
            kind(413, r#"{"error":{"message":"Request exceeds the maximum size"}}"#),
            ErrorKind::PayloadTooLarge
        );
        let image = r#"{"error":{"message":"Unsupported image. Please try another one."}}"#;
        assert_eq!(kind(400, image), ErrorKind::BadMedia);
        assert_eq!(kind(400, r#"{"error":{"message":"text content is empty"}}"#), ErrorKind::BadRequest);
        assert_eq!(kind(502, "<html>"), ErrorKind::Server(502));
    }

    #[test]
    fn an_html_page_is_reduced_to_its_title() {
        let page = "<html><head><title>500 Internal\r\n Server Error</title></head><body>oops</body></html>";
        assert_eq!(from_response(500, page, None, None).message, "500 500 Internal Server Error");
    }

    #[test]
    fn anthropic_wrapping_and_bare_messages_are_read_alike() {
        let wrapped = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(from_response(529, wrapped, None, None).message, "529 Overloaded");
        assert_eq!(from_response(400, r#"{"message":"bare"}"#, None, None).message, "400 bare");
        assert_eq!(from_response(400, "plain text", None, None).message, "400 plain text");
    }

    /// pi-extension §3.11: Pi retries by matching words, so an error that was retried to the end must be final there.
    #[test]
    fn a_used_up_retry_budget_reads_as_final() {
        let error = from_response(429, r#"{"error":{"message":"too many requests"}}"#, None, None);
        assert!(error.message_for_pi(10, true).contains("out of budget"));
        assert!(!error.message_for_pi(1, false).contains("out of budget"));
    }

    #[test]
    fn quota_and_overflow_carry_the_words_pi_acts_on() {
        let quota =
            from_response(429, r#"{"error":{"message":"x","type":"exceeded_current_quota_error"}}"#, None, None);
        assert!(quota.message_for_pi(1, false).contains("quota exceeded"));
        let overflow = from_response(400, r#"{"error":{"message":"maximum context reached"}}"#, None, None);
        assert!(overflow.message_for_pi(1, false).contains("context_length_exceeded"));
    }

    #[test]
    fn an_error_frame_is_classified_without_a_status() {
        let frame = serde_json::json!({"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"});
        assert_eq!(from_stream(&frame).kind, ErrorKind::Overloaded);
        assert_eq!(from_stream(&serde_json::json!({"message":"something odd"})).kind, ErrorKind::Protocol);
    }
}
