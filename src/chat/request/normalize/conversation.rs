//! The normalized conversation, which the encoders write.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::is_signature;
use super::media::is_video;
use crate::chat::request::tool_schema::{ArgumentNames, WireTool};
use crate::chat::request::transcript::Part;
use crate::files::MediaRef;

/// A conversation that the service accepts, in neither dialect yet.
#[derive(Debug, Default)]
pub struct Conversation<'a> {
    /// Tools for the top level of the body.
    pub tools: Vec<WireTool<'a>>,
    /// Messages in order.
    pub turns: Vec<Item<'a>>,
    /// Tool names that differ on the wire: wire name → Pi's name.
    pub renamed: HashMap<String, String>,
    /// Tools with arguments that have another name on the wire, by the tool's wire name.
    pub argument_names: HashMap<String, Arc<ArgumentNames>>,
    /// Notes for the user about changes that lose meaning, one sentence each.
    pub notes: Vec<String>,
    /// Estimated tokens of the prompt: the last reported total plus a quarter of the characters since.
    pub estimated_tokens: u64,
    /// Expected length of the body in bytes. The buffer is allocated at once, because growing it would double it.
    pub body_bytes: usize,
}

impl<'a> Conversation<'a> {
    /// Iterates over the images and videos in order.
    pub fn media_refs_mut(&mut self) -> impl Iterator<Item = &mut MediaRef> + use<'_, 'a> {
        let parts = self.turns.iter_mut().flat_map(|turn| match turn {
            Item::User(parts) | Item::ToolResult { parts, .. } => parts.as_mut_slice(),
            _ => &mut [],
        });
        parts.filter_map(|part| if let Part::MediaRef(media) = part { Some(media) } else { None })
    }

    /// Whether a video is sent.
    pub fn has_videos(&self) -> bool {
        self.turns.iter().any(|turn| match turn {
            Item::User(parts) | Item::ToolResult { parts, .. } => parts.iter().any(is_video),
            _ => false,
        })
    }
}

/// One message of the request.
#[derive(Debug)]
pub enum Item<'a> {
    /// Instructions; never blank.
    System(Cow<'a, str>),
    /// Tools that become available here; never empty.
    Tools(Vec<WireTool<'a>>),
    /// The user; never empty.
    User(Vec<Part<'a>>),
    /// An earlier answer; never empty.
    Assistant(AssistantItem<'a>),
    /// The result of a call; follows the call directly.
    ToolResult {
        /// The call's id in this request.
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

/// A block of an earlier answer.
#[derive(Debug)]
pub enum AssistantBlock<'a> {
    /// Never blank.
    Text(Cow<'a, str>),
    /// Reasoning that is replayed.
    Thinking {
        /// May be blank: empty reasoning differs from none.
        text: Cow<'a, str>,
        /// The field name or signature it came with.
        signature: Cow<'a, str>,
        /// Entries of `reasoning_details`, without their index (docs/protocol.md#reasoning-details).
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
    /// Returns whether the answer calls tools.
    pub fn has_calls(&self) -> bool {
        self.blocks.iter().any(|block| matches!(block, AssistantBlock::Call { .. }))
    }

    /// Returns whether the answer holds blank reasoning only, which the service refuses as empty. With `signatures`, signed
    /// reasoning counts as content.
    pub(super) fn is_empty(&self, signatures: bool) -> bool {
        self.blocks.iter().all(|block| {
            matches!(block, AssistantBlock::Thinking { text, signature, .. }
                if text.trim().is_empty() && !(signatures && is_signature(signature)))
        })
    }
}
