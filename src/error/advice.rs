//! Advice in messages: for users of Pi, where it is written, and for programs without Pi.

use std::borrow::Cow;

use super::{Error, ErrorKind, clip};

/// What is known about the clients that the service accepts (docs/protocol.md#identity-gate).
const KNOWN_AGENTS: &str =
    "It is known to accept User-Agents that begin like Pi's; which others it accepts is not known.";

/// Characters of a User-Agent that a message quotes.
const MAX_AGENT: usize = 100;

/// What is said in Pi, and what is said to a program instead; the longer phrases first.
const PHRASES: [(&str, &str); 5] = [
    (
        KNOWN_AGENTS,
        "It is known to accept User-Agents that begin like Pi's; which others it accepts is not known. Your program can send a name \
         of its own, which may be refused as well: new Kimi({ headers: { \"User-Agent\": \"my-agent/1.0\" } }).",
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

/// Adds to the refusal of a client what is known about accepted ones. `own_agent` is the User-Agent that the caller chose, if it did.
pub fn explain_refused_client(error: Error, own_agent: Option<&str>) -> Error {
    if error.kind != ErrorKind::ClientRefused {
        return error;
    }
    let advice = match own_agent {
        Some(agent) => {
            let agent = clip(agent, MAX_AGENT);
            format!("It does not accept the User-Agent {agent:?}; known to be accepted are those that begin like Pi's.")
        }
        None => KNOWN_AGENTS.to_owned(),
    };
    Error { message: format!("{} {advice}", error.message), ..error }
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
        let refused = || from_response(403, "only available for Coding Agents", None, None);
        let default = text(explain_refused_client(refused(), None));
        assert!(default.contains("not known. Your program can send") && default.contains("may be refused as well"));
        let own = text(explain_refused_client(refused(), Some("my-agent/2")));
        assert!(own.contains("does not accept the User-Agent \"my-agent/2\"") && !own.contains("headers"), "{own}");
        let wait = Error::new(ErrorKind::RateLimited, "429").message_for_pi(RetryOutcome::WaitTooLong {
            asked: Duration::from_secs(600),
            allowed: Duration::from_secs(60),
        });
        assert!(for_program(&wait).contains("(retry.maxDelayMs)"), "{wait}");
        assert_eq!(for_program("429 too many requests"), "429 too many requests");
    }
}
