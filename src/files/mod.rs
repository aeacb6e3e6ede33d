//! Images and videos: what they are, and how they reach the service.
//!
//! Pi sends every image of the history again with every turn. Kimi's Files API takes a file once and accepts `ms://<id>` from
//! then on (docs/protocol.md#files-api). Three rules hold here: content is uploaded once per account, whatever happens to tokens,
//! processes and sessions; a reference always belongs to exactly the content it stands for; and an id that works never changes,
//! because it is part of the prompt prefix that the service caches (docs/protocol.md#prompt-cache).
//!
//! ```text
//! single_upload    uploads one file for a Node program · attach  completes a request body · reupload  replaces stale ids
//! uploader         one upload per content · index  content → file id · upload_request  the request
//! body_template    a body with placeholder tokens for media · policy  which media become references
//! media_item       one image or video · base64_stream  base64 → bytes · media_info  what is known about a content
//! media_type       bytes → type · media_source  how contents are fetched from JavaScript · reference  a body's reference
//! disk_file        a file on disk, read in chunks · path_access  which paths may be read · video_length  the length of a video
//! media_marker     references in sessions · stored  resolves them · prompt_media  what prompts may upload
//! image_size       width and height · progress  words about uploads
//! ```

mod attach;
mod base64_stream;
mod body_template;
mod disk_file;
mod image_size;
pub mod index;
mod media_info;
mod media_item;
mod media_marker;
mod media_source;
mod media_type;
mod path_access;
mod policy;
mod progress;
mod prompt_media;
mod reference;
mod reupload;
mod single_upload;
mod stored;
mod upload_request;
mod uploader;
mod video_length;

pub use attach::attach;
pub use base64_stream::Base64Stream;
pub use body_template::{BodyTemplate, MediaPayload, MediaRef, Shape};
pub use media_info::Digest;
pub use media_item::{MediaItem, omitted};
pub use media_marker::{READ_MEDIA, StoredMedia, markers, may_hold_markers, may_hold_references, split_markers};
pub use media_source::MediaSource;
pub use media_type::{MAX_FILE, MediaKind, MediaType};
pub use reupload::{Attachments, Reuploaded};
pub use single_upload::{FileRequest, PreparedMedia, UploadProgress, Uploaded, prepare_media, upload};
pub use stored::StoredFiles;
pub use upload_request::UploadClient;
pub use uploader::Uploader;
