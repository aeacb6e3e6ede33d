//! Recording of requests and answers for bug reports.

use std::path::PathBuf;

use super::environment::Environment;

/// Where requests and answers are recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingSettings {
    /// `KIMI_CODE_RECORD`. Created when the first request is recorded.
    pub folder: PathBuf,
    /// `KIMI_CODE_RECORD_TEXT=filler`: texts are replaced by filler of the same length.
    pub without_texts: bool,
}

impl RecordingSettings {
    /// Reads the variables; `None` unless a folder is named.
    pub fn from_environment(environment: &Environment) -> Option<Self> {
        let folder = PathBuf::from(environment.get("KIMI_CODE_RECORD")?);
        let without_texts = environment.get("KIMI_CODE_RECORD_TEXT") == Some("filler");
        Some(Self { folder: std::path::absolute(&folder).unwrap_or(folder), without_texts })
    }
}
