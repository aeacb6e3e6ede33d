//! What became of a prompt in the service's cache: read as far as possible, changed, expired, or dropped.

use serde::Serialize;

use super::BLOCK_TOKENS;
use super::chain_diff::{ChainStep, Change, ChangeCause};

/// How long prompts stay in the cache at least, in milliseconds, where the service does not say it (docs/protocol.md#prompt-cache).
pub const LEAST_LIFETIME_MS: i64 = 300_000;

/// What became of a request's prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Verdict {
    /// What could come from the cache came from it.
    Grew = 0,
    /// The beginning or middle of the prompt differs from the request before.
    Changed = 1,
    /// The conversation went on from an earlier place.
    Shortened = 2,
    /// The cache had expired.
    Idle = 3,
    /// Another model was asked, which has its own cache.
    Model = 4,
    /// The service read again what it should have had: a guess that its cache dropped it.
    Evicted = 5,
    /// The usage is missing or contradicts itself.
    #[default]
    Unknown = 6,
}

impl Verdict {
    const ALL: [Self; 7] =
        [Self::Grew, Self::Changed, Self::Shortened, Self::Idle, Self::Model, Self::Evicted, Self::Unknown];

    /// Reads the number that is stored.
    pub fn of(number: u64) -> Self {
        Self::ALL.into_iter().find(|verdict| *verdict as u64 == number).unwrap_or_default()
    }
}

/// What a request's usage said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheUsage {
    /// Tokens of the prompt.
    pub prompt: u64,
    /// Those of them that came from the cache.
    pub cached: u64,
}

impl CacheUsage {
    /// Checks what the service reported. Nothing follows from numbers that are missing or contradict each other.
    pub fn checked(prompt: Option<u64>, cached: Option<u64>) -> Option<Self> {
        let (prompt, cached) = (prompt?, cached?);
        (prompt > 0 && cached <= prompt).then_some(Self { prompt, cached })
    }
}

/// A verdict, and what was read again although it need not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What became of the request.
    pub verdict: Verdict,
    /// What changed.
    pub change: Option<Change>,
    /// Tokens that were read again.
    pub read_again: u64,
}

/// What a request should find in the cache.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expectation {
    /// Tokens that should come from the cache.
    pub predicted: u64,
    /// The same if no cache ever expired.
    pub reachable: u64,
    /// Whole elements that the reachable prefix has, where it ends between two.
    pub(super) boundary: Option<usize>,
    /// How the prompt follows the one before.
    pub(super) step: Option<ChainStep>,
    /// Another model or account was asked before.
    pub(super) is_other_scope: Option<bool>,
    /// Tokens of the prompt before.
    pub(super) before: u64,
    /// When the prefix was sent last.
    pub(super) sent_at: Option<i64>,
}

impl Expectation {
    /// Makes the expectation of a request that was stored.
    pub fn stored(predicted: u64) -> Self {
        Self { predicted, ..Self::default() }
    }
}

/// Decides what became of a request that was sent `at`, in milliseconds since 1970.
pub fn judge(
    expected: &Expectation,
    is_rewritten: bool,
    at: i64,
    usage: Option<CacheUsage>,
    lifetime_ms: Option<i64>,
) -> Judgement {
    let plain = |verdict| Judgement { verdict, change: None, read_again: 0 };
    let Some(CacheUsage { prompt, cached }) = usage else { return plain(Verdict::Unknown) };
    if let Some(is_model) = expected.is_other_scope {
        return plain(if is_model { Verdict::Model } else { Verdict::Unknown });
    }
    // A prompt of which less than a block is missing lost nothing.
    let missed = |wanted: u64| cached.saturating_add(BLOCK_TOKENS) < wanted;
    let idle = expected.sent_at.is_some_and(|sent| at - sent > lifetime_ms.unwrap_or(LEAST_LIFETIME_MS));
    let wanted = expected.before.min(prompt);
    match &expected.step {
        Some(ChainStep::Changed(change)) => {
            if idle && missed(expected.reachable) {
                return plain(Verdict::Idle);
            }
            let mut change = change.clone();
            if is_rewritten && matches!(change.cause, ChangeCause::MessageEdited | ChangeCause::SystemText) {
                change.cause = ChangeCause::Hook;
            }
            // Compacting is meant to replace the beginning.
            let read_again = if change.cause == ChangeCause::Compaction { 0 } else { wanted.saturating_sub(cached) };
            Judgement { verdict: Verdict::Changed, change: Some(change), read_again }
        }
        _ if missed(expected.reachable) && idle => plain(Verdict::Idle),
        _ if missed(expected.reachable) => {
            Judgement { verdict: Verdict::Evicted, change: None, read_again: expected.reachable - cached }
        }
        Some(ChainStep::Shortened) => plain(Verdict::Shortened),
        _ => plain(Verdict::Grew),
    }
}
