//! Replaces images and videos that the service would refuse.
//!
//! One image whose bytes contradict its MIME type makes every later request of a session fail
//! (docs/protocol.md#media-types), so the type is read from the bytes. An unusable item is replaced by a note, the same one in
//! every request.

use crate::chat::request::transcript::{Media, Part};
use crate::files::{MediaKind, MediaRef, omitted};

/// Returns the item in the form in which it can be sent, or a note in its place.
pub fn usable(kind: MediaKind, mime: &str, media_item: Media) -> Part<'static> {
    match media_item.info().media_type(mime) {
        Ok(media_type) => Part::MediaRef(MediaRef::new(media_item, media_type)),
        Err(why) => Part::Text(omitted(kind, &why).into()),
    }
}

/// Returns whether the part is a video that can be sent, under whatever type Pi declared it.
pub fn is_video(part: &Part<'_>) -> bool {
    match part {
        Part::MediaRef(media) => media.media_type.kind == MediaKind::Video,
        Part::Link { kind, .. } => *kind == MediaKind::Video,
        _ => false,
    }
}

/// Returns the note that replaces a video for a model that takes none.
pub fn no_video() -> Part<'static> {
    Part::Text(omitted(MediaKind::Video, "model does not support videos").into())
}
