//! Runs napi's promises on the addon's own runtime ([`crate::runtime`]), which no Node environment ends.

use std::future::Future;
use std::pin::Pin;

use napi::bindgen_prelude::{AsyncRuntime, AsyncRuntimeRejection, AsyncRuntimeTask, register_async_runtime};

use crate::error::Error;
use crate::runtime;

struct ProcessRuntime;

fn refused(error: &Error) -> napi::Error {
    napi::Error::from_reason(error.message.as_str())
}

#[allow(unsafe_code, reason = "the trait is unsafe to implement")]
// SAFETY: after `shutdown` the runtime's threads go on, so the addon's image must stay loaded. napi pins it when a runtime is
// registered (`retain_current_module_for_unload_safety`).
unsafe impl AsyncRuntime for ProcessRuntime {
    fn spawn(&self, task: AsyncRuntimeTask) -> Result<(), AsyncRuntimeRejection<AsyncRuntimeTask>> {
        match runtime::handle() {
            Ok(handle) => {
                handle.spawn(urgently(task));
                Ok(())
            }
            Err(error) => Err(AsyncRuntimeRejection::new(task, refused(&error))),
        }
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) -> napi::Result<()> {
        runtime::handle().map_err(|error| refused(&error))?.block_on(urgently(future));
        Ok(())
    }

    /// An environment ended: a worker thread or the process. What is under way goes on.
    fn shutdown(&self) -> napi::Result<()> {
        Ok(())
    }
}

/// Keeps the I/O thread from waiting for ticks until `task` has ended.
fn urgently<T>(task: impl Future<Output = T>) -> impl Future<Output = T> {
    let urgent = runtime::tick().urgent();
    async move {
        let _urgent = urgent;
        task.await
    }
}

/// Registers the runtime with napi.
pub fn register() {
    register_async_runtime(ProcessRuntime);
}

/// Starts a task that no JavaScript promise waits for.
pub fn spawn(task: impl Future<Output = ()> + Send + 'static) -> napi::Result<()> {
    runtime::handle().map_err(|error| refused(&error))?.spawn(urgently(task));
    Ok(())
}

/// Starts a task that decides itself, through a [`runtime::StreamPace`], whether it may wait for ticks.
pub fn spawn_paced(task: impl Future<Output = ()> + Send + 'static) -> napi::Result<()> {
    runtime::handle().map_err(|error| refused(&error))?.spawn(task);
    Ok(())
}
