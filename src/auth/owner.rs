//! Whose something is that we keep on disk: an opaque name made of API root and account.
//!
//! Lists, quotas and uploads of two accounts or two regions must never meet, and must survive the access tokens, which rotate every
//! few minutes. The credential itself never touches our files.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner(String);

impl Owner {
    /// `credential` is an access token, which names its user, or a static key.
    pub fn new(root: &str, credential: &str) -> Self {
        let identity = match subject(credential) {
            Some(user) => format!("user\0{user}"),
            None => format!("key\0{credential}"),
        };
        let hash: [u8; 32] = Sha256::digest(format!("1\0{root}\0{identity}")).into();
        Self(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The name, fit for a file.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// The user that a token says it belongs to (it is a JWT, kimi-code-2.1 §3.2). Whether that is true is the service's business.
fn subject(credential: &str) -> Option<String> {
    let mut parts = credential.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let subject = claims.get("sub").or_else(|| claims.get("user_id"))?;
    let text = subject.as_str().map_or_else(|| subject.to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotated_token_is_the_same_account_and_another_key_or_region_is_not() {
        // {"sub":"sim-user"} and {"sub":"sim-user","jti":"2"}
        let (first, second) = ("x.eyJzdWIiOiJzaW0tdXNlciJ9.y", "x.eyJzdWIiOiJzaW0tdXNlciIsImp0aSI6IjIifQ.z");
        assert_eq!(Owner::new("https://a", first), Owner::new("https://a", second));
        assert_ne!(Owner::new("https://a", first), Owner::new("https://b", first));
        assert_ne!(Owner::new("https://a", "sk-1"), Owner::new("https://a", "sk-2"));
        assert!(!Owner::new("https://a", "sk-secret").name().contains("secret"));
    }
}
