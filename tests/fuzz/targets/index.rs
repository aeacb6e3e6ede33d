//! Entries of the upload index.

use std::fs;
use std::sync::Arc;

use bytes::Bytes;
use kimi_code::auth::AccountId;
use kimi_code::files::index::{Index, Key, KnownFile, is_file_id};
use kimi_code::files::{Digest, MediaItem};

/// Whatever is in place of an entry, only a well-formed id is returned, and a new id replaces it.
pub fn index(data: &[u8]) {
    let state = tempfile::tempdir().expect("a folder");
    let index =
        Index::new(Some(state.path()), AccountId::new("https://api.kimi.com/coding", "a key", None), Arc::default());
    let key = key();
    index.prepare().expect("a folder");
    let entry = index.claim_path(&key).expect("a path").with_extension("");
    fs::write(&entry, data).expect("a file");

    let found = index.find(&key);
    assert!(found.as_deref().is_none_or(is_file_id), "{found:?}");
    if let Some(stale) = &found {
        assert_eq!(index.remove(&key, stale), None, "a stale id does not come back");
    }
    let file = KnownFile { id: "new-id".to_owned(), media_type: key.media_type, bytes: 3, path: None };
    assert_eq!(index.record(key.digest, file, found.as_deref()), "new-id");
    assert_eq!(index.remove(&key, "another-id").as_deref(), Some("new-id"));
    assert_eq!(index.remove(&key, "new-id"), None);
}

/// The key of a small image.
fn key() -> Key {
    let item = MediaItem::new(Bytes::from_static(b"iVBORw0KGgo"));
    let info = item.info();
    let digest: Digest = info.digest.expect("base64");
    Key { digest, media_type: info.media_type("image/png").expect("an image") }
}
