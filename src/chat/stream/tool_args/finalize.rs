//! Decides whether the complete arguments of a call are usable.

use std::borrow::Cow;
use std::fmt::Write as _;

use memchr::memchr2;
use serde::de::IgnoredAny;

use super::MAX_DEPTH;

/// How a call's arguments end.
#[derive(Debug, PartialEq, Eq)]
pub enum FinalArguments {
    /// The text is valid JSON as it stands.
    AsIs,
    /// The received text was not valid (raw control characters, lone backslashes); this one is, and means the same.
    Repaired(String),
    /// Not usable; the text gives the reason.
    Unusable(String),
}

/// Checks the whole text of a call's arguments: as received, then after the repairs that Pi makes
/// (docs/pi-contract.md#tool-arguments). Empty text means no arguments.
pub fn finalize(text: &str) -> FinalArguments {
    if text.trim().is_empty() {
        return FinalArguments::Repaired("{}".to_owned());
    }
    let first = match object(text) {
        Ok(()) => return FinalArguments::AsIs,
        Err(reason) => reason,
    };
    let repaired = repair_strings(text);
    if *repaired != *text && object(&repaired).is_ok() {
        return FinalArguments::Repaired(repaired.into_owned());
    }
    FinalArguments::Unusable(format!("the tool call's arguments are not a JSON object: {first}"))
}

fn object(text: &str) -> std::result::Result<(), String> {
    // Skipping a value is not recursive, but Pi clones and prints it recursively, so its depth is bounded here.
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    if !text.trim_start().starts_with('{') {
        return Err("it is another kind of value".to_owned());
    }
    if deeper_than(text.as_bytes(), MAX_DEPTH) {
        return Err(format!("it is nested more than {MAX_DEPTH} levels deep"));
    }
    Ok(())
}

/// Whether valid JSON nests deeper than `limit`.
fn deeper_than(json: &[u8], limit: usize) -> bool {
    let (mut depth, mut at) = (0_usize, 0);
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while let Some(found) = memchr2(b'"', b'\\', &json[at..]) {
                    at += found;
                    if json[at] == b'"' {
                        break;
                    }
                    at += 2; // an escape, whatever it is, hides the next byte
                }
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    false
}

/// Escapes raw control characters inside strings and doubles backslashes that start no valid escape.
fn repair_strings(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut in_string = false;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                let valid = match bytes.get(at + 1) {
                    Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => true,
                    Some(b'u') => bytes.get(at + 2..at + 6).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)),
                    _ => false,
                };
                if valid {
                    at += 1;
                } else {
                    out.push_str(&text[copied..at]);
                    out.push_str("\\\\");
                    copied = at + 1;
                }
            }
            control if in_string && control < b' ' => {
                out.push_str(&text[copied..at]);
                let _ = match control {
                    b'\n' => out.write_str("\\n"),
                    b'\r' => out.write_str("\\r"),
                    b'\t' => out.write_str("\\t"),
                    _ => write!(out, "\\u{control:04x}"),
                };
                copied = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn final_arguments_are_repaired_as_pi_repairs_them() {
        assert_eq!(finalize("{\"a\":1}"), FinalArguments::AsIs);
        assert_eq!(finalize(""), FinalArguments::Repaired("{}".into()));
        assert_eq!(finalize("{\"a\":\"x\ny\"}"), FinalArguments::Repaired("{\"a\":\"x\\ny\"}".into()));
        assert_eq!(finalize("{\"a\":\"C:\\dir\"}"), FinalArguments::Repaired("{\"a\":\"C:\\\\dir\"}".into()));
        assert!(matches!(finalize("{\"a\":"), FinalArguments::Unusable(_)));
        assert!(matches!(finalize("[1]"), FinalArguments::Unusable(_)));
        assert_eq!(finalize("{\"a\":\"\\ud800\"}"), FinalArguments::AsIs);
        assert_eq!(finalize("{\"a\":\"\\u0000\"}"), FinalArguments::AsIs);
    }

    #[test]
    fn final_arguments_nested_too_deeply_are_refused_even_if_valid() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(finalize(&nested(MAX_DEPTH - 1)), FinalArguments::AsIs);
        assert!(matches!(finalize(&nested(MAX_DEPTH)), FinalArguments::Unusable(_)));
        assert!(matches!(finalize(&nested(1_000_000)), FinalArguments::Unusable(_)));
        assert_eq!(finalize(&format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(500))), FinalArguments::AsIs);
    }
}
