//! Removes the service's "(Empty response: …)" text.
//!
//! When a turn produced thinking only, some paths of the service wrap it into a text block that begins with exactly this marker
//! (docs/protocol.md#empty-response-text). The block must not reach the user, the marker may be split over pieces, and ordinary
//! text that merely starts alike must keep streaming.

const MARKER: &str = "(Empty response:";

/// Filter of one text block.
#[derive(Debug, Default)]
pub struct Placeholder {
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// So many bytes of the marker have matched.
    Undecided(usize),
    Passing,
    Dropping,
}

impl Default for State {
    fn default() -> Self {
        Self::Undecided(0)
    }
}

impl Placeholder {
    /// Takes the next piece and returns what may be shown now: text held back earlier, then text of this piece.
    pub fn push<'p>(&mut self, piece: &'p str) -> [&'p str; 2] {
        match self.state {
            State::Passing => ["", piece],
            State::Dropping => ["", ""],
            State::Undecided(held) => {
                let rest = &MARKER[held..];
                if piece.starts_with(rest) {
                    self.state = State::Dropping;
                    ["", ""]
                } else if rest.starts_with(piece) {
                    self.state = State::Undecided(held + piece.len());
                    ["", ""]
                } else {
                    self.state = State::Passing;
                    [&MARKER[..held], piece]
                }
            }
        }
    }

    /// The block is over: returns text that is still held back, which was ordinary after all.
    pub fn finish(&mut self) -> &'static str {
        match std::mem::replace(&mut self.state, State::Passing) {
            State::Undecided(held) => &MARKER[..held],
            State::Passing | State::Dropping => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pieces: &[&str]) -> String {
        let mut placeholder = Placeholder::default();
        let mut seen = String::new();
        for piece in pieces {
            seen.extend(placeholder.push(piece));
        }
        seen.push_str(placeholder.finish());
        seen
    }

    #[test]
    fn the_placeholder_vanishes_however_it_is_split() {
        let whole = "(Empty response: {'content': [{'type': 'thinking', 'thinking': 'Hmm.'}]})";
        for cut in 0..=whole.len() {
            assert_eq!(filter(&[&whole[..cut], &whole[cut..]]), "", "cut at {cut}");
        }
        let single: Vec<String> = whole.chars().map(String::from).collect();
        assert_eq!(filter(&single.iter().map(String::as_str).collect::<Vec<_>>()), "");
    }

    #[test]
    fn text_that_merely_starts_alike_is_untouched() {
        assert_eq!(filter(&["(Empty ", "list)"]), "(Empty list)");
        assert_eq!(filter(&["(Empty response"]), "(Empty response");
        assert_eq!(filter(&["", "(", "E"]), "(E");
        assert_eq!(filter(&["x (Empty response: y"]), "x (Empty response: y");
        assert_eq!(filter(&["(Empty ré", "ponse:"]), "(Empty réponse:");
    }
}
