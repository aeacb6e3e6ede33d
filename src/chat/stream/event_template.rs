//! Reads events that differ from the one before in the content of one string.
//!
//! A stream repeats the same JSON hundreds of times a second with another text in it. Once the full parser has read such an event, the
//! bytes around its text are kept. The next event with the same bytes around a valid JSON string has the same members with the same
//! values, except for that text, because only an unescaped quote ends a string. So only the string is read. Every other event is read
//! by the parser.

use std::borrow::Cow;
use std::ops::Range;

/// What the text of an event is, with the number that the service gave its block or call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextRole {
    /// A part of the answer.
    Text(Option<u64>),
    /// Reasoning, and the member that held it.
    Thinking(Option<u64>, &'static str),
    /// Arguments of a tool call.
    Arguments(Option<u64>),
}

/// How an event was read by the parser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The stream says that it is over.
    Over,
    /// Anything else.
    Other,
    /// All that the event says is this one text, which lies in this range of the JSON, between its quotes.
    OneText(TextRole, Range<usize>),
}

impl Reading {
    /// Returns the reading of an event that says nothing but `text`, which was read from `json`.
    pub fn one_text(json: &str, role: TextRole, text: &str) -> Self {
        let start = text.as_ptr().addr().wrapping_sub(json.as_ptr().addr());
        let range = start..start.wrapping_add(text.len());
        // A text with escapes was copied, so it lies elsewhere.
        let quoted = start > 0
            && json.get(start - 1..range.end.wrapping_add(1)).is_some_and(|quoted| {
                quoted.len() == text.len() + 2 && quoted.starts_with('"') && quoted.ends_with('"')
            });
        if quoted && json.get(range.clone()) == Some(text) { Self::OneText(role, range) } else { Self::Other }
    }
}

/// The last event that the parser has read, without its text.
#[derive(Debug, Default)]
pub struct EventTemplate {
    /// Absent unless that event said one text only.
    role: Option<TextRole>,
    name: String,
    /// Bytes up to the opening quote, and from the closing quote on.
    before: Vec<u8>,
    after: Vec<u8>,
}

impl EventTemplate {
    /// Returns the text of an event that differs from the template in nothing else. It is never empty.
    pub fn read<'d>(&self, name: &str, data: &'d [u8]) -> Option<(TextRole, Cow<'d, str>)> {
        let role = self.role.filter(|_| self.name == name)?;
        let inside = data.strip_prefix(self.before.as_slice())?.strip_suffix(self.after.as_slice())?;
        let text = if inside.iter().all(|byte| *byte >= b' ' && *byte != b'"' && *byte != b'\\') {
            Cow::Borrowed(std::str::from_utf8(inside).ok()?)
        } else {
            let quoted = &data[self.before.len() - 1..=data.len() - self.after.len()];
            Cow::Owned(serde_json::from_slice::<String>(quoted).ok()?)
        };
        (!text.is_empty()).then_some((role, text))
    }

    /// Keeps an event that the parser has read.
    pub fn keep(&mut self, name: &str, json: &str, reading: &Reading) {
        let Reading::OneText(role, text) = reading else { return self.forget() };
        self.role = Some(*role);
        name.clone_into(&mut self.name);
        self.before.clear();
        self.before.extend_from_slice(&json.as_bytes()[..text.start]);
        self.after.clear();
        self.after.extend_from_slice(&json.as_bytes()[text.end..]);
    }

    /// Leaves the next event to the parser.
    pub fn forget(&mut self) {
        self.role = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROLE: TextRole = TextRole::Text(Some(3));

    fn template(json: &str, text: &str) -> EventTemplate {
        let at = json.find(text).unwrap();
        let mut template = EventTemplate::default();
        template.keep("", json, &Reading::one_text(json, ROLE, &json[at..at + text.len()]));
        template
    }

    #[test]
    fn event_template_same_bytes_around_a_string_give_its_text() {
        let template = template(r#"{"a":"x","b":1}"#, "x");
        let read =
            |data: &'static str| template.read("", data.as_bytes()).map(|(role, text)| (role, text.into_owned()));
        let is = |text: &str| Some((ROLE, text.to_owned()));
        assert_eq!(read(r#"{"a":"yes","b":1}"#), is("yes"));
        assert_eq!(read(r#"{"a":"\"\n世\ud83d\ude00","b":1}"#), is("\"\n世😀"));
        assert_eq!(read("{\"a\":\"世界 \u{7f}\",\"b\":1}"), is("世界 \u{7f}"));
    }

    #[test]
    fn event_template_everything_else_is_left_to_the_parser() {
        let template = template(r#"{"a":"x","b":1}"#, "x");
        for other in [
            r#"{"a":"","b":1}"#,
            r#"{"a":"y","b":2}"#,
            r#" {"a":"y","b":1}"#,
            r#"{"a":"y","b":1} "#,
            r#"{"a":"y","a":"z","b":1}"#,
            r#"{"a":"y\","b":1}"#,
            r#"{"a":"\ud83d","b":1}"#,
            r#"{"a":"\x","b":1}"#,
            "{\"a\":\"\n\",\"b\":1}",
            r#"{"a":null,"b":1}"#,
            r#"{"a":","b":1}"#,
            "",
        ] {
            assert_eq!(template.read("", other.as_bytes()), None, "{other}");
        }
        assert_eq!(template.read("", b"{\"a\":\"\xff\",\"b\":1}"), None, "not UTF-8");
        assert_eq!(template.read("ping", br#"{"a":"y","b":1}"#), None, "another name");
    }

    #[test]
    fn event_template_only_a_string_of_the_json_itself_is_kept() {
        let json = r#"{"a":"xy","b":12}"#;
        let other = |text: &str| assert_eq!(Reading::one_text(json, ROLE, text), Reading::Other, "{text}");
        other("xy");
        other(&json[6..7]);
        other(&json[14..16]);
        other("");
        assert_eq!(Reading::one_text(json, ROLE, &json[6..8]), Reading::OneText(ROLE, 6..8));
        let mut template = template(json, "xy");
        template.keep("", "[]", &Reading::Other);
        assert_eq!(template.read("", json.as_bytes()), None);
    }
}
