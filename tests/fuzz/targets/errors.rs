//! Errors of the service.

use kimi_code::error::{Error, ErrorKind, from_response, from_stream, not_a_stream};
use serde_json::{Value, json};

/// Input: two bytes of a status, then a body.
///
/// Every error has a kind and a bounded text. Only quota errors name a window. A gateway that quotes the body changes nothing
/// about a quota, an overflow or a refused image.
pub fn errors(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk::<2>() else { return };
    let status = 300 + u16::from_be_bytes(*status) % 300;
    let body = String::from_utf8_lossy(body);
    let direct = from_response(status, &body, None, None);
    sane(&direct);
    sane(&not_a_stream("text/html", &body));
    let Ok(document) = serde_json::from_str::<Value>(&body) else { return };
    sane(&from_stream(&document));
    if !document.get("error").is_some_and(Value::is_object)
        || !serde_json::to_string(&document).is_ok_and(|text| text.len() < 4000)
    {
        return;
    }
    let quoting =
        json!({ "error": { "message": "Provider returned error", "metadata": { "raw": document.to_string() } } });
    let quoted = from_response(status, &quoting.to_string(), None, None);
    sane(&quoted);
    if matches!(direct.kind, ErrorKind::QuotaExhausted | ErrorKind::ContextOverflow | ErrorKind::BadMedia) {
        assert_eq!(quoted.kind, direct.kind);
        assert_eq!(quoted.window, direct.window);
    }
}

fn sane(error: &Error) {
    assert!(!error.message.trim().is_empty());
    assert!(error.message.chars().count() < 4600, "{}", error.message.len());
    assert!(error.window.is_none() || error.kind == ErrorKind::QuotaExhausted);
    assert!(!error.kind.code().is_empty());
}
