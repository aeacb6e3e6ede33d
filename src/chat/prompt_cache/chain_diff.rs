//! How far two chains agree, and what differs then.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::chain::{BLOCK_BYTES, Chain, Element, ElementKind, PartKind, Size};

/// The beginning that two chains share, from the newer one's point of view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Common {
    /// Whole elements.
    pub elements: usize,
    /// Whole parts of the next element.
    pub parts: usize,
    /// Bytes of the next part, in whole blocks.
    pub bytes: u64,
    /// Size of all this.
    pub size: Size,
    /// The older chain has nothing beyond it.
    pub is_whole_old: bool,
    /// The newer chain has nothing beyond it.
    pub is_whole_new: bool,
}

impl Common {
    /// Compares two chains. A change of the head leaves nothing (docs/protocol.md#prompt-cache).
    pub fn of(new: &Chain, old: &Chain) -> Self {
        let elements = new.shared(old);
        let mut common = Self {
            elements,
            size: new.sum(elements),
            is_whole_old: elements == old.elements.len(),
            is_whole_new: elements == new.elements.len(),
            ..Self::default()
        };
        if let (Some(one), Some(other)) = (new.elements.get(elements), old.elements.get(elements))
            && one.kind == other.kind
            && one.name_hash == other.name_hash
        {
            common.extend(one, other);
            common.is_whole_old = common.parts == other.parts.len() && elements + 1 == old.elements.len();
        }
        if elements < new.head().max(old.head()) {
            common.size = Size::default();
        }
        common
    }

    /// Adds what two different elements have in common.
    fn extend(&mut self, new: &Element, old: &Element) {
        self.parts = new.parts.iter().zip(&old.parts).take_while(|(one, other)| one == other).count();
        for part in &new.parts[..self.parts] {
            self.size.text += u64::from(part.tokens);
            self.size.media += u64::from(part.kind == PartKind::Media);
        }
        let (Some(one), Some(other)) = (new.parts.get(self.parts), old.parts.get(self.parts)) else { return };
        let blocks = one.blocks.iter().zip(&other.blocks).take_while(|(one, other)| one == other);
        let (mut count, mut tokens) = (0, 0);
        for (block, _) in blocks {
            count += 1;
            tokens += u64::from(block.tokens);
        }
        self.bytes = count * BLOCK_BYTES as u64;
        self.size.text += tokens;
    }
}

/// Why a prompt differs from the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ChangeCause {
    /// Nothing is known.
    #[default]
    None = 0,
    /// A tool joined.
    ToolJoined = 1,
    /// A tool left.
    ToolLeft = 2,
    /// A tool is described differently.
    ToolChanged = 3,
    /// The tools have another order.
    ToolsReordered = 4,
    /// The date in the system prompt.
    Date = 5,
    /// Files of the project in the system prompt.
    ProjectFiles = 6,
    /// The working directory.
    Folder = 7,
    /// The skills.
    Skills = 8,
    /// The texts about tools in the system prompt.
    ToolTexts = 9,
    /// Another text of the system prompt.
    SystemText = 10,
    /// The history was compacted.
    Compaction = 11,
    /// An image has another id or content.
    Media = 12,
    /// A message stands between earlier ones.
    MessageInserted = 13,
    /// An earlier message is missing.
    MessageRemoved = 14,
    /// An earlier message has another text.
    MessageEdited = 15,
    /// A payload hook rewrote the request.
    Hook = 16,
}

impl ChangeCause {
    const ALL: [Self; 17] = [
        Self::None,
        Self::ToolJoined,
        Self::ToolLeft,
        Self::ToolChanged,
        Self::ToolsReordered,
        Self::Date,
        Self::ProjectFiles,
        Self::Folder,
        Self::Skills,
        Self::ToolTexts,
        Self::SystemText,
        Self::Compaction,
        Self::Media,
        Self::MessageInserted,
        Self::MessageRemoved,
        Self::MessageEdited,
        Self::Hook,
    ];

    /// Reads the number that is stored.
    pub fn of(number: u64) -> Self {
        Self::ALL.into_iter().find(|cause| *cause as u64 == number).unwrap_or_default()
    }
}

/// Where a prompt begins to differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Place {
    /// `system`, `tool`, `message`.
    pub kind: &'static str,
    /// Number of the tool or message, from 0.
    pub index: usize,
    /// Number of the part, from 0.
    pub part: usize,
    /// Bytes of the part that are the same, rounded down to whole blocks.
    pub offset: u64,
}

/// The word for a kind of element.
pub fn word(kind: ElementKind) -> &'static str {
    match kind {
        ElementKind::System => "system",
        ElementKind::Tool => "tool",
        ElementKind::Message => "message",
    }
}

/// A change in the middle of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where it begins.
    pub place: Place,
    /// Its likely cause.
    pub cause: ChangeCause,
    /// Name of the tool, where it is one.
    pub name: Option<Box<str>>,
}

/// How a prompt follows another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainStep {
    /// It goes on behind it.
    Grew,
    /// It goes on from an earlier place of it: a rewind or a fork.
    Shortened,
    /// It is the same conversation with another beginning or middle.
    Changed(Change),
    /// It is another conversation.
    Unrelated,
}

/// Finds out how `new` follows `old`.
pub fn step(new: &Chain, old: &Chain, common: &Common) -> ChainStep {
    if common.is_whole_old {
        return ChainStep::Grew;
    }
    if common.is_whole_new {
        return ChainStep::Shortened;
    }
    let at = common.elements;
    let (tail, old_tail) = (&new.elements[at..], &old.elements[at..]);
    let goes_on = goes_on(tail, old_tail);
    let has_summary = |elements: &[Arc<Element>]| {
        elements.iter().any(|one| one.parts.iter().any(|part| part.kind == PartKind::Summary))
    };
    let is_compacted = at >= new.head() && has_summary(tail) && !has_summary(old_tail);
    if goes_on || is_compacted {
        let cause = if is_compacted { (ChangeCause::Compaction, None) } else { cause(new, old, common) };
        return ChainStep::Changed(Change { place: place(new, old, common), cause: cause.0, name: cause.1 });
    }
    if at > 0 && at >= new.head().max(old.head()) { ChainStep::Shortened } else { ChainStep::Unrelated }
}

/// Whether the end of the older conversation is in the newer one, or most of it: then something in front of it changed. After a
/// rewind it is not.
fn goes_on(tail: &[Arc<Element>], old_tail: &[Arc<Element>]) -> bool {
    let messages = |elements: &[Arc<Element>]| -> Vec<(u64, u32)> {
        let messages = elements.iter().filter(|one| one.kind == ElementKind::Message);
        messages.map(|one| (one.hash, one.tokens)).collect()
    };
    let present: HashSet<u64> = messages(tail).into_iter().map(|(hash, _)| hash).collect();
    let old = messages(old_tail);
    let whole: u64 = old.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
    let again: u64 = old.iter().filter(|(hash, _)| present.contains(hash)).map(|(_, tokens)| u64::from(*tokens)).sum();
    old.last().is_some_and(|(hash, _)| present.contains(hash)) || (again > 0 && again * 2 >= whole)
}

fn place(new: &Chain, old: &Chain, common: &Common) -> Place {
    let at = common.elements;
    let element = new.elements.get(at);
    let kind = [element, old.elements.get(at)].into_iter().flatten().map(|one| one.kind).min_by_key(|kind| *kind as u8);
    let kind = kind.unwrap_or(ElementKind::Message);
    let before = new.elements[..at].iter().filter(|one| one.kind == kind).count();
    Place { kind: word(kind), index: before, part: common.parts, offset: common.bytes }
}

/// Text between two sections that is no text of its own, in bytes.
const SEPARATOR_BYTES: u64 = 8;

/// The likely cause of a change, and the name of its tool.
fn cause(new: &Chain, old: &Chain, common: &Common) -> (ChangeCause, Option<Box<str>>) {
    let at = common.elements;
    let (one, other) = (new.elements.get(at), old.elements.get(at));
    let is = |kind: ElementKind| [one, other].into_iter().flatten().any(|element| element.kind == kind);
    if is(ElementKind::System) {
        return (system_cause(one, other), None);
    }
    if is(ElementKind::Tool) {
        return tool_cause(new, old, at);
    }
    let (Some(one), Some(other)) = (one, other) else { return (ChangeCause::None, None) };
    let is_media = |element: &Element| element.parts.get(common.parts).is_some_and(|part| part.kind == PartKind::Media);
    if one.name_hash == other.name_hash && is_media(one) && is_media(other) {
        return (ChangeCause::Media, None);
    }
    let has = |elements: &[Arc<Element>], hash: u64| elements.iter().any(|element| element.hash == hash);
    let inserted = has(&new.elements[at + 1..], other.hash);
    let removed = has(&old.elements[at + 1..], one.hash);
    let cause = match (inserted, removed) {
        (true, false) => ChangeCause::MessageInserted,
        (false, true) => ChangeCause::MessageRemoved,
        _ => ChangeCause::MessageEdited,
    };
    (cause, None)
}

fn system_cause(one: Option<&Arc<Element>>, other: Option<&Arc<Element>>) -> ChangeCause {
    let (Some(one), Some(other)) = (one, other) else { return ChangeCause::SystemText };
    let hashes = |element: &Element, kind: PartKind| -> Vec<u64> {
        let parts = element.parts.iter().filter(|part| part.kind == kind && part.bytes > SEPARATOR_BYTES);
        parts.map(|part| part.hash).collect()
    };
    let differs = |kind: PartKind| hashes(one, kind) != hashes(other, kind);
    let causes = [
        (PartKind::Text, ChangeCause::SystemText),
        (PartKind::ProjectFiles, ChangeCause::ProjectFiles),
        (PartKind::Tools, ChangeCause::ToolTexts),
        (PartKind::Skills, ChangeCause::Skills),
        (PartKind::Folder, ChangeCause::Folder),
        (PartKind::Date, ChangeCause::Date),
    ];
    let mut found = causes.into_iter().filter(|(kind, _)| differs(*kind)).map(|(_, cause)| cause);
    found.next().unwrap_or(ChangeCause::SystemText)
}

fn tool_cause(new: &Chain, old: &Chain, at: usize) -> (ChangeCause, Option<Box<str>>) {
    fn tools(chain: &Chain) -> Vec<&Arc<Element>> {
        chain.elements.iter().filter(|element| element.kind == ElementKind::Tool).collect()
    }
    let (new_tools, old_tools) = (tools(new), tools(old));
    let missing = |from: &[&Arc<Element>], other: &[&Arc<Element>]| {
        from.iter().find(|tool| other.iter().all(|one| one.name_hash != tool.name_hash)).map(|tool| tool.name.clone())
    };
    if let Some(name) = missing(&new_tools, &old_tools) {
        return (ChangeCause::ToolJoined, Some(name));
    }
    if let Some(name) = missing(&old_tools, &new_tools) {
        return (ChangeCause::ToolLeft, Some(name));
    }
    let changed = new_tools.iter().find(|tool| old_tools.iter().all(|one| one.hash != tool.hash));
    match changed {
        Some(tool) => (ChangeCause::ToolChanged, Some(tool.name.clone())),
        None => (ChangeCause::ToolsReordered, new.elements.get(at).map(|tool| tool.name.clone())),
    }
}
