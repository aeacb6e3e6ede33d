//! What the index promises: never a wrong id, whatever lies on the disk.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tempfile::tempdir;

use super::*;
use crate::files::media::MediaItem;

fn key() -> Key {
    let text = format!("{:032x}", rand::random::<u128>());
    let digest = MediaItem::new(Bytes::from(text)).facts().digest.unwrap();
    Key { digest, media_type: MediaType::named("image/png").unwrap() }
}

fn token(user: &str, serial: u32) -> String {
    let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{user}","jti":{serial}}}"#));
    format!("eyJhbGciOiJub25lIn0.{payload}.signature")
}

/// What another process sees of a content. The other tests of this process keep what they remember.
fn restart(key: &Key) {
    remembered().retain(|(_, known), _| known != key);
}

#[test]
fn the_account_survives_its_tokens_and_never_meets_another() {
    let root = "https://api.kimi.com/coding";
    assert_eq!(Account::new(root, &token("u1", 1), None), Account::new(root, &token("u1", 2), None));
    assert_ne!(Account::new(root, &token("u1", 1), None), Account::new(root, &token("u2", 1), None));
    assert_ne!(
        Account::new(root, &token("u1", 1), None),
        Account::new("https://api.kimi.ai/coding", &token("u1", 1), None)
    );
    assert_ne!(Account::new(root, "sk-1", None), Account::new(root, "sk-2", None));
    let name = format!("{:?}", Account::new(root, "sk-kimi-secret", None));
    assert!(!name.contains("secret"));
}

#[test]
fn an_id_outlives_the_process() {
    let home = tempdir().unwrap();
    let (key, account) = (key(), Account::new("r", "k", None));
    let index = Index::new(Some(home.path()), account.clone());
    assert_eq!(index.record(&key, "file-1", 10, None), "file-1");
    restart(&key);
    assert_eq!(index.find(&key).as_deref(), Some("file-1"));
    assert_eq!(Index::new(Some(home.path()), Account::new("r", "other", None)).find(&key), None);
}

#[test]
fn who_records_first_counts_until_the_id_is_stale() {
    let home = tempdir().unwrap();
    let (key, account) = (key(), Account::new("r", "k", None));
    let index = Index::new(Some(home.path()), account);
    index.record(&key, "file-1", 10, None);
    restart(&key);
    assert_eq!(index.record(&key, "file-2", 10, None), "file-1");
    assert_eq!(index.remove(&key, "file-1"), None);
    assert_eq!(index.record(&key, "file-3", 10, Some("file-1")), "file-3");
    restart(&key);
    assert_eq!(index.remove(&key, "file-1").as_deref(), Some("file-3"), "another process has replaced it");
}

#[test]
fn a_damaged_copied_or_foreign_entry_is_not_believed() {
    let home = tempdir().unwrap();
    let (ours, theirs, account) = (key(), key(), Account::new("r", "k", None));
    let index = Index::new(Some(home.path()), account);
    index.record(&ours, "file-1", 10, None);
    let (path, other) = (index.path(&ours).unwrap(), index.path(&theirs).unwrap());
    fs::copy(&path, &other).unwrap();
    restart(&theirs);
    assert_eq!(index.find(&theirs), None, "the entry of another content");
    let text = fs::read_to_string(&path).unwrap();
    let mut entry: Entry = serde_json::from_str(&text).unwrap();
    entry.created = u64::MAX;
    let eternal = serde_json::to_string(&entry).unwrap();
    for damaged in
        ["", "{", &text[..text.len() / 2], &text.replace("file-1", "../x"), "\u{0}\u{0}", "[]", "\"file-1\"", &eternal]
    {
        fs::write(&path, damaged).unwrap();
        restart(&ours);
        assert_eq!(index.find(&ours), None, "{damaged:?}");
    }
    assert_eq!(index.record(&ours, "file-2", 10, None), "file-2", "and is replaced");
    restart(&ours);
    assert_eq!(index.find(&ours).as_deref(), Some("file-2"));
}

#[test]
fn a_directory_that_cannot_be_written_costs_only_memory() {
    let home = tempdir().unwrap();
    fs::write(home.path().join("uploads"), "a file where the directory should be").unwrap();
    let index = Index::new(Some(home.path()), Account::new("r", "k", None));
    let key = key();
    assert_eq!(index.record(&key, "file-1", 10, None), "file-1");
    assert_eq!(index.find(&key).as_deref(), Some("file-1"));
    assert_eq!(Index::new(None, Account::new("r", "k", None)).find(&key).as_deref(), Some("file-1"));
}

#[test]
fn the_directory_is_bounded_in_number_and_age() {
    let home = tempdir().unwrap();
    let aged = |name: &str, age: Duration| {
        let path = home.path().join(name);
        fs::write(&path, "x").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    };
    let hour = Duration::from_secs(3600);
    aged("ancient", MAX_AGE + hour);
    aged("old", hour * 5);
    aged("newer", hour * 4);
    aged("newest", hour);
    aged("left.lock", hour * 2);
    aged("fresh.tmp", Duration::ZERO);
    prune(home.path(), 2);
    let mut left: Vec<String> =
        fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["fresh.tmp", "newer", "newest"]);
}

#[test]
fn an_id_is_something_that_needs_no_escaping() {
    assert!(is_file_id("d0abc123") && is_file_id("a.b_c-D"));
    assert!(!is_file_id("") && !is_file_id("../a") && !is_file_id("a\"b") && !is_file_id("-a"));
}
