//! Reads how long the service is expected to keep prompts in its cache (docs/protocol.md#client-configs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Name of the configuration.
pub const CONFIG_NAME: &str = "estimated_cache_duration";

/// Longest lifetime that is believed, in seconds: a week.
const MAX_SECONDS: u64 = 7 * 24 * 3600;

/// Most models that are read.
const MAX_MODELS: usize = 200;

/// The prompt cache of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheHint {
    /// How long a prompt stays in the cache, in seconds.
    pub seconds: u64,
    /// Fewest tokens of a prompt for which a hint is worthwhile.
    #[serde(default)]
    pub min_tokens: Option<u64>,
}

/// Reads `{name, config: {version, config: {<model>: {cache_duration, min_tokens_to_hint}}}}`, by model id. Invalid entries are
/// skipped.
pub fn parse(body: &[u8]) -> BTreeMap<String, CacheHint> {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let outer = &answer["config"];
    let models = if outer["config"].is_object() { &outer["config"] } else { outer };
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    models
        .as_object()
        .into_iter()
        .flatten()
        .take(MAX_MODELS)
        .filter_map(|(id, hint)| {
            let seconds =
                number(&hint["cache_duration"]).filter(|seconds| (1.0..=MAX_SECONDS as f64).contains(seconds))?;
            let min_tokens = number(&hint["min_tokens_to_hint"]).filter(|tokens| *tokens >= 0.0);
            Some((
                id.clone(),
                CacheHint { seconds: seconds as u64, min_tokens: min_tokens.map(|tokens| tokens as u64) },
            ))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_hints_are_read_per_model_and_invalid_ones_skipped() {
        let hints = parse(
            br#"{"name":"estimated_cache_duration","config":{"version":1,"config":{"k3":{"cache_duration":300,"min_tokens_to_hint":20000},
            "a":{"cache_duration":"60"},"b":{"cache_duration":-1},"c":{"cache_duration":1e300},"d":5,"e":{}}}}"#,
        );
        assert_eq!(hints.keys().collect::<Vec<_>>(), ["a", "k3"]);
        assert_eq!(hints["k3"], CacheHint { seconds: 300, min_tokens: Some(20_000) });
        assert_eq!(hints["a"], CacheHint { seconds: 60, min_tokens: None });
        for body in ["", "[]", r#"{"config":5}"#, "<html>"] {
            assert!(parse(body.as_bytes()).is_empty());
        }
    }
}
