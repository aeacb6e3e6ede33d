//! Remembers the normalized form of every schema, by its text, for the life of the process.
//!
//! A session sends the same tools with each request, and normalizing them again would be the most expensive part of it. The
//! key is the text itself, because a hash could confuse two tools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;

use super::normalize::normalize;
use super::normalized::NormalizedSchema;

/// Most bytes of schemas and their normalized forms together, far above what any set of tools needs. Beyond it the cache is
/// emptied, which only costs time.
const MAX_CACHED_BYTES: usize = 16 << 20;

/// The normalized schemas of this process.
#[derive(Debug, Default)]
pub struct SchemaCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    known: HashMap<Box<str>, Arc<NormalizedSchema>, RandomState>,
    bytes: usize,
}

impl SchemaCache {
    /// Returns the normalized form of a schema given as JSON text. Empty text means "no parameters".
    pub fn normalized(&self, text: &str) -> Arc<NormalizedSchema> {
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(text) {
            return Arc::clone(known);
        }
        // Not under the lock: a large schema takes milliseconds, and other turns wait for theirs.
        let fresh = Arc::new(normalize(text));
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let size = text.len() + fresh.parameters.get().len() + fresh.hint.len();
        if cache.bytes + size > MAX_CACHED_BYTES {
            *cache = Entries::default();
        }
        if size <= MAX_CACHED_BYTES && cache.known.insert(text.into(), Arc::clone(&fresh)).is_none() {
            cache.bytes += size;
        }
        fresh
    }
}
