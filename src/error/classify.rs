//! Reads what the service says about a failure, in whatever form, and finds out what it means.

use std::time::Duration;

use serde_json::Value;

use super::meanings::{Meaning, NONE};
use super::quota_window::QuotaWindow;
use super::text_search::Words;
use super::{Error, ErrorKind, clip};

/// Longest text of the service that is passed on, in characters; Pi's own providers have the same limit.
const MAX_SERVICE_TEXT: usize = 4000;

/// Errors inside errors that are followed. Gateways wrap each other's, but not that often.
const MAX_DEPTH: usize = 8;

/// One error of a document. Gateways put the error that they received into their own.
#[derive(Debug, Default)]
struct ErrorReport {
    message: Option<String>,
    /// Type and code, reduced to lower-case letters and digits.
    label: String,
    /// A code that is an HTTP status.
    status: Option<u16>,
    /// Another service's error, quoted by a gateway.
    quoted: bool,
}

impl ErrorReport {
    /// Reads the errors of a document, the outermost first.
    fn read_all(document: &Value) -> Vec<Self> {
        let mut reports = Vec::new();
        read_value(document, false, MAX_DEPTH, &mut reports);
        reports
    }

    /// Returns the first row of the table that applies to this error. `status` is that of the response.
    fn meaning(&self, status: Option<u16>) -> Option<&'static Meaning> {
        let words = self.words();
        let quoted = (self.quoted && status.is_some()).then_some(NONE);
        let statuses = [self.status, Some(status.unwrap_or(NONE)), quoted];
        statuses.into_iter().flatten().find_map(|status| Meaning::of_words(status, &self.label, &words))
    }

    fn words(&self) -> Words {
        Words::of(self.message.as_deref().unwrap_or_default())
    }
}

fn read_value(value: &Value, quoted: bool, depth: usize, reports: &mut Vec<ErrorReport>) {
    let Some(depth) = depth.checked_sub(1) else { return };
    match value {
        Value::Array(items) => {
            for item in items {
                read_value(item, quoted, depth, reports);
                if reports.iter().any(|report| report.message.is_some()) {
                    return;
                }
            }
        }
        Value::Object(_) => read_object(value, quoted, depth, reports),
        Value::String(text) => read_text(text, depth, reports),
        _ => {}
    }
}

fn read_object(object: &Value, quoted: bool, depth: usize, reports: &mut Vec<ErrorReport>) {
    let text = |name: &str| object.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let message = ["error_description", "message", "detail", "error"].into_iter().find_map(text).map(str::to_owned);
    let code = object.get("code").filter(|code| !code.is_null());
    let code = code.map(|code| code.as_str().map_or_else(|| code.to_string(), str::to_owned));
    let label = [text("error"), text("type"), code.as_deref()].into_iter().flatten().flat_map(str::chars);
    let label = label.filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
    let status = ["code", "status", "status_code"].into_iter().find_map(|name| http_status(object.get(name)?));
    let inside = message.clone();
    reports.push(ErrorReport { message, label, status, quoted });
    for name in ["error", "errors", "detail"] {
        if let Some(inner @ (Value::Object(_) | Value::Array(_))) = object.get(name) {
            read_value(inner, quoted, depth, reports);
        }
    }
    // OpenRouter keeps the provider's answer in `metadata.raw`; others in a member of their own, or in their message.
    let raw = object.get("metadata").and_then(|metadata| metadata.get("raw"));
    let wrapped = ["raw", "body", "response", "cause", "inner_error"].into_iter().filter_map(|name| object.get(name));
    for quotation in raw.into_iter().chain(wrapped) {
        match quotation {
            Value::String(text) => {
                let known = reports.len();
                read_text(text, depth, reports);
                if reports.len() == known && !text.trim().is_empty() {
                    reports.push(ErrorReport { message: Some(text.clone()), quoted: true, ..ErrorReport::default() });
                }
            }
            other => read_value(other, true, depth, reports),
        }
    }
    read_text(&inside.unwrap_or_default(), depth, reports);
}

/// Reads a JSON object inside a text.
fn read_text(text: &str, depth: usize, reports: &mut Vec<ErrorReport>) {
    let json = text.find('{').map(|at| serde_json::Deserializer::from_str(&text[at..]).into_iter::<Value>());
    if let Some(Ok(object @ Value::Object(_))) = json.and_then(|mut values| values.next()) {
        read_value(&object, true, depth, reports);
    }
}

fn http_status(code: &Value) -> Option<u16> {
    let number = code.as_u64().or_else(|| code.as_str()?.trim().parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// Returns the error that a member named `error` reports, unless it reports none: null, false and blank text do not.
pub fn reported(error: Option<&Value>) -> Option<&Value> {
    error.filter(|error| {
        !matches!(error, Value::Null | Value::Bool(false)) && error.as_str().is_none_or(|text| !text.trim().is_empty())
    })
}

/// Returns the text of an error body: the service's own message, the `<title>` of an HTML page, or the beginning of the body.
pub fn service_text(body: &str) -> String {
    text_and_reports(body).0
}

fn text_and_reports(body: &str) -> (String, Vec<ErrorReport>) {
    if let Ok(value) = serde_json::from_str::<Value>(body.trim_start_matches('\u{feff}')) {
        let reports = ErrorReport::read_all(&value);
        let message = reports.iter().rev().find_map(|report| report.message.clone());
        let text = message.or_else(|| value.as_str().map(str::to_owned));
        return (text.unwrap_or_else(|| clip(body, MAX_SERVICE_TEXT)), reports);
    }
    let text = html_title(body).unwrap_or_else(|| clip(body.trim(), MAX_SERVICE_TEXT));
    let mut reports = vec![ErrorReport { message: Some(text.clone()), ..ErrorReport::default() }];
    read_text(&text, MAX_DEPTH, &mut reports);
    let message = reports.iter().rev().find_map(|report| report.message.clone());
    (message.unwrap_or(text), reports)
}

/// Returns the `<title>` of an HTML page.
pub fn html_title(body: &str) -> Option<String> {
    let lower = body.to_ascii_lowercase();
    let open = lower.find("<title")?;
    let start = open + lower[open..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    let title = body[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

/// Classifies an unsuccessful HTTP answer.
pub fn from_response(status: u16, body: &str, retry_after: Option<Duration>, trace_id: Option<String>) -> Error {
    let (text, reports) = text_and_reports(body);
    let ErrorReading { kind, text, window, crowded } = classify(Some(status), text, &reports);
    let text = clip(&text.replace('\r', ""), MAX_SERVICE_TEXT);
    // Gateways put the status into their titles.
    let text = text.strip_prefix(&format!("{status} ")).map_or_else(|| text.clone(), str::to_owned);
    let text = match status {
        300..=399 => "a redirect, which is never followed because credentials would travel along. Is the base URL right, or does \
                      a proxy or portal want you to sign in?"
            .to_owned(),
        _ if text.is_empty() => "the service gave no reason".to_owned(),
        _ => text,
    };
    let message = match kind {
        ErrorKind::ClientRefused => format!("{status} {text} The service refused this client."),
        _ => format!("{status} {text}"),
    };
    Error { status: Some(status), retry_after, trace_id, window, crowded, ..Error::new(kind, message) }
}

/// Classifies an error that the service reports inside a running stream; it has no status of its own.
pub fn from_stream(body: &Value) -> Error {
    let reports = ErrorReport::read_all(body);
    let message = reports.iter().rev().find_map(|report| report.message.clone());
    let text = message.unwrap_or_else(|| match body {
        Value::String(text) if !text.trim().is_empty() => text.clone(),
        Value::String(_) | Value::Null => "the service reported an error and gave no reason".to_owned(),
        other => clip(&other.to_string(), 200),
    });
    let reports = if reports.is_empty() {
        vec![ErrorReport { message: Some(text.clone()), ..ErrorReport::default() }]
    } else {
        reports
    };
    let ErrorReading { kind, text, window, crowded } = classify(None, text, &reports);
    Error { window, crowded, ..Error::new(kind, clip(&text, MAX_SERVICE_TEXT)) }
}

/// Returns the error for a body that came with a success status where a stream was due.
pub fn not_a_stream(content_type: &str, body: &str) -> Error {
    if let Ok(value) = serde_json::from_str::<Value>(body)
        && let Some(error) = reported(value.get("error"))
    {
        return from_stream(error);
    }
    let what = format!("the service answered with {} instead of a stream", clip(content_type, 60));
    Error::protocol(&what, &service_text(body))
}

/// What an error of the service means.
struct ErrorReading {
    kind: ErrorKind,
    text: String,
    window: Option<QuotaWindow>,
    crowded: bool,
}

/// Finds out what the errors of a document mean. The innermost error that means something decides: the others quote it.
fn classify(status: Option<u16>, text: String, reports: &[ErrorReport]) -> ErrorReading {
    for report in reports.iter().rev() {
        if let Some(meaning) = report.meaning(status) {
            let window = QuotaWindow::named_in(&report.words()).filter(|_| meaning.kind == ErrorKind::QuotaExhausted);
            return ErrorReading {
                kind: meaning.kind.clone(),
                text: report.message.clone().unwrap_or(text),
                window,
                crowded: meaning.crowded,
            };
        }
    }
    let quoted = reports.iter().rev().find_map(|report| report.status.filter(|_| report.quoted));
    let own = || reports.iter().rev().find_map(|report| report.status);
    let status_that_counts = quoted.or(status).or_else(own);
    let meaning = status_that_counts.and_then(Meaning::of_status);
    let kind = match (meaning, status_that_counts) {
        (Some(meaning), _) => meaning.kind.clone(),
        // Inside a stream, other codes say little; the same request may well succeed.
        _ if status.is_none() => ErrorKind::Protocol,
        (None, Some(400 | 404 | 405 | 415 | 422)) => ErrorKind::BadRequest,
        (None, Some(status)) => ErrorKind::Server(status),
        (None, None) => ErrorKind::Protocol,
    };
    ErrorReading { kind, text, window: None, crowded: meaning.is_some_and(|meaning| meaning.crowded) }
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
        assert_eq!(from_stream(&serde_json::json!("\r")).message, "the service reported an error and gave no reason");
    }

    #[test]
    fn a_document_in_place_of_a_stream_is_named() {
        let busy = r#"{"error":{"type":"engine_overloaded_error","message":"overloaded"}}"#;
        assert_eq!(not_a_stream("application/json", busy).kind, ErrorKind::Overloaded);
        let portal = not_a_stream("text/html", "<html><title>Sign in to WiFi</title></html>");
        assert!(portal.message.ends_with("text/html instead of a stream: Sign in to WiFi"), "{}", portal.message);
    }
}
