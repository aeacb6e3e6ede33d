//! Argument text in chunks → changes → value.

use kimi_code::chat::stream::tool_args::{Changes, FinalArguments, ToolArgs, finalize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::mirror::Mirror;
use super::pieces::text_pieces;

/// Chunks of any size give the same result, valid JSON gives what a strict parser reads, and the verdict is correct.
pub fn tool_args(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let shown = preview(&[text]);
    for pieces in text_pieces(text) {
        assert_eq!(preview(&pieces), shown, "{} pieces", pieces.len());
    }
    match finalize(text) {
        FinalArguments::AsIs => {
            assert!(serde_json::from_str::<&RawValue>(text).is_ok_and(|json| json.get().starts_with('{')));
            // serde_json is stricter than JavaScript about lone surrogates and huge numbers.
            if let Ok(value) = serde_json::from_str::<Value>(text) {
                assert_eq!(shown, value);
            }
        }
        FinalArguments::Repaired(repaired) => {
            assert_ne!(repaired, text);
            assert_eq!(finalize(&repaired), FinalArguments::AsIs);
        }
        FinalArguments::Unusable(why) => {
            assert!(!why.is_empty());
            assert!(!serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()), "{why}");
        }
    }
}

fn preview(pieces: &[&str]) -> Value {
    let mut reader = ToolArgs::default();
    let mut mirror = Mirror::default();
    for piece in pieces {
        let mut changes = Changes::default();
        reader.append(piece, &mut changes);
        mirror.apply(&changes.into_text());
    }
    mirror.value()
}
