//! Finds values in JSON text without reading them: where each one begins and ends.
//!
//! The text is a request that we wrote or that `JSON.stringify` made. Anything else ends the scan early and is never an error.

use std::ops::Range;

use memchr::memchr2;

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 512;

/// Returns the end of the value that begins at `at`.
pub fn value_end(text: &[u8], at: usize) -> Option<usize> {
    match text.get(at)? {
        b'"' => string_end(text, at),
        b'{' | b'[' => {
            let (mut depth, mut at) = (0_usize, at);
            loop {
                match text.get(at)? {
                    b'"' => at = string_end(text, at)?,
                    b'{' | b'[' => {
                        depth += 1;
                        at += 1;
                        if depth > MAX_DEPTH {
                            return None;
                        }
                    }
                    b'}' | b']' => {
                        depth -= 1;
                        at += 1;
                        if depth == 0 {
                            return Some(at);
                        }
                    }
                    _ => at += 1,
                }
            }
        }
        _ => {
            let rest = &text[at..];
            let length = rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace());
            Some(at + length.unwrap_or(rest.len())).filter(|end| *end > at)
        }
    }
}

fn string_end(text: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        match text[at] {
            b'"' => return Some(at + 1),
            _ => at += 2,
        }
    }
}

fn skip_space(text: &[u8], at: usize) -> usize {
    at + text.get(at..).unwrap_or_default().iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

/// Goes over the values of an array or object, which begins at `at`.
#[derive(Debug, Clone)]
pub struct Values<'t> {
    text: &'t [u8],
    /// Where the next value or key begins; after the last one, where the array or object ends.
    at: usize,
    over: bool,
}

impl<'t> Values<'t> {
    /// Begins at an array or object; any other value has none.
    pub fn new(text: &'t [u8], at: usize) -> Self {
        let inside = matches!(text.get(at), Some(b'[' | b'{'));
        let at = skip_space(text, at + 1);
        Self { text, at, over: !inside || matches!(text.get(at), None | Some(b']' | b'}')) }
    }

    /// Where the next element begins.
    pub fn at(&self) -> Option<usize> {
        (!self.over).then_some(self.at)
    }

    /// Goes on behind an element that ends at `end`. False where no element can end there.
    pub fn advance(&mut self, end: usize) -> bool {
        let end = skip_space(self.text, end);
        match self.text.get(end) {
            Some(b',') => self.at = skip_space(self.text, end + 1),
            Some(b']' | b'}') => (self.at, self.over) = (end, true),
            _ => return false,
        }
        true
    }

    /// Returns the next element of an array.
    pub fn element(&mut self) -> Option<Range<usize>> {
        let at = self.at()?;
        let found = value_end(self.text, at).filter(|end| self.advance(*end));
        self.over |= found.is_none();
        Some(at..found?)
    }

    /// Returns the next member of an object: key without quotes, and value.
    pub fn member(&mut self) -> Option<(&'t [u8], Range<usize>)> {
        let at = self.at()?;
        let read = || {
            let key_end = string_end(self.text, at).filter(|_| self.text[at] == b'"')?;
            let colon = skip_space(self.text, key_end);
            let start = (self.text.get(colon) == Some(&b':')).then(|| skip_space(self.text, colon + 1))?;
            Some((&self.text[at + 1..key_end - 1], start..value_end(self.text, start)?))
        };
        let found = read();
        match found {
            Some((_, ref value)) if self.advance(value.end) => found,
            _ => {
                self.over = true;
                None
            }
        }
    }

    /// Iterates over the members of an object.
    pub fn members(mut self) -> impl Iterator<Item = (&'t [u8], Range<usize>)> {
        std::iter::from_fn(move || self.member())
    }

    /// Iterates over the elements of an array.
    pub fn elements(mut self) -> impl Iterator<Item = Range<usize>> {
        std::iter::from_fn(move || self.element())
    }
}

/// Returns a member of the object that begins at `at`.
pub fn member(text: &[u8], at: usize, key: &str) -> Option<Range<usize>> {
    Values::new(text, at).members().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
}

/// Returns the inside of a string, its escapes as they are.
pub fn string(text: &[u8], value: Range<usize>) -> Option<&[u8]> {
    (text.get(value.start) == Some(&b'"')).then(|| &text[value.start + 1..value.end - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scan_members_and_elements_are_found_with_any_spacing() {
        let text = br#" { "a" : [1, "x\"]", {"b":[]} , null ] ,"c":"\\" } "#;
        let found: Vec<(&[u8], &[u8])> =
            Values::new(text, 1).members().map(|(key, value)| (key, &text[value])).collect();
        assert_eq!(found, [(&b"a"[..], &br#"[1, "x\"]", {"b":[]} , null ]"#[..]), (&b"c"[..], &br#""\\""#[..])]);
        let list = member(text, 1, "a").unwrap();
        let elements: Vec<&[u8]> = Values::new(text, list.start).elements().map(|range| &text[range]).collect();
        assert_eq!(elements, [&b"1"[..], br#""x\"]""#, br#"{"b":[]}"#, b"null"]);
    }

    #[test]
    fn scan_of_anything_else_ends_early() {
        for text in ["", "{", "[1", "{\"a\"}", "{\"a\":", "{a:1}", "[,]", "\"\\", "{\"a\":[}", "7", "[[[["] {
            let text = text.as_bytes();
            assert!(Values::new(text, 0).members().count() <= 1);
            assert!(Values::new(text, 0).elements().count() <= 2);
        }
        assert_eq!(value_end("[".repeat(100_000).as_bytes(), 0), None);
    }
}
