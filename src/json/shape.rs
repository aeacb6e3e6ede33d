//! Objects and lists that may be anything.
//!
//! What [`wire`](super::lenient) does for strings and counts: a gateway's null or text where an object or a list belongs reads as
//! absent and ends no turn, and a single object where a list belongs is a list of one.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// An object, or nothing.
#[derive(Debug, Clone)]
pub struct Object<T>(pub Option<T>);

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self(None)
    }
}

/// The objects of a list.
#[derive(Debug, Clone)]
pub struct List<T>(pub Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

/// JSON text: of a string what it says, of an object or a list its own text. `{}` says nothing, because it merely announces
/// pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JsonText<'a>(pub Option<Cow<'a, str>>);

impl JsonText<'_> {
    /// The text, or empty.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or_default()
    }
}

/// Scalars that stand where something else belongs.
macro_rules! scalars_are {
    ($absent:expr) => {
        fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
            Ok($absent)
        }
        scalars_but_strings_are!($absent);
    };
}

macro_rules! scalars_but_strings_are {
    ($absent:expr) => {
        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($absent)
        }
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($absent)
        }
    };
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|object| Object(Some(object)))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Object(None))
            }
            scalars_are!(Object(None));
        }
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ListVisitor<T> {
            type Value = List<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
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
            scalars_are!(List(Vec::new()));
        }
        deserializer.deserialize_any(ListVisitor(PhantomData))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for JsonText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = JsonText<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON text")
            }
            fn visit_borrowed_str<E>(self, v: &'de str) -> Result<Self::Value, E> {
                Ok(JsonText(Some(Cow::Borrowed(v))))
            }
            fn visit_str<E>(self, v: &str) -> Result<Self::Value, E> {
                Ok(JsonText(Some(Cow::Owned(v.to_owned()))))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let text = Value::deserialize(MapAccessDeserializer::new(map))?.to_string();
                Ok(JsonText(Some(Cow::Owned(if text == "{}" { String::new() } else { text }))))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let list = Value::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(JsonText(Some(Cow::Owned(list.to_string()))))
            }
            scalars_but_strings_are!(JsonText(None));
        }
        deserializer.deserialize_any(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::lenient::Count;

    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        n: Count,
    }

    #[test]
    fn only_an_object_is_an_object() {
        let read = |json: &str| serde_json::from_str::<Object<Item>>(json).unwrap().0.map(|item| item.n.0);
        assert_eq!(read(r#"{"n":3}"#), Some(Some(3)));
        for odd in ["null", "\"x\"", "[{\"n\":1},[]]", "1", "-1", "1.5", "true"] {
            assert_eq!(read(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_list_keeps_its_objects_and_nothing_else() {
        let read =
            |json: &str| serde_json::from_str::<List<Item>>(json).unwrap().0.iter().map(|i| i.n.0).collect::<Vec<_>>();
        assert_eq!(read(r#"[null,{"n":1},"x",{"n":2}]"#), [Some(1), Some(2)]);
        assert_eq!(read(r#"{"n":1}"#), [Some(1)]);
        for odd in ["null", "\"x\"", "7", "false"] {
            assert_eq!(read(odd), [], "{odd}");
        }
    }

    #[test]
    fn json_text_comes_as_text_or_as_what_it_says() {
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
