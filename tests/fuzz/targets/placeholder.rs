//! The filter of "(Empty response: …".

use kimi_code::chat::stream::empty_response::EmptyResponseFilter;

use super::pieces::text_pieces;

/// A text that starts with the marker is removed and every other one passes unchanged, however it is split.
pub fn placeholder(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let expected = if text.starts_with("(Empty response:") { "" } else { text };
    let mut cuttings = text_pieces(text);
    cuttings.push(vec![text]);
    // The marker has 16 characters, so later splits add nothing.
    cuttings.extend((0..text.len().min(20)).filter_map(|at| text.split_at_checked(at)).map(|(a, b)| vec![a, b]));
    for pieces in cuttings {
        let mut filter = EmptyResponseFilter::default();
        let mut seen = String::new();
        for piece in &pieces {
            seen.extend(filter.push(piece));
        }
        seen.push_str(filter.finish());
        assert_eq!(seen, expected, "{pieces:?}");
    }
}
