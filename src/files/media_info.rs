//! What is known about the content of an image or video: its identity, size and type.

use std::fmt;

use sha2::{Digest as _, Sha256};

use super::media_type::{MediaType, Sniffed, check_file_limit, sniff};

/// SHA-256 of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl From<Sha256> for Digest {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().into())
    }
}

impl Digest {
    /// Reads 64 hexadecimal digits in lower case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        let is_lower = !text.bytes().any(|byte| byte.is_ascii_uppercase());
        (is_lower && hex::decode_to_slice(text, &mut digest).is_ok()).then_some(Self(digest))
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

/// Describes one content; it never changes.
#[derive(Debug, Clone)]
pub struct MediaInfo {
    /// Identity of the content; `None` if the text is not base64, or far too long to look at.
    pub digest: Option<Digest>,
    /// Size.
    pub bytes: u64,
    pub(super) sniffed: Sniffed,
    /// Type named by a data URL.
    pub(super) declared: Option<MediaType>,
}

impl MediaInfo {
    /// Describes a whole file.
    pub fn of(bytes: &[u8]) -> Self {
        let digest = Digest::from(Sha256::new().chain_update(bytes));
        Self { digest: Some(digest), bytes: bytes.len() as u64, sniffed: sniff(bytes), declared: None }
    }

    /// Describes a text that is not base64.
    pub(super) fn unreadable() -> Self {
        Self { digest: None, bytes: 0, sniffed: Sniffed::Unknown, declared: None }
    }

    /// Returns the length of the base64 text as it is sent inline.
    pub fn inline_length(&self) -> u64 {
        self.bytes.div_ceil(3) * 4
    }

    /// Returns the type to send it as, or why it cannot be sent. `declared` is the MIME type that Pi names.
    pub fn media_type(&self, declared: &str) -> Result<MediaType, String> {
        check_file_limit(self.bytes)?;
        if self.digest.is_none() {
            return Err("its data is not base64".to_owned());
        }
        if self.bytes == 0 {
            return Err("it has no data".to_owned());
        }
        self.sniffed.or_declared(declared, self.declared)
    }
}
