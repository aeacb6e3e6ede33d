//! Makes errors of answers that are none: unsuccessful ones, and something else in place of a document.

use std::time::{Duration, SystemTime};

use reqwest::Response;

use super::body::read_available;
use super::retry::retry_after;
use crate::config::ascii;
use crate::error::{Error, Phase, Result, from_response, html_title};

/// Longest error body that is read, in bytes.
const MAX_ERROR_BODY: usize = 256 << 10;

/// Longest wait for an error body once its status is known.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a response whose status is a success.
pub async fn accepted(response: reqwest::Result<Response>) -> Result<Response> {
    let response = response.map_err(|error| Error::from_reqwest(error, Phase::Headers))?;
    if response.status().is_success() { Ok(response) } else { Err(failed(response).await) }
}

/// Returns the error for something else in place of a document; the title of a page tells whose it is.
pub fn not_a_document(what: &str, body: &[u8]) -> Error {
    Error::protocol(what, &html_title(&String::from_utf8_lossy(body)).unwrap_or_default())
}

/// Returns the error of an unsuccessful answer.
pub async fn failed(mut response: Response) -> Error {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let wait = retry_after(header, SystemTime::now());
    let trace_id = header("x-trace-id").map(ascii).filter(|id| !id.is_empty());
    let body = read_available(Vec::new(), &mut response, MAX_ERROR_BODY, ERROR_BODY_TIMEOUT).await;
    from_response(status, &String::from_utf8_lossy(&body), wait, trace_id)
}
