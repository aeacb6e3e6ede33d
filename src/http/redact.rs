//! Removes credentials from texts that leave this package: errors, notices, logs, results of tools.
//!
//! Gateways and proxies like to quote the request that they refuse, headers and all: as it is, percent-encoded, HTML-escaped, in
//! capitals, or cut short. One function finds all of these. It knows the secrets that this process has sent
//! ([`KnownSecrets`]) and the usual forms of those that it has not.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use crate::process_state::ProcessState;

/// What is shorter is a word that the text may need, in bytes.
const SHORTEST: usize = 8;

/// A part of a credential of this length, from its start or its end, gives it away; fewer bytes are a prefix that many keys share.
const FRAGMENT: usize = 12;

/// Secrets that are remembered. A process uses a handful; the oldest are forgotten first.
const MAX_SECRETS: usize = 256;

/// Bytes that are searched at a time.
const WINDOW: usize = 1 << 20;

const REDACTED: &str = "[redacted]";

/// A secret of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KnownSecret {
    /// Reduced to its plain form, see [`PlainText`].
    plain: Vec<u8>,
    /// A key or token for the service, in contrast to headers of the user.
    is_credential: bool,
}

impl KnownSecret {
    fn new(text: &str, is_credential: bool) -> Option<Self> {
        let plain = PlainText::of(text.trim().as_bytes()).bytes;
        (plain.len() >= SHORTEST).then_some(Self { plain, is_credential })
    }
}

/// The secrets that this process has sent.
#[derive(Default)]
pub struct KnownSecrets(Mutex<VecDeque<KnownSecret>>);

impl KnownSecrets {
    /// Returns the secrets that all clients of this process share.
    pub fn shared() -> Arc<Self> {
        ProcessState::shared().get()
    }

    /// Remembers a key or token for the service.
    pub fn add_credential(&self, credential: &str) {
        self.add(KnownSecret::new(credential, true));
    }

    /// Remembers the secret part of a header, if it has one.
    pub fn add_header(&self, name: &str, value: &str) {
        if let Some(secret) = header_secret(name, value) {
            self.add(KnownSecret::new(secret, is_authorization(name)));
        }
    }

    /// Remembers user name and password of an address, in the two forms in which they are sent.
    pub fn add_user_info(&self, address: &str) {
        let Ok(url) = url::Url::parse(address) else { return };
        let Some(password) = url.password() else { return };
        self.add(KnownSecret::new(password, false));
        let pair = format!("{}:{password}", url.username());
        let decoded = PlainText::of(pair.as_bytes()).bytes_in_case;
        self.add(KnownSecret::new(&BASE64_STANDARD.encode(decoded), false));
    }

    fn add(&self, secret: Option<KnownSecret>) {
        let Some(secret) = secret else { return };
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = secrets.iter().position(|known| *known == secret) {
            secrets.remove(known);
        }
        if secrets.len() == MAX_SECRETS {
            secrets.pop_front();
        }
        secrets.push_back(secret);
    }

    /// Removes all secrets from a text: known ones, and what looks like one.
    pub fn redact(&self, text: &str) -> String {
        let secrets: Vec<KnownSecret> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let known = replaced(text.as_bytes(), &ranges(text.as_bytes(), &secrets));
        redact_look_alikes(&String::from_utf8_lossy(&known))
    }

    /// Removes all secrets from the texts of a JSON value.
    pub fn redact_json(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redact(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact_json(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.redact_json(member)),
            _ => {}
        }
    }

    /// Overwrites the secrets of this process in place, byte by byte; whether there were any.
    pub fn mask(&self, content: &mut [u8]) -> bool {
        let secrets: Vec<KnownSecret> = self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let found = ranges(content, &secrets);
        for range in &found {
            content[range.clone()].fill(b'x');
        }
        !found.is_empty()
    }

    /// Removes the credentials of this process from content of the service. What else looks like a secret is the content's own.
    pub fn scrub(&self, content: Vec<u8>) -> Vec<u8> {
        let secrets: Vec<KnownSecret> = {
            let secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            secrets.iter().filter(|secret| secret.is_credential).cloned().collect()
        };
        let found = ranges(&content, &secrets);
        if found.is_empty() { content } else { replaced(&content, &found) }
    }
}

/// Returns the secret part of a header: a credential without its scheme, because gateways quote it without as well.
fn header_secret<'v>(name: &str, value: &'v str) -> Option<&'v str> {
    const LIKE_A_KEY: usize = 12;
    const HARMLESS: [&str; 6] = ["content-type", "user-agent", "referer", "http-referer", "x-title", "origin"];
    const SCHEMES: [&str; 6] = ["bearer", "basic", "digest", "negotiate", "token", "apikey"];
    let name = name.to_ascii_lowercase();
    if HARMLESS.contains(&name.as_str())
        || ["accept", "anthropic-", "x-msh-"].iter().any(|family| name.starts_with(family))
    {
        return None;
    }
    let value = value.trim();
    let authorizes = is_authorization(&name);
    let bare = match value.split_once(' ') {
        Some((scheme, rest)) if authorizes || SCHEMES.contains(&scheme.to_ascii_lowercase().as_str()) => rest.trim(),
        _ => value,
    };
    (authorizes || bare.len() >= LIKE_A_KEY).then_some(bare)
}

fn is_authorization(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with("authorization") || name.eq_ignore_ascii_case("x-api-key")
}

/// A text without escapes and capitals, and where each byte comes from.
struct PlainText {
    /// In lower case.
    bytes: Vec<u8>,
    bytes_in_case: Vec<u8>,
    /// Start of each byte in the original, and the original's end.
    starts: Vec<usize>,
}

impl PlainText {
    fn of(text: &[u8]) -> Self {
        let mut plain = Self { bytes: Vec::new(), bytes_in_case: text.to_vec(), starts: (0..=text.len()).collect() };
        // Twice, because what is percent-encoded may be quoted in HTML or JSON, and the other way round.
        for _ in 0..2 {
            if memchr::memchr3(b'%', b'&', b'\\', &plain.bytes_in_case).is_some() {
                plain = plain.unescaped();
            }
        }
        plain.bytes = plain.bytes_in_case.to_ascii_lowercase();
        plain
    }

    fn unescaped(self) -> Self {
        let (text, from) = (self.bytes_in_case, self.starts);
        let (mut bytes, mut starts) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
        let mut at = 0;
        while at < text.len() {
            let (byte, length) = unescape(&text[at..]);
            bytes.push(byte);
            starts.push(from[at]);
            at += length;
        }
        starts.push(from[at]);
        Self { bytes: Vec::new(), bytes_in_case: bytes, starts }
    }
}

/// Reads one byte of a text, escaped or not, and how long it is there.
fn unescape(text: &[u8]) -> (u8, usize) {
    let hex = |digits: Option<&[u8]>| u32::from_str_radix(std::str::from_utf8(digits?).ok()?, 16).ok();
    let ascii = |code: Option<u32>| code.and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii);
    let escaped = match text {
        [b'%', ..] => hex(text.get(1..3)).and_then(|code| u8::try_from(code).ok()).map(|byte| (byte, 3)),
        [b'\\', b'u', ..] => ascii(hex(text.get(2..6))).map(|byte| (byte, 6)),
        [b'\\', byte @ (b'/' | b'"' | b'\\' | b'\''), ..] => Some((*byte, 2)),
        [b'&', b'#', ..] => text.iter().take(10).position(|byte| *byte == b';').and_then(|end| {
            let code = match text[2] {
                b'x' | b'X' => hex(text.get(3..end)),
                _ => std::str::from_utf8(&text[2..end]).ok()?.parse().ok(),
            };
            ascii(code).map(|byte| (byte, end + 1))
        }),
        [b'&', ..] => [("&amp;", b'&'), ("&lt;", b'<'), ("&gt;", b'>'), ("&quot;", b'"'), ("&apos;", b'\'')]
            .into_iter()
            .find(|(entity, _)| text.starts_with(entity.as_bytes()))
            .map(|(entity, byte)| (byte, entity.len())),
        _ => None,
    };
    escaped.unwrap_or_else(|| (text.first().copied().unwrap_or_default(), 1))
}

/// Finds the secrets in a text, in order and without overlaps.
fn ranges(text: &[u8], secrets: &[KnownSecret]) -> Vec<Range<usize>> {
    let longest = secrets.iter().map(|secret| secret.plain.len()).max().unwrap_or(0);
    let mut found = Vec::new();
    let mut start = 0;
    while start < text.len() && longest > 0 {
        // An escaped byte is at most ten long, and twice escaped ones are rare.
        let end = text.len().min(start + WINDOW + longest * 12);
        let plain = PlainText::of(&text[start..end]);
        for secret in secrets {
            for range in secret.occurrences(&plain.bytes) {
                found.push(start + plain.starts[range.start]..start + plain.starts[range.end]);
            }
        }
        start += WINDOW;
    }
    found.sort_by_key(|range: &Range<usize>| (range.start, std::cmp::Reverse(range.end)));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start < last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

impl KnownSecret {
    /// Finds the secret and parts of it that give it away.
    fn occurrences(&self, text: &[u8]) -> Vec<Range<usize>> {
        let secret = self.plain.as_slice();
        let fragment = FRAGMENT.min(secret.len());
        let mut found = Vec::new();
        let (head, tail) = (&secret[..fragment], &secret[secret.len() - fragment..]);
        for at in memchr::memmem::find_iter(text, head) {
            let run = text[at..].iter().zip(secret).take_while(|(ours, theirs)| ours == theirs).count();
            if run == secret.len() || !self.is_address() || is_cut(&text[at + run..]) {
                found.push(at..at + run);
            }
        }
        for at in memchr::memmem::find_iter(text, tail) {
            let end = at + tail.len();
            let run =
                text[..end].iter().rev().zip(secret.iter().rev()).take_while(|(ours, theirs)| ours == theirs).count();
            if run == secret.len() || !self.is_address() {
                found.push(end - run..end);
            }
        }
        found
    }

    /// Addresses share their beginning and end with others that the text may need.
    fn is_address(&self) -> bool {
        memchr::memmem::find(&self.plain, b"://").is_some()
    }
}

fn is_cut(after: &[u8]) -> bool {
    after.is_empty() || after.starts_with("\u{2026}".as_bytes()) || after.starts_with(b"...")
}

fn replaced(text: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        out.extend_from_slice(&text[at..range.start]);
        out.extend_from_slice(REDACTED.as_bytes());
        at = range.end;
    }
    out.extend_from_slice(&text[at..]);
    out
}

/// Removes what looks like a secret: keys and tokens by their first letters, user names and passwords of addresses, values of
/// their queries.
pub fn redact_look_alikes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, secret)) = next_look_alike(rest) {
        out.push_str(&rest[..at]);
        if secret > 0 {
            out.push_str(REDACTED);
        }
        rest = &rest[at + secret..];
    }
    out.push_str(rest);
    out
}

/// Finds the next look-alike: where it begins and how long it is, 0 for what turned out to be none.
fn next_look_alike(text: &str) -> Option<(usize, usize)> {
    const MARKS: [(&str, Mark); 6] = [
        ("sk-", Mark::Key),
        ("eyJ", Mark::Key),
        ("Bearer ", Mark::Key),
        ("://", Mark::UserInfo),
        ("?", Mark::Query),
        ("&", Mark::Query),
    ];
    let (at, mark, kind) = MARKS
        .iter()
        .filter_map(|(mark, kind)| text.find(mark).map(|at| (at, *mark, *kind)))
        .min_by_key(|(at, ..)| *at)?;
    let after = at + mark.len();
    let rest = &text[after..];
    Some(match kind {
        Mark::Key => {
            let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '~' | '+' | '/' | '=');
            let length = rest.find(|c| !is_key(c)).unwrap_or(rest.len());
            (after, if length >= SHORTEST { length } else { 0 })
        }
        Mark::UserInfo => {
            let authority = rest.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
            (after, rest[..authority].rfind('@').unwrap_or(0))
        }
        Mark::Query => {
            let end = rest.find(|c: char| matches!(c, '&' | '"' | '\'' | '#' | ')') || c.is_whitespace());
            let pair = &rest[..end.unwrap_or(rest.len())];
            match pair.split_once('=') {
                Some((name, value)) if is_secret_member(name, value) => (after + name.len() + 1, value.len()),
                _ => (after, 0),
            }
        }
    })
}

#[derive(Clone, Copy)]
enum Mark {
    Key,
    UserInfo,
    Query,
}

fn is_secret_member(name: &str, value: &str) -> bool {
    const NAMES: [&str; 8] = ["key", "token", "secret", "pass", "auth", "sig", "cred", "session"];
    let name = name.to_ascii_lowercase();
    let looks_random = value.len() >= 16
        && value.contains(|c: char| c.is_ascii_digit())
        && value.contains(|c: char| c.is_ascii_alphabetic());
    !value.is_empty() && !name.contains(' ') && (looks_random || NAMES.iter().any(|known| name.contains(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "sk-corp+0123/456789ab=";

    fn redact(text: &str, secret: &str) -> String {
        let secrets = KnownSecrets::default();
        secrets.add(KnownSecret::new(secret, true));
        secrets.redact(text)
    }

    #[test]
    fn echo_of_a_credential_is_found_plain_encoded_cut_upper_cased_and_escaped() {
        for (text, expected) in [
            (format!("Bearer {KEY} refused"), "Bearer [redacted] refused"),
            (format!("key={KEY}{KEY}"), "key=[redacted][redacted]"),
            (format!("KEY {} REFUSED", KEY.to_uppercase()), "KEY [redacted] REFUSED"),
            ("key sk-corp%2B0123%2f456789ab%3D refused".to_owned(), "key [redacted] refused"),
            ("key sk-corp%252B0123%252F456789ab%253D refused".to_owned(), "key [redacted] refused"),
            ("key sk-corp&#43;0123&#x2F;456789ab&#61; refused".to_owned(), "key [redacted] refused"),
            (r"key sk-corp\u002b0123\/456789ab= refused".to_owned(), "key [redacted] refused"),
            ("%73%6B%2D%63%6F%72%70%2B%30%31%32%33%2F%34%35%36%37%38%39%61%62%3D".to_owned(), "[redacted]"),
            ("authorization: sk-corp+0123\u{2026}".to_owned(), "authorization: [redacted]\u{2026}"),
            ("authorization: sk-corp+0123...".to_owned(), "authorization: [redacted]..."),
            ("\"sk-corp+0123/45\" was refused".to_owned(), "\"[redacted]\" was refused"),
            ("the key that ends with 123/456789ab=".to_owned(), "the key that ends with [redacted]"),
        ] {
            assert_eq!(redact(&text, KEY), expected, "{text}");
        }
        assert_eq!(redact("grüß dich!x", "grüß dich!"), "[redacted]x");
    }

    #[test]
    fn text_with_a_common_beginning_stays() {
        for (text, secret) in [
            ("sk-corp is our prefix", "sk-corp-0123456789"),
            ("maximum context-length is 5", "context-management-2025-06-27"),
            ("see https://example.com/help for more", "https://example.com/app"),
            ("sign in again with /login kimi-coding", "kimi-code-gateway-7"),
            ("a test that failed", "test"),
            ("100 % sure & safe \\ done", "sk-corp-0123456789"),
        ] {
            assert_eq!(redact(text, secret), text);
        }
    }

    #[test]
    fn look_alikes_keys_user_info_and_query_values_are_redacted() {
        for (text, expected) in [
            ("key sk-kimi-0123456789 used", "key sk-[redacted] used"),
            ("Bearer eyJhbGciOi.J9.x\n", "Bearer [redacted]\n"),
            ("a task-force sk-x", "a task-force sk-x"),
            ("none", "none"),
            ("http://me:hunter2@proxy.example:8080/a failed", "http://[redacted]@proxy.example:8080/a failed"),
            ("https://kimi.example/a@b stays", "https://kimi.example/a@b stays"),
            ("https://gw/x?api_key=abc&n=5&state=q", "https://gw/x?api_key=[redacted]&n=5&state=q"),
            ("https://gw/x?q=AIzaSyD0123456789", "https://gw/x?q=[redacted]"),
            ("what? a=b & c=d", "what? a=b & c=d"),
        ] {
            assert_eq!(redact_look_alikes(text), expected, "{text}");
        }
    }

    #[test]
    fn headers_credentials_are_secret_without_their_scheme_and_plain_ones_are_not() {
        for (name, value, expected) in [
            ("Authorization", "Basic bWU6cGFzc3dvcmQ=", Some("bWU6cGFzc3dvcmQ=")),
            ("authorization", "bearer  corp-key", Some("corp-key")),
            ("Proxy-Authorization", "Corp-Scheme 0123456789", Some("0123456789")),
            ("X-Api-Key", "sk-corp-0123456789", Some("sk-corp-0123456789")),
            ("X-Gateway", "TOKEN sk-corp-0123456789", Some("sk-corp-0123456789")),
            ("X-Team", "blue", None),
            ("X-Msh-Tool-Call-Id", "kimi_datasource:1", None),
            ("HTTP-Referer", "https://example.com/a", None),
            ("anthropic-beta", "context-management-2025-06-27", None),
        ] {
            assert_eq!(header_secret(name, value), expected, "{name}");
        }
    }

    #[test]
    fn proxy_user_info_is_secret_in_both_forms() {
        let secrets = KnownSecrets::default();
        secrets.add_user_info("http://me:hunter2-and%40more@proxy.example");
        let pair = BASE64_STANDARD.encode("me:hunter2-and@more");
        assert_eq!(secrets.redact(&format!("Basic {pair} and hunter2-and@more")), "Basic [redacted] and [redacted]");
    }

    #[test]
    fn content_is_scrubbed_of_credentials_only_also_across_windows() {
        let secrets = KnownSecrets::default();
        secrets.add_credential(KEY);
        secrets.add_header("x-team-name", "a-team-of-people");
        let mut content = vec![b'.'; WINDOW - 5];
        content.extend_from_slice(KEY.as_bytes());
        content.extend_from_slice(b" a-team-of-people sk-another-users-key \xff");
        let scrubbed = secrets.scrub(content);
        assert!(scrubbed.ends_with(b".[redacted] a-team-of-people sk-another-users-key \xff"));
        assert_eq!(secrets.scrub(b"nothing".to_vec()), b"nothing");
    }

    #[test]
    fn known_secrets_are_bounded_and_the_latest_stay() {
        let secrets = KnownSecrets::default();
        for number in 0..=MAX_SECRETS {
            secrets.add_credential(&format!("secret-number-{number:04}"));
            secrets.add_credential("used-all-the-time");
        }
        assert_eq!(secrets.0.lock().unwrap().len(), MAX_SECRETS);
        assert_eq!(secrets.redact("used-all-the-time"), "[redacted]");
    }

    #[test]
    fn json_is_redacted_in_every_text() {
        let secrets = KnownSecrets::default();
        secrets.add_credential(KEY);
        let mut value = serde_json::json!({ "a": [KEY, { "b": format!("x {KEY}") }], "n": 5 });
        secrets.redact_json(&mut value);
        assert_eq!(value, serde_json::json!({ "a": ["[redacted]", { "b": "x [redacted]" }], "n": 5 }));
    }
}
