//! One file that a program uploads by itself: the same types, index, claim and request as for the media of a turn.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::index::Key;
use super::media::MediaInfo;
use super::media_type::{MAX_FILE, MediaType};
use super::readable;
use super::upload_request::{Upload, UploadClient};
use super::uploader::Uploader;
use crate::blocking::in_background;
use crate::client::{CallerContext, Kimi};
use crate::config::{Config, Environment, RequestAddresses};
use crate::error::{Error, ErrorKind, Result};

/// What to upload, and for whom.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileRequest {
    #[serde(flatten)]
    asker: CallerContext,
    /// Further headers; null suppresses one of ours.
    #[serde(default)]
    headers: HashMap<String, Option<String>>,
    /// The file, where its bytes are not passed.
    #[serde(default)]
    path: Option<PathBuf>,
    /// `image` or `video`, where the caller insists.
    #[serde(default)]
    purpose: Option<String>,
    /// What the caller takes it for; the bytes outrank that.
    #[serde(default)]
    mime_type: String,
    /// Uploads it even if the service is known to have it.
    #[serde(default)]
    again: bool,
}

/// A file that the service has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploaded {
    id: String,
    /// What a message refers to it by.
    url: String,
    purpose: &'static str,
    mime_type: &'static str,
    /// The name that the service knows it by.
    filename: String,
    bytes: u64,
    /// It was there already.
    known: bool,
}

/// How far an upload is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes handed to the connection.
    pub sent: Arc<AtomicU64>,
    /// All bytes; 0 while that is not known.
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
    let FileRequest { asker: CallerContext { environment, host, api_key }, headers, path, purpose, mime_type, again } =
        request;
    let name = path.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
    let (mut kimi, content, facts) = in_background(move || {
        let environment = Environment::new(environment);
        let kimi = Kimi::new(Config::from_environment(&environment, &RequestAddresses::default())?, host)?;
        let content = path.map_or(Ok(content), |path| read(&path))?;
        if content.len() as u64 > MAX_FILE {
            return Err(too_large(content.len() as u64));
        }
        let facts = MediaInfo::of(&content);
        Ok((kimi, Bytes::from(content), facts))
    })
    .await?;
    let media_type = media_type(&facts, purpose.as_deref(), &mime_type)?;
    let digest = facts.digest.ok_or_else(|| refused("it cannot be read"))?;
    let credential = kimi.authorize(api_key.as_deref()).await?;
    let office = Uploader::new(UploadClient { kimi, credential, extra: headers.into_iter().collect() }).await?;
    let key = Key { digest, media_type };
    let stale = if again { office.find(&key).await } else { None };
    let mut upload = Upload { progress: Arc::clone(&progress.sent), ..Upload::new(content, media_type) };
    upload.name = name.filter(|name| is_harmless(name, media_type)).unwrap_or(upload.name);
    progress.total.store(facts.bytes, Ordering::Relaxed);
    let (id, fresh) = office.file_id(&key, &upload, stale.as_deref()).await?;
    let MediaType { kind, mime, .. } = media_type;
    Ok(Uploaded {
        url: format!("ms://{id}"),
        id,
        purpose: kind.word(),
        mime_type: mime,
        filename: upload.name,
        bytes: facts.bytes,
        known: !fresh,
    })
}

fn media_type(facts: &MediaInfo, purpose: Option<&str>, declared: &str) -> Result<MediaType> {
    let media_type = facts.media_type(declared).map_err(|why| refused(&why))?;
    match purpose {
        Some(purpose) if purpose != media_type.kind.word() => {
            Err(refused(&format!("it is {}, which is no {purpose}", media_type.mime)))
        }
        _ => Ok(media_type),
    }
}

/// Whether a file may keep its name, as with the official client: plain characters, and an extension that tells the truth.
fn is_harmless(name: &str, media_type: MediaType) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-()+@".contains(&byte);
    let extension = |name: &str| name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase());
    let real = extension(name).map(|extension| extension.replace("jpeg", "jpg").replace("m4v", "mp4"));
    name.len() <= 200 && name.bytes().all(plain) && real == extension(media_type.file_name)
}

/// Reads a regular file; from others, such as pipes, reading might never end.
fn read(path: &Path) -> Result<Vec<u8>> {
    let failed =
        |why: &dyn std::fmt::Display| Error::new(ErrorKind::Io, format!("{} cannot be read: {why}", path.display()));
    let metadata = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !metadata.is_file() {
        return Err(failed(&"it is no file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(too_large(metadata.len()));
    }
    let mut content = Vec::with_capacity(metadata.len() as usize + 1);
    // It may have grown meanwhile.
    let reading = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content));
    reading.map_err(|error| failed(&error))?;
    Ok(content)
}

fn too_large(bytes: u64) -> Error {
    refused(&format!("it has {}, Kimi takes at most {}", readable(bytes), readable(MAX_FILE)))
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::BadMedia, format!("the file cannot be uploaded: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_picture_or_film_says_so() {
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
    fn a_name_is_kept_where_it_is_plain_and_true() {
        let png = MediaType::named("image/png").unwrap();
        let jpeg = MediaType::named("image/jpeg").unwrap();
        assert!(is_harmless("Screenshot(1).PNG", png) && is_harmless("a.jpeg", jpeg));
        for name in
            ["a.jpg", "a b.png", "png", ".", "", "a\".png", "a\r\n.png", "图.png", &format!("{}.png", "x".repeat(200))]
        {
            assert!(!is_harmless(name, png), "{name:?}");
        }
    }

    #[test]
    fn only_files_are_read() {
        assert!(
            read(Path::new("/nonexistent.png")).unwrap_err().message.starts_with("/nonexistent.png cannot be read")
        );
        assert!(read(&std::env::temp_dir()).unwrap_err().message.ends_with("it is no file"));
    }
}
