//! Takes a conversation from JavaScript, whose long texts cross beside its JSON.
//!
//! JavaScript only copies their characters. Converting and escaping them costs several times as much and is done off its thread
//! (docs/architecture.md#long-texts-beside-the-json).

use napi::JsString;
use napi::bindgen_prelude::{Array, Int32ArraySlice};
use napi_derive::napi;

use super::js_string::{SHORT, Utf8Converter, read_latin1, read_utf16};
use crate::blocking::in_background;
use crate::chat::request::transcript::{ContextText, LongTexts};
use crate::error::{Error, ErrorKind, Result};
use crate::json::surrogates::without_lone_surrogates;

/// A conversation in JavaScript.
#[napi(object, object_to_js = false)]
pub struct EncodedContext<'a> {
    pub mark: String,
    pub lengths: Int32ArraySlice<'a>,
    pub texts: Array<'a>,
}

impl EncodedContext<'_> {
    /// Copies the texts as V8 has them.
    pub fn copy(self) -> napi::Result<CopiedContext> {
        let Self { mark, lengths, texts } = self;
        let lengths = lengths.to_vec();
        // The engine writes a zero behind each text. Cleared at once, because `resize` for each text takes longer than the copy.
        let mut narrow = vec![0; units(&lengths, false) + 1];
        let mut wide = vec![0; units(&lengths, true) + 1];
        let (mut narrow_at, mut wide_at) = (0, 0);
        for (position, length) in (0..).zip(&lengths) {
            let text: JsString<'_> =
                texts.get(position)?.ok_or_else(|| napi::Error::from_reason("a text is missing"))?;
            if is_wide(*length) {
                wide_at += read_utf16(&text, &mut wide[wide_at..])?;
            } else {
                narrow_at += read_latin1(&text, &mut narrow[narrow_at..])?;
            }
        }
        narrow.truncate(narrow_at);
        wide.truncate(wide_at);
        Ok(CopiedContext { mark, lengths, narrow, wide })
    }
}

/// A conversation as V8 stores its texts.
pub struct CopiedContext {
    /// Stands in the JSON before the number of a text.
    mark: String,
    /// Length of each text in UTF-16 units; negative where it is among the wide ones. The last text is the JSON.
    lengths: Vec<i32>,
    /// Texts of one byte per unit, one after the other.
    narrow: Vec<u8>,
    /// Texts of two bytes per unit, one after the other.
    wide: Vec<u16>,
}

impl CopiedContext {
    /// Converts the texts to UTF-8 without lone surrogates, in the background if they are long.
    pub async fn convert(self) -> Result<ContextText> {
        let short = self.narrow.len() + self.wide.len() < SHORT;
        if short { self.converted() } else { in_background(move || self.converted()).await }
    }

    fn converted(self) -> Result<ContextText> {
        let Self { mark, lengths, narrow, wide } = self;
        if (units(&lengths, false), units(&lengths, true)) != (narrow.len(), wide.len()) {
            return Err(Error::new(ErrorKind::Internal, "the conversation is incomplete"));
        }
        let (mut all, mut ends) = one_text(narrow, &wide, &lengths);
        ends.pop();
        let json = all.split_off(ends.last().copied().unwrap_or(0));
        // JSON may also contain them as escapes.
        let json = without_lone_surrogates(&json).unwrap_or(json);
        Ok(ContextText { json, texts: LongTexts::new(mark, all, ends) })
    }
}

fn is_wide(length: i32) -> bool {
    length < 0
}

/// Returns how long all wide texts, or all others, are together.
fn units(lengths: &[i32], wide: bool) -> usize {
    lengths.iter().filter(|length| is_wide(**length) == wide).map(|length| length.unsigned_abs() as usize).sum()
}

/// Returns all texts as one, and where each of them ends.
fn one_text(narrow: Vec<u8>, mut wide: &[u16], lengths: &[i32]) -> (String, Vec<usize>) {
    let mut ends = Vec::with_capacity(lengths.len());
    let narrow = match String::from_utf8(narrow) {
        // ASCII is UTF-8, so the memory is kept.
        Ok(text) if text.is_ascii() && wide.is_empty() => {
            ends.extend(lengths.iter().scan(0, |end, length| {
                *end += length.unsigned_abs() as usize;
                Some(*end)
            }));
            return (text, ends);
        }
        other => other.map_or_else(|error| error.into_bytes(), String::into_bytes),
    };
    let mut narrow = narrow.as_slice();
    let bytes = narrow.len() + wide.len();
    let mut all = String::with_capacity(bytes + bytes / 8);
    let mut converter = Utf8Converter::default();
    for length in lengths {
        let units = length.unsigned_abs() as usize;
        if is_wide(*length) {
            let (text, rest) = wide.split_at(units);
            converter.append_valid(text, &mut all);
            wide = rest;
        } else {
            let (text, rest) = narrow.split_at(units);
            converter.append_latin1(text, &mut all);
            narrow = rest;
        }
        ends.push(all.len());
    }
    (all, ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns texts as they are copied; those that must be wide are.
    fn copied(texts: &[&[u16]]) -> CopiedContext {
        let mark = "m:".to_owned();
        let mut copied = CopiedContext { mark, lengths: Vec::new(), narrow: Vec::new(), wide: Vec::new() };
        for text in texts {
            let length = i32::try_from(text.len()).unwrap();
            if text.iter().all(|unit| *unit < 256) {
                copied.lengths.push(length);
                copied.narrow.extend(text.iter().map(|unit| *unit as u8));
            } else {
                copied.lengths.push(-length);
                copied.wide.extend_from_slice(text);
            }
        }
        copied
    }

    fn utf16(text: &str) -> Vec<u16> {
        text.encode_utf16().collect()
    }

    #[test]
    fn context_texts_of_every_width_arrive_as_they_are() {
        for texts in [
            &["plain", "also"][..],
            &["plain", "grüße", "Ã©", ""],
            &["世界", "plain", "😀 grüße", "ÿ"],
            &["", "", ""],
            &[],
        ] {
            for json in [r#"["m:0"]"#, r#"["é"]"#, r#"["世"]"#] {
                let units: Vec<Vec<u16>> = texts.iter().chain([&json]).map(|text| utf16(text)).collect();
                let units: Vec<&[u16]> = units.iter().map(Vec::as_slice).collect();
                let ContextText { json: read, texts: long } = copied(&units).converted().unwrap();
                assert_eq!(read, json);
                assert_eq!(long.all(), texts.concat());
                for (number, text) in texts.iter().enumerate() {
                    let mut string = format!("m:{number}").into();
                    long.restore_text(&mut string).unwrap();
                    assert_eq!(string, *text, "{texts:?} {number}");
                }
            }
        }
    }

    #[test]
    fn context_lone_surrogates_are_left_out() {
        for (units, expected) in
            [(&[0x61, 0xD800, 0x62][..], "ab"), (&[0xDE00, 0xD83D, 0xD83D, 0xDE00], "😀"), (&[0xD83D], "")]
        {
            // The second text begins with the half that the first one may lack.
            let escaped = utf16(r#"["\ud83d","\ud83d\ude00"]"#);
            let ContextText { json, texts } = copied(&[units, &[0xDE00, 0x63], &escaped]).converted().unwrap();
            assert_eq!(texts.all(), format!("{expected}c"));
            assert_eq!(json, r#"["","\ud83d\ude00"]"#);
        }
    }

    #[test]
    fn context_missing_characters_are_an_error() {
        let whole = || copied(&[&utf16("text"), &utf16("世界"), &utf16("{}")]);
        assert!(whole().converted().is_ok());
        assert!(CopiedContext { narrow: whole().narrow[1..].to_vec(), ..whole() }.converted().is_err());
        assert!(CopiedContext { wide: whole().wide[1..].to_vec(), ..whole() }.converted().is_err());
    }
}
