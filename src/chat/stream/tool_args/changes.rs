//! Writes down what argument text changed in the value, as text for JavaScript.
//!
//! The text stays open at its end until JavaScript takes it: a string that goes on growing extends the change that began it, so a
//! thousand deltas between two frames cost JavaScript one change.

use std::fmt::Write as _;

use super::Container;

/// JSON values separated by commas.
///
/// `[0,key]` opens an object, `[1,key]` an array, `[2]` closes the innermost one, `[3,key,value]` sets a number, boolean or
/// null, `[4,key,text]` begins a string, `[5,text]` appends to the string begun last. `key` is null in arrays,
/// which means "push".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    text: String,
    /// The last change is a string that still accepts text: its closing `"]` is not written yet.
    open_string: bool,
}

impl Changes {
    /// Returns the changes as text, empty if there are none.
    pub fn into_text(mut self) -> String {
        self.seal();
        self.text
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
            self.text.push_str("\"]");
        }
    }

    fn begin(&mut self, code: u8) {
        self.seal();
        if !self.text.is_empty() {
            self.text.push(',');
        }
        // Writing to a String cannot fail.
        let _ = write!(self.text, "[{code}");
    }

    fn key(&mut self, key: Option<&str>) {
        self.text.push(',');
        match key {
            Some(key) => {
                self.text.push('"');
                escape_into(&mut self.text, key);
                self.text.push('"');
            }
            None => self.text.push_str("null"),
        }
    }

    pub(super) fn open(&mut self, container: Container, key: Option<&str>) {
        self.begin(u8::from(container == Container::Array));
        self.key(key);
        self.text.push(']');
    }

    pub(super) fn close(&mut self) {
        self.begin(2);
        self.text.push(']');
    }

    pub(super) fn scalar(&mut self, key: Option<&str>, literal: &str) {
        self.begin(3);
        self.key(key);
        self.text.push(',');
        self.text.push_str(literal);
        self.text.push(']');
    }

    pub(super) fn begin_string(&mut self, key: Option<&str>) {
        self.begin(4);
        self.key(key);
        self.text.push_str(",\"");
        self.open_string = true;
    }

    pub(super) fn append(&mut self, text: &str) {
        self.reopen_string();
        escape_into(&mut self.text, text);
    }

    /// Appends text that needs no escape; false, and nothing is appended, if it does or no string is open.
    #[inline]
    pub(super) fn append_plain(&mut self, text: &str) -> bool {
        let plain = self.open_string && !text.bytes().any(needs_escape);
        if plain {
            self.text.push_str(text);
        }
        plain
    }

    /// Appends a character that arrived as the escape that is written for it.
    pub(super) fn append_escape(&mut self, escape: &str) {
        self.reopen_string();
        self.text.push_str(escape);
    }

    fn reopen_string(&mut self) {
        if !self.open_string {
            self.begin(5);
            self.text.push_str(",\"");
            self.open_string = true;
        }
    }
}

fn needs_escape(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

/// Writes `text` as the inside of a JSON string.
fn escape_into(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\t' => out.push_str("\\t"),
            b'\r' => out.push_str("\\r"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}
