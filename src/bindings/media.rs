//! Takes images and videos from JavaScript: one copy when they are first needed, a handle from then on.

use std::sync::Arc;

use napi::JsString;
use napi_derive::napi;

use super::js_string::read_latin1;
use crate::files::MediaItem;

/// Length of texts that are copied at once, in characters; longer ones cross in chunks when a turn needs them.
const AT_ONCE: usize = 256 << 10;

/// Keeps what is known about one media item; freed with the JavaScript object.
#[napi]
pub struct MediaHandle {
    media_item: Arc<MediaItem>,
}

impl MediaHandle {
    /// Returns the media item behind it.
    pub fn media_item(&self) -> Arc<MediaItem> {
        Arc::clone(&self.media_item)
    }
}

/// Announces an image or video by its base64 text or data URL.
#[napi(catch_unwind)]
pub fn media(text: JsString<'_>) -> napi::Result<MediaHandle> {
    let length = text.latin1_len()?;
    let media_item =
        if length > AT_ONCE { MediaItem::announced(length) } else { MediaItem::new(copy(&text, Vec::new())?.into()) };
    Ok(MediaHandle { media_item })
}

/// Copies a text into `buffer`, which grows if it has no room for the text and a final zero.
pub fn copy(text: &JsString<'_>, mut buffer: Vec<u8>) -> napi::Result<Vec<u8>> {
    let room = text.latin1_len()? + 1;
    buffer.resize(room, 0);
    let written = read_latin1(text, &mut buffer)?;
    buffer.truncate(written);
    Ok(buffer)
}
