//! The request for a turn, as JavaScript passes it.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::chat::request::response_format::ResponseFormat;
use crate::chat::request::thinking::LevelMap;
use crate::client::ExtraHeaders;
use crate::config::{OnExhausted, RequestAddresses, RetryPolicy};
use crate::http::user_agent::Host;
use crate::models::{Compat, ModelFacts, Prices};
use crate::plan::Priority;

/// One turn. Its context crosses separately, as JSON text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRequest {
    /// Environment variables as JavaScript sees them now.
    #[serde(default)]
    pub environment: HashMap<String, String>,
    /// The program that loaded the addon.
    #[serde(default)]
    pub host: Host,
    /// Pi's model entry.
    pub model: TurnModel,
    /// Pi's stream options.
    #[serde(default)]
    pub options: TurnOptions,
    /// JavaScript wants to see the body before it is sent.
    #[serde(default)]
    pub payload_hook: bool,
    /// JavaScript wants every note, also those that this process has shown before.
    #[serde(default)]
    pub repeat_notes: bool,
    /// JavaScript wants the raw events of the service as well.
    #[serde(default)]
    pub raw_events: bool,
}

impl TurnRequest {
    /// Returns the headers that the caller adds to every request of the turn.
    pub fn extra_headers(&self) -> ExtraHeaders {
        self.options.headers.iter().flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Whether the caller's headers authorize the request in place of our credential.
    pub fn has_own_authorization(&self) -> bool {
        self.options.headers.iter().flatten().any(|(name, _)| name.eq_ignore_ascii_case("authorization"))
    }
}

/// The members of Pi's model entry that a request depends on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnModel {
    /// Pi's id, and the wire id.
    pub id: String,
    /// Dialect of the model according to the model list.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Where the service is, unless the user names another address.
    #[serde(flatten)]
    pub addresses: RequestAddresses,
    /// Whether it can think.
    #[serde(default)]
    pub reasoning: bool,
    /// Effort of each thinking level.
    #[serde(default)]
    pub thinking_level_map: Option<LevelMap>,
    /// `text`, `image`, `video`.
    #[serde(default)]
    pub input: Vec<String>,
    /// Tokens of prompt and answer together.
    #[serde(default)]
    pub context_window: u64,
    /// USD per million tokens.
    #[serde(default)]
    pub cost: Prices,
    /// Optional features of the service that it supports.
    #[serde(default)]
    pub compat: Option<Compat>,
    /// Members of the body that were configured for this model.
    #[serde(default)]
    pub sampling_params: Option<Map<String, Value>>,
}

impl TurnModel {
    /// Returns what Pi's entry says about the model.
    pub fn facts(&self) -> ModelFacts {
        ModelFacts {
            context_window: self.context_window,
            thinking: (self.reasoning, self.thinking_level_map.clone()),
            images: self.input.iter().any(|input| input == "image"),
            protocol: self.protocol.clone(),
            compat: self.compat.unwrap_or_default(),
            prices: self.cost,
            videos: None,
        }
    }

    /// Whether a model that the list does not have takes videos. Pi's entries cannot say so, and nearly all models that take images
    /// take videos as well (docs/protocol.md#media-types).
    pub fn takes_videos(&self) -> bool {
        self.input.iter().any(|input| matches!(input.as_str(), "image" | "video"))
    }
}

impl TurnOptions {
    /// Applies this request's own limits to `policy`. Pi passes `maxRetries` only where its setting
    /// `retry.provider.maxRetries` is set (docs/pi-contract.md#stream-options).
    pub fn retry(&self, policy: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            // The cast saturates.
            attempts: self.max_retries.map_or(policy.attempts, |retries| (retries as u32).saturating_add(1)),
            max_delay: self.max_retry_delay_ms.map_or(policy.max_delay, Duration::from_millis),
            ..policy
        }
    }
}

/// The members of Pi's stream options that we understand (docs/pi-contract.md#stream-options).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TurnOptions {
    /// Credential chosen by Pi or the caller.
    pub api_key: Option<String>,
    /// Header → value; null suppresses.
    pub headers: Option<HashMap<String, Option<String>>>,
    /// Thinking level; absent turns thinking off.
    pub reasoning: Option<String>,
    /// Output cap in tokens.
    pub max_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Texts at which the answer ends.
    pub stop: Vec<String>,
    /// The form of the answer.
    pub response_format: ResponseFormat,
    /// Key for the service's prompt cache.
    pub session_id: Option<String>,
    /// `none` suppresses the key.
    pub cache_retention: Option<String>,
    /// Pi's idle limit in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Requests after the first one; absent unless configured.
    pub max_retries: Option<f64>,
    /// Longest wait that the service may ask for, in milliseconds.
    pub max_retry_delay_ms: Option<u64>,
    /// What to do at the end of a quota window, instead of the setting.
    pub on_quota: Option<OnExhausted>,
    /// JavaScript can put questions to the user.
    pub can_ask: bool,
    /// Which requests go first where the plan allows no more at once.
    pub priority: Priority,
    /// Which tools the model may call, in the spelling of either dialect.
    pub tool_choice: Option<Value>,
    /// Merged into the body last.
    pub sampling_params: Option<Map<String, Value>>,
}
