//! Pi's stream options, and which values count: those of the request, of the model entry, or of the settings.

use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::model::TurnModel;
use crate::chat::request::body::BodyOptions;
use crate::chat::request::response_format::ResponseFormat;
use crate::chat::request::thinking::thinking;
use crate::chat::request::tool_choice::ToolChoice;
use crate::config::{Config, OnExhausted, RetryPolicy};
use crate::models::ModelFacts;
use crate::plan::Priority;

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

    /// Returns the members of the body. What a request asks for counts before the settings; of two limits, the lower one.
    pub fn body(&self, model: &TurnModel, facts: &ModelFacts, config: &Config) -> BodyOptions {
        let configured = config.settings.overrides(&model.id);
        let overrides = config.settings.thinking(&model.id);
        let level = self.reasoning.as_deref();
        let most = [config.settings.max_completion_tokens(&model.id), self.max_tokens];
        let cached = self.cache_retention.as_deref().map_or(!config.without_cache_key, |retention| retention != "none");
        BodyOptions {
            model: model.id.clone(),
            tool_choice: self.tool_choice.as_ref().map(ToolChoice::read),
            thinking: thinking(level, facts.thinking.0, facts.thinking.1.as_ref(), &overrides),
            max_completion_tokens: most.into_iter().flatten().min().unwrap_or(u64::MAX),
            prompt_cache_key: self.session_id.clone().filter(|_| cached),
            temperature: self.temperature.or(configured.temperature),
            top_p: self.top_p.or(configured.top_p),
            stop: self.stop.clone(),
            response_format: None,
            extra: [&model.sampling_params, &self.sampling_params]
                .into_iter()
                .flatten()
                .flat_map(|members| members.iter().map(|(name, value)| (name.clone(), value.clone())))
                .collect(),
        }
    }
}
