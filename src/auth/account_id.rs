//! Names the account that files in our state folder belong to.
//!
//! Model lists, quotas and uploads of two accounts or two regions must not mix, and must survive the rotation of access tokens.
//! Kimi's access tokens name their user (docs/protocol.md#token-answers). For tokens that do not, each refresh records which
//! token replaced which. Without a record (another program refreshed the login) the new token counts as another account: models
//! are listed and media uploaded once more.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::jwt::Claims;
use crate::process_state::ProcessState;
use crate::storage::private_file::replace;

/// File of the recorded aliases, in our state folder.
const ALIASES_FILE: &str = "logins.json";

/// Aliases that are kept. The oldest go first, which breaks no chain, because each leads to the first token of its login.
const MAX_ALIASES: usize = 100;

/// Hash of a token, and of the first token of its login; oldest first.
type Aliases = Vec<(String, String)>;

/// The aliases recorded or used in this process.
#[derive(Debug, Default)]
struct KnownAliases(Mutex<Aliases>);

/// An account of one deployment: 32 hexadecimal digits that reveal neither user nor credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccountId(String);

impl AccountId {
    /// Names the account behind a static key or an access token. `state` is our state folder; a small file in it may be read.
    pub fn new(root: &str, credential: &str, state: Option<&Path>) -> Self {
        let identity = match Claims::of(credential).and_then(|claims| claims.subject()) {
            Some(user) => format!("user\0{user}"),
            None => format!("key\0{}", first_token(&known_aliases(), state, credential)),
        };
        Self(hash(&format!("1\0{root}\0{identity}")))
    }

    /// Returns the name, which fits into a file name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Records that the access token `new` replaced `old`. Where nothing can be written, only this process knows.
pub fn record_successor(state: Option<&Path>, old: &str, new: &str) {
    record(&known_aliases(), state, old, new);
}

fn known_aliases() -> std::sync::Arc<KnownAliases> {
    ProcessState::shared().get()
}

/// Returns the hash of the first token of the login that `token` belongs to.
fn first_token(known: &KnownAliases, state: Option<&Path>, token: &str) -> String {
    let token = hash(token);
    let mut memory = known.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = find(&memory, &token) {
        return first;
    }
    let Some(first) = state.and_then(|state| find(&read(state), &token)) else { return token };
    add(&mut memory, (token, first.clone()));
    first
}

fn record(known: &KnownAliases, state: Option<&Path>, old: &str, new: &str) {
    let names_user = |token: &str| Claims::of(token).is_some_and(|claims| claims.subject().is_some());
    if old == new || old.is_empty() || names_user(old) || names_user(new) {
        return;
    }
    let alias = (hash(new), first_token(known, state, old));
    add(&mut known.0.lock().unwrap_or_else(PoisonError::into_inner), alias.clone());
    let Some(state) = state else { return };
    let mut aliases = read(state);
    add(&mut aliases, alias);
    let bytes = serde_json::to_vec(&aliases).map_err(std::io::Error::from);
    if let Err(error) = bytes.and_then(|bytes| replace(&state.join(ALIASES_FILE), &bytes)) {
        tracing::info!(%error, "the refreshed token cannot be recorded");
    }
}

fn find(aliases: &Aliases, token: &str) -> Option<String> {
    aliases.iter().find(|(known, _)| known == token).map(|(_, first)| first.clone())
}

fn add(aliases: &mut Aliases, alias: (String, String)) {
    aliases.retain(|(known, _)| *known != alias.0);
    if aliases.len() >= MAX_ALIASES {
        aliases.remove(0);
    }
    aliases.push(alias);
}

/// Reads the recorded aliases. An unreadable file counts as empty.
fn read(state: &Path) -> Aliases {
    fs::read(state.join(ALIASES_FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Returns the hash under which a token may be recorded: 32 hexadecimal digits.
pub(super) fn hash(text: &str) -> String {
    hex::encode(&Sha256::digest(text)[..16])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::samples::jwt;

    fn id(root: &str, credential: &str) -> AccountId {
        AccountId::new(root, credential, None)
    }

    #[test]
    fn account_id_same_after_a_refresh_and_different_for_another_key_or_region() {
        let token = |id: u8| jwt(&json!({ "sub": "sim-user", "jti": id }));
        assert_eq!(id("https://a", &token(1)), id("https://a", &token(2)));
        assert_ne!(id("https://a", &token(1)), id("https://b", &token(1)));
        assert_ne!(id("https://a", "sk-1"), id("https://a", "sk-2"));
        assert!(!id("https://a", "sk-secret").name().contains("secret"));
    }

    #[test]
    fn account_id_of_tokens_without_a_user_same_only_after_a_recorded_refresh() {
        let nameless = |id: u8| jwt(&json!({ "sub": null, "jti": id }));
        assert_ne!(id("https://a", &nameless(1)), id("https://a", &nameless(2)));
        record_successor(None, &nameless(3), &nameless(4));
        assert_eq!(id("https://a", &nameless(3)), id("https://a", &nameless(4)));
        assert_ne!(id("https://a", &nameless(3)), id("https://b", &nameless(4)));
    }

    #[test]
    fn token_aliases_lead_to_the_first_token_of_a_login() {
        let (known, state) = (KnownAliases::default(), tempfile::tempdir().unwrap());
        let state = Some(state.path());
        record(&known, state, "token-1", "token-2");
        record(&known, state, "token-2", "token-3");
        assert_eq!(first_token(&known, state, "token-3"), hash("token-1"));
        assert_eq!(first_token(&known, state, "token-1"), hash("token-1"));
        assert_eq!(first_token(&known, state, "token-other"), hash("token-other"));
    }

    #[test]
    fn token_aliases_read_by_another_process_from_a_file_without_tokens() {
        let state = tempfile::tempdir().unwrap();
        record(&KnownAliases::default(), Some(state.path()), "token-a", "token-b");
        let text = fs::read_to_string(state.path().join(ALIASES_FILE)).unwrap();
        assert!(!text.contains("token"), "{text}");
        assert_eq!(first_token(&KnownAliases::default(), Some(state.path()), "token-b"), hash("token-a"));
    }

    #[test]
    fn token_aliases_damaged_file_is_replaced_and_missing_folder_is_no_error() {
        let (known, state) = (KnownAliases::default(), tempfile::tempdir().unwrap());
        fs::write(state.path().join(ALIASES_FILE), "{ broken").unwrap();
        record(&known, Some(state.path()), "token-x", "token-y");
        assert_eq!(read(state.path()), [(hash("token-y"), hash("token-x"))]);
        record(&known, None, "token-y", "token-z");
        assert_eq!(first_token(&known, None, "token-z"), hash("token-x"));
    }

    #[test]
    fn token_aliases_not_recorded_for_tokens_that_name_their_user() {
        let (known, state) = (KnownAliases::default(), tempfile::tempdir().unwrap());
        let named = |id: u8| jwt(&json!({ "sub": "me", "jti": id }));
        record(&known, Some(state.path()), &named(1), &named(2));
        record(&known, Some(state.path()), "token-opaque", &named(3));
        assert!(read(state.path()).is_empty());
    }

    #[test]
    fn token_aliases_number_is_bounded() {
        let mut aliases = Aliases::new();
        (0..3 * MAX_ALIASES).for_each(|at| add(&mut aliases, (hash(&at.to_string()), hash("first"))));
        assert_eq!(aliases.len(), MAX_ALIASES);
    }
}
