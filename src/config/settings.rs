//! The settings as types, after all layers are merged.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::headers::Identity;
use super::keys;
use super::protocol::Dialect;
use super::quota::OnExhausted;
use crate::endpoint::Region;

/// Every setting, resolved. Its JSON is what the file holds, with defaults filled in (see [`super::keys::KEYS`]).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// Dialect of models for which the live list names none.
    #[serde(default)]
    pub protocol: Dialect,
    /// Which public deployment is used.
    #[serde(default)]
    pub region: RegionChoice,
    /// How requests identify their sender.
    #[serde(default)]
    pub identity: Identity,
    /// API base of another deployment.
    #[serde(default)]
    pub base_url: Option<String>,
    /// OAuth host of another deployment.
    #[serde(default)]
    pub oauth_host: Option<String>,
    /// When files are uploaded.
    #[serde(default)]
    pub uploads: Uploads,
    /// Kimi's own tools by name.
    #[serde(default)]
    pub tools: BTreeMap<String, ToolSettings>,
    /// The quota in Pi's footer.
    #[serde(default)]
    pub status_line: bool,
    /// Overrides for all models.
    #[serde(default)]
    pub model: ModelOverrides,
    /// Overrides for one model, by id.
    #[serde(default)]
    pub models: BTreeMap<String, ModelOverrides>,
    /// Timeouts in milliseconds; 0 means no limit.
    #[serde(default)]
    pub limits: AnswerLimits,
    /// Retries.
    #[serde(default)]
    pub retry: RetrySettings,
    /// The end of a quota window.
    #[serde(default)]
    pub quota: Quota,
    /// Requests at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Connections.
    #[serde(default)]
    pub network: Network,
    /// What happens to a model that repeats itself.
    #[serde(default, rename = "loop")]
    pub repeated_calls: RepeatedCalls,
    /// The service's prompt cache.
    #[serde(default)]
    pub cache: PromptCache,
}

/// What is done about the service's prompt cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PromptCache {
    /// More tokens than this, read again though they could have come from the cache, are reported; 0 means never.
    pub notice_tokens: u64,
    /// Who keeps it alive.
    pub keeper: CacheKeeper,
}

/// Who keeps the prompt cache alive while a session pauses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheKeeper {
    /// It expires.
    #[default]
    Off,
    /// Pi's own cache warmer.
    Pi,
}

/// What happens at the end of a quota window.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Quota {
    /// What a request does; unset, it asks where a user can answer and fails elsewhere.
    pub on_exhausted: Option<OnExhausted>,
    /// Longest wait in milliseconds; 0 means no limit.
    pub max_wait_ms: u64,
    /// Window id → percent of it that stay unused.
    pub reserve: BTreeMap<String, f64>,
}

impl Quota {
    /// Returns the longest wait; absent means any.
    pub fn max_wait(&self) -> Option<Duration> {
        limit(self.max_wait_ms)
    }
}

/// How many requests of an account run at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Concurrency {
    /// Requests at once, instead of what the service says.
    pub max: Option<u64>,
    /// Requests that are left to other programs.
    pub reserve: u64,
}

/// How connections are opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// While the user types, before there is a request.
    pub preconnect: bool,
}

/// After how many equal calls with equal results something happens; 0 means never.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RepeatedCalls {
    /// The user is told.
    pub warn: u32,
    /// The call is not executed.
    pub block: u32,
    /// The run ends.
    pub stop: u32,
}

/// When images are uploaded instead of sent inline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Uploads {
    /// Larger images are uploaded, in bytes.
    pub threshold_bytes: u64,
    /// The largest images are uploaded until the request is below this size, in bytes.
    pub total_bytes: u64,
    /// Longest request that carries files whose upload failed, in bytes.
    pub inline_limit_bytes: u64,
    /// Largest video that is uploaded from disk or by a program, in bytes.
    pub video_max_bytes: u64,
    /// Longest time for one file; 0 means no limit.
    pub timeout_ms: u64,
}

/// One of Kimi's own tools.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ToolSettings {
    /// The model may call it.
    pub enabled: bool,
    /// Its results start collapsed on the screen.
    pub default_collapsed: bool,
    /// How the model reaches it.
    pub exposure: ToolExposure,
}

/// How the model reaches a tool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolExposure {
    /// It is declared in every request.
    #[default]
    Direct,
    /// Pi's `tool_search` finds it.
    Deferred,
}

/// Overrides for a model; `None` where nothing is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelOverrides {
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// Longest answer in tokens.
    pub max_tokens: Option<u64>,
    /// Sampling temperature.
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    pub top_p: Option<f64>,
    /// Upper bound of the output cap; 0 means none.
    pub max_completion_tokens: Option<u64>,
    /// Reasoning.
    pub thinking: ThinkingOverrides,
}

/// Overrides for reasoning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThinkingOverrides {
    /// `all`, `last` or `none`.
    pub keep: Option<String>,
    /// Effort, whatever the level.
    pub effort: Option<String>,
}

/// Timeouts in milliseconds; 0 means no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AnswerLimits {
    /// Connecting: DNS, TCP, proxy and TLS.
    pub connect_ms: u64,
    /// Until the response begins.
    pub headers_ms: u64,
    /// Until the first content; `None` lets effort and prompt length decide.
    pub first_ms: Option<u64>,
    /// Silence within text and tool calls.
    pub gap_ms: u64,
    /// Silence within reasoning.
    pub thinking_gap_ms: u64,
    /// Largest answer in bytes; 0 means no limit.
    pub answer_bytes: u64,
}

/// Retries of failed requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RetrySettings {
    /// Requests per turn in total.
    pub attempts: u32,
    /// Longest wait the service may ask for.
    pub max_delay_ms: u64,
    /// Longest time for all attempts together; 0 means no limit.
    pub max_total_ms: Option<u64>,
}

/// Which public deployment is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegionChoice {
    /// The one of the login.
    #[default]
    Auto,
    /// This one.
    #[serde(untagged)]
    Chosen(Region),
}

impl RegionChoice {
    /// Returns the region, unless it is left open.
    pub fn region(self) -> Option<Region> {
        match self {
            Self::Auto => None,
            Self::Chosen(region) => Some(region),
        }
    }
}

impl Default for Settings {
    /// Returns the defaults of the table.
    fn default() -> Self {
        serde_json::from_value(keys::defaults()).expect("the defaults of the table are settings")
    }
}

impl Settings {
    /// Returns the overrides for a model: its own where they are set, else those for all models.
    pub fn overrides(&self, model: &str) -> ModelOverrides {
        let all = self.model.clone();
        let Some(own) = self.models.get(model).cloned() else { return all };
        ModelOverrides {
            context_window: own.context_window.or(all.context_window),
            max_tokens: own.max_tokens.or(all.max_tokens),
            temperature: own.temperature.or(all.temperature),
            top_p: own.top_p.or(all.top_p),
            max_completion_tokens: own.max_completion_tokens.or(all.max_completion_tokens),
            thinking: ThinkingOverrides {
                keep: own.thinking.keep.or(all.thinking.keep),
                effort: own.thinking.effort.or(all.thinking.effort),
            },
        }
    }

    /// Returns the settings of one of Kimi's own tools; an unknown one is off.
    pub fn tool(&self, name: &str) -> ToolSettings {
        self.tools.get(name).cloned().unwrap_or_default()
    }

    /// Returns the upper bound of the output cap of a model.
    pub fn max_completion_tokens(&self, model: &str) -> Option<u64> {
        self.overrides(model).max_completion_tokens.filter(|tokens| *tokens > 0)
    }

    /// Returns the size of the largest answer in bytes of memory.
    pub fn answer_bytes(&self) -> usize {
        match self.limits.answer_bytes {
            0 => usize::MAX,
            bytes => usize::try_from(bytes).unwrap_or(usize::MAX),
        }
    }
}

/// Converts milliseconds; 0 means no limit.
pub(super) fn limit(millis: u64) -> Option<Duration> {
    (millis > 0).then(|| Duration::from_millis(millis))
}
