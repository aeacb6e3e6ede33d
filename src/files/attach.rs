//! The step of a turn between encoding and sending: every media_item becomes a known reference, a fresh upload or inline data.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body_template::{BodyTemplate, MediaPayload, MediaRef};
use super::index::Key;
use super::media::MediaItem;
use super::policy::{Choice, choose};
use super::readable;
use super::reupload::{Attachments, Reference};
use super::upload_request::{Upload, UploadClient, describe};
use super::uploader::{Uploader, log};
use crate::blocking::in_background;
use crate::error::{Error, ErrorKind, Result};

/// From when on, and how often, a person is told that files are being uploaded.
const NOTICE: Duration = Duration::from_secs(1);

/// A turn's line to JavaScript, as far as media need it.
pub trait MediaSource {
    /// Tells a person something.
    fn notice(&mut self, notice: Value);
    /// Whether this content can be asked for again.
    fn holds(&self, media_item: &Arc<MediaItem>) -> bool;
    /// Asks for a content again that was dropped.
    fn content(&mut self, media_item: &Arc<MediaItem>) -> impl Future<Output = Result<Bytes>> + Send;
}

/// A content that shall become a reference.
struct PendingUpload {
    key: Key,
    inset: MediaRef,
    name: String,
    outcome: Option<Result<(String, bool)>>,
}

/// Completes a body.
pub async fn attach(
    sender: UploadClient,
    draft: BodyTemplate,
    desk: &mut impl MediaSource,
) -> Result<(Bytes, Attachments)> {
    let office = Uploader::new(sender).await?;
    let choices = choose(&draft.insets, draft.text_length(), &office.settings);
    let mut wanted = wanted(&draft.insets, &choices);
    office.look_up(&mut wanted).await?;
    office.upload(&mut wanted, desk).await?;
    let fillings = office.fillings(&draft, &choices, &wanted, desk).await?;
    // All insets, not only one of each content: every one keeps the bytes alive.
    for (inset, filling) in draft.insets.iter().zip(&fillings) {
        if matches!(filling, MediaPayload::File(_)) && desk.holds(&inset.media_item) {
            inset.media_item.release();
        }
    }
    let mut files = Vec::new();
    for PendingUpload { key, inset, name, outcome } in wanted {
        if let Some(Ok((id, fresh))) = outcome {
            files.push(Reference { key, media_item: inset.media_item, id, fresh, renewed: false, name });
        }
    }
    let body = in_background(move || Ok(draft.fill(&fillings))).await?;
    Ok((body.into(), Attachments { office, files }))
}

/// The contents that shall become references, each once.
fn wanted(insets: &[MediaRef], choices: &[Choice]) -> Vec<PendingUpload> {
    let mut list: Vec<PendingUpload> = Vec::new();
    for (position, (inset, choice)) in insets.iter().zip(choices).enumerate() {
        let facts = inset.media_item.facts();
        let name = describe(position + 1, insets.len(), inset.media_type, facts.bytes);
        let known = |key: &Key| list.iter().any(|wanted| wanted.key == *key);
        let Some(digest) = facts.digest else { continue };
        let key = Key { digest, media_type: inset.media_type };
        if !choice.is_reference() {
            log(&key, facts.bytes, "inline", choice.why());
        } else if !known(&key) {
            list.push(PendingUpload { key, inset: inset.clone(), name, outcome: None });
        }
    }
    list
}

impl Uploader {
    /// Takes what the index knows.
    async fn look_up(&self, wanted: &mut [PendingUpload]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let (index, keys) = (self.index.clone(), wanted.iter().map(|wanted| wanted.key).collect::<Vec<_>>());
        let found = in_background(move || Ok(keys.iter().map(|key| index.find(key)).collect::<Vec<_>>())).await?;
        for (wanted, id) in wanted.iter_mut().zip(found) {
            if let Some(id) = id {
                log(&wanted.key, wanted.inset.media_item.facts().bytes, "known", &id);
                wanted.outcome = Some(Ok((id, false)));
            }
        }
        Ok(())
    }

    /// Uploads the rest side by side. Ends early where going on cannot help.
    async fn upload(&self, wanted: &mut [PendingUpload], desk: &mut impl MediaSource) -> Result<()> {
        let mut tasks = JoinSet::new();
        let mut progress = Vec::new();
        for (position, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| wanted.outcome.is_none()) {
            let upload = Upload::new(content(&wanted.inset.media_item, desk).await?, wanted.inset.media_type);
            progress.push((Arc::clone(&upload.progress), wanted.inset.media_item.facts().bytes));
            let (office, key) = (self.clone(), wanted.key);
            tasks.spawn(async move { (position, office.file_id(&key, &upload, None).await) });
        }
        let mut told = false;
        let mut due = Instant::now() + NOTICE;
        while !tasks.is_empty() {
            let done = tokio::select! {
                done = tasks.join_next() => done,
                () = tokio::time::sleep_until(due) => {
                    due += NOTICE;
                    told = true;
                    desk.notice(notice(&progress, tasks.len()));
                    continue;
                }
            };
            let Some(Ok((position, outcome))) = done else {
                return Err(Error::new(ErrorKind::Internal, "an upload failed unexpectedly"));
            };
            // Dropping the set ends the others.
            if let Err(error) = &outcome
                && !may_go_inline(error)
            {
                return Err(error.clone());
            }
            wanted[position].outcome = Some(outcome);
        }
        if told {
            desk.notice(notice(&progress, 0));
        }
        Ok(())
    }

    /// What goes into the gaps; media whose upload failed go inline where the body may grow that long.
    async fn fillings(
        &self,
        draft: &BodyTemplate,
        choices: &[Choice],
        wanted: &[PendingUpload],
        desk: &mut impl MediaSource,
    ) -> Result<Vec<MediaPayload>> {
        let mut fillings = Vec::with_capacity(draft.insets.len());
        let mut total = draft.text_length();
        for (inset, choice) in draft.insets.iter().zip(choices) {
            let facts = inset.media_item.facts();
            let outcome = facts
                .digest
                .filter(|_| choice.is_reference())
                .and_then(|digest| {
                    let key = Key { digest, media_type: inset.media_type };
                    wanted.iter().find(|wanted| wanted.key == key)
                })
                .and_then(|wanted| Some((wanted, wanted.outcome.as_ref()?)));
            if let Some((_, Ok((id, _)))) = outcome {
                fillings.push(MediaPayload::File(id.clone()));
                continue;
            }
            total += facts.text();
            if let Some((wanted, Err(error))) = outcome {
                if total > self.settings.inline_limit {
                    return Err(too_large_inline(&wanted.name, error));
                }
                log(&wanted.key, facts.bytes, "inline", &error.message);
            }
            fillings.push(MediaPayload::Inline(content(&inset.media_item, desk).await?));
        }
        Ok(fillings)
    }
}

/// Errors that sending the same bytes inline would only hide: they concern the account, or the person's own wish.
fn may_go_inline(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::Cancelled
            | ErrorKind::LoginRequired
            | ErrorKind::Unauthorized
            | ErrorKind::Entitlement
            | ErrorKind::ClientRefused
            | ErrorKind::QuotaExhausted
            | ErrorKind::Config
            | ErrorKind::Tls
            | ErrorKind::Internal
    )
}

fn too_large_inline(name: &str, error: &Error) -> Error {
    named(name, "could not be uploaded and is too large to be sent inline", error)
}

pub(super) fn named(name: &str, what: &str, error: &Error) -> Error {
    Error { message: format!("{name} {what}: {}", error.message), ..error.clone() }
}

/// The content, from JavaScript if we have dropped it.
pub(super) async fn content(media_item: &Arc<MediaItem>, desk: &mut impl MediaSource) -> Result<Bytes> {
    match media_item.content() {
        Some(content) => Ok(content),
        None => desk.content(media_item).await,
    }
}

/// Progress for a person; `left` is the number of files still under way.
fn notice(progress: &[(Arc<AtomicU64>, u64)], left: usize) -> Value {
    let total: u64 = progress.iter().map(|(_, bytes)| bytes).sum();
    let sent: u64 = progress.iter().map(|(sent, bytes)| sent.load(Ordering::Relaxed).min(*bytes)).sum();
    let files = if progress.len() == 1 { "file".to_owned() } else { format!("{} files", progress.len()) };
    json!({
        "kind": "upload", "files": progress.len(), "left": left, "bytes": total, "sent": sent,
        "message": format!("uploading {files}, {} of {}", readable(sent), readable(total)),
    })
}
