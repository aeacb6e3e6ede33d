//! Runs work that blocks or computes on threads of its own.
//!
//! One thread serves all turns of the process. File access, hashing and long conversations would delay every stream there.

use crate::error::{Error, ErrorKind, Result};

/// Runs `work` on a thread that may block. A panic there becomes an error.
pub async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a background step failed unexpectedly")))
}
