//! Which access tokens belong to one login, where the tokens do not say whose they are.
//!
//! Kimi's access tokens name their user (docs/protocol.md#token-answers). Where they do not, all that is kept per account would
//! be lost with each rotation, so every exchange leaves a note which token came after which. A missing note (a program that knows
//! nothing of ours exchanged the token) costs asking and uploading again. None is ever guessed: two accounts must not meet.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::jwt::Claims;
use crate::storage::private_file::replace;

/// File name in our state folder.
const FILE: &str = "logins.json";

/// Notes that are kept; the oldest ones go first. Each leads to the first token, so a chain needs none but its last.
const MAX_NOTES: usize = 100;

/// Hash of a token, and of the first token of its login; oldest first.
type Notes = Vec<(String, String)>;

/// What names the login of `token` for as long as it is exchanged: a hash of its first token. `state` is our state folder.
pub fn first(state: Option<&Path>, token: &str) -> String {
    let token = hash(token);
    if let Some(first) = find(&memory(), &token) {
        return first;
    }
    let Some(first) = state.and_then(|state| find(&read(state), &token)) else { return token };
    keep(&mut memory(), (token, first.clone()));
    first
}

/// Notes that `new` came in the place of `old`. Without a place to write only this process knows.
pub fn succeed(state: Option<&Path>, old: &str, new: &str) {
    let speaks = |token: &str| Claims::of(token).is_some_and(|claims| claims.subject().is_some());
    if old == new || old.is_empty() || speaks(old) || speaks(new) {
        return;
    }
    let note = (hash(new), first(state, old));
    keep(&mut memory(), note.clone());
    let Some(state) = state else { return };
    let mut notes = read(state);
    keep(&mut notes, note);
    let written = serde_json::to_vec(&notes).map_err(Into::into).and_then(|bytes| replace(&state.join(FILE), &bytes));
    if let Err(error) = written {
        tracing::debug!(%error, "the exchanged token cannot be noted");
    }
}

fn find(notes: &Notes, token: &str) -> Option<String> {
    notes.iter().find(|(known, _)| known == token).map(|(_, first)| first.clone())
}

fn keep(notes: &mut Notes, note: (String, String)) {
    notes.retain(|(known, _)| *known != note.0);
    if notes.len() >= MAX_NOTES {
        notes.remove(0);
    }
    notes.push(note);
}

/// A file that cannot be read is as good as none.
fn read(state: &Path) -> Notes {
    fs::read(state.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Notes of this process. Tokens are unique, so accounts and sessions cannot mix here.
fn memory() -> MutexGuard<'static, Notes> {
    static MEMORY: Mutex<Notes> = Mutex::new(Vec::new());
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A name of 32 hexadecimal digits that leads back to nothing.
pub fn hash(text: &str) -> String {
    let hash: [u8; 32] = Sha256::digest(text).into();
    hash[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::samples::jwt;

    #[test]
    fn tokens_of_one_login_lead_to_its_first_one() {
        let state = tempfile::tempdir().unwrap();
        let state = Some(state.path());
        succeed(state, "lineage-1", "lineage-2");
        succeed(state, "lineage-2", "lineage-3");
        assert_eq!(first(state, "lineage-3"), hash("lineage-1"));
        assert_eq!(first(state, "lineage-1"), hash("lineage-1"));
        assert_eq!(first(state, "lineage-other"), hash("lineage-other"));
    }

    #[test]
    fn another_process_learns_it_from_the_file_which_holds_no_token() {
        let state = tempfile::tempdir().unwrap();
        succeed(Some(state.path()), "lineage-a", "lineage-b");
        let text = fs::read_to_string(state.path().join(FILE)).unwrap();
        assert!(!text.contains("lineage"), "{text}");
        // Only this note: other tests of this process have theirs.
        memory().retain(|(known, _)| *known != hash("lineage-b"));
        assert_eq!(first(Some(state.path()), "lineage-b"), hash("lineage-a"));
    }

    #[test]
    fn a_damaged_file_is_replaced_and_a_missing_place_is_no_error() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join(FILE), "{ broken").unwrap();
        succeed(Some(state.path()), "lineage-x", "lineage-y");
        assert_eq!(read(state.path()), [(hash("lineage-y"), hash("lineage-x"))]);
        succeed(None, "lineage-y", "lineage-z");
        assert_eq!(first(None, "lineage-z"), hash("lineage-x"));
    }

    #[test]
    fn tokens_that_name_their_user_need_no_note() {
        let state = tempfile::tempdir().unwrap();
        let named = |id: u8| jwt(&json!({ "sub": "me", "jti": id }));
        succeed(Some(state.path()), &named(1), &named(2));
        succeed(Some(state.path()), "lineage-opaque", &named(3));
        assert!(read(state.path()).is_empty());
    }

    #[test]
    fn the_file_does_not_grow_without_end() {
        let mut notes = Notes::new();
        (0..3 * MAX_NOTES).for_each(|at| keep(&mut notes, (hash(&at.to_string()), hash("first"))));
        assert_eq!(notes.len(), MAX_NOTES);
    }
}
