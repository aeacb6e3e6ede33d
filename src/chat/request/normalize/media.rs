//! Images and videos that the service would refuse.
//!
//! One picture whose bytes are not what its MIME type says makes every later request of a session fail
//! (docs/protocol.md#media-types). The bytes tell the type; what stays unusable becomes a word about it, in its place and the
//! same in every request.

use crate::chat::request::transcript::{Media, Part};
use crate::files::{MediaKind, MediaRef, omitted};

/// The media_item as it can be sent, or a text in its place.
pub fn usable(kind: MediaKind, mime: &str, media_item: Media) -> Part<'static> {
    match media_item.info().media_type(mime) {
        Ok(media_type) => Part::MediaRef(MediaRef::new(media_item, media_type)),
        Err(why) => Part::Text(omitted(kind, &why).into()),
    }
}

/// Whether it is a video that can be sent, whatever Pi called it.
pub fn is_video(part: &Part<'_>) -> bool {
    match part {
        Part::MediaRef(inset) => inset.media_type.kind == MediaKind::Video,
        Part::Link { kind, .. } => *kind == MediaKind::Video,
        _ => false,
    }
}

/// Stands in place of a video where the model takes none.
pub fn no_video() -> Part<'static> {
    Part::Text(omitted(MediaKind::Video, "model does not support videos").into())
}
