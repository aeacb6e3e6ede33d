//! Prepares the request of a turn: resolve (who is asked, and by which rules), build (the body), attach (its media).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::channels::TurnChannels;
use super::media_transfer::TurnMediaSource;
use super::request::TurnRequest;
use crate::auth::Credential;
use crate::blocking::in_background;
use crate::chat::prompt_cache::chain::fingerprint;
use crate::chat::request::body::BodyOptions;
use crate::chat::request::normalize::{AssistantBlock, Conversation, Item, Target, normalize};
use crate::chat::request::output_limit::output_limit;
use crate::chat::request::rejected::parameters::{Parameter, RefusedParameters};
use crate::chat::request::rejected::{ImageKey, RejectedItem, SessionRejections, is_video_refusal};
use crate::chat::request::response_format::ResponseFormat;
use crate::chat::request::tool_call_ids::CallIds;
use crate::chat::request::tool_choice::restrict_tool_choice;
use crate::chat::request::tool_schema::SchemaCache;
use crate::chat::request::transcript::{Block, ContextText, Media, Message, Transcript};
use crate::chat::stream::message::RequestContext;
use crate::chat::stream::op_queue::Op;
use crate::chat::stream::timeouts::{capped, first_content_limit};
use crate::client::Kimi;
use crate::config::{Config, Dialect, Environment, TimeoutLimits};
use crate::error::{Error, ErrorKind, Result};
use crate::files::{
    Attachments, BodyTemplate, MediaKind, Reuploaded, StoredFiles, StoredMedia, UploadClient, Uploader, attach,
};
use crate::models::{self, OfferedModels, Prices};

/// The conversation that a request is made from. Kept beside it, because a refusal may lead to a second request.
#[derive(Debug, Clone)]
pub(super) struct ConversationSource {
    /// Pi's context.
    pub context: Arc<ContextText>,
    /// The media taken out of it.
    pub media: Arc<Vec<Media>>,
    /// What the service refused in the requests so far.
    pub rejected_items: Vec<RejectedItem>,
    /// Contents that the service no longer has and that cannot be uploaded again: their text stays.
    pub lost_media: Vec<StoredMedia>,
    /// The service refused videos for this model.
    pub without_videos: bool,
}

impl ConversationSource {
    /// Whether the conversation may hold media, references aside. Looks only for a word, so that one without any costs nothing more.
    fn may_hold_media(&self) -> bool {
        // The type of a part is too short to lie beside the JSON.
        !self.media.is_empty() || self.context.json.contains("video")
    }

    fn media_source<'c>(&'c self, channels: &'c mut TurnChannels) -> TurnMediaSource<'c> {
        TurnMediaSource {
            ops: &mut channels.ops,
            chunks: &mut channels.chunks,
            buffer_pool: &channels.buffer_pool,
            media: &self.media,
        }
    }
}

/// Who is asked and by which rules: all that is known before the conversation is read.
#[derive(Debug, Clone)]
pub(super) struct ResolvedRequest {
    pub kimi: Kimi,
    pub credential: Credential,
    pub dialect: Dialect,
    /// Session, service and model: the key of the images that were refused, because others may judge them differently.
    pub session: Option<String>,
    target: Target,
    options: BodyOptions,
    response_format: ResponseFormat,
    /// Tokens of prompt and answer together; 0 if unknown.
    context_window: u64,
    prices: Prices,
    /// How long the service keeps prompts of the model in its cache, in seconds, where it says so.
    pub cache_lifetime: Option<u64>,
}

/// A body without its media, and what is known about it.
struct BuiltRequest {
    template: BodyTemplate,
    options: BodyOptions,
    prompt_tokens: u64,
    context: RequestContext,
    notes: Vec<String>,
    images: Vec<ImageKey>,
    rejected_images: Vec<ImageKey>,
    has_videos: bool,
}

/// A request that is ready to be sent.
pub(super) struct PreparedRequest {
    pub resolved: ResolvedRequest,
    pub body: Bytes,
    /// The options as they are in the body.
    pub options: BodyOptions,
    /// The files that the body refers to.
    pub attachments: Attachments,
    /// What reading the answer needs to know.
    pub context: RequestContext,
    /// What the user should know about the request, one sentence each.
    pub notes: Vec<String>,
    /// The images in it.
    pub images: Vec<ImageKey>,
    /// Images that the service has just refused, and that are not in it.
    pub rejected_images: Vec<ImageKey>,
    /// Estimated tokens of the prompt.
    pub prompt_tokens: u64,
    /// The payload hook returned another body.
    pub is_rewritten: bool,
    /// Whether it holds a video.
    has_videos: bool,
    pub limits: TimeoutLimits,
    /// Limit for the wait for the first content.
    pub first_content: Option<Duration>,
}

/// Prepares a request. Parsing, repair and encoding of a long conversation take milliseconds, so they run in the background.
pub(super) async fn prepare(
    request: &TurnRequest,
    source: &ConversationSource,
    channels: &mut TurnChannels,
) -> Result<PreparedRequest> {
    let mut media = source.media_source(channels);
    media.collect().await?;
    let mut resolved = resolve(request).await?;
    let uploader = Uploader::new(UploadClient {
        kimi: resolved.kimi.clone(),
        credential: resolved.credential.clone(),
        extra: request.extra_headers(),
    })
    .await?;
    let may_refer = source.context.may_refer_to_media();
    if resolved.target.videos && (may_refer || source.may_hold_media()) {
        resolved.target.videos = !source.without_videos && !uploader.refuses_videos(&request.model.id).await;
    }
    let stored = if may_refer {
        resolve_stored(&uploader, source, resolved.target, &mut media).await?
    } else {
        StoredFiles::default()
    };
    let built = {
        let (resolved, source, stored) = (resolved.clone(), source.clone(), stored.clone());
        in_background(move || build(resolved, &source, &stored)).await?
    };
    let (body, mut attachments) = attach(uploader, built.template, &mut media).await?;
    attachments.add_stored(&stored);
    tracing::info!(bytes = body.len(), built.prompt_tokens, model = request.model.id, "request");
    let limits = capped(resolved.kimi.config.limits, request.options.timeout_ms.map(Duration::from_millis));
    let effort = resolved.options.thinking.as_ref().and_then(|thinking| thinking.effort.as_deref());
    Ok(PreparedRequest {
        first_content: first_content_limit(&limits, effort, built.prompt_tokens),
        prompt_tokens: built.prompt_tokens,
        is_rewritten: false,
        body,
        options: built.options,
        attachments,
        context: built.context,
        notes: built.notes,
        images: built.images,
        rejected_images: built.rejected_images,
        has_videos: built.has_videos,
        limits,
        resolved,
    })
}

/// Finds configuration, credential, dialect and what the model takes.
async fn resolve(request: &TurnRequest) -> Result<ResolvedRequest> {
    let (environment, addresses) = (Environment::new(request.environment.clone()), request.model.addresses.clone());
    let host = request.host.clone();
    let (mut kimi, environment) = in_background(move || {
        let kimi = Kimi::new(Config::from_environment(&environment, &addresses)?, host)?;
        Ok((kimi, environment))
    })
    .await?;
    let retry = request.options.retry(kimi.config.retry);
    kimi.config_mut().retry = retry;
    let credential = kimi.authorize(request.options.api_key.as_deref()).await?;

    let model = &request.model;
    // Programs outside of Pi ask for the list themselves (`kimi.models()`).
    let max_wait = request.host.pi_version.as_ref().map(|_| models::TURN_WAIT);
    let listing = models::current(&kimi, &environment, &credential, max_wait).await?;
    let listed = listing.models.iter().find(|listed| listed.id == model.id);
    let facts = kimi.process.get::<OfferedModels>().current(&model.id, model.facts(), listed);
    let dialect = Dialect::of_model(facts.protocol.as_deref(), kimi.config.settings.protocol);
    let anthropic = dialect == Dialect::Anthropic;
    let target = Target {
        images: facts.images,
        videos: facts.videos.unwrap_or_else(|| model.takes_videos()),
        late_tools: !anthropic && facts.compat.supports_mid_convo_tool_additions,
        anthropic,
    };
    let session = request.options.session_id.as_deref();
    Ok(ResolvedRequest {
        session: session.map(|id| format!("{id} {} {}", kimi.config.endpoint.root(), model.id)),
        options: request.options.body(model, &facts, &kimi.config),
        context_window: facts.context_window,
        prices: facts.prices,
        cache_lifetime: listed.and_then(|listed| listed.cache_duration),
        response_format: request.options.response_format.clone(),
        kimi,
        credential,
        dialect,
        target,
    })
}

/// Finds the files that the conversation refers to, and uploads those that may be uploaded.
async fn resolve_stored(
    uploader: &Uploader,
    source: &ConversationSource,
    target: Target,
    media: &mut TurnMediaSource<'_>,
) -> Result<StoredFiles> {
    let conversation = source.clone();
    let mut wanted = in_background(move || {
        let ContextText { json, texts } = conversation.context.as_ref();
        let transcript = Transcript::read(json, texts, &conversation.media)?;
        Ok(transcript.stored_media())
    })
    .await?;
    wanted.retain(|media| !source.lost_media.iter().any(|lost| (lost.digest, lost.kind) == (media.digest, media.kind)));
    let takes = |kind| match kind {
        MediaKind::Image => target.images,
        MediaKind::Video => target.videos,
    };
    uploader.resolve_stored(wanted, takes, media).await
}

/// Reads, repairs and encodes the conversation.
fn build(resolved: ResolvedRequest, source: &ConversationSource, stored: &StoredFiles) -> Result<BuiltRequest> {
    let ResolvedRequest { dialect, mut options, .. } = resolved;
    let ContextText { json, texts } = source.context.as_ref();
    let mut transcript = Transcript::read(json, texts, &source.media)?;
    transcript.resolve_stored(|media| stored.link(media));
    let mut calls = CallIds::default();
    recorded_calls(&transcript).for_each(|id| calls.reserve(id));
    let mut conversation = normalize(transcript, resolved.target, &resolved.kimi.process.get::<SchemaCache>());
    let rejections = resolved.kimi.process.get::<SessionRejections>().of(resolved.session.as_deref());
    rejections.apply(&mut conversation.turns);
    let mut rejected_images = Vec::new();
    for (index, item) in source.rejected_items.iter().enumerate() {
        let removal = item.replace(&mut conversation, dialect, &rejections).ok_or_else(|| item.nowhere())?;
        conversation.notes = vec![removal.note];
        // A removal that changed nothing was a wrong guess.
        if source.rejected_items.get(index + 1).is_none_or(|later| item.is_resolved_by(later)) {
            rejected_images.extend(removal.refused);
        }
    }
    let images = ImageKey::all(&conversation.turns);
    sent_calls(&conversation).for_each(|id| calls.reserve(id));
    options.max_completion_tokens =
        output_limit(resolved.context_window, conversation.estimated_tokens, options.max_completion_tokens);
    restrict(&mut options, &mut conversation, &resolved.response_format, &resolved.kimi, dialect);
    let media = BodyTemplate::number(conversation.media_refs_mut());
    let body = dialect
        .encode(&conversation, &options)
        .map_err(|error| Error::new(ErrorKind::Internal, format!("the request cannot be written: {error}")))?;
    let has_videos = conversation.has_videos();
    Ok(BuiltRequest {
        template: BodyTemplate::new(body, media, dialect.shape()),
        options,
        prompt_tokens: conversation.estimated_tokens,
        context: RequestContext {
            calls,
            names: conversation.renamed,
            argument_names: conversation.argument_names,
            prices: Some(resolved.prices),
        },
        notes: conversation.notes,
        has_videos,
        images,
        rejected_images,
    })
}

/// Brings the options into the form that the service accepts, and notes what that changes.
fn restrict(
    options: &mut BodyOptions,
    conversation: &mut Conversation<'_>,
    format: &ResponseFormat,
    kimi: &Kimi,
    dialect: Dialect,
) {
    let schemas = kimi.process.get::<SchemaCache>();
    let mut form = format.requested(dialect, &schemas, false);
    options.response_format = form.member.take();
    let thinks = options.thinks();
    conversation.notes.extend(restrict_tool_choice(&mut options.tool_choice, thinks));
    for parameter in kimi.process.get::<RefusedParameters>().apply(kimi.config.endpoint.root(), options) {
        conversation.notes.push(parameter.note());
        if parameter == Parameter::ResponseFormat {
            form = format.requested(dialect, &schemas, true);
        }
    }
    conversation.notes.extend(form.note);
    conversation.turns.extend(form.instruction.map(|text| Item::System(text.into())));
}

impl PreparedRequest {
    /// Uploads files again that the service no longer knows, according to `error`.
    pub async fn reupload(
        &mut self,
        error: &Error,
        source: &ConversationSource,
        channels: &mut TurnChannels,
    ) -> Result<Reuploaded> {
        let mut media = source.media_source(channels);
        let reuploaded = self.attachments.reupload(error, &self.body, &mut media).await?;
        if let Reuploaded::Body(body) = &reuploaded {
            self.body = body.clone();
        }
        Ok(reuploaded)
    }

    /// Whether `error` refuses the videos of this request, whatever they are. If so, that is recorded for model and account.
    pub async fn refuses_videos(&self, error: &Error, model: &str) -> bool {
        let refuses = self.has_videos && is_video_refusal(error);
        if refuses {
            self.attachments.uploader().record_video_refusal(model).await;
        }
        refuses
    }

    /// Shows the body to the payload hook and takes the body that it returns.
    pub async fn apply_payload_hook(&mut self, channels: &mut TurnChannels) -> Result<()> {
        let internal = |message| Error::new(ErrorKind::Internal, message);
        let before = fingerprint(&self.body);
        let text = String::from_utf8(std::mem::take(&mut self.body).into());
        channels.ops.send(Op::Body(text.map_err(|_| internal("the request is not UTF-8"))?));
        let body = channels.hooked_bodies.recv().await;
        self.body = body.map_err(|_| internal("the payload hook never answered"))?.into();
        self.is_rewritten = fingerprint(&self.body) != before;
        Ok(())
    }
}

/// Returns the call ids that Pi knows, including those of aborted answers.
fn recorded_calls<'t>(transcript: &'t Transcript<'_>) -> impl Iterator<Item = &'t str> {
    transcript
        .messages
        .iter()
        .filter_map(|message| if let Message::Assistant(answer) = message { Some(answer) } else { None })
        .flat_map(|answer| &answer.blocks)
        .filter_map(|block| if let Block::Call { id, .. } = block { Some(id.as_ref()) } else { None })
}

/// Returns the call ids as they are sent.
fn sent_calls<'c>(conversation: &'c Conversation<'_>) -> impl Iterator<Item = &'c str> {
    conversation
        .turns
        .iter()
        .filter_map(|turn| if let Item::Assistant(answer) = turn { Some(answer) } else { None })
        .flat_map(|answer| &answer.blocks)
        .filter_map(|block| if let AssistantBlock::Call { id, .. } = block { Some(id.as_str()) } else { None })
}
