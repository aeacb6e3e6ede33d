//! What a session's images have shown: which ones the service took, and which ones it refused.
//!
//! A refused image stays in the history, so the next turn would send it, be refused, and send the request a second time without
//! it; and the answers in between belong to a prompt without it. So what was left out once stays left out, in the same words, and
//! the service finds the prompt it has cached. Kept in memory only: a new process learns it again with one refused request.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{IMAGE_LEFT_OUT, parts_of};
use crate::chat::request::normalize::Item;
use crate::chat::request::transcript::Part;
use crate::files::Digest;

/// Sessions that are remembered; beyond that, all are forgotten.
const MAX_SESSIONS: usize = 256;

/// A image or film, whichever message it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageKey {
    /// A content.
    File(Digest),
    /// An address.
    Link(String),
}

impl ImageKey {
    /// The image that this part is.
    pub fn of(part: &Part<'_>) -> Option<Self> {
        match part {
            Part::MediaRef(inset) => inset.media_item.info().digest.map(Self::File),
            Part::Link { url, .. } => Some(Self::Link(url.clone().into_owned())),
            _ => None,
        }
    }

    /// All that stand in these turns.
    pub fn all(turns: &[Item<'_>]) -> Vec<Self> {
        let parts = turns.iter().flat_map(|turn| match turn {
            Item::User(parts) | Item::ToolResult { parts, .. } => parts.as_slice(),
            _ => &[],
        });
        parts.filter_map(Self::of).collect()
    }
}

/// What is known about a session's images.
#[derive(Debug, Clone, Default)]
pub struct RejectionCache {
    taken: HashSet<ImageKey>,
    refused: HashSet<ImageKey>,
}

impl RejectionCache {
    /// Of this session; a caller that names none has no history either.
    pub fn of(session: Option<&str>) -> Self {
        session.and_then(|session| sessions().get(session).cloned()).unwrap_or_default()
    }

    /// The service has taken the images `sent` and refused those that are `refused`.
    pub fn learn(session: Option<&str>, sent: &[ImageKey], refused: &[ImageKey]) {
        let Some(session) = session.filter(|_| !sent.is_empty() || !refused.is_empty()) else { return };
        let mut sessions = sessions();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        let memory = sessions.entry(session.to_owned()).or_default();
        memory.taken.extend(sent.iter().cloned());
        memory.refused.extend(refused.iter().cloned());
    }

    /// Whether the service has ever taken this image.
    pub fn has_taken(&self, image: &ImageKey) -> bool {
        self.taken.contains(image)
    }

    /// Leaves out what was left out before.
    pub fn apply(&self, turns: &mut [Item<'_>]) {
        if !self.refused.is_empty() {
            leave_out(turns, |image| self.refused.contains(image));
        }
    }
}

/// Puts a word in the place of the images that `which` names, and returns them.
pub(super) fn leave_out(turns: &mut [Item<'_>], which: impl Fn(&ImageKey) -> bool) -> Vec<ImageKey> {
    let mut left_out = Vec::new();
    for part in turns.iter_mut().filter_map(parts_of).flatten() {
        if let Some(image) = ImageKey::of(part).filter(&which) {
            *part = Part::Text(IMAGE_LEFT_OUT.into());
            left_out.push(image);
        }
    }
    left_out
}

fn sessions() -> MutexGuard<'static, HashMap<String, RejectionCache>> {
    static SESSIONS: OnceLock<Mutex<HashMap<String, RejectionCache>>> = OnceLock::new();
    SESSIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(url: &str) -> ImageKey {
        ImageKey::Link(url.to_owned())
    }

    #[test]
    fn sessions_learn_for_themselves() {
        RejectionCache::learn(Some("quarantine a"), &[link("good")], &[link("bad")]);
        RejectionCache::learn(None, &[link("good")], &[link("bad")]);
        let memory = RejectionCache::of(Some("quarantine a"));
        assert!(memory.has_taken(&link("good")) && memory.refused.contains(&link("bad")));
        for other in [Some("quarantine b"), None] {
            let memory = RejectionCache::of(other);
            assert!(!memory.has_taken(&link("good")) && memory.refused.is_empty());
        }
    }
}
