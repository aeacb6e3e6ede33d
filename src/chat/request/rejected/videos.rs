//! Recognizes errors with which the service refuses all videos for a model.

use crate::error::Error;

/// Words for a model that takes no videos at all.
const UNSUPPORTED: [&str; 11] = [
    "not support",
    "unsupported",
    "n't support",
    "not accept",
    "not allowed",
    "not available",
    "unknown",
    "invalid",
    "unexpected",
    "expected one of",
    "不支持",
];

/// Words for one video that is damaged, lost or of a wrong form: other videos may be accepted.
const ONE_FILE: [&str; 15] = [
    "format",
    "codec",
    "decode",
    "corrupt",
    "too long",
    "too large",
    "duration",
    "resolution",
    "frame",
    "download",
    "fetch",
    "not found",
    "expired",
    "file id",
    "file_id",
];

/// Whether the error says that the model takes no videos. The service's wording is not known, so any text that speaks of videos
/// as such is taken for one; a wrong guess costs the videos of a model for a week, so texts about one file are not.
pub fn is_video_refusal(error: &Error) -> bool {
    if !matches!(error.status, Some(400 | 415 | 422)) {
        return false;
    }
    let text = error.message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    (text.contains("video") || text.contains("视频")) && has(&UNSUPPORTED) && !has(&ONE_FILE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refuses(status: u16, message: &str) -> bool {
        is_video_refusal(&Error { status: Some(status), ..Error::new(ErrorKind::BadRequest, message) })
    }

    #[test]
    fn video_refusal_of_a_model_is_recognized() {
        for text in [
            "Invalid request: model k3-256k does not support video input",
            "unsupported content type: video_url",
            "Invalid value: 'video_url'. Supported values are: 'text' and 'image_url'",
            "messages.0.content.1: Input tag 'video' found using 'type' does not match any of the expected tags: unexpected",
            "该模型不支持视频输入",
        ] {
            assert!(refuses(400, text), "{text}");
        }
    }

    #[test]
    fn error_about_one_video_is_no_refusal_of_all() {
        for text in [
            "unsupported video format",
            "unsupported video codec: hevc",
            "failed to decode video: invalid data",
            "the video file was not found",
            "the model does not support images",
        ] {
            assert!(!refuses(400, text), "{text}");
        }
        assert!(!refuses(500, "video_url is not supported"));
    }
}
