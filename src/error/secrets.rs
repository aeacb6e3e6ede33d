//! Keeps credentials out of error texts: gateways like to quote the request they refuse, headers and all.

use super::Error;

/// What is shorter is no secret but a word that the text may need.
const SHORTEST: usize = 8;

impl Error {
    /// The same without `secrets`, and without what is left of one where a text was cut.
    pub fn without<'s>(mut self, secrets: impl IntoIterator<Item = &'s str>) -> Self {
        for secret in secrets {
            self.message = blanked(&self.message, secret);
        }
        self
    }
}

/// `text` with every run blanked that `secret` begins with, if it is as long as [`SHORTEST`].
fn blanked(text: &str, secret: &str) -> String {
    let Some(head) = secret.get(..SHORTEST) else { return text.to_owned() };
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(head) {
        out.push_str(&rest[..at]);
        out.push_str("[redacted]");
        let run = rest[at..].chars().zip(secret.chars()).take_while(|(ours, theirs)| ours == theirs);
        let length: usize = run.map(|(same, _)| same.len_utf8()).sum();
        rest = &rest[at + length..];
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_blanked_whole_and_cut_off() {
        let secret = "sk-corp-0123456789";
        for (text, expected) in [
            ("Bearer sk-corp-0123456789 refused", "Bearer [redacted] refused"),
            ("sk-corp-0123456789sk-corp-0123456789", "[redacted][redacted]"),
            ("authorization: sk-corp-0123\u{2026}", "authorization: [redacted]\u{2026}"),
            ("sk-corp is our prefix", "sk-corp is our prefix"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(blanked(text, secret), expected);
        }
        assert_eq!(blanked("a test that failed", "test"), "a test that failed");
        assert_eq!(blanked("grüß dich!x", "grüß dich!"), "[redacted]x");
    }
}
