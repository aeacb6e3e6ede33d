//! Finds the length of a video in the header of its container: MP4 and QuickTime (ISO/IEC 14496-12, `mvhd`), WebM and Matroska
//! (https://www.matroska.org/technical/elements.html, `Duration`).

use std::time::Duration;

use super::disk_file::MediaFile;

/// Boxes or elements that are looked at; a real header has far fewer.
const MAX_ELEMENTS: usize = 200;

/// Longest length that is believed, in seconds: a month.
const MAX_SECONDS: f64 = 31.0 * 86_400.0;

/// Returns the length of a video, if its container says so. A damaged header is no error: the length is only shown.
pub fn video_length(file: &MediaFile) -> Option<Duration> {
    let head = file.read_at(0, 12).ok()?;
    let seconds = match head.as_slice() {
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => iso_seconds(file),
        [0x1A, 0x45, 0xDF, 0xA3, ..] => matroska_seconds(file),
        _ => None,
    }?;
    (seconds > 0.0 && seconds <= MAX_SECONDS).then(|| Duration::from_secs_f64(seconds))
}

/// Formats a length: `0:42`, `1:02:03`.
pub fn format_length(length: Duration) -> String {
    let seconds = length.as_secs_f64().round().max(1.0) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

fn iso_seconds(file: &MediaFile) -> Option<f64> {
    let (from, to) = iso_box(file, 0, file.size(), b"moov")?;
    let (from, to) = iso_box(file, from, to, b"mvhd")?;
    let header = file.read_at(from, usize::try_from(to - from).ok()?.min(32)).ok()?;
    let (scale, length) = match header.first()? {
        0 => (be(&header, 12, 4)?, be(&header, 16, 4)?),
        _ => (be(&header, 20, 4)?, be(&header, 24, 8)?),
    };
    // All ones mean an unknown length.
    (scale > 0 && length < u64::from(u32::MAX)).then(|| length as f64 / scale as f64)
}

/// Finds a box between two positions and returns where its content begins and ends.
fn iso_box(file: &MediaFile, mut from: u64, to: u64, name: &[u8; 4]) -> Option<(u64, u64)> {
    for _ in 0..MAX_ELEMENTS {
        let header = file.read_at(from, 16).ok()?;
        let (head, size) = match be(&header, 0, 4)? {
            // The box reaches to the end of the file.
            0 => (8, to.checked_sub(from)?),
            1 => (16, be(&header, 8, 8)?),
            size => (8, size),
        };
        let end = from.checked_add(size).filter(|end| size >= head && *end <= to)?;
        if header.get(4..8)? == name {
            return Some((from + head, end));
        }
        from = end;
    }
    None
}

fn matroska_seconds(file: &MediaFile) -> Option<f64> {
    const SEGMENT: u64 = 0x1853_8067;
    const INFO: u64 = 0x1549_A966;
    const CLUSTER: u64 = 0x1F43_B675;
    const TIMESTAMP_SCALE: u64 = 0x2A_D7B1;
    const DURATION: u64 = 0x4489;
    let (from, to) = matroska_element(file, 0, file.size(), SEGMENT, None)?;
    let (from, to) = matroska_element(file, from, to, INFO, Some(CLUSTER))?;
    let nanoseconds = matroska_number(file, from, to, TIMESTAMP_SCALE).map_or(1_000_000, |(number, _)| number);
    let length = match matroska_number(file, from, to, DURATION)? {
        (bits, 4) => f64::from(f32::from_bits(u32::try_from(bits).ok()?)),
        (bits, 8) => f64::from_bits(bits),
        _ => return None,
    };
    Some(length * nanoseconds as f64 / 1e9)
}

/// Reads an element that holds a number of at most eight bytes, and returns their count as well.
fn matroska_number(file: &MediaFile, from: u64, to: u64, id: u64) -> Option<(u64, usize)> {
    let (from, to) = matroska_element(file, from, to, id, None)?;
    let length = usize::try_from(to - from).ok().filter(|length| (1..=8).contains(length))?;
    Some((be(&file.read_at(from, length).ok()?, 0, length)?, length))
}

/// Finds an element between two positions and returns where its content begins and ends; `stop` ends the search.
fn matroska_element(file: &MediaFile, mut from: u64, to: u64, wanted: u64, stop: Option<u64>) -> Option<(u64, u64)> {
    for _ in 0..MAX_ELEMENTS {
        let header = file.read_at(from, 12).ok()?;
        let id_length = variable_length(&header, 4)?;
        let id = be(&header, 0, id_length)?;
        let size_length = variable_length(&header[id_length..], 8)?;
        let marked = be(&header, id_length, size_length)?;
        let size = marked & !(u64::MAX << (7 * size_length));
        let start = from.checked_add((id_length + size_length) as u64).filter(|start| *start <= to)?;
        // All ones mean an unknown size: the element reaches as far as its parent.
        let unknown = size == !(u64::MAX << (7 * size_length));
        let end = if unknown { to } else { start.checked_add(size)?.min(to) };
        if id == wanted {
            return Some((start, end));
        }
        if stop == Some(id) || end >= to {
            return None;
        }
        from = end;
    }
    None
}

/// Returns the length of a variable-length number, whose first byte has as many leading zeros as further bytes follow.
fn variable_length(bytes: &[u8], max: usize) -> Option<usize> {
    let length = bytes.first()?.leading_zeros() as usize + 1;
    (length <= max).then_some(length)
}

/// Reads a big-endian number of at most eight bytes.
fn be(bytes: &[u8], at: usize, length: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(length)?).filter(|digits| digits.len() <= 8)?;
    Some(digits.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(content: &[u8]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        video_length(&MediaFile::open(file.path()).unwrap()).map(format_length)
    }

    fn iso(name: &[u8], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes(), name, content].concat()
    }

    fn mvhd(scale: u32, duration: u32) -> Vec<u8> {
        let mut content = vec![0; 100];
        content[12..16].copy_from_slice(&scale.to_be_bytes());
        content[16..20].copy_from_slice(&duration.to_be_bytes());
        iso(b"moov", &iso(b"mvhd", &content))
    }

    #[test]
    fn video_length_of_mp4_wherever_the_header_stands() {
        let brand = iso(b"ftyp", b"isom\0\0\0\0");
        let data = iso(b"mdat", &[7; 5000]);
        assert_eq!(length(&[brand.clone(), mvhd(1000, 42_400), data.clone()].concat()).unwrap(), "0:42");
        assert_eq!(length(&[brand.clone(), data, mvhd(600, 600 * 3723)].concat()).unwrap(), "1:02:03");
        let mut long = vec![1, 0, 0, 0];
        long.extend([0; 16]);
        long.extend(90_000_u32.to_be_bytes());
        long.extend((90_000_u64 * 61).to_be_bytes());
        let header = iso(b"moov", &iso(b"mvhd", &long));
        assert_eq!(length(&[brand, header].concat()).unwrap(), "1:01");
    }

    #[test]
    fn video_length_of_webm_with_known_and_unknown_sizes() {
        let scale = [0x2A, 0xD7, 0xB1, 0x83, 0x0F, 0x42, 0x40];
        let mut info = scale.to_vec();
        info.extend([0x44, 0x89, 0x88]);
        info.extend(12_300.0_f64.to_be_bytes());
        let element = |size: &[u8]| {
            let mut file = vec![0x1A, 0x45, 0xDF, 0xA3, 0x84, 0x42, 0x82, 0x81, b'w', 0x18, 0x53, 0x80, 0x67];
            file.extend(size);
            file.extend([0xEC, 0x82, 0, 0, 0x15, 0x49, 0xA9, 0x66, 0x80 | info.len() as u8]);
            file.extend(&info);
            file.extend([0x1F, 0x43, 0xB6, 0x75, 0xFF, 0, 0]);
            file
        };
        assert_eq!(length(&element(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])).unwrap(), "0:12");
        assert_eq!(length(&element(&[0x40, 0x60])).unwrap(), "0:12");
    }

    #[test]
    fn video_length_damaged_headers_have_none() {
        let brand = iso(b"ftyp", b"isom\0\0\0\0");
        for damaged in [
            b"".to_vec(),
            brand.clone(),
            [brand.clone(), mvhd(0, 5)].concat(),
            [brand.clone(), mvhd(1000, u32::MAX)].concat(),
            [brand.clone(), mvhd(1, u32::MAX - 1)].concat(),
            [brand.clone(), b"\0\0\0\x02moov".to_vec()].concat(),
            [brand, b"\xff\xff\xff\xffmoov".to_vec()].concat(),
            vec![0x1A, 0x45, 0xDF, 0xA3],
            vec![0x1A, 0x45, 0xDF, 0xA3, 0x84, 0, 0, 0, 0, 0x18, 0x53, 0x80, 0x67, 0xFF, 0, 0, 0, 0],
        ] {
            assert_eq!(length(&damaged), None, "{damaged:?}");
        }
    }
    /// Every byte of a header is replaced by odd values, and the header is cut at every length.
    #[test]
    fn video_length_mutated_headers_neither_panic_nor_take_long() {
        let mp4 = [iso(b"ftyp", b"isom\0\0\0\0"), mvhd(1000, 42_400)].concat();
        let webm: Vec<u8> = [
            &[0x1A, 0x45, 0xDF, 0xA3, 0x84, 0x42, 0x82, 0x81, b'w', 0x18, 0x53, 0x80, 0x67, 0x40, 0x60][..],
            &[
                0x15, 0x49, 0xA9, 0x66, 0x90, 0x2A, 0xD7, 0xB1, 0x83, 0x0F, 0x42, 0x40, 0x44, 0x89, 0x88, 0x40, 0xC8,
                0x06,
            ],
            &[0, 0, 0, 0, 0],
        ]
        .concat();
        let file = tempfile::NamedTempFile::new().unwrap();
        for header in [mp4, webm] {
            for at in 0..header.len() {
                for byte in [0, 1, 0x7F, 0x80, 0xFF] {
                    let mut mutated = header.clone();
                    mutated[at] = byte;
                    std::fs::write(file.path(), &mutated).unwrap();
                    let _ = video_length(&MediaFile::open(file.path()).unwrap());
                }
                std::fs::write(file.path(), &header[..at]).unwrap();
                let _ = video_length(&MediaFile::open(file.path()).unwrap());
            }
        }
    }
}
