//! One image or video: its bytes and what was found out about them.
//!
//! Decoding and hashing megabytes is done once per content, not once per turn: JavaScript keeps a handle to a [`MediaItem`]
//! beside its image and passes only that from the second turn on. Once the service holds the content, our copy is
//! dropped; should it be needed again, JavaScript passes it again, and the digest says whether it is the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::base64_stream::Base64Stream;
use super::media_type::{MAX_FILE, MediaKind, MediaType, Sniffed, sniff};
use super::readable;

/// Texts longer than this are too large whatever is in them: a tenth more than base64 needs, for line breaks.
const HOPELESS: usize = (MAX_FILE / 3 * 4 + MAX_FILE / 10) as usize;

/// SHA-256 of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl From<Sha256> for Digest {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known about a content for good.
#[derive(Debug, Clone)]
pub struct MediaInfo {
    /// Identity of the content; `None` if the text is no base64, or far too long to look at.
    pub digest: Option<Digest>,
    /// Size.
    pub bytes: u64,
    pub(super) sniffed: Sniffed,
    /// Type named by a data URL.
    pub(super) declared: Option<MediaType>,
}

impl MediaInfo {
    /// Of a file.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Digest::from(Sha256::new().chain_update(bytes));
        Self { digest: Some(digest), bytes: bytes.len() as u64, sniffed: sniff(bytes), declared: None }
    }

    /// Of a text that is no base64.
    pub(super) fn unreadable() -> Self {
        Self { digest: None, bytes: 0, sniffed: Sniffed::Unknown, declared: None }
    }

    /// Length of the base64 text as it is sent inline.
    pub fn text(&self) -> u64 {
        self.bytes.div_ceil(3) * 4
    }

    /// The type to send it as, or why it cannot be sent. `declared` is the MIME type that Pi names.
    pub fn media_type(&self, declared: &str) -> Result<MediaType, String> {
        if self.bytes > MAX_FILE {
            return Err(format!("it has {}, Kimi takes at most {}", readable(self.bytes), readable(MAX_FILE)));
        }
        if self.digest.is_none() {
            return Err("its data is not base64".to_owned());
        }
        if self.bytes == 0 {
            return Err("it has no data".to_owned());
        }
        match self.sniffed {
            Sniffed::RequestContext(known) => Ok(known),
            Sniffed::Foreign(what) => Err(format!("it is {what}, which Kimi does not take")),
            Sniffed::Unknown => MediaType::named(declared).or(self.declared).ok_or_else(|| match declared.trim() {
                "" => "nothing tells its type".to_owned(),
                named => format!("Kimi does not take {:?}", named.to_ascii_lowercase()),
            }),
        }
    }
}

/// An image or video that JavaScript has handed over.
pub struct MediaItem {
    /// Characters that JavaScript has.
    length: usize,
    content: Mutex<Content>,
    facts: OnceLock<MediaInfo>,
}

enum Content {
    /// JavaScript has it, we do not: not yet, or not any more.
    Elsewhere,
    /// As JavaScript passed it.
    Text(Bytes),
    Read(Bytes),
}

impl fmt::Debug for MediaItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium").field("facts", &self.facts.get()).finish_non_exhaustive()
    }
}

impl MediaItem {
    /// Takes base64 text, or a whole data URL.
    pub fn new(text: Bytes) -> Arc<Self> {
        Arc::new(Self { length: text.len(), content: Mutex::new(Content::Text(text)), facts: OnceLock::new() })
    }

    /// A media_item whose text of so many characters has yet to be fetched; nothing may be asked of it while
    /// [`Self::is_awaited`].
    pub fn announced(length: usize) -> Arc<Self> {
        let facts = OnceLock::new();
        if length > HOPELESS {
            let _ = facts.set(MediaInfo { bytes: length as u64 / 4 * 3, ..MediaInfo::unreadable() });
        }
        Arc::new(Self { length, content: Mutex::new(Content::Elsewhere), facts })
    }

    /// Announced, and not fetched yet.
    pub fn is_awaited(&self) -> bool {
        self.facts.get().is_none() && matches!(*self.lock(), Content::Elsewhere)
    }

    /// Characters that JavaScript has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What it is. The first call may read a text of some hundred kilobytes.
    pub fn facts(self: &Arc<Self>) -> &MediaInfo {
        if let Some(facts) = self.facts.get() {
            return facts;
        }
        let text = match &*self.lock() {
            Content::Text(text) => text.clone(),
            Content::Elsewhere | Content::Read(_) => Bytes::new(),
        };
        let mut reader = Base64Stream::new(text.len());
        reader.feed(&text);
        self.take(reader);
        self.facts.get_or_init(MediaInfo::unreadable)
    }

    /// The bytes, while we have them.
    pub fn content(self: &Arc<Self>) -> Option<Bytes> {
        self.facts();
        if let Content::Read(bytes) = &*self.lock() { Some(bytes.clone()) } else { None }
    }

    /// The service holds the content; our copy only costs memory.
    pub fn release(&self) {
        if self.facts.get().is_some_and(|facts| facts.digest.is_some()) {
            *self.lock() = Content::Elsewhere;
        }
    }

    /// Takes a text that was read, for the first time or again. False if it is not the same content.
    pub fn take(self: &Arc<Self>, reader: Base64Stream) -> bool {
        let (bytes, facts) = reader.finish();
        // Another turn may have fetched it meanwhile.
        let known = self.facts.get_or_init(|| facts.clone());
        let same = known.digest == facts.digest;
        if same {
            let bytes = facts.digest.map_or_else(Bytes::new, |digest| share(digest, bytes, self));
            *self.lock() = Content::Read(bytes);
        }
        same
    }

    /// Nothing is left half-changed while the lock is held, so a panic elsewhere does not spoil the content.
    fn lock(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets equal contents share one copy: sub-agents show the same screenshot, and Pi clones contexts.
fn share(digest: Digest, bytes: Bytes, media_item: &Arc<MediaItem>) -> Bytes {
    static ALIVE: OnceLock<Mutex<HashMap<Digest, Weak<MediaItem>>>> = OnceLock::new();
    let mut alive = ALIVE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = alive.get(&digest).and_then(Weak::upgrade)
        && !Arc::ptr_eq(&other, media_item)
        && let Content::Read(content) = &*other.lock()
    {
        return content.clone();
    }
    alive.retain(|_, media_item| media_item.strong_count() > 0);
    alive.insert(digest, Arc::downgrade(media_item));
    bytes
}

/// What a kind of media_item without usable content is replaced by.
pub fn omitted(kind: MediaKind, why: &str) -> String {
    format!("({} omitted: {why})", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> MediaInfo {
        MediaItem::new(Bytes::copy_from_slice(text.as_bytes())).facts().clone()
    }

    const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";

    #[test]
    fn padding_white_space_alphabet_and_data_urls_make_no_difference() {
        let digest = facts(PNG).digest;
        assert!(digest.is_some());
        for text in [
            "iVBORw0KGgoAAAANSUhEUg",
            "iVBORw0KGgo\nAAAANSUhEUg==\n",
            "data:image/png;charset=x;base64,iVBORw0KGgoAAAANSUhEUg==",
        ] {
            assert_eq!(facts(text).digest, digest, "{text}");
        }
        assert_eq!(facts(PNG).bytes, 16);
        assert_eq!(facts(PNG).text(), 24);
    }

    #[test]
    fn the_bytes_outrank_the_declared_type() {
        assert_eq!(facts(PNG).media_type("image/jpeg").unwrap().mime, "image/png");
        assert_eq!(facts("AAAA").media_type("image/jpg").unwrap().mime, "image/jpeg");
        assert_eq!(facts("data:video/webm;base64,AAAA").media_type("").unwrap().mime, "video/webm");
    }

    #[test]
    fn what_cannot_be_sent_says_why() {
        let why = |text: &str| facts(text).media_type("application/x-thing").unwrap_err();
        assert_eq!(why("no base64!"), "its data is not base64");
        assert_eq!(why("AAAAA"), "its data is not base64");
        assert_eq!(why("data:image/svg+xml,%3Csvg"), "its data is not base64");
        assert_eq!(why(""), "it has no data");
        assert_eq!(why("JVBERi0xLjc="), "it is a PDF, which Kimi does not take");
        assert_eq!(why("AAAA"), "Kimi does not take \"application/x-thing\"");
    }

    fn read(text: &'static str) -> Base64Stream {
        let mut reader = Base64Stream::new(text.len());
        reader.feed(text.as_bytes());
        reader
    }

    #[test]
    fn a_forgotten_content_comes_back_only_as_itself() {
        let media_item = MediaItem::new(Bytes::from_static(PNG.as_bytes()));
        let before = media_item.content().unwrap();
        media_item.release();
        assert_eq!(media_item.content(), None);
        assert!(!media_item.take(read("AAAA")));
        assert!(!media_item.take(read("no base64!")));
        assert_eq!(media_item.content(), None);
        assert!(media_item.take(read(PNG)));
        assert_eq!(media_item.content(), Some(before));
    }

    #[test]
    fn an_announced_content_is_what_arrives_first() {
        let media_item = MediaItem::announced(PNG.len());
        assert!(media_item.is_awaited());
        assert!(media_item.take(read(PNG)));
        assert!(!media_item.is_awaited());
        assert_eq!(media_item.facts().digest, facts(PNG).digest);
        assert!(!media_item.take(read("AAAA")));
    }

    #[test]
    fn what_is_far_too_long_is_never_fetched() {
        let media_item = MediaItem::announced(300_000_000);
        assert!(!media_item.is_awaited());
        assert!(media_item.facts().media_type("video/mp4").unwrap_err().contains("it has 225.0 MB"));
    }

    #[test]
    fn equal_contents_share_one_copy() {
        let media_item = || MediaItem::new(Bytes::from(b"iVBORw0KGgoAAAANSUhEUshared00".to_vec()));
        let (first, second) = (media_item(), media_item());
        first.facts();
        second.facts();
        assert_eq!(first.content().unwrap().as_ptr(), second.content().unwrap().as_ptr());
    }
}
