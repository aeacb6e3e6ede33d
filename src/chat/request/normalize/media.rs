//! Images and videos that the service would refuse.
//!
//! One picture whose bytes are not what its MIME type says makes every later request of a session fail (users.md §1.8). The
//! bytes tell the type; what stays unusable becomes a word about it, in its place and the same in every request.

use crate::chat::request::transcript::{Media, Part};
use crate::files::{Inset, Kind, omitted};

/// The medium as it can be sent, or a text in its place.
pub fn usable(kind: Kind, mime: &str, medium: Media) -> Part<'static> {
    match medium.facts().media_type(mime) {
        Ok(media_type) => Part::Inset(Inset { medium, media_type, gap: 0 }),
        Err(why) => Part::Text(omitted(kind, &why).into()),
    }
}

/// Whether it is a video that can be sent, whatever Pi called it.
pub fn is_video(part: &Part<'_>) -> bool {
    match part {
        Part::Inset(inset) => inset.media_type.kind == Kind::Video,
        Part::Link { kind, .. } => *kind == Kind::Video,
        _ => false,
    }
}

/// Stands in place of a video where the model takes none.
pub fn no_video() -> Part<'static> {
    Part::Text(omitted(Kind::Video, "model does not support videos").into())
}
