//! What media need of a turn: contents from JavaScript, and a word to the person.
//!
//! A text of megabytes comes in pieces. JavaScript copies each into memory that exists already, because copying into fresh memory
//! takes it five times as long, and is free in between; meanwhile the piece before is decoded and hashed.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::blocking::in_background;
use crate::chat::request::transcript::Media;
use crate::chat::stream::op_queue::{Frames, Op};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Base64Stream, MediaItem, MediaSource};

/// Characters of a piece: a quarter of a millisecond for the JavaScript thread. A multiple of four, so that pieces end with
/// whole bytes.
const CHUNK_CHARS: usize = 1 << 20;

/// Pieces asked for at once: one is read, one is copied, one waits.
const AHEAD: usize = 3;

/// A piece of a media_item's text.
#[derive(Debug)]
pub struct Chunk {
    /// Position among the media of the turn.
    pub media_item: usize,
    /// Where in the text it begins.
    pub from: usize,
    /// Its characters.
    pub text: Vec<u8>,
}

/// Pieces that JavaScript passes.
pub type ChunkReceiver = UnboundedReceiver<Chunk>;

/// RejectionCache that waits for pieces; each one byte longer than a piece.
#[derive(Debug, Clone, Default)]
pub struct BufferPool(Arc<Mutex<Vec<Vec<u8>>>>);

impl BufferPool {
    fn put(&self, memory: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// RejectionCache for a piece, if there is some.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The desk of one turn.
pub(super) struct TurnMediaSource<'l> {
    pub frames: &'l mut Frames,
    pub chunks: &'l mut ChunkReceiver,
    pub buffer_pool: &'l BufferPool,
    /// As JavaScript passed them.
    pub media: &'l [Media],
}

impl TurnMediaSource<'_> {
    fn position(&self, media_item: &Arc<MediaItem>) -> Option<usize> {
        self.media.iter().position(|known| Arc::ptr_eq(known, media_item))
    }

    /// Fetches all contents that were only announced.
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
        // An empty text has one piece as well.
        let pieces =
            |position: usize| (0..length(position).max(1)).step_by(CHUNK_CHARS).map(move |from| (position, from));
        let pieces: Vec<(usize, usize)> = positions.iter().flat_map(|position| pieces(*position)).collect();
        let longest = positions.iter().map(|position| length(*position).min(CHUNK_CHARS)).max().unwrap_or_default();
        let count = pieces.len().min(AHEAD);
        // Anything but zeros: zeroed memory is only promised by the system until somebody writes to it.
        let memory = in_background(move || Ok(vec![vec![1_u8; longest + 1]; count])).await?;
        let mut ahead = pieces.iter();
        for memory in memory {
            self.ask(memory, ahead.next());
        }
        let mut reader = None;
        for (position, from) in &pieces {
            let piece = loop {
                let piece = self.chunks.recv().await.ok_or_else(lost)?;
                if (piece.media_item, piece.from) == (*position, *from) {
                    break piece.text;
                }
            };
            let mut text = reader.take().unwrap_or_else(|| Base64Stream::new(length(*position)));
            let (text, memory) = in_background(move || {
                text.feed(&piece);
                Ok((text, piece))
            })
            .await?;
            self.ask(memory, ahead.next());
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

    /// Asks JavaScript for a piece.
    fn ask(&mut self, memory: Vec<u8>, piece: Option<&(usize, usize)>) {
        if let Some((media_item, from)) = piece {
            self.buffer_pool.put(memory);
            let to = (from + CHUNK_CHARS).min(self.media[*media_item].length());
            self.frames.push(Op::Media { index: *media_item, from: *from, to });
            self.frames.flush();
        }
    }
}

impl MediaSource for TurnMediaSource<'_> {
    fn notice(&mut self, notice: Value) {
        self.frames.send(Op::Notice(notice.to_string()));
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
    Error::new(ErrorKind::Internal, "an image got lost on its way")
}
