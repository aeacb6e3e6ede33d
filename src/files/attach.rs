//! Completes a request body: every media item becomes a known reference, a new upload or inline data.

use bytes::Bytes;

use super::body_template::{BodyTemplate, MediaPayload, MediaRef};
use super::index::Key;
use super::media_source::{MediaSource, content};
use super::policy::{Placement, choose, may_go_inline};
use super::reference::{Reference, ReferenceContent, with_name};
use super::reupload::Attachments;
use super::upload_request::{Upload, describe};
use super::uploader::{UploadJob, UploadedId, Uploader, log};
use crate::blocking::in_background;
use crate::error::Result;

/// A content that is sent as a reference.
struct PendingUpload {
    key: Key,
    item: MediaRef,
    /// For messages.
    name: String,
    outcome: Option<Result<UploadedId>>,
}

/// Completes a body, uploading what is not known yet.
pub async fn attach(
    uploader: Uploader,
    template: BodyTemplate,
    source: &mut impl MediaSource,
) -> Result<(Bytes, Attachments)> {
    if template.media.is_empty() {
        return Ok((template.into_body().into(), Attachments { uploader, files: Vec::new() }));
    }
    let choices = choose(&template.media, template.text_length(), &uploader.limits);
    let mut pending = pending_uploads(&template.media, &choices);
    uploader.look_up(&mut pending).await?;
    uploader.upload(&mut pending, source).await?;
    let payloads = uploader.payloads(&template, &choices, &pending, source).await?;
    // All items, not only one of each content: every one keeps the bytes alive.
    for (item, payload) in template.media.iter().zip(&payloads) {
        if matches!(payload, MediaPayload::File(_)) && source.holds(&item.media_item) {
            item.media_item.release();
        }
    }
    let mut files = Vec::new();
    for PendingUpload { key, item, name, outcome } in pending {
        if let Some(Ok((id, fresh))) = outcome {
            let content = ReferenceContent::Item(item.media_item);
            files.push(Reference { key, content, id, fresh, replaced: false, name });
        }
    }
    let body = in_background(move || Ok(template.fill(&payloads))).await?;
    Ok((body.into(), Attachments { uploader, files }))
}

/// Lists the contents that are sent as references, each once.
fn pending_uploads(media: &[MediaRef], choices: &[Placement]) -> Vec<PendingUpload> {
    let mut list: Vec<PendingUpload> = Vec::new();
    for (position, (item, choice)) in media.iter().zip(choices).enumerate() {
        let info = item.media_item.info();
        let name = describe(position + 1, media.len(), item.media_type, info.bytes);
        let Some(digest) = info.digest else { continue };
        let key = Key { digest, media_type: item.media_type };
        if !choice.is_reference() {
            log(&key, info.bytes, "inline", choice.why());
        } else if !list.iter().any(|pending| pending.key == key) {
            list.push(PendingUpload { key, item: item.clone(), name, outcome: None });
        }
    }
    list
}

impl Uploader {
    /// Looks all contents up in the index.
    async fn look_up(&self, pending: &mut [PendingUpload]) -> Result<()> {
        if pending.is_empty() {
            return Ok(());
        }
        let (index, keys) = (self.index.clone(), pending.iter().map(|pending| pending.key).collect::<Vec<_>>());
        let found = in_background(move || Ok(keys.iter().map(|key| index.find(key)).collect::<Vec<_>>())).await?;
        for (pending, id) in pending.iter_mut().zip(found) {
            if let Some(id) = id {
                log(&pending.key, pending.item.media_item.info().bytes, "known", &id);
                pending.outcome = Some(Ok((id, false)));
            }
        }
        Ok(())
    }

    /// Uploads the rest in parallel. Ends early with an error that sending inline would only hide.
    async fn upload(&self, pending: &mut [PendingUpload], source: &mut impl MediaSource) -> Result<()> {
        let mut uploads = Vec::new();
        for pending in pending.iter().filter(|pending| pending.outcome.is_none()) {
            let media = content(&pending.item.media_item, source).await?;
            uploads.push(UploadJob {
                key: pending.key,
                upload: Upload::new(media, pending.item.media_type),
                stale: None,
            });
        }
        let mut outcomes = self.upload_all(uploads, source, |error| !may_go_inline(error)).await?.into_iter();
        for pending in pending.iter_mut().filter(|pending| pending.outcome.is_none()) {
            pending.outcome = outcomes.next();
        }
        Ok(())
    }

    /// Returns what takes the place of each item. Items whose upload failed are sent inline where the body may grow that long.
    async fn payloads(
        &self,
        template: &BodyTemplate,
        choices: &[Placement],
        pending: &[PendingUpload],
        source: &mut impl MediaSource,
    ) -> Result<Vec<MediaPayload>> {
        let mut payloads = Vec::with_capacity(template.media.len());
        let mut total = template.text_length();
        for (item, choice) in template.media.iter().zip(choices) {
            let info = item.media_item.info();
            let outcome = info
                .digest
                .filter(|_| choice.is_reference())
                .and_then(|digest| {
                    let key = Key { digest, media_type: item.media_type };
                    pending.iter().find(|pending| pending.key == key)
                })
                .and_then(|pending| Some((pending, pending.outcome.as_ref()?)));
            if let Some((_, Ok((id, _)))) = outcome {
                payloads.push(MediaPayload::File(id.clone()));
                continue;
            }
            total += info.inline_length();
            if let Some((pending, Err(error))) = outcome {
                if total > self.limits.inline_limit {
                    let what = "could not be uploaded and is too large to be sent inline";
                    return Err(with_name(&pending.name, what, error));
                }
                log(&pending.key, info.bytes, "inline", &error.message);
            }
            payloads.push(MediaPayload::Inline(content(&item.media_item, source).await?));
        }
        Ok(payloads)
    }
}
