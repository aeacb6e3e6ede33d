//! The models that are offered before the service was ever asked.
//!
//! Sources: Pi's own table (docs/pi-contract.md#model-table) and docs/protocol.md#known-models.

use super::model::{Compat, Model, Prices, picker_name};
use super::thinking_levels::level_map;

/// Returns the fallback table.
///
/// Windows are those that every plan has (docs/protocol.md#membership-levels): the output cap follows from the window, and a
/// larger one may be refused. Every model counts as always thinking, as in Pi's table: the service refuses "off" for such a
/// model, while thinking where it could have been off only costs tokens.
pub fn fallback() -> Vec<Model> {
    table().into_iter().map(|model| Model { name: picker_name(&model.id, &model.name), ..model }).collect()
}

/// Returns the table under the models' own names.
pub(super) fn table() -> Vec<Model> {
    const ALL: &[&str] = &["low", "high", "max"];
    vec![
        model("kimi-for-coding", "Kimi for Coding", 262_144, 32_768, [0.95, 4.0, 0.19], ALL),
        model("kimi-for-coding-highspeed", "Kimi for Coding High Speed", 262_144, 32_768, [1.9, 8.0, 0.38], &[]),
        model("k3", "Kimi K3", 262_144, 131_072, [3.0, 15.0, 0.3], ALL),
        model("k3-256k", "Kimi K3 256K", 262_144, 131_072, [3.0, 15.0, 0.3], ALL),
        model("k3.1-pro", "Kimi K3.1 Pro", 262_144, 131_072, [2.0, 10.0, 0.2], ALL),
        model("k3.1-pro-highspeed", "Kimi K3.1 Pro High Speed", 262_144, 131_072, [4.0, 20.0, 0.2], ALL),
    ]
}

/// Returns the entry of the table with this id.
pub fn known(id: &str) -> Option<Model> {
    table().into_iter().find(|model| model.id == id)
}

fn model(id: &str, name: &str, window: u64, max_tokens: u64, prices: [f64; 3], efforts: &[&str]) -> Model {
    let [input, output, cache_read] = prices;
    Model {
        id: id.to_owned(),
        name: name.to_owned(),
        reasoning: true,
        thinking_level_map: level_map(efforts, false),
        input: vec!["text", "image"],
        cost: Prices { input, output, cache_read, cache_write: 0.0 },
        context_window: window,
        max_tokens,
        protocol: None,
        video: id != "k3-256k",
        cache_duration: None,
        min_tokens_to_hint: None,
        prompt_cache: None,
        // The captured list says so of this model only (docs/protocol.md#model-fields).
        compat: Compat { supports_mid_convo_tool_additions: id == "k3" },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::models::thinking_levels::ON;

    #[test]
    fn level_map_offers_only_levels_that_work() {
        let k3 = known("k3").unwrap();
        assert_eq!(k3.thinking_level_map["off"], Value::Null);
        assert_eq!(k3.thinking_level_map["max"], "max");
        assert_eq!(k3.thinking_level_map["medium"], Value::Null);
        let fast = known("kimi-for-coding-highspeed").unwrap();
        assert_eq!(fast.thinking_level_map["high"], ON);
        assert_eq!(fast.thinking_level_map["low"], Value::Null);
    }
}
