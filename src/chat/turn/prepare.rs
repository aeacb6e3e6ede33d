//! From what JavaScript asks for to a request that is ready to leave.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::TurnChannels;
use super::media_transfer::TurnMediaSource;
use super::request::TurnRequest;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::chat::request::normalize::{AssistantBlock, Conversation, Item, Target, normalize};
use crate::chat::request::options::{BodyOptions, ToolChoice};
use crate::chat::request::rejected::{ImageKey, RejectedItem, SessionRejections};
use crate::chat::request::thinking::thinking;
use crate::chat::request::tool_call_ids::CallIds;
use crate::chat::request::transcript::{Block, Media, Message, Transcript};
use crate::chat::stream::message::RequestContext;
use crate::chat::stream::op_queue::Op;
use crate::client::Kimi;
use crate::config::Dialect;
use crate::config::TimeoutLimits;
use crate::config::{Config, Environment};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{Attachments, BodyTemplate, UploadClient, attach};
use crate::json::lenient::without_lone_surrogates;
use crate::models;

/// A request that is ready to leave.
pub(super) struct Prepared {
    pub dialect: Dialect,
    pub kimi: Kimi,
    pub credential: Credential,
    pub body: Bytes,
    /// The files that the body refers to.
    pub attachments: Attachments,
    pub known: RequestContext,
    /// What the person should know about the request, one sentence each.
    pub notes: Vec<String>,
    /// What its pictures are remembered under: another service or model may judge them differently. Absent without a session.
    pub session: Option<String>,
    /// The pictures in it.
    pub pictures: Vec<ImageKey>,
    /// Those that the service refused just now, and that are not in it.
    pub refused: Vec<ImageKey>,
    pub limits: TimeoutLimits,
    /// How long the first meaning may take.
    pub first: Option<Duration>,
}

impl Prepared {
    /// If `error` says that the service does not know a file of this request any more: true, and the body has new ids.
    pub async fn renew_files(&mut self, error: &Error, source: &Source, line: &mut TurnChannels) -> Result<bool> {
        let mut desk = TurnMediaSource {
            frames: &mut line.frames,
            chunks: &mut line.chunks,
            buffer_pool: &line.buffer_pool,
            media: &source.media,
        };
        let Some(body) = self.attachments.reupload(error, &self.body, &mut desk).await? else { return Ok(false) };
        self.body = body;
        Ok(true)
    }
}

/// What a request is made from. Kept beside it, because a refusal may lead to a second request.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Pi's context as JSON text.
    pub context: Arc<String>,
    /// The images taken out of it.
    pub media: Arc<Vec<Media>>,
    /// What the service refused in the first request.
    pub rejected_item: Option<RejectedItem>,
}

/// Everything that computes happens off the async worker: parsing, repair and encoding of a long conversation take milliseconds.
pub(super) async fn prepare(request: &TurnRequest, source: &Source, line: &mut TurnChannels) -> Result<Prepared> {
    let mut desk = TurnMediaSource {
        frames: &mut line.frames,
        chunks: &mut line.chunks,
        buffer_pool: &line.buffer_pool,
        media: &source.media,
    };
    desk.collect().await?;
    let environment = Environment::new(request.environment.clone());
    let base = request.model.base_url.clone();
    let (mut kimi, takes_videos) = {
        let (host, model, source) = (request.host.clone(), request.model.id.clone(), source.clone());
        let passed = request.options.api_key.clone();
        in_background(move || {
            let kimi = Kimi::new(Config::from_environment(&environment, base.as_deref())?, host)?;
            // Pi's entry may be older than the list, and two files are read for this, so only where it matters.
            let matters = !source.media.is_empty() || source.context.contains("video");
            let listing = matters.then(|| models::known(&kimi.process, &environment, &kimi.config, passed.as_deref()));
            let entry = listing.and_then(|listing| listing.models.into_iter().find(|entry| entry.id == model));
            Ok((kimi, entry.map(|entry| entry.video)))
        })
        .await?
    };
    kimi.config.retry = request.options.retry(kimi.config.retry);
    let credential = kimi.authorize(request.options.api_key.as_deref()).await?;

    let images = request.model.input.iter().any(|input| input == "image");
    let dialect = Dialect::of_model(request.model.protocol.as_deref(), kimi.config.dialect);
    let anthropic = dialect == Dialect::Anthropic;
    let late_tools = !anthropic && request.model.compat.unwrap_or_default().supports_mid_convo_tool_additions;
    let target =
        Target { images, videos: takes_videos.unwrap_or_else(|| request.model.takes_videos()), late_tools, anthropic };
    let mut options = body_options(request, &kimi.config);
    let window = request.model.context_window;
    let wanted = request.options.max_tokens;
    let effort = options.thinking.as_ref().and_then(|thinking| thinking.effort.clone());
    let source = source.clone();
    let session = request.options.session_id.as_deref();
    let session = session.map(|id| format!("{id} {} {}", kimi.config.endpoint.root(), request.model.id));
    let rejections = kimi.process.get::<SessionRejections>();
    let remembered = session.clone();
    let (draft, estimate, known, notes, pictures, refused) = in_background(move || {
        let clean = without_lone_surrogates(&source.context);
        let transcript = Transcript::parse(clean.as_ref().unwrap_or(&source.context), &source.media)?;
        let mut calls = CallIds::default();
        recorded_calls(&transcript).for_each(|id| calls.reserve(id));
        let mut conversation = normalize(transcript, target);
        let memory = rejections.of(remembered.as_deref());
        memory.apply(&mut conversation.turns);
        let mut refused = Vec::new();
        if let Some(rejected_item) = &source.rejected_item {
            let remedy =
                rejected_item.replace(&mut conversation, dialect, &memory).ok_or_else(|| rejected_item.nowhere())?;
            conversation.notes = vec![remedy.note];
            refused = remedy.refused;
        }
        let pictures = ImageKey::all(&conversation.turns);
        sent_calls(&conversation).for_each(|id| calls.reserve(id));
        let room = answer_room(window, conversation.estimated_tokens);
        options.max_completion_tokens = options.max_completion_tokens.min(wanted.unwrap_or(room)).min(room).max(1);
        let insets = BodyTemplate::number(conversation.media_refs_mut());
        let body = dialect
            .encode(&conversation, &options)
            .map_err(|error| Error::new(ErrorKind::Internal, format!("the request cannot be written: {error}")))?;
        let known = RequestContext { calls, names: conversation.renamed };
        let draft = BodyTemplate::new(body, insets, dialect.shape());
        Ok((draft, conversation.estimated_tokens, known, conversation.notes, pictures, refused))
    })
    .await?;
    let sender = UploadClient { kimi: kimi.clone(), credential: credential.clone(), extra: request.extra_headers() };
    let (body, attachments) = attach(sender, draft, &mut desk).await?;
    tracing::debug!(bytes = body.len(), estimate, model = request.model.id, "request");

    let limits = kimi.config.limits.capped(request.options.timeout_ms.map(Duration::from_millis));
    let first = limits.first_for(effort.as_deref(), estimate);
    Ok(Prepared {
        dialect,
        kimi,
        credential,
        body,
        attachments,
        known,
        notes,
        session,
        pictures,
        refused,
        limits,
        first,
    })
}

/// Ids that Pi knows, those of aborted answers included.
fn recorded_calls<'t>(transcript: &'t Transcript<'_>) -> impl Iterator<Item = &'t str> {
    transcript
        .messages
        .iter()
        .filter_map(|message| if let Message::Assistant(answer) = message { Some(answer) } else { None })
        .flat_map(|answer| &answer.blocks)
        .filter_map(|block| if let Block::Call { id, .. } = block { Some(id.as_ref()) } else { None })
}

/// Ids as they are sent.
fn sent_calls<'c>(conversation: &'c Conversation<'_>) -> impl Iterator<Item = &'c str> {
    conversation
        .turns
        .iter()
        .filter_map(|turn| if let Item::Assistant(answer) = turn { Some(answer) } else { None })
        .flat_map(|answer| &answer.blocks)
        .filter_map(|block| if let AssistantBlock::Call { id, .. } = block { Some(id.as_str()) } else { None })
}

/// Tokens that an answer may have: what the window leaves beside the prompt and the reserve that Pi keeps as well
/// (docs/pi-contract.md#token-estimate). Reasoning counts, so nothing but the window limits it, as in the official client
/// (docs/protocol.md#output-cap).
fn answer_room(window: u64, prompt: u64) -> u64 {
    const RESERVE: u64 = 4096;
    match window {
        0 => i32::MAX as u64,
        window => window.saturating_sub(prompt).saturating_sub(RESERVE).max(1),
    }
}

fn body_options(request: &TurnRequest, config: &Config) -> BodyOptions {
    let options = &request.options;
    let model = &request.model;
    let wishes = config.settings.wishes(&model.id);
    let beyond = config.thinking(&model.id);
    let thinking = thinking(options.reasoning.as_deref(), model.reasoning, model.thinking_level_map.as_ref(), &beyond);
    let cached = options.cache_retention.as_deref().map_or(!config.without_cache_key, |retention| retention != "none");
    BodyOptions {
        model: model.id.clone(),
        tool_choice: options.tool_choice.as_ref().map(ToolChoice::read),
        thinking,
        max_completion_tokens: config.max_completion_tokens(&model.id).unwrap_or(u64::MAX),
        prompt_cache_key: options.session_id.clone().filter(|_| cached),
        temperature: options.temperature.or(wishes.temperature),
        top_p: wishes.top_p,
        extra: [&model.sampling_params, &options.sampling_params]
            .into_iter()
            .flatten()
            .flat_map(|members| members.iter().map(|(name, value)| (name.clone(), value.clone())))
            .collect(),
    }
}

/// Shows the body to JavaScript and takes what it returns.
pub(super) async fn hook(body: Bytes, line: &mut TurnChannels) -> Result<Bytes> {
    let text =
        String::from_utf8(body.into()).map_err(|_| Error::new(ErrorKind::Internal, "the request is not UTF-8"))?;
    line.frames.send(Op::Body(text));
    let answer = line.hooked_bodies.recv().await;
    answer.map(Bytes::from).ok_or_else(|| Error::new(ErrorKind::Internal, "the payload hook never answered"))
}
