//! Finishes token calls when the process exits, also where no JavaScript listener runs.
//!
//! Node calls `exit` handlers for the main thread only. If a worker thread alone has loaded the addon, none of ours is among
//! them, so the C library is asked as well. Windows stops all other threads before it runs such handlers; there the listener of
//! the main thread (`extension/native/loader.ts`) has to do.

use std::panic::catch_unwind;

use crate::auth::refresh;

/// Registers the handler, once per process.
pub fn register() {
    #[allow(unsafe_code, reason = "there is no safe way to register a handler for exit()")]
    // SAFETY: the handler takes no arguments, does not unwind and stays loaded, because napi pins the addon's image.
    unsafe {
        libc::atexit(finish);
    }
}

extern "C" fn finish() {
    // A panic must not cross into the C library; the process ends either way.
    let _ = catch_unwind(refresh::shutdown);
}
