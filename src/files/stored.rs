//! Resolves the references of a session to files of the service.
//!
//! A content that the upload index knows needs no work. One that it does not know is uploaded only if a result of our own tool or the
//! user's prompt names its path, and only if the file there still has the recorded digest. Everything else stays the text that it is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk_file::MediaFile;
use super::index::Key;
use super::media_info::Digest;
use super::media_marker::StoredMedia;
use super::media_source::MediaSource;
use super::media_type::{MediaKind, Sniffed};
use super::policy::check_size;
use super::reference::{Reference, ReferenceContent, with_name};
use super::upload_request::{Upload, UploadContent, describe};
use super::uploader::{UploadJob, Uploader};
use crate::blocking::in_background;
use crate::config::UploadLimits;
use crate::error::{Error, ErrorKind, Result};

/// The files that references of a session resolved to.
#[derive(Debug, Clone, Default)]
pub struct StoredFiles {
    ids: Arc<HashMap<(Digest, MediaKind), String>>,
    pub(super) references: Vec<Reference>,
}

impl StoredFiles {
    /// Returns the address of a content, `ms://ID`, if it resolved.
    pub fn link(&self, media: &StoredMedia) -> Option<String> {
        self.ids.get(&(media.digest, media.kind)).map(|id| format!("ms://{id}"))
    }
}

impl Uploader {
    /// Finds the files of these contents, and uploads those that may be and that the model takes. If an upload fails, the text stays,
    /// and the turn fails if the user has named the file in its prompt.
    pub async fn resolve_stored(
        &self,
        wanted: Vec<StoredMedia>,
        takes: impl Fn(MediaKind) -> bool,
        source: &mut impl MediaSource,
    ) -> Result<StoredFiles> {
        let index = self.index.clone();
        let contents = wanted.clone();
        let known = in_background(move || {
            Ok(contents.iter().map(|media| index.find_content(media.digest, media.kind)).collect::<Vec<_>>())
        })
        .await?;
        let mut references: Vec<Reference> = Vec::new();
        let mut missing = Vec::new();
        for (media, known) in wanted.into_iter().zip(known) {
            match known {
                Some(known) => {
                    let key = Key { digest: media.digest, media_type: known.media_type };
                    let name = describe(1, 1, known.media_type, known.bytes);
                    let content = ReferenceContent::Stored(media);
                    references.push(Reference { key, content, id: known.id, fresh: false, replaced: false, name });
                }
                None => missing.push(media),
            }
        }
        let mut uploads = Vec::new();
        let mut uploaded = Vec::new();
        for media in missing.into_iter().filter(|media| takes(media.kind)) {
            let named = self.prompt_media().path(&media);
            match (self.find_on_disk(&media, named.clone()).await?, named) {
                (Some((key, upload)), named) => {
                    uploaded.push((key, media, named, upload.size()));
                    uploads.push(UploadJob { key, upload, stale: None });
                }
                (None, Some(path)) => {
                    self.prompt_media().revoke(&media);
                    let message = format!("{} has changed or is gone since the prompt", path.display());
                    return Err(Error::new(ErrorKind::Io, message));
                }
                (None, None) => {}
            }
        }
        let outcomes = self.upload_all(uploads, source, |error| error.kind == ErrorKind::Cancelled).await?;
        for ((key, media, named, bytes), outcome) in uploaded.into_iter().zip(outcomes) {
            match (outcome, named) {
                (Ok((id, fresh)), _) => {
                    let name = describe(1, 1, key.media_type, bytes);
                    let content = ReferenceContent::Stored(media);
                    references.push(Reference { key, content, id, fresh, replaced: false, name });
                }
                (Err(error), Some(path)) => {
                    // The next turn goes on with the text, unless another attempt may help.
                    if !error.kind.retryable() {
                        self.prompt_media().revoke(&media);
                    }
                    return Err(with_name(&path.display().to_string(), "could not be uploaded", &error));
                }
                (Err(error), None) => tracing::info!(%error, "a stored file cannot be uploaded; its text stays"),
            }
        }
        let ids =
            references.iter().map(|file| ((file.key.digest, file.key.media_type.kind), file.id.clone())).collect();
        Ok(StoredFiles { ids: Arc::new(ids), references })
    }

    /// Opens a content at the path of its record, or else at `remembered`, if the file there still has its digest.
    pub(super) async fn find_on_disk(
        &self,
        media: &StoredMedia,
        remembered: Option<PathBuf>,
    ) -> Result<Option<(Key, Upload)>> {
        let paths: Vec<PathBuf> = media.path.iter().cloned().chain(remembered).collect();
        let (media, limits) = (media.clone(), self.limits);
        in_background(move || Ok(paths.iter().find_map(|path| open(path, &media, &limits)))).await
    }

    /// Forgets a content that the service no longer has and that cannot be uploaded again.
    pub(super) async fn delete(&self, media: &StoredMedia) -> Result<()> {
        let (index, digest, kind) = (self.index.clone(), media.digest, media.kind);
        in_background(move || {
            index.delete(digest, kind);
            Ok(())
        })
        .await
    }
}

/// Opens a file if its content is the one that is looked for.
fn open(path: &Path, media: &StoredMedia, limits: &UploadLimits) -> Option<(Key, Upload)> {
    let file = MediaFile::open(path).ok()?;
    let Sniffed::Accepted(media_type) = file.sniff().ok()? else { return None };
    check_size(media_type.kind, file.size(), limits).ok()?;
    let is_same = media_type.kind == media.kind && file.digest().ok()? == media.digest;
    is_same.then(|| {
        let key = Key { digest: media.digest, media_type };
        let content = UploadContent::Disk { file, digest: media.digest, path: path.to_owned() };
        let mut upload = Upload::of(content, media_type);
        upload.keep_name(path.file_name().and_then(OsStr::to_str));
        (key, upload)
    })
}
