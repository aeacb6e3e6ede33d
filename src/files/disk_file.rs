//! An image or video on disk, read in chunks by position: it can be read several times and renamed meanwhile, and a large one
//! is never in memory as a whole.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::media_info::Digest;
use super::media_type::{Sniffed, sniff};
use crate::storage::regular_file::open_regular;

/// Bytes that are read at once.
pub(super) const CHUNK: usize = 256 << 10;

/// Bytes that are looked at to find the type.
const SNIFFED: usize = 96;

/// An open file.
#[derive(Debug, Clone)]
pub struct MediaFile {
    file: Arc<File>,
    size: u64,
    modified: Option<SystemTime>,
}

impl MediaFile {
    /// Opens a regular file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open_regular(path)?;
        let metadata = file.metadata()?;
        Ok(Self { file: Arc::new(file), size: metadata.len(), modified: metadata.modified().ok() })
    }

    /// Returns the size when the file was opened, in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads at most `length` bytes from `offset` on; fewer only at the end of the file.
    pub fn read_at(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match read_once(&self.file, &mut bytes[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Looks at the first bytes for the type.
    pub fn sniff(&self) -> io::Result<Sniffed> {
        Ok(sniff(&self.read_at(0, SNIFFED)?))
    }

    /// Hashes the content. A file that changes meanwhile is an error.
    pub fn digest(&self) -> io::Result<Digest> {
        let mut reading = FileReading::new(self.clone(), None);
        while reading.next_chunk()?.is_some() {}
        Ok(reading.digest())
    }

    /// Whether size and time of the last change are those of the opening.
    fn is_unchanged(&self) -> bool {
        self.file.metadata().is_ok_and(|now| now.len() == self.size && now.modified().ok() == self.modified)
    }
}

/// Reads a file from beginning to end.
#[derive(Debug)]
pub(super) struct FileReading {
    file: MediaFile,
    offset: u64,
    hash: Sha256,
    /// What the content has to be.
    expected: Option<Digest>,
}

impl FileReading {
    /// Starts at the beginning. With an expected digest the last chunk is returned only if the whole content has that digest,
    /// so that the service never receives a different file completely.
    pub fn new(file: MediaFile, expected: Option<Digest>) -> Self {
        Self { file, offset: 0, hash: Sha256::new(), expected }
    }

    /// Returns the next chunk, or `None` at the end.
    pub fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        let left = self.file.size - self.offset;
        if left == 0 {
            return Ok(None);
        }
        let length = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        let chunk = self.file.read_at(self.offset, length)?;
        self.hash.update(&chunk);
        self.offset += chunk.len() as u64;
        let is_last = self.offset == self.file.size;
        let differs = |expected| Digest::from(self.hash.clone()) != expected;
        if chunk.len() < length || (is_last && (!self.file.is_unchanged() || self.expected.is_some_and(differs))) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file changed while it was read"));
        }
        Ok(Some(chunk.into()))
    }

    /// Returns the digest of what was read.
    fn digest(self) -> Digest {
        Digest::from(self.hash)
    }
}

#[cfg(unix)]
fn read_once(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_once(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, offset)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn scratch(content: &[u8]) -> (tempfile::NamedTempFile, MediaFile) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        let opened = MediaFile::open(file.path()).unwrap();
        (file, opened)
    }

    fn content() -> Vec<u8> {
        (0..CHUNK * 2 + 77).map(|n| ((n * 31) >> 3) as u8).collect()
    }

    fn read_all(mut reading: FileReading) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(chunk) = reading.next_chunk()? {
            all.extend(chunk);
        }
        Ok(all)
    }

    #[test]
    fn media_file_is_read_in_chunks_with_the_digest_of_its_content() {
        let (_path, file) = scratch(&content());
        let digest = file.digest().unwrap();
        assert_eq!(digest, Digest::from(Sha256::new().chain_update(content())));
        assert_eq!(read_all(FileReading::new(file, Some(digest))).unwrap(), content());
    }

    #[test]
    fn media_file_renamed_while_it_is_read_is_read_to_the_end() {
        let (path, file) = scratch(&content());
        let digest = file.digest().unwrap();
        std::fs::rename(path.path(), path.path().with_extension("renamed")).unwrap();
        assert_eq!(read_all(FileReading::new(file, Some(digest))).unwrap().len(), content().len());
        std::fs::remove_file(path.path().with_extension("renamed")).unwrap();
    }

    #[test]
    fn media_file_that_grows_shrinks_or_changes_is_an_error_before_its_last_chunk() {
        let changes: [fn(&mut File); 3] = [
            |file| file.write_all(b"more").unwrap(),
            |file| file.set_len(CHUNK as u64 + 5).unwrap(),
            |file| {
                std::io::Seek::seek(file, std::io::SeekFrom::Start(CHUNK as u64 + 1)).unwrap();
                file.write_all(b"changed").unwrap();
            },
        ];
        for change in changes {
            let (mut path, file) = scratch(&content());
            let digest = file.digest().unwrap();
            let mut reading = FileReading::new(file, Some(digest));
            reading.next_chunk().unwrap().unwrap();
            change(path.as_file_mut());
            let error = read_all(reading).unwrap_err();
            assert_eq!(error.to_string(), "the file changed while it was read");
        }
    }

    #[test]
    fn media_file_type_is_that_of_its_bytes() {
        let (_path, text) = scratch(b"#!/bin/sh\n");
        assert_eq!(text.sniff().unwrap(), Sniffed::Unknown);
        let (_path, video) = scratch(b"\0\0\0\x18ftypqt  \0\0\0\0");
        assert!(matches!(video.sniff().unwrap(), Sniffed::Accepted(known) if known.mime == "video/quicktime"));
    }
}
