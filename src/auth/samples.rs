//! What the tests of the credential files start from.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use serde_json::Value;

use super::token::Tokens;

/// A new folder that is a home and an agent directory alike; whoever asks removes it.
#[allow(clippy::unwrap_used, reason = "only tests call it")]
pub fn place() -> PathBuf {
    let path = std::env::temp_dir().join(format!("kimi-files-{:016x}", rand::random::<u64>()));
    fs::create_dir_all(path.join("credentials")).unwrap();
    path
}

/// A token that says this about itself.
pub fn jwt(claims: &Value) -> String {
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOiJub25lIn0.{payload}.sig")
}

/// A login whose tokens tell nothing about themselves.
pub fn tokens() -> Tokens {
    Tokens {
        access: "new-access".into(),
        refresh: "new-refresh".into(),
        expires_at_ms: 1_767_225_600_500,
        expires_in: 900,
        scope: String::new(),
        token_type: String::new(),
    }
}
