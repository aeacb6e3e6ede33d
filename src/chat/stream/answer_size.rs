//! Bounds the memory that one answer takes.
//!
//! An endless answer would fill the memory of the process, on the JavaScript side as well, so it ends with an error. Events without
//! content count with their own size, because nothing else would end them.

use super::event::Delta;
use crate::error::{Error, ErrorKind, Result};

/// Memory of a text or thinking block beside its text, in bytes.
const BLOCK: usize = 1 << 10;

/// Memory of a tool call beside its arguments, in bytes.
const CALL: usize = 4 << 10;

/// Memory that an event leaves behind in any case, in bytes.
const EVENT: usize = 16;

/// Size of an answer so far.
#[derive(Debug)]
pub struct AnswerSize {
    bytes: usize,
    limit: usize,
}

impl AnswerSize {
    /// Starts an answer of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: 0, limit }
    }

    /// Counts an event of `event_bytes` that brought `content_bytes` of content.
    pub fn add(&mut self, event_bytes: usize, content_bytes: usize) -> Result<()> {
        self.bytes += EVENT + if content_bytes == 0 { event_bytes } else { content_bytes };
        if self.bytes <= self.limit {
            return Ok(());
        }
        let limit = self.limit >> 20;
        let message = format!("the answer is larger than {limit} MiB (limits.answerBytes) and was not read to its end");
        Err(Error::new(ErrorKind::AnswerTooLarge, message))
    }
}

impl Delta<'_> {
    /// Returns the memory that this delta takes on the JavaScript side, in bytes.
    pub fn memory(&self) -> usize {
        match self {
            Self::Text(_, text) | Self::Thinking(_, text) => javascript_bytes(text),
            // Kept as text and as value.
            Self::ToolArguments(_, text) => javascript_bytes(text) * 2,
            Self::Signature(_, text) => text.len(),
            Self::TextStart(_) => BLOCK,
            Self::ThinkingStart { signature, .. } => BLOCK + signature.len(),
            Self::ToolStart { id, name, .. } => CALL + id.len() + name.len(),
            Self::Meta { .. } | Self::ThinkingDetails(..) | Self::End(_) | Self::TokenUsage(_) | Self::Finish(_) => 0,
        }
    }
}

/// Returns the size of a JavaScript string: one byte per character if it is ASCII, else two per UTF-16 unit.
fn javascript_bytes(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.encode_utf16().count() * 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_size_content_counts_as_javascript_keeps_it() {
        assert_eq!(Delta::Text(0, "abc").memory(), 3);
        assert_eq!(Delta::Text(0, "世界").memory(), 4);
        assert_eq!(Delta::ToolArguments(0, "{}").memory(), 4);
        assert!(Delta::TextStart(0).memory() > 100);
    }

    #[test]
    fn answer_size_events_without_content_count_with_their_own_size() {
        let mut size = AnswerSize::new(2 << 20);
        let failed = (0..2048).find_map(|_| size.add(2 << 10, 0).err());
        let error = failed.unwrap();
        assert_eq!(error.kind, ErrorKind::AnswerTooLarge);
        assert!(error.message.contains("2 MiB") && error.message.contains("limits.answerBytes"), "{error}");
    }
}
