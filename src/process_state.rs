//! Everything that lives as long as the process, in one owned place.
//!
//! Each module keeps its part in a type of its own (connection pools, refreshes under way, known uploads) and documents its
//! bounds there. Production code shares one [`ProcessState`]; a test makes its own and starts empty.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Owns one value of each type that was asked for.
#[derive(Default)]
pub struct ProcessState {
    parts: Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>,
}

impl ProcessState {
    /// Returns the state that all clients of this process share.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<ProcessState>> = OnceLock::new();
        Arc::clone(SHARED.get_or_init(Arc::default))
    }

    /// Returns the part of type `T`, created with its default on first use.
    pub fn get<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let part = parts.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        // The map's key is the type, so the downcast finds it; the default is for the compiler.
        Arc::clone(part).downcast().unwrap_or_default()
    }
}

impl fmt::Debug for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessState")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Names(Mutex<Vec<String>>);

    #[test]
    fn process_state_one_value_per_type_and_owner() {
        let state = ProcessState::default();
        state.get::<Names>().0.lock().unwrap().push("a".to_owned());
        assert_eq!(*state.get::<Names>().0.lock().unwrap(), ["a"]);
        assert!(ProcessState::default().get::<Names>().0.lock().unwrap().is_empty());
        assert!(Arc::ptr_eq(&ProcessState::shared(), &ProcessState::shared()));
    }
}
