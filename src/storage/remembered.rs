//! Values that this process remembers: what is on disk already, and what a read-only disk does not take.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values kept until the process ends, at most `MAX`; the oldest ones go first. Make it a part of
/// [`crate::process_state::ProcessState`].
#[derive(Debug)]
pub struct Remembered<K, V, const MAX: usize>(Mutex<RememberedValues<K, V>>);

#[derive(Debug)]
struct RememberedValues<K, V> {
    /// Each value with the number of its insertion.
    by_key: HashMap<K, (u64, V)>,
    inserted: u64,
}

impl<K, V, const MAX: usize> Default for Remembered<K, V, MAX> {
    fn default() -> Self {
        Self(Mutex::new(RememberedValues { by_key: HashMap::new(), inserted: 0 }))
    }
}

impl<K: Eq + Hash + Clone, V: Clone, const MAX: usize> Remembered<K, V, MAX> {
    /// Returns the value of `key`.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().by_key.get(key).map(|(_, value)| value.clone())
    }

    /// Returns all values whose key matches.
    pub fn find(&self, matches: impl Fn(&K) -> bool) -> Vec<V> {
        let values = self.lock();
        values.by_key.iter().filter(|(key, _)| matches(key)).map(|(_, (_, value))| value.clone()).collect()
    }

    /// Remembers a value in place of an older one.
    pub fn insert(&self, key: K, value: V) {
        let mut values = self.lock();
        values.inserted += 1;
        let number = values.inserted;
        values.by_key.insert(key, (number, value));
        if values.by_key.len() > MAX
            && let Some(oldest) =
                values.by_key.iter().min_by_key(|(_, (number, _))| *number).map(|(key, _)| key.clone())
        {
            values.by_key.remove(&oldest);
        }
    }

    /// Forgets a value.
    pub fn remove(&self, key: &K) {
        self.remove_if(key, |_| true);
    }

    /// Forgets a value for which `unwanted` holds.
    pub fn remove_if(&self, key: &K, unwanted: impl FnOnce(&V) -> bool) {
        let mut values = self.lock();
        if values.by_key.get(key).is_some_and(|(_, value)| unwanted(value)) {
            values.by_key.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, RememberedValues<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembered_the_oldest_value_goes_first() {
        let values = Remembered::<u8, u8, 2>::default();
        [1, 2, 1, 3].into_iter().for_each(|key| values.insert(key, key * 10));
        assert_eq!([1, 2, 3].map(|key| values.get(&key)), [Some(10), None, Some(30)]);
        values.remove_if(&1, |value| *value == 99);
        values.remove(&3);
        assert_eq!(values.find(|_| true), [10]);
    }
}
