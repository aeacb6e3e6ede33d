//! Decodes base64 text chunk by chunk, as it comes from JavaScript.
//!
//! Each chunk is decoded and hashed while it is still in the processor's cache and while JavaScript copies the next one. The
//! whole text is never in our memory, and the bytes that remain are a quarter shorter.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64_simd::STANDARD_NO_PAD;
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::media_info::{Digest, MediaInfo};
use super::media_type::{MediaType, sniff};

/// Tolerates what is harmless at the end of a text: missing padding, and stray bits in the last character.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Longest head of a data URL, in bytes; all of it has to be in the first chunk.
const MAX_HEAD: usize = 1024;

/// Bytes that are looked at to find the type.
const SNIFFED: usize = 96;

/// Decodes and hashes one text.
pub struct Base64Stream {
    bytes: Vec<u8>,
    hash: Sha256,
    /// Digits that do not make up whole bytes yet; fewer than four.
    carry: Vec<u8>,
    padding: usize,
    /// Nothing was read yet.
    fresh: bool,
    /// The text is not base64.
    broken: bool,
    declared: Option<MediaType>,
}

impl Base64Stream {
    /// Starts a text of about so many characters.
    pub fn new(length: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(length / 4 * 3 + 3),
            hash: Sha256::new(),
            carry: Vec::new(),
            padding: 0,
            fresh: true,
            broken: false,
            declared: None,
        }
    }

    /// Decodes the next chunk.
    pub fn feed(&mut self, text: &[u8]) {
        let text = if std::mem::take(&mut self.fresh) { self.without_data_url(text) } else { text };
        let from = self.bytes.len();
        self.append(text);
        self.hash.update(&self.bytes[from..]);
    }

    /// Returns the bytes and what was found out about them; no bytes if the text is not base64.
    pub fn finish(mut self) -> (Bytes, MediaInfo) {
        let tail = LENIENT.decode(&self.carry);
        let Some(tail) = tail.ok().filter(|_| !self.broken) else { return (Bytes::new(), MediaInfo::unreadable()) };
        self.hash.update(&tail);
        self.bytes.extend(tail);
        let info = MediaInfo {
            digest: Some(Digest::from(self.hash)),
            bytes: self.bytes.len() as u64,
            sniffed: sniff(&self.bytes[..self.bytes.len().min(SNIFFED)]),
            declared: self.declared,
        };
        (self.bytes.into(), info)
    }

    /// Strips `data:<type>[;parameters];base64,`; parameters say nothing about the content.
    fn without_data_url<'t>(&mut self, text: &'t [u8]) -> &'t [u8] {
        let head = &text[..text.len().min(MAX_HEAD)];
        let Some(comma) = memchr::memchr(b',', head)
            .filter(|_| head.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:")))
        else {
            return text;
        };
        let prefix = String::from_utf8_lossy(&head[5..comma]).to_ascii_lowercase();
        if !prefix.ends_with(";base64") {
            return text;
        }
        self.declared = MediaType::named(&prefix);
        &text[comma + 1..]
    }

    fn append(&mut self, text: &[u8]) {
        let missing = if self.carry.is_empty() { 0 } else { (4 - self.carry.len()).min(text.len()) };
        let (completing, mut text) = text.split_at(missing);
        self.append_leniently(completing);
        if self.carry.is_empty() && self.padding == 0 {
            // The last digits may have padding behind them.
            let certain = (text.len() / 4 * 4).saturating_sub(4);
            if self.decode(&text[..certain]) {
                text = &text[certain..];
            }
        }
        self.append_leniently(text);
    }

    /// Accepts line breaks, the URL-safe alphabet and padding as well.
    fn append_leniently(&mut self, text: &[u8]) {
        let mut digits = std::mem::take(&mut self.carry);
        for byte in text {
            match byte {
                b'=' => self.padding += 1,
                byte if byte.is_ascii_whitespace() => {}
                _ if self.padding > 0 => self.broken = true,
                b'-' => digits.push(b'+'),
                b'_' => digits.push(b'/'),
                byte => digits.push(*byte),
            }
        }
        self.carry = digits.split_off(digits.len() / 4 * 4);
        self.broken |= self.padding > 2 || !self.decode(&digits);
    }

    /// Decodes a multiple of four digits. Returns false and appends nothing if one of them is not base64.
    fn decode(&mut self, digits: &[u8]) -> bool {
        self.broken || STANDARD_NO_PAD.decode_append(digits, &mut self.bytes).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, chunk: usize) -> (Bytes, MediaInfo) {
        let mut stream = Base64Stream::new(text.len());
        text.as_bytes().chunks(chunk.max(1)).for_each(|chunk| stream.feed(chunk));
        stream.finish()
    }

    #[test]
    fn base64_any_division_into_chunks_gives_the_same_bytes() {
        let bytes: Vec<u8> = (0..5_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        for length in [0, 1, 2, 3, 4, 95, 4_998, 4_999, 5_000] {
            let text = base64::engine::general_purpose::STANDARD.encode(&bytes[..length]);
            let broken: String =
                text.as_bytes().chunks(76).map(|line| format!("{}\r\n", String::from_utf8_lossy(line))).collect();
            for text in [&text, text.trim_end_matches('='), &text.replace('+', "-").replace('/', "_"), &broken] {
                for chunk in [1, 3, 4, 5, 64, 1021, 4096, 10_000] {
                    let (read, info) = read(text, chunk);
                    assert_eq!(read, bytes[..length], "{length} bytes in chunks of {chunk}");
                    let digest: [u8; 32] = Sha256::digest(&bytes[..length]).into();
                    assert_eq!(info.digest.unwrap().to_string(), digest.map(|byte| format!("{byte:02x}")).concat());
                }
            }
        }
    }

    #[test]
    fn base64_an_invalid_character_is_found_wherever_it_stands() {
        let good = "QUJD".repeat(1000);
        for bad in ["!", "=", "\u{e9}", "QUJD=QUJD", "===", "Q"] {
            for place in [0, 1, 2000, 4000] {
                let text = format!("{}{bad}{}", &good[..place], &good[place..]);
                if bad == "=" && place == 4000 {
                    continue; // padding where none is needed
                }
                for chunk in [7, 1024, 10_000] {
                    let (bytes, info) = read(&text, chunk);
                    assert_eq!((bytes.len(), info.digest), (0, None), "{bad:?} at {place}");
                }
            }
        }
    }

    #[test]
    fn data_url_the_head_is_not_content() {
        let text = format!("data:Video/MP4;codecs=x;base64,{}", "AAAA".repeat(600));
        let (bytes, info) = read(&text, MAX_HEAD);
        assert_eq!(bytes.len(), 1800);
        assert_eq!(info.declared.unwrap().mime, "video/mp4");
        assert_eq!(read("data:image/svg+xml,%3Csvg", 1024).1.digest, None);
    }
}
