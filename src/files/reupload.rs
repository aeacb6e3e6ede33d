//! Replaces file ids that the service no longer knows.

use std::path::PathBuf;

use bytes::Bytes;

use super::body_template::replace_id;
use super::media_marker::StoredMedia;
use super::media_source::{MediaSource, content};
use super::reference::{Reference, ReferenceContent, with_name};
use super::stored::StoredFiles;
use super::upload_request::Upload;
use super::uploader::{UploadJob, Uploader, log};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};

/// The references of a body, kept in case the service no longer knows one of them.
#[derive(Debug)]
pub struct Attachments {
    pub(super) uploader: Uploader,
    pub(super) files: Vec<Reference>,
}

/// What becomes of a body after an error.
#[derive(Debug, PartialEq, Eq)]
pub enum Reuploaded {
    /// The error is not about lost files.
    No,
    /// The body with new ids.
    Body(Bytes),
    /// These contents cannot be uploaded again, so the body has to be built without them.
    Lost(Vec<StoredMedia>),
}

impl Attachments {
    /// Adds the files that references of the session resolved to.
    pub fn add_stored(&mut self, stored: &StoredFiles) {
        self.files.extend(stored.references.iter().cloned());
    }

    /// Returns who uploaded the files.
    pub fn uploader(&self) -> &Uploader {
        &self.uploader
    }

    /// Uploads the files again that `error` says the service no longer knows. Each file is replaced once per turn at most,
    /// because ids that work must never change.
    pub async fn reupload(&mut self, error: &Error, body: &[u8], source: &mut impl MediaSource) -> Result<Reuploaded> {
        let suspects = self.suspects(error);
        if suspects.is_empty() {
            return Ok(Reuploaded::No);
        }
        let mut body = body.to_vec();
        let mut lost = Vec::new();
        for position in suspects {
            let Reference { key, id, .. } = &self.files[position];
            let (index, key, stale) = (self.uploader.index.clone(), *key, id.clone());
            let old = id.clone();
            let (known, newer) = in_background(move || {
                let known = index.find_content(key.digest, key.media_type.kind);
                Ok((known, index.remove(&key, &stale)))
            })
            .await?;
            log(&key, known.as_ref().map_or(0, |known| known.bytes), "stale", &old);
            let path = known.and_then(|known| known.path);
            let new = match newer {
                Some(newer) => Some(newer),
                None => self.upload_again(position, path, source).await?,
            };
            match (new, &self.files[position].content) {
                (Some(new), _) => {
                    body = replace_id(&body, &old, &new);
                    self.files[position].id = new;
                }
                (None, ReferenceContent::Stored(media)) => lost.push(media.clone()),
                (None, ReferenceContent::Item(_)) => {}
            }
            self.files[position].replaced = true;
        }
        Ok(if lost.is_empty() { Reuploaded::Body(body.into()) } else { Reuploaded::Lost(lost) })
    }

    /// Uploads one file again and returns its new id; `None` if its content is nowhere any more.
    async fn upload_again(
        &self,
        position: usize,
        path: Option<PathBuf>,
        source: &mut impl MediaSource,
    ) -> Result<Option<String>> {
        let Reference { key, content: from, id, name, .. } = &self.files[position];
        let failed = |error| with_name(name, "could not be uploaded again", &error);
        match from {
            ReferenceContent::Item(item) => {
                let upload = Upload::new(content(item, source).await?, key.media_type);
                let uploaded = self.uploader.file_id(key, &upload, Some(id)).await;
                if source.holds(item) {
                    item.release();
                }
                Ok(Some(uploaded.map_err(failed)?.0))
            }
            ReferenceContent::Stored(media) => {
                let Some((key, upload)) = self.uploader.find_on_disk(media, path).await? else {
                    self.uploader.delete(media).await?;
                    return Ok(None);
                };
                let job = UploadJob { key, upload, stale: Some(id.clone()) };
                let outcomes = self.uploader.upload_all(vec![job], source, |_| true).await.map_err(failed)?;
                let uploaded = outcomes.into_iter().next().transpose().map_err(failed)?;
                Ok(uploaded.map(|(id, _)| id))
            }
        }
    }

    /// Finds the files that `error` speaks of: by id, or else all that were not uploaded just now. The service's wording for an
    /// unknown file is not known (docs/protocol.md#file-references), so it is read loosely; a wrong guess costs one upload.
    fn suspects(&self, error: &Error) -> Vec<usize> {
        if !matches!(error.status, Some(400 | 404 | 410 | 422)) || error.kind == ErrorKind::ContextOverflow {
            return Vec::new();
        }
        let positions = |matches: &dyn Fn(&Reference) -> bool| -> Vec<usize> {
            self.files
                .iter()
                .enumerate()
                .filter(|(_, file)| !file.replaced && matches(file))
                .map(|(position, _)| position)
                .collect()
        };
        let named = positions(&|file| contains_word(&error.message, &file.id));
        if !named.is_empty() {
            return named;
        }
        if reports_a_lost_file(&error.message) { positions(&|file| !file.fresh) } else { Vec::new() }
    }
}

/// Whether `text` is about a lost file, and not about one of a wrong type or size.
fn reports_a_lost_file(text: &str) -> bool {
    const GONE: [&str; 12] = [
        "not found",
        "not exist",
        "expired",
        "deleted",
        "no such",
        "unknown",
        "no longer",
        "not available",
        "failed to get",
        "failed to fetch",
        "failed to load",
        "failed to download",
    ];
    let text = text.to_ascii_lowercase();
    let of_a_file = ["file", "files", "file_id", "file_ids"].iter().any(|word| contains_word(&text, word));
    let invalid_id = || {
        text.contains("invalid")
            && ["file id", "file_id", "file ids", "file_ids"].iter().any(|id| contains_word(&text, id))
    };
    of_a_file && (GONE.iter().any(|word| text.contains(word)) || invalid_id())
}

/// Whether `text` contains `word` as a whole word: `file-1` is not in "file-12", nor "file" in "profile" and `read_file:9`.
/// A full stop ends a word unless the word goes on after it.
fn contains_word(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].trim_start_matches('.');
        !text[..at].ends_with(part) && !after.starts_with(part)
    })
}

#[cfg(test)]
mod tests {
    use super::{contains_word, reports_a_lost_file};

    #[test]
    fn lost_file_is_distinguished_from_one_of_a_wrong_type() {
        for text in [
            "400 Invalid request: file not found",
            "400 the file has expired",
            "400 invalid file id",
            "400 file_id is invalid",
            "400 failed to get file content",
            "400 this file is no longer available",
        ] {
            assert!(reports_a_lost_file(text), "{text}");
        }
        for text in
            ["400 invalid file type", "400 the file is too large", "400 Invalid request: profile not found", "400 x"]
        {
            assert!(!reports_a_lost_file(text), "{text}");
        }
    }

    #[test]
    fn file_id_is_found_only_as_a_whole_word() {
        for text in [
            "file-1",
            "no file-1.",
            "file-1, file-2",
            "ms://file-1 is gone",
            "\"file-1\". Try again",
            "file-12, file-1",
        ] {
            assert!(contains_word(text, "file-1"), "{text}");
        }
        for text in ["file-12 not found", "my-file-1", "file-1.png", "file-1_a", "file-1-b", "x.file-1"] {
            assert!(!contains_word(text, "file-1"), "{text}");
        }
    }

    #[test]
    fn the_word_file_is_not_found_in_profile_or_in_tool_names() {
        for text in ["file not found", "no such file.", "the files: unknown", "(file) expired"] {
            assert!(contains_word(text, "file") || contains_word(text, "files"), "{text}");
        }
        for text in ["profile not found", "tool_call_id read_file:9 is not found", "file.txt", "unknown file_path"] {
            assert!(!contains_word(text, "file") && !contains_word(text, "files"), "{text}");
        }
    }
}
