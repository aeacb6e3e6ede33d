//! Lenient serde types for what the service sends.
//!
//! Gateways answer with numbers as strings, null where a string belongs, an index as text. None of that may end a turn, and
//! the frequent case must not allocate: strings borrow from the event wherever they contain no escape.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A string that borrows when it can. Null and numbers are accepted; objects and arrays read as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    /// The string, or empty.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(v))))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(v.to_owned()))))
            }
            fn visit_u64<E>(self, v: u64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(v.to_string()))))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(v.to_string()))))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(v.to_string()))))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Text(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Text(None))
            }
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// A count. Numeric strings are read, everything else is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }
            fn visit_u64<E>(self, v: u64) -> Result<Count, E> {
                Ok(Count(Some(v)))
            }
            fn visit_i64<E>(self, v: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(v).ok()))
            }
            fn visit_f64<E>(self, v: f64) -> Result<Count, E> {
                // A float that is no count (negative, NaN) saturates to 0, which is what "no tokens" means.
                Ok(Count((v >= 0.0).then_some(v as u64)))
            }
            fn visit_str<E>(self, v: &str) -> Result<Count, E> {
                Ok(Count(v.trim().parse().ok()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
                Ok(Count(None))
            }
            fn visit_unit<E>(self) -> Result<Count, E> {
                Ok(Count(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(None))
            }
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

/// The same JSON without escapes of lone surrogates, which a strict reader refuses; `None` if there are none.
pub fn without_lone_surrogates(json: &str) -> Option<String> {
    replace_lone_surrogates(json, |_| None)
}

/// The same JSON with its escapes of lone surrogates replaced, or taken out; `None` if there are none.
pub fn replace_lone_surrogates(json: &str, replacement: impl Fn(u16) -> Option<char>) -> Option<String> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        let escape = at + found;
        at = escape + 2; // an escaped backslash or quote is passed over as a pair, also where the text ends within it
        let Some(unit) = unit_at(bytes, escape) else { continue };
        match unit {
            0xD800..=0xDBFF if matches!(unit_at(bytes, escape + 6), Some(0xDC00..=0xDFFF)) => at = escape + 12,
            0xD800..=0xDFFF => {
                out.push_str(&json[copied..escape]);
                out.extend(replacement(unit));
                copied = escape + 6;
                at = copied;
            }
            _ => at = escape + 6,
        }
    }
    (copied > 0).then(|| {
        out.push_str(&json[copied..]);
        out
    })
}

/// The unit of a `\uXXXX` escape that starts at `at`.
fn unit_at(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    if !escape.starts_with(b"\\u") || !escape[2..].iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u16::from_str_radix(std::str::from_utf8(&escape[2..]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_borrows_and_never_fails_on_a_type() {
        let text: Text<'_> = serde_json::from_str("\"plain\"").unwrap();
        assert!(matches!(text.0, Some(Cow::Borrowed("plain"))));
        for odd in ["null", "{}", "[1,{}]", "true"] {
            assert_eq!(serde_json::from_str::<Text<'_>>(odd).unwrap().as_str(), "");
        }
        assert_eq!(serde_json::from_str::<Text<'_>>("3").unwrap().as_str(), "3");
    }

    #[test]
    fn counts_come_as_numbers_strings_and_nothing() {
        let read = |json: &str| serde_json::from_str::<Count>(json).unwrap().0;
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("\"7\""), Some(7));
        assert_eq!(read("7.0"), Some(7));
        for odd in ["null", "-1", "\"x\"", "{}", "[]"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_lone_surrogates_are_replaced() {
        assert_eq!(without_lone_surrogates(r#""\ud83d\ude00 \\ud800 é""#), None);
        assert_eq!(replace_lone_surrogates(r#""a\ud83db""#, |_| Some('?')).unwrap(), r#""a?b""#);
        assert_eq!(without_lone_surrogates(r#""\ude00\ud83d\ud83d\ude00""#).unwrap(), r#""\ud83d\ude00""#);
    }

    /// A frame that the connection cut in two.
    #[test]
    fn a_text_that_ends_within_an_escape_is_left_to_the_parser() {
        assert_eq!(without_lone_surrogates(r#"{"a":"\"#), None);
        assert_eq!(without_lone_surrogates(r#"{"a":"\u"#), None);
        assert_eq!(without_lone_surrogates(r#"{"a":"\ud83d\"#).unwrap(), r#"{"a":"\"#);
    }
}
