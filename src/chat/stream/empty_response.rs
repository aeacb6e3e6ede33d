//! Removes the service's "(Empty response: …)" text.
//!
//! When an answer held thinking only, some paths of the service wrap it into a text block that begins with this marker
//! (docs/protocol.md#empty-response-text). The block must not reach the user. The marker may be split over deltas, and ordinary
//! text that only starts alike must keep streaming.

const MARKER: &str = "(Empty response:";

/// Filter of one text block.
#[derive(Debug, Default)]
pub struct EmptyResponseFilter {
    state: FilterState,
}

#[derive(Debug, PartialEq, Eq)]
enum FilterState {
    /// So many bytes of the marker have matched.
    Undecided(usize),
    Passing,
    Dropping,
}

impl Default for FilterState {
    fn default() -> Self {
        Self::Undecided(0)
    }
}

impl EmptyResponseFilter {
    /// Takes the next text and returns what may be shown now: text held back earlier, then this text.
    pub fn push<'t>(&mut self, text: &'t str) -> [&'t str; 2] {
        match self.state {
            FilterState::Passing => ["", text],
            FilterState::Dropping => ["", ""],
            FilterState::Undecided(held) => {
                let rest = &MARKER[held..];
                if text.starts_with(rest) {
                    self.state = FilterState::Dropping;
                    ["", ""]
                } else if rest.starts_with(text) {
                    self.state = FilterState::Undecided(held + text.len());
                    ["", ""]
                } else {
                    self.state = FilterState::Passing;
                    [&MARKER[..held], text]
                }
            }
        }
    }

    /// Ends the block and returns text that is still held back: it was ordinary after all.
    pub fn finish(&mut self) -> &'static str {
        match std::mem::replace(&mut self.state, FilterState::Passing) {
            FilterState::Undecided(held) => &MARKER[..held],
            FilterState::Passing | FilterState::Dropping => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(texts: &[&str]) -> String {
        let mut filter = EmptyResponseFilter::default();
        let mut shown = String::new();
        for text in texts {
            shown.extend(filter.push(text));
        }
        shown.push_str(filter.finish());
        shown
    }

    #[test]
    fn empty_response_the_marker_vanishes_however_it_is_split() {
        let whole = "(Empty response: {'content': [{'type': 'thinking', 'thinking': 'Hmm.'}]})";
        for cut in 0..=whole.len() {
            assert_eq!(filtered(&[&whole[..cut], &whole[cut..]]), "", "cut at {cut}");
        }
        let single: Vec<String> = whole.chars().map(String::from).collect();
        assert_eq!(filtered(&single.iter().map(String::as_str).collect::<Vec<_>>()), "");
    }

    #[test]
    fn empty_response_text_that_only_starts_alike_is_unchanged() {
        assert_eq!(filtered(&["(Empty ", "list)"]), "(Empty list)");
        assert_eq!(filtered(&["(Empty response"]), "(Empty response");
        assert_eq!(filtered(&["", "(", "E"]), "(E");
        assert_eq!(filtered(&["x (Empty response: y"]), "x (Empty response: y");
        assert_eq!(filtered(&["(Empty ré", "ponse:"]), "(Empty réponse:");
    }
}
