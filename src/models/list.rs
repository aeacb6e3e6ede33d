//! Reads the answer of `GET /models` (docs/protocol.md#model-list).
//!
//! The list decides which models exist. A model's abilities come from the list where it states them, else from the fallback
//! table. Invalid entries are skipped and logged.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fallback::known;
use super::family_prices::prices_of_family;
use super::model::{Compat, Model, picker_name};
use super::thinking_levels::{LEVELS, level_map};
use crate::display_text::one_line;
use crate::error::{Error, Result};

/// Most entries that are read.
const MAX_MODELS: usize = 200;

/// Largest window that is believed, in tokens.
const MAX_WINDOW: u64 = 100_000_000;

/// Longest answer of an unknown model, in tokens.
const UNKNOWN_MAX_TOKENS: u64 = 131_072;

/// Window of a model for which neither the list nor the table has one, in tokens.
const UNKNOWN_WINDOW: u64 = 262_144;

/// Whether thinking can be switched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThinkingMode {
    /// The model always thinks.
    Only,
    /// Thinking can be switched on and off.
    Both,
    /// The model cannot think.
    No,
}

/// A model as the service describes it. Stored on disk under the same names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListedModel {
    /// Wire id.
    pub id: String,
    /// Display name.
    pub name: String,
    /// Tokens of prompt and answer together.
    pub window: u64,
    /// Whether thinking can be switched.
    pub thinking: ThinkingMode,
    /// Thinking efforts; empty if the model has none.
    #[serde(default)]
    pub efforts: Vec<String>,
    /// The effort it uses by default.
    #[serde(default)]
    pub default_effort: Option<String>,
    /// Whether it takes images.
    pub image: bool,
    /// Whether it takes videos.
    #[serde(default)]
    pub video: bool,
    /// Dialect, where the service names one.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Whether tools may be added in the middle of a conversation.
    #[serde(default)]
    pub dynamic_tools: bool,
}

/// Reads `{"data": […]}` or the bare list. An answer without a usable model is an error, not an empty list.
pub fn parse(body: &[u8]) -> Result<Vec<ListedModel>> {
    let answer: Value = serde_json::from_slice(body)
        .map_err(|error| Error::protocol(&format!("the model list is not JSON ({error})"), ""))?;
    let list = answer.get("data").unwrap_or(&answer).as_array();
    let list = list.ok_or_else(|| Error::protocol("the model list has an unknown form", ""))?;
    let mut entries: Vec<ListedModel> = Vec::new();
    for (index, value) in list.iter().take(MAX_MODELS).enumerate() {
        match entry(value) {
            Ok(entry) if entries.iter().any(|known| known.id == entry.id) => {
                tracing::info!(index, id = entry.id, "model skipped: its id came before");
            }
            Ok(entry) => entries.push(entry),
            Err(why) => tracing::info!(index, why, "model skipped"),
        }
    }
    if entries.is_empty() { Err(Error::protocol("the model list holds no usable model", "")) } else { Ok(entries) }
}

fn entry(value: &Value) -> std::result::Result<ListedModel, &'static str> {
    let id = value["id"].as_str().ok_or("no id")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:/@+".contains(c);
    if id.is_empty() || id.len() > 128 || !id.chars().all(is_plain) {
        return Err("its id has unexpected characters");
    }
    let known = known(id);
    let window = match &value["context_length"] {
        Value::Null => known.as_ref().map_or(UNKNOWN_WINDOW, |model| model.context_window),
        number => {
            whole(number).filter(|tokens| (1..=MAX_WINDOW).contains(tokens)).ok_or("its window is out of range")?
        }
    };
    let thinking = match value["supports_thinking_type"].as_str() {
        Some("only") => ThinkingMode::Only,
        Some("both") => ThinkingMode::Both,
        Some("no") => ThinkingMode::No,
        _ => match value["supports_reasoning"].as_bool() {
            Some(true) => ThinkingMode::Both,
            Some(false) => ThinkingMode::No,
            None if known.is_some() => ThinkingMode::Only,
            None => ThinkingMode::No,
        },
    };
    let offered = &value["think_efforts"];
    let word = |value: &Value| value.as_str().map(|text| one_line(text, 20)).filter(|text| !text.is_empty());
    let efforts: Vec<String> = match offered["support"].as_bool() {
        Some(true) => offered["valid_efforts"].as_array().into_iter().flatten().filter_map(word).take(16).collect(),
        _ => Vec::new(),
    };
    let default_effort = word(&offered["default_effort"]).filter(|effort| efforts.contains(effort));
    let named = value["display_name"].as_str().map(|name| one_line(name, 60)).filter(|name| !name.is_empty());
    Ok(ListedModel {
        name: match named {
            Some(name) if name.eq_ignore_ascii_case("k3") => "Kimi K3".to_owned(),
            Some(name) => name,
            None => known.map_or_else(|| id.to_owned(), |model| model.name),
        },
        id: id.to_owned(),
        window,
        thinking,
        efforts,
        default_effort,
        image: value["supports_image_in"].as_bool().unwrap_or(true),
        video: value["supports_video_in"].as_bool().unwrap_or(false),
        protocol: value["protocol"].as_str().map(|name| one_line(name, 20)).filter(|name| !name.is_empty()),
        dynamic_tools: value["supports_dynamic_tools"].as_bool() == Some(true),
    })
}

/// Reads a whole number, also `262144.0` and `"262144"`: the service writes other numbers as text (docs/protocol.md#usages).
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number >= 0.0 && number <= MAX_WINDOW as f64 && number.fract() == 0.0).then_some(number as u64)
}

impl ListedModel {
    /// Converts the entry to Pi's form.
    pub fn model(&self) -> Model {
        let known = known(&self.id);
        let efforts: Vec<&str> =
            self.efforts.iter().map(String::as_str).filter(|effort| LEVELS.contains(effort)).collect();
        Model {
            id: self.id.clone(),
            name: picker_name(&self.id, &self.name),
            reasoning: self.thinking != ThinkingMode::No,
            thinking_level_map: match self.thinking {
                ThinkingMode::No => serde_json::Map::new(),
                thinking => level_map(&efforts, thinking == ThinkingMode::Both),
            },
            input: if self.image { vec!["text", "image"] } else { vec!["text"] },
            cost: known.as_ref().map_or_else(|| prices_of_family(&self.id, &self.name), |model| model.cost),
            context_window: self.window,
            max_tokens: known.map_or(UNKNOWN_MAX_TOKENS, |model| model.max_tokens).min(self.window),
            protocol: self.protocol.clone(),
            video: self.video,
            cache_duration: None,
            min_tokens_to_hint: None,
            prompt_cache: None,
            compat: Compat { supports_mid_convo_tool_additions: self.dynamic_tools },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::models::Prices;

    fn read(list: Value) -> Vec<ListedModel> {
        parse(json!({ "data": list }).to_string().as_bytes()).unwrap()
    }

    fn levels(model: &Model) -> Vec<&str> {
        model.thinking_level_map.iter().filter(|(_, wire)| !wire.is_null()).map(|(level, _)| level.as_str()).collect()
    }

    /// Fields as in docs/protocol.md#model-fields.
    #[test]
    fn live_list_becomes_pis_models() {
        let entries = read(json!([
            {"id": "kimi-for-coding", "display_name": "Kimi For Coding", "context_length": 262144, "supports_reasoning": true,
             "supports_image_in": true, "supports_video_in": true, "supports_thinking_type": "both",
             "think_efforts": {"support": true, "valid_efforts": ["low", "high", "max"], "default_effort": "high"}},
            {"id": "kimi-for-coding-highspeed", "display_name": "Kimi For Coding High Speed", "context_length": 262144,
             "supports_reasoning": true, "supports_image_in": true, "protocol": "anthropic"},
            {"id": "k3", "display_name": "k3", "context_length": 1048576, "supports_thinking_type": "only",
             "supports_dynamic_tools": true, "think_efforts": {"support": true, "valid_efforts": ["max", "", 3, "ultra"]}},
        ]));
        let models: Vec<Model> = entries.iter().map(ListedModel::model).collect();
        assert_eq!(levels(&models[0]), ["off", "low", "high", "max"]);
        assert_eq!((models[0].context_window, models[0].video), (262_144, true));
        assert_eq!(models[1].protocol.as_deref(), Some("anthropic"));
        assert_eq!(levels(&models[1]), ["off", "high"]);
        assert_eq!((models[2].name.as_str(), models[2].compat.supports_mid_convo_tool_additions), ("Kimi K3", true));
        assert_eq!(levels(&models[2]), ["max"]);
        assert_eq!(entries[2].efforts, ["max", "ultra"]);
    }

    #[test]
    fn invalid_entries_are_skipped_and_the_rest_stays() {
        let entries = read(json!([
            "text", 5, null, {}, {"id": 7}, {"id": ""}, {"id": "a b"}, {"id": "esc\u{1b}[2J"}, {"id": "x".repeat(200)},
            {"id": "zero", "context_length": 0}, {"id": "negative", "context_length": -5}, {"id": "word", "context_length": "8k"},
            {"id": "huge", "context_length": 1e300},
            {"id": "new-model", "context_length": 4096, "supports_thinking_type": "sometimes", "supports_image_in": false},
            {"id": "new-model", "context_length": 9999},
            {"id": "k3"},
        ]));
        let ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids, ["new-model", "k3"]);
        let new = entries[0].model();
        assert_eq!((new.context_window, new.max_tokens, new.reasoning), (4096, 4096, false));
        assert_eq!((new.input, new.cost), (vec!["text"], Prices::default()));
        let k3 = entries[1].model();
        assert_eq!((k3.context_window, k3.reasoning), (262_144, true));
    }

    #[test]
    fn window_is_read_in_every_number_format() {
        let body = r#"[{"id":"a","context_length":262144.0},{"id":"b","context_length":"262144"},{"id":"c","context_length":2.62144e5},
            {"id":"d","context_length":0.5},{"id":"e","context_length":"1e300"},{"id":"f","context_length":"NaN"},{"id":"g","context_length":true}]"#;
        let windows: Vec<_> =
            parse(body.as_bytes()).unwrap().into_iter().map(|entry| (entry.id, entry.window)).collect();
        assert_eq!(windows, ["a", "b", "c"].map(|id| (id.to_owned(), 262_144)));
    }

    #[test]
    fn hostile_display_name_becomes_a_short_plain_line() {
        let name = format!("Fancy\u{1b}]0;title\u{7}\n\u{202e}{}", "n".repeat(10_000_000));
        let entries = read(json!([{"id": "a", "context_length": 5000, "display_name": name}]));
        assert!(entries[0].name.starts_with("Fancy␛]0;title␇ <U+202E>n") && entries[0].name.chars().count() <= 61);
    }

    #[test]
    fn answer_without_models_is_an_error_not_an_empty_list() {
        for body in ["", "<html>", "{}", "[]", r#"{"data": []}"#, r#"{"data": {"id": "k3"}}"#, r#"[{"id": ""}]"#] {
            assert!(parse(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(parse(br#"[{"id": "k3"}]"#).unwrap().len(), 1, "a bare list is taken");
    }
}
