//! A model entry in the form that Pi registers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Prices in USD per million tokens. They are informational: the plan bills by quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Prices {
    /// Prompt tokens that were not cached.
    pub input: f64,
    /// Answer tokens.
    pub output: f64,
    /// Prompt tokens read from the cache.
    pub cache_read: f64,
    /// Prompt tokens written to the cache.
    pub cache_write: f64,
}

/// A model entry without the fields that name the provider.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Id in Pi and on the wire.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Whether the model can think.
    pub reasoning: bool,
    /// Thinking level → wire effort; null hides the level.
    pub thinking_level_map: Map<String, Value>,
    /// `text`, `image`.
    pub input: Vec<&'static str>,
    /// Prices.
    pub cost: Prices,
    /// Tokens of prompt and answer together.
    pub context_window: u64,
    /// Longest answer in tokens.
    pub max_tokens: u64,
    /// Dialect, where the service names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Whether the model takes videos.
    pub video: bool,
    /// How long the service keeps a prompt of this model in its cache, in seconds, where it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_duration: Option<u64>,
    /// Fewest tokens of a prompt for which a hint about its cache is worthwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_tokens_to_hint: Option<u64>,
    /// What Pi's cache warmer needs to know; absent, it does nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_cache: Option<PromptCacheLifetime>,
    /// Pi's compatibility flags.
    pub compat: Compat,
}

/// How long prompts stay in the cache, under Pi's names. The service has one lifetime for every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PromptCacheLifetime {
    /// Seconds, for `PI_CACHE_RETENTION=short` and unset.
    pub short: u64,
    /// Seconds, for `long`.
    pub long: u64,
}

/// Abilities beyond the ordinary, under Pi's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compat {
    /// Tools that join a conversation stay where they joined: the list's `supports_dynamic_tools`.
    pub supports_mid_convo_tool_additions: bool,
}

/// Returns the name for the model picker, where a fast model says what it costs (docs/protocol.md#known-models).
pub fn picker_name(id: &str, name: &str) -> String {
    if is_fast(id) || is_fast(name) { format!("{name} (3× quota)") } else { name.to_owned() }
}

/// Returns whether an id or name says that the model is a fast one.
pub fn is_fast(text: &str) -> bool {
    let text: String = text.to_ascii_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    text.contains("highspeed")
}
