//! What the service says about a failure, in whatever form, and what kind of failure that is.

use std::time::Duration;

use serde_json::Value;

use super::{Error, ErrorKind, clip};

/// Longest service text that is passed on, in characters; the same bound Pi's own providers keep.
const MAX_SERVICE_TEXT: usize = 4000;

/// What the service says about itself in an error, in either dialect's wrapping.
#[derive(Debug, Default)]
struct ServiceError {
    message: Option<String>,
    /// Machine-readable type and code.
    label: String,
}

impl ServiceError {
    /// Reads the members that say something, whatever the others are.
    fn read(value: &Value) -> Self {
        if let Value::Array(items) = value {
            let read = items.iter().map(Self::read);
            return read.into_iter().find(|error| error.message.is_some()).unwrap_or_default();
        }
        let text = |name: &str| value.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let message = ["error_description", "message", "detail", "error"].into_iter().find_map(text).map(str::to_owned);
        let kinds = [text("error"), text("type")].into_iter().flatten().map(str::to_owned);
        let code = value.get("code").filter(|code| !code.is_null());
        let code = code.map(|code| code.as_str().map_or_else(|| code.to_string(), str::to_owned));
        let own = Self { message, label: kinds.chain(code).collect::<Vec<_>>().join(" ") };
        let inner = ["error", "errors", "detail"].into_iter().filter_map(|name| value.get(name));
        let mut inner = inner.filter(|inner| inner.is_object() || inner.is_array()).map(Self::read);
        match inner.find(|error| error.message.is_some() || !error.label.is_empty()) {
            Some(inner) => Self { message: inner.message.or(own.message), label: inner.label },
            None => own,
        }
    }
}

/// The error that a member named `error` reports, unless it reports none: null, false and empty text do not.
pub fn reported(error: Option<&Value>) -> Option<&Value> {
    error.filter(|error| !matches!(error, Value::Null | Value::Bool(false)) && error.as_str() != Some(""))
}

/// Text of an error body: the service's own message, the `<title>` of an HTML page, or the beginning of whatever it is;
/// beside it the machine-readable type and code.
pub fn service_text(body: &str) -> (String, String) {
    if let Ok(value) = serde_json::from_str::<Value>(body.trim_start_matches('\u{feff}')) {
        let error = ServiceError::read(&value);
        let text = error.message.or_else(|| value.as_str().map(str::to_owned));
        return (text.unwrap_or_else(|| clip(body, MAX_SERVICE_TEXT)), error.label);
    }
    if let Some(title) = html_title(body) {
        return (title, String::new());
    }
    (clip(body.trim(), MAX_SERVICE_TEXT), String::new())
}

/// The `<title>` of an HTML page.
pub fn html_title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower[open..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = body[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// Classifies an unsuccessful HTTP answer (docs/protocol.md#error-bodies, docs/protocol.md#error-wordings).
pub fn from_response(status: u16, body: &str, retry_after: Option<Duration>, trace_id: Option<String>) -> Error {
    let (text, label) = service_text(body);
    let text = clip(&text.replace('\r', ""), MAX_SERVICE_TEXT);
    // Gateways put the status into their titles.
    let text = text.strip_prefix(&format!("{status} ")).map_or_else(|| text.clone(), str::to_owned);
    let kind = classify(Some(status), &text, &label);
    let text = match status {
        300..=399 => "a redirect, which is never followed because credentials would travel along. Is the base URL right, or does \
                      a proxy or portal want you to sign in?"
            .to_owned(),
        _ if text.is_empty() => "the service gave no reason".to_owned(),
        _ => text,
    };
    let message = match kind {
        ErrorKind::ClientRefused => format!(
            "{status} {text} The service refused this client. If your plan is meant for the official CLI only, the setting \
             \"identity\": \"kimi-code\" makes Pi identify itself like it."
        ),
        _ => format!("{status} {text}"),
    };
    Error { status: Some(status), retry_after, trace_id, ..Error::new(kind, message) }
}

/// Classifies an error that the service reports inside a running stream; it has no status of its own.
pub fn from_stream(body: &Value) -> Error {
    let error = ServiceError::read(body);
    let text = match (error.message, body) {
        (Some(message), _) => message,
        (None, Value::String(text)) => text.clone(),
        (None, Value::Null) => "the service reported an error and gave no reason".to_owned(),
        (None, other) => clip(&other.to_string(), 200),
    };
    let kind = match classify(None, &text, &error.label) {
        ErrorKind::BadRequest => ErrorKind::Protocol,
        kind => kind,
    };
    Error::new(kind, clip(&text, MAX_SERVICE_TEXT))
}

/// The error for a body that came with a success status where a stream was due.
pub fn not_a_stream(content_type: &str, body: &str) -> Error {
    if let Ok(value) = serde_json::from_str::<Value>(body)
        && let Some(error) = reported(value.get("error"))
    {
        return from_stream(error);
    }
    let (text, _) = service_text(body);
    Error::protocol(&format!("the service answered with {} instead of a stream", clip(content_type, 60)), &text)
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
    // Inside a stream there is no status; these are the words of the service's own 401 (docs/protocol.md#errors-in-streams).
    let refused = label.contains("invalid_authentication") || text.contains("api key appears to be invalid");
    if status == Some(401) || (status.is_none() && refused) {
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
                "contextlength",
                "maximum context",
                "prompt is too long",
            ])
            || (text.contains("exceed") && text.contains("model token limit"))
            || exceeds_tokens(&text)
            || (text.contains("context window") && text.contains("exceed"))
            || (text.contains("too many tokens") && any(&["prompt", "input", "context"]))
            || (text.contains("input token count") && text.contains("exceed")))
    {
        return ErrorKind::ContextOverflow;
    }
    if status == Some(413) {
        return ErrorKind::PayloadTooLarge;
    }
    if status_in(&[400]) && label.contains("content_filter") {
        return ErrorKind::Filtered;
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

/// `exceed(ed|s|ing)? (the )?max(imum)? token` (docs/protocol.md#error-wordings).
fn exceeds_tokens(text: &str) -> bool {
    text.split("exceed").skip(1).any(|rest| {
        let rest = ["ed ", "s ", "ing ", " "].iter().find_map(|ending| rest.strip_prefix(ending)).unwrap_or_default();
        let rest = rest.strip_prefix("the ").unwrap_or(rest);
        ["maximum token", "max token"].iter().any(|words| rest.starts_with(words))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> ErrorKind {
        from_response(status, body, None, None).kind
    }

    /// Row by row: docs/protocol.md#error-bodies, docs/protocol.md#retry-guidance.
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
        for overflow in [
            "This request exceeds the context window",
            "request exceeds the max tokens",
            "exceeding maximum token count",
            "the request is exceeding the model token limit",
            "contextLength too small",
        ] {
            let body = serde_json::json!({ "error": { "message": overflow } }).to_string();
            assert_eq!(kind(400, &body), ErrorKind::ContextOverflow, "{overflow}");
        }
        assert_eq!(kind(400, r#"{"error":{"message":"max_tokens exceeds 5"}}"#), ErrorKind::BadRequest);
        let image = r#"{"error":{"message":"Unsupported image. Please try another one."}}"#;
        assert_eq!(kind(400, image), ErrorKind::BadMedia);
        assert_eq!(kind(400, r#"{"error":{"message":"text content is empty"}}"#), ErrorKind::BadRequest);
        assert_eq!(kind(502, "<html>"), ErrorKind::Server(502));
    }

    #[test]
    fn an_html_page_is_reduced_to_its_title() {
        let page = "<html><head><title>500 Internal\r\n Server Error</title></head><body>oops</body></html>";
        assert_eq!(from_response(500, page, None, None).message, "500 Internal Server Error");
    }

    #[test]
    fn anthropic_wrapping_and_bare_messages_are_read_alike() {
        let wrapped = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        assert_eq!(from_response(529, wrapped, None, None).message, "529 Overloaded");
        assert_eq!(from_response(400, r#"{"message":"bare"}"#, None, None).message, "400 bare");
        assert_eq!(from_response(400, "plain text", None, None).message, "400 plain text");
    }

    #[test]
    fn a_message_is_found_wherever_a_gateway_puts_it() {
        for (body, text) in [
            (r#"{"error":{"message":"m","type":400,"code":1,"param":null}}"#, "400 m"),
            (r#"{"error":{"detail":"d"}}"#, "400 d"),
            (r#"{"detail":[{"loc":["body"],"msg":"m"},{"message":"field required"}]}"#, "400 field required"),
            (r#"{"errors":[{"code":7},{"message":"second"}]}"#, "400 second"),
            (r#"[{"error":{"message":"in a list"}}]"#, "400 in a list"),
            ("\u{feff}{\"message\":\"after a mark\"}", "400 after a mark"),
            (r#""a text""#, "400 a text"),
            (r#"{"error":"invalid","error_description":"in words"}"#, "400 in words"),
        ] {
            assert_eq!(from_response(400, body, None, None).message, text, "{body}");
        }
    }

    /// Members that are there and say nothing.
    #[test]
    fn an_empty_error_member_reports_none() {
        for none in [serde_json::json!(null), serde_json::json!(false), serde_json::json!("")] {
            assert_eq!(reported(Some(&none)), None);
        }
        assert!(reported(Some(&serde_json::json!({}))).is_some());
    }

    #[test]
    fn an_error_frame_is_classified_without_a_status() {
        let frame = serde_json::json!({"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"});
        assert_eq!(from_stream(&frame).kind, ErrorKind::Overloaded);
        assert_eq!(from_stream(&serde_json::json!({"message":"something odd"})).kind, ErrorKind::Protocol);
        let key = serde_json::json!({"type":"invalid_authentication_error","message":"no"});
        assert_eq!(from_stream(&key).kind, ErrorKind::Unauthorized);
        assert_eq!(from_stream(&serde_json::json!("Overloaded")).message, "Overloaded");
    }

    #[test]
    fn a_document_in_place_of_a_stream_is_named() {
        let busy = r#"{"error":{"type":"engine_overloaded_error","message":"overloaded"}}"#;
        assert_eq!(not_a_stream("application/json", busy).kind, ErrorKind::Overloaded);
        let portal = not_a_stream("text/html", "<html><title>Sign in to WiFi</title></html>");
        assert!(portal.message.ends_with("text/html instead of a stream: Sign in to WiFi"), "{}", portal.message);
    }
}
