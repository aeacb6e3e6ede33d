//! The settings as types, once all layers are merged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Every setting, resolved. Its JSON is what the file holds, with defaults filled in (see [`super::keys::KEYS`]).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// `openai` or `anthropic`, where the catalog names no dialect.
    pub protocol: String,
    /// `auto`, `mainland-cn` or `global`.
    pub region: String,
    /// `honest` or `kimi-code`.
    pub identity: String,
    /// API base of another deployment.
    pub base_url: Option<String>,
    /// OAuth host of another deployment.
    pub oauth_host: Option<String>,
    /// What travels as a file.
    pub uploads: Uploads,
    /// Kimi's own tools by name.
    pub tools: BTreeMap<String, Tool>,
    /// The quota in Pi's footer.
    pub status_line: bool,
    /// ThinkingPreference for all models.
    pub model: ModelOverrides,
    /// ThinkingPreference for one model, by id.
    pub models: BTreeMap<String, ModelOverrides>,
    /// Clocks in milliseconds; 0 means no limit.
    pub limits: Limits,
    /// Repetition.
    pub retry: Retry,
}

/// What travels as a file instead of inline.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Uploads {
    /// Images above this size, in bytes.
    pub threshold_bytes: u64,
    /// The largest images, until the request is below this size, in bytes.
    pub total_bytes: u64,
    /// Longest request, in bytes, that carries files whose upload failed.
    pub inline_limit_bytes: u64,
    /// Longest time for one file; 0 means no limit.
    pub timeout_ms: u64,
}

/// One of Kimi's own tools.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tool {
    /// The model may call it.
    pub enabled: bool,
    /// Its results start collapsed on the screen.
    pub default_collapsed: bool,
}

/// What a person wants of a model; `None` where nothing was said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ModelOverrides {
    /// Tokens of prompt and answer together.
    pub context_window: Option<u64>,
    /// Longest answer in tokens.
    pub max_tokens: Option<u64>,
    /// Sampling.
    pub temperature: Option<f64>,
    /// Sampling.
    pub top_p: Option<f64>,
    /// Upper bound of the output cap; 0 means none.
    pub max_completion_tokens: Option<u64>,
    /// Reasoning.
    pub thinking: ThinkingOverrides,
}

/// What a person wants of reasoning.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThinkingOverrides {
    /// `all`, `last` or `none`.
    pub keep: Option<String>,
    /// Effort, whatever the level.
    pub effort: Option<String>,
}

/// Clocks in milliseconds; 0 means no limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// DNS, TCP, proxy and TLS.
    pub connect_ms: u64,
    /// Until the response begins.
    pub headers_ms: u64,
    /// Until the first meaning; `None` lets effort and prompt length decide.
    pub first_ms: Option<u64>,
    /// Within text and tool calls.
    pub gap_ms: u64,
    /// Within reasoning.
    pub thinking_gap_ms: u64,
}

/// Repetition of failed requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// Requests per turn in total.
    pub attempts: u32,
    /// Longest wait the service may ask for.
    pub max_delay_ms: u64,
}

impl Settings {
    /// What applies to this model: its own wishes where there are any, else those for all models.
    pub fn wishes(&self, model: &str) -> ModelOverrides {
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

    /// One of Kimi's own tools by name; one that was never heard of is off.
    pub fn tool(&self, name: &str) -> Tool {
        self.tools.get(name).cloned().unwrap_or_default()
    }
}
