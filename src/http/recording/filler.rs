//! Replaces the texts of requests and answers by filler of the same length, so that a recording can be shown to others.
//!
//! The structure stays: members, roles, types, names, ids, numbers, and every byte's place. It works on any chunks, because it keeps
//! its state between them, and never looks ahead.

use std::collections::HashMap;

/// Members whose texts are part of the protocol.
const KEPT: [&str; 30] = [
    "call_id",
    "code",
    "effort",
    "event",
    "finish_reason",
    "format",
    "id",
    "keep",
    "kind",
    "media_type",
    "mime_type",
    "model",
    "name",
    "object",
    "owned_by",
    "prompt_cache_key",
    "protocol",
    "purpose",
    "required",
    "resetTime",
    "role",
    "status",
    "stop_reason",
    "system_fingerprint",
    "tool_call_id",
    "tool_choice",
    "tool_use_id",
    "type",
    "unit",
    "window",
];

/// Members that hold JSON inside of a text, which is streamed in parts.
const NESTED: [&str; 2] = ["arguments", "partial_json"];

/// Longest member name that is compared, in bytes.
const MAX_KEY: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Outside,
    Key,
    Kept,
    Filled,
    Nested,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FillerEscape {
    No,
    Backslash,
    /// Hexadecimal digits of `\uXXXX` that were seen.
    Unicode(usize),
}

/// Where a nested JSON text is.
#[derive(Debug, Clone, Copy, Default)]
struct Inner {
    in_string: bool,
    is_escaped: bool,
}

/// Fills one body, chunk by chunk.
#[derive(Debug)]
pub struct Filler {
    /// Open `{` and `[`.
    open: Vec<u8>,
    state: State,
    escape: FillerEscape,
    key: Vec<u8>,
    expects_key: bool,
    at_line_start: bool,
    /// Nested texts by the number that `index` gives them: parallel tool calls may alternate.
    inner: HashMap<u64, Inner>,
    index: u64,
    keeps_protocol: bool,
}

impl Filler {
    /// Fills an exchange with a path. What is part of the protocol stays only where no member names a person: in chats and models.
    pub fn of_path(path: &str) -> Self {
        let keeps_protocol = ["/v1/chat/", "/v1/messages", "/v1/models"].iter().any(|known| path.starts_with(known));
        Self {
            open: Vec::new(),
            state: State::Outside,
            escape: FillerEscape::No,
            key: Vec::new(),
            expects_key: false,
            at_line_start: true,
            inner: HashMap::new(),
            index: 0,
            keeps_protocol,
        }
    }

    /// Replaces the texts of the next chunk in place.
    pub fn fill(&mut self, chunk: &mut [u8]) {
        for byte in chunk {
            *byte = match self.state {
                State::Outside => self.outside(*byte),
                state => self.inside(state, *byte),
            };
        }
    }

    fn outside(&mut self, byte: u8) -> u8 {
        // A field of an event stream begins a new document, whatever the last one left open.
        if self.at_line_start && byte.is_ascii_lowercase() {
            self.open.clear();
            self.expects_key = false;
        }
        self.at_line_start = byte == b'\n';
        match byte {
            b'{' => {
                self.open.push(byte);
                self.expects_key = true;
            }
            b'[' => {
                self.open.push(byte);
                self.expects_key = false;
            }
            b'}' | b']' => {
                self.open.pop();
                self.expects_key = false;
            }
            b',' => self.expects_key = self.open.last() == Some(&b'{'),
            b':' => {
                self.expects_key = false;
                if self.key == b"index" {
                    self.index = 0;
                }
            }
            b'0'..=b'9' if self.key == b"index" => {
                self.index = self.index.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
            }
            b'"' if self.expects_key => {
                self.key.clear();
                self.state = State::Key;
            }
            b'"' => self.state = self.text(),
            _ => {}
        }
        byte
    }

    /// Returns the state for the text that begins here.
    fn text(&self) -> State {
        let is_in = |names: &[&str]| names.iter().any(|name| name.as_bytes() == self.key);
        match () {
            () if self.open.is_empty() => State::Filled,
            () if self.keeps_protocol && is_in(&KEPT) => State::Kept,
            () if is_in(&NESTED) => State::Nested,
            () => State::Filled,
        }
    }

    fn inside(&mut self, state: State, byte: u8) -> u8 {
        match (self.escape, byte) {
            (FillerEscape::No, b'"') => {
                self.state = State::Outside;
                return byte;
            }
            // A text has no line breaks: it was cut.
            (FillerEscape::No, b'\n') => {
                (self.state, self.at_line_start) = (State::Outside, true);
                return byte;
            }
            (FillerEscape::No, b'\\') => {
                self.escape = FillerEscape::Backslash;
                return byte;
            }
            (FillerEscape::Backslash, _) => {
                self.escape = if byte == b'u' { FillerEscape::Unicode(0) } else { FillerEscape::No };
                if state == State::Nested {
                    self.escaped_in_nested(byte);
                }
                return byte;
            }
            (FillerEscape::Unicode(seen), _) => {
                self.escape = if seen == 3 { FillerEscape::No } else { FillerEscape::Unicode(seen + 1) };
                return if matches!(state, State::Key | State::Kept) { byte } else { b"0078"[seen] };
            }
            (FillerEscape::No, _) => {}
        }
        match state {
            State::Key => {
                if self.key.len() < MAX_KEY {
                    self.key.push(byte);
                }
                byte
            }
            State::Filled => filler(byte),
            State::Nested => self.nested(byte),
            State::Kept | State::Outside => byte,
        }
    }

    /// Follows the quotes of a nested JSON text, which are escaped.
    fn escaped_in_nested(&mut self, byte: u8) {
        let inner = self.inner.entry(self.index).or_default();
        match byte {
            b'\\' if inner.in_string => inner.is_escaped = !inner.is_escaped,
            b'"' if inner.is_escaped => inner.is_escaped = false,
            b'"' => inner.in_string = !inner.in_string,
            _ => inner.is_escaped = false,
        }
    }

    fn nested(&mut self, byte: u8) -> u8 {
        let inner = self.inner.entry(self.index).or_default();
        // `\n` and `\u0041` inside of a nested text: what follows the backslash is part of the escape.
        if std::mem::take(&mut inner.is_escaped) && inner.in_string {
            return if byte == b'u' { b'n' } else { byte };
        }
        if inner.in_string { filler(byte) } else { byte }
    }
}

/// Keeps what gives a text its form: blanks and punctuation.
fn filler(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() || !byte.is_ascii() { b'x' } else { byte }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: &str = "/v1/chat/completions";

    /// Fills `text` whole and in chunks of every size; both must agree.
    fn filled(text: &str) -> String {
        let mut whole = text.as_bytes().to_vec();
        Filler::of_path(CHAT).fill(&mut whole);
        for size in 1..20 {
            let mut filler = Filler::of_path(CHAT);
            let mut parts = text.as_bytes().to_vec();
            parts.chunks_mut(size).for_each(|chunk| filler.fill(chunk));
            assert_eq!(parts, whole, "chunks of {size}");
        }
        assert_eq!(whole.len(), text.len());
        String::from_utf8(whole).unwrap()
    }

    #[test]
    fn filler_keeps_structure_and_length_of_a_request() {
        let body =
            r#"{"model":"k3","messages":[{"role":"user","content":"Grüße, \"Ada\" 42\n\u4f60"}],"max_tokens":16}"#;
        let expected =
            r#"{"model":"k3","messages":[{"role":"user","content":"xxxxxxx, \"xxx\" xx\n\u0078"}],"max_tokens":16}"#;
        assert_eq!(filled(body), expected);
    }

    #[test]
    fn filler_keeps_arguments_of_tools_valid_json() {
        let stream = concat!(
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"c1\",\"function\":{\"name\":\"bash\",",
            "\"arguments\":\"{\\\"command\\\": \\\"say \\\\\\\"hi\\\\\\\" \"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":1,\"function\":{\"arguments\":\"{\\\"n\\\":7}\"}}]}}]}\n\n",
            "data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"secret\\\"}\"}}]}}]}\n\n",
            "data: [DONE]\n\n"
        );
        let filled = filled(stream);
        assert!(!filled.contains("secret") && !filled.contains("say"), "{filled}");
        let mut arguments = [String::new(), String::new()];
        for line in filled.lines().filter_map(|line| line.strip_prefix("data: {")) {
            let event: serde_json::Value = serde_json::from_str(&format!("{{{line}")).unwrap();
            let call = &event["choices"][0]["delta"]["tool_calls"][0];
            arguments[call["index"].as_u64().unwrap() as usize] += call["function"]["arguments"].as_str().unwrap();
        }
        let first: serde_json::Value = serde_json::from_str(&arguments[0]).unwrap();
        assert_eq!(first, serde_json::json!({ "xxxxxxx": "xxx \"xx\" xxxxxx" }));
        assert_eq!(arguments[1], "{\"x\":7}");
        assert!(filled.contains("\"name\":\"bash\"") && filled.ends_with("data: [DONE]\n\n"));
    }

    #[test]
    fn filler_recovers_after_a_text_that_was_cut() {
        let filled = filled("data: {\"content\":\"cut off\n\ndata: {\"role\":\"assistant\",\"content\":\"word\"}\n\n");
        assert_eq!(filled, "data: {\"content\":\"xxx xxx\n\ndata: {\"role\":\"assistant\",\"content\":\"xxxx\"}\n\n");
    }

    #[test]
    fn filler_leaves_no_name_of_the_account() {
        let mut body = br#"{"user":{"name":"Ada L.","id":"u1"},"level":3}"#.to_vec();
        Filler::of_path("/v1/me").fill(&mut body);
        assert_eq!(body, br#"{"user":{"name":"xxx x.","id":"xx"},"level":3}"#);
    }
}
