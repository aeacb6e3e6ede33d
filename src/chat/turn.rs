//! One turn from Pi's context to the terminal op.
//!
//! transcript → repair → encode → (payload hook) → send → decode → blocks → frames, with retries as long as nothing visible has
//! come through. Whatever happens, exactly one terminal op leaves: `Done` or `Failed`.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::blocks::{Blocks, Substance};
use super::body::{BodyOptions, ToolChoice};
use super::delta::{Delta, StopReason};
use super::frame::{Frames, Op};
use super::openai::{OpenAiDecoder, encode};
use super::repair::{Target, repair};
use super::sse::{Event, SseDecoder};
use super::thinking::{LevelMap, thinking};
use super::transcript::{Media, Transcript};
use super::watchdog::{Limits, Watchdog};
use super::wire::without_lone_surrogates;
use crate::catalog::Prices;
use crate::client::{ExtraHeaders, Kimi};
use crate::config::{Config, Environment};
use crate::error::{Error, ErrorKind, Phase, Result};
use crate::identity::Host;
use crate::retry::RetryState;

/// What JavaScript asks for. The context travels as JSON text of its own beside it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRequest {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program around us.
    #[serde(default)]
    pub host: Host,
    /// Pi's model entry.
    pub model: TurnModel,
    /// Pi's stream options.
    #[serde(default)]
    pub options: TurnOptions,
    /// JavaScript wants to see the body before it leaves.
    #[serde(default)]
    pub payload_hook: bool,
    /// JavaScript wants every event of the service as well.
    #[serde(default)]
    pub raw_events: bool,
}

/// The members of Pi's model entry that a request depends on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnModel {
    /// Pi's id, and the wire id.
    pub id: String,
    /// Base URL, where the environment names none.
    #[serde(default)]
    pub base_url: Option<String>,
    /// It can think.
    #[serde(default)]
    pub reasoning: bool,
    /// Level → effort.
    #[serde(default)]
    pub thinking_level_map: Option<LevelMap>,
    /// `text`, `image`.
    #[serde(default)]
    pub input: Vec<String>,
    /// Tokens of prompt and answer together.
    #[serde(default)]
    pub context_window: u64,
    /// USD per million tokens.
    #[serde(default)]
    pub cost: Prices,
}

/// The members of Pi's stream options that we understand (pi-extension §3.4).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TurnOptions {
    /// Credential chosen by Pi or the caller.
    pub api_key: Option<String>,
    /// Header → value; null suppresses.
    pub headers: Option<HashMap<String, Option<String>>>,
    /// Thinking level; absent means off.
    pub reasoning: Option<String>,
    /// Wish for the output cap.
    pub max_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Key for the service's prompt cache.
    pub session_id: Option<String>,
    /// `none` suppresses the key.
    pub cache_retention: Option<String>,
    /// Pi's idle limit.
    pub timeout_ms: Option<u64>,
    /// Longest wait that the service may ask for.
    pub max_retry_delay_ms: Option<u64>,
    /// `auto` or `none`.
    pub tool_choice: Option<Value>,
    /// Merged into the body last.
    pub sampling_params: Option<Map<String, Value>>,
}

/// A turn's connection to JavaScript.
pub struct TurnLine {
    /// Where ops go.
    pub frames: Frames,
    /// Aborts the turn.
    pub cancel: CancellationToken,
    /// The body as the payload hook wants it.
    pub hooked_body: Option<oneshot::Receiver<String>>,
}

/// Runs a turn to its terminal op. `context` is Pi's context as JSON text, `media` the images taken out of it.
pub async fn run(request: TurnRequest, context: String, media: Vec<Media>, mut line: TurnLine) {
    let mut turn = Turn { blocks: Blocks::new(request.model.cost), retries: RetryState::default(), answered: false };
    let cancel = line.cancel.clone();
    let result = tokio::select! {
        biased;
        () = cancel.cancelled() => Err(Error::cancelled()),
        result = turn.run(&request, context, media, &mut line) => result,
    };
    turn.conclude(result, &request, &mut line.frames);
}

/// The terminal op for a turn that never got to run, or whose task panicked.
pub fn failure(error: &Error) -> Op {
    let failure = json!({ "code": error.kind.code(), "message": error.message_for_pi(0, false) });
    Op::Failed(failure.to_string())
}

struct Turn {
    blocks: Blocks,
    retries: RetryState,
    /// A response head has been handed over.
    answered: bool,
}

/// How one attempt ended well.
struct Finished {
    reason: StopReason,
    raw_reason: String,
}

/// A request that is ready to leave.
struct Prepared {
    kimi: Kimi,
    key: String,
    body: Bytes,
    limits: Limits,
    first: Option<Duration>,
}

impl Turn {
    async fn run(
        &mut self,
        request: &TurnRequest,
        context: String,
        media: Vec<Media>,
        line: &mut TurnLine,
    ) -> Result<Finished> {
        let mut prepared = prepare(request, context, media).await?;
        if request.payload_hook {
            prepared.body = hook(prepared.body, line).await?;
        }
        let mut policy = prepared.kimi.config.retry;
        if let Some(millis) = request.options.max_retry_delay_ms {
            policy.max_delay = Duration::from_millis(millis);
        }
        loop {
            self.retries.attempts += 1;
            let error = match self.attempt(&prepared, request, line).await {
                Ok(finished) if self.blocks.substance() == Substance::Answer => return Ok(finished),
                // A budget that ran out while thinking is an answer of its own kind: Pi reacts to "length".
                Ok(finished) if finished.reason == StopReason::Length => return Ok(finished),
                Ok(finished) => match self.retries.next_delay(&empty_answer(), &policy) {
                    Some(_) => empty_answer(),
                    None if self.blocks.substance() == Substance::ReasoningOnly => return Ok(finished),
                    None => return Err(empty_answer()),
                },
                Err(error) if self.blocks.substance() != Substance::Nothing => return Err(error),
                Err(error) => match self.retries.next_delay(&error, &policy) {
                    Some(delay) => {
                        self.pause(&error, delay, line).await;
                        error
                    }
                    None => return Err(error),
                },
            };
            tracing::debug!(attempt = self.retries.attempts, error = %error, "trying again");
            self.blocks.restart();
            if matches!(error.kind, ErrorKind::Timeout(_) | ErrorKind::Network(_)) {
                prepared.kimi = in_background(prepared.kimi.clone(), |kimi| kimi.on_fresh_connection()).await?;
            }
        }
    }

    async fn pause(&self, error: &Error, delay: Duration, line: &mut TurnLine) {
        let notice = json!({
            "kind": "retry", "attempt": self.retries.attempts, "delayMs": delay.as_millis() as u64,
            "code": error.kind.code(), "message": error.message,
        });
        line.frames.send(Op::Notice(notice.to_string()));
        tokio::time::sleep(delay).await;
    }

    async fn attempt(&mut self, prepared: &Prepared, request: &TurnRequest, line: &mut TurnLine) -> Result<Finished> {
        let mut watchdog = Watchdog::headers(prepared.limits);
        let url = prepared.kimi.config.endpoint.chat_completions();
        let extra: ExtraHeaders =
            request.options.headers.iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect();
        let sending = prepared.kimi.post_json(&url, &prepared.key, prepared.body.clone(), &extra);
        let mut response = tokio::select! {
            response = sending => response?,
            () = until(watchdog.deadline()) => return Err(watchdog.expired()),
        };
        tracing::debug!(status = response.status().as_u16(), "response");
        line.frames.send(Op::Response(response_head(&response)));
        self.answered = true;
        watchdog.first(prepared.first);

        let mut reader =
            Reader { sse: SseDecoder::default(), decoder: OpenAiDecoder::default(), raw: request.raw_events };
        loop {
            if !line.frames.ready().await {
                return Err(Error::cancelled());
            }
            let due = line.frames.due();
            let chunk = tokio::select! {
                biased;
                () = until(due), if due.is_some() => {
                    line.frames.flush();
                    continue;
                }
                chunk = response.chunk() => chunk.map_err(|error| Error::from_reqwest(&error, Phase::Body))?,
                () = until(watchdog.deadline()) => return Err(watchdog.expired()),
            };
            let progress = match chunk {
                Some(chunk) => reader.feed(&chunk, &mut self.blocks, &mut line.frames)?,
                None => Progress { over: true, ..reader.end(&mut self.blocks, &mut line.frames)? },
            };
            line.frames.settle();
            if progress.over {
                break;
            }
            if let Some(thinking) = progress.meaning {
                watchdog.meaning(thinking);
            }
        }
        let blocks = &mut self.blocks;
        let frames = &mut line.frames;
        let (reason, raw_reason) = reader.decoder.finish(&mut |delta| blocks.apply(delta, frames))?;
        Ok(Finished { reason, raw_reason })
    }

    /// Closes what is open and emits the terminal op.
    fn conclude(&mut self, result: Result<Finished>, request: &TurnRequest, frames: &mut Frames) {
        self.blocks.close_all(frames);
        let op = match result {
            Ok(finished) => Op::Done(
                self.blocks.summary(Some(finished.reason), &finished.raw_reason, &request.model.id).to_string(),
            ),
            Err(error) => {
                tracing::debug!(code = error.kind.code(), error = %error, "turn failed");
                let final_here = self.blocks.substance() == Substance::Nothing && self.retries.attempts > 1;
                let mut failure = self.blocks.summary(None, "", &request.model.id);
                failure["code"] = error.kind.code().into();
                failure["message"] = error.message_for_pi(self.retries.attempts, final_here).into();
                if let Some(status) = error.status {
                    failure["status"] = status.into();
                }
                if let Some(wait) = error.retry_after {
                    failure["retryAfterMs"] = (wait.as_millis() as u64).into();
                }
                if let Some(trace_id) = error.trace_id {
                    failure["traceId"] = trace_id.into();
                }
                Op::Failed(failure.to_string())
            }
        };
        frames.send(op);
    }
}

fn empty_answer() -> Error {
    Error::new(ErrorKind::EmptyAnswer, "Kimi answered without any content, twice in a row")
}

/// Everything that computes happens off the async worker: parsing, repair and encoding of a long conversation take milliseconds.
async fn prepare(request: &TurnRequest, context: String, media: Vec<Media>) -> Result<Prepared> {
    let environment = Environment::new(request.environment.clone());
    let config = Config::from_environment(&environment, request.model.base_url.as_deref())?;
    let kimi = in_background((config, request.host.clone()), |(config, host)| Kimi::new(config, host)).await?;
    let key = kimi.api_key(request.options.api_key.as_deref())?;

    let images = request.model.input.iter().any(|input| input == "image");
    let target = Target { images, ..Target::default() };
    let options = body_options(request, &kimi.config);
    let window = request.model.context_window;
    let wanted = request.options.max_tokens;
    let effort = options.thinking.as_ref().and_then(|thinking| thinking.effort.clone());
    let (body, estimate) = in_background((context, media, options), move |(context, media, mut options)| {
        let context = without_lone_surrogates(&context, "").unwrap_or(context);
        let conversation = repair(Transcript::parse(&context, &media)?, target);
        let room = if window == 0 { u64::MAX } else { window.saturating_sub(conversation.estimated_tokens).max(1) };
        let cap = [wanted, Some(options.max_completion_tokens)].into_iter().flatten().fold(room, u64::min);
        options.max_completion_tokens = cap.min(i32::MAX as u64).max(1);
        let body = encode(&conversation, &options)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("the request cannot be written: {error}")))?;
        Ok((Bytes::from(body), conversation.estimated_tokens))
    })
    .await?;
    tracing::debug!(bytes = body.len(), estimate, model = request.model.id, "request");

    let limits = kimi.config.limits.capped(request.options.timeout_ms.map(Duration::from_millis));
    let first = limits.first_for(effort.as_deref(), estimate);
    Ok(Prepared { kimi, key, body, limits, first })
}

fn body_options(request: &TurnRequest, config: &Config) -> BodyOptions {
    let options = &request.options;
    let model = &request.model;
    let thinking =
        thinking(options.reasoning.as_deref(), model.reasoning, model.thinking_level_map.as_ref(), &config.thinking);
    let cached = options.cache_retention.as_deref().map_or(!config.without_cache_key, |retention| retention != "none");
    BodyOptions {
        model: model.id.clone(),
        tool_choice: options.tool_choice.as_ref().map(ToolChoice::read),
        thinking,
        max_completion_tokens: config.max_completion_tokens.unwrap_or(u64::MAX),
        prompt_cache_key: options.session_id.clone().filter(|_| cached),
        temperature: options.temperature.or(config.temperature),
        top_p: config.top_p,
        extra: options.sampling_params.clone().unwrap_or_default(),
    }
}

/// Shows the body to JavaScript and takes what it returns.
async fn hook(body: Bytes, line: &mut TurnLine) -> Result<Bytes> {
    let lost = |_| Error::new(ErrorKind::Internal, "the payload hook never answered");
    let text =
        String::from_utf8(body.into()).map_err(|_| Error::new(ErrorKind::Internal, "the request is not UTF-8"))?;
    let answer = line.hooked_body.take().ok_or_else(|| Error::new(ErrorKind::Internal, "no payload hook"))?;
    line.frames.send(Op::Body(text));
    Ok(answer.await.map_err(lost)?.into())
}

/// Runs `work` on a thread that may block.
async fn in_background<I: Send + 'static, O: Send + 'static>(
    input: I,
    work: impl FnOnce(I) -> Result<O> + Send + 'static,
) -> Result<O> {
    tokio::task::spawn_blocking(move || work(input))
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "a background step failed unexpectedly")))
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

fn response_head(response: &reqwest::Response) -> String {
    let headers: Map<String, Value> = response
        .headers()
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), Value::from(value.to_str().ok()?))))
        .collect();
    json!({ "status": response.status().as_u16(), "headers": headers }).to_string()
}

/// Bytes → blocks, for one response.
struct Reader {
    sse: SseDecoder,
    decoder: OpenAiDecoder,
    raw: bool,
}

/// What a chunk brought.
#[derive(Default)]
struct Progress {
    /// Meaning arrived; true if the last of it was reasoning.
    meaning: Option<bool>,
    over: bool,
}

impl Reader {
    fn feed(&mut self, chunk: &[u8], blocks: &mut Blocks, frames: &mut Frames) -> Result<Progress> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.feed(chunk, &mut |event| decode(event, decoder, raw, blocks, frames, &mut progress))?;
        Ok(progress)
    }

    fn end(&mut self, blocks: &mut Blocks, frames: &mut Frames) -> Result<Progress> {
        let mut progress = Progress::default();
        let (decoder, raw) = (&mut self.decoder, self.raw);
        self.sse.finish(&mut |event| decode(event, decoder, raw, blocks, frames, &mut progress))?;
        Ok(progress)
    }
}

fn decode(
    event: Event<'_>,
    decoder: &mut OpenAiDecoder,
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
        if delta.is_meaning() {
            progress.meaning = Some(matches!(delta, Delta::Thinking(..) | Delta::ThinkingStart { .. }));
        }
        blocks.apply(delta, frames);
    })?;
    Ok(())
}
