//! When images are uploaded, and for how long.

use std::time::Duration;

use super::settings::{Settings, limit};

/// When images are uploaded, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Images of more decoded bytes are uploaded.
    pub threshold: u64,
    /// The largest images of longer bodies are uploaded, in bytes.
    pub budget: u64,
    /// Longest body that is sent inline when an upload fails, in bytes.
    pub inline_limit: u64,
    /// Largest video that is uploaded, in bytes.
    pub video_max: u64,
    /// Longest time for one file, however large; `None` for no limit.
    pub timeout: Option<Duration>,
}

impl Settings {
    /// Returns when images are uploaded.
    pub fn upload_limits(&self) -> UploadLimits {
        UploadLimits {
            threshold: self.uploads.threshold_bytes,
            budget: self.uploads.total_bytes,
            inline_limit: self.uploads.inline_limit_bytes,
            video_max: self.uploads.video_max_bytes,
            timeout: limit(self.uploads.timeout_ms),
        }
    }
}
