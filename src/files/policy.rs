//! Chooses which media are sent as references, and which may be sent inline after a failed upload.
//!
//! Size alone decides: the same history must give the same choice in every session, whether or not a file is known already,
//! because inline bytes and a reference are different prompts to the service's cache.

use std::collections::HashMap;

use super::body_template::MediaRef;
use super::media_info::Digest;
use super::media_type::{MediaKind, check_file_limit};
use crate::config::UploadLimits;
use crate::display_text::size_above;
use crate::error::{Error, ErrorKind};

/// Why a media item is sent the way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// A video.
    Video,
    /// Above the threshold.
    Large,
    /// The body would be above the budget.
    Budget,
    /// Small enough to be sent inline.
    Inline,
}

impl Placement {
    /// Whether the item is sent as a reference.
    pub fn is_reference(self) -> bool {
        self != Self::Inline
    }

    /// Describes the choice in the log.
    pub fn why(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Large => "above the threshold",
            Self::Budget => "body above the budget",
            Self::Inline => "small",
        }
    }
}

/// Chooses for each media item of a body that has `text` bytes besides.
pub fn choose(media: &[MediaRef], text: u64, settings: &UploadLimits) -> Vec<Placement> {
    let mut choices: Vec<Placement> = media
        .iter()
        .map(|item| match item.media_type.kind {
            MediaKind::Video => Placement::Video,
            MediaKind::Image if item.media_item.info().bytes > settings.threshold => Placement::Large,
            MediaKind::Image => Placement::Inline,
        })
        .collect();
    // One content may stand in several positions; all of them become references or none.
    let mut inline: HashMap<Digest, Vec<usize>> = HashMap::new();
    let mut total = text;
    for (at, item) in media.iter().enumerate().filter(|(at, _)| !choices[*at].is_reference()) {
        let info = item.media_item.info();
        total += info.inline_length();
        if let Some(digest) = info.digest {
            inline.entry(digest).or_default().push(at);
        }
    }
    let mut order: Vec<Vec<usize>> = inline.into_values().collect();
    order.sort_by_key(|positions| (std::cmp::Reverse(media[positions[0]].media_item.info().bytes), positions[0]));
    for positions in order {
        if total <= settings.budget {
            break;
        }
        for at in positions {
            total -= media[at].media_item.info().inline_length();
            choices[at] = Placement::Budget;
        }
    }
    choices
}

/// Whether an item whose upload failed with this error may be sent inline. Errors that concern the account or the user's own wish would only be
/// hidden by that.
pub fn may_go_inline(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::Cancelled
            | ErrorKind::LoginRequired
            | ErrorKind::Unauthorized
            | ErrorKind::Entitlement
            | ErrorKind::ClientRefused
            | ErrorKind::QuotaExhausted
            | ErrorKind::Config
            | ErrorKind::Tls
            | ErrorKind::Internal
    )
}

/// Refuses a file that is too large, naming the setting or the service's limit.
pub fn check_size(kind: MediaKind, bytes: u64, limits: &UploadLimits) -> std::result::Result<(), String> {
    match kind {
        MediaKind::Video if bytes > limits.video_max => {
            let (is, most) = size_above(bytes, limits.video_max);
            Err(format!("it is {is}, and uploads.videoMaxBytes allows {most}"))
        }
        MediaKind::Image => check_file_limit(bytes),
        MediaKind::Video => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::files::media_item::MediaItem;
    use crate::files::media_type::MediaType;

    fn media_ref(mime: &str, characters: usize, fill: u8) -> MediaRef {
        let media_item = MediaItem::new(Bytes::from(vec![fill; characters]));
        MediaRef::new(media_item, MediaType::named(mime).unwrap())
    }

    const SETTINGS: UploadLimits =
        UploadLimits { threshold: 3000, budget: 10_000, inline_limit: 1 << 20, video_max: 1 << 20, timeout: None };

    #[test]
    fn choice_exactly_the_threshold_stays_inline_and_a_video_never_does() {
        let media =
            [media_ref("image/png", 4000, b'a'), media_ref("image/png", 4002, b'a'), media_ref("video/mp4", 4, b'a')];
        assert_eq!(media[0].media_item.info().bytes, 3000);
        assert_eq!(choose(&media, 0, &SETTINGS), [Placement::Inline, Placement::Large, Placement::Video]);
    }

    #[test]
    fn choice_the_largest_become_references_until_the_body_fits() {
        let media = [
            media_ref("image/png", 1000, b'a'),
            media_ref("image/png", 3000, b'b'),
            media_ref("image/png", 2000, b'c'),
            media_ref("image/png", 2000, b'd'),
        ];
        let choices = choose(&media, 6000, &SETTINGS);
        assert_eq!(choices, [Placement::Inline, Placement::Budget, Placement::Budget, Placement::Inline]);
        assert!(choose(&media, 2000, &SETTINGS).iter().all(|choice| *choice == Placement::Inline));
    }

    #[test]
    fn choice_repeated_content_counts_each_time_and_is_chosen_as_a_whole() {
        let first = media_ref("image/png", 4000, b'a');
        let second = MediaRef::new(Arc::clone(&first.media_item), first.media_type);
        let other = media_ref("image/png", 3996, b'b');
        assert_eq!(
            choose(&[first, other, second], 0, &SETTINGS),
            [Placement::Budget, Placement::Inline, Placement::Budget]
        );
    }
}
