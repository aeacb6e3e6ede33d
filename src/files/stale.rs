//! Ids that the service does not know any more.

use std::sync::Arc;

use bytes::Bytes;

use super::attach::{Desk, content, named};
use super::index::Key;
use super::medium::Medium;
use super::office::{Office, log};
use super::slots::replace_id;
use super::upload::Upload;
use crate::background::in_background;
use crate::error::{Error, ErrorKind, Result};

/// The references of a body, for the case that the service does not know one of them any more.
#[derive(Debug)]
pub struct Attachments {
    pub(super) office: Office,
    pub(super) files: Vec<Reference>,
}

#[derive(Debug)]
pub(super) struct Reference {
    pub key: Key,
    pub medium: Arc<Medium>,
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
    pub async fn heal(&mut self, error: &Error, body: &[u8], desk: &mut impl Desk) -> Result<Option<Bytes>> {
        let suspects = self.suspects(error);
        if suspects.is_empty() {
            return Ok(None);
        }
        let mut body = body.to_vec();
        for position in suspects {
            let Reference { key, medium, id, name, .. } = &self.files[position];
            let (index, lost, dead) = (self.office.index.clone(), *key, id.clone());
            log(key, medium.facts().bytes, "stale", id);
            let newer = in_background(move || Ok(index.forget(&lost, &dead))).await?;
            let new = match newer {
                Some(newer) => newer,
                None => {
                    let upload = Upload::new(content(medium, desk).await?, key.media_type);
                    let obtained = self.office.obtain(key, &upload, Some(id)).await;
                    if desk.holds(medium) {
                        medium.forget();
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
        let named = positions(&|file| error.message.contains(&file.id));
        if !named.is_empty() {
            return named;
        }
        let text = error.message.to_ascii_lowercase();
        let gone = ["not found", "not exist", "expired", "deleted", "no such", "unknown"];
        if text.contains("file") && gone.iter().any(|word| text.contains(word)) {
            return positions(&|file| !file.fresh);
        }
        Vec::new()
    }
}
