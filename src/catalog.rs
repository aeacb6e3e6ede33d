//! The models: what is known without asking the service.
//!
//! The fallback table lets Pi list models and answer before any catalog was fetched. Sources: pi-extension §2.9 (Pi 0.87.1's
//! table), protocol reference §5.4 (prices, informational: the plan is quota based), §5.5 (efforts).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The wire value in a level map that means "on, but this model has no efforts".
pub const ON: &str = "on";

/// Pi's provider id; other extensions look Kimi credentials up under it.
pub const PROVIDER_ID: &str = "kimi-coding";

/// USD per million tokens.
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

/// A model entry in the form Pi registers, without the fields that name the provider.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    /// Pi's and the service's id.
    pub id: String,
    /// For people.
    pub name: String,
    /// It can think.
    pub reasoning: bool,
    /// Level → wire effort; null hides the level.
    pub thinking_level_map: Map<String, Value>,
    /// `text`, `image`.
    pub input: Vec<&'static str>,
    /// Prices.
    pub cost: Prices,
    /// Tokens of prompt and answer together.
    pub context_window: u64,
    /// Longest answer in tokens.
    pub max_tokens: u64,
    /// What Pi calls compatibility.
    pub compat: Compat,
}

/// What a model takes beyond the ordinary, in Pi's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Compat {
    /// Tools that join a conversation stay where they joined: the catalog's `supports_dynamic_tools`.
    pub supports_mid_convo_tool_additions: bool,
}

/// Efforts of a model. Without a catalog every known model counts as always thinking, as in Pi's own table: the service refuses
/// "off" for such a model with a 400, while thinking where it could have been off merely costs tokens.
type Efforts = [&'static str];

/// The models that exist as far as we know without a catalog.
pub fn fallback() -> Vec<Model> {
    const ALL: &[&str] = &["low", "high", "max"];
    vec![
        model("kimi-for-coding", "Kimi for Coding", 1_048_576, 32_768, [0.95, 4.0, 0.19], ALL),
        model("kimi-for-coding-highspeed", "Kimi for Coding High Speed", 262_144, 32_768, [1.9, 8.0, 0.38], &[]),
        model("k3", "Kimi K3", 1_048_576, 131_072, [3.0, 15.0, 0.3], ALL),
        model("k3-256k", "Kimi K3 256K", 262_144, 131_072, [3.0, 15.0, 0.3], ALL),
    ]
}

fn model(id: &str, name: &str, window: u64, max_tokens: u64, prices: [f64; 3], efforts: &Efforts) -> Model {
    let [input, output, cache_read] = prices;
    Model {
        id: id.to_owned(),
        name: name.to_owned(),
        reasoning: true,
        thinking_level_map: level_map(efforts),
        input: vec!["text", "image"],
        cost: Prices { input, output, cache_read, cache_write: 0.0 },
        context_window: window,
        max_tokens,
        // The captured catalogue says so of this model only (kimi-code-2.1 §5).
        compat: Compat { supports_mid_convo_tool_additions: id == "k3" },
    }
}

/// Pi's level map: exactly the levels that make a difference are offered.
fn level_map(efforts: &Efforts) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("off".to_owned(), Value::Null);
    for level in ["minimal", "low", "medium", "high", "xhigh", "max"] {
        let wire = match efforts {
            [] if level == "high" => Value::from(ON),
            _ if efforts.contains(&level) => Value::from(level),
            _ => Value::Null,
        };
        map.insert(level.to_owned(), wire);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picker_shows_only_levels_that_work() {
        let models = fallback();
        let k3 = models.iter().find(|model| model.id == "k3").unwrap();
        assert_eq!(k3.thinking_level_map["off"], Value::Null);
        assert_eq!(k3.thinking_level_map["max"], "max");
        assert_eq!(k3.thinking_level_map["medium"], Value::Null);
        let fast = models.iter().find(|model| model.id == "kimi-for-coding-highspeed").unwrap();
        assert_eq!(fast.thinking_level_map["high"], ON);
        assert_eq!(fast.thinking_level_map["low"], Value::Null);
    }
}
