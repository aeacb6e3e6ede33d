//! Pi's `auth.json` (docs/pi-contract.md#auth-file), of which one entry is ours. The rules of [`super::kimi_auth_file`] apply here
//! as well.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::kimi_auth_file::{JsonFile, Stored, io_error, number, pretty, reserve, text};
use super::token::Tokens;
use crate::endpoint::CredentialScope;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::private_file;

/// Pi's name for this provider.
const PROVIDER: &str = "kimi-coding";

/// Pi's `auth.json`.
#[derive(Debug, Clone)]
pub struct PiAuth {
    path: PathBuf,
}

/// Our entry in `auth.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct PiEntry {
    /// The credential.
    pub stored: Stored,
    /// OAuth host the login came from, where it is not the default one.
    pub oauth_host: Option<String>,
    /// API root the login is for, where it is not the default one.
    pub base_url: Option<String>,
}

impl PiAuth {
    /// Names `<agent dir>/auth.json`.
    pub fn new(agent_dir: &Path) -> Self {
        Self { path: agent_dir.join("auth.json") }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads our entry.
    pub fn read(&self) -> Result<PiEntry> {
        let none = |stored| Ok(PiEntry { stored, oauth_host: None, base_url: None });
        let object = match JsonFile::read(&self.path)? {
            JsonFile::Object(object) => object,
            JsonFile::Missing => return none(Stored::Absent),
            JsonFile::Invalid(reason) => return none(Stored::Unusable(reason)),
        };
        match object.get(PROVIDER) {
            None => none(Stored::Absent),
            Some(Value::Object(entry)) => Ok(pi_entry(entry)),
            Some(_) => none(Stored::Unusable(format!("{} has an unreadable {PROVIDER} entry", self.path.display()))),
        }
    }

    /// Reads the key of our entry, as it stands there; `None` if the entry is missing or something else.
    pub fn key(&self) -> Result<Option<String>> {
        let JsonFile::Object(object) = JsonFile::read(&self.path)? else { return Ok(None) };
        let Some(Value::Object(entry)) = object.get(PROVIDER) else { return Ok(None) };
        let is_key = entry.get("type").and_then(Value::as_str) == Some("api_key");
        Ok(is_key.then(|| text(entry, "key")).filter(|key| !key.is_empty()))
    }

    /// Whether our entry can be replaced now: `Ok(false)` where this user may not write at all, an error where there is no
    /// room.
    pub fn is_writable(&self) -> Result<bool> {
        Ok(reserve(&self.path)?.is_some())
    }

    /// Replaces the tokens of our entry, which must still be a login: a user may have logged out meanwhile.
    pub fn write(&self, tokens: &Tokens) -> Result<()> {
        let mut object = match JsonFile::read(&self.path)? {
            JsonFile::Object(object) => object,
            JsonFile::Missing => return Ok(()),
            JsonFile::Invalid(reason) => {
                return Err(Error::new(ErrorKind::Io, format!("{reason}; it was left untouched")));
            }
        };
        let Some(Value::Object(entry)) = object.get_mut(PROVIDER) else { return Ok(()) };
        if entry.get("type").and_then(Value::as_str) != Some("oauth") {
            return Ok(());
        }
        for (name, value) in [
            ("access", Value::from(tokens.access.as_str())),
            ("refresh", tokens.refresh.as_str().into()),
            ("expires", tokens.expires_at_ms.unwrap_or(0).into()),
        ] {
            entry.insert(name.to_owned(), value);
        }
        private_file::replace(&self.path, pretty(&object)?.as_bytes())
            .map_err(|error| io_error("cannot be written", &self.path, &error))
    }
}

/// Reads one credential in Pi's form.
pub fn pi_entry(entry: &Map<String, Value>) -> PiEntry {
    let stored = match entry.get("type").and_then(Value::as_str) {
        Some("api_key") => Stored::StaticKey,
        Some("oauth") => {
            let tokens = Tokens {
                access: text(entry, "access"),
                refresh: text(entry, "refresh"),
                expires_at_ms: number(entry.get("expires")).map(|end| end as i64),
                expires_in: None,
                scope: String::new(),
                token_type: String::new(),
            };
            if tokens.refresh.is_empty() && tokens.access.is_empty() { Stored::Revoked } else { Stored::Login(tokens) }
        }
        _ => Stored::Unusable(format!("the {PROVIDER} entry of auth.json has no known type")),
    };
    let recorded = |name: &str| Some(text(entry, name)).filter(|text| !text.is_empty());
    PiEntry { stored, oauth_host: recorded("oauthHost"), base_url: recorded("baseUrl") }
}

/// Writes a login in Pi's form. Hosts are recorded unless they are the default ones, so that a token is never sent to another host.
pub fn to_pi_entry(tokens: &Tokens, scope: &CredentialScope) -> Value {
    let mut entry = json!({
        "type": "oauth", "access": tokens.access, "refresh": tokens.refresh, "expires": tokens.expires_at_ms.unwrap_or(0),
    });
    if !scope.is_default() {
        entry["oauthHost"] = scope.oauth_host().into();
        entry["baseUrl"] = scope.base_url().into();
    }
    entry
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::auth::samples::{place, tokens};

    #[test]
    fn auth_json_other_providers_and_unknown_members_are_kept() {
        let home = place();
        let pi = PiAuth::new(&home);
        let before = r#"{"anthropic":{"type":"api_key","key":"k"},"kimi-coding":{"type":"oauth","access":"a","refresh":"r","expires":5,"modelCatalog":{"k3":{}}},"z":1}"#;
        fs::write(pi.path(), before).unwrap();
        pi.write(&tokens()).unwrap();
        let after: Value = serde_json::from_str(&fs::read_to_string(pi.path()).unwrap()).unwrap();
        assert_eq!(after["anthropic"]["key"], "k");
        assert_eq!(after["kimi-coding"]["modelCatalog"], json!({"k3": {}}));
        assert_eq!(after["kimi-coding"]["access"], "new-access");
        assert_eq!(after["z"], 1);
        assert_eq!(pi.read().unwrap().stored.tokens().unwrap().expires_at_ms, Some(1_767_225_600_500));
        fs::remove_dir_all(home).unwrap();
    }

    #[test]
    fn auth_json_with_a_logout_a_static_key_or_broken_text_is_not_overwritten() {
        let home = place();
        let pi = PiAuth::new(&home);
        for content in ["{}", r#"{"kimi-coding":{"type":"api_key","key":"sk"}}"#] {
            fs::write(pi.path(), content).unwrap();
            pi.write(&tokens()).unwrap();
            assert_eq!(fs::read_to_string(pi.path()).unwrap(), content);
        }
        fs::write(pi.path(), "{ broken").unwrap();
        assert!(pi.write(&tokens()).unwrap_err().message.contains("left untouched"));
        assert_eq!(fs::read_to_string(pi.path()).unwrap(), "{ broken");
        fs::remove_dir_all(home).unwrap();
    }
}
