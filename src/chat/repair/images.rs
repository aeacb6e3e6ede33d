//! Images that the service would refuse.
//!
//! One picture whose bytes are not what its MIME type says makes every later request of a session fail (users.md §1.8). The
//! first bytes tell the format; base64 is brought into its strict form; what stays unusable becomes a word about it.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::super::transcript::Part;

/// Formats that Kimi takes (kimi-code-2.1 §7).
const ACCEPTED: [&str; 7] =
    ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "image/heic", "image/heif"];

/// The image as it can be sent, or a text in its place.
pub fn usable<'a>(mime: Cow<'a, str>, data: Cow<'a, str>) -> Part<'a> {
    let Some(data) = strict_base64(data) else {
        return omitted("its data is not base64");
    };
    if data.is_empty() {
        return omitted("it has no data");
    }
    let declared = match mime.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "image/jpg" => "image/jpeg".to_owned(),
        other => other.to_owned(),
    };
    let mime = match sniff(&data) {
        Sniffed::Known(format) if format == mime => mime,
        Sniffed::Known(format) => Cow::Borrowed(format),
        Sniffed::Foreign(what) => return omitted(&format!("it is {what}, which Kimi does not take")),
        Sniffed::Unknown if ACCEPTED.contains(&declared.as_str()) => {
            if declared == *mime {
                mime
            } else {
                Cow::Owned(declared)
            }
        }
        Sniffed::Unknown => return omitted(&format!("Kimi does not take {declared:?}")),
    };
    Part::Image { mime, data }
}

fn omitted(why: &str) -> Part<'static> {
    Part::Text(format!("(image omitted: {why})").into())
}

/// Standard alphabet, no white space, padding only at the end. `None` if the text is something else.
fn strict_base64(data: Cow<'_, str>) -> Option<Cow<'_, str>> {
    let text = data.as_ref();
    let body = text.trim_end_matches('=').as_bytes();
    if text.len() - body.len() <= 2 && body.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/')) {
        return Some(data);
    }
    let inner = match text.split_once(";base64,") {
        Some((head, inner)) if head.starts_with("data:") => inner,
        _ => text,
    };
    let clean: String = inner
        .chars()
        .filter(|c| !c.is_ascii_whitespace())
        .map(|c| match c {
            '-' => '+',
            '_' => '/',
            c => c,
        })
        .collect();
    let digits = clean.trim_end_matches('=').len();
    let fits = clean.len() - digits <= 2
        && clean.as_bytes()[..digits].iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
    fits.then_some(Cow::Owned(clean))
}

enum Sniffed {
    Known(&'static str),
    /// Recognised, and not acceptable.
    Foreign(&'static str),
    Unknown,
}

fn sniff(base64: &str) -> Sniffed {
    let head = base64.trim_end_matches('=').as_bytes();
    let head = &head[..head.len().min(32)];
    // Whole groups only: the rest of a cut text is no base64 by itself.
    let whole = if head.len() % 4 == 1 { &head[..head.len() - 1] } else { head };
    let bytes = STANDARD_NO_PAD.decode(whole).or_else(|_| STANDARD_NO_PAD.decode(&whole[..whole.len() / 4 * 4]));
    let Ok(bytes) = bytes else { return Sniffed::Unknown };
    match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => Sniffed::Known("image/png"),
        [0xFF, 0xD8, 0xFF, ..] => Sniffed::Known("image/jpeg"),
        [b'G', b'I', b'F', b'8', ..] => Sniffed::Known("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Sniffed::Known("image/webp"),
        [b'B', b'M', _, _, _, _, 0, 0, 0, 0, ..] => Sniffed::Known("image/bmp"),
        [_, _, _, _, b'f', b't', b'y', b'p', brand @ ..] => match brand.get(..4) {
            Some(b"heic" | b"heix" | b"hevc" | b"hevx") => Sniffed::Known("image/heic"),
            Some(b"mif1" | b"msf1" | b"heif") => Sniffed::Known("image/heif"),
            Some(b"avif" | b"avis") => Sniffed::Foreign("AVIF"),
            _ => Sniffed::Unknown,
        },
        [b'%', b'P', b'D', b'F', ..] => Sniffed::Foreign("a PDF"),
        [b'I', b'I', 0x2A, 0, ..] | [b'M', b'M', 0, 0x2A, ..] => Sniffed::Foreign("TIFF"),
        [b'<', b's', b'v', b'g', ..] | [b'<', b'?', b'x', b'm', b'l', ..] => Sniffed::Foreign("SVG"),
        [b'<', b'!' | b'h', ..] => Sniffed::Foreign("HTML"),
        [b'{', b'"', ..] => Sniffed::Foreign("JSON"),
        _ => Sniffed::Unknown,
    }
}
