//! Which media are sent as references.
//!
//! By size alone: the same history gives the same choice in every session, whatever happens to be known already, because
//! inline bytes and a reference are different prompts to the service's cache.

use crate::config::UploadLimits;
use std::collections::HashMap;

use super::body_template::MediaRef;
use super::media::Digest;
use super::media_type::MediaKind;

/// Why a media_item is sent the way it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// A video.
    Video,
    /// Above the threshold.
    Large,
    /// The body would be above the budget.
    Budget,
    /// Small enough to travel along.
    Inline,
}

impl Choice {
    /// Whether it becomes a reference.
    pub fn is_reference(self) -> bool {
        self != Self::Inline
    }

    /// For the log.
    pub fn why(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Large => "above the threshold",
            Self::Budget => "body above the budget",
            Self::Inline => "small",
        }
    }
}

/// Chooses for each inset of a body that has `text` bytes besides.
pub fn choose(insets: &[MediaRef], text: u64, settings: &UploadLimits) -> Vec<Choice> {
    let mut choices: Vec<Choice> = insets
        .iter()
        .map(|inset| match inset.media_type.kind {
            MediaKind::Video => Choice::Video,
            MediaKind::Image if inset.media_item.facts().bytes > settings.threshold => Choice::Large,
            MediaKind::Image => Choice::Inline,
        })
        .collect();
    // One content may stand in several paths; it goes or stays as a whole.
    let mut inline: HashMap<Digest, Vec<usize>> = HashMap::new();
    let mut total = text;
    for (gap, inset) in insets.iter().enumerate().filter(|(gap, _)| !choices[*gap].is_reference()) {
        let facts = inset.media_item.facts();
        total += facts.text();
        inline.extend(facts.digest.filter(|digest| !inline.contains_key(digest)).map(|digest| (digest, Vec::new())));
        if let Some(paths) = facts.digest.and_then(|digest| inline.get_mut(&digest)) {
            paths.push(gap);
        }
    }
    let mut order: Vec<Vec<usize>> = inline.into_values().collect();
    order.sort_by_key(|paths| (std::cmp::Reverse(insets[paths[0]].media_item.facts().bytes), paths[0]));
    for paths in order {
        if total <= settings.budget {
            break;
        }
        for gap in paths {
            total -= insets[gap].media_item.facts().text();
            choices[gap] = Choice::Budget;
        }
    }
    choices
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use std::time::Duration;

    use super::*;
    use crate::files::media::MediaItem;
    use crate::files::media_type::MediaType;

    fn inset(mime: &str, characters: usize, fill: u8) -> MediaRef {
        let media_item = MediaItem::new(Bytes::from(vec![fill; characters]));
        MediaRef { media_item, media_type: MediaType::named(mime).unwrap(), gap: 0 }
    }

    const SETTINGS: UploadLimits =
        UploadLimits { threshold: 3000, budget: 10_000, inline_limit: 1 << 20, timeout: None };

    #[test]
    fn a_small_file_is_given_up_sooner_than_a_large_one() {
        let settings = crate::config::Settings::default().upload_limits();
        assert_eq!(settings.time_for(1 << 20), Some(Duration::from_secs(46)));
        assert_eq!(settings.time_for(100 << 20), settings.timeout);
        assert_eq!(UploadLimits { timeout: None, ..settings }.time_for(1), None);
    }

    #[test]
    fn exactly_the_threshold_stays_inline_and_a_video_never_does() {
        let insets = [inset("image/png", 4000, b'a'), inset("image/png", 4002, b'a'), inset("video/mp4", 4, b'a')];
        assert_eq!(insets[0].media_item.facts().bytes, 3000);
        assert_eq!(choose(&insets, 0, &SETTINGS), [Choice::Inline, Choice::Large, Choice::Video]);
    }

    #[test]
    fn the_largest_go_first_until_the_body_fits() {
        let insets = [
            inset("image/png", 1000, b'a'),
            inset("image/png", 3000, b'b'),
            inset("image/png", 2000, b'c'),
            inset("image/png", 2000, b'd'),
        ];
        let choices = choose(&insets, 6000, &SETTINGS);
        assert_eq!(choices, [Choice::Inline, Choice::Budget, Choice::Budget, Choice::Inline]);
        assert!(choose(&insets, 2000, &SETTINGS).iter().all(|choice| *choice == Choice::Inline));
    }

    #[test]
    fn a_repeated_content_counts_each_time_and_goes_as_a_whole() {
        let first = inset("image/png", 4000, b'a');
        let second = MediaRef { media_item: Arc::clone(&first.media_item), ..first.clone() };
        let other = inset("image/png", 3996, b'b');
        assert_eq!(choose(&[first, other, second], 0, &SETTINGS), [Choice::Budget, Choice::Inline, Choice::Budget]);
    }
}
