//! One request and the reading of its answer, under the clocks.

use serde_json::{Map, Value, json};
use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use tokio::time::{Instant, sleep_until};

use super::prepare::Prepared;
use super::request::TurnRequest;
use super::response_kind::ResponseKind;
use crate::chat::stream::decoder::Decoder;
use crate::chat::stream::event::{Delta, StopReason};
use crate::chat::stream::message::Blocks;
use crate::chat::stream::op_queue::{Frames, Op, Readiness};
use crate::chat::stream::sse::{Event, SseDecoder};
use crate::chat::stream::timeouts::Timeouts;
use crate::client::ExtraHeaders;
use crate::error::{Error, Phase, Result};
use crate::http::body::drain;

/// How long the rest of a body may take of which nothing more is needed.
pub(super) const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Silence that a person begins to wonder about.
const NOTICEABLE: Duration = Duration::from_secs(20);

/// How an attempt ended well.
pub(super) struct Finished {
    pub reason: StopReason,
    /// The service's own word.
    pub raw_reason: String,
}

/// Sends the request and applies its answer to `blocks`.
pub(super) async fn attempt(
    prepared: &Prepared,
    request: &TurnRequest,
    blocks: &mut Blocks,
    frames: &mut Frames,
) -> Result<Finished> {
    let mut timeouts = Timeouts::headers(prepared.limits);
    let url = prepared.dialect.url(&prepared.kimi.config.endpoint);
    let headers = headers(prepared, request);
    let sending = prepared.kimi.post_json(&url, &prepared.credential, prepared.body.clone(), &headers);
    let response = tokio::select! {
        response = sending => response?,
        () = until(timeouts.deadline()) => return Err(timeouts.expired()),
    };
    tracing::debug!(status = response.status().as_u16(), "response");
    if let Some(encoding) = foreign_compression(response.headers()) {
        return Err(Error::protocol("the answer is compressed in a way that was not asked for", &encoding));
    }
    frames.send(Op::Response(response_head(&response)));
    timeouts.first(prepared.first);
    let mut reader = ResponseReader {
        opening: ResponseKind::new(response.headers()),
        sse: SseDecoder::default(),
        decoder: prepared.dialect.decoder(),
        raw: request.raw_events,
    };
    read(response, &mut reader, &mut timeouts, blocks, frames).await?;
    let (reason, raw_reason) = reader.decoder.finish(&mut |delta| blocks.apply(delta, frames))?;
    Ok(Finished { reason, raw_reason })
}

/// Reads until the stream is over, one way or the other. An answer that is complete stays so, whatever becomes of its connection.
async fn read(
    mut response: Response,
    reader: &mut ResponseReader,
    timeouts: &mut Timeouts,
    blocks: &mut Blocks,
    frames: &mut Frames,
) -> Result<()> {
    let mut idle_notice = IdleNotice::default();
    loop {
        match frames.ready().await {
            Readiness::Ready => {}
            // What JavaScript needed to catch up was not the service's silence.
            Readiness::CaughtUp => timeouts.reset(),
            Readiness::Gone => return Err(Error::cancelled()),
        }
        let due = frames.due();
        let chunk = tokio::select! {
            biased;
            () = until(due), if due.is_some() => {
                frames.flush();
                continue;
            }
            chunk = response.chunk() => chunk.map_err(|error| Error::from_reqwest(error, Phase::Body)),
            () = until(timeouts.deadline()) => Err(timeouts.expired()),
            () = until(idle_notice.due()) => {
                frames.send(idle_notice.notice(timeouts));
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
            if let Some(document) = reader.opening.document_at_end() {
                return Err(document);
            }
            reader.end(blocks, frames)?;
            return Ok(());
        };
        if reader.opening.is_document(&chunk) {
            return Err(reader.opening.document(&chunk, &mut response).await);
        }
        let progress = reader.feed(&chunk, blocks, frames)?;
        frames.flush_if_due();
        if progress.over {
            drain(response, DRAIN_TIME);
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

/// Says once per silence that the service says nothing, long before a clock runs out.
struct IdleNotice {
    since: Instant,
    said: bool,
}

impl Default for IdleNotice {
    fn default() -> Self {
        Self { since: Instant::now(), said: false }
    }
}

impl IdleNotice {
    fn due(&self) -> Option<Instant> {
        (!self.said).then(|| self.since + NOTICEABLE)
    }

    fn notice(&mut self, timeouts: &Timeouts) -> Op {
        self.said = true;
        let limit = timeouts.limit().map(|limit| limit.as_millis() as u64);
        Op::Notice(json!({ "kind": "quiet", "sinceMs": NOTICEABLE.as_millis() as u64, "limitMs": limit }).to_string())
    }
}

/// Ours first: what the caller passes wins.
fn headers(prepared: &Prepared, request: &TurnRequest) -> ExtraHeaders {
    let ours = prepared.dialect.headers().iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
    ours.chain(request.extra_headers()).collect()
}

/// A compression that we cannot undo. gzip has been undone already, and other words in its place (`none`, `utf-8`) mean nothing.
fn foreign_compression(headers: &HeaderMap) -> Option<String> {
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

/// Bytes → blocks, for one response.
struct ResponseReader {
    opening: ResponseKind,
    sse: SseDecoder,
    decoder: Decoder,
    raw: bool,
}

/// What a chunk brought.
#[derive(Default)]
struct Progress {
    /// Meaning arrived; true if the last of it was reasoning.
    content: Option<bool>,
    over: bool,
}

impl ResponseReader {
    fn feed(&mut self, chunk: &[u8], blocks: &mut Blocks, frames: &mut Frames) -> Result<Progress> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.feed(chunk, &mut |event| decode(event, decoder, raw, blocks, frames, &mut progress))?;
        Ok(progress)
    }

    fn end(&mut self, blocks: &mut Blocks, frames: &mut Frames) -> Result<()> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.finish(&mut |event| decode(event, decoder, raw, blocks, frames, &mut progress))
    }
}

fn decode(
    event: Event<'_>,
    decoder: &mut Decoder,
    raw: bool,
    blocks: &mut Blocks,
    frames: &mut Frames,
    progress: &mut Progress,
) -> Result<()> {
    let Event::Data { name, data } = event else { return Ok(()) };
    if progress.over {
        return Ok(());
    }
    if raw && data != b"[DONE]" {
        frames.push(Op::Raw(String::from_utf8_lossy(data).into_owned()));
    }
    progress.over = decoder.event(name, data, &mut |delta| {
        if delta.is_content() {
            progress.content = Some(matches!(delta, Delta::Thinking(..) | Delta::ThinkingStart { .. }));
        }
        blocks.apply(delta, frames);
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_undone_is_a_foreign_compression() {
        for (encoding, expected) in
            [("br", true), ("gzip, ZSTD", true), ("identity", false), ("none", false), ("utf-8", false)]
        {
            let headers = HeaderMap::from_iter([(CONTENT_ENCODING, encoding.parse().unwrap())]);
            assert_eq!(foreign_compression(&headers).is_some(), expected, "{encoding}");
        }
        assert_eq!(foreign_compression(&HeaderMap::new()), None);
    }
}
