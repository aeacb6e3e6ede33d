//! A body with gaps where media go.
//!
//! Whether an image is sent inline or as a reference is known only after the index was asked and files were uploaded, and an id
//! that turned out to be stale is replaced later still. So the encoders write a token in place of each media_item, and the body is
//! completed at the end. The token is random per process: no text of a conversation can imitate it.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use base64_simd::STANDARD;
use memchr::memmem;
use serde::{Serialize, Serializer};

use super::media::MediaItem;
use super::media_type::MediaType;

/// A media_item's place in a conversation. Serialises as the token of its gap.
#[derive(Debug, Clone)]
pub struct MediaRef {
    /// The content.
    pub media_item: Arc<MediaItem>,
    /// What it is sent as.
    pub media_type: MediaType,
    /// Number of the gap, in order of appearance; given by [`BodyTemplate::number`].
    pub gap: usize,
}

impl Serialize for MediaRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", token(), self.gap))
    }
}

fn token() -> &'static str {
    static TOKEN: OnceLock<String> = OnceLock::new();
    TOKEN.get_or_init(|| format!("gap-{:032x}-", rand::random::<u128>()))
}

/// How a dialect writes media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Value of `image_url` and `video_url`: `{"url":"ms://ID","id":"ID"}`, as the official client sends it.
    OpenAi,
    /// Value of `source`: `{"type":"url","url":"ms://ID"}` (docs/protocol.md#file-references).
    Anthropic,
}

/// What fills a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaPayload {
    /// The bytes.
    Inline(bytes::Bytes),
    /// Id of an uploaded file.
    File(String),
}

/// A body whose gaps are not filled yet.
#[derive(Debug)]
pub struct BodyTemplate {
    body: Vec<u8>,
    /// What belongs into the gaps; gap `n` is `insets[n]`.
    pub insets: Vec<MediaRef>,
    shape: Shape,
}

impl BodyTemplate {
    /// An encoded body and the media in it.
    pub fn new(body: Vec<u8>, insets: Vec<MediaRef>, shape: Shape) -> Self {
        Self { body, insets, shape }
    }

    /// Numbers the insets of a conversation in the order they appear, and returns them.
    pub fn number<'i>(insets: impl Iterator<Item = &'i mut MediaRef>) -> Vec<MediaRef> {
        insets
            .enumerate()
            .map(|(gap, inset)| {
                inset.gap = gap;
                inset.clone()
            })
            .collect()
    }

    /// Length of everything but the media.
    pub fn text_length(&self) -> u64 {
        self.body.len() as u64
    }

    /// The finished body; filling `n` goes into the gaps of inset `n`.
    pub fn fill(&self, fillings: &[MediaPayload]) -> Vec<u8> {
        let length = |filling: &MediaPayload| match filling {
            MediaPayload::Inline(bytes) => STANDARD.encoded_length(bytes.len()),
            MediaPayload::File(_) => 64,
        };
        let room: usize = fillings.iter().map(|filling| length(filling) + 64).sum();
        let mut out = Vec::with_capacity(self.body.len() + room);
        let mut from = 0;
        for (range, gap) in self.gaps() {
            out.extend_from_slice(&self.body[from..range.start]);
            if let (Some(filling), Some(inset)) = (fillings.get(gap), self.insets.get(gap)) {
                write(&mut out, filling, inset.media_type, self.shape);
            }
            from = range.end;
        }
        out.extend_from_slice(&self.body[from..]);
        out
    }

    /// Each gap with its quotation marks, and its number.
    fn gaps(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let token = token();
        memmem::find_iter(&self.body, token).filter_map(move |at| {
            let digits = at + token.len();
            let end = digits + memchr::memchr(b'"', &self.body[digits..])?;
            let gap = std::str::from_utf8(&self.body[digits..end]).ok()?.parse().ok()?;
            Some((at.checked_sub(1)?..end + 1, gap))
        })
    }
}

fn write(out: &mut Vec<u8>, filling: &MediaPayload, media_type: MediaType, shape: Shape) {
    let mime = media_type.mime;
    // Ids are checked against an alphabet that needs no escaping before they get here, MIME types come from our own table.
    let mut head = String::new();
    let tail = match (filling, shape) {
        (MediaPayload::File(id), Shape::OpenAi) => {
            let _ = write!(head, r#"{{"url":"ms://{id}","id":"{id}"}}"#);
            ""
        }
        (MediaPayload::File(id), Shape::Anthropic) => {
            let _ = write!(head, r#"{{"type":"url","url":"ms://{id}"}}"#);
            ""
        }
        (MediaPayload::Inline(_), Shape::OpenAi) => {
            let _ = write!(head, r#"{{"url":"data:{mime};base64,"#);
            "\"}"
        }
        (MediaPayload::Inline(_), Shape::Anthropic) => {
            let _ = write!(head, r#"{{"type":"base64","media_type":"{mime}","data":""#);
            "\"}"
        }
    };
    out.extend_from_slice(head.as_bytes());
    if let MediaPayload::Inline(bytes) = filling {
        STANDARD.encode_append(bytes, out);
    }
    out.extend_from_slice(tail.as_bytes());
}

/// `body` with every reference to `old` turned into one to `new`, both ids.
pub fn replace_id(body: &[u8], old: &str, new: &str) -> Vec<u8> {
    let swap = |body: &[u8], from: String, to: String| {
        let mut out = Vec::with_capacity(body.len());
        let mut rest = 0;
        for at in memmem::find_iter(body, &from) {
            out.extend_from_slice(&body[rest..at]);
            out.extend_from_slice(to.as_bytes());
            rest = at + from.len();
        }
        out.extend_from_slice(&body[rest..]);
        out
    };
    let body = swap(body, format!("\"ms://{old}\""), format!("\"ms://{new}\""));
    swap(&body, format!("\"id\":\"{old}\""), format!("\"id\":\"{new}\""))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::*;

    fn draft(shape: Shape) -> BodyTemplate {
        let media_item = MediaItem::new(Bytes::from_static(b"aGk="));
        let media_type = MediaType::named("image/png").unwrap();
        let mut insets = [0, 0].map(|gap| MediaRef { media_item: Arc::clone(&media_item), media_type, gap });
        let numbered = BodyTemplate::number(insets.iter_mut());
        let body = serde_json::to_vec(&json!({ "a": insets[0], "text": "gap-0 \"quoted\"", "b": insets[1] })).unwrap();
        BodyTemplate::new(body, numbered, shape)
    }

    fn filled(shape: Shape) -> Value {
        let fillings = [MediaPayload::File("f1".into()), MediaPayload::Inline(Bytes::from_static(b"hi"))];
        serde_json::from_slice(&draft(shape).fill(&fillings)).unwrap()
    }

    #[test]
    fn each_dialect_gets_its_own_shape() {
        assert_eq!(
            filled(Shape::OpenAi),
            json!({ "a": { "url": "ms://f1", "id": "f1" }, "text": "gap-0 \"quoted\"",
                    "b": { "url": "data:image/png;base64,aGk=" } })
        );
        assert_eq!(
            filled(Shape::Anthropic),
            json!({ "a": { "type": "url", "url": "ms://f1" }, "text": "gap-0 \"quoted\"",
                    "b": { "type": "base64", "media_type": "image/png", "data": "aGk=" } })
        );
    }

    #[test]
    fn a_replaced_id_leaves_texts_about_it_alone() {
        let body = br#"{"image_url":{"url":"ms://old","id":"old"},"text":"see ms://old","other":"ms://older"}"#;
        let new = String::from_utf8(replace_id(body, "old", "new")).unwrap();
        assert_eq!(new, r#"{"image_url":{"url":"ms://new","id":"new"},"text":"see ms://old","other":"ms://older"}"#);
    }
}
