//! Uploads a file for a JavaScript program: its bytes in chunks, or its path, and one promise of data.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use futures_util::FutureExt;
use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::error::{answer, defect};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{MAX_FILE, UploadProgress, prepare_media as prepare, upload};

/// One upload.
#[napi]
pub struct FileUpload {
    /// The request and the bytes, until the upload begins.
    input: Mutex<Option<(String, Vec<u8>)>>,
    progress: UploadProgress,
    cancel: CancellationToken,
    /// Whether the result is a reference for a session, else the uploaded file.
    for_session: bool,
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
        answer(uploaded)
    }

    /// Returns `[sent, total]` in bytes.
    #[napi(catch_unwind)]
    pub fn progress(&self) -> Vec<f64> {
        [&self.progress.sent, &self.progress.total].map(|count| count.load(Ordering::Relaxed) as f64).to_vec()
    }

    /// Returns "uploading 12.3 MB of 60.2 MB (20 %, 3.1 MB/s)", once the upload has begun.
    #[napi(catch_unwind)]
    pub fn progress_text(&self) -> Option<String> {
        self.progress.text()
    }

    /// Aborts; the promise is fulfilled with the error `cancelled`.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    async fn run(&self, input: Option<(String, Vec<u8>)>) -> Result<Value> {
        let (request, content) = input.ok_or_else(|| Error::new(ErrorKind::Internal, "an upload runs only once"))?;
        let request = serde_json::from_str(&request)
            .map_err(|error| Error::new(ErrorKind::BadRequest, format!("the upload cannot be read: {error}")))?;
        let (progress, cancel) = (&self.progress, self.cancel.clone());
        if self.for_session {
            prepare(request, progress, cancel).await.map(|media| json!(media))
        } else {
            upload(request, content, progress, cancel).await.map(|file| json!(file))
        }
    }
}

impl FileUpload {
    fn new(request: String, for_session: bool) -> Self {
        Self {
            input: Mutex::new(Some((request, Vec::new()))),
            progress: UploadProgress::default(),
            cancel: CancellationToken::new(),
            for_session,
        }
    }
}

/// Makes an upload; `request` is JSON, see [`crate::files::FileRequest`].
#[napi(catch_unwind)]
pub fn file_upload(request: String) -> FileUpload {
    FileUpload::new(request, false)
}

/// Makes an upload of a file on disk for a session; `request` is that of [`file_upload`] with `path`. Its result is
/// [`crate::files::PreparedMedia`].
#[napi(catch_unwind)]
pub fn prepare_media(request: String) -> FileUpload {
    FileUpload::new(request, true)
}
