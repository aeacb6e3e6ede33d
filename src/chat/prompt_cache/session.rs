//! The last requests of a session: what the next one should find in the cache.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;

use super::BLOCK_TOKENS;
use super::chain::{Chain, Size};
use super::chain_diff::{ChainStep, Change, ChangeCause, Common, step};
use super::tokens::MEDIA_TOKENS;
use super::verdict::{CacheUsage, Expectation, Judgement, Verdict, judge};

/// Requests that are kept of a session.
pub const MAX_REQUESTS: usize = 50;

/// Requests of the session that are looked at to find the one before; others in between are side questions.
const LOOK_BACK: usize = 8;

/// Whose cache a request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheScope {
    /// Hash of account and service.
    pub account: u64,
    /// Hash of the model's id.
    pub model: u64,
}

impl CacheScope {
    /// The cache of a model for an account.
    pub fn new(account: &str, model: &str) -> Self {
        Self { account: Self::hash(account), model: Self::hash(model) }
    }

    /// The hash of a name.
    pub fn hash(name: &str) -> u64 {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(name.as_bytes());
        hasher.finish()
    }
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Number within the process; 0 where it was read from disk.
    pub id: u64,
    /// When it was sent, in milliseconds since 1970.
    pub at: i64,
    /// Whose cache it reads.
    pub scope: CacheScope,
    /// The model's id; absent where the request was read from disk.
    pub model: Option<Box<str>>,
    /// Its prompt.
    pub chain: Arc<Chain>,
    /// A payload hook changed it.
    pub is_rewritten: bool,
    /// What its usage said.
    pub usage: Option<CacheUsage>,
    /// What was expected of it.
    pub expected: Expectation,
    /// What became of it.
    pub verdict: Verdict,
    /// What changed, where something did.
    pub change: Option<Change>,
}

/// The requests of one session.
#[derive(Debug, Clone, Default)]
pub struct Session {
    /// The oldest first.
    pub requests: VecDeque<Request>,
    /// Since when each element of the newest chain has been at its place, in milliseconds since 1970.
    pub since: Vec<i64>,
    /// What was told already.
    told: HashSet<(Verdict, ChangeCause, Option<Box<str>>)>,
}

impl Session {
    /// Makes a session from what was stored.
    pub fn restored(requests: VecDeque<Request>, since: Vec<i64>) -> Self {
        Self { requests, since, told: HashSet::new() }
    }

    /// The chain of the newest request.
    pub fn newest(&self) -> Option<&Arc<Chain>> {
        self.requests.back().map(|request| &request.chain)
    }

    /// Adds a request that is about to be sent.
    pub fn add(&mut self, request: Request) {
        let shared = self.newest().map_or(0, |before| request.chain.shared(before));
        self.since.truncate(shared);
        self.since.resize(request.chain.elements.len(), request.at);
        self.requests.push_back(request);
        if self.requests.len() > MAX_REQUESTS {
            self.requests.pop_front();
        }
    }

    /// Removes a request that the service did not answer.
    pub fn remove(&mut self, id: u64) {
        self.requests.retain(|request| request.id != id);
    }

    /// Finishes a request. `usage` is what the service reported, if that can be believed.
    pub fn finish(&mut self, id: u64, usage: Option<CacheUsage>, lifetime_ms: Option<i64>) -> Option<Judgement> {
        let request = self.requests.iter_mut().find(|request| request.id == id)?;
        let judgement = judge(&request.expected, request.is_rewritten, request.at, usage, lifetime_ms);
        request.usage = usage;
        request.verdict = judgement.verdict;
        request.change.clone_from(&judgement.change);
        Some(judgement)
    }

    /// Whether this has not been told in the session yet.
    pub fn is_news(&mut self, judgement: &Judgement) -> bool {
        let change = judgement.change.as_ref();
        let cause = change.map_or(ChangeCause::None, |change| change.cause);
        self.told.insert((judgement.verdict, cause, change.and_then(|change| change.name.clone())))
    }

    /// Returns what a request with this prompt should find. `others` are the other sessions of the process.
    pub fn expect<'s>(
        &self,
        others: impl Iterator<Item = &'s Self>,
        chain: &Chain,
        scope: CacheScope,
        at: i64,
        lifetime_ms: Option<i64>,
    ) -> Expectation {
        let before = self.before(chain);
        let mut expected = Expectation::default();
        let mut best: Option<(&Request, Common)> = None;
        if let Some((before, common)) = before {
            expected.step = Some(step(chain, &before.chain, &common));
            expected.before = before.usage.map_or(before.chain.size().tokens(), |usage| usage.prompt);
            if before.scope != scope {
                expected.is_other_scope = Some(before.scope.model != scope.model);
            } else {
                best = Some((before, common));
            }
        }
        let mut everywhere: Vec<&Request> = self.in_scope(scope).collect();
        // A conversation that goes on needs no other one.
        if !best.is_some_and(|(_, common)| common.is_whole_old) {
            everywhere.extend(others.flat_map(|session| session.in_scope(scope)));
            for request in &everywhere {
                let common = Common::of(chain, &request.chain);
                let better = best.is_none_or(|(other, most)| {
                    (common.size.tokens(), common.is_whole_old, request.at)
                        > (most.size.tokens(), most.is_whole_old, other.at)
                });
                if better && common.size.text > 0 {
                    best = Some((request, common));
                }
            }
            if expected.step != Some(ChainStep::Grew)
                && let Some((_, common)) = best
                && common.is_whole_old
                && expected.is_other_scope.is_none()
            {
                // It is the continuation of an earlier prompt, whatever came in between.
                expected.step = Some(ChainStep::Grew);
            }
        }
        let Some((base, common)) = best else { return expected };
        expected.sent_at = everywhere
            .iter()
            .filter(|request| request.chain.shared(&base.chain) >= common.elements)
            .map(|request| request.at)
            .max();
        let tokens = position(&everywhere, &base.chain, &common);
        expected.reachable = match (common.is_whole_old && common.is_whole_new, tokens) {
            (true, tokens) => tokens,
            (false, tokens) => tokens / BLOCK_TOKENS * BLOCK_TOKENS,
        };
        expected.boundary = (common.parts == 0 && common.bytes == 0).then_some(common.elements);
        let expired = expected.sent_at.zip(lifetime_ms).is_some_and(|(sent, lifetime)| at - sent > lifetime);
        expected.predicted = if expired { 0 } else { expected.reachable };
        expected
    }

    fn in_scope(&self, scope: CacheScope) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.scope == scope)
    }

    /// The request of this session that this prompt follows.
    fn before(&self, chain: &Chain) -> Option<(&Request, Common)> {
        let recent = self.requests.iter().rev().take(LOOK_BACK);
        recent
            .map(|request| (request, Common::of(chain, &request.chain)))
            .find(|(request, common)| step(chain, &request.chain, common) != ChainStep::Unrelated)
    }
}

/// Tokens up to the end of what two prompts share. Prompts whose tokens the service has counted are exact marks on the way; between
/// two of them the estimate is scaled.
fn position(requests: &[&Request], base: &Chain, common: &Common) -> u64 {
    let mut marks = BTreeMap::from([(0, 0)]);
    for request in requests {
        let Some(usage) = request.usage else { continue };
        let length = request.chain.elements.len();
        let is_mark = |elements: usize| {
            let prefix = elements.checked_sub(1).and_then(|last| base.prefixes.get(last));
            prefix.is_some() && prefix == request.chain.prefixes.get(elements - 1)
        };
        // The prefix that an earlier request found ended somewhere in the block behind what was cached.
        let boundary = request.expected.boundary.filter(|elements| {
            *elements < length
                && usage.cached > 0
                && usage.cached.is_multiple_of(BLOCK_TOKENS)
                && usage.cached.abs_diff(request.expected.reachable) <= 2 * BLOCK_TOKENS
        });
        if let Some(elements) = boundary.filter(|elements| is_mark(*elements)) {
            marks.entry(elements).or_insert(usage.cached + BLOCK_TOKENS / 2);
        }
        if is_mark(length) {
            marks.insert(length, usage.prompt);
        }
    }
    let spans: Vec<Span> = marks
        .iter()
        .zip(marks.iter().skip(1))
        .map(|((from, least), (to, most))| Span {
            from: *from,
            tokens: most.saturating_sub(*least),
            size: base.sum(*to).without(base.sum(*from)),
        })
        .collect();
    let (from, tokens) = marks.range(..=common.elements).next_back().map_or((0, 0), |(at, tokens)| (*at, *tokens));
    let rest = common.size.without(base.sum(from));
    let scale = scale(&spans, requests);
    let span = spans.iter().find(|span| span.from == from);
    let (text, media) = match span {
        Some(span) if span.size.media == 0 => (span.tokens as f64 / span.size.text.max(1) as f64, MEDIA_TOKENS as f64),
        // What the text does not explain is the images'.
        Some(span) => {
            let text = scale.unwrap_or(span.tokens as f64 / span.size.tokens().max(1) as f64);
            (text, (span.tokens as f64 - text * span.size.text as f64).max(0.0) / span.size.media as f64)
        }
        None => (scale.unwrap_or(1.0), MEDIA_TOKENS as f64),
    };
    tokens + (rest.text as f64 * text + rest.media as f64 * media).round() as u64
}

/// What lies between two prompts whose tokens are known.
struct Span {
    /// Elements before it.
    from: usize,
    tokens: u64,
    size: Size,
}

/// Tokens for each estimated one of text: from all spans without images, else from any prompt.
fn scale(spans: &[Span], requests: &[&Request]) -> Option<f64> {
    let plain = spans.iter().filter(|span| span.size.media == 0);
    let (tokens, text) = plain.fold((0, 0), |(tokens, text), span| (tokens + span.tokens, text + span.size.text));
    if text > 0 {
        return Some(tokens as f64 / text as f64);
    }
    let usage = requests.iter().rev().find_map(|request| Some((request.usage?.prompt, request.chain.size().tokens())));
    usage.filter(|(_, estimated)| *estimated > 0).map(|(prompt, estimated)| prompt as f64 / estimated as f64)
}
