//! One image or video: its base64 text and what was found out about it.
//!
//! Scanning, hashing and decoding megabytes is done once per content, not once per turn: JavaScript keeps a handle to a [`Medium`]
//! beside its image and passes only that from the second turn on. Once the service holds the content, our copy is
//! dropped; should it be needed again, JavaScript passes it again, and the digest says whether it is the same.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::readable;
use super::sniff::{Kind, MAX_FILE, MediaType, Sniffed, sniff};

/// Tolerates what is harmless: missing padding, and stray bits in the last character.
pub(super) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Characters looked at to find out the type.
const HEAD: usize = 128;

/// SHA-256 of the base64 text without its padding.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    fn of(text: &[u8]) -> Self {
        Self(Sha256::digest(text).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known about a content for good.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Identity of the content; `None` if the text is no base64.
    pub digest: Option<Digest>,
    /// Decoded size.
    pub bytes: u64,
    /// Length of the base64 text as it is sent inline.
    pub text: u64,
    sniffed: Sniffed,
    /// Type named by a data URL.
    declared: Option<MediaType>,
}

impl Facts {
    /// The type to send it as, or why it cannot be sent. `declared` is the MIME type that Pi names.
    pub fn media_type(&self, declared: &str) -> Result<MediaType, String> {
        if self.digest.is_none() {
            return Err("its data is not base64".to_owned());
        }
        if self.bytes == 0 {
            return Err("it has no data".to_owned());
        }
        if self.bytes > MAX_FILE {
            return Err(format!("it has {}, Kimi takes at most {}", readable(self.bytes), readable(MAX_FILE)));
        }
        match self.sniffed {
            Sniffed::Known(known) => Ok(known),
            Sniffed::Foreign(what) => Err(format!("it is {what}, which Kimi does not take")),
            Sniffed::Unknown => MediaType::named(declared)
                .or(self.declared)
                .ok_or_else(|| format!("Kimi does not take {:?}", declared.trim().to_ascii_lowercase())),
        }
    }
}

/// An image or video that JavaScript has handed over.
pub struct Medium {
    /// Characters that JavaScript has.
    length: usize,
    /// Base64 text as it came, from [`Medium::facts`] on in its strict form; `None` once it is not needed any more.
    content: Mutex<Option<Bytes>>,
    facts: OnceLock<Facts>,
}

impl fmt::Debug for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Medium").field("facts", &self.facts.get()).finish_non_exhaustive()
    }
}

impl Medium {
    /// Takes base64 text, or a whole data URL.
    pub fn new(text: Bytes) -> Arc<Self> {
        Arc::new(Self { length: text.len(), content: Mutex::new(Some(text)), facts: OnceLock::new() })
    }

    /// A medium whose text of so many characters has yet to be fetched; nothing may be asked of it before.
    pub fn announced(length: usize) -> Arc<Self> {
        Arc::new(Self { length, content: Mutex::new(None), facts: OnceLock::new() })
    }

    /// Announced, and not fetched yet.
    pub fn is_awaited(&self) -> bool {
        self.facts.get().is_none() && self.lock().is_none()
    }

    /// Characters that JavaScript has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What it is. The first call reads the whole text, about a millisecond per two megabytes.
    pub fn facts(self: &Arc<Self>) -> &Facts {
        self.facts.get_or_init(|| {
            let mut content = self.lock();
            let (text, facts) = examine(content.take().unwrap_or_default());
            *content = Some(facts.digest.map_or_else(Bytes::new, |digest| share(digest, text, self)));
            facts
        })
    }

    /// The strict base64 text, while we have it.
    pub fn content(&self) -> Option<Bytes> {
        self.lock().clone()
    }

    /// The service holds the content; our copy only costs memory.
    pub fn forget(&self) {
        if self.facts.get().is_some_and(|facts| facts.digest.is_some()) {
            *self.lock() = None;
        }
    }

    /// Takes the text, for the first time or again. False if it is not the same content.
    pub fn restore(self: &Arc<Self>, text: Bytes) -> bool {
        if self.facts.get().is_none() {
            // Another turn may have fetched it meanwhile.
            self.lock().get_or_insert(text);
            return true;
        }
        let (text, facts) = examine(text);
        let same = facts.digest.is_some() && facts.digest == self.facts().digest;
        if same {
            *self.lock() = Some(text);
        }
        same
    }

    /// Nothing is left half-changed while the lock is held, so a panic elsewhere does not spoil the content.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Bytes>> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets equal contents share one copy: sub-agents show the same screenshot, and Pi clones contexts.
fn share(digest: Digest, text: Bytes, medium: &Arc<Medium>) -> Bytes {
    static ALIVE: OnceLock<Mutex<HashMap<Digest, Weak<Medium>>>> = OnceLock::new();
    let mut alive = ALIVE.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(other) = alive.get(&digest).and_then(Weak::upgrade)
        && !Arc::ptr_eq(&other, medium)
        && let Ok(content) = other.content.try_lock()
        && let Some(content) = content.as_ref()
        && *content == text
    {
        return content.clone();
    }
    alive.retain(|_, medium| medium.strong_count() > 0);
    alive.insert(digest, Arc::downgrade(medium));
    text
}

/// The strict form of the text, and the facts.
fn examine(text: Bytes) -> (Bytes, Facts) {
    let (text, declared) = without_data_url(text);
    let mut facts = Facts { digest: None, bytes: 0, text: text.len() as u64, sniffed: Sniffed::Unknown, declared };
    let Some(strict) = strict_base64(text) else { return (Bytes::new(), facts) };
    facts.digest = Some(Digest::of(&strict));
    facts.bytes = decoded_length(strict.len() as u64);
    facts.text = strict.len().next_multiple_of(4) as u64;
    facts.sniffed = BASE64.decode(&strict[..strict.len().min(HEAD)]).map_or(Sniffed::Unknown, |head| sniff(&head));
    (strict, facts)
}

/// Bytes behind this many characters of unpadded base64.
fn decoded_length(characters: u64) -> u64 {
    characters / 4 * 3 + (characters % 4).saturating_sub(1)
}

/// Splits `data:<type>[;parameters];base64,` off; parameters say nothing about a picture.
fn without_data_url(text: Bytes) -> (Bytes, Option<MediaType>) {
    if !text.starts_with(b"data:") {
        return (text, None);
    }
    let head = &text[..text.len().min(1024)];
    let Some(comma) = memchr::memchr(b',', head) else { return (text, None) };
    let prefix = String::from_utf8_lossy(&head[5..comma]).to_ascii_lowercase();
    if !prefix.ends_with(";base64") {
        return (text, None);
    }
    (text.slice(comma + 1..), MediaType::named(&prefix))
}

/// Standard alphabet, no white space, no padding. `None` if the text is something else.
fn strict_base64(text: Bytes) -> Option<Bytes> {
    let padding = text.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    let body = text.slice(..text.len() - padding);
    if body.iter().all(|byte| is_digit(*byte)) {
        return (body.len() % 4 != 1).then_some(body);
    }
    let mut clean: Vec<u8> = text
        .iter()
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        })
        .collect();
    let padding = clean.iter().rev().take(2).take_while(|byte| **byte == b'=').count();
    clean.truncate(clean.len() - padding);
    (clean.iter().all(|byte| is_digit(*byte)) && clean.len() % 4 != 1).then(|| clean.into())
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// What a kind of medium without usable content is replaced by.
pub fn omitted(kind: Kind, why: &str) -> String {
    format!("({} omitted: {why})", kind.word())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(text: &str) -> Facts {
        Medium::new(Bytes::copy_from_slice(text.as_bytes())).facts().clone()
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
        assert_eq!(facts(PNG).text, 24);
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

    #[test]
    fn a_forgotten_content_comes_back_only_as_itself() {
        let medium = Medium::new(Bytes::from_static(PNG.as_bytes()));
        medium.facts();
        medium.forget();
        assert_eq!(medium.content(), None);
        assert!(!medium.restore(Bytes::from_static(b"AAAA")));
        assert_eq!(medium.content(), None);
        assert!(medium.restore(Bytes::from_static(PNG.as_bytes())));
        assert_eq!(medium.content().unwrap(), PNG.trim_end_matches('='));
    }

    #[test]
    fn an_announced_content_is_what_arrives_first() {
        let medium = Medium::announced(PNG.len());
        assert!(medium.is_awaited());
        assert!(medium.restore(Bytes::from_static(PNG.as_bytes())));
        assert!(!medium.is_awaited());
        assert_eq!(medium.facts().digest, facts(PNG).digest);
        assert!(!medium.restore(Bytes::from_static(b"AAAA")));
    }

    #[test]
    fn equal_contents_share_one_copy() {
        let medium = || Medium::new(Bytes::from(b"iVBORw0KGgoAAAANSUhEUshared00".to_vec()));
        let (first, second) = (medium(), medium());
        first.facts();
        second.facts();
        assert_eq!(first.content().unwrap().as_ptr(), second.content().unwrap().as_ptr());
    }
}
