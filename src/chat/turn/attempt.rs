//! Sends one request and reads its answer, within the time limits.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until};

use super::plan_gate::Admitted;
use super::prepare::{PreparedRequest, ResolvedRequest};
use super::request::TurnRequest;
use super::response_kind::{DRAIN_TIMEOUT, ResponseKind};
use crate::chat::stream::decoder::Decoder;
use crate::chat::stream::event::{Delta, StopReason};
use crate::chat::stream::message::Blocks;
use crate::chat::stream::op_queue::{Op, OpWriter, Readiness};
use crate::chat::stream::sse::{Event, SseDecoder};
use crate::chat::stream::timeouts::Timeouts;
use crate::client::ExtraHeaders;
use crate::config::Dialect;
use crate::error::{Error, Phase, Result};
use crate::http::body::drain;

/// Silence after which the user is told that the service is idle.
const IDLE_NOTICE: Duration = Duration::from_secs(20);

/// How a complete answer ended.
pub(super) struct Finished {
    pub reason: StopReason,
    /// The service's own word for it.
    pub raw_reason: String,
}

/// Sends the request and applies its answer to `blocks`.
pub(super) async fn attempt(
    prepared: &PreparedRequest,
    request: &TurnRequest,
    blocks: &mut Blocks,
    ops: &mut OpWriter,
    Admitted { slot: _slot, retry }: Admitted,
) -> Result<Finished> {
    let mut timeouts = Timeouts::headers(prepared.limits);
    let PreparedRequest { resolved: ResolvedRequest { kimi, credential, dialect, .. }, body, .. } = prepared;
    let url = dialect.url(&kimi.config.endpoint);
    let headers = headers(*dialect, request);
    let sending = kimi.post_json(&url, credential, body.clone(), &headers);
    let response = tokio::select! {
        response = sending => response?,
        () = until(timeouts.deadline()) => return Err(timeouts.expired()),
    };
    tracing::debug!(status = response.status().as_u16(), "response");
    drop(retry);
    if let Some(encoding) = unreadable_compression(response.headers()) {
        return Err(Error::protocol("the answer is compressed in a way that was not asked for", &encoding));
    }
    ops.send(Op::Response(response_head(&response)));
    timeouts.first(prepared.first_content);
    let mut reader = ResponseReader {
        kind: ResponseKind::new(response.headers()),
        sse: SseDecoder::default(),
        decoder: dialect.decoder(),
        raw: request.raw_events,
    };
    read(response, &mut reader, &mut timeouts, blocks, ops).await?;
    let (reason, raw_reason) = reader.decoder.finish(&mut |delta| blocks.apply(delta, ops))?;
    Ok(Finished { reason, raw_reason })
}

/// Reads until the stream is over. An answer that is complete stays so, whatever becomes of its connection.
async fn read(
    mut response: Response,
    reader: &mut ResponseReader,
    timeouts: &mut Timeouts,
    blocks: &mut Blocks,
    ops: &mut OpWriter,
) -> Result<()> {
    let mut idle_notice = IdleNotice::default();
    loop {
        match ops.ready().await {
            Readiness::Ready => {}
            // The service was not idle while JavaScript caught up.
            Readiness::CaughtUp => timeouts.reset(),
            Readiness::Gone => return Err(Error::cancelled()),
        }
        let due = ops.due();
        let chunk = tokio::select! {
            biased;
            () = until(due), if due.is_some() => {
                ops.flush();
                continue;
            }
            chunk = response.chunk() => chunk.map_err(|error| Error::from_reqwest(error, Phase::Body)),
            () = until(timeouts.deadline()) => Err(timeouts.expired()),
            () = until(idle_notice.due()) => {
                ops.send(idle_notice.notice(timeouts));
                continue;
            }
        };
        let chunk = match chunk {
            Err(error) if reader.decoder.finished() => {
                tracing::debug!(%error, "the connection failed after the answer was complete");
                return Ok(());
            }
            chunk => chunk?,
        };
        let Some(chunk) = chunk else {
            if let Some(document) = reader.kind.document_at_end() {
                return Err(document);
            }
            reader.end(blocks, ops)?;
            return Ok(());
        };
        if reader.kind.is_document(&chunk) {
            return Err(reader.kind.document(&chunk, &mut response).await);
        }
        let progress = reader.feed(&chunk, blocks, ops)?;
        ops.flush_if_due();
        if progress.over {
            drain(response, DRAIN_TIMEOUT);
            return Ok(());
        }
        if progress.content.is_some() {
            idle_notice = IdleNotice::default();
        }
        if reader.decoder.finished() {
            timeouts.closing();
        } else if let Some(thinking) = progress.content {
            timeouts.content(thinking);
        }
    }
}

/// Reports once per silence that the service is idle, long before a time limit is reached.
struct IdleNotice {
    since: Instant,
    sent: bool,
}

impl Default for IdleNotice {
    fn default() -> Self {
        Self { since: Instant::now(), sent: false }
    }
}

impl IdleNotice {
    fn due(&self) -> Option<Instant> {
        (!self.sent).then(|| self.since + IDLE_NOTICE)
    }

    fn notice(&mut self, timeouts: &Timeouts) -> Op {
        self.sent = true;
        let limit = timeouts.limit().map(|limit| limit.as_millis() as u64);
        Op::Notice(json!({ "kind": "quiet", "sinceMs": IDLE_NOTICE.as_millis() as u64, "limitMs": limit }).to_string())
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

/// Turns the bytes of one response into blocks.
struct ResponseReader {
    kind: ResponseKind,
    sse: SseDecoder,
    decoder: Decoder,
    raw: bool,
}

/// What a chunk of the body brought.
#[derive(Default)]
struct Progress {
    /// Content arrived; true if the last of it was reasoning.
    content: Option<bool>,
    over: bool,
}

impl ResponseReader {
    fn feed(&mut self, chunk: &[u8], blocks: &mut Blocks, ops: &mut OpWriter) -> Result<Progress> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.feed(chunk, &mut |event| decode(event, decoder, raw, blocks, ops, &mut progress))?;
        Ok(progress)
    }

    fn end(&mut self, blocks: &mut Blocks, ops: &mut OpWriter) -> Result<()> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.finish(&mut |event| decode(event, decoder, raw, blocks, ops, &mut progress))
    }
}

fn decode(
    event: Event<'_>,
    decoder: &mut Decoder,
    raw: bool,
    blocks: &mut Blocks,
    ops: &mut OpWriter,
    progress: &mut Progress,
) -> Result<()> {
    let Event::Data { name, data } = event else { return Ok(()) };
    if progress.over {
        return Ok(());
    }
    if raw && data != b"[DONE]" {
        ops.append_raw(&String::from_utf8_lossy(data));
    }
    progress.over = decoder.event(name, data, &mut |delta| {
        if delta.is_content() {
            progress.content = Some(matches!(delta, Delta::Thinking(..) | Delta::ThinkingStart { .. }));
        }
        blocks.apply(delta, ops);
    })?;
    Ok(())
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
