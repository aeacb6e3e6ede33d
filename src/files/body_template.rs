//! A request body with placeholder tokens where media go.
//!
//! Whether an image is sent inline or as a reference is known only after the index lookup and the uploads, and a stale id is
//! replaced later still. So the encoders write a token in place of each media item, and the body is completed at the end. The
//! token is random for each body, so no text of a conversation can imitate it.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use base64_simd::STANDARD;
use memchr::memmem;
use serde::{Serialize, Serializer};

use super::media_item::MediaItem;
use super::media_type::MediaType;

/// A media item's place in a conversation. Serializes as its placeholder token.
#[derive(Debug, Clone)]
pub struct MediaRef {
    /// The content.
    pub media_item: Arc<MediaItem>,
    /// What it is sent as.
    pub media_type: MediaType,
    /// Random token of the body; empty until [`BodyTemplate::number`] has run.
    token: Arc<str>,
    /// Position among the media of the body.
    position: usize,
}

impl MediaRef {
    /// Refers to an item that has no place in a body yet.
    pub fn new(media_item: Arc<MediaItem>, media_type: MediaType) -> Self {
        Self { media_item, media_type, token: Arc::default(), position: 0 }
    }
}

impl Serialize for MediaRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}{}", self.token, self.position))
    }
}

/// How a dialect writes media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Value of `image_url` and `video_url`: `{"url":"ms://ID","id":"ID"}`, as the official client sends it.
    OpenAi,
    /// Value of `source`: `{"type":"url","url":"ms://ID"}` (docs/protocol.md#file-references).
    Anthropic,
}

/// What takes the place of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaPayload {
    /// The bytes.
    Inline(bytes::Bytes),
    /// Id of an uploaded file.
    File(String),
}

/// A body whose tokens are not replaced yet.
#[derive(Debug)]
pub struct BodyTemplate {
    body: Vec<u8>,
    /// The media, by position.
    pub media: Vec<MediaRef>,
    shape: Shape,
}

impl BodyTemplate {
    /// Wraps an encoded body and the media in it, as [`Self::number`] returned them.
    pub fn new(body: Vec<u8>, media: Vec<MediaRef>, shape: Shape) -> Self {
        Self { body, media, shape }
    }

    /// Gives the media of a conversation their placeholder tokens, in the order they appear, and returns them.
    pub fn number<'i>(media: impl Iterator<Item = &'i mut MediaRef>) -> Vec<MediaRef> {
        let token: Arc<str> = format!("media-{:032x}-", rand::random::<u128>()).into();
        media
            .enumerate()
            .map(|(position, item)| {
                item.token = Arc::clone(&token);
                item.position = position;
                item.clone()
            })
            .collect()
    }

    /// Returns the length of everything but the media.
    pub fn text_length(&self) -> u64 {
        self.body.len() as u64
    }

    /// Returns a body without media, which is finished.
    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    /// Returns the finished body; payload `n` takes the place of item `n`.
    pub fn fill(&self, payloads: &[MediaPayload]) -> Vec<u8> {
        let length = |payload: &MediaPayload| match payload {
            MediaPayload::Inline(bytes) => STANDARD.encoded_length(bytes.len()),
            MediaPayload::File(_) => 64,
        };
        let room: usize = payloads.iter().map(|payload| length(payload) + 64).sum();
        let mut out = Vec::with_capacity(self.body.len() + room);
        let mut from = 0;
        for (range, position) in self.placeholders() {
            out.extend_from_slice(&self.body[from..range.start]);
            if let (Some(payload), Some(item)) = (payloads.get(position), self.media.get(position)) {
                write(&mut out, payload, item.media_type, self.shape);
            }
            from = range.end;
        }
        out.extend_from_slice(&self.body[from..]);
        out
    }

    /// Finds each placeholder token with its quotation marks, and its position.
    fn placeholders(&self) -> impl Iterator<Item = (Range<usize>, usize)> {
        let token = self.media.first().map(|item| item.token.as_bytes()).filter(|token| !token.is_empty());
        token.into_iter().flat_map(move |token| {
            memmem::find_iter(&self.body, token).filter_map(move |at| {
                let digits = at + token.len();
                let end = digits + memchr::memchr(b'"', &self.body[digits..])?;
                let position = std::str::from_utf8(&self.body[digits..end]).ok()?.parse().ok()?;
                Some((at.checked_sub(1)?..end + 1, position))
            })
        })
    }
}

fn write(out: &mut Vec<u8>, payload: &MediaPayload, media_type: MediaType, shape: Shape) {
    let mime = media_type.mime;
    // Ids are checked against an alphabet that needs no escaping before they get here, MIME types come from our own table.
    let mut head = String::new();
    let tail = match (payload, shape) {
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
    if let MediaPayload::Inline(bytes) = payload {
        STANDARD.encode_append(bytes, out);
    }
    out.extend_from_slice(tail.as_bytes());
}

/// Turns every reference to the file `old` into one to the file `new`.
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

    fn template(shape: Shape) -> BodyTemplate {
        let media_item = MediaItem::new(Bytes::from_static(b"aGk="));
        let media_type = MediaType::named("image/png").unwrap();
        let mut media = [0, 1].map(|_| MediaRef::new(Arc::clone(&media_item), media_type));
        let numbered = BodyTemplate::number(media.iter_mut());
        let body = serde_json::to_vec(&json!({ "a": media[0], "text": "media-0 \"quoted\"", "b": media[1] })).unwrap();
        BodyTemplate::new(body, numbered, shape)
    }

    fn filled(shape: Shape) -> Value {
        let payloads = [MediaPayload::File("f1".into()), MediaPayload::Inline(Bytes::from_static(b"hi"))];
        serde_json::from_slice(&template(shape).fill(&payloads)).unwrap()
    }

    #[test]
    fn body_template_each_dialect_has_its_own_shape() {
        assert_eq!(
            filled(Shape::OpenAi),
            json!({ "a": { "url": "ms://f1", "id": "f1" }, "text": "media-0 \"quoted\"",
                    "b": { "url": "data:image/png;base64,aGk=" } })
        );
        assert_eq!(
            filled(Shape::Anthropic),
            json!({ "a": { "type": "url", "url": "ms://f1" }, "text": "media-0 \"quoted\"",
                    "b": { "type": "base64", "media_type": "image/png", "data": "aGk=" } })
        );
    }

    #[test]
    fn replaced_id_leaves_texts_about_it_alone() {
        let body = br#"{"image_url":{"url":"ms://old","id":"old"},"text":"see ms://old","other":"ms://older"}"#;
        let new = String::from_utf8(replace_id(body, "old", "new")).unwrap();
        assert_eq!(new, r#"{"image_url":{"url":"ms://new","id":"new"},"text":"see ms://old","other":"ms://older"}"#);
    }
}
