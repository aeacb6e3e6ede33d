//! Converts strings for JavaScript and back, off the JavaScript thread.
//!
//! V8 reads and writes UTF-8 at 11 ns per non-ASCII character. The same text as UTF-16, converted on a worker, costs the JavaScript
//! thread a fiftieth of that (docs/architecture.md#text-as-utf-16).

use encoding_rs::mem::{
    convert_latin1_to_str_partial, convert_str_to_utf16, convert_utf16_to_str_partial, utf16_valid_up_to,
};
use napi::bindgen_prelude::{ToNapiValue, TypeName, Utf16String};
use napi::{JsString, JsValue, ValueType, check_status, sys};

use crate::blocking::in_background;
use crate::error::Result;

/// Length in UTF-16 units or bytes below which converting costs less than a change of threads.
pub(super) const SHORT: usize = 16 << 10;

/// Bytes that are converted at a time, because memory for the worst case of a long text, three bytes per unit, would cost more than
/// converting it.
const STEP: usize = 64 << 10;

/// Converts text to UTF-8, in the background if it is long.
pub async fn utf8(text: Utf16String) -> Result<String> {
    if text.len() < SHORT { Ok(converted(&text)) } else { in_background(move || Ok(converted(&text))).await }
}

fn converted(units: &[u16]) -> String {
    let mut out = String::with_capacity(units.len() + units.len() / 8);
    Utf8Converter::default().append(units, &mut out);
    out
}

/// Converts texts in steps of bounded size.
#[derive(Default)]
pub(super) struct Utf8Converter {
    step: String,
}

impl Utf8Converter {
    /// Appends a text. Lone surrogates become replacement characters.
    pub fn append(&mut self, rest: &[u16], out: &mut String) {
        self.convert(rest, rest.len() * 3 + 4, convert_utf16_to_str_partial, out);
    }

    /// Appends a text without its lone surrogates.
    pub fn append_valid(&mut self, mut units: &[u16], out: &mut String) {
        loop {
            let valid = utf16_valid_up_to(units);
            self.append(&units[..valid], out);
            let Some(rest) = units.get(valid + 1..) else { break };
            units = rest;
        }
    }

    /// Appends a text of one byte per character.
    pub fn append_latin1(&mut self, text: &[u8], out: &mut String) {
        self.convert(text, text.len() * 2 + 1, convert_latin1_to_str_partial, out);
    }

    fn convert<T>(
        &mut self,
        mut rest: &[T],
        most: usize,
        step: impl Fn(&[T], &mut str) -> (usize, usize),
        out: &mut String,
    ) {
        let room = STEP.min(most);
        if self.step.len() < room {
            self.step = "\0".repeat(room);
        }
        while !rest.is_empty() {
            let (read, written) = step(rest, &mut self.step);
            out.push_str(&self.step[..written]);
            rest = &rest[read..];
        }
    }
}

/// Reads a text of one byte per character into memory that has room for it and a final zero. Returns its length.
pub fn read_latin1(text: &JsString<'_>, target: &mut [u8]) -> napi::Result<usize> {
    let (value, mut written) = (text.value(), 0);
    #[allow(unsafe_code, reason = "napi-rs reads strings only into memory of its own making")]
    // SAFETY: environment and value are those of this call; the engine writes at most `target.len()` bytes, including a zero.
    check_status!(unsafe {
        sys::napi_get_value_string_latin1(
            value.env,
            value.value,
            target.as_mut_ptr().cast(),
            target.len(),
            &mut written,
        )
    })?;
    Ok(written)
}

/// Reads a text of any characters into memory that has room for it and a final zero. Returns its length in UTF-16 units.
pub fn read_utf16(text: &JsString<'_>, target: &mut [u16]) -> napi::Result<usize> {
    let (value, mut written) = (text.value(), 0);
    #[allow(unsafe_code, reason = "napi-rs reads strings only into memory of its own making")]
    // SAFETY: environment and value are those of this call; the engine writes at most `target.len()` units, including a zero.
    check_status!(unsafe {
        sys::napi_get_value_string_utf16(value.env, value.value, target.as_mut_ptr(), target.len(), &mut written)
    })?;
    Ok(written)
}

/// Text in the form that is cheapest for V8.
pub enum JsText {
    /// One byte per character.
    Ascii(String),
    /// Everything else.
    Wide(Vec<u16>),
}

impl From<String> for JsText {
    fn from(text: String) -> Self {
        if text.is_ascii() {
            return Self::Ascii(text);
        }
        let mut units = vec![0; text.len() + 1];
        let length = convert_str_to_utf16(&text, &mut units);
        units.truncate(length);
        Self::Wide(units)
    }
}

impl TypeName for JsText {
    fn type_name() -> &'static str {
        "string"
    }
    fn value_type() -> ValueType {
        ValueType::String
    }
}

impl ToNapiValue for JsText {
    #[allow(unsafe_code, reason = "the signature of the trait; both arms only pass the call on")]
    unsafe fn to_napi_value(env: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        match value {
            // SAFETY: `env` is the live environment that napi handed to us for this very call.
            Self::Ascii(text) => unsafe { String::to_napi_value(env, text) },
            // SAFETY: as above.
            Self::Wide(units) => unsafe { Utf16String::to_napi_value(env, Utf16String::from(units)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn js_string_every_character_arrives_wherever_a_step_ends() {
        let characters = ["a", "ü", "世", "😀"];
        let text: String = (0..STEP).map(|at| characters[(at * 7 + at / 5) % characters.len()]).collect();
        for shift in 0..4 {
            let text = format!("{}{text}", "x".repeat(shift));
            let units: Vec<u16> = text.encode_utf16().collect();
            assert!(converted(&units) == text, "shifted by {shift}");
        }
        assert_eq!(converted(&[]), "");
        assert_eq!(converted(&[0xD800, 0x61]), "\u{FFFD}a");
    }
}
