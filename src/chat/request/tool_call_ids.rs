//! Makes the ids of tool calls unique in a conversation.
//!
//! Moonshot's models start over with `Read:0`, `Read:1` in every answer, but Pi keys its rows by id and the service refuses a
//! request that repeats one (docs/protocol.md#tool-call-ids). A repeated id gets a suffix before Pi sees the call. Recorded
//! histories follow the same rule.

use std::collections::{HashMap, HashSet};

/// Longest id that the service takes, in bytes.
const MAX_ID: usize = 64;

/// Generates an id for a call that came without one; unique in the session, because Pi keys its rows on it.
pub fn new_call_id() -> String {
    format!("call_{:016x}", rand::random::<u64>())
}

/// Hands out ids and keeps track of those in use.
#[derive(Debug, Default, Clone)]
pub struct CallIds {
    /// Ids in the form in which they are sent.
    used: HashSet<String>,
    repeats: HashMap<String, u32>,
}

impl CallIds {
    /// Reserves an id that Pi already has.
    pub fn reserve(&mut self, recorded: &str) {
        self.used.insert(safe(recorded));
    }

    /// Returns the id under which a new call is announced: the service's own, or that with a suffix if it is taken.
    pub fn fresh(&mut self, received: &str) -> String {
        let base = safe(received);
        if self.used.insert(base.clone()) {
            return received.to_owned();
        }
        let (id, suffix) = self.distinct(&base);
        // A short id keeps the service's spelling; a long one leaves no room for the suffix.
        if base.len() == received.len() && base.len() + suffix.len() <= MAX_ID {
            format!("{received}{suffix}")
        } else {
            id
        }
    }

    /// Returns the id that is sent for a recorded one: unique, at most 64 safe characters.
    pub fn assign(&mut self, recorded: &str) -> String {
        let base = safe(recorded);
        if self.used.insert(base.clone()) {
            return base;
        }
        self.distinct(&base).0
    }

    fn distinct(&mut self, base: &str) -> (String, String) {
        let count = self.repeats.entry(base.to_owned()).or_insert(1);
        loop {
            *count += 1;
            let suffix = format!("__{count}");
            let id = format!("{}{suffix}", &base[..base.len().min(MAX_ID - suffix.len())]);
            if self.used.insert(id.clone()) {
                return (id, suffix);
            }
        }
    }
}

/// Replaces unsafe characters, so that every remaining one is a single byte.
fn safe(id: &str) -> String {
    let safe: String = id
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' })
        .take(MAX_ID)
        .collect();
    if safe.is_empty() { "tool_call".to_owned() } else { safe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_id_gets_a_suffix() {
        let mut ids = CallIds::default();
        ids.reserve("bash:0");
        assert_eq!(ids.fresh("bash:0"), "bash:0__2");
        assert_eq!(ids.fresh("bash:1"), "bash:1");
        assert_eq!(ids.fresh("bash:0"), "bash:0__3");
        assert_eq!(ids.fresh("bash_1"), "bash_1__2", "both are sent in the same form");
    }

    /// Later requests carry the ids that Pi was told.
    #[test]
    fn announced_ids_are_sent_unchanged_in_every_later_request() {
        let mut announced = Vec::new();
        for turn in 0..4 {
            let mut ids = CallIds::default();
            announced.iter().for_each(|id: &String| ids.reserve(id));
            announced.push(ids.fresh("bash:0"));
            let mut sent = CallIds::default();
            let now: Vec<String> = announced.iter().map(|id| sent.assign(id)).collect();
            let expected = ["bash_0", "bash_0__2", "bash_0__3", "bash_0__4"];
            assert_eq!(now, expected[..=turn]);
        }
    }

    #[test]
    fn long_and_unusual_ids_stay_distinct_within_the_limit() {
        let mut ids = CallIds::default();
        let long = "é".repeat(80);
        assert_eq!(ids.assign(&long).len(), 64);
        let second = ids.assign(&long);
        assert!(second.len() == 64 && second.ends_with("__2"));
        assert!(ids.fresh(&long).len() <= 64);
        assert_eq!(ids.assign(""), "tool_call");
    }
}
