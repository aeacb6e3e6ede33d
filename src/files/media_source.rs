//! How the upload step reaches the contents and the user: through the turn that it serves.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::media_item::MediaItem;
use crate::error::Result;

/// A turn's connection to JavaScript, as far as media need it.
pub trait MediaSource {
    /// Shows the user a notice.
    fn notice(&mut self, notice: Value);
    /// Whether this content can be fetched again.
    fn holds(&self, item: &Arc<MediaItem>) -> bool;
    /// Fetches a content that was released.
    fn content(&mut self, item: &Arc<MediaItem>) -> impl Future<Output = Result<Bytes>> + Send;
}

/// Returns the content, from JavaScript if our copy was released.
pub(super) async fn content(item: &Arc<MediaItem>, source: &mut impl MediaSource) -> Result<Bytes> {
    match item.content() {
        Some(content) => Ok(content),
        None => source.content(item).await,
    }
}
