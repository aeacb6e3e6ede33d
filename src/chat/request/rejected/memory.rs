//! What a session's pictures have shown: which ones the service took, and which ones it refused.
//!
//! A refused picture stays in the history, so the next turn would send it, be refused, and send the request a second time without
//! it; and the answers in between belong to a prompt without it. So what was left out once stays left out, in the same words, and
//! the service finds the prompt it has cached. Kept in memory only: a new process learns it again with one refused request.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{IMAGE_LEFT_OUT, parts_of};
use crate::chat::request::normalize::Turn;
use crate::chat::request::transcript::Part;
use crate::files::Digest;

/// Sessions that are remembered; beyond that, all are forgotten.
const MAX_SESSIONS: usize = 256;

/// A picture or film, whichever message it stands in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Picture {
    /// A content.
    File(Digest),
    /// An address.
    Link(String),
}

impl Picture {
    /// The picture that this part is.
    pub fn of(part: &Part<'_>) -> Option<Self> {
        match part {
            Part::Inset(inset) => inset.medium.facts().digest.map(Self::File),
            Part::Link { url, .. } => Some(Self::Link(url.clone().into_owned())),
            _ => None,
        }
    }

    /// All that stand in these turns.
    pub fn all(turns: &[Turn<'_>]) -> Vec<Self> {
        let parts = turns.iter().flat_map(|turn| match turn {
            Turn::User(parts) | Turn::ToolResult { parts, .. } => parts.as_slice(),
            _ => &[],
        });
        parts.filter_map(Self::of).collect()
    }
}

/// What is known about a session's pictures.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    taken: HashSet<Picture>,
    refused: HashSet<Picture>,
}

impl Memory {
    /// Of this session; a caller that names none has no history either.
    pub fn of(session: Option<&str>) -> Self {
        session.and_then(|session| sessions().get(session).cloned()).unwrap_or_default()
    }

    /// The service has taken the pictures `sent` and refused those that are `refused`.
    pub fn learn(session: Option<&str>, sent: &[Picture], refused: &[Picture]) {
        let Some(session) = session.filter(|_| !sent.is_empty() || !refused.is_empty()) else { return };
        let mut sessions = sessions();
        if sessions.len() >= MAX_SESSIONS && !sessions.contains_key(session) {
            sessions.clear();
        }
        let memory = sessions.entry(session.to_owned()).or_default();
        memory.taken.extend(sent.iter().cloned());
        memory.refused.extend(refused.iter().cloned());
    }

    /// Whether the service has ever taken this picture.
    pub fn has_taken(&self, picture: &Picture) -> bool {
        self.taken.contains(picture)
    }

    /// Leaves out what was left out before.
    pub fn apply(&self, turns: &mut [Turn<'_>]) {
        if !self.refused.is_empty() {
            leave_out(turns, |picture| self.refused.contains(picture));
        }
    }
}

/// Puts a word in the place of the pictures that `which` names, and returns them.
pub(super) fn leave_out(turns: &mut [Turn<'_>], which: impl Fn(&Picture) -> bool) -> Vec<Picture> {
    let mut left_out = Vec::new();
    for part in turns.iter_mut().filter_map(parts_of).flatten() {
        if let Some(picture) = Picture::of(part).filter(&which) {
            *part = Part::Text(IMAGE_LEFT_OUT.into());
            left_out.push(picture);
        }
    }
    left_out
}

fn sessions() -> MutexGuard<'static, HashMap<String, Memory>> {
    static SESSIONS: OnceLock<Mutex<HashMap<String, Memory>>> = OnceLock::new();
    SESSIONS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(url: &str) -> Picture {
        Picture::Link(url.to_owned())
    }

    #[test]
    fn sessions_learn_for_themselves() {
        Memory::learn(Some("quarantine a"), &[link("good")], &[link("bad")]);
        Memory::learn(None, &[link("good")], &[link("bad")]);
        let memory = Memory::of(Some("quarantine a"));
        assert!(memory.has_taken(&link("good")) && memory.refused.contains(&link("bad")));
        for other in [Some("quarantine b"), None] {
            let memory = Memory::of(other);
            assert!(!memory.has_taken(&link("good")) && memory.refused.is_empty());
        }
    }
}
