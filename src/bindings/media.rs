//! Images and videos on their way in: one copy when they are first needed, a handle from then on.

use std::sync::Arc;

use napi::{JsString, JsValue, check_status, sys};
use napi_derive::napi;

use crate::files::MediaItem;

/// Texts up to this length are taken at once, longer ones in pieces when they are needed (see `chat::turn::desk`).
const AT_ONCE: usize = 256 << 10;

/// Keeps what is known about one image; freed with the JavaScript object.
#[napi]
pub struct MediaHandle {
    item: Arc<MediaItem>,
}

impl MediaHandle {
    /// Returns the media item behind the handle.
    pub fn item(&self) -> Arc<MediaItem> {
        Arc::clone(&self.item)
    }
}

/// Announces the base64 text of an image or video, or its data URL.
#[napi(catch_unwind)]
pub fn media(text: JsString<'_>) -> napi::Result<MediaHandle> {
    let length = text.latin1_len()?;
    let item =
        if length > AT_ONCE { MediaItem::announced(length) } else { MediaItem::new(copy(&text, Vec::new())?.into()) };
    Ok(MediaHandle { item })
}

/// The text, copied into `memory`, which has to have room for a final zero or grows.
pub fn copy(text: &JsString<'_>, mut memory: Vec<u8>) -> napi::Result<Vec<u8>> {
    let room = text.latin1_len()? + 1;
    memory.resize(room, 0);
    let value = text.value();
    let mut written = 0;
    #[allow(unsafe_code, reason = "napi-rs reads strings only into memory of its own making")]
    // SAFETY: environment and value are those of this call; the engine writes at most `memory.len()` bytes, a zero included.
    check_status!(unsafe {
        sys::napi_get_value_string_latin1(
            value.env,
            value.value,
            memory.as_mut_ptr().cast(),
            memory.len(),
            &mut written,
        )
    })?;
    memory.truncate(written);
    Ok(memory)
}
