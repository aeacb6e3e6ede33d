//! Tells whether an answer with a success status is a stream or a document.
//!
//! Gateways answer 200 with an error document and portals with a page, and servers that do stream may name a wrong content type. So
//! the first bytes decide, and the type only where they are ambiguous.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use crate::error::{Error, not_a_stream};
use crate::http::body::read_available;

/// Longest wait for the rest of a body once nothing in it can change the result.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// How much of a document is read, in bytes.
const MAX_DOCUMENT: usize = 64 << 10;

/// Beginnings of the lines of a stream.
const FIELDS: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b":"];

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The beginning of a body, until it is clear what it is.
#[derive(Debug)]
pub(super) struct ResponseKind {
    content_type: String,
    /// The content type is one of a document.
    document_type: bool,
    decided: bool,
}

impl ResponseKind {
    pub fn new(headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_ascii_lowercase();
        let document_type = content_type.contains("json") || content_type.contains("html");
        Self { content_type, document_type, decided: false }
    }

    /// Looks at the next chunk of the body: true if it is a document.
    pub fn is_document(&mut self, chunk: &[u8]) -> bool {
        let start = chunk.strip_prefix(BOM).unwrap_or(chunk).trim_ascii_start();
        if self.decided || start.is_empty() {
            return false;
        }
        self.decided = true;
        match start[0] {
            b'{' | b'[' | b'<' => true,
            // The chunk may be as short as a byte.
            _ => self.document_type && !FIELDS.iter().any(|field| start.starts_with(field) || field.starts_with(start)),
        }
    }

    /// Makes the error for the document that begins with `chunk`, and reads the rest of it.
    pub async fn document(&self, chunk: &[u8], response: &mut Response) -> Error {
        let body = read_available(chunk.to_vec(), response, MAX_DOCUMENT, DRAIN_TIMEOUT).await;
        self.not_a_stream(&String::from_utf8_lossy(&body))
    }

    /// Makes the error for an empty body whose content type is one of a document.
    pub fn document_at_end(&self) -> Option<Error> {
        (self.document_type && !self.decided).then(|| self.not_a_stream(""))
    }

    fn not_a_stream(&self, body: &str) -> Error {
        not_a_stream(if self.document_type { &self.content_type } else { "a document" }, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(content_type: &str) -> ResponseKind {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        ResponseKind::new(&headers)
    }

    #[test]
    fn response_kind_the_first_bytes_decide() {
        for content_type in ["text/event-stream", "text/plain", "application/json", "TEXT/HTML"] {
            for stream in ["data: {}", "d", ": hi", "event: x", "\n\ndata:", "\u{feff}data:", "id: 1", "retry"] {
                assert!(!response(content_type).is_document(stream.as_bytes()), "{content_type} {stream:?}");
            }
            for document in ["{\"error\"", " \n{", "<html>", "\u{feff}[", "<"] {
                assert!(response(content_type).is_document(document.as_bytes()), "{content_type} {document:?}");
            }
        }
    }

    #[test]
    fn response_kind_the_content_type_decides_where_bytes_are_ambiguous() {
        assert!(response("application/json").is_document(b"upstream failed"));
        assert!(!response("text/event-stream").is_document(b"x-odd: 1\n"));
        assert!(response("text/html").document_at_end().is_some());
        assert!(response("text/event-stream").document_at_end().is_none());
    }

    #[test]
    fn response_kind_later_chunks_are_not_looked_at() {
        let mut stream = response("application/json");
        assert!(!stream.is_document(b" "));
        assert!(!stream.is_document(b"data: "));
        assert!(!stream.is_document(b"{\"choices\":[]}\n\n"));
    }
}
