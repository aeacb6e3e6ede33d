//! Reads what a token says about itself: its user, and when it was issued and ends.
//!
//! Access tokens are JWTs (docs/protocol.md#token-answers). Signatures are not verified, because the claims only decide which of
//! two files is used, never what is allowed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The payload of a JWT.
#[derive(Debug)]
pub struct Claims(Value);

impl Claims {
    /// Reads the payload. `None` for static keys and opaque tokens.
    pub fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok().map(Self)
    }

    /// Returns the user: `sub`, else `user_id`. Empty values and values that are neither text nor number do not count, because
    /// all such tokens would otherwise belong to one user.
    pub fn subject(&self) -> Option<String> {
        let name = |claim: &str| match self.0.get(claim)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        name("sub").or_else(|| name("user_id"))
    }

    /// Returns when the token was issued, in seconds since 1970 by the service's clock.
    pub fn issued(&self) -> Option<f64> {
        self.0.get("iat")?.as_f64()
    }

    /// Returns when it ends, in the same form.
    pub fn end(&self) -> Option<f64> {
        self.0.get("exp")?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::samples::jwt;
    use serde_json::json;

    #[test]
    fn token_subject_unusable_sub_falls_back_to_user_id() {
        let subject = |claims: Value| Claims::of(&jwt(&claims)).unwrap().subject();
        for unusable in [json!(null), json!(""), json!(" "), json!({}), json!(true)] {
            assert_eq!(subject(json!({ "sub": unusable, "user_id": "me" })).as_deref(), Some("me"));
            assert_eq!(subject(json!({ "sub": unusable, "user_id": unusable })), None);
        }
        assert_eq!(subject(json!({ "sub": "you", "user_id": "me" })).as_deref(), Some("you"));
        assert_eq!(subject(json!({ "user_id": 7 })).as_deref(), Some("7"));
        assert!(Claims::of("sk-kimi-1").is_none());
    }
}
