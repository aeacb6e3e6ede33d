//! When images are uploaded, and for how long.

use std::time::Duration;

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

/// Time that every upload gets, whatever its size.
const BASE_TIME: Duration = Duration::from_secs(30);

/// Slowest connection that an upload waits for beyond [`BASE_TIME`], in bytes per second.
const SLOWEST_RATE: u64 = 64 << 10;

impl UploadLimits {
    /// Returns how long one attempt to upload so many bytes may take.
    pub fn time_for(&self, bytes: u64) -> Option<Duration> {
        self.timeout.map(|limit| limit.min(BASE_TIME + Duration::from_secs(bytes / SLOWEST_RATE)))
    }
}
