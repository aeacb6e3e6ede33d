//! Ids that the service does not know any more.

use std::sync::Arc;

use bytes::Bytes;

use super::attach::{MediaSource, content, named};
use super::body_template::replace_id;
use super::index::Key;
use super::media::MediaItem;
use super::upload_request::Upload;
use super::uploader::{Uploader, log};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};

/// The references of a body, for the case that the service does not know one of them any more.
#[derive(Debug)]
pub struct Attachments {
    pub(super) office: Uploader,
    pub(super) files: Vec<Reference>,
}

#[derive(Debug)]
pub(super) struct Reference {
    pub key: Key,
    pub media_item: Arc<MediaItem>,
    pub id: String,
    /// Uploaded by this very turn.
    pub fresh: bool,
    /// Replaced in this turn; nothing is replaced twice.
    pub renewed: bool,
    /// For messages.
    pub name: String,
}

impl Attachments {
    /// If `error` says that the service does not know a file of `body` any more: the body with a new id. Each file
    /// is replaced once per turn at most, and only those that the service blames: ids that work never change.
    pub async fn reupload(&mut self, error: &Error, body: &[u8], desk: &mut impl MediaSource) -> Result<Option<Bytes>> {
        let suspects = self.suspects(error);
        if suspects.is_empty() {
            return Ok(None);
        }
        let mut body = body.to_vec();
        for position in suspects {
            let Reference { key, media_item, id, name, .. } = &self.files[position];
            let (index, lost, dead) = (self.office.index.clone(), *key, id.clone());
            log(key, media_item.facts().bytes, "stale", id);
            let newer = in_background(move || Ok(index.remove(&lost, &dead))).await?;
            let new = match newer {
                Some(newer) => newer,
                None => {
                    let upload = Upload::new(content(media_item, desk).await?, key.media_type);
                    let obtained = self.office.file_id(key, &upload, Some(id)).await;
                    if desk.holds(media_item) {
                        media_item.release();
                    }
                    obtained.map_err(|error| named(name, "could not be uploaded again", &error))?.0
                }
            };
            body = replace_id(&body, id, &new);
            self.files[position].id = new;
            self.files[position].renewed = true;
        }
        Ok(Some(body.into()))
    }

    /// The files that `error` blames: by id, or else all that were not uploaded just now. What the service says about an
    /// unknown file is not recorded anywhere, so the wording is taken loosely; a wrong guess costs one upload.
    fn suspects(&self, error: &Error) -> Vec<usize> {
        if !matches!(error.status, Some(400 | 404 | 410 | 422)) || error.kind == ErrorKind::ContextOverflow {
            return Vec::new();
        }
        let positions = |matches: &dyn Fn(&Reference) -> bool| -> Vec<usize> {
            self.files
                .iter()
                .enumerate()
                .filter(|(_, file)| !file.renewed && matches(file))
                .map(|(position, _)| position)
                .collect()
        };
        let named = positions(&|file| names(&error.message, &file.id));
        if !named.is_empty() {
            return named;
        }
        if speaks_of_a_lost_file(&error.message) { positions(&|file| !file.fresh) } else { Vec::new() }
    }
}

/// A lost file, and not one of a wrong type or size.
fn speaks_of_a_lost_file(text: &str) -> bool {
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
    let of_a_file = ["file", "files", "file_id", "file_ids"].iter().any(|word| names(&text, word));
    let invalid_id =
        || text.contains("invalid") && ["file id", "file_id", "file ids", "file_ids"].iter().any(|id| names(&text, id));
    of_a_file && (GONE.iter().any(|word| text.contains(word)) || invalid_id())
}

/// Whether `text` has `word` as a word of its own: `file-1` is not in "file-12", nor "file" in "profile" and `read_file:9`.
/// A full stop ends a word where nothing of it follows.
fn names(text: &str, word: &str) -> bool {
    let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    text.match_indices(word).any(|(at, _)| {
        let after = text[at + word.len()..].trim_start_matches('.');
        !text[..at].ends_with(part) && !after.starts_with(part)
    })
}

#[cfg(test)]
mod tests {
    use super::{names, speaks_of_a_lost_file};

    #[test]
    fn a_lost_file_is_told_from_one_that_does_not_suit() {
        for text in [
            "400 Invalid request: file not found",
            "400 the file has expired",
            "400 invalid file id",
            "400 file_id is invalid",
            "400 failed to get file content",
            "400 this file is no longer available",
        ] {
            assert!(speaks_of_a_lost_file(text), "{text}");
        }
        for text in
            ["400 invalid file type", "400 the file is too large", "400 Invalid request: profile not found", "400 x"]
        {
            assert!(!speaks_of_a_lost_file(text), "{text}");
        }
    }

    #[test]
    fn an_id_is_blamed_only_where_it_stands_alone() {
        for text in [
            "file-1",
            "no file-1.",
            "file-1, file-2",
            "ms://file-1 is gone",
            "\"file-1\". Try again",
            "file-12, file-1",
        ] {
            assert!(names(text, "file-1"), "{text}");
        }
        for text in ["file-12 not found", "my-file-1", "file-1.png", "file-1_a", "file-1-b", "x.file-1"] {
            assert!(!names(text, "file-1"), "{text}");
        }
    }

    #[test]
    fn a_file_is_no_profile_and_no_tool() {
        for text in ["file not found", "no such file.", "the files: unknown", "(file) expired"] {
            assert!(names(text, "file") || names(text, "files"), "{text}");
        }
        for text in ["profile not found", "tool_call_id read_file:9 is not found", "file.txt", "unknown file_path"] {
            assert!(!names(text, "file") && !names(text, "files"), "{text}");
        }
    }
}
