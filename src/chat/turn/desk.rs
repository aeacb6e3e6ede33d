//! What uploading needs of a turn: a word to the person, and contents that were dropped once the service had them.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;

use super::prepare::in_background;
use crate::chat::frame::{Frames, Op};
use crate::chat::transcript::Media;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Desk, Medium};

/// Contents that JavaScript passes again: position among the media of the turn, base64 text.
pub type Supplied = UnboundedReceiver<(usize, Bytes)>;

/// The desk of one turn.
pub(super) struct TurnDesk<'l> {
    pub frames: &'l mut Frames,
    pub supplied: &'l mut Supplied,
    /// As JavaScript passed them.
    pub media: &'l [Media],
}

impl TurnDesk<'_> {
    fn position(&self, medium: &Arc<Medium>) -> Option<usize> {
        self.media.iter().position(|known| Arc::ptr_eq(known, medium))
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
        let lost = || Error::new(ErrorKind::Internal, "an image got lost on its way");
        let wanted = self.position(medium).ok_or_else(lost)?;
        self.frames.send(Op::Media(wanted));
        loop {
            let (position, text) = self.supplied.recv().await.ok_or_else(lost)?;
            if position == wanted {
                let medium = Arc::clone(medium);
                return in_background(medium, move |medium| {
                    if !medium.restore(text) {
                        return Err(Error::new(ErrorKind::Internal, "an image changed while it was being sent"));
                    }
                    medium.content().ok_or_else(lost)
                })
                .await;
            }
        }
    }
}
