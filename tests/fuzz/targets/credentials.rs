//! Files that hold logins: the official client's, its predecessor's, Pi's.

use std::fs;
use std::path::Path;

use kimi_code::auth::kimi_auth_file::{KimiCodeFile, Stored};
use kimi_code::auth::pi_auth_file::PiAuth;
use kimi_code::auth::token::Tokens;
use kimi_code::auth::token_endpoint::tokens;
use serde_json::{Map, Value};

use super::pieces::parts;

/// Input: a credential file, Pi's `auth.json`, and what a crashed writer left beside the credential file.
///
/// No content prevents writing a login, and content that is not ours is kept.
pub fn credentials(data: &[u8]) {
    let [file, auth, leftover] = parts(data);
    if let Ok(answer) = serde_json::from_slice(file) {
        tokens(&answer).iter().for_each(judge);
    }
    let home = tempfile::tempdir().expect("a folder");
    kimi_code(home.path(), file, leftover);
    pi(home.path(), auth);
}

/// Every query about a login has an answer.
fn judge(tokens: &Tokens) {
    assert!(!(tokens.access.is_empty() && tokens.is_valid()));
    let _ = (tokens.is_due(), tokens.is_valid());
    assert!(tokens.same_account(tokens));
    let others = Tokens { access: "another".to_owned(), refresh: "other".to_owned(), ..tokens.clone() };
    assert_eq!(format!("{tokens:?}"), format!("{others:?}"), "a debug text that depends on a token");
}

fn fresh() -> Tokens {
    Tokens {
        access: "new-access".to_owned(),
        refresh: "new-refresh".to_owned(),
        expires_at_ms: Some(2_000_000_000_000),
        expires_in: Some(900),
        scope: String::new(),
        token_type: String::new(),
    }
}

fn kimi_code(home: &Path, content: &[u8], leftover: &[u8]) {
    let file = KimiCodeFile::new(home, "kimi-code");
    let folder = home.join("credentials");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(file.path(), content).expect("a file");
    let beside = folder.join("kimi-code.json.tmp.1.00000000");
    fs::write(&beside, leftover).expect("a file");
    // Its writer has crashed a while ago.
    let left = fs::File::options().write(true).open(&beside).expect("a file");
    left.set_modified(std::time::UNIX_EPOCH).expect("a date");

    let before = file.read().expect("readable");
    before.tokens().iter().for_each(|tokens| judge(tokens));
    file.recover(None, true);
    if matches!(before, Stored::Login(_) | Stored::Revoked) {
        let recovered = file.read().expect("readable");
        assert!(matches!(recovered, Stored::Login(_) | Stored::Revoked), "recovery loses a login: {recovered:?}");
    }
    assert_eq!(fs::read_dir(&folder).expect("a folder").count(), 1, "nothing is left beside the file");

    let known = object(file.path());
    file.write(&fresh()).expect("writable");
    assert_eq!(file.read().expect("readable").tokens().map(|login| &login.access), Some(&fresh().access));
    let ours = ["access_token", "refresh_token", "expires_at", "expires_in", "scope", "token_type"];
    assert_eq!(without(known, &ours), without(object(file.path()), &ours), "what is not ours stays");
    file.write_tombstone().expect("writable");
    assert_eq!(file.read().expect("readable"), Stored::Revoked);
}

fn pi(agent: &Path, content: &[u8]) {
    let auth = PiAuth::new(agent);
    fs::write(auth.path(), content).expect("a file");
    let Ok(entry) = auth.read() else { return };
    entry.stored.tokens().iter().for_each(|tokens| judge(tokens));
    let known = object(auth.path());
    let written = auth.write(&fresh());
    let after = fs::read(auth.path()).expect("a file");
    match (written, entry.stored) {
        (Ok(()), Stored::Login(_) | Stored::Revoked) => {
            assert_eq!(
                auth.read().expect("readable").stored.tokens().map(|login| &login.refresh),
                Some(&fresh().refresh)
            );
            let provider = ["kimi-coding"];
            assert_eq!(without(known, &provider), without(object(auth.path()), &provider), "what is not ours stays");
        }
        // No login of ours, so nothing to replace.
        _ => assert_eq!(after, content),
    }
}

fn object(path: &Path) -> Map<String, Value> {
    let bytes = fs::read(path).expect("a file");
    serde_json::from_slice(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).unwrap_or_default()
}

fn without(mut object: Map<String, Value>, names: &[&str]) -> Map<String, Value> {
    object.retain(|name, _| !names.contains(&name.as_str()));
    object
}
