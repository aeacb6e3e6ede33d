//! Entries of the upload index.

use std::fs;

use bytes::Bytes;
use kimi_code::files::index::{Account, Index, Key, is_file_id};
use kimi_code::files::{Digest, MediaItem};

/// Whatever is in place of an entry: an id that is accepted is valid, and a new id replaces it.
pub fn index(data: &[u8]) {
    let state = tempfile::tempdir().expect("a folder");
    let index = Index::new(Some(state.path()), Account::new("https://api.kimi.com/coding", "a key", None));
    let key = key();
    index.prepare().expect("a folder");
    let entry = index.claim_path(&key).expect("a place").with_extension("");
    fs::write(&entry, data).expect("a file");

    let found = index.find(&key);
    assert!(found.as_deref().is_none_or(is_file_id), "{found:?}");
    if let Some(stale) = &found {
        assert_eq!(index.remove(&key, stale), None, "a stale id does not come back");
    }
    assert_eq!(index.record(&key, "new-id", 3, found.as_deref()), "new-id");
    assert_eq!(index.remove(&key, "another-id").as_deref(), Some("new-id"));
    assert_eq!(index.remove(&key, "new-id"), None);
}

/// A small image.
fn key() -> Key {
    let medium = MediaItem::new(Bytes::from_static(b"iVBORw0KGgo"));
    let facts = medium.facts();
    let digest: Digest = facts.digest.expect("base64");
    Key { digest, media_type: facts.media_type("image/png").expect("a picture") }
}
