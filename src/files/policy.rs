//! Which media are sent as references.
//!
//! By size alone: the same history gives the same choice in every session, whatever happens to be known already, because
//! inline bytes and a reference are different prompts to the service's cache.

use std::collections::HashMap;
use std::time::Duration;

use super::body_template::Inset;
use super::media::Digest;
use super::media_type::Kind;

/// Limits of uploading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadSettings {
    /// Images of more decoded bytes than this are uploaded.
    pub threshold: u64,
    /// Bodies longer than this lose their largest inline images to uploads.
    pub budget: u64,
    /// Longest body that is sent when uploading fails.
    pub inline_limit: u64,
    /// Longest time for one file, however large; `None` for no limit.
    pub timeout: Option<Duration>,
}

/// What every upload may take, and the slowest line that is worth waiting for beyond that, in bytes per second.
const PATIENCE: (Duration, u64) = (Duration::from_secs(30), 64 << 10);

impl UploadSettings {
    /// How long one attempt to upload so many bytes may take.
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        let (start, pace) = PATIENCE;
        self.timeout.map(|limit| limit.min(start + Duration::from_secs(bytes / pace)))
    }
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self { threshold: 1 << 20, budget: 8 << 20, inline_limit: 50 << 20, timeout: Some(Duration::from_secs(300)) }
    }
}

/// Why a medium is sent the way it is.
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
pub fn choose(insets: &[Inset], text: u64, settings: &UploadSettings) -> Vec<Choice> {
    let mut choices: Vec<Choice> = insets
        .iter()
        .map(|inset| match inset.media_type.kind {
            Kind::Video => Choice::Video,
            Kind::Image if inset.medium.facts().bytes > settings.threshold => Choice::Large,
            Kind::Image => Choice::Inline,
        })
        .collect();
    // One content may stand in several places; it goes or stays as a whole.
    let mut inline: HashMap<Digest, Vec<usize>> = HashMap::new();
    let mut total = text;
    for (gap, inset) in insets.iter().enumerate().filter(|(gap, _)| !choices[*gap].is_reference()) {
        let facts = inset.medium.facts();
        total += facts.text();
        inline.extend(facts.digest.filter(|digest| !inline.contains_key(digest)).map(|digest| (digest, Vec::new())));
        if let Some(places) = facts.digest.and_then(|digest| inline.get_mut(&digest)) {
            places.push(gap);
        }
    }
    let mut order: Vec<Vec<usize>> = inline.into_values().collect();
    order.sort_by_key(|places| (std::cmp::Reverse(insets[places[0]].medium.facts().bytes), places[0]));
    for places in order {
        if total <= settings.budget {
            break;
        }
        for gap in places {
            total -= insets[gap].medium.facts().text();
            choices[gap] = Choice::Budget;
        }
    }
    choices
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::files::media::Medium;
    use crate::files::media_type::MediaType;

    fn inset(mime: &str, characters: usize, fill: u8) -> Inset {
        let medium = Medium::new(Bytes::from(vec![fill; characters]));
        Inset { medium, media_type: MediaType::named(mime).unwrap(), gap: 0 }
    }

    const SETTINGS: UploadSettings =
        UploadSettings { threshold: 3000, budget: 10_000, inline_limit: 1 << 20, timeout: None };

    #[test]
    fn a_small_file_is_given_up_sooner_than_a_large_one() {
        let settings = UploadSettings::default();
        assert_eq!(settings.time_for(1 << 20), Some(Duration::from_secs(46)));
        assert_eq!(settings.time_for(100 << 20), settings.timeout);
        assert_eq!(UploadSettings { timeout: None, ..settings }.time_for(1), None);
    }

    #[test]
    fn exactly_the_threshold_stays_inline_and_a_video_never_does() {
        let insets = [inset("image/png", 4000, b'a'), inset("image/png", 4002, b'a'), inset("video/mp4", 4, b'a')];
        assert_eq!(insets[0].medium.facts().bytes, 3000);
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
        let second = Inset { medium: Arc::clone(&first.medium), ..first.clone() };
        let other = inset("image/png", 3996, b'b');
        assert_eq!(choose(&[first, other, second], 0, &SETTINGS), [Choice::Budget, Choice::Inline, Choice::Budget]);
    }
}
