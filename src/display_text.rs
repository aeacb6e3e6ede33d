//! Text for users: sizes, durations, shortened text, and text that is safe to print on a terminal.
//!
//! What the service, a proxy or a web page writes may hold escape sequences that move the cursor, change colors, write to the
//! clipboard or turn text around. Everything of that kind becomes a visible sign (SECURITY.md, "What reaches your terminal").

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

/// Formats a size in decimal units: `12 bytes`, `300 KB`, `1.5 MB`, `4.0 GB`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..=999 => format!("{bytes} bytes"),
        1_000..=999_999 => format!("{} KB", bytes / 1000),
        1_000_000..=999_999_999 => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// Formats a size and the limit that it exceeds: in bytes where both would look the same.
pub fn size_above(bytes: u64, limit: u64) -> (String, String) {
    let texts = (size(bytes), size(limit));
    if texts.0 == texts.1 { (format!("{bytes} bytes"), format!("{limit} bytes")) } else { texts }
}

/// Formats a size as Pi's own tools do, for texts that stand among theirs: `512B`, `1.2KB`, `5.0MB`.
pub fn tool_size(bytes: usize) -> String {
    match bytes {
        0..1024 => format!("{bytes}B"),
        1024..1_048_576 => format!("{:.1}KB", bytes as f64 / 1024.0),
        _ => format!("{:.1}MB", bytes as f64 / 1_048_576.0),
    }
}

/// Formats a duration with at most two units, rounded up to the smaller one: `90 s`, `12 min`, `1 h 12 min`, `2 d 3 h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs() + u64::from(duration.subsec_nanos() > 0);
    if seconds < 120 {
        return format!("{seconds} s");
    }
    let minutes = seconds.div_ceil(60);
    let hours = minutes / 60 % 24;
    let (first, second) = match minutes / 1440 {
        0 => ((hours, "h"), (minutes % 60, "min")),
        days => ((days, "d"), (hours, "h")),
    };
    match (first, second) {
        ((0, _), (count, unit)) | ((count, unit), (0, _)) => format!("{count} {unit}"),
        ((count, unit), (rest, smaller)) => format!("{count} {unit} {rest} {smaller}"),
    }
}

/// Returns the first `max` characters of `text`, with an ellipsis where something was cut.
pub fn clip(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Replaces what could steer a terminal with visible signs: control characters with their symbols (`␛`), C1 controls and
/// bidirectional controls with their code (`<U+202E>`). Line breaks and tabs stay.
pub fn visible(text: &str) -> Cow<'_, str> {
    let Some(first) = first_hidden(text) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len() + 16);
    out.push_str(&text[..first]);
    for (at, c) in text[first..].char_indices() {
        if hidden_at(text, first + at, c) { push_sign(&mut out, c) } else { out.push(c) }
    }
    Cow::Owned(out)
}

/// Returns `text` as one line of at most `max` characters that is safe to print: for names and other short members of an answer.
/// Invisible characters are dropped, because two names that look alike should be alike.
pub fn one_line(text: &str, max: usize) -> String {
    // A name is short; what follows after many times its length is not looked at.
    let shown: String = text.chars().take(max.saturating_mul(8)).filter(|c| !is_invisible(*c)).collect();
    let words: Vec<Cow<'_, str>> = shown.split_whitespace().map(visible).collect();
    clip(&words.join(" "), max)
}

/// Applies [`visible`] to every text of a JSON value, member names included.
pub fn visible_json(value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::String(text) => {
            if let Cow::Owned(shown) = visible(text) {
                *text = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(visible_json),
        Value::Object(members) => {
            members.values_mut().for_each(visible_json);
            if members.keys().any(|name| matches!(visible(name), Cow::Owned(_))) {
                let renamed = std::mem::take(members).into_iter();
                members.extend(renamed.map(|(name, value)| (visible(&name).into_owned(), value)));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Finds the first character that [`visible`] replaces. Bytes are looked at first, because a page may have megabytes of text.
fn first_hidden(text: &str) -> Option<usize> {
    // The lead bytes of C1 controls and of the directional characters, and ASCII controls.
    let suspicious = |byte: &u8| matches!(byte, 0..=8 | 0x0b..=0x1f | 0x7f | 0xc2 | 0xe2);
    let mut from = 0;
    while let Some(at) = text.as_bytes()[from..].iter().position(suspicious).map(|at| from + at) {
        if text[at..].chars().next().is_some_and(|c| hidden_at(text, at, c)) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// A carriage return is part of a line break before a line feed; alone it would overwrite the line that it ends.
fn hidden_at(text: &str, at: usize, c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        '\r' => !text[at + 1..].starts_with('\n'),
        c => c.is_control() || is_directional(c),
    }
}

/// Embeddings, overrides and isolates, which reorder the text around them.
fn is_directional(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Characters without a width that are neither control characters nor reorder text.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

fn push_sign(out: &mut String, c: char) {
    match u32::from(c) {
        code @ 0..=0x1f => out.extend(char::from_u32(0x2400 + code)),
        0x7f => out.push('\u{2421}'),
        // Writing to a string cannot fail.
        code => drop(write!(out, "<U+{code:04X}>")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_decimal_units() {
        for (bytes, text) in
            [(0, "0 bytes"), (999, "999 bytes"), (2048, "2 KB"), (60_240_000, "60.2 MB"), (4 << 30, "4.2 GB")]
        {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size_above(120 << 20, 100 << 20), ("125.8 MB".to_owned(), "104.8 MB".to_owned()));
        assert_eq!(size_above(104_857_601, 100 << 20), ("104857601 bytes".to_owned(), "104857600 bytes".to_owned()));
        for (bytes, text) in [(12, "12B"), (2048, "2.0KB"), (5 << 20, "5.0MB")] {
            assert_eq!(tool_size(bytes), text);
        }
    }

    #[test]
    fn duration_two_units_rounded_up() {
        let minute = 60;
        for (seconds, text) in [
            (0, "0 s"),
            (90, "90 s"),
            (119 + 1, "2 min"),
            (12 * minute - 5, "12 min"),
            (72 * minute, "1 h 12 min"),
            (300 * minute, "5 h"),
            (51 * 60 * minute, "2 d 3 h"),
            (31 * 24 * 60 * minute, "31 d"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(duration(Duration::from_millis(1)), "1 s");
    }

    #[test]
    fn visible_escape_sequences_become_signs_and_line_breaks_stay() {
        for (text, shown) in [
            ("plain\ttext\r\nof two lines\n", "plain\ttext\r\nof two lines\n"),
            ("\u{1b}]52;c;aGk=\u{7}", "␛]52;c;aGk=␇"),
            ("\u{1b}[2J\u{7f}", "␛[2J␡"),
            ("\u{9b}31m\u{85}", "<U+009B>31m<U+0085>"),
            ("user\u{202e}gpj.exe\u{2069}", "user<U+202E>gpj.exe<U+2069>"),
            ("progress\rdone", "progress␍done"),
            ("end\r", "end␍"),
            ("月之暗面 👩\u{200d}💻", "月之暗面 👩\u{200d}💻"),
        ] {
            assert_eq!(visible(text), shown, "{text:?}");
        }
    }

    #[test]
    fn visible_text_without_controls_is_not_copied() {
        assert!(matches!(visible("a\r\nb\tc"), Cow::Borrowed(_)));
    }

    #[test]
    fn one_line_names_are_short_and_look_like_what_they_are() {
        assert_eq!(one_line(" a\n\t b\u{200b}c\u{feff} ", 10), "a bc");
        assert_eq!(one_line("\u{1b}[31mRed\u{202e}", 40), "␛[31mRed<U+202E>");
        assert_eq!(one_line(&"x".repeat(10_000), 5), "xxxxx…");
    }

    #[test]
    fn visible_json_every_text_and_name_is_cleaned() {
        let mut value = serde_json::json!({ "a\u{1b}": ["\u{7}", { "b": "\u{9d}" }], "n": 1 });
        visible_json(&mut value);
        assert_eq!(value, serde_json::json!({ "a␛": ["␇", { "b": "<U+009D>" }], "n": 1 }));
    }
}
