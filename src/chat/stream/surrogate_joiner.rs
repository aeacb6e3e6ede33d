//! Joins surrogate pairs that were split across deltas.
//!
//! Programs that count in UTF-16 units cut an emoji in two and write each half as an escape, which a strict JSON reader refuses. Each
//! half is replaced by a marker, so that the event can be read, and joined with the other half where its block goes on with it; a
//! half that stays alone becomes U+FFFD.

use super::event::{BlockId, Delta, Emit};
use crate::json::surrogates::replace_lone_surrogates;

/// First marker of a high half. Markers are private-use characters, looked for only in events that held a lone surrogate.
const HIGH_MARKERS: u32 = 0x10_F400;
/// First marker of a low half.
const LOW_MARKERS: u32 = 0x10_F800;

/// Replaces the lone surrogates of `json` by markers; `None` if it has none.
pub fn marked(json: &str) -> Option<String> {
    replace_lone_surrogates(json, |unit| match unit {
        0xD800..=0xDBFF => char::from_u32(HIGH_MARKERS + u32::from(unit - 0xD800)),
        _ => char::from_u32(LOW_MARKERS + u32::from(unit - 0xDC00)),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TextKind {
    Text,
    Thinking,
    Arguments,
}

/// High halves that wait for their low half, at most one per block and kind of text.
#[derive(Debug, Default)]
pub struct SurrogateJoiner {
    waiting: Vec<(BlockId, TextKind, u32)>,
}

impl SurrogateJoiner {
    /// Passes a delta on with its halves joined. `marked`: its event holds markers.
    pub fn pass(&mut self, delta: Delta<'_>, marked: bool, emit: &mut Emit<'_>) {
        if !marked && self.waiting.is_empty() {
            return emit(delta);
        }
        match delta {
            Delta::Text(block, text) => self.join(block, TextKind::Text, text, marked, emit),
            Delta::Thinking(block, text) => self.join(block, TextKind::Thinking, text, marked, emit),
            Delta::ToolArguments(block, text) => self.join(block, TextKind::Arguments, text, marked, emit),
            Delta::End(block) => {
                while let Some(at) = self.waiting.iter().position(|(known, ..)| *known == block) {
                    let (_, kind, _) = self.waiting.swap_remove(at);
                    emit(kind.delta(block, "\u{fffd}"));
                }
                emit(Delta::End(block));
            }
            // Names, ids and signatures are never cut.
            delta => emit(delta),
        }
    }

    fn join(&mut self, block: BlockId, kind: TextKind, text: &str, marked: bool, emit: &mut Emit<'_>) {
        if text.is_empty() {
            return emit(kind.delta(block, text));
        }
        let at = self.waiting.iter().position(|(known, of, _)| *known == block && *of == kind);
        let mut high = at.map(|at| self.waiting.swap_remove(at).2);
        let mut whole = String::with_capacity(text.len());
        for c in text.chars() {
            let (first, second) = match u32::from(c) {
                marker @ HIGH_MARKERS..0x10_F800 if marked => (Some(marker - HIGH_MARKERS), None),
                marker @ LOW_MARKERS..0x10_FC00 if marked => (None, Some(marker - LOW_MARKERS)),
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
            self.waiting.push((block, kind, high));
        }
        if !whole.is_empty() {
            emit(kind.delta(block, &whole));
        }
    }
}

impl TextKind {
    fn delta(self, block: BlockId, text: &str) -> Delta<'_> {
        match self {
            Self::Text => Delta::Text(block, text),
            Self::Thinking => Delta::Thinking(block, text),
            Self::Arguments => Delta::ToolArguments(block, text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the text of block 0 after these deltas, each a JSON string.
    fn joined(deltas: &[&str]) -> String {
        let mut joiner = SurrogateJoiner::default();
        let mut out = String::new();
        let mut collect = |delta: Delta<'_>| {
            if let Delta::Text(0, text) = delta {
                out.push_str(text);
            }
        };
        for json in deltas {
            let repaired = marked(json);
            let text: String = serde_json::from_str(repaired.as_deref().unwrap_or(json)).unwrap();
            joiner.pass(Delta::Text(0, &text), repaired.is_some(), &mut collect);
        }
        joiner.pass(Delta::End(0), false, &mut collect);
        out
    }

    #[test]
    fn surrogate_pair_split_across_deltas_is_joined() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""\udc4bb""#]), "a👋b");
        assert_eq!(joined(&[r#""\ud83d""#, r#""""#, r#""\udc4b\ud83d""#, r#""\udc4b""#]), "👋👋");
    }

    #[test]
    fn surrogate_that_stays_alone_is_replaced_where_it_stood() {
        assert_eq!(joined(&[r#""a\ud83d""#, r#""b""#]), "a\u{fffd}b");
        assert_eq!(joined(&[r#""a\ud83d""#]), "a\u{fffd}");
        assert_eq!(joined(&[r#""\udc4b\ud83d\ud83d\udc4b\ude00""#]), "\u{fffd}\u{fffd}👋\u{fffd}");
    }

    #[test]
    fn surrogate_markers_in_ordinary_text_are_text() {
        assert_eq!(joined(&["\"a\u{10f43d}\"", "\"\u{10f84b}b\""]), "a\u{10f43d}\u{10f84b}b");
    }
}
