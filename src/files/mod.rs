//! Images and videos: what they are, and how they reach the service.
//!
//! Pi re-sends every image of the history with every turn. Kimi's Files API takes a file once and accepts `ms://<id>` from then
//! on (docs/protocol.md#files-api). Three promises are kept here: content is uploaded once per account, whatever happens to
//! tokens, processes and sessions; a reference always belongs to exactly the content it stands for; and an id that
//! works never changes, because it is part of the prompt prefix that the service caches (docs/protocol.md#prompt-cache).
//!
//! ```text
//! media_item   one image or video: its bytes, seen once, and what was found out about it · reader  base64 → bytes · sniff  bytes → type
//! slots    a body with gaps where media go, so that uploading and encoding need not wait for each other
//! policy   which media become references · attach  the step of a turn: known, uploaded or inline · stale  ids that died
//! office   one upload per content · index  content → file id · claim  one upload per machine · upload  the request
//! single   a file that a program uploads by itself
//! ```

mod api;
mod attach;
mod base64_stream;
mod body_template;
pub mod index;
mod media;
mod media_type;
mod policy;
mod reupload;
mod upload_request;
mod uploader;

pub use api::{FileRequest, Progress, Uploaded, upload};
pub use attach::{MediaSource, attach};
pub use base64_stream::Base64Stream;
pub use body_template::{BodyTemplate, MediaPayload, MediaRef, Shape};
pub use media::{Digest, MediaItem, omitted};
pub use media_type::{MAX_FILE, MediaKind, MediaType};
pub use reupload::Attachments;
pub use upload_request::UploadClient;

/// `1.5 MB`, `300 KB`, `12 bytes`: sizes for people.
pub fn readable(bytes: u64) -> String {
    match bytes {
        0..=999 => format!("{bytes} bytes"),
        1_000..=999_999 => format!("{} KB", bytes / 1000),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}
