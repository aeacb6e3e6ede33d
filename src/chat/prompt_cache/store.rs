//! Keeps the records of a session on disk: hashes and numbers, no text and no names.
//!
//! One file for each session, so that a session that is resumed knows what it sent before. Hashes use a seed of this machine, and
//! a file of another version of this package counts as missing, because its hashes may be others.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::chain::{Chain, Element, ElementKind, ElementPart, HashedBlock, PartKind};
use super::chain_diff::{Change, ChangeCause, Place, word};
use super::records::SessionKey;
use super::session::{CacheScope, MAX_REQUESTS, Request, Session};
use super::verdict::{CacheUsage, Expectation, Verdict};
use crate::plan::ledger::Ledger;
use crate::storage::private_file::replace;

/// Folder in the state folder.
const FOLDER: &str = "prompt-cache";

/// Files that are kept; the oldest go first.
const MAX_FILES: usize = 64;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// The file of a session.
#[derive(Debug, Clone, Default)]
pub struct Store {
    file: Option<PathBuf>,
    seed: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRecords {
    /// Hash of the package's version.
    version: u64,
    requests: Vec<StoredRequest>,
    since: Vec<i64>,
}

/// A request. Its chain is what it shares with the request before, and the rest.
#[derive(Debug, Serialize, Deserialize)]
struct StoredRequest {
    at: i64,
    account: u64,
    model: u64,
    usage: Option<(u64, u64)>,
    predicted: u64,
    verdict: u64,
    /// Kind, index, part, offset, cause.
    change: Option<(u64, usize, usize, u64, u64)>,
    shared: usize,
    elements: Vec<StoredElement>,
}

/// Kind, hash of the name, hash, bytes, tokens, parts.
type StoredElement = (u64, u64, u64, u64, u32, Vec<StoredPart>);

/// Kind, hash, bytes, tokens, blocks as hash and tokens.
type StoredPart = (u64, u64, u64, u32, Vec<(u32, u16)>);

impl Store {
    /// Finds the file of a session. Without a readable key of this machine nothing is stored.
    pub fn open(key: &SessionKey) -> Self {
        let ledger = key.state.as_ref().and_then(|state| Some((state, Ledger::open(state).ok()?)));
        let Some((state, ledger)) = ledger else { return Self::default() };
        let name = format!("{}{}", ledger.hash("session", &key.session), ledger.hash(FOLDER, &key.session));
        let seed = format!("{}{}", ledger.hash(FOLDER, "seed"), ledger.hash("seed", FOLDER));
        Self {
            file: Some(state.join(FOLDER).join(format!("{name}.json"))),
            seed: u64::from_str_radix(&seed, 16).unwrap_or_default(),
        }
    }

    /// Reads the session that was written last, and when. Blocks.
    pub fn last(state: &Path) -> Option<(SystemTime, Session)> {
        let files = fs::read_dir(state.join(FOLDER)).ok()?.flatten();
        let (written, file) =
            files.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).max()?;
        Some((written, Self { file: Some(file), seed: 0 }.read()?))
    }

    /// The seed of all hashes.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Reads the session. An unreadable file counts as missing. Blocks.
    pub fn read(&self) -> Option<Session> {
        let file = self.file.as_ref()?;
        if fs::metadata(file).ok()?.len() > MAX_FILE {
            return None;
        }
        let stored: StoredRecords = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        (stored.version == version()).then(|| stored.session())
    }

    /// Writes the session. Blocks.
    pub fn write(&self, session: &Session) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let is_new = !file.exists();
        replace(file, &serde_json::to_vec(&StoredRecords::of(session))?)?;
        if is_new {
            self.prune();
        }
        Ok(())
    }

    /// Removes the oldest files.
    fn prune(&self) {
        let entries = self.file.as_ref().and_then(|file| fs::read_dir(file.parent()?).ok()).into_iter().flatten();
        let mut files: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        files.sort();
        for (_, file) in files.iter().rev().skip(MAX_FILES) {
            let _ = fs::remove_file(file);
        }
    }
}

fn version() -> u64 {
    let hash = Sha256::digest(crate::VERSION);
    // 53 bits, which every reader of JSON can hold.
    hash[..6].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

const KINDS: [ElementKind; 3] = [ElementKind::System, ElementKind::Tool, ElementKind::Message];

fn kind(number: u64) -> ElementKind {
    KINDS.into_iter().find(|kind| *kind as u64 == number).unwrap_or(ElementKind::Message)
}

impl StoredRecords {
    fn of(session: &Session) -> Self {
        let mut before: Option<&Arc<Chain>> = None;
        let requests = session.requests.iter().map(|request| {
            let shared = before.map_or(0, |before| request.chain.shared(before));
            before = Some(&request.chain);
            StoredRequest {
                at: request.at,
                account: request.scope.account,
                model: request.scope.model,
                usage: request.usage.map(|usage| (usage.prompt, usage.cached)),
                predicted: request.expected.predicted,
                verdict: request.verdict as u64,
                change: request.change.as_ref().map(|Change { place, cause, .. }| {
                    let kind = KINDS.into_iter().find(|kind| word(*kind) == place.kind).unwrap_or(ElementKind::Message);
                    (kind as u64, place.index, place.part, place.offset, *cause as u64)
                }),
                shared,
                elements: request.chain.elements[shared..].iter().map(|element| stored_element(element)).collect(),
            }
        });
        Self { version: version(), requests: requests.collect(), since: session.since.clone() }
    }

    fn session(self) -> Session {
        let mut elements: Vec<Arc<Element>> = Vec::new();
        let mut requests = VecDeque::new();
        for stored in self.requests.into_iter().take(MAX_REQUESTS) {
            elements.truncate(stored.shared);
            elements.extend(stored.elements.into_iter().map(element));
            requests.push_back(Request {
                id: 0,
                at: stored.at,
                scope: CacheScope { account: stored.account, model: stored.model },
                model: None,
                chain: Chain::of(elements.clone()).into(),
                is_rewritten: false,
                usage: stored.usage.map(|(prompt, cached)| CacheUsage { prompt, cached }),
                expected: Expectation::stored(stored.predicted),
                verdict: Verdict::of(stored.verdict),
                change: stored.change.map(|(number, index, part, offset, cause)| Change {
                    place: Place { kind: word(kind(number)), index, part, offset },
                    cause: ChangeCause::of(cause),
                    name: None,
                }),
            });
        }
        let mut since = self.since;
        since.resize(elements.len(), 0);
        Session::restored(requests, since)
    }
}

fn stored_element(element: &Element) -> StoredElement {
    let Element { kind, name_hash, hash, bytes, tokens, parts, .. } = element;
    let parts = parts.iter().map(|part| {
        let blocks = part.blocks.iter().map(|block| (block.hash, block.tokens)).collect();
        (part.kind as u64, part.hash, part.bytes, part.tokens, blocks)
    });
    (*kind as u64, *name_hash, *hash, *bytes, *tokens, parts.collect())
}

fn element((number, name_hash, hash, bytes, tokens, parts): StoredElement) -> Arc<Element> {
    let parts = parts.into_iter().map(|(kind, hash, bytes, tokens, blocks)| ElementPart {
        kind: PartKind::of(kind),
        hash,
        bytes,
        tokens,
        blocks: blocks.into_iter().map(|(hash, tokens)| HashedBlock { hash, tokens }).collect(),
    });
    Arc::new(Element {
        kind: kind(number),
        name: Box::default(),
        name_hash,
        hash,
        bytes,
        tokens,
        parts: parts.collect(),
    })
}
