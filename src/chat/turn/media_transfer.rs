//! Fetches the content of media items from JavaScript, and sends notices while they are uploaded.
//!
//! A text of megabytes crosses in chunks. JavaScript copies each chunk into memory that exists already, because copying into fresh
//! memory takes five times as long, and is free in between, while the chunk before is decoded and hashed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_channel::mpsc::UnboundedReceiver;
use serde_json::Value;

use crate::blocking::in_background;
use crate::chat::request::transcript::Media;
use crate::chat::stream::op_queue::{Op, OpWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Base64Stream, MediaItem, MediaSource};

/// Characters of a chunk: a quarter of a millisecond for the JavaScript thread. A multiple of four, so that chunks end with
/// whole bytes.
const CHUNK_CHARS: usize = 1 << 20;

/// Chunks asked for at once: one is read, one is copied, one waits.
const AHEAD: usize = 3;

/// A part of a media item's base64 text.
#[derive(Debug)]
pub struct MediaChunk {
    /// Position among the media items of the turn.
    pub media_item: usize,
    /// Where in the text it begins.
    pub from: usize,
    /// Its characters.
    pub text: Vec<u8>,
}

/// Chunks that JavaScript sends.
pub type ChunkReceiver = UnboundedReceiver<MediaChunk>;

/// Memory for chunks; each buffer is one byte longer than a chunk.
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    fn put(&self, buffer: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
    }

    /// Takes memory for a chunk, if there is some.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The media items of one turn, whose content JavaScript holds.
pub(super) struct TurnMediaSource<'c> {
    pub ops: &'c mut OpWriter,
    pub chunks: &'c mut ChunkReceiver,
    pub buffer_pool: &'c BufferPool,
    /// In the order in which JavaScript passed them.
    pub media: &'c [Media],
}

impl TurnMediaSource<'_> {
    fn position(&self, media_item: &Arc<MediaItem>) -> Option<usize> {
        self.media.iter().position(|known| Arc::ptr_eq(known, media_item))
    }

    /// Fetches all content that was only announced.
    pub async fn collect(&mut self) -> Result<()> {
        let first = |(position, media_item): &(usize, &Media)| self.position(media_item) == Some(*position);
        let awaited: Vec<usize> = self
            .media
            .iter()
            .enumerate()
            .filter(|(_, media_item)| media_item.is_awaited())
            .filter(first)
            .map(|(position, _)| position)
            .collect();
        self.fetch(&awaited).await
    }

    async fn fetch(&mut self, positions: &[usize]) -> Result<()> {
        let length = |position: usize| self.media[position].length();
        // An empty text has one chunk as well.
        let chunks =
            |position: usize| (0..length(position).max(1)).step_by(CHUNK_CHARS).map(move |from| (position, from));
        let chunks: Vec<(usize, usize)> = positions.iter().flat_map(|position| chunks(*position)).collect();
        let longest = positions.iter().map(|position| length(*position).min(CHUNK_CHARS)).max().unwrap_or_default();
        let count = chunks.len().min(AHEAD);
        // Not zeros, because the system provides zeroed memory only when it is first written to.
        let buffers = in_background(move || Ok(vec![vec![1_u8; longest + 1]; count])).await?;
        let mut ahead = chunks.iter();
        for buffer in buffers {
            self.ask(buffer, ahead.next());
        }
        let mut reader = None;
        for (position, from) in &chunks {
            let chunk = loop {
                let chunk = self.chunks.recv().await.map_err(|_| lost())?;
                if (chunk.media_item, chunk.from) == (*position, *from) {
                    break chunk.text;
                }
            };
            let mut text = reader.take().unwrap_or_else(|| Base64Stream::new(length(*position)));
            let (text, buffer) = in_background(move || {
                text.feed(&chunk);
                Ok((text, chunk))
            })
            .await?;
            self.ask(buffer, ahead.next());
            if from + CHUNK_CHARS < length(*position) {
                reader = Some(text);
                continue;
            }
            let media_item = Arc::clone(&self.media[*position]);
            if !in_background(move || Ok(media_item.accept(text))).await? {
                return Err(Error::new(ErrorKind::Internal, "an image changed while it was being sent"));
            }
        }
        Ok(())
    }

    /// Asks JavaScript for a chunk.
    fn ask(&mut self, buffer: Vec<u8>, chunk: Option<&(usize, usize)>) {
        if let Some((media_item, from)) = chunk {
            self.buffer_pool.put(buffer);
            let to = (from + CHUNK_CHARS).min(self.media[*media_item].length());
            self.ops.push(Op::Media { index: *media_item, from: *from, to });
            self.ops.flush();
        }
    }
}

impl MediaSource for TurnMediaSource<'_> {
    fn notice(&mut self, notice: Value) {
        self.ops.send(Op::Notice(notice.to_string()));
    }

    fn holds(&self, media_item: &Arc<MediaItem>) -> bool {
        self.position(media_item).is_some()
    }

    async fn content(&mut self, media_item: &Arc<MediaItem>) -> Result<Bytes> {
        let position = self.position(media_item).ok_or_else(lost)?;
        self.fetch(&[position]).await?;
        media_item.content().ok_or_else(lost)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "an image was lost on its way")
}
