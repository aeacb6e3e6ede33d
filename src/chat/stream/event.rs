//! What both dialect decoders produce, in one vocabulary.
//!
//! A [`BlockId`] names one block of the answer from its start to its end. Decoders number blocks in order of appearance and may
//! keep several open at once (parallel tool calls).

use serde_json::Value;

/// Number of a block within one answer.
pub type BlockId = usize;

/// Receives deltas.
pub type Emit<'e> = dyn FnMut(Delta<'_>) + 'e;

/// The smallest change of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Delta<'a> {
    /// Identity of the answer; an empty string leaves what is known.
    Meta {
        /// `chatcmpl-…` or `msg_…`
        id: &'a str,
        /// The model that really ran.
        model: &'a str,
    },
    /// A text block begins.
    TextStart(BlockId),
    /// More text.
    Text(BlockId, &'a str),
    /// A thinking block begins.
    ThinkingStart {
        /// Its number.
        block: BlockId,
        /// Stored as Pi's `thinkingSignature`: the name of the member that held the reasoning, or a signature of the service.
        signature: String,
        /// The service hides the text and sent an opaque payload as signature.
        redacted: bool,
    },
    /// More reasoning. An empty text is meaningful: "reasoned, but empty" (docs/protocol.md#chat-events).
    Thinking(BlockId, &'a str),
    /// All opaque reasoning entries, which have to be replayed (docs/protocol.md#reasoning-details).
    ThinkingDetails(BlockId, Vec<Value>),
    /// A signature that arrived after the thinking text.
    Signature(BlockId, &'a str),
    /// A tool call begins; id and name are final and never empty.
    ToolStart {
        /// Its number.
        block: BlockId,
        /// Given by the service, or generated.
        id: String,
        /// Name of the tool as the service knows it.
        name: &'a str,
    },
    /// More argument text.
    ToolArguments(BlockId, &'a str),
    /// The block is complete.
    End(BlockId),
    /// Token counts so far; later ones replace earlier ones member by member.
    TokenUsage(TokenUsage),
    /// The service's reason for stopping.
    Finish(&'a str),
}

impl Delta<'_> {
    /// Whether this proves that the model is at work, and not only that the connection is alive.
    pub fn is_content(&self) -> bool {
        !matches!(self, Self::Meta { .. } | Self::TokenUsage(_))
    }
}

/// Token counts as the service reports them; absent members are unknown, not zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenUsage {
    /// Prompt tokens that were not read from the cache, where the service counts them so.
    pub input: Option<u64>,
    /// All prompt tokens, where it counts those instead.
    pub prompt: Option<u64>,
    /// Tokens of the answer, reasoning included.
    pub output: Option<u64>,
    /// Prompt tokens read from the cache.
    pub cache_read: Option<u64>,
    /// The same, only where the service said so; a report without it counts as none above.
    pub cache_reported: Option<u64>,
    /// Prompt tokens written to the cache; Kimi never reports any.
    pub cache_write: Option<u64>,
    /// The part of `output` that was reasoning.
    pub reasoning: Option<u64>,
}

impl TokenUsage {
    /// Replaces every member that `newer` knows.
    pub fn update(&mut self, newer: Self) {
        if newer.input.or(newer.prompt).is_some() {
            (self.input, self.prompt) = (newer.input, newer.prompt);
        }
        self.cache_reported = newer.cache_reported.or(self.cache_reported);
        self.output = newer.output.or(self.output);
        self.cache_read = newer.cache_read.or(self.cache_read);
        self.cache_write = newer.cache_write.or(self.cache_write);
        self.reasoning = newer.reasoning.or(self.reasoning);
    }

    /// Returns the prompt tokens that were not read from the cache.
    pub fn uncached(&self) -> Option<u64> {
        let cached = self.cache_read.unwrap_or(0).saturating_add(self.cache_write.unwrap_or(0));
        self.input.or_else(|| self.prompt.map(|prompt| prompt.saturating_sub(cached)))
    }
}
