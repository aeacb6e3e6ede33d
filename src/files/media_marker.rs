//! References to uploaded contents in a session: small texts and records in place of the bytes.
//!
//! A result of the tool [`READ_MEDIA`] has a record in its `details`, which only our tool writes. A user's message has a marker in its
//! text, which anybody can forge; so a marker may only refer to contents that the upload index of the account already knows.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::media_info::Digest;
use super::media_type::{MediaKind, MediaType};
use super::video_length::format_length;
use crate::display_text::{one_line, size};

/// Name of the tool whose results refer to media.
pub const READ_MEDIA: &str = "kimi_read_media";

/// Member of a result's `details` that holds the record.
const MEMBER: &str = "kimiMedia";

/// Scheme of the address in a marker, and of a part that is not resolved yet.
const SCHEME: &str = "kimi-media:";

/// Longest file name in a caption, in characters.
const MAX_NAME: usize = 100;

/// Longest caption of a marker, in bytes.
const MAX_CAPTION: usize = 600;

/// An uploaded content as a session refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMedia {
    /// Identity of the content.
    pub digest: Digest,
    /// Image or video.
    pub kind: MediaKind,
    /// Where it can be read again, if the record says so. Markers in texts never do.
    pub path: Option<PathBuf>,
}

/// What a user and a model read about a content.
#[derive(Debug, Clone)]
pub struct Caption<'n> {
    /// File name.
    pub name: &'n str,
    /// What it is.
    pub kind: MediaKind,
    /// Size in bytes.
    pub bytes: u64,
    /// Length of a video.
    pub length: Option<Duration>,
}

/// The record in a result's `details`.
#[derive(Debug, Serialize, Deserialize)]
struct MediaRecord {
    kind: String,
    digest: String,
    mime: String,
    bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

impl Caption<'_> {
    /// Returns `[video demo.mp4, 60.2 MB, 0:42]`.
    pub fn text(&self) -> String {
        // Brackets and parentheses would end the marker too early.
        let name = one_line(self.name, MAX_NAME).replace(['[', ']', '(', ')'], "_");
        let length = self.length.map(|length| format!(", {}", format_length(length))).unwrap_or_default();
        format!("[{} {name}, {}{length}]", self.kind.word(), size(self.bytes))
    }
}

impl StoredMedia {
    /// Returns the address that stands for the content until it is resolved: `kimi-media:video:<digest>`.
    pub fn address(&self) -> String {
        format!("{SCHEME}{}:{}", self.kind.word(), self.digest)
    }

    /// Reads an address.
    pub fn of_address(address: &str) -> Option<Self> {
        let (kind, digest) = address.strip_prefix(SCHEME)?.split_once(':')?;
        Some(Self { kind: MediaKind::of_word(kind)?, digest: Digest::parse(digest)?, path: None })
    }

    /// Returns the marker for a user's message: the caption with the address, as a Markdown link.
    pub fn marker(&self, caption: &Caption<'_>) -> String {
        format!("{}({})", caption.text(), self.address())
    }

    /// Returns the `details` of a tool result.
    pub fn details(&self, media_type: MediaType, bytes: u64) -> Value {
        let record = MediaRecord {
            kind: self.kind.word().to_owned(),
            digest: self.digest.to_string(),
            mime: media_type.mime.to_owned(),
            bytes,
            path: self.path.clone(),
        };
        json!({ MEMBER: record })
    }

    /// Reads the `details` of a result of the tool `tool_name`.
    pub fn of_details(tool_name: &str, details: &str) -> Option<Self> {
        if tool_name != READ_MEDIA || !details.contains(MEMBER) {
            return None;
        }
        let details: Value = serde_json::from_str(details).ok()?;
        let record: MediaRecord = serde_json::from_value(details.get(MEMBER)?.clone()).ok()?;
        Some(Self {
            digest: Digest::parse(&record.digest)?,
            kind: MediaKind::of_word(&record.kind)?,
            path: record.path.filter(|path| path.is_absolute()),
        })
    }
}

/// Whether texts may hold references. Looks only for a word, so that texts without any cost nothing more.
pub fn may_hold_markers(texts: &str) -> bool {
    memchr::memmem::find(texts.as_bytes(), SCHEME.as_bytes()).is_some()
}

/// Whether JSON text may hold references, in texts or in details of results.
pub fn may_hold_references(json: &str) -> bool {
    may_hold_markers(json) || memchr::memmem::find(json.as_bytes(), MEMBER.as_bytes()).is_some()
}

/// Replaces each marker of a text that `is_known` accepts with its caption, and returns the contents in their order.
pub fn split_markers<'t>(text: &'t str, is_known: impl Fn(&StoredMedia) -> bool) -> (Cow<'t, str>, Vec<StoredMedia>) {
    let mut found: Vec<StoredMedia> = Vec::new();
    let mut out = String::new();
    let mut copied = 0;
    for (at, _) in text.match_indices(SCHEME) {
        let Some(marker) = marker_at(text, at).filter(|marker| marker.start >= copied && is_known(&marker.media))
        else {
            continue;
        };
        out.push_str(&text[copied..marker.caption_end]);
        copied = marker.end;
        if !found.contains(&marker.media) {
            found.push(marker.media);
        }
    }
    if found.is_empty() {
        return (Cow::Borrowed(text), found);
    }
    out.push_str(&text[copied..]);
    (Cow::Owned(out), found)
}

/// Lists the contents that the markers of a text refer to.
pub fn markers(text: &str) -> Vec<StoredMedia> {
    split_markers(text, |_| true).1
}

/// A marker in a text: `[caption](address)`.
struct Marker {
    start: usize,
    caption_end: usize,
    end: usize,
    media: StoredMedia,
}

/// Reads the marker whose address begins at `at`.
fn marker_at(text: &str, at: usize) -> Option<Marker> {
    let before = text[..at].strip_suffix("](")?;
    let start = before.rfind('[')?;
    let caption = &before[start + 1..];
    let length = text[at..].find(')')?;
    let media = StoredMedia::of_address(&text[at..at + length])?;
    let is_caption = caption.len() <= MAX_CAPTION && !caption.contains(['\n', ']']);
    let of_kind = caption.strip_prefix(media.kind.word()).is_some_and(|rest| rest.starts_with(' '));
    (is_caption && of_kind).then(|| Marker { start, caption_end: at - 1, end: at + length + 1, media })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn video() -> StoredMedia {
        StoredMedia { digest: Digest::parse(DIGEST).unwrap(), kind: MediaKind::Video, path: None }
    }

    fn caption(name: &str) -> Caption<'_> {
        Caption { name, kind: MediaKind::Video, bytes: 60_240_000, length: Some(Duration::from_secs(42)) }
    }

    #[test]
    fn caption_names_kind_file_size_and_length() {
        assert_eq!(caption("demo.mp4").text(), "[video demo.mp4, 60.2 MB, 0:42]");
        let image = Caption { name: "a]\u{1b}(b).png", kind: MediaKind::Image, bytes: 12, length: None };
        assert_eq!(image.text(), "[image a_␛_b_.png, 12 bytes]");
    }

    #[test]
    fn marker_is_found_and_replaced_by_its_caption() {
        let marker = video().marker(&caption("demo.mp4"));
        let text = format!("what flickers in {marker} at the end? {marker}");
        let (shown, found) = split_markers(&text, |_| true);
        let caption = "[video demo.mp4, 60.2 MB, 0:42]";
        assert_eq!(shown, format!("what flickers in {caption} at the end? {caption}"));
        assert_eq!(found, [video()]);
    }

    #[test]
    fn marker_of_an_unknown_content_stays_as_it_is() {
        let text = format!("see {}", video().marker(&caption("demo.mp4")));
        let (shown, found) = split_markers(&text, |_| false);
        assert!(matches!(shown, Cow::Borrowed(same) if same == text) && found.is_empty());
    }

    #[test]
    fn marker_that_is_damaged_is_plain_text() {
        for text in [
            format!("kimi-media:video:{DIGEST}"),
            format!("[video a](kimi-media:video:{DIGEST}"),
            format!("[video a](kimi-media:video:{})", &DIGEST[1..]),
            format!("[video a](kimi-media:audio:{DIGEST})"),
            format!("[image a](kimi-media:video:{DIGEST})"),
            format!("[videoa](kimi-media:video:{DIGEST})"),
            format!("[video\na](kimi-media:video:{DIGEST})"),
            format!("video a](kimi-media:video:{DIGEST})"),
            format!("[video a](kimi-media:video:{})", DIGEST.to_uppercase()),
            format!("[video {}](kimi-media:video:{DIGEST})", "x".repeat(MAX_CAPTION)),
        ] {
            assert_eq!(markers(&text), [], "{text}");
        }
    }

    #[test]
    fn details_are_read_from_our_tool_only() {
        let media = StoredMedia { path: Some(std::env::temp_dir().join("demo.mp4")), ..video() };
        let details = media.details(MediaType::named("video/mp4").unwrap(), 5).to_string();
        assert!(details.len() < 1000);
        assert_eq!(StoredMedia::of_details(READ_MEDIA, &details), Some(media));
        assert_eq!(StoredMedia::of_details("bash", &details), None);
        for damaged in
            ["", "{}", "[]", r#"{"kimiMedia":null}"#, &details.replace("video", "audio"), &details.replace("01", "0")]
        {
            assert_eq!(StoredMedia::of_details(READ_MEDIA, damaged), None, "{damaged}");
        }
    }
}
