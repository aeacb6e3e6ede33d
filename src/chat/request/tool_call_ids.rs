//! Ids of tool calls, unique in a conversation.
//!
//! Moonshot's models count `Read:0`, `Read:1` anew in every answer, but Pi keys its rows on the id and the service refuses a request
//! that names one twice (docs/protocol.md#tool-call-ids). So a repeated id gets a suffix, once and for all: before
//! Pi hears of the call, and by the same rule for histories that others have recorded.

use std::collections::{HashMap, HashSet};

/// Longest id that the service takes.
const MAX_ID: usize = 64;

/// Hands out ids and remembers which ones are taken.
#[derive(Debug, Default, Clone)]
pub struct CallIds {
    /// In the form that is sent.
    used: HashSet<String>,
    repeats: HashMap<String, u32>,
}

impl CallIds {
    /// Remembers an id that Pi already knows.
    pub fn reserve(&mut self, recorded: &str) {
        self.used.insert(safe(recorded));
    }

    /// The id under which a new call is announced: as the service named it, or with a suffix if that name is taken.
    pub fn fresh(&mut self, received: &str) -> String {
        let base = safe(received);
        if self.used.insert(base.clone()) {
            return received.to_owned();
        }
        let (id, suffix) = self.distinct(&base);
        // Short ids keep the service's own spelling; that of a long one would not leave room for the suffix.
        if base.len() == received.len() && base.len() + suffix.len() <= MAX_ID {
            format!("{received}{suffix}")
        } else {
            id
        }
    }

    /// The id that stands for a recorded one in a request: safe characters, at most 64 of them, unique.
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

/// Safe characters only, all of them one byte long.
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
    fn a_name_that_pi_knows_already_gets_a_suffix() {
        let mut ids = CallIds::default();
        ids.reserve("bash:0");
        assert_eq!(ids.fresh("bash:0"), "bash:0__2");
        assert_eq!(ids.fresh("bash:1"), "bash:1");
        assert_eq!(ids.fresh("bash:0"), "bash:0__3");
        assert_eq!(ids.fresh("bash_1"), "bash_1__2", "the same once it is sent");
    }

    /// What Pi was told is what later requests carry.
    #[test]
    fn an_announced_id_is_sent_unchanged_in_every_later_request() {
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
    fn long_and_odd_ids_stay_apart_within_the_limit() {
        let mut ids = CallIds::default();
        let long = "é".repeat(80);
        assert_eq!(ids.assign(&long).len(), 64);
        let second = ids.assign(&long);
        assert!(second.len() == 64 && second.ends_with("__2"));
        assert!(ids.fresh(&long).len() <= 64);
        assert_eq!(ids.assign(""), "tool_call");
    }
}
