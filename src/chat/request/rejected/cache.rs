//! Remembers per session which images the service accepted and which it refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use super::images::{ImageKey, leave_out};
use crate::chat::request::normalize::Item;

/// Most sessions that are remembered. Beyond that, all are dropped, which costs one refused request each.
const MAX_SESSIONS: usize = 256;

/// The images of all sessions of this process.
#[derive(Debug, Default)]
pub struct SessionRejections(Mutex<HashMap<String, RejectionCache>>);

/// What is known about the images of one session.
#[derive(Debug, Clone, Default)]
pub struct RejectionCache {
    accepted: HashSet<ImageKey>,
    refused: HashSet<ImageKey>,
}

impl SessionRejections {
    /// Returns what is known about a session; nothing for a caller without one.
    pub fn of(&self, session: Option<&str>) -> RejectionCache {
        let sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        session.and_then(|session| sessions.get(session).cloned()).unwrap_or_default()
    }

    /// Records that the service accepted the images `sent` and refused those in `refused`.
    pub fn learn(&self, session: Option<&str>, sent: &[ImageKey], refused: &[ImageKey]) {
        let Some(session) = session.filter(|_| !sent.is_empty() || !refused.is_empty()) else { return };
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        let cache = sessions.entry(session.to_owned()).or_default();
        cache.accepted.extend(sent.iter().cloned());
        cache.refused.extend(refused.iter().cloned());
    }
}

impl RejectionCache {
    /// Returns whether the service ever accepted this image.
    pub fn has_accepted(&self, image: &ImageKey) -> bool {
        self.accepted.contains(image)
    }

    /// Leaves out the images that were refused before.
    pub fn apply(&self, turns: &mut [Item<'_>]) {
        if !self.refused.is_empty() {
            leave_out(turns, |image| self.refused.contains(image));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(url: &str) -> ImageKey {
        ImageKey::Link(url.to_owned())
    }

    #[test]
    fn sessions_learn_separately() {
        let sessions = SessionRejections::default();
        sessions.learn(Some("a"), &[link("good")], &[link("bad")]);
        sessions.learn(None, &[link("good")], &[link("bad")]);
        let cache = sessions.of(Some("a"));
        assert!(cache.has_accepted(&link("good")) && cache.refused.contains(&link("bad")));
        for other in [Some("b"), None] {
            let cache = sessions.of(other);
            assert!(!cache.has_accepted(&link("good")) && cache.refused.is_empty());
        }
    }
}
