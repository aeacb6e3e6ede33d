//! A reference of a request body to a file of the service.

use std::sync::Arc;

use super::index::Key;
use super::media_item::MediaItem;
use super::media_marker::StoredMedia;
use crate::error::Error;

/// A reference, kept beside the body in case the service no longer knows the file.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub key: Key,
    pub content: ReferenceContent,
    pub id: String,
    /// Uploaded by this turn.
    pub fresh: bool,
    /// Replaced in this turn; no file is replaced twice.
    pub replaced: bool,
    /// For messages.
    pub name: String,
}

/// Where the content of a reference is.
#[derive(Debug, Clone)]
pub(super) enum ReferenceContent {
    /// In memory or in JavaScript.
    Item(Arc<MediaItem>),
    /// On disk, if anywhere.
    Stored(StoredMedia),
}

/// Puts the name of a file in front of an error about it.
pub(super) fn with_name(name: &str, what: &str, error: &Error) -> Error {
    Error { message: format!("{name} {what}: {}", error.message), ..error.clone() }
}
