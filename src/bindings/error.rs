//! The one form in which an error reaches JavaScript. Here, where errors leave, credentials are removed from every member.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Map, Value, json};

use crate::display_text::visible;
use crate::error::{Error, ErrorKind, Result, for_program};
use crate::http::redact::KnownSecrets;

/// Whether Pi runs in this process. Then advice is for its users, else for programs.
static IN_PI: AtomicBool = AtomicBool::new(false);

/// Makes advice in messages speak to users of Pi from now on.
pub fn advise_users_of_pi() {
    IN_PI.store(true, Ordering::Relaxed);
}

/// Returns a message with the advice for who reads it in this process.
pub fn advised(message: &str) -> Cow<'_, str> {
    if IN_PI.load(Ordering::Relaxed) { message.into() } else { for_program(message) }
}

/// `{code, message, status?, retryAfterMs?, resetsAt?, traceId?}`. Members without a value are left out.
pub fn error_json(error: &Error) -> Map<String, Value> {
    let members = [
        ("code", Some(error.kind.code().into())),
        ("message", Some(safe_text(&advised(&error.message)).into())),
        ("status", error.status.map(Value::from)),
        ("retryAfterMs", error.retry_after.map(|wait| Value::from(wait.as_millis() as u64))),
        ("resetsAt", error.resets_at.map(Value::from)),
        ("traceId", error.trace_id.as_deref().map(|id| safe_text(id).into())),
    ];
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

/// The error's members beside others, in one object.
pub fn with_error(mut members: Value, error: &Error) -> String {
    redact_json(&mut members);
    if let Some(object) = members.as_object_mut() {
        object.extend(error_json(error));
    }
    members.to_string()
}

/// The answer to a query as JSON: what was asked for, or `{error}`.
pub fn answer(result: Result<Value>) -> String {
    result.unwrap_or_else(|error| json!({ "error": error_json(&error) })).to_string()
}

/// Removes secrets from a text and makes it safe to print.
pub fn safe_text(text: &str) -> String {
    visible(&KnownSecrets::shared().redact(text)).into_owned()
}

/// Removes secrets from the texts of a JSON value.
pub fn redact_json(value: &mut Value) {
    KnownSecrets::shared().redact_json(value);
}

/// The error for a panic; `what` was ended by it.
pub fn defect(what: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("internal defect in pi-provider-kimi-code; the {what} was ended"))
}

/// The error to throw where a call answers at once.
pub fn thrown(error: Error) -> napi::Error {
    napi::Error::from_reason(safe_text(&error.message))
}
