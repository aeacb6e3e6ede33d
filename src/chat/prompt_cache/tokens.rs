//! Estimates tokens of JSON text. What a whole prompt really had is known after its answer, so only proportions matter.

/// Tokens of an image as long as nothing is known about it.
pub const MEDIA_TOKENS: u64 = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Lower,
    Upper,
    Digit,
    Space,
    Mark,
    Wide,
}

/// Estimates the tokens of text inside a JSON string: words in pieces of six letters, numbers in pieces of three digits, marks in
/// pairs, and one for each character of other scripts.
pub fn estimate(text: &[u8]) -> u32 {
    let mut tokens = 0;
    let mut class = Class::Space;
    let mut run = 0_u32;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let (next, length) = match byte {
            b'\\' => match text.get(at + 1) {
                Some(b'n' | b't' | b'r' | b'b' | b'f') => (Class::Space, 2),
                Some(b'u') => (Class::Wide, 6),
                _ => (Class::Mark, 2),
            },
            b'a'..=b'z' => (Class::Lower, 1),
            b'A'..=b'Z' => (Class::Upper, 1),
            b'0'..=b'9' => (Class::Digit, 1),
            b' ' => (Class::Space, 1),
            0x80..=0xbf => {
                at += 1;
                continue;
            }
            0xc0.. => (Class::Wide, 1),
            _ => (Class::Mark, 1),
        };
        at += length;
        let continues = match (class, next) {
            (Class::Upper, Class::Lower) => run < 6,
            (Class::Lower, Class::Lower) => run < 6,
            (Class::Digit, Class::Digit) => run < 3,
            (Class::Mark, Class::Mark) => run < 2,
            (Class::Space, Class::Space) => true,
            // A word takes one space with it.
            (Class::Space, Class::Lower | Class::Upper) => run == 1,
            _ => false,
        };
        if continues && class == Class::Space && next != Class::Space {
            run = 1;
        } else if continues {
            run += 1;
        } else {
            tokens += 1;
            run = 1;
        }
        class = next;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimate_counts_words_numbers_marks_and_characters() {
        for (text, tokens) in [
            ("", 0),
            ("word", 1),
            ("two words", 2),
            ("internationalization", 4),
            ("camelCase", 2),
            ("12345", 2),
            ("你好", 2),
            (r"a\nb", 2),
            (r"a\n\nb", 3),
            ("();", 2),
        ] {
            assert_eq!(estimate(text.as_bytes()), tokens, "{text}");
        }
    }
}
