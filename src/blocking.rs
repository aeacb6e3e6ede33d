//! Runs work that blocks or computes on threads of its own.
//!
//! One thread serves all turns of the process. File access, hashing and long conversations would delay every stream there.

use std::any::Any;

use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind, Result};

/// Runs `work` on a thread that may block. A panic there becomes an error.
pub async fn in_background<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = || Error::new(ErrorKind::Internal, "a background step failed unexpectedly");
    let outcome = spawn(Box::new(move || Box::new(work()))).await.map_err(|_| failed())?;
    outcome.downcast::<Result<T>>().map_or_else(|_| Err(failed()), |outcome| *outcome)
}

/// Boxed, because tokio's code for a task would otherwise exist once for each kind of work, a few kilobytes each.
type Work = Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>;

fn spawn(work: Work) -> JoinHandle<Box<dyn Any + Send>> {
    tokio::task::spawn_blocking(work)
}
