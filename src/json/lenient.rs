//! Serde types that accept what gateways send instead of what the protocol says.
//!
//! Numbers arrive as strings, null where an object belongs, a single object where a list belongs. A member of the wrong type reads
//! as absent instead of ending the turn. Strings without escapes are borrowed, so the frequent case does not allocate.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Visitor methods for kinds of values that read as `$absent`.
macro_rules! absent {
    ($absent:expr; $($kind:ident)+) => { $(absent!(@$kind $absent);)+ };
    (@string $absent:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($absent)
        }
    };
    (@number $absent:expr) => {
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($absent)
        }
    };
    (@bool_or_null $absent:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($absent)
        }
    };
    (@list $absent:expr) => {
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok($absent)
        }
    };
    (@object $absent:expr) => {
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            Ok($absent)
        }
    };
}

fn expecting(f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("any JSON value")
}

/// A string. Numbers are read as their digits; everything else is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text<'a>(pub Option<Cow<'a, str>>);

impl Text<'_> {
    /// Returns the string, or an empty one.
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
                expecting(f)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(number.to_string()))))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(number.to_string()))))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
                Ok(Text(Some(Cow::Owned(number.to_string()))))
            }
            absent!(Text(None); bool_or_null list object);
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

/// Text that may come as a list of parts: a string, or the `text` of all text parts together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartsText<'a>(pub Option<Cow<'a, str>>);

impl PartsText<'_> {
    /// Returns the text, or an empty one.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// One part of a text: `{"type": "text", "text": …}`, where the type may be left out.
#[derive(serde::Deserialize)]
struct TextPart<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Text<'a>,
    #[serde(default, borrow)]
    text: Text<'a>,
}

impl<'a> TextPart<'a> {
    fn into_text(self) -> Option<Cow<'a, str>> {
        self.text.0.filter(|_| matches!(self.kind.as_str(), "" | "text" | "output_text"))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for PartsText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PartsVisitor;
        impl<'de> Visitor<'de> for PartsVisitor {
            type Value = PartsText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(PartsText(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(PartsText(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                TextPart::deserialize(MapAccessDeserializer::new(map)).map(|part| PartsText(part.into_text()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut whole: Option<Cow<'de, str>> = None;
                while let Some(PartsText(part)) = seq.next_element()? {
                    whole = match (whole, part) {
                        (Some(whole), Some(part)) => Some(Cow::Owned(whole.into_owned() + &part)),
                        (whole, part) => whole.or(part),
                    };
                }
                Ok(PartsText(whole))
            }
            absent!(PartsText(None); number bool_or_null);
        }
        deserializer.deserialize_any(PartsVisitor)
    }
}

/// A count. Numeric strings are read; everything else is absent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count(pub Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;
        impl<'de> Visitor<'de> for CountVisitor {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
                Ok(Count(Some(number)))
            }
            fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
                Ok(Count(u64::try_from(number).ok()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
                Ok(Count((number >= 0.0).then_some(number as u64))) // the cast saturates
            }
            fn visit_str<E>(self, text: &str) -> Result<Count, E> {
                Ok(Count(text.trim().parse().ok()))
            }
            absent!(Count(None); bool_or_null list object);
        }
        deserializer.deserialize_any(CountVisitor)
    }
}

/// An object; everything else is absent.
#[derive(Debug, Clone)]
pub struct Object<T>(pub Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(object)))
            }
            absent!(Object(None); string number bool_or_null list);
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

/// The objects of a list; a single object is a list of one.
#[derive(Debug, Clone)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|single| List(vec![single]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Object(item)) = seq.next_element()? {
                    list.extend(item);
                }
                Ok(List(list))
            }
            absent!(List(Vec::new()); string number bool_or_null);
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

/// JSON text: the content of a string, or the text of an object or list. `{}` reads as empty, because it only announces fragments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonText<'a>(pub Option<Cow<'a, str>>);

impl JsonText<'_> {
    /// Returns the text, or an empty one.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct JsonTextVisitor;
        impl<'de> Visitor<'de> for JsonTextVisitor {
            type Value = JsonText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                expecting(f)
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(JsonText(Some(Cow::Borrowed(text))))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(JsonText(Some(Cow::Owned(text.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let text = Value::deserialize(MapAccessDeserializer::new(map))?.to_string();
                Ok(JsonText(Some(Cow::Owned(if text == "{}" { String::new() } else { text }))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let list = Value::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(JsonText(Some(Cow::Owned(list.to_string()))))
            }
            absent!(JsonText(None); number bool_or_null);
        }
        deserializer.deserialize_any(JsonTextVisitor)
    }
}

/// Reads a whole number in any form the service writes it: a JSON number of any size, or text.
pub fn integer(value: Option<&Value>) -> Option<i128> {
    let truncated = |number: f64| (number.is_finite() && number.abs() < 1e30).then_some(number.trunc() as i128);
    match value? {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from))
            .or_else(|| number.as_f64().and_then(truncated)),
        Value::String(text) => {
            let text = text.trim();
            text.parse().ok().or_else(|| text.parse().ok().and_then(truncated))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        n: Count,
    }

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
    fn parts_text_joins_the_text_of_parts() {
        let read = |json: &'static str| serde_json::from_str::<PartsText<'_>>(json).unwrap();
        assert!(matches!(read(r#""plain""#).0, Some(Cow::Borrowed("plain"))));
        assert_eq!(
            read(r#"[{"type":"text","text":"a"},"b",{"text":"c"},{"type":"image","text":"no"}]"#).as_str(),
            "abc"
        );
        assert_eq!(read(r#"{"type":"text","text":"a"}"#).as_str(), "a");
        for odd in ["null", "[]", "[null,{}]", "{}", "1"] {
            assert_eq!(serde_json::from_str::<PartsText<'_>>(odd).unwrap().0, None, "{odd}");
        }
    }

    #[test]
    fn count_reads_numbers_and_numeric_strings() {
        let read = |json: &str| serde_json::from_str::<Count>(json).unwrap().0;
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("\"7\""), Some(7));
        assert_eq!(read("7.0"), Some(7));
        for odd in ["null", "-1", "\"x\"", "{}", "[]"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn object_other_types_are_absent() {
        let read = |json: &str| serde_json::from_str::<Object<Item>>(json).unwrap().0.map(|item| item.n.0);
        assert_eq!(read(r#"{"n":3}"#), Some(Some(3)));
        for odd in ["null", "\"x\"", "[{\"n\":1},[]]", "1", "-1", "1.5", "true"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn list_keeps_objects_only() {
        let read =
            |json: &str| serde_json::from_str::<List<Item>>(json).unwrap().0.iter().map(|i| i.n.0).collect::<Vec<_>>();
        assert_eq!(read(r#"[null,{"n":1},"x",{"n":2}]"#), [Some(1), Some(2)]);
        assert_eq!(read(r#"{"n":1}"#), [Some(1)]);
        for odd in ["null", "\"x\"", "7", "false"] {
            assert_eq!(read(odd), [], "{odd}");
        }
    }

    #[test]
    fn json_text_reads_strings_and_values_alike() {
        let read = |json: &'static str| serde_json::from_str::<JsonText<'_>>(json).unwrap();
        assert!(matches!(read(r#""plain""#).0, Some(Cow::Borrowed("plain"))));
        assert_eq!(read(r#""{\"b\":1}""#).as_str(), r#"{"b":1}"#);
        assert_eq!(read(r#"{"b":1,"a":[null]}"#).as_str(), r#"{"b":1,"a":[null]}"#);
        assert_eq!(read("[1]").as_str(), "[1]");
        assert_eq!(read("{}").as_str(), "");
        assert_eq!(read("null").0, None);
        assert_eq!(read("5").0, None);
    }
}
