//! What media need of a turn: contents from JavaScript, and a word to the person.
//!
//! Copying a text into fresh memory costs the JavaScript thread five times as much as copying it into memory that is in use
//! already, because every page of it has to be made first. So the memory is made here, and JavaScript is asked to fill it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::background::in_background;
use crate::chat::frame::{Frames, Op};
use crate::chat::transcript::Media;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Desk, Medium};

/// Contents that JavaScript passes: position among the media of the turn, base64 text.
pub type Supplied = UnboundedReceiver<(usize, Bytes)>;

/// Memory that waits for contents, by position; one byte longer than the text.
#[derive(Debug, Clone, Default)]
pub struct Letterbox(Arc<Mutex<HashMap<usize, Vec<u8>>>>);

impl Letterbox {
    fn put(&self, position: usize, memory: Vec<u8>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(position, memory);
    }

    /// The memory for this content, if some was made.
    pub fn take(&self, position: usize) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&position)
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
        if positions.is_empty() {
            return Ok(());
        }
        let lengths: Vec<usize> = positions.iter().map(|position| self.media[*position].length()).collect();
        // Anything but zeros: zeroed memory is only promised by the system until somebody writes to it.
        let make = || Ok(lengths.into_iter().map(|length| vec![1_u8; length + 1]).collect::<Vec<_>>());
        for (position, memory) in positions.iter().zip(in_background(make).await?) {
            self.letterbox.put(*position, memory);
            self.frames.push(Op::Media(*position));
        }
        self.frames.flush();
        let mut missing = positions.to_vec();
        while !missing.is_empty() {
            let (position, text) = self.supplied.recv().await.ok_or_else(lost)?;
            let Some(at) = missing.iter().position(|known| *known == position) else { continue };
            missing.swap_remove(at);
            let medium = Arc::clone(&self.media[position]);
            let same = in_background(move || Ok(medium.restore(text))).await?;
            if !same {
                return Err(Error::new(ErrorKind::Internal, "an image changed while it was being sent"));
            }
        }
        Ok(())
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
