//! Tokens: how long they live, when they are renewed, which login is the younger one, whose they are.

use std::time::Duration;

use super::jwt::Claims;
use crate::storage::clock::now_ms;

/// Life below which a token is refreshed in any case (docs/protocol.md#refresh-threshold).
const SHORT_LIFE: Duration = Duration::from_secs(300);

/// One login.
#[derive(Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Goes into `Authorization`.
    pub access: String,
    /// Works once.
    pub refresh: String,
    /// End of `access` by our clock, in milliseconds since 1970, where it is known.
    pub expires_at_ms: Option<i64>,
    /// Life of `access` when it was issued, in seconds, where it is known.
    pub expires_in: Option<u64>,
    /// As the service sent it.
    pub scope: String,
    /// As the service sent it.
    pub token_type: String,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("expires_at_ms", &self.expires_at_ms).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Returns the life left by our clock, where the end is known.
    fn remaining(&self) -> Option<Duration> {
        let left = self.expires_at_ms?.saturating_sub(now_ms());
        Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
    }

    /// Whether `access` may still be sent. A token whose end is unknown may.
    pub fn is_valid(&self) -> bool {
        !self.access.is_empty() && self.remaining().is_none_or(|left| !left.is_zero())
    }

    /// Whether the login should be refreshed before it is used: less than 5 minutes or half of its life are left
    /// (docs/protocol.md#refresh-threshold).
    pub fn is_due(&self) -> bool {
        let half = Duration::from_secs(self.expires_in.unwrap_or(0) / 2);
        self.access.is_empty() || self.remaining().is_some_and(|left| left < half.max(SHORT_LIFE))
    }

    /// Returns the user, where the token names one.
    fn subject(&self) -> Option<String> {
        Claims::of(&self.access)?.subject()
    }

    /// Whether this is the younger of two logins, by the first date that both have and that differs. The service's clock comes
    /// first, because ours may have been set between the two; dates of issue come before ends, because the younger token may have
    /// been given the shorter life.
    pub fn issued_after(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.dates(), other.dates());
        let pairs = ours.into_iter().zip(theirs).filter_map(|(ours, theirs)| Some((ours?, theirs?)));
        pairs.into_iter().find(|(ours, theirs)| ours != theirs).is_some_and(|(ours, theirs)| ours > theirs)
    }

    /// Returns what tells the age of a login, the most reliable first, in seconds. A refresh token's end stands for its issue,
    /// because all have the same life.
    fn dates(&self) -> [Option<f64>; 7] {
        let (access, refresh) = (Claims::of(&self.access), Claims::of(&self.refresh));
        let end = access.as_ref().and_then(Claims::end);
        let our_end = self.expires_at_ms.map(|end| end as f64 / 1000.0);
        let begin = |end: Option<f64>| Some(end? - self.expires_in? as f64);
        [
            access.as_ref().and_then(Claims::issued),
            refresh.as_ref().and_then(Claims::issued),
            refresh.as_ref().and_then(Claims::end),
            begin(end),
            begin(our_end),
            end,
            our_end,
        ]
    }

    /// Whether both tokens name the same user.
    pub fn is_surely_of(&self, other: &Self) -> bool {
        self.subject().is_some_and(|ours| other.subject() == Some(ours))
    }

    /// Whether both may belong to one user: false only if both tokens name one, and not the same. Two accounts on one machine
    /// must not be mixed up.
    pub fn same_account(&self, other: &Self) -> bool {
        match (self.subject(), other.subject()) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::samples::jwt;
    use serde_json::{Value, json};

    fn login(access: String, remaining: i64, expires_in: u64) -> Tokens {
        let expires_at_ms = Some(now_ms() + remaining * 1000);
        let expires_in = Some(expires_in).filter(|life| *life > 0);
        Tokens {
            access,
            refresh: "r".into(),
            expires_at_ms,
            expires_in,
            scope: String::new(),
            token_type: String::new(),
        }
    }

    /// Observed boundaries of the official client: 520 s left no, 440 s left yes (docs/protocol.md#refresh-threshold).
    #[test]
    fn tokens_due_at_half_of_their_life_or_five_minutes_before_their_end() {
        assert!(!login("a".into(), 520, 900).is_due());
        assert!(login("a".into(), 440, 900).is_due());
        assert!(login("a".into(), 290, 400).is_due());
        assert!(!login("a".into(), 310, 0).is_due());
        let undated = Tokens { expires_at_ms: None, ..login("a".into(), 0, 900) };
        assert!(!undated.is_due() && undated.is_valid());
        assert!(!login("a".into(), -1, 900).is_valid());
    }

    #[test]
    fn tokens_with_an_extreme_date_do_not_overflow() {
        let dated = |end| Tokens { expires_at_ms: Some(end), ..login("a".into(), 0, 900) };
        assert!(dated(i64::MIN).is_due() && !dated(i64::MIN).is_valid());
        assert!(dated(i64::MAX).is_valid());
    }

    #[test]
    fn tokens_debug_output_hides_them() {
        assert!(!format!("{:?}", login("secret".into(), 1, 1)).contains("secret"));
    }

    #[test]
    fn tokens_of_two_users_differ_and_opaque_ones_fit_any() {
        let of = |subject: &str| login(jwt(&json!({ "sub": subject })), 900, 900);
        assert!(of("me").same_account(&of("me")));
        assert!(!of("me").same_account(&of("you")));
        assert!(of("me").same_account(&login("opaque".into(), 900, 900)));
    }

    #[test]
    fn younger_login_by_the_services_clock_when_ours_was_set_in_between() {
        let of = |service_end: i64, our_end: i64| login(jwt(&json!({ "exp": service_end })), our_end, 900);
        assert!(of(2000, 800).issued_after(&of(1000, 4400)));
        assert!(!of(1000, 4400).issued_after(&of(2000, 800)));
        assert!(login("opaque".into(), 900, 900).issued_after(&of(2000, 100)));
    }

    #[test]
    fn younger_login_with_a_shorter_life_is_recognized() {
        let of = |claims: Value, end: i64, life: u64| login(jwt(&claims), end, life);
        let issued = |at: i64, end: i64| of(json!({ "iat": at, "exp": end }), end, 0);
        assert!(issued(1010, 1100).issued_after(&issued(1000, 1900)));
        assert!(!issued(1000, 1900).issued_after(&issued(1010, 1100)));
        let ending = |end: i64, life: u64| of(json!({ "exp": end }), 0, life);
        assert!(ending(1100, 60).issued_after(&ending(1900, 900)));
        let with_refresh = |at: i64, end: i64| Tokens { refresh: jwt(&json!({ "iat": at })), ..ending(end, 0) };
        assert!(with_refresh(1010, 1100).issued_after(&with_refresh(1000, 1900)));
        let opaque = |end: i64, life: u64| login("opaque".into(), end, life);
        assert!(opaque(100, 60).issued_after(&opaque(800, 900)));
        let same = opaque(100, 60);
        assert!(!same.issued_after(&same));
    }
}
