//! Limits of uploads.

use std::time::Duration;

/// Limits of uploading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadLimits {
    /// Images of more decoded bytes than this are uploaded.
    pub threshold: u64,
    /// Bodies longer than this lose their largest inline images to uploads.
    pub budget: u64,
    /// Longest body that is sent when uploading fails.
    pub inline_limit: u64,
    /// Longest time for one file, however large; `None` for no limit.
    pub timeout: Option<Duration>,
}

/// What every upload may take, and the slowest line that is worth waiting for beyond that, in bytes per second.
const PATIENCE: (Duration, u64) = (Duration::from_secs(30), 64 << 10);

impl UploadLimits {
    /// How long one attempt to upload so many bytes may take.
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        let (start, pace) = PATIENCE;
        self.timeout.map(|limit| limit.min(start + Duration::from_secs(bytes / pace)))
    }
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self { threshold: 1 << 20, budget: 8 << 20, inline_limit: 50 << 20, timeout: Some(Duration::from_secs(300)) }
    }
}
