//! Who somebody is for the service, however their tokens change.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Whose files they are: an opaque name made of API root and account.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Account(pub(super) String);

impl Account {
    /// `credential` is an access token, which names its user, or a static key.
    pub fn new(root: &str, credential: &str) -> Self {
        let identity = match subject(credential) {
            Some(user) => format!("user\0{user}"),
            None => format!("key\0{credential}"),
        };
        let hash: [u8; 32] = Sha256::digest(format!("1\0{root}\0{identity}")).into();
        Self(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// The user that a token says it belongs to. Whether that is true is the service's business.
fn subject(credential: &str) -> Option<String> {
    let mut parts = credential.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()?;
    let subject = claims.get("sub").or_else(|| claims.get("user_id"))?;
    let text = subject.as_str().map_or_else(|| subject.to_string(), str::to_owned);
    (!text.is_empty()).then_some(text)
}
