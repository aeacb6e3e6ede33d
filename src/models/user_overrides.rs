//! What the user has set about a model, in the settings or in Pi, and which facts count for a request: those of the newest list, unless
//! the user has set others.
//!
//! Pi's model entry comes from a list that this process handed out, and may be older than the newest one. Where the entry differs
//! from every list that was handed out, the user has changed it.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, Value};

use super::model::{Compat, Model, Prices};
use crate::config::Settings;

/// Most lists that are remembered; the oldest one goes first.
const MAX_LISTS: usize = 8;

/// Applies the user's windows and output caps, and `KIMI_MODEL_CAPABILITIES` (docs/protocol.md#environment-variables).
pub fn with_overrides(mut models: Vec<Model>, settings: &Settings, capabilities: Option<&str>) -> Vec<Model> {
    for model in &mut models {
        let overrides = settings.overrides(&model.id);
        model.context_window = overrides.context_window.unwrap_or(model.context_window);
        model.max_tokens = overrides.max_tokens.unwrap_or(model.max_tokens).min(model.context_window);
        if let Some(list) = capabilities {
            let can = |name: &str| list.split(',').any(|word| word.trim().eq_ignore_ascii_case(name));
            model.reasoning = can("thinking") || can("always_thinking");
            model.input = if can("image_in") { vec!["text", "image"] } else { vec!["text"] };
        }
    }
    models
}

/// What a request needs to know about its model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// Tokens of prompt and answer together; 0 if unknown.
    pub context_window: u64,
    /// Whether the model can think, and its level map: level → wire effort.
    pub thinking: (bool, Option<HashMap<String, Option<String>>>),
    /// Whether the model takes images.
    pub images: bool,
    /// Dialect, where the service names one.
    pub protocol: Option<String>,
    /// Abilities beyond the ordinary.
    pub compat: Compat,
    /// Prices.
    pub prices: Prices,
    /// Whether the model takes videos; Pi's entries do not say.
    pub videos: Option<bool>,
}

impl From<&Model> for ModelFacts {
    fn from(model: &Model) -> Self {
        Self {
            context_window: model.context_window,
            thinking: (model.reasoning, Some(levels(&model.thinking_level_map))),
            images: model.input.contains(&"image"),
            protocol: model.protocol.clone(),
            compat: model.compat,
            prices: model.cost,
            videos: Some(model.video),
        }
    }
}

fn levels(map: &Map<String, Value>) -> HashMap<String, Option<String>> {
    map.iter().map(|(level, wire)| (level.clone(), wire.as_str().map(str::to_owned))).collect()
}

/// The lists that this process has handed out.
#[derive(Debug, Default)]
pub struct OfferedModels(Mutex<Vec<HashMap<String, ModelFacts>>>);

impl OfferedModels {
    /// Records a list.
    pub fn record(&self, models: &[Model]) {
        let list: HashMap<String, ModelFacts> =
            models.iter().map(|model| (model.id.clone(), ModelFacts::from(model))).collect();
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !lists.contains(&list) {
            lists.push(list);
            if lists.len() > MAX_LISTS {
                lists.remove(0);
            }
        }
    }

    /// Returns the facts that count: those of `listed`, the newest list, but for what the user has set.
    pub fn current(&self, id: &str, stated: ModelFacts, listed: Option<&Model>) -> ModelFacts {
        let Some(listed) = listed.map(ModelFacts::from) else { return stated };
        let lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Pi makes the entry of a model that it does not know by copying another one.
        let is_copy = |list: &HashMap<String, ModelFacts>| {
            !list.contains_key(id) && list.values().any(|other| other.is_same_entry(&stated))
        };
        if lists.iter().any(is_copy) {
            return listed;
        }
        let offered: Vec<&ModelFacts> = lists.iter().filter_map(|list| list.get(id)).collect();
        let ours = |same: &dyn Fn(&ModelFacts) -> bool| offered.iter().any(|facts| same(facts));
        ModelFacts {
            context_window: if ours(&|facts| facts.context_window == stated.context_window) {
                listed.context_window
            } else {
                stated.context_window
            },
            thinking: if ours(&|facts| facts.thinking == stated.thinking) { listed.thinking } else { stated.thinking },
            images: if ours(&|facts| facts.images == stated.images) { listed.images } else { stated.images },
            protocol: if ours(&|facts| facts.protocol == stated.protocol) { listed.protocol } else { stated.protocol },
            compat: if ours(&|facts| facts.compat == stated.compat) { listed.compat } else { stated.compat },
            prices: if ours(&|facts| facts.prices == stated.prices) { listed.prices } else { stated.prices },
            videos: listed.videos,
        }
    }
}

impl ModelFacts {
    /// Returns whether both come from one entry. Pi may switch thinking on in a copy.
    fn is_same_entry(&self, other: &Self) -> bool {
        self.context_window == other.context_window
            && self.thinking.1 == other.thinking.1
            && self.images == other.images
            && self.prices == other.prices
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::models::fallback;
    use crate::models::list::{ListedModel, parse};

    fn listed(json: &str) -> Vec<Model> {
        parse(json.as_bytes()).unwrap().iter().map(ListedModel::model).collect()
    }

    fn stated(models: &[Model], id: &str) -> ModelFacts {
        let facts = ModelFacts::from(models.iter().find(|model| model.id == id).unwrap());
        ModelFacts { videos: None, ..facts }
    }

    #[test]
    fn entry_of_an_older_list_is_replaced_by_the_newest() {
        let offered = OfferedModels::default();
        offered.record(&fallback());
        let new = listed(r#"[{"id":"k3","context_length":1048576,"supports_thinking_type":"both"}]"#);
        let facts = offered.current("k3", stated(&fallback(), "k3"), new.first());
        assert_eq!((facts.context_window, facts.videos), (1_048_576, Some(false)));
        assert_eq!(facts.thinking.1.unwrap()["off"].as_deref(), Some("off"));
        offered.record(&new);
        let facts = offered.current("k3", stated(&fallback(), "k3"), new.first());
        assert_eq!(facts.context_window, 1_048_576, "also in later turns of the session");
    }

    #[test]
    fn values_that_the_user_set_stay() {
        let offered = OfferedModels::default();
        offered.record(&fallback());
        let new = listed(r#"[{"id":"k3","context_length":1048576,"protocol":"anthropic"}]"#);
        let own = ModelFacts { context_window: 100_000, ..stated(&fallback(), "k3") };
        let facts = offered.current("k3", own, new.first());
        assert_eq!((facts.context_window, facts.protocol.as_deref()), (100_000, Some("anthropic")));
    }

    #[test]
    fn copy_of_another_entry_takes_the_facts_of_the_list() {
        let offered = OfferedModels::default();
        offered.record(&fallback());
        let new = listed(r#"[{"id":"k9","context_length":1048576,"supports_thinking_type":"both"}]"#);
        for _ in 0..2 {
            let facts = offered.current("k9", stated(&fallback(), "kimi-for-coding"), new.first());
            assert_eq!((facts.context_window, facts.prices), (1_048_576, Prices::default()));
            offered.record(&new);
        }
        let own = ModelFacts { context_window: 5000, ..stated(&fallback(), "kimi-for-coding") };
        assert_eq!(offered.current("k9", own, new.first()).context_window, 5000);
    }

    #[test]
    fn settings_change_windows_and_answers_never_exceed_them() {
        let settings: Settings = serde_json::from_value(
            json!({"model": {"maxTokens": 50_000}, "models": {"k3": {"contextWindow": 20_000}}}),
        )
        .unwrap();
        let models = with_overrides(fallback(), &settings, Some("Image_In"));
        let k3 = models.iter().find(|model| model.id == "k3").unwrap();
        assert_eq!((k3.context_window, k3.max_tokens, k3.reasoning), (20_000, 20_000, false));
        let other = models.iter().find(|model| model.id == "kimi-for-coding").unwrap();
        assert_eq!((other.context_window, other.max_tokens), (262_144, 50_000));
    }
}
