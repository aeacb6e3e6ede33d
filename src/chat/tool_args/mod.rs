//! Tool arguments that arrive in pieces: text appended → what changed in the value.
//!
//! Pi (until 1.4) parses the whole text again for every piece, which freezes the terminal for seconds when a model writes a file
//! (pi-extension §3.7). This reader costs time proportional to the piece and remembers only where it stands. Its changes are
//! a preview that JavaScript applies to the one live `arguments` object; the final value always comes from a strict parse
//! of the whole text ([`settle`]).

mod changes;
mod settle;

use memchr::memchr2;
use serde::de::IgnoredAny;

pub use changes::Changes;
pub use settle::{Settled, settle};

/// Deepest nesting that is followed, the same bound that serde_json keeps for the final parse.
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
    /// Not JSON any more: the preview stays as it is.
    Broken,
}

/// An escape sequence under way inside a string.
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
    /// First half of a surrogate pair whose second half has not come yet.
    high_surrogate: Option<u16>,
    /// The key of the value that comes next; unused in arrays.
    key: String,
    /// Literal (number, true, false, null) collected so far.
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
    /// Reads the next piece of the text and adds what it changes to `changes`.
    pub fn append(&mut self, piece: &str, changes: &mut Changes) {
        let bytes = piece.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            at = match self.expect {
                Expect::InString | Expect::InKey => self.string(piece, at, changes),
                Expect::Broken => return,
                _ => self.structure(bytes[at], at, changes),
            };
        }
    }

    /// Handles one byte outside of strings; returns the next position (the same one if the byte is still to be judged).
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
        // serde_json decides what a literal is; a wrong one breaks the preview exactly where the final parse will fail.
        if serde_json::from_str::<IgnoredAny>(&self.literal).is_ok() {
            let literal = std::mem::take(&mut self.literal);
            changes.scalar(self.current_key(), &literal);
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

    /// Consumes as much of a string as the piece holds; returns the position after it.
    fn string(&mut self, piece: &str, at: usize, changes: &mut Changes) -> usize {
        let rest = &piece[at..];
        match self.escape {
            Escape::None => {
                let plain = memchr2(b'"', b'\\', rest.as_bytes()).unwrap_or(rest.len());
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
                    None => return piece.len(),
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
                        return piece.len();
                    }
                };
                self.flush_surrogate(changes);
                self.emit(text, changes);
                at + 1
            }
            Escape::Unicode { digits, value } => {
                let Some(digit) = (rest.as_bytes()[0] as char).to_digit(16) else {
                    self.expect = Expect::Broken;
                    return piece.len();
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

    /// A UTF-16 unit from a `\u` escape.
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

    fn flush_surrogate(&mut self, changes: &mut Changes) {
        if self.high_surrogate.take().is_some() {
            self.emit("\u{fffd}", changes);
        }
    }

    fn emit(&mut self, text: &str, changes: &mut Changes) {
        if self.expect == Expect::InKey {
            self.key.push_str(text);
        } else {
            changes.append(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;

    /// What JavaScript does with the changes (extension/arguments.ts), on a serde_json value.
    #[derive(Default)]
    struct Mirror {
        root: Map<String, Value>,
        path: Vec<String>,
        last: String,
    }

    impl Mirror {
        fn container(&mut self) -> &mut Value {
            // The root is wrapped so that every step is the same.
            let mut value = self.root.entry("root").or_insert_with(|| json!({}));
            for key in &self.path {
                value = match value {
                    Value::Array(items) => items.last_mut().unwrap(),
                    Value::Object(map) => map.get_mut(key).unwrap(),
                    _ => unreachable!(),
                };
            }
            value
        }

        fn set(&mut self, key: &Value, value: Value) {
            self.last = key.as_str().unwrap_or_default().to_owned();
            match self.container() {
                Value::Array(items) => items.push(value),
                Value::Object(map) => {
                    map.insert(key.as_str().unwrap().to_owned(), value);
                }
                _ => unreachable!(),
            }
        }

        fn apply(&mut self, changes: &str) {
            let list: Vec<Value> = serde_json::from_str(&format!("[{changes}]")).unwrap();
            for change in list {
                match change[0].as_u64().unwrap() {
                    code @ (0 | 1) => {
                        self.set(&change[1], if code == 0 { json!({}) } else { json!([]) });
                        self.path.push(self.last.clone());
                    }
                    2 => {
                        self.path.pop();
                    }
                    3 | 4 => self.set(&change[1], change[2].clone()),
                    _ => {
                        let last = self.last.clone();
                        let value = match self.container() {
                            Value::Array(items) => items.last_mut().unwrap(),
                            Value::Object(map) => map.get_mut(&last).unwrap(),
                            _ => unreachable!(),
                        };
                        *value = json!(format!("{}{}", value.as_str().unwrap(), change[1].as_str().unwrap()));
                    }
                }
            }
        }

        fn value(&self) -> Value {
            self.root.get("root").cloned().unwrap_or_else(|| json!({}))
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

    /// The value that a prefix of valid JSON stands for, found the slow way: cut back until closing everything parses.
    fn closed(prefix: &str) -> Value {
        for cut in (0..=prefix.len()).rev().filter(|cut| prefix.is_char_boundary(*cut)) {
            let head = &prefix[..cut];
            let (mut stack, mut in_string, mut escaped) = (Vec::new(), false, false);
            for byte in head.bytes() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' if !in_string => stack.push('}'),
                    b'[' if !in_string => stack.push(']'),
                    b'}' | b']' if !in_string => {
                        stack.pop();
                    }
                    _ => {}
                }
            }
            // A number, true, false or null counts only once something follows it.
            let literal = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            let next = prefix[cut..].chars().next();
            let unfinished = !in_string && head.ends_with(literal) && next.is_none_or(literal);
            let mut text = head.to_owned();
            if in_string {
                text.push('"');
            }
            text.extend(stack.iter().rev());
            if let (false, Ok(value)) = (unfinished, serde_json::from_str::<Value>(&text)) {
                return value;
            }
        }
        json!({})
    }

    fn arguments() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-zé\"\\\\\n\u{1F600}]{0,6}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c\"\\\\]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        prop::collection::btree_map("[a-z]{1,3}", value, 0..4).prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn every_prefix_shows_what_it_says(value in arguments(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let mut reader = ToolArgs::default();
            let mut mirror = Mirror::default();
            for (at, c) in text.char_indices() {
                let mut changes = Changes::default();
                reader.append(c.encode_utf8(&mut [0; 4]), &mut changes);
                mirror.apply(&changes.into_text());
                let prefix = &text[..at + c.len_utf8()];
                // The naive closer cannot see through half an escape; the reader must still agree afterwards.
                if !prefix.ends_with('\\') {
                    prop_assert_eq!(mirror.value(), closed(prefix), "after {}", prefix);
                }
            }
            prop_assert_eq!(mirror.value(), value);
        }

        #[test]
        fn pieces_of_any_size_give_the_same_value(value in arguments(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6)) {
            let text = value.to_string();
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| places[cut.index(places.len())]).collect();
            ends.extend([0, text.len()]);
            ends.sort_unstable();
            let pieces: Vec<&str> = ends.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            prop_assert_eq!(preview(&pieces), value);
        }

        #[test]
        fn garbage_never_panics(pieces in prop::collection::vec("[\\[\\]{}\",:\\\\u0-9a-f \n-]{0,8}", 0..12)) {
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let _ = preview(&pieces);
            let _ = settle(&pieces.concat());
        }
    }

    #[test]
    fn escapes_may_be_split_anywhere() {
        let pieces = ["{\"a", "\":\"\\", "u00e", "9\\ud83d", "\\ude", "00\\n\"}"];
        assert_eq!(preview(&pieces), json!({"a": "é😀\n"}));
    }

    #[test]
    fn a_million_brackets_are_refused_without_a_panic() {
        let text = format!("{{\"a\":{}", "[".repeat(1_000_000));
        let mut reader = ToolArgs::default();
        let mut changes = Changes::default();
        reader.append(&text, &mut changes);
        assert!(changes.len() < 4096);
        assert!(matches!(settle(&text), Settled::Unusable(_)));
    }

    /// Pieces that meet in one frame cost JavaScript one change.
    #[test]
    fn a_growing_string_extends_the_change_that_began_it() {
        let mut reader = ToolArgs::default();
        let mut changes = Changes::default();
        for piece in ["{\"a\":\"x", "y", "z\n", "w"] {
            reader.append(piece, &mut changes);
        }
        assert_eq!(changes.into_text(), r#"[4,"a","xyz\nw"]"#);
        let mut next = Changes::default();
        reader.append("v\"", &mut next);
        assert_eq!(next.into_text(), r#"[5,"v"]"#);
    }
}
