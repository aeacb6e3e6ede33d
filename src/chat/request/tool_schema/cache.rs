//! Remembers the normalised form of every schema by its content, for the life of the process.
//!
//! A session sends the same tools with each request; normalising them again would be the most expensive part of a
//! request. The key is the text itself: a hash alone could mix up two tools.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use foldhash::fast::RandomState;
use serde_json::value::RawValue;

use super::normalize::normalise;

/// Schemas and their normalised forms together, in bytes. Far above what any set of tools needs; beyond it the cache starts
/// anew, which costs time and changes nothing.
const MAX_CACHED_BYTES: usize = 16 << 20;

/// A schema in the form in which it is sent.
#[derive(Debug)]
pub struct Normalised {
    /// Within the subset.
    pub parameters: Box<RawValue>,
    /// What belongs into the tool's description, because the schema cannot say it; often empty.
    pub remark: String,
    /// What was lost and why, for a person.
    pub loss: Option<String>,
}

#[derive(Default)]
struct Cache {
    known: HashMap<Box<str>, Arc<Normalised>, RandomState>,
    bytes: usize,
}

static CACHE: LazyLock<Mutex<Cache>> = LazyLock::new(Mutex::default);

/// The normalised form of a schema given as JSON text; empty text means "no parameters".
pub fn normalised(text: &str) -> Arc<Normalised> {
    if let Some(known) = CACHE.lock().unwrap_or_else(PoisonError::into_inner).known.get(text) {
        return Arc::clone(known);
    }
    // Not under the lock: a large schema takes milliseconds, and other turns wait for theirs.
    let fresh = Arc::new(normalise(text));
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    let size = text.len() + fresh.parameters.get().len() + fresh.remark.len();
    if cache.bytes + size > MAX_CACHED_BYTES {
        *cache = Cache::default();
    }
    if size <= MAX_CACHED_BYTES && cache.known.insert(text.into(), Arc::clone(&fresh)).is_none() {
        cache.bytes += size;
    }
    fresh
}

/// Forgets everything. Changes nothing but the time that the next request takes.
pub fn clear() {
    *CACHE.lock().unwrap_or_else(PoisonError::into_inner) = Cache::default();
}
