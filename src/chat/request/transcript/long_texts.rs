//! Long texts of a conversation, which lie beside its JSON (docs/architecture.md#long-texts-beside-the-json).

use std::borrow::Cow;

use memchr::memmem;

use super::raw::{RawContent, RawMessage};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{may_hold_markers, may_hold_references};

/// A conversation: JSON text, and the long texts beside it.
#[derive(Debug, Default)]
pub struct ContextText {
    /// JSON text, in which a string `<mark><number>` stands for a long text.
    pub json: String,
    /// The long texts.
    pub texts: LongTexts,
}

impl ContextText {
    /// Whether the conversation may refer to uploaded media.
    pub fn may_refer_to_media(&self) -> bool {
        may_hold_references(&self.json) || may_hold_markers(&self.texts.all)
    }
}

/// Texts by number.
#[derive(Debug, Default)]
pub struct LongTexts {
    /// Begins the strings that stand for a text. No text of the conversation contains it.
    mark: String,
    /// All texts, one after the other.
    all: String,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// The texts of a conversation that has none beside its JSON.
pub static NO_TEXTS: LongTexts = LongTexts { mark: String::new(), all: String::new(), ends: Vec::new() };

impl LongTexts {
    /// Makes texts of `all` of them, one after the other, and where each one ends.
    pub fn new(mark: String, all: String, ends: Vec<usize>) -> Self {
        Self { mark, all, ends }
    }

    /// Returns all texts as one.
    pub fn all(&self) -> &str {
        &self.all
    }

    /// Puts the texts of a message into their places, but for those within arguments.
    pub fn restore<'a>(&'a self, message: &mut RawMessage<'a>) -> Result<()> {
        match &mut message.content {
            RawContent::Nothing => {}
            RawContent::Text(text) => self.restore_text(text)?,
            RawContent::Parts(parts) => {
                for text in parts.iter_mut().flat_map(|part| [&mut part.text.0, &mut part.thinking.0]).flatten() {
                    self.restore_text(text)?;
                }
            }
        }
        Ok(())
    }

    /// Replaces a string by the text that it stands for, if it does.
    pub fn restore_text<'a>(&'a self, text: &mut Cow<'a, str>) -> Result<()> {
        if !self.ends.is_empty()
            && let Some(number) = text.strip_prefix(self.mark.as_str())
        {
            *text = Cow::Borrowed(self.get(number)?);
        }
        Ok(())
    }

    /// Puts texts into their places in JSON text.
    pub fn restore_json<'a>(&self, json: &'a str) -> Result<Cow<'a, str>> {
        let mut out = Vec::new();
        let mut rest = json;
        while let Some(at) = self.find(rest) {
            let (before, found) = rest.split_at(at);
            // The mark stands between quotation marks, which belong to what replaces it.
            let (number, after) = found[self.mark.len()..].split_once('"').ok_or_else(lost)?;
            let text = self.get(number)?;
            out.reserve(before.len() + text.len() + text.len() / 8);
            out.extend_from_slice(before.strip_suffix('"').ok_or_else(lost)?.as_bytes());
            serde_json::to_writer(&mut out, text).map_err(|_| lost())?;
            rest = after;
        }
        if out.is_empty() {
            return Ok(Cow::Borrowed(json));
        }
        out.extend_from_slice(rest.as_bytes());
        String::from_utf8(out).map(Cow::Owned).map_err(|_| lost())
    }

    fn find(&self, json: &str) -> Option<usize> {
        if self.ends.is_empty() { None } else { memmem::find(json.as_bytes(), self.mark.as_bytes()) }
    }

    fn get(&self, number: &str) -> Result<&str> {
        let number: usize = number.parse().map_err(|_| lost())?;
        let start = if number == 0 { 0 } else { *self.ends.get(number - 1).ok_or_else(lost)? };
        self.ends.get(number).and_then(|end| self.all.get(start..*end)).ok_or_else(lost)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "a text of the conversation is missing")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> LongTexts {
        let ends = list.iter().scan(0, |end, text| {
            *end += text.len();
            Some(*end)
        });
        LongTexts::new("m-1:".to_owned(), list.concat(), ends.collect())
    }

    #[test]
    fn long_texts_take_their_places_in_arguments_as_json_would_write_them() {
        let texts = texts(&["q\"\\\n\u{1}\u{7f}世😀", ""]);
        let first = "\"q\\\"\\\\\\n\\u0001\u{7f}世😀\"";
        let json = r#"{"a":"m-1:0","b":["m-1:1","m-1:0"],"c":"m-1 :2"}"#;
        assert_eq!(texts.restore_json(json).unwrap(), format!(r#"{{"a":{first},"b":["",{first}],"c":"m-1 :2"}}"#));
        let untouched = texts.restore_json(r#"{"a":1}"#).unwrap();
        assert!(matches!(untouched, Cow::Borrowed(r#"{"a":1}"#)));
    }

    #[test]
    fn long_texts_a_missing_one_is_an_error() {
        let texts = texts(&["x"]);
        for json in [r#""m-1:1""#, r#""m-1:""#, r#""m-1:0"#, "m-1:0\"", r#""m-1:-1""#] {
            assert!(texts.restore_json(json).is_err(), "{json}");
        }
        assert!(texts.restore_text(&mut "m-1:1".into()).is_err());
    }
}
