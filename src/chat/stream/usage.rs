//! Reads token counts.
//!
//! Gateways report both conventions at once, numbers as strings, and leave members out; none of that may end a turn
//! (docs/protocol.md#chat-usage, docs/protocol.md#messages-usage).

use serde_json::Value;

use super::event::TokenUsage;

/// Which prompt count of a dialect wins where both are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Convention {
    /// OpenAI: `prompt_tokens` includes what came from the cache.
    TotalPrompt,
    /// Anthropic: `input_tokens` excludes it.
    UncachedInput,
}

/// Reads a usage object; any other value reads as no counts.
pub fn usage(value: &Value, convention: Convention) -> TokenUsage {
    let nested = &value["prompt_tokens_details"];
    let first = |counts: &[&Value]| counts.iter().find_map(|value| count(value));
    let cache_read = first(&[
        &value["cache_read_input_tokens"],
        &value["cached_tokens"],
        &nested["cached_tokens"],
        &value["prompt_cache_hit_tokens"],
    ]);
    let cache_write = first(&[&value["cache_creation_input_tokens"], &nested["cache_write_tokens"]]);
    let (prompt, input) = (count(&value["prompt_tokens"]), count(&value["input_tokens"]));
    let (input, prompt) = match convention {
        Convention::TotalPrompt if prompt.is_some() => (None, prompt),
        Convention::UncachedInput if input.is_some() => (input, None),
        _ => (input, prompt),
    };
    // A report of the OpenAI dialect counts as a whole, so a prompt without cached tokens means that none were cached.
    let unsaid = (convention == Convention::TotalPrompt && prompt.is_some()).then_some(0);
    TokenUsage {
        input,
        prompt,
        output: first(&[&value["completion_tokens"], &value["output_tokens"]]),
        cache_read: cache_read.or(unsaid),
        cache_reported: cache_read,
        cache_write: cache_write.or(unsaid),
        reasoning: count(&value["completion_tokens_details"]["reasoning_tokens"]),
    }
}

/// Reads a count from a number or a numeric string.
fn count(value: &Value) -> Option<u64> {
    match value {
        // The cast drops fractions and saturates.
        Value::Number(number) => {
            number.as_u64().or_else(|| number.as_f64().filter(|float| *float >= 0.0).map(|float| float as u64))
        }
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_cached_tokens_are_found_in_every_place() {
        let read = |value: Value| {
            let usage = usage(&value, Convention::TotalPrompt);
            (usage.uncached(), usage.cache_read)
        };
        assert_eq!(read(json!({"prompt_tokens": 8, "cached_tokens": 3})), (Some(5), Some(3)));
        assert_eq!(read(json!({"prompt_tokens": "8", "cached_tokens": null})), (Some(8), Some(0)));
        let nested = json!({"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": "3"}});
        assert_eq!(read(nested), (Some(5), Some(3)));
        assert_eq!(read(json!({"prompt_tokens": 8, "prompt_cache_hit_tokens": 9})), (Some(0), Some(9)));
        assert_eq!(read(json!({"prompt_tokens": -1, "prompt_tokens_details": "?"})), (None, None));
        assert_eq!(read(json!("none")), (None, None));
    }

    #[test]
    fn usage_both_conventions_in_one_report_agree() {
        let both = json!({"prompt_tokens": 11272, "input_tokens": 264, "output_tokens": 5,
            "cache_read_input_tokens": 11008, "cache_creation_input_tokens": 0, "cached_tokens": 11008});
        for convention in [Convention::TotalPrompt, Convention::UncachedInput] {
            let usage = usage(&both, convention);
            assert_eq!((usage.uncached(), usage.cache_read, usage.output), (Some(264), Some(11008), Some(5)));
        }
    }
}
