//! One image or video: its bytes and what was found out about them.
//!
//! Decoding and hashing megabytes is done once per content, not once per turn: JavaScript keeps a handle to a [`MediaItem`]
//! beside its image and passes only that from the second turn on. Once the service holds the content, our copy is
//! dropped; should it be needed again, JavaScript passes it again, and the digest says whether it is the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use super::base64_stream::Base64Stream;
use super::media_info::{Digest, MediaInfo};
use super::media_type::{MAX_FILE, MediaKind};
use crate::process_state::ProcessState;

/// Longest text worth fetching, in characters: the largest file in base64, and a tenth more for line breaks.
const MAX_TEXT: usize = (MAX_FILE / 3 * 4 + MAX_FILE / 10) as usize;

/// An image or video that JavaScript has handed over.
pub struct MediaItem {
    /// Characters of the text that JavaScript has.
    length: usize,
    content: Mutex<Content>,
    info: OnceLock<MediaInfo>,
}

enum Content {
    /// Only JavaScript has it: not fetched yet, or released.
    InJavaScript,
    /// Base64 as JavaScript passed it.
    Text(Bytes),
    Decoded(Bytes),
}

impl fmt::Debug for MediaItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaItem").field("info", &self.info.get()).finish_non_exhaustive()
    }
}

impl MediaItem {
    /// Takes base64 text, or a whole data URL.
    pub fn new(text: Bytes) -> Arc<Self> {
        Arc::new(Self { length: text.len(), content: Mutex::new(Content::Text(text)), info: OnceLock::new() })
    }

    /// Announces a text of so many characters that has yet to be fetched. Fetch it before asking for anything but
    /// [`Self::is_awaited`].
    pub fn announced(length: usize) -> Arc<Self> {
        let info = OnceLock::new();
        if length > MAX_TEXT {
            let _ = info.set(MediaInfo { bytes: length as u64 / 4 * 3, ..MediaInfo::unreadable() });
        }
        Arc::new(Self { length, content: Mutex::new(Content::InJavaScript), info })
    }

    /// Whether it was announced and not fetched yet.
    pub fn is_awaited(&self) -> bool {
        self.info.get().is_none() && matches!(*self.lock(), Content::InJavaScript)
    }

    /// Returns the number of characters that JavaScript has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Describes the content. The first call may read a text of some hundred kilobytes.
    pub fn info(self: &Arc<Self>) -> &MediaInfo {
        if let Some(info) = self.info.get() {
            return info;
        }
        let text = match &*self.lock() {
            Content::Text(text) => text.clone(),
            Content::InJavaScript | Content::Decoded(_) => Bytes::new(),
        };
        let mut stream = Base64Stream::new(text.len());
        stream.feed(&text);
        self.accept(stream);
        self.info.get_or_init(MediaInfo::unreadable)
    }

    /// Returns the bytes, unless they were released.
    pub fn content(self: &Arc<Self>) -> Option<Bytes> {
        self.info();
        if let Content::Decoded(bytes) = &*self.lock() { Some(bytes.clone()) } else { None }
    }

    /// Drops our copy of a content that the service holds.
    pub fn release(&self) {
        if self.info.get().is_some_and(|info| info.digest.is_some()) {
            *self.lock() = Content::InJavaScript;
        }
    }

    /// Takes a decoded text, for the first time or again. Returns false if it is not the same content.
    pub fn accept(self: &Arc<Self>, stream: Base64Stream) -> bool {
        let (bytes, info) = stream.finish();
        // Another turn may have fetched it meanwhile.
        let known = self.info.get_or_init(|| info.clone());
        let same = known.digest == info.digest;
        if same {
            let shared = ProcessState::shared().get::<SharedContents>();
            let bytes = info.digest.map_or_else(Bytes::new, |digest| shared.share(digest, bytes, self));
            *self.lock() = Content::Decoded(bytes);
        }
        same
    }

    /// Nothing is left half-changed while the lock is held, so a panic elsewhere does not spoil the content.
    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets equal contents share one copy: sub-agents show the same screenshot, and Pi clones contexts. Holds one weak reference
/// per content that is alive.
#[derive(Default)]
struct SharedContents(Mutex<HashMap<Digest, Weak<MediaItem>>>);

impl SharedContents {
    /// Returns the copy that another item with this content holds, else `bytes`.
    fn share(&self, digest: Digest, bytes: Bytes, item: &Arc<MediaItem>) -> Bytes {
        let mut alive = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = alive.get(&digest).and_then(Weak::upgrade)
            && !Arc::ptr_eq(&other, item)
            && let Content::Decoded(content) = &*other.lock()
        {
            return content.clone();
        }
        alive.retain(|_, item| item.strong_count() > 0);
        alive.insert(digest, Arc::downgrade(item));
        bytes
    }
}

/// Returns the text that stands in place of an image or video without usable content.
pub fn omitted(kind: MediaKind, why: &str) -> String {
    format!("({} omitted: {why})", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> MediaInfo {
        MediaItem::new(Bytes::copy_from_slice(text.as_bytes())).info().clone()
    }

    const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

    #[test]
    fn digest_padding_white_space_alphabet_and_data_urls_make_no_difference() {
        let digest = info(PNG).digest;
        assert!(digest.is_some());
        for text in [
            "iVBORw0KGgoAAAANSUhEUg",
            "iVBORw0KGgo\nAAAANSUhEUg==\n",
            "data:image/png;charset=x;base64,iVBORw0KGgoAAAANSUhEUg==",
            "DATA:image/png;BASE64,iVBORw0KGgoAAAANSUhEUg==",
        ] {
            assert_eq!(info(text).digest, digest, "{text}");
        }
        assert_eq!(info(PNG).bytes, 16);
        assert_eq!(info(PNG).inline_length(), 24);
    }

    #[test]
    fn media_type_the_bytes_outrank_the_declared_type() {
        assert_eq!(info(PNG).media_type("image/jpeg").unwrap().mime, "image/png");
        assert_eq!(info("AAAA").media_type("image/jpg").unwrap().mime, "image/jpeg");
        assert_eq!(info("data:video/webm;base64,AAAA").media_type("").unwrap().mime, "video/webm");
    }

    #[test]
    fn media_type_unusable_content_says_why() {
        let why = |text: &str| info(text).media_type("application/x-thing").unwrap_err();
        assert_eq!(why("no base64!"), "its data is not base64");
        assert_eq!(why("AAAAA"), "its data is not base64");
        assert_eq!(why("data:image/svg+xml,%3Csvg"), "its data is not base64");
        assert_eq!(why(""), "it has no data");
        assert_eq!(why("JVBERi0xLjc="), "it is a PDF, which Kimi does not take");
        assert_eq!(why("AAAA"), "Kimi does not take \"application/x-thing\"");
    }

    fn read(text: &'static str) -> Base64Stream {
        let mut stream = Base64Stream::new(text.len());
        stream.feed(text.as_bytes());
        stream
    }

    #[test]
    fn released_content_comes_back_only_as_itself() {
        let item = MediaItem::new(Bytes::from_static(PNG.as_bytes()));
        let before = item.content().unwrap();
        item.release();
        assert_eq!(item.content(), None);
        assert!(!item.accept(read("AAAA")));
        assert!(!item.accept(read("no base64!")));
        assert_eq!(item.content(), None);
        assert!(item.accept(read(PNG)));
        assert_eq!(item.content(), Some(before));
    }

    #[test]
    fn announced_content_is_what_arrives_first() {
        let item = MediaItem::announced(PNG.len());
        assert!(item.is_awaited());
        assert!(item.accept(read(PNG)));
        assert!(!item.is_awaited());
        assert_eq!(item.info().digest, info(PNG).digest);
        assert!(!item.accept(read("AAAA")));
    }

    #[test]
    fn announced_content_far_too_long_is_never_fetched() {
        let item = MediaItem::announced(300_000_000);
        assert!(!item.is_awaited());
        assert!(item.info().media_type("video/mp4").unwrap_err().contains("it is 225.0 MB"));
    }

    #[test]
    fn equal_contents_share_one_copy() {
        let item = || MediaItem::new(Bytes::from(b"iVBORw0KGgoAAAANSUhEUshared00".to_vec()));
        let (first, second) = (item(), item());
        first.info();
        second.info();
        assert_eq!(first.content().unwrap().as_ptr(), second.content().unwrap().as_ptr());
    }
}
