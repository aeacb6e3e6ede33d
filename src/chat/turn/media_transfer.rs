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
use crate::files::{Desk, Medium, Reader};

/// Characters of a piece: a quarter of a millisecond for the JavaScript thread. A multiple of four, so that pieces end with
/// whole bytes.
const PIECE: usize = 1 << 20;

/// Pieces asked for at once: one is read, one is copied, one waits.
const AHEAD: usize = 3;

/// A piece of a medium's text.
#[derive(Debug)]
pub struct Piece {
    /// Position among the media of the turn.
    pub medium: usize,
    /// Where in the text it begins.
    pub from: usize,
    /// Its characters.
    pub text: Vec<u8>,
}

/// Pieces that JavaScript passes.
pub type Supplied = UnboundedReceiver<Piece>;

/// Memory that waits for pieces; each one byte longer than a piece.
#[derive(Debug, Clone, Default)]
pub struct Letterbox(Arc<Mutex<Vec<Vec<u8>>>>);

impl Letterbox {
    fn put(&self, memory: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    }

    /// Memory for a piece, if there is some.
    pub fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// The desk of one turn.
pub(super) struct TurnDesk<'l> {
    pub frames: &'l mut Frames,
    pub supplied: &'l mut Supplied,
    pub letterbox: &'l Letterbox,
    /// As JavaScript passed them.
    pub media: &'l [Media],
}

impl TurnDesk<'_> {
    fn position(&self, medium: &Arc<Medium>) -> Option<usize> {
        self.media.iter().position(|known| Arc::ptr_eq(known, medium))
    }

    /// Fetches all contents that were only announced.
    pub async fn collect(&mut self) -> Result<()> {
        let first = |(position, medium): &(usize, &Media)| self.position(medium) == Some(*position);
        let awaited: Vec<usize> = self
            .media
            .iter()
            .enumerate()
            .filter(|(_, medium)| medium.is_awaited())
            .filter(first)
            .map(|(position, _)| position)
            .collect();
        self.fetch(&awaited).await
    }

    async fn fetch(&mut self, positions: &[usize]) -> Result<()> {
        let length = |position: usize| self.media[position].length();
        // An empty text has one piece as well.
        let pieces = |position: usize| (0..length(position).max(1)).step_by(PIECE).map(move |from| (position, from));
        let pieces: Vec<(usize, usize)> = positions.iter().flat_map(|position| pieces(*position)).collect();
        let longest = positions.iter().map(|position| length(*position).min(PIECE)).max().unwrap_or_default();
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
                let piece = self.supplied.recv().await.ok_or_else(lost)?;
                if (piece.medium, piece.from) == (*position, *from) {
                    break piece.text;
                }
            };
            let mut text = reader.take().unwrap_or_else(|| Reader::new(length(*position)));
            let (text, memory) = in_background(move || {
                text.feed(&piece);
                Ok((text, piece))
            })
            .await?;
            self.ask(memory, ahead.next());
            if from + PIECE < length(*position) {
                reader = Some(text);
                continue;
            }
            let medium = Arc::clone(&self.media[*position]);
            if !in_background(move || Ok(medium.take(text))).await? {
                return Err(Error::new(ErrorKind::Internal, "an image changed while it was being sent"));
            }
        }
        Ok(())
    }

    /// Asks JavaScript for a piece.
    fn ask(&mut self, memory: Vec<u8>, piece: Option<&(usize, usize)>) {
        if let Some((medium, from)) = piece {
            self.letterbox.put(memory);
            let to = (from + PIECE).min(self.media[*medium].length());
            self.frames.push(Op::Media { index: *medium, from: *from, to });
            self.frames.flush();
        }
    }
}

impl Desk for TurnDesk<'_> {
    fn notice(&mut self, notice: Value) {
        self.frames.send(Op::Notice(notice.to_string()));
    }

    fn holds(&self, medium: &Arc<Medium>) -> bool {
        self.position(medium).is_some()
    }

    async fn content(&mut self, medium: &Arc<Medium>) -> Result<Bytes> {
        let position = self.position(medium).ok_or_else(lost)?;
        self.fetch(&[position]).await?;
        medium.content().ok_or_else(lost)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Internal, "an image got lost on its way")
}
