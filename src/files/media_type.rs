//! Finds the real type of a file in its first bytes.
//!
//! Extensions and MIME types are often wrong. The service refuses a JPEG called `.png`, and because Pi repeats the history, every
//! later request of the session fails as well (docs/protocol.md#media-types).

use crate::display_text::size_above;

/// Largest file that the service documents to take, in bytes (docs/protocol.md#file-limits).
pub const MAX_FILE: u64 = 100 << 20;

/// Refuses a content of more bytes than the service takes.
pub fn check_file_limit(bytes: u64) -> Result<(), String> {
    if bytes <= MAX_FILE {
        return Ok(());
    }
    let (is, most) = size_above(bytes, MAX_FILE);
    Err(format!("it is {is}, Kimi takes at most {most}"))
}

/// What a file is for the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A still or animated image.
    Image,
    /// A video.
    Video,
}

impl MediaKind {
    /// Finds the kind by its word.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Image, Self::Video].into_iter().find(|kind| kind.word() == word)
    }

    /// Returns the word that the Files API and our notes use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Video => "video",
        }
    }
}

/// A type that Kimi takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MediaType {
    /// Image or video.
    pub kind: MediaKind,
    /// `image/png` …
    pub mime: &'static str,
    /// The name under which it is uploaded (docs/protocol.md#upload-request).
    pub file_name: &'static str,
}

const fn image(mime: &'static str, file_name: &'static str) -> MediaType {
    MediaType { kind: MediaKind::Image, mime, file_name }
}

const fn video(mime: &'static str, file_name: &'static str) -> MediaType {
    MediaType { kind: MediaKind::Video, mime, file_name }
}

const PNG: MediaType = image("image/png", "upload.png");
const JPEG: MediaType = image("image/jpeg", "upload.jpg");
const GIF: MediaType = image("image/gif", "upload.gif");
const WEBP: MediaType = image("image/webp", "upload.webp");
const BMP: MediaType = image("image/bmp", "upload.bmp");
const HEIC: MediaType = image("image/heic", "upload.heic");
const HEIF: MediaType = image("image/heif", "upload.heif");
const MP4: MediaType = video("video/mp4", "upload.mp4");
const MPEG: MediaType = video("video/mpeg", "upload.mpeg");
const QUICKTIME: MediaType = video("video/quicktime", "upload.mov");
const WEBM: MediaType = video("video/webm", "upload.webm");
const MATROSKA: MediaType = video("video/x-matroska", "upload.mkv");
const AVI: MediaType = video("video/x-msvideo", "upload.avi");
const FLV: MediaType = video("video/x-flv", "upload.flv");
const THREE_GPP: MediaType = video("video/3gpp", "upload.3gp");

/// All types that Kimi takes (docs/protocol.md#media-types).
const ACCEPTED: [MediaType; 15] =
    [PNG, JPEG, GIF, WEBP, BMP, HEIC, HEIF, MP4, MPEG, QUICKTIME, WEBM, MATROSKA, AVI, FLV, THREE_GPP];

impl MediaType {
    /// Finds the accepted type of this MIME name in any spelling.
    pub fn named(mime: &str) -> Option<Self> {
        let name = mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let name = match name.as_str() {
            "image/jpg" | "image/pjpeg" => "image/jpeg",
            "image/x-ms-bmp" => "image/bmp",
            "video/mov" => "video/quicktime",
            "video/avi" => "video/x-msvideo",
            other => other,
        };
        ACCEPTED.into_iter().find(|known| known.mime == name)
    }
}

/// What the first bytes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sniffed {
    /// A type that Kimi takes.
    Accepted(MediaType),
    /// A type that Kimi does not take, for a sentence.
    Foreign(&'static str),
    /// No known type.
    Unknown,
}

impl Sniffed {
    /// Returns the type of a file: what its bytes tell, else the MIME type `declared`, else `fallback`; or why there is none.
    pub fn or_declared(self, declared: &str, fallback: Option<MediaType>) -> Result<MediaType, String> {
        match self {
            Self::Accepted(known) => Ok(known),
            Self::Foreign(what) => Err(format!("it is {what}, which Kimi does not take")),
            Self::Unknown => MediaType::named(declared).or(fallback).ok_or_else(|| match declared.trim() {
                "" => "nothing tells its type".to_owned(),
                named => format!("Kimi does not take {:?}", named.to_ascii_lowercase()),
            }),
        }
    }
}

/// Finds the type of a file in its beginning; 64 bytes are enough.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Sniffed::Accepted(PNG),
        [0xFF, 0xD8, 0xFF, ..] => Sniffed::Accepted(JPEG),
        [b'G', b'I', b'F', b'8', ..] => Sniffed::Accepted(GIF),
        [b'R', b'I', b'F', b'F', _, _, _, _, form @ ..] => match form.get(..4) {
            Some(b"WEBP") => Sniffed::Accepted(WEBP),
            Some(b"AVI ") => Sniffed::Accepted(AVI),
            Some(b"WAVE") => Sniffed::Foreign("WAVE audio"),
            _ => Sniffed::Unknown,
        },
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Sniffed::Accepted(BMP),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => brand_type(brand),
        [0x1A, 0x45, 0xDF, 0xA3, header @ ..] => {
            let webm = header.windows(4).any(|window| window == b"webm");
            Sniffed::Accepted(if webm { WEBM } else { MATROSKA })
        }
        [b'F', b'L', b'V', 1, ..] => Sniffed::Accepted(FLV),
        [0, 0, 1, 0xBA | 0xB3, ..] => Sniffed::Accepted(MPEG),
        [b'%', b'P', b'D', b'F', ..] => Sniffed::Foreign("a PDF"),
        [b'I', b'I', 0x2A, 0, ..] | [b'M', b'M', 0, 0x2A, ..] => Sniffed::Foreign("TIFF"),
        [b'P', b'K', 3, 4, ..] => Sniffed::Foreign("a ZIP archive"),
        text => text_type(text),
    }
}

/// The brand of an ISO media file.
fn brand_type(brand: &[u8]) -> Sniffed {
    match brand.get(..4) {
        Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis") => Sniffed::Accepted(HEIC),
        Some(b"mif1" | b"msf1" | b"heif") => Sniffed::Accepted(HEIF),
        Some(b"avif" | b"avis") => Sniffed::Foreign("AVIF"),
        Some(b"qt  ") => Sniffed::Accepted(QUICKTIME),
        Some([b'3', b'g', ..]) => Sniffed::Accepted(THREE_GPP),
        Some(b"M4A " | b"M4B ") => Sniffed::Foreign("MPEG-4 audio"),
        Some([b'i', b's', b'o', _] | [b'm', b'p', b'4', _] | [b'M', b'4', b'V', _] | b"avc1" | b"dash" | b"MSNV") => {
            Sniffed::Accepted(MP4)
        }
        _ => Sniffed::Unknown,
    }
}

fn text_type(bytes: &[u8]) -> Sniffed {
    let text = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes).trim_ascii_start();
    let starts = |prefix: &[u8]| text.len() >= prefix.len() && text[..prefix.len()].eq_ignore_ascii_case(prefix);
    if starts(b"<svg") || starts(b"<?xml") {
        Sniffed::Foreign("SVG")
    } else if starts(b"<!doctype") || starts(b"<html") {
        Sniffed::Foreign("HTML")
    } else if starts(b"{\"") {
        Sniffed::Foreign("JSON")
    } else {
        Sniffed::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_type_the_bytes_tell_it() {
        let known = |bytes: &[u8]| match sniff(bytes) {
            Sniffed::Accepted(known) => known.mime,
            Sniffed::Foreign(what) => what,
            Sniffed::Unknown => "unknown",
        };
        assert_eq!(known(b"\x89PNG\r\n\x1a\n"), "image/png");
        assert_eq!(known(b"RIFF\x10\0\0\0WEBPVP8 "), "image/webp");
        assert_eq!(known(b"RIFF\x10\0\0\0AVI LIST"), "video/x-msvideo");
        assert_eq!(known(b"\0\0\0\x18ftypmp42"), "video/mp4");
        assert_eq!(known(b"\0\0\0\x18ftypheic"), "image/heic");
        assert_eq!(known(b"\0\0\0\x18ftypqt  "), "video/quicktime");
        assert_eq!(known(b"\x1A\x45\xDF\xA3\x01\x42\x82\x84webm"), "video/webm");
        assert_eq!(known(b"BM\x10\0\0\0\0\0\0\0"), "image/bmp");
        assert_eq!(known(b"%PDF-1.7"), "a PDF");
        assert_eq!(known(b"\xEF\xBB\xBF\n <SVG xmlns"), "SVG");
        assert_eq!(known(b""), "unknown");
        assert_eq!(known(b"RIFF"), "unknown");
    }

    #[test]
    fn media_type_names_are_read_in_any_spelling() {
        assert_eq!(MediaType::named("IMAGE/JPG; charset=x"), Some(JPEG));
        assert_eq!(MediaType::named("application/pdf"), None);
    }
}
