//! Characters that were cut in two.
//!
//! Programs that count in UTF-16 units cut an emoji between two deltas, and write each half as an escape that no strict reader
//! takes. The halves are marked, so that the event can be read, and joined where a block goes on with the other half; what stays
//! alone becomes U+FFFD.

use super::decoder::Emit;
use super::event::{BlockId, Delta};
use crate::json::lenient::replace_lone_surrogates;

/// Marks are code points for private use: nobody else's text is looked at for them.
const HIGH_MARKS: u32 = 0x10_F400;
const LOW_MARKS: u32 = 0x10_F800;

/// The same JSON with its lone halves marked; `None` if it has none.
pub fn marked(json: &str) -> Option<String> {
    replace_lone_surrogates(json, |unit| match unit {
        0xD800..=0xDBFF => char::from_u32(HIGH_MARKS + u32::from(unit - 0xD800)),
        _ => char::from_u32(LOW_MARKS + u32::from(unit - 0xDC00)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Text,
    Thinking,
    Arguments,
}

/// The halves that wait for their other one, at most one per block.
#[derive(Debug, Default)]
pub struct SurrogateJoiner {
    waiting: Vec<(BlockId, TextKind, u32)>,
}

impl SurrogateJoiner {
    /// Passes a delta on with its halves joined. `marked`: it comes from an event with marks.
    pub fn pass(&mut self, delta: Delta<'_>, marked: bool, emit: &mut Emit<'_>) {
        if !marked && self.waiting.is_empty() {
            return emit(delta);
        }
        match delta {
            Delta::Text(slot, text) => self.join(slot, TextKind::Text, text, marked, emit),
            Delta::Thinking(slot, text) => self.join(slot, TextKind::Thinking, text, marked, emit),
            Delta::ToolArguments(slot, text) => self.join(slot, TextKind::Arguments, text, marked, emit),
            Delta::End(slot) => {
                while let Some(at) = self.waiting.iter().position(|(known, ..)| *known == slot) {
                    let (_, kind, _) = self.waiting.swap_remove(at);
                    emit(kind.delta(slot, "\u{fffd}"));
                }
                emit(Delta::End(slot));
            }
            // Names, ids and signatures are never cut.
            delta => emit(delta),
        }
    }

    fn join(&mut self, slot: BlockId, kind: TextKind, text: &str, marked: bool, emit: &mut Emit<'_>) {
        if text.is_empty() {
            return emit(kind.delta(slot, text));
        }
        let at = self.waiting.iter().position(|(known, of, _)| *known == slot && *of == kind);
        let mut high = at.map(|at| self.waiting.swap_remove(at).2);
        let mut whole = String::with_capacity(text.len());
        for c in text.chars() {
            let (first, second) = match u32::from(c) {
                mark @ HIGH_MARKS..0x10_F800 if marked => (Some(mark - HIGH_MARKS), None),
                mark @ LOW_MARKS..0x10_FC00 if marked => (None, Some(mark - LOW_MARKS)),
                _ => (None, None),
            };
            match (high.take(), second) {
                (Some(high), Some(low)) => whole.extend(char::from_u32(0x1_0000 + (high << 10) + low)),
                (Some(_), None) | (None, Some(_)) => whole.push('\u{fffd}'),
                (None, None) => {}
            }
            match (first, second) {
                (None, None) => whole.push(c),
                _ => high = first,
            }
        }
        if let Some(high) = high {
            self.waiting.push((slot, kind, high));
        }
        if !whole.is_empty() {
            emit(kind.delta(slot, &whole));
        }
    }
}

impl TextKind {
    fn delta(self, slot: BlockId, text: &str) -> Delta<'_> {
        match self {
            Self::Text => Delta::Text(slot, text),
            Self::Thinking => Delta::Thinking(slot, text),
            Self::Arguments => Delta::ToolArguments(slot, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of block 0 after these pieces, each a JSON string.
    fn joined(pieces: &[&str]) -> String {
        let mut surrogate_joiner = SurrogateJoiner::default();
        let mut out = String::new();
        let mut collect = |delta: Delta<'_>| {
            if let Delta::Text(0, text) = delta {
                out.push_str(text);
            }
        };
        for piece in pieces {
            let repaired = marked(piece);
            let text: String = serde_json::from_str(repaired.as_deref().unwrap_or(piece)).unwrap();
            surrogate_joiner.pass(Delta::Text(0, &text), repaired.is_some(), &mut collect);
        }
        surrogate_joiner.pass(Delta::End(0), false, &mut collect);
        out
    }

    #[test]
    fn halves_find_each_other_across_pieces() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""\udc4bb""#]), "a👋b");
        assert_eq!(joined(&[r#""\ud83d""#, r#""""#, r#""\udc4b\ud83d""#, r#""\udc4b""#]), "👋👋");
    }

    #[test]
    fn a_half_that_stays_alone_is_replaced_where_it_stood() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""b""#]), "a\u{fffd}b");
        assert_eq!(joined(&[r#""a\ud83d""#]), "a\u{fffd}");
        assert_eq!(joined(&[r#""\udc4b\ud83d\ud83d\udc4b\ude00""#]), "\u{fffd}\u{fffd}👋\u{fffd}");
    }

    #[test]
    fn text_that_looks_like_a_mark_is_text() {
        assert_eq!(joined(&["\"a\u{10f43d}\"", "\"\u{10f84b}b\""]), "a\u{10f43d}\u{10f84b}b");
    }
}
