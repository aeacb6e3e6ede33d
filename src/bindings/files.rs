//! Uploads a file for a JavaScript program: its bytes in chunks, or its path, and one promise of data.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::error::{answer, defect};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{MAX_FILE, Progress, Uploaded, upload};

/// One upload.
#[napi]
pub struct FileUpload {
    /// The request and the bytes, until the upload begins.
    input: Mutex<Option<(String, Vec<u8>)>>,
    progress: Progress,
    cancel: CancellationToken,
}

#[napi]
impl FileUpload {
    /// Allocates memory for so many bytes on a blocking thread: copying into fresh memory takes five times as long.
    #[napi]
    pub async fn prepare(&self, size: f64) {
        let room = (size.max(0.0) as u64).min(MAX_FILE) as usize;
        let made = in_background(move || {
            // Not zeros: the system maps zeroed memory only when it is first written to.
            let mut memory = vec![1; room];
            memory.clear();
            Ok(memory)
        });
        if let Ok(memory) = made.await
            && let Some((_, content)) = self.input.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
        {
            *content = memory;
        }
    }

    /// Adds bytes. Returns false once there are too many; the upload will be refused.
    #[napi(catch_unwind)]
    pub fn append(&self, bytes: Uint8ArraySlice<'_>) -> bool {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, content)) = input.as_mut() else { return false };
        content.extend_from_slice(&bytes);
        content.len() as u64 <= MAX_FILE
    }

    /// Runs the upload, once.
    #[napi]
    pub async fn result(&self) -> String {
        let input = self.input.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = AssertUnwindSafe(self.run(input)).catch_unwind().await;
        let uploaded = running.unwrap_or_else(|_| Err(defect("upload")));
        answer(uploaded.map(|uploaded| json!(uploaded)))
    }

    /// Returns `[sent, total]` in bytes.
    #[napi(catch_unwind)]
    pub fn progress(&self) -> Vec<f64> {
        [&self.progress.sent, &self.progress.total].map(|count| count.load(Ordering::Relaxed) as f64).to_vec()
    }

    /// Aborts; the promise is fulfilled with the error `cancelled`.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    async fn run(&self, input: Option<(String, Vec<u8>)>) -> Result<Uploaded> {
        let (request, content) = input.ok_or_else(|| Error::new(ErrorKind::Internal, "an upload runs only once"))?;
        let request = serde_json::from_str(&request)
            .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the upload cannot be read: {error}")))?;
        upload(request, content, &self.progress, self.cancel.clone()).await
    }
}

/// Prepares an upload; `request` is JSON.
#[napi(catch_unwind)]
pub fn file_upload(request: String) -> FileUpload {
    FileUpload {
        input: Mutex::new(Some((request, Vec::new()))),
        progress: Progress::default(),
        cancel: CancellationToken::new(),
    }
}
