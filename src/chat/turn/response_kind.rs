//! Whether an answer with a success status is a stream at all.
//!
//! Gateways answer 200 with an error document, portals with a page, and neither is bound to say so in its content type; servers
//! that do stream name a wrong type, or none. So the first bytes decide, and the type only where they say nothing.

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, HeaderMap};

use super::attempt::DRAIN_TIME;
use crate::error::{Error, not_a_stream};
use crate::http::body::read_available;

/// How much of a document is read.
const MAX_DOCUMENT: usize = 64 << 10;

/// What lines of a stream begin with.
const FIELDS: [&[u8]; 5] = [b"data", b"event", b"id", b"retry", b":"];

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The beginning of a body, until it is clear what it is.
#[derive(Debug)]
pub(super) struct ResponseKind {
    content_type: String,
    /// The type is one that no stream has.
    odd: bool,
    decided: bool,
}

impl ResponseKind {
    pub fn new(headers: &HeaderMap) -> Self {
        let content_type = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let content_type = content_type.to_ascii_lowercase();
        let odd = content_type.contains("json") || content_type.contains("html");
        Self { content_type, odd, decided: false }
    }

    /// Looks at the next piece of the body: true if it is a document.
    pub fn is_document(&mut self, chunk: &[u8]) -> bool {
        let start = chunk.strip_prefix(BOM).unwrap_or(chunk).trim_ascii_start();
        if self.decided || start.is_empty() {
            return false;
        }
        self.decided = true;
        match start[0] {
            b'{' | b'[' | b'<' => true,
            // The piece may be as short as a byte.
            _ => self.odd && !FIELDS.iter().any(|field| start.starts_with(field) || field.starts_with(start)),
        }
    }

    /// The error for the document that begins with `chunk`.
    pub async fn document(&self, chunk: &[u8], response: &mut Response) -> Error {
        let body = read_available(chunk.to_vec(), response, MAX_DOCUMENT, DRAIN_TIME).await;
        self.refused(&String::from_utf8_lossy(&body))
    }

    /// The error for a body that has ended without a word, if its type was none of a stream.
    pub fn document_at_end(&self) -> Option<Error> {
        (self.odd && !self.decided).then(|| self.refused(""))
    }

    fn refused(&self, body: &str) -> Error {
        not_a_stream(if self.odd { &self.content_type } else { "a document" }, body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(content_type: &str) -> ResponseKind {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        ResponseKind::new(&headers)
    }

    #[test]
    fn the_first_bytes_decide() {
        for content_type in ["text/event-stream", "text/plain", "application/json", "TEXT/HTML"] {
            for stream in ["data: {}", "d", ": hi", "event: x", "\n\ndata:", "\u{feff}data:", "id: 1", "retry"] {
                assert!(!opening(content_type).is_document(stream.as_bytes()), "{content_type} {stream:?}");
            }
            for document in ["{\"error\"", " \n{", "<html>", "\u{feff}[", "<"] {
                assert!(opening(content_type).is_document(document.as_bytes()), "{content_type} {document:?}");
            }
        }
    }

    #[test]
    fn the_content_type_decides_where_they_say_nothing() {
        assert!(opening("application/json").is_document(b"upstream failed"));
        assert!(!opening("text/event-stream").is_document(b"x-odd: 1\n"));
        assert!(opening("text/html").document_at_end().is_some());
        assert!(opening("text/event-stream").document_at_end().is_none());
    }

    #[test]
    fn later_pieces_are_not_looked_at() {
        let mut stream = opening("application/json");
        assert!(!stream.is_document(b" "));
        assert!(!stream.is_document(b"data: "));
        assert!(!stream.is_document(b"{\"choices\":[]}\n\n"));
    }
}
