//! Reports how an answer ended and what it cost, in Pi's form.

use serde::Serialize;
use serde_json::{Value, json};

use super::Blocks;
use crate::chat::stream::event::TokenUsage;
use crate::chat::stream::stop_reason::StopReason;
use crate::models::Prices;
use crate::plan::ledger::TokenCounts;

/// The terminal op in Pi's form.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<StopReason>,
    usage: Value,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    response_model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    raw_stop_reason: &'a str,
}

impl Blocks {
    /// Returns the JSON of the terminal op. `reason` is absent for a failure.
    pub fn summary(&self, reason: Option<StopReason>, raw_stop_reason: &str, requested_model: &str) -> Value {
        let response_model = if self.model == requested_model { "" } else { self.model.as_str() };
        let summary =
            Summary { reason, usage: self.usage_for_pi(), response_id: &self.id, response_model, raw_stop_reason };
        // A struct of strings and numbers always serializes.
        serde_json::to_value(summary).unwrap_or_default()
    }

    /// Returns the tokens of the prompt and those of them that came from the cache, both as the service reported them.
    pub fn prompt_tokens(&self) -> (Option<u64>, Option<u64>) {
        let TokenUsage { input, prompt, cache_read, cache_reported, .. } = self.usage;
        let whole = prompt.or_else(|| input.map(|input| input.saturating_add(cache_read.unwrap_or(0))));
        (whole, cache_reported)
    }

    /// Returns the tokens for the plan's ledger.
    pub fn tokens(&self) -> TokenCounts {
        let TokenUsage { output, cache_read, reasoning, .. } = self.usage;
        let uncached = self.usage.uncached().unwrap_or(0);
        TokenCounts {
            uncached,
            cached: cache_read.unwrap_or(0),
            output: output.unwrap_or(0),
            reasoning: reasoning.unwrap_or(0),
        }
    }

    /// Returns the usage as Pi counts it: `input` without cached tokens, `output` with reasoning, the total as the sum
    /// (docs/pi-contract.md#messages-and-usage).
    fn usage_for_pi(&self) -> Value {
        let count = |value: Option<u64>| value.unwrap_or(0);
        let TokenUsage { output, cache_read, cache_write, reasoning, .. } = self.usage;
        let input = self.usage.uncached();
        // The service may report any number.
        let total = [input, output, cache_read, cache_write].into_iter().map(count).fold(0, u64::saturating_add);
        let mut usage = json!({
            "input": count(input),
            "output": count(output),
            "cacheRead": count(cache_read),
            "cacheWrite": count(cache_write),
            "totalTokens": total,
            "cost": cost(&self.prices, &self.usage),
        });
        if let Some(reasoning) = reasoning {
            usage["reasoning"] = reasoning.into();
        }
        usage
    }
}

/// Returns the price of an answer in USD, in Pi's form.
pub(super) fn cost(prices: &Prices, usage: &TokenUsage) -> Value {
    let part = |tokens: Option<u64>, price: f64| tokens.unwrap_or(0) as f64 * price / 1_000_000.0;
    let input = part(usage.uncached(), prices.input);
    let output = part(usage.output, prices.output);
    let cache_read = part(usage.cache_read, prices.cache_read);
    let cache_write = part(usage.cache_write, prices.cache_write);
    json!({
        "input": input, "output": output, "cacheRead": cache_read, "cacheWrite": cache_write,
        "total": input + output + cache_read + cache_write,
    })
}
