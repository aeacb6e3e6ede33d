//! Removes or replaces the escapes of lone surrogates, which a strict JSON reader refuses.

/// Removes the escapes of lone surrogates; `None` if there are none.
pub fn without_lone_surrogates(json: &str) -> Option<String> {
    replace_lone_surrogates(json, |_| None)
}

/// Replaces or removes the escapes of lone surrogates; `None` if there are none.
pub fn replace_lone_surrogates(json: &str, replacement: impl Fn(u16) -> Option<char>) -> Option<String> {
    let bytes = json.as_bytes();
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while let Some(found) = bytes.get(at..).and_then(|rest| memchr::memchr(b'\\', rest)) {
        let escape = at + found;
        at = escape + 2; // skips an escaped backslash or quote as a pair, also where the text ends within it
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

/// Returns the UTF-16 unit of the `\uXXXX` escape that starts at `at`.
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
    fn surrogates_only_lone_ones_are_replaced() {
        assert_eq!(without_lone_surrogates(r#""\ud83d\ude00 \\ud800 é""#), None);
        assert_eq!(replace_lone_surrogates(r#""a\ud83db""#, |_| Some('?')).unwrap(), r#""a?b""#);
        assert_eq!(without_lone_surrogates(r#""\ude00\ud83d\ud83d\ude00""#).unwrap(), r#""\ud83d\ude00""#);
    }

    #[test]
    fn surrogates_a_text_that_ends_within_an_escape_is_left_to_the_parser() {
        assert_eq!(without_lone_surrogates(r#"{"a":"\"#), None);
        assert_eq!(without_lone_surrogates(r#"{"a":"\u"#), None);
        assert_eq!(without_lone_surrogates(r#"{"a":"\ud83d\"#).unwrap(), r#"{"a":"\"#);
    }
}
