//! Sample logins for tests of this folder.

use std::fs;
use std::path::PathBuf;

use base64::Engine;
use serde_json::Value;

use super::token::Tokens;

/// Creates a folder that is a home and an agent directory alike; the test removes it.
#[allow(clippy::unwrap_used, reason = "only tests call it")]
pub fn place() -> PathBuf {
    let path = std::env::temp_dir().join(format!("kimi-files-{:016x}", rand::random::<u64>()));
    fs::create_dir_all(path.join("credentials")).unwrap();
    path
}

/// Returns a token with these claims.
pub fn jwt(claims: &Value) -> String {
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("eyJhbGciOiJub25lIn0.{payload}.sig")
}

/// Returns a login whose tokens are opaque.
pub fn tokens() -> Tokens {
    Tokens {
        access: "new-access".into(),
        refresh: "new-refresh".into(),
        expires_at_ms: Some(1_767_225_600_500),
        expires_in: Some(900),
        scope: String::new(),
        token_type: String::new(),
    }
}
