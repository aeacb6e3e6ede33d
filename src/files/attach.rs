//! The step of a turn between encoding and sending: every medium becomes a known reference, a fresh upload or inline data.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep};

use super::claim::Claim;
use super::index::{Account, Index, Key};
use super::medium::Medium;
use super::policy::{Choice, UploadSettings, choose};
use super::readable;
use super::slots::{Draft, Filling, Inset, replace_id};
use super::upload::{Sender, Upload, describe};
use crate::error::{Error, ErrorKind, Result};

/// Uploads under way at once, over all turns of the process.
static PARALLEL: Semaphore = Semaphore::const_new(4);

/// From when on, and how often, a person is told that files are being uploaded.
const NOTICE: Duration = Duration::from_secs(1);

/// How often a process looks whether another one has finished the same upload.
const PEEK: Duration = Duration::from_millis(100);

/// A turn's line to JavaScript, as far as media need it.
pub trait Desk {
    /// Tells a person something.
    fn notice(&mut self, notice: Value);
    /// Whether this content can be asked for again.
    fn holds(&self, medium: &Arc<Medium>) -> bool;
    /// Asks for a content again that was dropped.
    fn content(&mut self, medium: &Arc<Medium>) -> impl Future<Output = Result<Bytes>> + Send;
}

/// The references of a body, for the case that the service does not know one of them any more.
#[derive(Debug)]
pub struct Attachments {
    office: Office,
    files: Vec<Reference>,
}

#[derive(Debug)]
struct Reference {
    key: Key,
    medium: Arc<Medium>,
    id: String,
    /// Uploaded by this very turn.
    fresh: bool,
    /// Replaced in this turn; nothing is replaced twice.
    renewed: bool,
    /// For messages.
    name: String,
}

/// Whoever uploads, and where it is written down.
#[derive(Debug, Clone)]
struct Office {
    sender: Sender,
    index: Index,
    settings: UploadSettings,
}

/// A content that shall become a reference.
struct Wanted {
    key: Key,
    inset: Inset,
    name: String,
    outcome: Option<Result<(String, bool)>>,
}

/// Completes a body.
pub async fn attach(sender: Sender, draft: Draft, desk: &mut impl Desk) -> Result<(Bytes, Attachments)> {
    let config = &sender.kimi.config;
    let account = Account::new(config.endpoint.root(), &credential(&sender));
    let index = Index::new(config.state_directory.as_deref(), account);
    let office = Office { settings: config.uploads(), index, sender };
    let choices = choose(&draft.insets, draft.text_length(), &office.settings);
    let mut wanted = wanted(&draft.insets, &choices);
    office.look_up(&mut wanted).await;
    office.upload(&mut wanted, desk).await?;
    let fillings = office.fillings(&draft, &choices, &wanted, desk).await?;
    let mut files = Vec::new();
    for Wanted { key, inset, name, outcome } in wanted {
        if let Some(Ok((id, fresh))) = outcome {
            if desk.holds(&inset.medium) {
                inset.medium.forget();
            }
            files.push(Reference { key, medium: inset.medium, id, fresh, renewed: false, name });
        }
    }
    let body = spawn_blocking(move || draft.fill(&fillings)).await;
    let body = body.map_err(|_| Error::new(ErrorKind::Internal, "the request could not be put together"))?;
    Ok((body.into(), Attachments { office, files }))
}

/// The credential that will really be sent.
fn credential(sender: &Sender) -> String {
    let theirs = sender.extra.iter().find(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
    match theirs {
        Some((_, Some(value))) => value.strip_prefix("Bearer ").unwrap_or(value).to_owned(),
        _ => sender.credential.token(),
    }
}

/// The contents that shall become references, each once.
fn wanted(insets: &[Inset], choices: &[Choice]) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = Vec::new();
    for (position, (inset, choice)) in insets.iter().zip(choices).enumerate() {
        let facts = inset.medium.facts();
        let name = describe(position + 1, insets.len(), inset.media_type, facts.bytes);
        let known = |key: &Key| list.iter().any(|wanted| wanted.key == *key);
        let Some(digest) = facts.digest else { continue };
        let key = Key { digest, media_type: inset.media_type };
        if !choice.is_reference() {
            log(&key, facts.bytes, "inline", choice.why());
        } else if !known(&key) {
            list.push(Wanted { key, inset: inset.clone(), name, outcome: None });
        }
    }
    list
}

impl Office {
    /// Takes what the index knows.
    async fn look_up(&self, wanted: &mut [Wanted]) {
        let (index, keys) = (self.index.clone(), wanted.iter().map(|wanted| wanted.key).collect::<Vec<_>>());
        let found = spawn_blocking(move || keys.iter().map(|key| index.find(key)).collect::<Vec<_>>()).await;
        for (wanted, id) in wanted.iter_mut().zip(found.unwrap_or_default()) {
            if let Some(id) = id {
                log(&wanted.key, wanted.inset.medium.facts().bytes, "known", &id);
                wanted.outcome = Some(Ok((id, false)));
            }
        }
    }

    /// Uploads the rest side by side. Ends early where going on cannot help.
    async fn upload(&self, wanted: &mut [Wanted], desk: &mut impl Desk) -> Result<()> {
        let mut tasks = JoinSet::new();
        let mut progress = Vec::new();
        for (position, wanted) in wanted.iter().enumerate().filter(|(_, wanted)| wanted.outcome.is_none()) {
            let text = content(&wanted.inset.medium, desk).await?;
            let bytes = wanted.inset.medium.facts().bytes;
            let media_type = wanted.inset.media_type;
            let upload = Upload { text, bytes, media_type, progress: Arc::new(AtomicU64::new(0)) };
            progress.push((Arc::clone(&upload.progress), bytes));
            let (office, key) = (self.clone(), wanted.key);
            tasks.spawn(async move { (position, office.obtain(&key, &upload, None).await) });
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
        draft: &Draft,
        choices: &[Choice],
        wanted: &[Wanted],
        desk: &mut impl Desk,
    ) -> Result<Vec<Filling>> {
        let mut fillings = Vec::with_capacity(draft.insets.len());
        let mut total = draft.text_length();
        for (inset, choice) in draft.insets.iter().zip(choices) {
            let facts = inset.medium.facts();
            let outcome = facts
                .digest
                .filter(|_| choice.is_reference())
                .and_then(|digest| {
                    let key = Key { digest, media_type: inset.media_type };
                    wanted.iter().find(|wanted| wanted.key == key)
                })
                .and_then(|wanted| Some((wanted, wanted.outcome.as_ref()?)));
            if let Some((_, Ok((id, _)))) = outcome {
                fillings.push(Filling::File(id.clone()));
                continue;
            }
            total += facts.text;
            if let Some((wanted, Err(error))) = outcome {
                if total > self.settings.inline_limit {
                    return Err(too_large_inline(&wanted.name, error));
                }
                log(&wanted.key, facts.bytes, "inline", &error.message);
            }
            fillings.push(Filling::Inline(content(&inset.medium, desk).await?));
        }
        Ok(fillings)
    }

    /// The id of a content: from whoever has it by now, or by uploading it. `stale` is an id that does not work any more.
    async fn obtain(&self, key: &Key, upload: &Upload, stale: Option<&str>) -> Result<(String, bool)> {
        let turn = queue(&self.index, key);
        let _only_one = turn.lock().await;
        let started = Instant::now();
        let claim = loop {
            if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
                log(key, upload.bytes, "known", &id);
                return Ok((id, false));
            }
            match self.claim(key).await {
                Claimed::Ours(claim) => break claim,
                Claimed::Elsewhere if self.settings.timeout.is_some_and(|limit| started.elapsed() > limit) => {
                    break None;
                }
                Claimed::Elsewhere => sleep(PEEK).await,
            }
        };
        // Another process may have finished between the look and the claim.
        if let Some(id) = self.find(key).await.filter(|id| Some(id.as_str()) != stale) {
            return Ok((id, false));
        }
        let permit = PARALLEL.acquire().await;
        let began = Instant::now();
        let id = self.sender.upload(upload, self.settings.time_for(upload.bytes)).await?;
        drop(permit);
        log(key, upload.bytes, "uploaded", &format!("{id} in {} ms", began.elapsed().as_millis()));
        let (index, key, bytes, stale) = (self.index.clone(), *key, upload.bytes, stale.map(str::to_owned));
        let fallback = id.clone();
        let recorded = spawn_blocking(move || index.record(&key, &id, bytes, stale.as_deref())).await;
        drop(claim);
        Ok((recorded.unwrap_or(fallback), true))
    }

    async fn find(&self, key: &Key) -> Option<String> {
        let (index, key) = (self.index.clone(), *key);
        spawn_blocking(move || index.find(&key)).await.ok().flatten()
    }

    async fn claim(&self, key: &Key) -> Claimed {
        let Some(path) = self.index.claim_path(key) else { return Claimed::Ours(None) };
        let index = self.index.clone();
        let claim = spawn_blocking(move || index.prepare().and_then(|()| Claim::attempt(&path))).await;
        match claim {
            Ok(Ok(Some(claim))) => Claimed::Ours(Some(claim)),
            Ok(Ok(None)) => Claimed::Elsewhere,
            // A directory that cannot be written keeps nobody from uploading.
            Ok(Err(_)) | Err(_) => Claimed::Ours(None),
        }
    }
}

enum Claimed {
    Ours(Option<Claim>),
    Elsewhere,
}

impl Attachments {
    /// If `error` says that the service does not know a file of `body` any more: the body with a new id. Each file
    /// is replaced once per turn at most, and only those that the service blames: ids that work never change.
    pub async fn heal(&mut self, error: &Error, body: &[u8], desk: &mut impl Desk) -> Result<Option<Bytes>> {
        let suspects = self.suspects(error);
        if suspects.is_empty() {
            return Ok(None);
        }
        let mut body = body.to_vec();
        for position in suspects {
            let Reference { key, medium, id, name, .. } = &self.files[position];
            let (index, lost, dead) = (self.office.index.clone(), *key, id.clone());
            log(key, medium.facts().bytes, "stale", id);
            let newer = spawn_blocking(move || index.forget(&lost, &dead)).await.ok().flatten();
            let new = match newer {
                Some(newer) => newer,
                None => {
                    let text = content(medium, desk).await?;
                    let bytes = medium.facts().bytes;
                    let upload =
                        Upload { text, bytes, media_type: key.media_type, progress: Arc::new(AtomicU64::new(0)) };
                    let obtained = self.office.obtain(key, &upload, Some(id)).await;
                    if desk.holds(medium) {
                        medium.forget();
                    }
                    obtained.map_err(|error| named(name, "could not be uploaded again", &error))?.0
                }
            };
            body = replace_id(&body, id, &new);
            self.files[position].id = new;
            self.files[position].renewed = true;
        }
        Ok(Some(body.into()))
    }

    /// The files that `error` blames: by id, or else all that were not uploaded just now. What the service says about an
    /// unknown file is not recorded anywhere, so the wording is taken loosely; a wrong guess costs one upload.
    fn suspects(&self, error: &Error) -> Vec<usize> {
        if !matches!(error.status, Some(400 | 404 | 410 | 422)) || error.kind == ErrorKind::ContextOverflow {
            return Vec::new();
        }
        let positions = |matches: &dyn Fn(&Reference) -> bool| -> Vec<usize> {
            self.files
                .iter()
                .enumerate()
                .filter(|(_, file)| !file.renewed && matches(file))
                .map(|(position, _)| position)
                .collect()
        };
        let named = positions(&|file| error.message.contains(&file.id));
        if !named.is_empty() {
            return named;
        }
        let text = error.message.to_ascii_lowercase();
        let gone = ["not found", "not exist", "expired", "deleted", "no such", "unknown"];
        if text.contains("file") && gone.iter().any(|word| text.contains(word)) {
            return positions(&|file| !file.fresh);
        }
        Vec::new()
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

fn named(name: &str, what: &str, error: &Error) -> Error {
    Error { message: format!("{name} {what}: {}", error.message), ..error.clone() }
}

/// The content, from JavaScript if we have dropped it.
async fn content(medium: &Arc<Medium>, desk: &mut impl Desk) -> Result<Bytes> {
    match medium.content() {
        Some(content) => Ok(content),
        None => desk.content(medium).await,
    }
}

type Queues = HashMap<(Index, Key), Weak<tokio::sync::Mutex<()>>>;

/// The queue of those who want the same content uploaded, within this process.
fn queue(index: &Index, key: &Key) -> Arc<tokio::sync::Mutex<()>> {
    static QUEUES: OnceLock<Mutex<Queues>> = OnceLock::new();
    let mut queues = QUEUES.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    queues.retain(|_, queue| queue.strong_count() > 0);
    let place = (index.clone(), *key);
    if let Some(queue) = queues.get(&place).and_then(Weak::upgrade) {
        return queue;
    }
    let queue = Arc::default();
    queues.insert(place, Arc::downgrade(&queue));
    queue
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

/// Every decision, for `KIMI_CODE_DEBUG=1`.
fn log(key: &Key, bytes: u64, decision: &str, why: &str) {
    let content = key.digest.to_string();
    tracing::debug!(content = &content[..12], mime = key.media_type.mime, bytes, decision, why, "medium");
}
