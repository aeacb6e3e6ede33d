//! Uploads one file for a Node program, or for the tool that shows media to a model. Uses the same types, index and request as the
//! media of a turn.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::disk_file::MediaFile;
use super::image_size::fits_pi;
use super::index::Key;
use super::media_info::{Digest, MediaInfo};
use super::media_marker::{Caption, StoredMedia};
use super::media_type::{MediaKind, MediaType, check_file_limit};
use super::path_access::PathAccess;
use super::policy::check_size;
use super::progress::describe_progress;
use super::upload_request::{Upload, UploadClient, UploadContent};
use super::uploader::Uploader;
use super::video_length::video_length;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::client::{CallerContext, Kimi};
use crate::config::{Config, Environment, RequestAddresses, UploadLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::models;

/// A request to upload one file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRequest {
    #[serde(flatten)]
    caller: CallerContext,
    /// Where the service is, unless the user names another address.
    #[serde(flatten)]
    addresses: RequestAddresses,
    /// Additional headers; null suppresses one of ours.
    #[serde(default)]
    headers: HashMap<String, Option<String>>,
    /// The file, unless its bytes are passed.
    #[serde(default)]
    path: Option<String>,
    /// Folder to which `path` is relative and outside of which nothing is read but `allowed`. Without it every path is read.
    #[serde(default)]
    project: Option<PathBuf>,
    /// Paths outside of the project that the user wrote.
    #[serde(default)]
    allowed: Vec<String>,
    /// Model that the media are for. What it does not take is refused.
    #[serde(default)]
    model: Option<String>,
    /// For a prompt: only checks the file. The turn of that prompt uploads it.
    #[serde(default)]
    deferred: bool,
    /// `image` or `video`, to refuse the other one.
    #[serde(default)]
    purpose: Option<String>,
    /// MIME type for files whose bytes do not tell it.
    #[serde(default)]
    mime_type: String,
    /// Uploads the file even if the index knows it.
    #[serde(default)]
    again: bool,
}

/// A file that the service has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploaded {
    id: String,
    /// How a message refers to it.
    url: String,
    purpose: &'static str,
    mime_type: &'static str,
    /// The name that was sent.
    filename: String,
    bytes: u64,
    /// It was uploaded before.
    known: bool,
}

/// An uploaded file as a session refers to it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PreparedMedia {
    /// What user and model read: `[video demo.mp4, 60.2 MB, 0:42]`.
    text: String,
    /// The same with a reference, for the text of a user's message.
    marker: String,
    /// The `details` of a result of our tool.
    details: Value,
    kind: &'static str,
    mime_type: &'static str,
    bytes: u64,
    /// Length of a video in milliseconds.
    length_ms: Option<u64>,
    /// Pi's own tools show this image as it is.
    fits_pi: bool,
    /// It was uploaded before.
    known: bool,
}

/// Progress of an upload.
#[derive(Debug, Default)]
pub struct UploadProgress {
    /// Bytes handed to the connection.
    pub sent: Arc<AtomicU64>,
    /// Size of the file; 0 until it is known.
    pub total: AtomicU64,
    /// When the upload began.
    started: Mutex<Option<Instant>>,
}

impl UploadProgress {
    /// Returns "uploading 12.3 MB of 60.2 MB (20 %, 3.1 MB/s)"; `None` until the upload has begun.
    pub fn text(&self) -> Option<String> {
        let started = (*self.started.lock().unwrap_or_else(PoisonError::into_inner))?;
        let (sent, total) = (self.sent.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        Some(format!("uploading {}", describe_progress(sent, total, started.elapsed())))
    }

    fn begin(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }
}

/// A file that is ready to be uploaded.
struct UploadSource {
    content: UploadContent,
    media_type: MediaType,
    digest: Digest,
    bytes: u64,
    name: Option<String>,
    length: Option<Duration>,
    fits_pi: bool,
}

/// A file that was checked, and who uploads it.
struct Checked {
    source: UploadSource,
    uploader: Uploader,
    key: Key,
    upload: Upload,
}

/// Uploads `content`, or the file that the request names. Dropping the future or cancelling closes the connection.
pub async fn upload(
    request: FileRequest,
    content: Vec<u8>,
    progress: &UploadProgress,
    cancel: CancellationToken,
) -> Result<Uploaded> {
    let again = request.again;
    let work = async {
        let checked = check(request, content).await?;
        let stale = if again { checked.uploader.find(&checked.key).await } else { None };
        let (id, fresh) = checked.send(stale.as_deref(), progress).await?;
        Ok((id, fresh, checked))
    };
    let (id, fresh, Checked { source, upload, .. }) = cancellable(cancel, work).await?;
    let MediaType { kind, mime, .. } = source.media_type;
    Ok(Uploaded {
        url: format!("ms://{id}"),
        id,
        purpose: kind.word(),
        mime_type: mime,
        filename: upload.name,
        bytes: source.bytes,
        known: !fresh,
    })
}

/// Uploads the file that the request names, or allows the turn of a prompt to do so, and returns how a session refers to it.
/// Dropping the future or cancelling closes the connection.
pub async fn prepare_media(
    request: FileRequest,
    progress: &UploadProgress,
    cancel: CancellationToken,
) -> Result<PreparedMedia> {
    if request.path.is_none() {
        return Err(Error::new(ErrorKind::BadRequest, "the request names no file"));
    }
    let deferred = request.deferred;
    let work = async {
        let checked = check(request, Vec::new()).await?;
        let known = if deferred { checked.allow().await } else { !checked.send(None, progress).await?.1 };
        Ok((known, checked))
    };
    let (known, Checked { source, .. }) = cancellable(cancel, work).await?;
    let UploadSource { media_type, bytes, length, fits_pi, .. } = source;
    let kind = media_type.kind;
    let caption = Caption { name: source.name.as_deref().unwrap_or(media_type.file_name), kind, bytes, length };
    let media = source.stored();
    Ok(PreparedMedia {
        text: caption.text(),
        marker: media.marker(&caption),
        details: media.details(media_type, bytes),
        kind: kind.word(),
        mime_type: media_type.mime,
        bytes,
        length_ms: length.map(|length| length.as_millis() as u64),
        fits_pi,
        known,
    })
}

async fn cancellable<T>(cancel: CancellationToken, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        result = work => result,
    }
}

/// Reads the file and checks whether it may be uploaded.
async fn check(request: FileRequest, content: Vec<u8>) -> Result<Checked> {
    let FileRequest { caller: CallerContext { environment, host, api_key }, addresses, headers, model, .. } = request;
    let FileRequest { path, project, allowed, purpose, mime_type, .. } = request;
    let (mut kimi, environment, source) = in_background(move || {
        let environment = Environment::new(environment);
        let kimi = Kimi::new(Config::from_environment(&environment, &addresses)?, host)?;
        let limits = kimi.config.settings.upload_limits();
        let access = PathAccess { project, allowed, home: environment.home() };
        let source = match path {
            Some(path) => UploadSource::on_disk(&access.resolve(&path)?, &mime_type, &limits)?,
            None => UploadSource::in_memory(content, &mime_type, &limits)?,
        };
        source.check_purpose(purpose.as_deref())?;
        Ok((kimi, environment, source))
    })
    .await?;
    let credential = kimi.authorize(api_key.as_deref()).await?;
    let kind = source.media_type.kind;
    let takes = match &model {
        Some(model) => model_takes(&kimi, &environment, &credential, model, kind).await?,
        None => true,
    };
    let uploader = Uploader::new(UploadClient { kimi, credential, extra: headers.into_iter().collect() }).await?;
    if let Some(model) = model {
        check_model(&uploader, &model, kind, takes).await?;
    }
    let key = Key { digest: source.digest, media_type: source.media_type };
    let mut upload = Upload::of(source.content.clone(), source.media_type);
    upload.keep_name(source.name.as_deref());
    Ok(Checked { source, uploader, key, upload })
}

/// Whether the model takes this kind of media, according to the model list. An unlisted model counts as one that does.
async fn model_takes(
    kimi: &Kimi,
    environment: &Environment,
    credential: &Credential,
    model: &str,
    kind: MediaKind,
) -> Result<bool> {
    let listing = models::current(kimi, environment, credential, None).await?;
    Ok(listing.models.iter().find(|listed| listed.id == model).is_none_or(|listed| match kind {
        MediaKind::Image => listed.input.contains(&"image"),
        MediaKind::Video => listed.video,
    }))
}

/// Refuses media that the model does not take, or that the service refused for it.
async fn check_model(uploader: &Uploader, model: &str, kind: MediaKind, takes: bool) -> Result<()> {
    let message = match kind {
        MediaKind::Video if takes && uploader.refuses_videos(model).await => {
            format!("Kimi refuses videos for {model}. Choose another model, or show images of the video.")
        }
        _ if takes => return Ok(()),
        kind => format!("{model} takes no {}s. Choose another model.", kind.word()),
    };
    Err(Error::new(ErrorKind::BadMedia, message))
}

impl Checked {
    /// Uploads the file unless it is known, and returns its id and whether it was uploaded.
    async fn send(&self, stale: Option<&str>, progress: &UploadProgress) -> Result<(String, bool)> {
        let mut upload = self.upload.clone();
        upload.progress = Arc::clone(&progress.sent);
        progress.begin(self.source.bytes);
        self.uploader.file_id(&self.key, &upload, stale).await
    }

    /// Lets the turn of a prompt upload the file. Returns whether it is known.
    async fn allow(&self) -> bool {
        self.uploader.prompt_media().allow(self.source.stored());
        self.uploader.find_for(&self.key, &self.upload).await.is_some()
    }
}

impl UploadSource {
    fn in_memory(content: Vec<u8>, declared: &str, limits: &UploadLimits) -> Result<Self> {
        let bytes = content.len() as u64;
        // Before hashing, because JavaScript stops passing bytes where there are too many.
        check_file_limit(bytes).map_err(|why| refused(&why))?;
        let info = MediaInfo::of(&content);
        let media_type = info.media_type(declared).map_err(|why| refused(&why))?;
        check_size(media_type.kind, bytes, limits).map_err(|why| refused(&why))?;
        let digest = info.digest.ok_or_else(|| refused("it cannot be read"))?;
        let content = UploadContent::Memory(Bytes::from(content));
        Ok(Self { content, media_type, digest, bytes, name: None, length: None, fits_pi: false })
    }

    fn on_disk(path: &Path, declared: &str, limits: &UploadLimits) -> Result<Self> {
        let unreadable = |error| Error::new(ErrorKind::Io, format!("{} cannot be read: {error}", path.display()));
        let unsuitable = |why: String| refused_file(path, &why);
        let file = MediaFile::open(path).map_err(unreadable)?;
        let bytes = file.size();
        if bytes == 0 {
            return Err(unsuitable("it has no data".to_owned()));
        }
        let media_type = file.sniff().map_err(unreadable)?.or_declared(declared, None).map_err(unsuitable)?;
        check_size(media_type.kind, bytes, limits).map_err(unsuitable)?;
        let digest = file.digest().map_err(unreadable)?;
        Ok(Self {
            fits_pi: fits_pi(&file, media_type.mime),
            length: (media_type.kind == MediaKind::Video).then(|| video_length(&file)).flatten(),
            content: UploadContent::Disk { file, digest, path: path.to_owned() },
            media_type,
            digest,
            bytes,
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()),
        })
    }

    /// Returns how a session refers to the content.
    fn stored(&self) -> StoredMedia {
        let path = if let UploadContent::Disk { path, .. } = &self.content { Some(path.clone()) } else { None };
        StoredMedia { digest: self.digest, kind: self.media_type.kind, path }
    }

    fn check_purpose(&self, purpose: Option<&str>) -> Result<()> {
        match purpose {
            Some(purpose) if purpose != self.media_type.kind.word() => {
                let article = if purpose == "image" { "an" } else { "a" };
                Err(refused(&format!("it is {}, which is not {article} {purpose}", self.media_type.mime)))
            }
            _ => Ok(()),
        }
    }
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::BadMedia, format!("the file cannot be uploaded: {why}"))
}

fn refused_file(path: &Path, why: &str) -> Error {
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Error::new(ErrorKind::BadMedia, format!("{name} cannot be uploaded: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> UploadLimits {
        crate::config::Settings::default().upload_limits()
    }

    fn message(result: Result<UploadSource>) -> String {
        result.map_or_else(|error| error.message, |source| source.media_type.mime.to_owned())
    }

    #[test]
    fn unsuitable_file_the_error_says_why() {
        let why = |bytes: &[u8], purpose: Option<&str>| {
            message(UploadSource::in_memory(bytes.to_vec(), "", &limits()).and_then(|source| {
                source.check_purpose(purpose)?;
                Ok(source)
            }))
        };
        let png = b"\x89PNG\r\n\x1a\n";
        assert_eq!(why(png, None), "image/png");
        assert_eq!(why(png, Some("image")), "image/png");
        assert!(why(png, Some("video")).ends_with("it is image/png, which is not a video"));
        assert!(why(b"%PDF-1.7", None).ends_with("it is a PDF, which Kimi does not take"));
        assert!(why(b"", None).ends_with("it has no data"));
        assert!(why(b"????", None).ends_with("nothing tells its type"));
    }

    #[test]
    fn file_on_disk_unsuitable_ones_name_the_file_and_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = |name: &str, content: &[u8], limits: &UploadLimits| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            message(UploadSource::on_disk(&path, "", limits))
        };
        let mov = b"\0\0\0\x18ftypqt  \0\0\0\0moov hvc1";
        assert_eq!(on_disk("hevc.mov", mov, &limits()), "video/quicktime");
        assert_eq!(on_disk("empty.mp4", b"", &limits()), "empty.mp4 cannot be uploaded: it has no data");
        let text = on_disk("notes.mp4", b"just text", &limits());
        assert_eq!(text, "notes.mp4 cannot be uploaded: nothing tells its type");
        let small = UploadLimits { video_max: 10, ..limits() };
        assert_eq!(
            on_disk("long.mov", mov, &small),
            "long.mov cannot be uploaded: it is 25 bytes, and uploads.videoMaxBytes allows 10 bytes"
        );
    }

    #[cfg(unix)]
    #[test]
    fn file_of_four_gigabytes_is_refused_before_it_is_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::os::unix::fs::FileExt::write_all_at(file.as_file(), b"\0\0\0\x18ftypmp42", 0).unwrap();
        file.as_file().set_len(4 << 30).unwrap();
        let started = Instant::now();
        let message = message(UploadSource::on_disk(file.path(), "", &limits()));
        assert!(message.contains("it is 4.2 GB, and uploads.videoMaxBytes allows 104.8 MB"), "{message}");
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn special_file_is_refused_at_once_with_io() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("clip.mp4");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/proc/self/environ"), Path::new("/dev/zero"), folder.path()] {
            let error = UploadSource::on_disk(path, "", &limits()).map(|_| ()).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Io, "{}", path.display());
            assert!(error.message.contains("it is no file but"), "{}", error.message);
        }
    }
}
