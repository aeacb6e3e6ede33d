//! What a token says about itself: whose it is, and when it was issued and ends.
//!
//! Access tokens are JWTs (docs/protocol.md#token-answers). Nobody here verifies them: whether a claim is true is the service's
//! business, and all that depends on it is which of two files is read, never what is allowed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

/// The payload of a JWT.
#[derive(Debug)]
pub struct Claims(Value);

impl Claims {
    /// `None` for whatever is no JWT: static keys, opaque tokens.
    pub fn of(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok().map(Self)
    }

    /// The user it belongs to: `sub`, else `user_id`. One that is empty, or neither text nor number, names nobody; else all
    /// nameless ones would be the same person.
    pub fn subject(&self) -> Option<String> {
        let name = |claim: &str| match self.0.get(claim)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        name("sub").or_else(|| name("user_id"))
    }

    /// When it was issued, in seconds since 1970 by the service's clock.
    pub fn issued(&self) -> Option<f64> {
        self.0.get("iat")?.as_f64()
    }

    /// When it ends, in the same form.
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
    fn a_subject_that_names_nobody_leaves_it_to_the_user_id() {
        let subject = |claims: Value| Claims::of(&jwt(&claims)).unwrap().subject();
        for nobody in [json!(null), json!(""), json!(" "), json!({}), json!(true)] {
            assert_eq!(subject(json!({ "sub": nobody, "user_id": "me" })).as_deref(), Some("me"));
            assert_eq!(subject(json!({ "sub": nobody, "user_id": nobody })), None);
        }
        assert_eq!(subject(json!({ "sub": "you", "user_id": "me" })).as_deref(), Some("you"));
        assert_eq!(subject(json!({ "user_id": 7 })).as_deref(), Some("7"));
        assert!(Claims::of("sk-kimi-1").is_none());
    }
}
