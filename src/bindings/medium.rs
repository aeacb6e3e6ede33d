//! Images and videos on their way in: one copy when JavaScript shows them first, a handle from then on.

use std::sync::Arc;

use bytes::Bytes;
use napi::bindgen_prelude::Latin1String;
use napi_derive::napi;

use crate::files::Medium;

/// Keeps what is known about one image; freed with the JavaScript object.
#[napi]
pub struct MediumHandle {
    medium: Arc<Medium>,
}

impl MediumHandle {
    /// The medium behind it.
    pub fn medium(&self) -> Arc<Medium> {
        Arc::clone(&self.medium)
    }
}

/// Takes the base64 text of an image or video, or its data URL.
#[napi(catch_unwind)]
pub fn medium(text: Latin1String) -> MediumHandle {
    MediumHandle { medium: Medium::new(bytes(text)) }
}

/// The text without another copy.
pub fn bytes(text: Latin1String) -> Bytes {
    struct Owner(Latin1String);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    Bytes::from_owner(Owner(text))
}
