//! Strings on their way to JavaScript.
//!
//! V8 decodes UTF-8 at 11 ns per non-ASCII character on the JavaScript thread; the same text prepared as UTF-16 on a worker costs
//! a fiftieth of that (napi-stack §3.3), and Kimi answers in Chinese a lot.

use napi::bindgen_prelude::{ToNapiValue, TypeName, Utf16String};
use napi::{ValueType, sys};

/// Text in the cheapest form for V8.
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
        let length = encoding_rs::mem::convert_str_to_utf16(&text, &mut units);
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
