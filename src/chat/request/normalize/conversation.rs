//! What repair makes of a transcript, and what the encoders write.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::Value;

use super::is_signature;
use crate::chat::request::tool_schema::WireTool;
use crate::chat::request::transcript::Part;
use crate::files::MediaRef;

/// An acceptable conversation, not yet in any dialect.
#[derive(Debug, Default)]
pub struct Conversation<'a> {
    /// Tools for the top level of the body.
    pub tools: Vec<WireTool<'a>>,
    /// Turns in order.
    pub turns: Vec<Item<'a>>,
    /// Tool names that had to be changed: name on the wire → Pi's name.
    pub renamed: HashMap<String, String>,
    /// What the person should know about changes that cost meaning, one sentence each.
    pub notes: Vec<String>,
    /// Estimate of the prompt in tokens: the last reported total plus a quarter of the characters since.
    pub estimated_tokens: u64,
    /// About as long as a body gets, in bytes: room for it is made at once, because growing would double it.
    pub body_bytes: usize,
}

impl<'a> Conversation<'a> {
    /// The images and videos, in order.
    pub fn insets_mut(&mut self) -> impl Iterator<Item = &mut MediaRef> + use<'_, 'a> {
        let parts = self.turns.iter_mut().flat_map(|turn| match turn {
            Item::User(parts) | Item::ToolResult { parts, .. } => parts.as_mut_slice(),
            _ => &mut [],
        });
        parts.filter_map(|part| if let Part::MediaRef(inset) = part { Some(inset) } else { None })
    }
}

/// One message of the request.
#[derive(Debug)]
pub enum Item<'a> {
    /// Instructions; never blank.
    System(Cow<'a, str>),
    /// Tools that join here; never empty.
    Tools(Vec<WireTool<'a>>),
    /// The person; never empty.
    User(Vec<Part<'a>>),
    /// An earlier answer; has something in it.
    Assistant(AssistantItem<'a>),
    /// Result of the call with this id; follows its call directly.
    ToolResult {
        /// The id that the call was given in this request.
        call_id: String,
        /// May be empty.
        parts: Vec<Part<'a>>,
        /// The tool failed.
        is_error: bool,
    },
}

/// An earlier answer.
#[derive(Debug, Default)]
pub struct AssistantItem<'a> {
    /// In the order they came in.
    pub blocks: Vec<AssistantBlock<'a>>,
}

/// A piece of an earlier answer.
#[derive(Debug)]
pub enum AssistantBlock<'a> {
    /// Never blank.
    Text(Cow<'a, str>),
    /// Reasoning to be replayed.
    Thinking {
        /// May be blank: "reasoned, but empty" is not the same as no reasoning.
        text: Cow<'a, str>,
        /// Field name or signature it came with.
        signature: Cow<'a, str>,
        /// Entries for `reasoning_details`, without their index (docs/protocol.md#reasoning-details).
        details: Vec<Value>,
    },
    /// Encrypted reasoning of the Anthropic dialect.
    Redacted(Cow<'a, str>),
    /// A tool call.
    Call {
        /// Unique in the request, at most 64 safe characters.
        id: String,
        /// Name on the wire.
        name: String,
        /// A JSON object as text.
        arguments: Cow<'a, str>,
    },
}

impl AssistantItem<'_> {
    /// Whether it calls tools.
    pub fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, AssistantBlock::Call { .. }))
    }

    /// An answer of blank reasoning alone is none; the service calls it empty. Where signatures count, a signed one is some.
    pub(super) fn is_empty(&self, signatures: bool) -> bool {
        self.blocks.iter().all(|block| {
            matches!(block, AssistantBlock::Thinking { text, signature, .. }
                if text.trim().is_empty() && !(signatures && is_signature(signature)))
        })
    }
}
