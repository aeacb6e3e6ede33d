//! Reads width and height of an image from its header.

use super::disk_file::MediaFile;

/// Limits above which Pi's own tools shrink an image: pixels per side, and bytes of base64 (docs/pi-contract.md#model-table).
const PI_MAX_SIDE: u32 = 2000;
const PI_MAX_BASE64: u64 = 4_718_592;

/// JPEG segments that are looked at before the one with the size.
const MAX_SEGMENTS: usize = 200;

/// Whether Pi's own tools show this image as it is. They shrink large ones and do not take all types.
pub fn fits_pi(file: &MediaFile, mime: &str) -> bool {
    let is_small = |(width, height): (u32, u32)| width.max(height) <= PI_MAX_SIDE;
    file.size().div_ceil(3) * 4 < PI_MAX_BASE64 && image_size(file, mime).is_some_and(is_small)
}

/// Returns width and height in pixels, for the types that Pi takes.
pub fn image_size(file: &MediaFile, mime: &str) -> Option<(u32, u32)> {
    let head = file.read_at(0, 32).ok()?;
    match mime {
        "image/png" => Some((big_endian(&head, 16, 4)?, big_endian(&head, 20, 4)?)),
        "image/gif" => Some((little_endian(&head, 6, 2)?, little_endian(&head, 8, 2)?)),
        "image/webp" => webp_size(&head),
        "image/jpeg" => jpeg_size(file),
        _ => None,
    }
}

/// Three kinds of WebP: lossy, lossless, extended (RFC 9649).
fn webp_size(head: &[u8]) -> Option<(u32, u32)> {
    match head.get(12..16)? {
        b"VP8 " => Some((little_endian(head, 26, 2)? & 0x3fff, little_endian(head, 28, 2)? & 0x3fff)),
        b"VP8L" => {
            let bits = little_endian(head, 21, 4)?;
            Some(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => Some((little_endian(head, 24, 3)? + 1, little_endian(head, 27, 3)? + 1)),
        _ => None,
    }
}

/// Follows the segments of a JPEG to its frame header.
fn jpeg_size(file: &MediaFile) -> Option<(u32, u32)> {
    let mut at = 2;
    for _ in 0..MAX_SEGMENTS {
        let segment = file.read_at(at, 9).ok()?;
        let (0xff, marker) = (*segment.first()?, *segment.get(1)?) else { return None };
        match marker {
            // Fill bytes in front of a marker.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xcf if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                return Some((big_endian(&segment, 7, 2)?, big_endian(&segment, 5, 2)?));
            }
            _ => at += 2 + u64::from(big_endian(&segment, 2, 2)?),
        }
    }
    None
}

fn big_endian(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

fn little_endian(bytes: &[u8], at: usize, length: usize) -> Option<u32> {
    Some(bytes.get(at..at + length)?.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn opened(content: &[u8]) -> (tempfile::NamedTempFile, MediaFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let opened = MediaFile::open(file.path()).unwrap();
        (file, opened)
    }

    fn size(mime: &str, content: &[u8]) -> Option<(u32, u32)> {
        image_size(&opened(content).1, mime)
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        [b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".as_slice(), &width.to_be_bytes(), &height.to_be_bytes()].concat()
    }

    #[test]
    fn image_size_of_every_type_that_pi_takes() {
        assert_eq!(size("image/png", &png(3000, 70)), Some((3000, 70)));
        assert_eq!(size("image/gif", b"GIF89a\x2c\x01\xc8\x00"), Some((300, 200)));
        let vp8 = b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a\x2c\x01\xc8\x40";
        assert_eq!(size("image/webp", vp8), Some((300, 200)));
        let vp8l = [b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f".as_slice(), &(299_u32 | 199 << 14).to_le_bytes()].concat();
        assert_eq!(size("image/webp", &vp8l), Some((300, 200)));
        let vp8x = b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0\x2b\x01\0\xc7\0\0";
        assert_eq!(size("image/webp", vp8x), Some((300, 200)));
        let jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xff\xc4\0\x02\xff\xc2\0\x11\x08\0\xc8\x01\x2c\x03";
        assert_eq!(size("image/jpeg", jpeg), Some((300, 200)));
    }

    #[test]
    fn image_size_of_a_damaged_header_is_unknown() {
        assert_eq!(size("image/png", b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0"), None);
        assert_eq!(size("image/jpeg", b"\xff\xd8\xff\xe0\xff\xff"), None);
        assert_eq!(size("image/jpeg", &[b"\xff\xd8".to_vec(), [0xff, 0xd8].repeat(1000)].concat()), None);
        assert_eq!(size("image/webp", b"RIFF\0\0\0\0WEBP????"), None);
        assert_eq!(size("image/bmp", &png(3, 3)), None);
    }

    #[test]
    fn image_fits_pi_up_to_2000_pixels_and_its_limit_of_bytes() {
        let fits = |content: &[u8]| fits_pi(&opened(content).1, "image/png");
        assert!(fits(&png(2000, 2000)) && !fits(&png(2001, 10)) && !fits(&png(10, 2001)));
        let bytes = (PI_MAX_BASE64 / 4 * 3) as usize;
        let padded = |length: usize| [png(9, 9), vec![0; length - 24]].concat();
        assert!(fits(&padded(bytes - 3)) && !fits(&padded(bytes)));
    }
}
