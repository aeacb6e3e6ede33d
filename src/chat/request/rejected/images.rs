//! Images of a request by their content or address, and how they are taken out of it.

use crate::chat::request::normalize::Item;
use crate::chat::request::transcript::Part;
use crate::files::{Digest, MediaKind};

/// Replaces a rejected image.
const IMAGE_LEFT_OUT: &str = "(image left out: the service refused it)";

/// Replaces a rejected video.
const VIDEO_LEFT_OUT: &str = "(video left out: the service refused it)";

/// Identifies an image or video across messages and requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageKey {
    /// A content.
    File(Digest),
    /// An address.
    Link(String),
}

impl ImageKey {
    /// Returns the key of an image part.
    pub fn of(part: &Part<'_>) -> Option<Self> {
        match part {
            Part::MediaRef(media) => media.media_item.info().digest.map(Self::File),
            Part::Link { url, .. } => Some(Self::Link(url.clone().into_owned())),
            _ => None,
        }
    }

    /// Returns whether the service would have to fetch the image from the web.
    pub fn is_web_address(&self) -> bool {
        matches!(self, Self::Link(url) if !url.starts_with("ms://"))
    }

    /// Returns the keys of all images in these messages.
    pub fn all(turns: &[Item<'_>]) -> Vec<Self> {
        let parts = turns.iter().flat_map(|turn| match turn {
            Item::User(parts) | Item::ToolResult { parts, .. } => parts.as_slice(),
            _ => &[],
        });
        parts.filter_map(Self::of).collect()
    }
}

fn is_video(part: &Part<'_>) -> bool {
    match part {
        Part::MediaRef(media) => media.media_type.kind == MediaKind::Video,
        Part::Link { kind, .. } => *kind == MediaKind::Video,
        _ => false,
    }
}

/// Replaces the images that `is_rejected` selects by a note, and returns them.
pub(super) fn leave_out(turns: &mut [Item<'_>], is_rejected: impl Fn(&ImageKey) -> bool) -> Vec<ImageKey> {
    let mut left_out = Vec::new();
    let parts = turns.iter_mut().filter_map(|turn| match turn {
        Item::User(parts) | Item::ToolResult { parts, .. } => Some(parts),
        _ => None,
    });
    for part in parts.flatten() {
        if let Some(image) = ImageKey::of(part).filter(&is_rejected) {
            *part = Part::Text(if is_video(part) { VIDEO_LEFT_OUT } else { IMAGE_LEFT_OUT }.into());
            left_out.push(image);
        }
    }
    left_out
}
