//! The index never returns a wrong id, whatever is on disk.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use tempfile::tempdir;

use super::*;
use crate::files::media_item::MediaItem;

fn key() -> Key {
    let text = format!("{:032x}", rand::random::<u128>());
    let digest = MediaItem::new(Bytes::from(text)).info().digest.unwrap();
    Key { digest, media_type: MediaType::named("image/png").unwrap() }
}

fn token(user: &str, serial: u32) -> String {
    let payload = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{user}","jti":{serial}}}"#));
    format!("eyJhbGciOiJub25lIn0.{payload}.signature")
}

fn png(id: &str) -> KnownFile {
    let media_type = MediaType::named("image/png").unwrap();
    KnownFile { id: id.to_owned(), media_type, bytes: 10, path: None }
}

/// An index as another process opens it.
fn open(home: Option<&Path>, account: &str) -> Index {
    Index::new(home, AccountId::new("r", account, None), Arc::default())
}

#[test]
fn account_survives_its_tokens_and_never_equals_another() {
    let root = "https://api.kimi.com/coding";
    assert_eq!(AccountId::new(root, &token("u1", 1), None), AccountId::new(root, &token("u1", 2), None));
    assert_ne!(AccountId::new(root, &token("u1", 1), None), AccountId::new(root, &token("u2", 1), None));
    assert_ne!(
        AccountId::new(root, &token("u1", 1), None),
        AccountId::new("https://api.kimi.ai/coding", &token("u1", 1), None)
    );
    assert_ne!(AccountId::new(root, "sk-1", None), AccountId::new(root, "sk-2", None));
    let name = format!("{:?}", AccountId::new(root, "sk-kimi-secret", None));
    assert!(!name.contains("secret"));
}

#[test]
fn id_outlives_the_process() {
    let home = tempdir().unwrap();
    let key = key();
    assert_eq!(open(Some(home.path()), "k").record(key.digest, png("file-1"), None), "file-1");
    assert_eq!(open(Some(home.path()), "k").find(&key).as_deref(), Some("file-1"));
    assert_eq!(open(Some(home.path()), "other").find(&key), None);
}

#[test]
fn first_recorded_id_counts_until_it_is_stale() {
    let home = tempdir().unwrap();
    let key = key();
    open(Some(home.path()), "k").record(key.digest, png("file-1"), None);
    let index = open(Some(home.path()), "k");
    assert_eq!(index.record(key.digest, png("file-2"), None), "file-1");
    assert_eq!(index.remove(&key, "file-1"), None);
    assert_eq!(index.record(key.digest, png("file-3"), Some("file-1")), "file-3");
    let index = open(Some(home.path()), "k");
    assert_eq!(index.remove(&key, "file-1").as_deref(), Some("file-3"), "another process has replaced it");
}

#[test]
fn damaged_copied_or_foreign_entry_is_ignored() {
    let home = tempdir().unwrap();
    let (key, other_key) = (key(), key());
    let restarted = || open(Some(home.path()), "k");
    let index = restarted();
    index.record(key.digest, png("file-1"), None);
    let (path, other) = (
        index.path(key.digest, key.media_type.kind).unwrap(),
        index.path(other_key.digest, other_key.media_type.kind).unwrap(),
    );
    fs::copy(&path, &other).unwrap();
    assert_eq!(restarted().find(&other_key), None, "the entry of another content");
    let text = fs::read_to_string(&path).unwrap();
    let mut entry: Entry = serde_json::from_str(&text).unwrap();
    entry.created = u64::MAX;
    let eternal = serde_json::to_string(&entry).unwrap();
    for damaged in
        ["", "{", &text[..text.len() / 2], &text.replace("file-1", "../x"), "\u{0}\u{0}", "[]", "\"file-1\"", &eternal]
    {
        fs::write(&path, damaged).unwrap();
        assert_eq!(restarted().find(&key), None, "{damaged:?}");
    }
    assert_eq!(restarted().record(key.digest, png("file-2"), None), "file-2", "and is replaced");
    assert_eq!(restarted().find(&key).as_deref(), Some("file-2"));
}

#[test]
fn directory_that_cannot_be_written_the_process_remembers() {
    let home = tempdir().unwrap();
    fs::write(home.path().join("uploads"), "a file where the directory should be").unwrap();
    let index = open(Some(home.path()), "k");
    let key = key();
    assert_eq!(index.record(key.digest, png("file-1"), None), "file-1");
    assert_eq!(index.find(&key).as_deref(), Some("file-1"));
    let without_home = Index::new(None, AccountId::new("r", "k", None), Arc::clone(&index.known));
    assert_eq!(without_home.find(&key).as_deref(), Some("file-1"));
}

#[test]
fn directory_is_bounded_in_number_and_age() {
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
fn file_id_needs_no_escaping() {
    assert!(is_file_id("d0abc123") && is_file_id("a.b_c-D"));
    assert!(!is_file_id("") && !is_file_id("../a") && !is_file_id("a\"b") && !is_file_id("-a"));
}

#[cfg(unix)]
#[test]
fn pipe_in_place_of_an_entry_is_ignored_at_once_and_replaced() {
    let home = tempdir().unwrap();
    let (key, index) = (key(), open(Some(home.path()), "k"));
    index.prepare().unwrap();
    let entry = index.path(key.digest, key.media_type.kind).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&entry).status().unwrap().success());
    assert_eq!(index.find(&key), None);
    assert_eq!(index.record(key.digest, png("file-1"), None), "file-1");
    assert_eq!(open(Some(home.path()), "k").find(&key).as_deref(), Some("file-1"));
}

#[test]
fn path_of_a_content_is_remembered_and_follows_a_renamed_file() {
    let home = tempdir().unwrap();
    let (key, kind) = (key(), MediaKind::Image);
    let path = |name: &str| home.path().join(name);
    let index = open(Some(home.path()), "k");
    index.record(key.digest, KnownFile { path: Some(path("a.png")), ..png("file-1") }, None);
    let known = open(Some(home.path()), "k").find_content(key.digest, kind).unwrap();
    assert_eq!((known.id.as_str(), known.path), ("file-1", Some(path("a.png"))));
    index.record_path(key.digest, kind, &path("b.png"));
    let known = open(Some(home.path()), "k").find_content(key.digest, kind).unwrap();
    assert_eq!((known.id.as_str(), known.path), ("file-1", Some(path("b.png"))));
    open(Some(home.path()), "other").record_path(key.digest, kind, &path("c.png"));
    assert_eq!(open(Some(home.path()), "other").find_content(key.digest, kind), None);
    index.delete(key.digest, kind);
    assert_eq!(open(Some(home.path()), "k").find_content(key.digest, kind), None);
}
