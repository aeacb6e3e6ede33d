//! Sends the request that uploads a file: two parts, `file` and `purpose` (docs/protocol.md#upload-request).
//!
//! The request refers to the bytes that we have, or reads them from disk chunk by chunk. So a file needs no second copy, and the
//! request can be built again for every attempt.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;

use super::disk_file::{CHUNK, FileReading, MediaFile};
use super::index::is_file_id;
use super::media_info::Digest;
use super::media_type::MediaType;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::{ExtraHeaders, Kimi};
use crate::config::{RetryPolicy, UploadLimits};
use crate::display_text::size;
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::http::body::read_whole;
use crate::http::retry::{RetryDecision, RetryState};
use crate::http::timeout;

/// Requests per file, unless the turn's own limit is lower; as many as in the official client's library.
const ATTEMPTS: u32 = 3;

/// Longest wait between two attempts that the service may ask for: an image can be sent inline instead.
const MAX_DELAY: Duration = Duration::from_secs(15);

/// Time that every upload gets, whatever its size.
const BASE_TIME: Duration = Duration::from_secs(30);

/// Slowest connection that an upload waits for beyond [`BASE_TIME`], in bytes per second.
const SLOWEST_RATE: u64 = 64 << 10;

/// Longest answer that is read, in bytes; an ordinary one has 200.
const MAX_ANSWER: usize = 64 << 10;

/// Returns how long one attempt to upload so many bytes may take.
pub(super) fn upload_timeout(limits: &UploadLimits, bytes: u64) -> Option<Duration> {
    limits.timeout.map(|limit| limit.min(BASE_TIME + Duration::from_secs(bytes / SLOWEST_RATE)))
}

/// The content of a file to upload.
#[derive(Debug, Clone)]
pub enum UploadContent {
    /// Bytes that we have.
    Memory(Bytes),
    /// A file on disk that must still have this digest.
    Disk {
        /// The open file.
        file: MediaFile,
        /// Identity of its content.
        digest: Digest,
        /// Where it is, for a later upload of the same content.
        path: PathBuf,
    },
}

/// A file to upload.
#[derive(Debug, Clone)]
pub struct Upload {
    /// The content.
    pub content: UploadContent,
    /// What it is sent as.
    pub media_type: MediaType,
    /// File name that is sent.
    pub name: String,
    /// Bytes that have been handed to the connection.
    pub progress: Arc<AtomicU64>,
    /// Why the content could not be read from disk.
    read_error: Arc<OnceLock<String>>,
}

impl Upload {
    /// Describes an upload of bytes under the usual name of the type.
    pub fn new(content: Bytes, media_type: MediaType) -> Self {
        Self::of(UploadContent::Memory(content), media_type)
    }

    /// Describes an upload under the usual name of the type.
    pub fn of(content: UploadContent, media_type: MediaType) -> Self {
        let name = media_type.file_name.to_owned();
        Self { content, media_type, name, progress: Arc::default(), read_error: Arc::default() }
    }

    /// Sends the file under its own name where that is possible.
    pub fn keep_name(&mut self, name: Option<&str>) {
        if let Some(name) = name.filter(|name| may_keep_name(name, self.media_type)) {
            name.clone_into(&mut self.name);
        }
    }

    /// Returns the size in bytes.
    pub fn size(&self) -> u64 {
        match &self.content {
            UploadContent::Memory(bytes) => bytes.len() as u64,
            UploadContent::Disk { file, .. } => file.size(),
        }
    }

    /// Returns where the content is on disk.
    pub fn path(&self) -> Option<&PathBuf> {
        match &self.content {
            UploadContent::Memory(_) => None,
            UploadContent::Disk { path, .. } => Some(path),
        }
    }
}

/// Uploads with one credential.
#[derive(Debug, Clone)]
pub struct UploadClient {
    /// The client.
    pub kimi: Kimi,
    /// Refreshed once where the service refuses it.
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
    /// Uploads a file and returns its id. Transient errors are retried.
    pub async fn upload(&self, file: &Upload, timeout: Option<Duration>) -> Result<String> {
        let attempts = ATTEMPTS.min(self.kimi.config.retry.attempts);
        let policy = RetryPolicy { attempts, max_delay: MAX_DELAY, max_total: None };
        let mut retries = RetryState::default();
        loop {
            retries.attempts += 1;
            let error = match within(timeout, self.send(file)).await {
                Ok(id) => return Ok(id),
                // What the connection says about it would only hide the cause.
                Err(_) if file.read_error.get().is_some() => {
                    let why = file.read_error.get().map(String::as_str).unwrap_or_default();
                    return Err(Error::new(ErrorKind::Io, format!("{} cannot be uploaded: {why}", file.name)));
                }
                Err(error) => error,
            };
            let RetryDecision::Again(delay) = retries.decide(&error, &policy) else { return Err(error) };
            tracing::info!(attempt = retries.attempts, error = %error, "retrying the upload");
            tokio::time::sleep(delay).await;
        }
    }

    /// Sends one request.
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

/// Whether a file may keep its name, as in the official client: plain characters, and the extension of its real type.
fn may_keep_name(name: &str, media_type: MediaType) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-()+@".contains(&byte);
    let extension = |name: &str| name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let given = extension(name).map(|extension| extension.replace("jpeg", "jpg").replace("m4v", "mp4"));
    name.len() <= 200 && name.bytes().all(plain) && given == extension(media_type.file_name)
}

fn form(file: &Upload) -> Result<Form> {
    let MediaType { kind, mime, .. } = file.media_type;
    let body = match &file.content {
        UploadContent::Memory(bytes) => Body::wrap_stream(stream::iter(chunks(file, bytes).map(Ok::<_, io::Error>))),
        UploadContent::Disk { file: disk, digest, .. } => {
            Body::wrap_stream(read_chunks(file.clone(), FileReading::new(disk.clone(), Some(*digest))))
        }
    };
    let part = Part::stream_with_length(body, file.size())
        .file_name(file.name.clone())
        .mime_str(mime)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the upload cannot be written: {error}")))?;
    Ok(Form::new().part("file", part).text("purpose", kind.word()))
}

/// Splits the bytes. Each chunk stores where it ends, so a form that is built again counts from the beginning.
fn chunks(file: &Upload, content: &Bytes) -> impl Iterator<Item = Bytes> + use<> {
    let (content, progress) = (content.clone(), Arc::clone(&file.progress));
    (0..content.len()).step_by(CHUNK).map(move |at| {
        let chunk = content.slice(at..content.len().min(at + CHUNK));
        progress.store((at + chunk.len()) as u64, Ordering::Relaxed);
        chunk
    })
}

/// Reads the chunks from disk as the connection takes them.
fn read_chunks(upload: Upload, reading: FileReading) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((upload, reading, 0), |(upload, mut reading, sent)| async move {
        let read = in_background(move || {
            let chunk = reading.next_chunk();
            Ok((reading, chunk))
        });
        let (reading, chunk) = read.await.map_err(io::Error::other)?;
        match chunk {
            Ok(None) => Ok(None),
            Ok(Some(chunk)) => {
                let sent = sent + chunk.len() as u64;
                upload.progress.store(sent, Ordering::Relaxed);
                Ok(Some((chunk, (upload, reading, sent))))
            }
            Err(error) => {
                let _ = upload.read_error.set(error.to_string());
                Err(error)
            }
        }
    })
}

async fn within<T>(limit: Option<Duration>, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout::within(limit, work).await.unwrap_or_else(|| {
        let seconds = limit.unwrap_or_default().as_secs_f64();
        Err(Error::new(ErrorKind::Timeout(Phase::Body), format!("timeout: the upload took longer than {seconds} s")))
    })
}

/// Describes a file in messages: `image 2 of 5 (image/png, 1.5 MB)`.
pub fn describe(position: usize, count: usize, file: MediaType, bytes: u64) -> String {
    let which = if count > 1 { format!(" {position} of {count}") } else { String::new() };
    format!("{}{which} ({}, {})", file.kind.word(), file.mime, size(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upload_timeout_a_small_file_has_less_time_than_a_large_one() {
        let settings = crate::config::Settings::default().upload_limits();
        assert_eq!(upload_timeout(&settings, 1 << 20), Some(Duration::from_secs(46)));
        assert_eq!(upload_timeout(&settings, 100 << 20), settings.timeout);
        assert_eq!(upload_timeout(&UploadLimits { timeout: None, ..settings }, 1), None);
    }

    #[test]
    fn file_name_is_kept_if_it_is_plain_and_its_extension_right() {
        let png = MediaType::named("image/png").unwrap();
        let jpeg = MediaType::named("image/jpeg").unwrap();
        assert!(may_keep_name("Screenshot(1).PNG", png) && may_keep_name("a.jpeg", jpeg));
        for name in
            ["a.jpg", "a b.png", "png", ".", "", "a\".png", "a\r\n.png", "图.png", &format!("{}.png", "x".repeat(200))]
        {
            assert!(!may_keep_name(name, png), "{name:?}");
        }
    }

    #[test]
    fn upload_progress_starts_again_with_each_attempt() {
        let media_type = MediaType::named("image/png").unwrap();
        let upload = Upload::new(Bytes::from(vec![0; CHUNK * 2 + 5]), media_type);
        let UploadContent::Memory(bytes) = &upload.content else { panic!("bytes in memory") };
        let mut abandoned = chunks(&upload, bytes);
        abandoned.next();
        abandoned.next();
        let sent = chunks(&upload, bytes).map(|chunk| {
            assert!(upload.progress.load(Ordering::Relaxed) <= upload.size());
            chunk.len() as u64
        });
        assert_eq!(sent.sum::<u64>(), upload.size());
        assert_eq!(upload.progress.load(Ordering::Relaxed), upload.size());
    }
}
