//! Contents that the user named in a prompt. They are uploaded by the turn of that prompt, which shows the progress and can be
//! aborted, and not by the hook that reads the prompt.
//!
//! Only the extension adds contents, for paths that the user wrote, so a forged marker never causes an upload.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::media_marker::StoredMedia;

/// Most contents that are remembered; the oldest one goes first.
const MAX_CONTENTS: usize = 100;

/// The contents of this process.
#[derive(Debug, Default)]
pub(super) struct PromptMedia(Mutex<VecDeque<StoredMedia>>);

impl PromptMedia {
    /// Lets the content be uploaded from its path.
    pub fn allow(&self, media: StoredMedia) {
        self.revoke(&media);
        let mut contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if contents.len() == MAX_CONTENTS {
            contents.pop_front();
        }
        contents.push_back(media);
    }

    /// Returns the path of a content, if it may be uploaded.
    pub fn path(&self, media: &StoredMedia) -> Option<PathBuf> {
        let contents = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        contents.iter().find(|known| is_same(known, media)).and_then(|known| known.path.clone())
    }

    /// Forgets a content.
    pub fn revoke(&self, media: &StoredMedia) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|known| !is_same(known, media));
    }
}

fn is_same(one: &StoredMedia, other: &StoredMedia) -> bool {
    (one.digest, one.kind) == (other.digest, other.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Digest;
    use crate::files::media_type::MediaKind;

    fn media(number: usize, kind: MediaKind, path: &str) -> StoredMedia {
        StoredMedia { digest: Digest::parse(&format!("{number:064x}")).unwrap(), kind, path: Some(path.into()) }
    }

    #[test]
    fn prompt_media_newest_path_of_a_content_until_it_is_revoked() {
        let prompt_media = PromptMedia::default();
        let video = media(1, MediaKind::Video, "/new.mp4");
        prompt_media.allow(media(1, MediaKind::Video, "/old.mp4"));
        prompt_media.allow(video.clone());
        assert_eq!(prompt_media.path(&video), Some("/new.mp4".into()));
        assert_eq!(prompt_media.path(&media(1, MediaKind::Image, "")), None);
        assert_eq!(prompt_media.path(&media(2, MediaKind::Video, "")), None);
        prompt_media.revoke(&video);
        assert_eq!(prompt_media.path(&video), None);
    }

    #[test]
    fn prompt_media_are_bounded() {
        let prompt_media = PromptMedia::default();
        for number in 0..=MAX_CONTENTS {
            prompt_media.allow(media(number, MediaKind::Video, "/a.mp4"));
        }
        assert_eq!(prompt_media.path(&media(0, MediaKind::Video, "")), None);
        assert!(prompt_media.path(&media(1, MediaKind::Video, "")).is_some());
    }
}
