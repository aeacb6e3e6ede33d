//! Puts the text of a conversation together, whose long texts cross beside its JSON.
//!
//! JavaScript only copies them; converting and escaping them costs several times as much and is done here, off its thread
//! (docs/architecture.md#text-as-utf-16).

use encoding_rs::mem::utf16_valid_up_to;
use memchr::memmem::Finder;
use napi::bindgen_prelude::Utf16String;
use napi_derive::napi;

use super::js_string::{Utf8Converter, utf8};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};

/// A conversation as JSON text, in which strings `<mark>:<number>` stand for the pieces.
#[napi(object, object_to_js = false)]
pub struct ContextText {
    pub text: Utf16String,
    pub mark: String,
    pub pieces: Vec<Utf16String>,
}

impl ContextText {
    /// Returns the whole JSON text.
    pub async fn join(self) -> Result<String> {
        let Self { text, mark, pieces } = self;
        if pieces.is_empty() { utf8(text).await } else { in_background(move || joined(&text, &mark, &pieces)).await }
    }
}

fn joined(text: &[u16], mark: &str, pieces: &[Utf16String]) -> Result<String> {
    let lost = || Error::new(ErrorKind::Internal, "a text of the conversation is missing");
    let mut writer = StringWriter::default();
    let mut json = String::with_capacity(text.len());
    writer.converter.append(text, &mut json);
    // A sixteenth for escapes and characters that are not ASCII, so that the text rarely has to be moved.
    let length = json.len() + pieces.iter().map(|piece| piece.len() + piece.len() / 16).sum::<usize>();
    let mut out = Vec::with_capacity(length);
    let start = format!("\"{mark}:");
    let finder = Finder::new(&start);
    let mut rest = json.as_str();
    while let Some(at) = finder.find(rest.as_bytes()) {
        let (before, found) = rest.split_at(at);
        let (number, after) = found[start.len()..].split_once('"').ok_or_else(lost)?;
        let piece = number.parse().ok().and_then(|number: usize| pieces.get(number)).ok_or_else(lost)?;
        out.extend_from_slice(before.as_bytes());
        writer.write(piece, &mut out)?;
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    String::from_utf8(out).map_err(|_| lost())
}

/// Writes JSON strings, in memory that is used again.
#[derive(Default)]
struct StringWriter {
    converter: Utf8Converter,
    text: String,
}

impl StringWriter {
    /// Writes a string. Lone surrogates are left out, as everywhere in a conversation.
    fn write(&mut self, mut units: &[u16], out: &mut Vec<u8>) -> Result<()> {
        self.text.clear();
        loop {
            let valid = utf16_valid_up_to(units);
            self.converter.append(&units[..valid], &mut self.text);
            let Some(rest) = units.get(valid + 1..) else { break };
            units = rest;
        }
        serde_json::to_writer(out, &self.text).map_err(|error| Error::new(ErrorKind::Internal, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str) -> Utf16String {
        Utf16String::from(text.encode_utf16().collect::<Vec<_>>())
    }

    #[test]
    fn context_pieces_take_their_places_as_json_would_write_them() {
        let text: Vec<u16> = r#"{"a":"m-1:0","b":["m-1:1","m-1:0"],"c":"m-1 m-1:2"}"#.encode_utf16().collect();
        let pieces = [utf16("q\"\\\n\u{1}\u{7f}世😀"), utf16("")];
        let first = r#""q\"\\\n\u0001\u{7f}世😀""#.replace("\\u{7f}", "\u{7f}");
        let expected = format!(r#"{{"a":{first},"b":["",{first}],"c":"m-1 m-1:2"}}"#);
        assert_eq!(joined(&text, "m-1", &pieces).unwrap(), expected);
    }

    #[test]
    fn context_lone_surrogates_are_left_out() {
        for (units, expected) in [
            (&[0x61, 0xD800, 0x62][..], "\"ab\""),
            (&[0xDE00, 0xD83D, 0xD83D, 0xDE00], "\"😀\""),
            (&[0xD83D], "\"\""),
            (&[], "\"\""),
        ] {
            let mut out = Vec::new();
            StringWriter::default().write(units, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn context_missing_piece_is_an_error() {
        let text: Vec<u16> = r#""m:1""#.encode_utf16().collect();
        assert!(joined(&text, "m", &[utf16("x")]).is_err());
    }
}
