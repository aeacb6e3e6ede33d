//! Writes down what argument text changed in the value, as text for JavaScript.
//!
//! The text stays open at its end until JavaScript takes it: a string that goes on growing extends the change that began it, so a
//! thousand deltas between two frames cost JavaScript one change.

use super::Container;

/// JSON values separated by commas.
///
/// `[0,key]` opens an object, `[1,key]` an array, `[2]` closes the innermost one, `[3,key,value]` sets a number, boolean or
/// null, `[4,key,text]` begins a string, `[5,text]` appends to the string begun last. `key` is null in arrays,
/// which means "push".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    text: Vec<u8>,
    /// The last change is a string that still accepts text: its closing `"]` is not written yet.
    open_string: bool,
}

impl Changes {
    /// Returns the changes as text, empty if there are none.
    pub fn into_text(mut self) -> String {
        self.seal();
        // What is appended are whole characters.
        String::from_utf8(self.text).unwrap_or_default()
    }

    /// Returns the size in bytes, without the end of an open string.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    fn seal(&mut self) {
        if std::mem::take(&mut self.open_string) {
            self.text.extend_from_slice(b"\"]");
        }
    }

    fn begin(&mut self, code: u8) {
        self.seal();
        if !self.text.is_empty() {
            self.text.push(b',');
        }
        self.text.push(b'[');
        self.text.push(code);
    }

    fn key(&mut self, key: Option<&str>) {
        self.text.push(b',');
        self.write(key);
    }

    fn write(&mut self, text: Option<&str>) {
        // Writing to memory cannot fail.
        let _ = serde_json::to_writer(&mut self.text, &text);
    }

    pub(super) fn open(&mut self, container: Container, key: Option<&str>) {
        self.begin(if container == Container::Array { b'1' } else { b'0' });
        self.key(key);
        self.text.push(b']');
    }

    pub(super) fn close(&mut self) {
        self.begin(b'2');
        self.text.push(b']');
    }

    pub(super) fn scalar(&mut self, key: Option<&str>, literal: &str) {
        self.begin(b'3');
        self.key(key);
        self.text.push(b',');
        self.text.extend_from_slice(literal.as_bytes());
        self.text.push(b']');
    }

    pub(super) fn begin_string(&mut self, key: Option<&str>) {
        self.begin(b'4');
        self.key(key);
        self.text.extend_from_slice(b",\"");
        self.open_string = true;
    }

    /// Appends text that may need escapes.
    pub(super) fn append(&mut self, text: &str) {
        self.reopen_string();
        let quote = self.text.len();
        self.write(Some(text));
        self.text.remove(quote);
        self.text.pop();
    }

    /// Appends a two-byte escape, of which this is the second byte.
    pub(super) fn append_escape(&mut self, byte: u8) {
        self.reopen_string();
        self.text.extend_from_slice(&[b'\\', byte]);
    }

    /// Appends the plain characters and two-byte escapes that `json`, the inside of a string, starts with; returns their length.
    #[inline]
    pub(super) fn append_as_is(&mut self, json: &[u8]) -> usize {
        self.reopen_string();
        let mut rest = json;
        loop {
            let (word, plain) = plain_word(rest);
            // Copying eight bytes and dropping some is cheaper than copying a number of bytes that varies.
            self.text.extend_from_slice(&word);
            self.text.truncate(self.text.len() - word.len() + plain);
            rest = &rest[plain..];
            if plain == word.len() {
                continue;
            }
            match rest.split_first_chunk() {
                Some((escape @ [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't'], more)) => {
                    self.text.extend_from_slice(escape);
                    rest = more;
                }
                _ => return json.len() - rest.len(),
            }
        }
    }

    #[inline]
    fn reopen_string(&mut self) {
        if !self.open_string {
            self.begin(b'5');
            self.text.extend_from_slice(b",\"");
            self.open_string = true;
        }
    }
}

/// Returns the first eight bytes, and how many of them need no escape before the first that does or is missing.
#[inline]
fn plain_word(bytes: &[u8]) -> ([u8; 8], usize) {
    const ONES: u64 = u64::MAX / 255;
    let half = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
    let word = match (bytes.first_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
        (Some(word), ..) => u64::from_le_bytes(*word),
        // The halves overlap where they are the same.
        (None, Some(first), Some(last)) => half(first) | (half(last) << (8 * (bytes.len() - 4))),
        _ => bytes.iter().rev().fold(0, |word, byte| (word << 8) | u64::from(*byte)),
    };
    // Sets the highest bit of each byte below `limit`, and maybe of others above the first such byte.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & (ONES << 7);
    // Quotes become 0x20, so they are found with the control characters; missing bytes are among these.
    let special = below(word ^ (ONES * 2), 0x21) | below(word ^ (ONES * u64::from(b'\\')), 1);
    (word.to_le_bytes(), special.trailing_zeros() as usize / 8)
}
