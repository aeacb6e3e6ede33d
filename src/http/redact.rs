//! Keeps credentials out of error texts: gateways like to quote the request they refuse, headers and all.

use crate::error::Error;

/// What is shorter is no secret but a word that the text may need.
const SHORTEST: usize = 8;

/// Characters that make a cut-off text the beginning of a secret. Fewer are a prefix that many keys share.
const BEGINNING: usize = 12;

const BLANK: &str = "[redacted]";

impl Error {
    /// The same without `secrets`, and without what is left of one where a text was cut.
    pub fn redact<'s>(mut self, secrets: impl IntoIterator<Item = &'s str>) -> Self {
        let mut secrets: Vec<&str> =
            secrets.into_iter().map(str::trim).filter(|secret| secret.len() >= SHORTEST).collect();
        // One that begins like a longer one would leave the other's end behind.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        for secret in secrets {
            self.message = blanked(&self.message, secret);
        }
        self
    }
}

/// `text` without `secret`, and without its beginning where the text was cut: at its end, and before an ellipsis. Anywhere
/// else a common beginning is a coincidence, an address or a product's name, and the text may need it.
fn blanked(text: &str, secret: &str) -> String {
    let text = text.replace(secret, BLANK);
    let Some((head, _)) = secret.char_indices().nth(BEGINNING).map(|(end, _)| secret.split_at(end)) else {
        return text;
    };
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(head) {
        let run = rest[at..].chars().zip(secret.chars()).take_while(|(ours, theirs)| ours == theirs);
        let end = at + run.map(|(same, _)| same.len_utf8()).sum::<usize>();
        let after = &rest[end..];
        out.push_str(&rest[..at]);
        out.push_str(if is_cut(after) { BLANK } else { &rest[at..end] });
        rest = after;
    }
    out.push_str(rest);
    out
}

fn is_cut(after: &str) -> bool {
    after.is_empty() || after.starts_with('\u{2026}') || after.starts_with("...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn secrets_are_blanked_whole_and_cut_off() {
        let secret = "sk-corp-0123456789";
        for (text, expected) in [
            ("Bearer sk-corp-0123456789 refused", "Bearer [redacted] refused"),
            ("sk-corp-0123456789sk-corp-0123456789", "[redacted][redacted]"),
            ("authorization: sk-corp-0123\u{2026}", "authorization: [redacted]\u{2026}"),
            ("authorization: sk-corp-01234...", "authorization: [redacted]..."),
            ("authorization: sk-corp-01234567", "authorization: [redacted]"),
            ("sk-corp is our prefix", "sk-corp is our prefix"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(blanked(text, secret), expected);
        }
        assert_eq!(blanked("grüß dich!x", "grüß dich!"), "[redacted]x");
        assert_eq!(blanked("grüß dich, mei\u{2026}", "grüß dich, meine Liebe"), "[redacted]\u{2026}");
    }

    #[test]
    fn a_common_beginning_is_no_secret() {
        for (text, secret) in [
            ("maximum context-length is 5", "context-management-2025-06-27"),
            ("see https://example.com/help for more", "https://example.com/app"),
            ("sign in again with /login kimi-coding", "kimi-code-gateway-7"),
        ] {
            assert_eq!(blanked(text, secret), text);
        }
    }

    #[test]
    fn short_words_stay_and_long_secrets_come_first() {
        let error = |text: &str| Error::new(ErrorKind::Config, text);
        assert_eq!(error("a test that failed").redact(["test"]).message, "a test that failed");
        let message = error("key sk-corp-0123456789-more").redact(["sk-corp-0123456789", " sk-corp-0123456789-more "]);
        assert_eq!(message.message, "key [redacted]");
    }
}
