//! Tells when a request is really sent.
//!
//! An HTTP/2 connection may serve few requests at a time; others wait for a free stream. That wait is no silence of the service, so
//! the limit for its response starts with the first byte of the body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use super::timeout::within;

/// Is set when the body of a request is sent, until the server refuses the request unread.
#[derive(Debug, Clone, Default)]
pub struct SentSignal(Arc<watch::Sender<SendState>>);

#[derive(Debug, Clone, Copy, Default)]
struct SendState {
    sent: bool,
    /// How often the request was refused unread.
    refusals: u32,
}

impl SentSignal {
    /// Returns a body that sets the signal.
    pub fn body(&self, content: Bytes) -> reqwest::Body {
        reqwest::Body::wrap(SignalingBody { content: Some(content), signal: self.clone() })
    }

    /// Waits for `work`, at most for `limit` after the signal; `None` if the limit has passed.
    pub async fn within<T>(&self, limit: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
        let mut work = std::pin::pin!(work);
        let mut sent = self.0.subscribe();
        loop {
            let refusals = tokio::select! {
                biased;
                result = &mut work => return Some(result),
                state = sent.wait_for(|state| state.sent) => state.map_or(0, |state| state.refusals),
            };
            tokio::select! {
                biased;
                result = within(limit, &mut work) => return result,
                // Refused unread: the request waits for a free stream again, or has even been sent again meanwhile.
                _ = sent.wait_for(|state| state.refusals != refusals) => {}
            }
        }
    }

    fn set_sent(&self) {
        self.0.send_modify(|state| state.sent = true);
    }

    pub(super) fn set_refused(&self) {
        self.0.send_modify(|state| *state = SendState { sent: false, refusals: state.refusals + 1 });
    }
}

struct SignalingBody {
    content: Option<Bytes>,
    signal: SentSignal,
}

impl Body for SignalingBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.signal.set_sent();
        Poll::Ready(self.content.take().map(|content| Ok(Frame::data(content))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |content| content.len() as u64))
    }
}
