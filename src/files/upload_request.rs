//! The request that uploads a file (docs/protocol.md#upload-request): two parts, `file` and `purpose`, as the official client
//! sends them.
//!
//! The request refers to the bytes that we have, so a file costs no second copy; and because they stay, it can be built anew
//! for every attempt (docs/protocol.md#upload-request).

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use super::index::is_file_id;
use super::media_type::MediaType;
use super::readable;
use crate::auth::Credential;
use crate::client::{ExtraHeaders, Kimi};
use crate::config::RetryPolicy;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::http::body::read_whole;
use crate::http::retry::{RetryDecision, RetryState};

/// Bytes handed to the connection at once; progress is told this finely.
const PIECE: usize = 256 << 10;

/// Requests per file, unless the turn's own limit is lower; the official client's library makes as many.
const ATTEMPTS: u32 = 3;

/// Longest wait between two attempts that the service may ask for: there is a way without an upload.
const MAX_DELAY: Duration = Duration::from_secs(15);

/// Longest answer that is read; an ordinary one has 200 bytes.
const MAX_ANSWER: usize = 64 << 10;

/// A file on its way.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The file.
    pub content: Bytes,
    /// What it is sent as.
    pub media_type: MediaType,
    /// What it is called there.
    pub name: String,
    /// Counts bytes that have been handed to the connection.
    pub progress: Arc<AtomicU64>,
}

impl Upload {
    /// Not begun yet.
    pub fn new(content: Bytes, media_type: MediaType) -> Self {
        Self { content, media_type, name: media_type.file_name.to_owned(), progress: Arc::default() }
    }

    /// In bytes.
    pub fn size(&self) -> u64 {
        self.content.len() as u64
    }
}

/// Who uploads.
#[derive(Debug, Clone)]
pub struct UploadClient {
    /// The client.
    pub kimi: Kimi,
    /// Heals itself where the service refuses it.
    pub credential: Credential,
    /// Headers of the caller.
    pub extra: ExtraHeaders,
}

#[derive(Deserialize)]
struct UploadResponse {
    #[serde(default)]
    id: String,
}

impl UploadClient {
    /// Uploads and returns the id. Transient errors are tried again.
    pub async fn upload(&self, file: &Upload, timeout: Option<Duration>) -> Result<String> {
        let attempts = ATTEMPTS.min(self.kimi.config.retry.attempts);
        let policy = RetryPolicy { attempts, max_delay: MAX_DELAY };
        let mut retries = RetryState::default();
        loop {
            retries.attempts += 1;
            let error = match within(timeout, self.send(file)).await {
                Ok(id) => return Ok(id),
                Err(error) => self.kimi.redact_error(error, &self.credential.token(), &self.extra),
            };
            let RetryDecision::Again(delay) = retries.decide(&error, &policy) else { return Err(error) };
            tracing::debug!(attempt = retries.attempts, error = %error, "upload is tried again");
            tokio::time::sleep(delay).await;
        }
    }

    /// One request.
    async fn send(&self, file: &Upload) -> Result<String> {
        file.progress.store(0, Ordering::Relaxed);
        let url = self.kimi.config.endpoint.files();
        let response = self.kimi.post_form(&url, &self.credential, || form(file), &self.extra).await?;
        let body = read_whole(response, MAX_ANSWER).await?;
        match serde_json::from_slice::<UploadResponse>(&body) {
            Ok(answer) if is_file_id(&answer.id) => Ok(answer.id),
            _ => Err(Error::protocol("the answer to an upload names no file", &String::from_utf8_lossy(&body))),
        }
    }
}

fn form(file: &Upload) -> Result<Form> {
    let MediaType { kind, mime, .. } = file.media_type;
    let body = Body::wrap_stream(stream::iter(pieces(file).map(Ok::<_, Infallible>)));
    let part = Part::stream_with_length(body, file.size())
        .file_name(file.name.clone())
        .mime_str(mime)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the upload cannot be written: {error}")))?;
    Ok(Form::new().part("file", part).text("purpose", kind.word()))
}

/// The file in pieces. Each says where it ends, so that a form that is built anew counts from the beginning.
fn pieces(file: &Upload) -> impl Iterator<Item = Bytes> + use<> {
    let (content, progress) = (file.content.clone(), Arc::clone(&file.progress));
    (0..content.len()).step_by(PIECE).map(move |at| {
        let piece = content.slice(at..content.len().min(at + PIECE));
        progress.store((at + piece.len()) as u64, Ordering::Relaxed);
        piece
    })
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(limit) = limit else { return work.await };
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let text = format!("timeout: the upload took longer than {} s", limit.as_secs_f64());
        Err(Error::new(ErrorKind::Timeout(Phase::Body), text))
    })
}

/// `image 2 of 5 (image/png, 1.5 MB)`
pub fn describe(position: usize, count: usize, file: MediaType, bytes: u64) -> String {
    let which = if count > 1 { format!(" {position} of {count}") } else { String::new() };
    format!("{}{which} ({}, {})", file.kind.word(), file.mime, readable(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_begins_again_with_the_file() {
        let media_type = MediaType::named("image/png").unwrap();
        let upload = Upload::new(Bytes::from(vec![0; PIECE * 2 + 5]), media_type);
        let mut given_up = pieces(&upload);
        given_up.next();
        given_up.next();
        let sent = pieces(&upload).map(|piece| {
            assert!(upload.progress.load(Ordering::Relaxed) <= upload.size());
            piece.len() as u64
        });
        assert_eq!(sent.sum::<u64>(), upload.size());
        assert_eq!(upload.progress.load(Ordering::Relaxed), upload.size());
    }
}
