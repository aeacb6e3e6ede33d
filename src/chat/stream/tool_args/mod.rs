//! Reads tool arguments while their text arrives, and tells what each fragment changes in the value.
//!
//! Pi (until 1.4) parses the whole text again for every fragment, which freezes the terminal for seconds when a model writes a file
//! (docs/pi-contract.md#tool-arguments). This reader takes time proportional to the fragment and keeps only its position. Its changes
//! are a preview that JavaScript applies to the one live `arguments` object; the final value always comes from a strict parse of the
//! whole text ([`finalize`]).

mod changes;
mod finalize;
#[cfg(test)]
pub(super) mod tests;

use serde::de::IgnoredAny;

pub use changes::Changes;
pub use finalize::{FinalArguments, finalize};

/// Deepest nesting that is followed, in levels: serde_json's own limit, so that the final parse agrees.
const MAX_DEPTH: usize = 127;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Object,
    Array,
}

/// What the next byte may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The opening `{` of the whole text.
    Root,
    /// A key or `}`.
    KeyOrEnd,
    /// A key, after a comma.
    Key,
    Colon,
    Value,
    /// A value or `]`.
    ValueOrEnd,
    CommaOrEnd,
    InKey,
    InString,
    InLiteral,
    /// The root is closed; only white space may follow.
    Finished,
    /// No longer JSON: the preview stays as it is.
    Broken,
}

/// Position inside an escape sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Escape {
    #[default]
    None,
    Backslash,
    Unicode {
        digits: u8,
        value: u16,
    },
}

/// Incremental reader of one call's arguments.
#[derive(Debug)]
pub struct ToolArgs {
    expect: Expect,
    stack: Vec<Container>,
    escape: Escape,
    /// High surrogate whose low half has not arrived yet.
    high_surrogate: Option<u16>,
    /// Key of the next value; unused in arrays.
    key: String,
    /// The literal (number, true, false, null) so far.
    literal: String,
}

impl Default for ToolArgs {
    fn default() -> Self {
        Self {
            expect: Expect::Root,
            stack: Vec::new(),
            escape: Escape::None,
            high_surrogate: None,
            key: String::new(),
            literal: String::new(),
        }
    }
}

impl ToolArgs {
    /// Reads the next fragment of the text and adds what it changes to `changes`.
    pub fn append(&mut self, fragment: &str, changes: &mut Changes) {
        let bytes = fragment.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            // Most fragments are a few characters of a long string, and most of a string reads the same in the changes.
            let in_string =
                self.expect == Expect::InString && self.escape == Escape::None && self.high_surrogate.is_none();
            if in_string && bytes[at] != b'"' {
                at += changes.append_as_is(&bytes[at..]);
                if at == bytes.len() {
                    return;
                }
            }
            at = match self.expect {
                Expect::InString | Expect::InKey => self.string(fragment, at, changes),
                Expect::Broken => return,
                _ => self.structure(bytes[at], at, changes),
            };
        }
    }

    /// Handles one byte outside of strings; returns the next position (the same one if the byte is not consumed yet).
    fn structure(&mut self, byte: u8, at: usize, changes: &mut Changes) -> usize {
        if self.expect == Expect::InLiteral {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') {
                self.literal.push(byte as char);
                return at + 1;
            }
            self.end_literal(changes);
            return at;
        }
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            return at + 1;
        }
        self.expect = match (self.expect, byte) {
            (Expect::Root, b'{') => {
                self.stack.push(Container::Object);
                Expect::KeyOrEnd
            }
            (Expect::KeyOrEnd | Expect::Key, b'"') => {
                self.key.clear();
                Expect::InKey
            }
            (Expect::Colon, b':') => Expect::Value,
            (Expect::Value | Expect::ValueOrEnd, b'"') => {
                changes.begin_string(self.current_key());
                Expect::InString
            }
            (Expect::Value | Expect::ValueOrEnd, b'{') => self.open(Container::Object, changes),
            (Expect::Value | Expect::ValueOrEnd, b'[') => self.open(Container::Array, changes),
            (Expect::Value | Expect::ValueOrEnd, b'-' | b'0'..=b'9' | b't' | b'f' | b'n') => {
                self.literal.clear();
                self.literal.push(byte as char);
                Expect::InLiteral
            }
            (Expect::KeyOrEnd | Expect::CommaOrEnd, b'}') if self.stack.last() == Some(&Container::Object) => {
                self.close(changes)
            }
            (Expect::ValueOrEnd | Expect::CommaOrEnd, b']') if self.stack.last() == Some(&Container::Array) => {
                self.close(changes)
            }
            (Expect::CommaOrEnd, b',') => match self.stack.last() {
                Some(Container::Object) => Expect::Key,
                _ => Expect::Value,
            },
            _ => Expect::Broken,
        };
        at + 1
    }

    fn open(&mut self, container: Container, changes: &mut Changes) -> Expect {
        if self.stack.len() >= MAX_DEPTH {
            return Expect::Broken;
        }
        changes.open(container, self.current_key());
        self.stack.push(container);
        match container {
            Container::Object => Expect::KeyOrEnd,
            Container::Array => Expect::ValueOrEnd,
        }
    }

    fn close(&mut self, changes: &mut Changes) -> Expect {
        self.stack.pop();
        if self.stack.is_empty() {
            return Expect::Finished;
        }
        changes.close();
        Expect::CommaOrEnd
    }

    fn end_literal(&mut self, changes: &mut Changes) {
        // serde_json decides what a literal is, so the preview breaks exactly where the final parse will fail.
        if serde_json::from_str::<IgnoredAny>(&self.literal).is_ok() {
            changes.scalar(self.current_key(), &self.literal);
            self.expect = Expect::CommaOrEnd;
        } else {
            self.expect = Expect::Broken;
        }
    }

    fn current_key(&self) -> Option<&str> {
        match self.stack.last() {
            Some(Container::Object) => Some(&self.key),
            _ => None,
        }
    }

    /// Consumes as much of a string as the fragment holds; returns the position after it.
    fn string(&mut self, fragment: &str, at: usize, changes: &mut Changes) -> usize {
        let rest = &fragment[at..];
        match self.escape {
            Escape::None => {
                let plain = rest.find(['"', '\\']).unwrap_or(rest.len());
                if plain > 0 {
                    self.flush_surrogate(changes);
                    self.emit(&rest[..plain], changes);
                }
                match rest.as_bytes().get(plain) {
                    Some(b'"') => {
                        self.flush_surrogate(changes);
                        self.expect = if self.expect == Expect::InKey { Expect::Colon } else { Expect::CommaOrEnd };
                    }
                    Some(_) => self.escape = Escape::Backslash,
                    None => return fragment.len(),
                }
                at + plain + 1
            }
            Escape::Backslash => {
                let byte = rest.as_bytes()[0];
                self.escape = Escape::None;
                let text = match byte {
                    b'"' => "\"",
                    b'\\' => "\\",
                    b'/' => "/",
                    b'b' => "\u{8}",
                    b'f' => "\u{c}",
                    b'n' => "\n",
                    b'r' => "\r",
                    b't' => "\t",
                    b'u' => {
                        self.escape = Escape::Unicode { digits: 0, value: 0 };
                        return at + 1;
                    }
                    _ => {
                        self.expect = Expect::Broken;
                        return fragment.len();
                    }
                };
                self.flush_surrogate(changes);
                if self.expect == Expect::InKey {
                    self.key.push_str(text);
                } else {
                    changes.append_escape(byte);
                }
                at + 1
            }
            Escape::Unicode { digits, value } => {
                let Some(digit) = (rest.as_bytes()[0] as char).to_digit(16) else {
                    self.expect = Expect::Broken;
                    return fragment.len();
                };
                let value = value << 4 | digit as u16;
                if digits == 3 {
                    self.escape = Escape::None;
                    self.unit(value, changes);
                } else {
                    self.escape = Escape::Unicode { digits: digits + 1, value };
                }
                at + 1
            }
        }
    }

    /// Handles a UTF-16 unit from a `\u` escape.
    fn unit(&mut self, unit: u16, changes: &mut Changes) {
        if let Some(high) = self.high_surrogate.take() {
            if let Some(Ok(joined)) = char::decode_utf16([high, unit]).next() {
                self.emit(joined.encode_utf8(&mut [0; 4]), changes);
                return;
            }
            self.emit("\u{fffd}", changes);
        }
        match unit {
            0xD800..=0xDBFF => self.high_surrogate = Some(unit),
            _ => {
                let text = char::from_u32(u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER);
                self.emit(text.encode_utf8(&mut [0; 4]), changes);
            }
        }
    }

    #[inline]
    fn flush_surrogate(&mut self, changes: &mut Changes) {
        if self.high_surrogate.take().is_some() {
            self.emit("\u{fffd}", changes);
        }
    }

    #[inline]
    fn emit(&mut self, text: &str, changes: &mut Changes) {
        if self.expect == Expect::InKey {
            self.key.push_str(text);
        } else {
            changes.append(text);
        }
    }
}
