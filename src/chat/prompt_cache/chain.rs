//! A chain of hashes over a finished body: one for the system prompt, each tool and each message, in the order in which the service
//! compares them.
//!
//! A conversation is sent again and again with a little more at its end. So what the chain before has is not read again: its
//! lengths say where each value must end, and one hash over those bytes says whether it is still the same.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::FixedState;
use memchr::memmem;

use super::scan::{Values, member, string, value_end};
use super::tokens::{MEDIA_TOKENS, estimate};

/// Bytes that one hash inside a part covers.
pub const BLOCK_BYTES: usize = 512;

/// Tokens of the marks around a message or tool.
const FRAME_TOKENS: u32 = 4;

/// Longest name that is kept, in bytes.
const MAX_NAME: usize = 128;

/// What an element of a chain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ElementKind {
    /// The system prompt.
    System = 0,
    /// A tool at the head of the prompt.
    Tool = 1,
    /// A message.
    Message = 2,
}

/// What a part of an element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PartKind {
    /// Text of any kind.
    Text = 0,
    /// An image or video: the id of an uploaded one, or its data.
    Media = 1,
    /// The line of the system prompt that has the date.
    Date = 2,
    /// The system prompt's section with `AGENTS.md` and other files of the project.
    ProjectFiles = 3,
    /// The system prompt's section with the working directory.
    Folder = 4,
    /// The system prompt's section with the skills.
    Skills = 5,
    /// The system prompt's section about the tools.
    Tools = 6,
    /// The summary that a compaction leaves.
    Summary = 7,
}

impl PartKind {
    const ALL: [Self; 8] = [
        Self::Text,
        Self::Media,
        Self::Date,
        Self::ProjectFiles,
        Self::Folder,
        Self::Skills,
        Self::Tools,
        Self::Summary,
    ];

    /// Reads the number that is stored.
    pub fn of(number: u64) -> Self {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number).unwrap_or(Self::Text)
    }
}

/// A piece of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashedBlock {
    /// Hash of its bytes.
    pub hash: u32,
    /// Estimated tokens.
    pub tokens: u16,
}

/// A part of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementPart {
    /// What it is.
    pub kind: PartKind,
    /// Hash of its bytes.
    pub hash: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Estimated tokens.
    pub tokens: u32,
    /// Hashes of its pieces, of [`BLOCK_BYTES`] each.
    pub blocks: Box<[HashedBlock]>,
}

/// The system prompt, a tool or a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// What it is.
    pub kind: ElementKind,
    /// Name of a tool, role of a message; empty where it was read from disk.
    pub name: Box<str>,
    /// Hash of the name.
    pub name_hash: u64,
    /// Hash of its bytes, cache marks left out.
    pub hash: u64,
    /// Length in bytes, cache marks left out.
    pub bytes: u64,
    /// Estimated tokens of its text.
    pub tokens: u32,
    /// Its parts.
    pub parts: Box<[ElementPart]>,
}

impl Element {
    /// Number of its images and videos.
    pub fn media(&self) -> u64 {
        self.parts.iter().filter(|part| part.kind == PartKind::Media).count() as u64
    }
}

/// The size of a piece of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Estimated tokens of its text.
    pub text: u64,
    /// Number of its images and videos.
    pub media: u64,
}

impl Size {
    /// Estimated tokens.
    pub fn tokens(self) -> u64 {
        self.text + self.media * MEDIA_TOKENS
    }

    /// What is left without the beginning.
    pub fn without(self, beginning: Self) -> Self {
        Self { text: self.text.saturating_sub(beginning.text), media: self.media.saturating_sub(beginning.media) }
    }
}

/// A body as a chain.
#[derive(Debug, Clone, Default)]
pub struct Chain {
    /// System prompt, tools, messages.
    pub elements: Vec<Arc<Element>>,
    /// Hash over the elements up to each one.
    pub prefixes: Vec<u64>,
    /// Size of the elements up to each one.
    pub sums: Vec<Size>,
}

impl Chain {
    /// Reads a body of either dialect. `seed` is the same for all chains that are compared.
    pub fn read(body: &[u8], known: &Self, seed: u64) -> Self {
        let reader = Reader { text: body, hasher: FixedState::with_seed(seed) };
        let (mut system, mut tools, mut messages) = (Vec::new(), Vec::new(), Vec::new());
        let (head, rest) = known.elements.split_at(known.head());
        let (known_system, known_tools) =
            head.split_at(head.iter().take_while(|one| one.kind == ElementKind::System).count());
        let mut members = Values::new(body, 0);
        // The arrays are read in steps, so the end of each is known without a second look at it.
        while let Some(at) = members.at() {
            let Some((key, start)) = reader.key(at) else { break };
            let end = match key {
                b"system" => {
                    let end = value_end(body, start);
                    system.extend(end.map(|end| reader.element(start..end, ElementKind::System, known_system.first())));
                    end
                }
                b"tools" => reader.list(start, |_| ElementKind::Tool, &[known_tools], &mut tools),
                b"messages" => {
                    let kind = |role: &[u8]| if role == b"system" { ElementKind::System } else { ElementKind::Message };
                    reader.list(start, kind, &[known_system, rest], &mut messages)
                }
                _ => value_end(body, start),
            };
            if !end.is_some_and(|end| members.advance(end)) {
                break;
            }
        }
        // Only the first message is the system prompt; later ones keep their place.
        if messages.first().is_some_and(|first: &Arc<Element>| first.kind == ElementKind::System) {
            system.push(messages.remove(0));
        }
        let later = messages.into_iter().map(|message| match message.kind {
            ElementKind::System => Arc::new(Element { kind: ElementKind::Message, ..Element::clone(&message) }),
            _ => message,
        });
        Self::of(system.into_iter().chain(tools).chain(later).collect())
    }

    /// Builds a chain from its elements.
    pub fn of(elements: Vec<Arc<Element>>) -> Self {
        let (mut prefix, mut sum) = (0_u64, Size::default());
        let (mut prefixes, mut sums) = (Vec::with_capacity(elements.len()), Vec::with_capacity(elements.len()));
        for element in &elements {
            let mut hasher = FixedState::with_seed(prefix).build_hasher();
            hasher.write_u64(element.hash);
            hasher.write_u8(element.kind as u8);
            prefix = hasher.finish();
            sum.text += u64::from(element.tokens);
            sum.media += element.media();
            prefixes.push(prefix);
            sums.push(sum);
        }
        Self { elements, prefixes, sums }
    }

    /// Number of elements in front of the messages.
    pub fn head(&self) -> usize {
        self.elements.iter().take_while(|element| element.kind != ElementKind::Message).count()
    }

    /// Size of the first `count` elements.
    pub fn sum(&self, count: usize) -> Size {
        count.checked_sub(1).and_then(|last| self.sums.get(last)).copied().unwrap_or_default()
    }

    /// Size of all elements.
    pub fn size(&self) -> Size {
        self.sum(self.elements.len())
    }

    /// Number of elements at the beginning that both have.
    pub fn shared(&self, other: &Self) -> usize {
        let most = self.prefixes.len().min(other.prefixes.len());
        let (mut least, mut most) = (0, most);
        while least < most {
            let middle = (least + most).div_ceil(2);
            if self.prefixes[middle - 1] == other.prefixes[middle - 1] {
                least = middle;
            } else {
                most = middle - 1;
            }
        }
        least
    }
}

/// Returns a hash of a whole body.
pub fn fingerprint(body: &[u8]) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(body);
    hasher.finish()
}

/// Reads the elements of a body.
struct Reader<'t> {
    text: &'t [u8],
    hasher: FixedState,
}

impl<'t> Reader<'t> {
    /// Returns the key at `at` and where its value begins.
    fn key(&self, at: usize) -> Option<(&'t [u8], usize)> {
        let end = value_end(self.text, at)?;
        let key = string(self.text, at..end)?;
        let space =
            |at: usize| self.text.get(at..).unwrap_or_default().iter().take_while(|b| b.is_ascii_whitespace()).count();
        let colon = end + space(end);
        (self.text.get(colon) == Some(&b':')).then(|| (key, colon + 1 + space(colon + 1)))
    }

    /// Reads the elements of the array at `at` and returns where it ends. `known` are the elements it had before, in order.
    fn list(
        &self,
        at: usize,
        kind: impl Fn(&[u8]) -> ElementKind,
        known: &[&[Arc<Element>]],
        found: &mut Vec<Arc<Element>>,
    ) -> Option<usize> {
        if self.text.get(at) != Some(&b'[') {
            return value_end(self.text, at);
        }
        let mut values = Values::new(self.text, at);
        let mut last = at + 1;
        let mut known = known.iter().copied().flatten();
        while let Some(start) = values.at() {
            let before = known.next();
            if let Some(same) = before.filter(|before| self.is(start, before))
                && values.advance(start + same.bytes as usize)
            {
                last = start + same.bytes as usize;
                found.push(Arc::clone(same));
                continue;
            }
            let end = value_end(self.text, start)?;
            let role = member(self.text, start, "role").and_then(|role| string(self.text, role)).unwrap_or_default();
            found.push(self.element(start..end, kind(role), before));
            last = end;
            if !values.advance(end) {
                return None;
            }
        }
        let space = self.text.get(last..)?.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        (self.text.get(last + space) == Some(&b']')).then_some(last + space + 1)
    }

    /// Whether the bytes at `start` are those of `element`.
    fn is(&self, start: usize, element: &Element) -> bool {
        let end = start.saturating_add(element.bytes as usize);
        // A value of the same length ends with the same bracket, which costs nothing to look at.
        let ends = end > start && self.text.get(end - 1).is_some_and(|byte| matches!(byte, b'}' | b']' | b'"'));
        ends && self.text.get(start..end).is_some_and(|text| self.hash(text) == element.hash)
    }

    fn hash(&self, text: &[u8]) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(text);
        hasher.finish()
    }

    /// Reads one element, unless it is the one before.
    fn element(&self, range: Range<usize>, kind: ElementKind, before: Option<&Arc<Element>>) -> Arc<Element> {
        let text = without_marks(&self.text[range]);
        let hash = self.hash(&text);
        if let Some(same) = before.filter(|one| one.hash == hash && one.kind == kind && one.bytes == text.len() as u64)
        {
            return Arc::clone(same);
        }
        let name = match kind {
            ElementKind::System => &b"system"[..],
            ElementKind::Tool => tool_name(&text),
            ElementKind::Message => member(&text, 0, "role").and_then(|role| string(&text, role)).unwrap_or_default(),
        };
        let name = &name[..name.len().min(MAX_NAME)];
        let mut parts = Vec::new();
        match kind {
            ElementKind::Tool => parts.push(self.part(PartKind::Text, &text)),
            ElementKind::System if text.first() != Some(&b'{') => self.content(&text, true, &mut parts),
            _ => self.message(&text, kind == ElementKind::System, &mut parts),
        }
        let tokens = parts.iter().map(|part| part.tokens).fold(FRAME_TOKENS, u32::saturating_add);
        Arc::new(Element {
            kind,
            name: String::from_utf8_lossy(name).into(),
            name_hash: self.hash(name),
            hash,
            bytes: text.len() as u64,
            tokens,
            parts: parts.into(),
        })
    }

    /// Reads the parts of a message: its content, then everything else but the role.
    fn message(&self, text: &[u8], is_system: bool, parts: &mut Vec<ElementPart>) {
        for (key, value) in Values::new(text, 0).members() {
            match key {
                b"role" => {}
                b"content" => self.content(&text[value], is_system, parts),
                _ => parts.push(self.part(PartKind::Text, &text[value])),
            }
        }
    }

    /// Reads content: a text, or a list of blocks that may hold further content.
    fn content(&self, text: &[u8], is_system: bool, parts: &mut Vec<ElementPart>) {
        if let Some(inside) = string(text, 0..text.len()) {
            return self.texts(inside, is_system, parts);
        }
        for block in Values::new(text, 0).elements() {
            let block = &text[block];
            let kind = member(block, 0, "type").and_then(|value| string(block, value)).unwrap_or_default();
            match kind {
                b"text" => {
                    let inside = member(block, 0, "text").and_then(|value| string(block, value)).unwrap_or_default();
                    self.texts(inside, is_system, parts);
                }
                b"image" | b"video" | b"image_url" | b"video_url" => parts.push(self.part(PartKind::Media, block)),
                b"tool_result" => {
                    if let Some(content) = member(block, 0, "content") {
                        self.content(&block[content], false, parts);
                    }
                }
                _ => parts.push(self.part(PartKind::Text, block)),
            }
        }
    }

    fn texts(&self, text: &[u8], is_system: bool, parts: &mut Vec<ElementPart>) {
        if is_system {
            parts.extend(sections(text).into_iter().map(|(kind, range)| self.part(kind, &text[range])));
        } else {
            let is_summary = SUMMARIES.iter().any(|begin| text.starts_with(begin));
            parts.push(self.part(if is_summary { PartKind::Summary } else { PartKind::Text }, text));
        }
    }

    fn part(&self, kind: PartKind, text: &[u8]) -> ElementPart {
        let hash = self.hash(text);
        if kind == PartKind::Media {
            return ElementPart { kind, hash, bytes: text.len() as u64, tokens: 0, blocks: Box::default() };
        }
        let blocks: Box<[HashedBlock]> = text
            .chunks(BLOCK_BYTES)
            .map(|chunk| HashedBlock {
                // Half of the hash is enough to tell one block from the next.
                hash: self.hash(chunk) as u32,
                tokens: estimate(chunk).min(u32::from(u16::MAX)) as u16,
            })
            .collect();
        let tokens = blocks.iter().map(|block| u32::from(block.tokens)).fold(0, u32::saturating_add);
        ElementPart { kind, hash, bytes: text.len() as u64, tokens, blocks }
    }
}

/// How Pi's messages begin that stand for a compacted history.
const SUMMARIES: [&[u8]; 1] = [b"The conversation history before this point was compacted into the following summary"];

/// Where sections of Pi's system prompt begin and end, of all supported versions.
const SECTIONS: &[(&[u8], &[u8], PartKind)] = &[
    (b"<project_context>", b"</project_context>", PartKind::ProjectFiles),
    (br"# Project Context\n", br"\nCurrent date", PartKind::ProjectFiles),
    (b"<available_skills>", b"</available_skills>", PartKind::Skills),
    (b"<skills>", b"</skills>", PartKind::Skills),
    (b"<tools>", b"</tools>", PartKind::Tools),
    (br"Available tools:\n", br"\n\n", PartKind::Tools),
    (b"<cwd>", b"</cwd>", PartKind::Folder),
    (b"Current working directory", br"\n", PartKind::Folder),
    (b"Current date", br"\n", PartKind::Date),
    (b"Today's date", br"\n", PartKind::Date),
];

/// Splits a system prompt into its sections and the text between them.
fn sections(text: &[u8]) -> Vec<(PartKind, Range<usize>)> {
    let mut found: Vec<(PartKind, Range<usize>)> = Vec::new();
    for (begin, end, kind) in SECTIONS {
        for at in memmem::find_iter(text, begin) {
            let inside = at + begin.len();
            let length = memmem::find(&text[inside..], end).map_or(text.len() - inside, |length| length + end.len());
            let range = at..inside + length;
            if found.iter().all(|(_, other)| range.end <= other.start || other.end <= range.start) {
                found.push((*kind, range));
            }
        }
    }
    found.sort_by_key(|(_, range)| range.start);
    let mut whole = Vec::with_capacity(found.len() * 2 + 1);
    let mut at = 0;
    for (kind, range) in found {
        if at < range.start {
            whole.push((PartKind::Text, at..range.start));
        }
        at = range.end;
        whole.push((kind, range));
    }
    if at < text.len() || whole.is_empty() {
        whole.push((PartKind::Text, at..text.len()));
    }
    whole
}

fn tool_name(text: &[u8]) -> &[u8] {
    let function = member(text, 0, "function").map_or(0, |function| function.start);
    member(text, function, "name").and_then(|name| string(text, name)).unwrap_or_default()
}

/// Removes `cache_control`, which moves from message to message and makes no difference (docs/protocol.md#prompt-cache).
fn without_marks(text: &[u8]) -> Cow<'_, [u8]> {
    const MARK: &[u8] = b"cache_control";
    if memmem::find(text, MARK).is_none() {
        return Cow::Borrowed(text);
    }
    let mut cuts: Vec<Range<usize>> = Vec::new();
    let mut cut = |at: usize| {
        let marks = Values::new(text, at).members().filter(|(key, _)| *key == MARK).map(|(_, value)| value);
        for value in marks {
            // From the comma in front of the key, or from the key where it comes first.
            let key = memmem::rfind(&text[at..value.start], MARK).map_or(value.start, |found| at + found - 1);
            let comma = text[at..key].iter().rposition(|byte| !byte.is_ascii_whitespace()).map(|found| at + found);
            cuts.push(comma.filter(|comma| text[*comma] == b',').unwrap_or(key)..value.end);
        }
    };
    let blocks = match text.first() {
        Some(b'[') => Some(0),
        _ => {
            cut(0);
            member(text, 0, "content").map(|content| content.start)
        }
    };
    if let Some(blocks) = blocks.filter(|at| text.get(*at) == Some(&b'[')) {
        Values::new(text, blocks).elements().for_each(|block| cut(block.start));
    }
    let mut clean = Vec::with_capacity(text.len());
    let mut at = 0;
    cuts.sort_by_key(|cut| cut.start);
    for range in cuts {
        clean.extend_from_slice(text.get(at..range.start).unwrap_or_default());
        at = at.max(range.end);
    }
    clean.extend_from_slice(text.get(at..).unwrap_or_default());
    Cow::Owned(clean)
}
