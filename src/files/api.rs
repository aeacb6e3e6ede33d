//! Uploads one file for a Node program, with the same types, index and request as for the media of a turn.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::index::Key;
use super::media_info::MediaInfo;
use super::media_type::{MAX_FILE, MediaType};
use super::upload_request::{Upload, UploadClient};
use super::uploader::Uploader;
use crate::blocking::in_background;
use crate::client::{CallerContext, Kimi};
use crate::config::{Config, Environment, RequestAddresses};
use crate::display_text::size;
use crate::error::{Error, ErrorKind, Result};
use crate::storage::regular_file::open_regular;

/// A request to upload one file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRequest {
    #[serde(flatten)]
    caller: CallerContext,
    /// Additional headers; null suppresses one of ours.
    #[serde(default)]
    headers: HashMap<String, Option<String>>,
    /// The file, unless its bytes are passed.
    #[serde(default)]
    path: Option<PathBuf>,
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

/// Progress of an upload.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes handed to the connection.
    pub sent: Arc<AtomicU64>,
    /// Size of the file; 0 until it is known.
    pub total: AtomicU64,
}

/// Uploads `content`, or the file that the request names. Dropping the future or cancelling closes the connection.
pub async fn upload(
    request: FileRequest,
    content: Vec<u8>,
    progress: &Progress,
    cancel: CancellationToken,
) -> Result<Uploaded> {
    tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        uploaded = run(request, content, progress) => uploaded,
    }
}

async fn run(request: FileRequest, content: Vec<u8>, progress: &Progress) -> Result<Uploaded> {
    let FileRequest { caller: CallerContext { environment, host, api_key }, headers, path, purpose, mime_type, again } =
        request;
    let name = path.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
    let (mut kimi, content, info) = in_background(move || {
        let environment = Environment::new(environment);
        let kimi = Kimi::new(Config::from_environment(&environment, &RequestAddresses::default())?, host)?;
        let content = path.map_or(Ok(content), |path| read(&path))?;
        if content.len() as u64 > MAX_FILE {
            return Err(too_large(content.len() as u64));
        }
        let info = MediaInfo::of(&content);
        Ok((kimi, Bytes::from(content), info))
    })
    .await?;
    let media_type = media_type(&info, purpose.as_deref(), &mime_type)?;
    let digest = info.digest.ok_or_else(|| refused("it cannot be read"))?;
    let credential = kimi.authorize(api_key.as_deref()).await?;
    let uploader = Uploader::new(UploadClient { kimi, credential, extra: headers.into_iter().collect() }).await?;
    let key = Key { digest, media_type };
    let stale = if again { uploader.find(&key).await } else { None };
    let mut upload = Upload { progress: Arc::clone(&progress.sent), ..Upload::new(content, media_type) };
    upload.name = name.filter(|name| may_keep_name(name, media_type)).unwrap_or(upload.name);
    progress.total.store(info.bytes, Ordering::Relaxed);
    let (id, fresh) = uploader.file_id(&key, &upload, stale.as_deref()).await?;
    let MediaType { kind, mime, .. } = media_type;
    Ok(Uploaded {
        url: format!("ms://{id}"),
        id,
        purpose: kind.word(),
        mime_type: mime,
        filename: upload.name,
        bytes: info.bytes,
        known: !fresh,
    })
}

fn media_type(info: &MediaInfo, purpose: Option<&str>, declared: &str) -> Result<MediaType> {
    let media_type = info.media_type(declared).map_err(|why| refused(&why))?;
    match purpose {
        Some(purpose) if purpose != media_type.kind.word() => {
            Err(refused(&format!("it is {}, which is no {purpose}", media_type.mime)))
        }
        _ => Ok(media_type),
    }
}

/// Whether a file may keep its name, as in the official client: plain characters, and the extension of its real type.
fn may_keep_name(name: &str, media_type: MediaType) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-()+@".contains(&byte);
    let extension = |name: &str| name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let given = extension(name).map(|extension| extension.replace("jpeg", "jpg").replace("m4v", "mp4"));
    name.len() <= 200 && name.bytes().all(plain) && given == extension(media_type.file_name)
}

/// Reads a regular file. Reading from others, such as pipes, might never end.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |why: &dyn std::fmt::Display| Error::new(ErrorKind::Io, format!("{} cannot be read: {why}", path.display()));
    let file = open_regular(path).map_err(|error| failed(&error))?;
    let size = file.metadata().map_err(|error| failed(&error))?.len();
    if size > MAX_FILE {
        return Err(too_large(size));
    }
    let mut content = Vec::with_capacity(size as usize + 1);
    // The file may have grown since.
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(|error| failed(&error))?;
    Ok(content)
}

fn too_large(bytes: u64) -> Error {
    refused(&format!("it has {}, Kimi takes at most {}", size(bytes), size(MAX_FILE)))
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::BadMedia, format!("the file cannot be uploaded: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsuitable_file_the_error_says_why() {
        let why = |bytes: &[u8], purpose: Option<&str>| {
            media_type(&MediaInfo::of(bytes), purpose, "")
                .map_or_else(|error| error.message, |known| known.mime.to_owned())
        };
        let png = b"\x89PNG\r\n\x1a\n";
        assert_eq!(why(png, None), "image/png");
        assert_eq!(why(png, Some("image")), "image/png");
        assert!(why(png, Some("video")).ends_with("it is image/png, which is no video"));
        assert!(why(b"%PDF-1.7", None).ends_with("it is a PDF, which Kimi does not take"));
        assert!(why(b"", None).ends_with("it has no data"));
        assert!(why(b"????", None).ends_with("nothing tells its type"));
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

    #[cfg(target_os = "linux")]
    #[test]
    fn special_file_is_refused_at_once_with_io() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("clip.mp4");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for path in [pipe.as_path(), Path::new("/proc/self/environ"), Path::new("/dev/zero")] {
            assert_eq!(read(path).unwrap_err().kind, ErrorKind::Io, "{}", path.display());
        }
    }

    #[test]
    fn path_that_is_not_a_file_is_refused() {
        assert!(
            read(Path::new("/nonexistent.png")).unwrap_err().message.starts_with("/nonexistent.png cannot be read")
        );
        assert!(read(&std::env::temp_dir()).unwrap_err().message.ends_with("it is no regular file"));
    }
}
