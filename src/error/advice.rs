//! Advice in messages: for users of Pi, where it is written, and for programs without Pi.

use std::borrow::Cow;

/// What is said in Pi, and what is said to a program instead; the longer phrases first.
const PHRASES: [(&str, &str); 5] = [
    (
        "If your plan is meant for the official CLI only, the setting \"identity\": \"kimi-code\" makes Pi identify itself like it.",
        "Tell it the name of your program: new Kimi({ headers: { \"User-Agent\": \"my-agent/1.0\" } }). If your plan is meant for \
         the official CLI only, settings: { identity: \"kimi-code\" } sends that client's identity.",
    ),
    ("(KIMI_API_KEY, or Pi's /login)", "(KIMI_API_KEY, or the option apiKey)"),
    ("Start /login kimi-coding again", "Call kimi.login() again"),
    ("/login kimi-coding", "kimi.login()"),
    ("(retry.provider.maxRetryDelayMs)", "(retry.maxDelayMs)"),
];

/// Returns a message with the advice for a program that runs without Pi.
pub fn for_program(message: &str) -> Cow<'_, str> {
    PHRASES.iter().fold(Cow::Borrowed(message), |text, (in_pi, in_program)| {
        if text.contains(in_pi) { text.replace(in_pi, in_program).into() } else { text }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::error::{Error, ErrorKind, RetryOutcome, from_response};

    #[test]
    fn advice_for_programs_speaks_of_programs() {
        let text = |error: Error| for_program(&error.message).into_owned();
        let login = text(Error::login_required());
        assert!(login.contains("Sign in with kimi.login(), or set KIMI_API_KEY"), "{login}");
        let refused = text(from_response(403, "only available for Coding Agents", None, None));
        assert!(refused.contains("headers: { \"User-Agent\"") && !refused.contains("Pi "), "{refused}");
        let wait = Error::new(ErrorKind::RateLimited, "429").message_for_pi(RetryOutcome::WaitTooLong {
            asked: Duration::from_secs(600),
            allowed: Duration::from_secs(60),
        });
        assert!(for_program(&wait).contains("(retry.maxDelayMs)"), "{wait}");
        assert_eq!(for_program("429 too many requests"), "429 too many requests");
    }
}
