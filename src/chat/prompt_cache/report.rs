//! What users see: the last requests, the newest prompt as a table, and one sentence where much was read again.

use serde::Serialize;

use super::chain::ElementKind;
use super::chain_diff::{Change, ChangeCause, Place, word};
use super::session::{Request, Session};
use super::tokens::MEDIA_TOKENS;
use super::verdict::{Judgement, Verdict};
use crate::display_text::one_line;

/// Longest name that is shown, in characters.
const MAX_NAME: usize = 64;

/// The records of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The oldest first.
    pub requests: Vec<RequestRow>,
    /// The newest prompt, from its beginning.
    pub segments: Vec<SegmentRow>,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestRow {
    /// When it was sent, in milliseconds since 1970.
    pub at: i64,
    /// The model's id; absent where it is not known any more.
    pub model: Option<String>,
    /// Tokens of the prompt; absent where the service did not say it.
    pub prompt: Option<u64>,
    /// Tokens from the cache; absent where the service did not say it.
    pub cached: Option<u64>,
    /// Tokens that were expected from the cache.
    pub predicted: u64,
    /// What became of it.
    pub verdict: Verdict,
    /// Where the prompt began to differ: `system`, `tool 3`, `message 12 part 1`.
    pub segment: Option<String>,
    /// Bytes of that segment that were the same, rounded down.
    pub offset: Option<u64>,
    /// The likely cause, for users.
    pub cause: Option<String>,
}

/// One system prompt, tool, message or image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SegmentRow {
    /// `system`, `tool`, `message`, `media`.
    pub kind: &'static str,
    /// Number of the tool or message, from 0.
    pub index: usize,
    /// Name of a tool, role of a message; absent where it is not known any more.
    pub name: Option<String>,
    /// Tokens, estimated where the service did not count them.
    pub tokens: u64,
    /// Whether the newest request read all of it from the cache.
    pub cached: bool,
    /// Since when it has been there unchanged, in milliseconds since 1970.
    pub since: Option<i64>,
}

/// Builds the report: the last `last` requests. `models` are the ids that a stored request may have had.
pub fn report(session: &Session, last: usize, models: &[(String, u64)]) -> Report {
    let skip = session.requests.len().saturating_sub(last);
    Report {
        requests: session.requests.iter().skip(skip).map(|request| row(request, models)).collect(),
        segments: session.requests.back().map(|newest| segments(newest, &session.since)).unwrap_or_default(),
    }
}

fn row(request: &Request, models: &[(String, u64)]) -> RequestRow {
    let change = request.change.as_ref();
    let known = || models.iter().find(|(_, hash)| *hash == request.scope.model).map(|(id, _)| id.clone());
    RequestRow {
        at: request.at,
        model: request.model.as_ref().map(|model| model.to_string()).or_else(known),
        prompt: request.usage.map(|usage| usage.prompt),
        cached: request.usage.map(|usage| usage.cached),
        predicted: request.expected.predicted,
        verdict: request.verdict,
        segment: change.map(|change| segment(&change.place)),
        offset: change.map(|change| change.place.offset),
        cause: cause(request.verdict, change),
    }
}

fn segment(place: &Place) -> String {
    match (place.kind, place.part) {
        ("system", 0) => "system".to_owned(),
        ("system", part) => format!("system part {part}"),
        (kind, 0) => format!("{kind} {}", place.index),
        (kind, part) => format!("{kind} {} part {part}", place.index),
    }
}

/// A name that is safe to print: a payload hook may have written anything.
fn shown(name: &str) -> String {
    one_line(name, MAX_NAME)
}

/// The rows of a prompt. The estimates are scaled so that their sum is what the service counted.
fn segments(request: &Request, since: &[i64]) -> Vec<SegmentRow> {
    let chain = &request.chain;
    let estimated = chain.size().tokens();
    let scale = request.usage.filter(|_| estimated > 0).map_or(1.0, |usage| usage.prompt as f64 / estimated as f64);
    let scaled = |tokens: u64| (tokens as f64 * scale).round() as u64;
    let cached = request.usage.map_or(0, |usage| usage.cached);
    // The end of a cached block may lie in a segment that is cached up to it.
    let is_cached = |sum: u64| scaled(sum) <= cached;
    let mut rows = Vec::new();
    let mut numbers = [0_usize; 3];
    let mut before = 0_u64;
    for (at, element) in chain.elements.iter().enumerate() {
        let index = numbers[element.kind as usize];
        numbers[element.kind as usize] += 1;
        let sum = chain.sum(at + 1).tokens();
        let text_end = before + u64::from(element.tokens);
        let row = SegmentRow {
            kind: word(element.kind),
            index,
            name: (!element.name.is_empty() && element.kind != ElementKind::System).then(|| shown(&element.name)),
            tokens: scaled(text_end).saturating_sub(scaled(before)),
            cached: is_cached(sum),
            since: since.get(at).copied().filter(|since| *since > 0),
        };
        let image = SegmentRow { kind: "media", tokens: scaled(MEDIA_TOKENS), ..row.clone() };
        rows.push(row);
        rows.extend((0..element.media()).map(|_| image.clone()));
        before = sum;
    }
    rows
}

/// The likely cause in words. A guess is said as one.
fn cause(verdict: Verdict, change: Option<&Change>) -> Option<String> {
    let Some(Change { place, cause, name }) = change else {
        return match verdict {
            Verdict::Evicted => Some("probably dropped by the service; nothing changed here".to_owned()),
            Verdict::Idle => Some("the cache expired in the pause".to_owned()),
            Verdict::Model => Some("another model has its own cache".to_owned()),
            _ => None,
        };
    };
    let tool = name.as_deref().filter(|name| !name.is_empty());
    let tool = tool.map_or_else(|| "a tool".to_owned(), |name| format!("the tool {}", shown(name)));
    let index = place.index;
    Some(match cause {
        ChangeCause::None => return None,
        ChangeCause::ToolJoined => format!("{tool} joined"),
        ChangeCause::ToolLeft => format!("{tool} left"),
        ChangeCause::ToolChanged => format!("{tool} is described differently"),
        ChangeCause::ToolsReordered => "the tools have another order".to_owned(),
        ChangeCause::Date => "the date in the system prompt changed".to_owned(),
        ChangeCause::ProjectFiles => "AGENTS.md or another project file in the system prompt changed".to_owned(),
        ChangeCause::Folder => "the working directory in the system prompt changed".to_owned(),
        ChangeCause::Skills => "the skills in the system prompt changed".to_owned(),
        ChangeCause::ToolTexts => "the texts about tools in the system prompt changed".to_owned(),
        ChangeCause::SystemText => "the system prompt changed, perhaps by an extension".to_owned(),
        ChangeCause::Compaction => "the conversation was compacted".to_owned(),
        ChangeCause::Media => format!("an image in message {index} has another id or content"),
        ChangeCause::MessageInserted => format!("something was put in before message {index}, perhaps by an extension"),
        ChangeCause::MessageRemoved => format!("message {index} was taken out, perhaps by an extension"),
        ChangeCause::MessageEdited => format!("message {index} was changed, perhaps by an extension's context hook"),
        ChangeCause::Hook => {
            "a payload hook rewrote the request (before_provider_request in Pi, onPayload in programs)".to_owned()
        }
    })
}

/// The sentence about tokens that were read again although they need not have been.
pub fn sentence(judgement: &Judgement) -> String {
    let tokens = (judgement.read_again as f64 / 1000.0).round();
    let cause = cause(judgement.verdict, judgement.change.as_ref()).unwrap_or_else(|| "the prompt changed".to_owned());
    format!("{tokens}k tokens of the prompt were read again: {cause} (/kimi-cache shows more)")
}
