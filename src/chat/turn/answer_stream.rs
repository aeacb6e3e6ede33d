//! Sends one request and reads its answer, within the time limits.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::channels::TurnChannels;
use super::plan_gate::Admitted;
use super::prepare::{PreparedRequest, ResolvedRequest};
use super::request::TurnRequest;
use super::response_kind::{DRAIN_TIMEOUT, ResponseKind};
use crate::chat::stream::answer_size::AnswerSize;
use crate::chat::stream::decoder::Decoder;
use crate::chat::stream::event::Delta;
use crate::chat::stream::message::{Blocks, ContentState};
use crate::chat::stream::op_queue::{Op, OpWriter, Readiness};
use crate::chat::stream::sse::{Event, SseDecoder};
use crate::chat::stream::stop_reason::StopReason;
use crate::chat::stream::timeouts::{Timeouts, silence};
use crate::client::ExtraHeaders;
use crate::config::Dialect;
use crate::error::{Error, Phase, Result};
use crate::http::body::drain;
use crate::http::sent_signal::SentSignal;
use crate::http::timeout::Deadline;
use crate::plan::Permit;

/// Silence after which the user is told that the service is idle.
const IDLE_NOTICE: Duration = Duration::from_secs(20);

/// How a complete answer ended.
pub(super) struct Finished {
    pub reason: StopReason,
    /// The service's own word for it.
    pub raw_reason: String,
}

/// The answer to one request while it is read.
pub(super) struct AnswerStream {
    response: Response,
    /// The token that the request carried.
    pub token: String,
    kind: ResponseKind,
    sse: SseDecoder,
    events: EventReader,
    timeouts: Timeouts,
    idle_notice: IdleNotice,
    over: bool,
    /// Held until the end of the stream.
    slot: Permit,
}

impl AnswerStream {
    /// Sends the request and waits for the response head.
    pub async fn open(
        prepared: &PreparedRequest,
        request: &TurnRequest,
        ops: &mut OpWriter,
        Admitted { slot, retry }: Admitted,
    ) -> Result<Box<Self>> {
        let PreparedRequest { resolved: ResolvedRequest { kimi, credential, dialect, .. }, body, limits, .. } =
            prepared;
        let url = dialect.url(&kimi.config.endpoint);
        let headers = headers(*dialect, request);
        let signal = SentSignal::default();
        let sending = kimi.post_json(&url, credential, body.clone(), &headers, &signal);
        let mut response = signal
            .within(limits.headers, sending)
            .await
            .unwrap_or_else(|| Err(silence(Phase::Headers, limits.headers.unwrap_or_default())))?;
        tracing::info!(status = response.status().as_u16(), "response");
        drop(retry);
        if let Some(encoding) = unreadable_compression(response.headers()) {
            return Err(Error::protocol("the answer is compressed in a way that was not asked for", &encoding));
        }
        ops.send(Op::Response(response_head(&response)));
        let kind = ResponseKind::new(response.headers());
        // The values lie in the first read buffer of the connection, and would keep it while the stream is open.
        *response.headers_mut() = HeaderMap::new();
        Ok(Box::new(Self {
            kind,
            response,
            token: credential.token(),
            sse: SseDecoder::default(),
            events: EventReader {
                decoder: dialect.decoder(),
                size: AnswerSize::new(kimi.config.answer_bytes),
                raw: request.raw_events,
            },
            timeouts: Timeouts::first_content(*limits, prepared.first_content),
            idle_notice: IdleNotice::default(),
            over: false,
            slot,
        }))
    }

    /// Reads until there is more than reasoning, or until the answer ends.
    pub async fn read_until_answer(&mut self, blocks: &mut Blocks, channels: &mut TurnChannels) -> Result<()> {
        while !self.over && blocks.content_state() != ContentState::Answer {
            self.step(blocks, channels).await?;
        }
        Ok(())
    }

    /// Reads to the end. An answer that is complete stays so, whatever becomes of its connection.
    pub async fn read_to_end(
        mut self: Box<Self>,
        blocks: &mut Blocks,
        channels: &mut TurnChannels,
    ) -> Result<Finished> {
        while !self.over {
            self.step(blocks, channels).await?;
        }
        drain(self.response, DRAIN_TIMEOUT, self.slot);
        let mut decoder = self.events.decoder;
        let (reason, raw_reason) =
            decoder.finish(blocks.visible(), &mut |delta| blocks.apply(delta, &mut channels.ops))?;
        Ok(Finished { reason, raw_reason })
    }

    /// Waits for the next thing to do, and does it.
    async fn step(&mut self, blocks: &mut Blocks, channels: &mut TurnChannels) -> Result<()> {
        let TurnChannels { ops, pace, .. } = channels;
        match ops.ready().await {
            Readiness::Ready => {}
            // The service was not idle while JavaScript caught up.
            Readiness::CaughtUp => self.timeouts.reset(),
            Readiness::Gone => return Err(Error::cancelled()),
        }
        let due = ops.due();
        let chunk = tokio::select! {
            biased;
            () = until(due), if due.is_some() => {
                ops.flush();
                return Ok(());
            }
            chunk = self.response.chunk() => chunk.map_err(|error| Error::from_reqwest(error, Phase::Body)),
            () = until(self.timeouts.deadline()) => match self.timeouts.check() {
                Ok(()) => return Ok(()),
                Err(silent) => Err(silent),
            },
            () = until(self.idle_notice.due()) => {
                if let Some(notice) = self.idle_notice.check(&self.timeouts) {
                    ops.send(notice);
                }
                return Ok(());
            }
        };
        match chunk {
            Ok(Some(chunk)) => {
                pace.read(chunk.len());
                self.read_chunk(&chunk, blocks, ops).await?;
                if blocks.visible() {
                    pace.has_output();
                }
                Ok(())
            }
            Ok(None) => self.read_end(blocks, ops),
            Err(error) if self.events.decoder.finished() => {
                tracing::info!(%error, "the connection failed after the answer was complete");
                self.over = true;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn read_chunk(&mut self, chunk: &[u8], blocks: &mut Blocks, ops: &mut OpWriter) -> Result<()> {
        if self.kind.is_document(chunk) {
            return Err(Box::pin(self.kind.document(chunk, &mut self.response)).await);
        }
        let mut progress = Progress::default();
        self.sse.feed(chunk, &mut |event| self.events.read(event, blocks, ops, &mut progress))?;
        ops.flush_if_due();
        self.over = progress.over;
        if progress.content.is_some() {
            self.idle_notice = IdleNotice::default();
        }
        if self.events.decoder.finished() {
            self.timeouts.closing();
        } else if let Some(thinking) = progress.content {
            self.timeouts.content(thinking);
        }
        Ok(())
    }

    fn read_end(&mut self, blocks: &mut Blocks, ops: &mut OpWriter) -> Result<()> {
        if let Some(document) = self.kind.document_at_end() {
            return Err(document);
        }
        self.over = true;
        self.sse.finish(&mut |event| self.events.read(event, blocks, ops, &mut Progress::default()))
    }
}

/// Reports once per silence that the service is idle, long before a time limit is reached.
struct IdleNotice(Option<Deadline>);

impl Default for IdleNotice {
    fn default() -> Self {
        Self(Some(Deadline::after(IDLE_NOTICE)))
    }
}

impl IdleNotice {
    fn due(&self) -> Option<Instant> {
        self.0.map(|deadline| deadline.at())
    }

    /// Handles a timer that has fired.
    fn check(&mut self, timeouts: &Timeouts) -> Option<Op> {
        if !self.0.as_mut()?.expired() {
            return None;
        }
        self.0 = None;
        let limit = timeouts.limit().map(|limit| limit.as_millis() as u64);
        let notice = json!({ "kind": "quiet", "sinceMs": IDLE_NOTICE.as_millis() as u64, "limitMs": limit });
        Some(Op::Notice(notice.to_string()))
    }
}

/// Returns the headers of the dialect, then the caller's, which win.
fn headers(dialect: Dialect, request: &TurnRequest) -> ExtraHeaders {
    let ours = dialect.headers().iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    ours.chain(request.extra_headers()).collect()
}

/// Returns the compression of a body if we cannot undo it. gzip was undone already, and words such as `none` mean nothing.
fn unreadable_compression(headers: &HeaderMap) -> Option<String> {
    let encoding = headers.get(CONTENT_ENCODING)?.to_str().ok()?.to_ascii_lowercase();
    let foreign = |name: &str| matches!(name.trim(), "br" | "deflate" | "zstd" | "compress" | "x-compress");
    encoding.split(',').any(foreign).then_some(encoding)
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn response_head(response: &Response) -> String {
    let headers: Map<String, Value> = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?))))
        .collect();
    json!({ "status": response.status().as_u16(), "headers": headers }).to_string()
}

/// Turns the events of one response into blocks.
struct EventReader {
    decoder: Decoder,
    size: AnswerSize,
    /// The caller wants the raw events as well.
    raw: bool,
}

/// What a chunk of the body brought.
#[derive(Default)]
struct Progress {
    /// Content arrived; true if the last of it was reasoning.
    content: Option<bool>,
    over: bool,
}

impl EventReader {
    fn read(
        &mut self,
        event: Event<'_>,
        blocks: &mut Blocks,
        ops: &mut OpWriter,
        progress: &mut Progress,
    ) -> Result<()> {
        let Event::Data { name, data } = event else { return Ok(()) };
        if progress.over {
            return Ok(());
        }
        if self.raw && data != b"[DONE]" {
            ops.append_raw(&String::from_utf8_lossy(data));
        }
        let mut memory = 0;
        progress.over = self.decoder.event(name, data, &mut |delta| {
            memory += delta.memory();
            if delta.is_content() {
                progress.content = Some(matches!(delta, Delta::Thinking(..) | Delta::ThinkingStart { .. }));
            }
            blocks.apply(delta, ops);
        })?;
        self.size.add(data.len(), memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_only_a_compression_that_cannot_be_undone_is_refused() {
        for (encoding, expected) in
            [("br", true), ("gzip, ZSTD", true), ("identity", false), ("none", false), ("utf-8", false)]
        {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
            assert_eq!(unreadable_compression(&headers).is_some(), expected, "{encoding}");
        }
        assert_eq!(unreadable_compression(&HeaderMap::new()), None);
    }
}
