//! Maps Pi's thinking level and the model's abilities to the `thinking` field.
//!
//! In the OpenAI dialect the service thinks by default, so "off" must be sent explicitly. It takes only the efforts that a model
//! advertises (docs/protocol.md#thinking-efforts).

use std::collections::HashMap;

use serde::Serialize;

use crate::config::ThinkingPreference;
use crate::models::ON;

/// Pi's levels from least to most.
const LEVELS: [&str; 7] = ["off", "minimal", "low", "medium", "high", "xhigh", "max"];

/// The field `thinking` of the OpenAI dialect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Thinking {
    /// `enabled` or `disabled`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// One of the advertised efforts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<String>,
    /// `all`: the service keeps earlier reasoning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

impl Thinking {
    /// Returns whether the model will reason.
    pub fn enabled(&self) -> bool {
        self.kind == "enabled"
    }
}

/// Pi's `thinkingLevelMap`: level → wire value. Null means "not supported", a missing level goes by its own name.
pub type LevelMap = HashMap<String, Option<String>>;

/// Returns the thinking field of a request; `None` for a model that does not reason.
pub fn thinking(
    level: Option<&str>,
    reasons: bool,
    map: Option<&LevelMap>,
    preference: &ThinkingPreference,
) -> Option<Thinking> {
    if !reasons {
        return None;
    }
    let always_on = matches!(map.and_then(|map| map.get("off")), Some(None));
    let level = match level {
        None | Some("off" | "none") if always_on => None,
        None | Some("off" | "none") => return Some(Thinking { kind: "disabled", effort: None, keep: None }),
        Some(level) => Some(level),
    };
    let effort = preference.effort.clone().or_else(|| level.and_then(|level| wire_effort(level, map)));
    Some(Thinking { kind: "enabled", effort: effort.filter(|effort| effort != ON), keep: preference.keep.clone() })
}

/// Returns the effort for a level or for the nearest supported one, upwards first as Pi clamps.
fn wire_effort(level: &str, map: Option<&LevelMap>) -> Option<String> {
    let map = map?;
    let start = LEVELS.iter().position(|known| *known == level)?;
    let candidates = (start..LEVELS.len()).chain((1..start).rev());
    candidates.into_iter().find_map(|at| map.get(LEVELS[at]).cloned().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Option<&str>)]) -> LevelMap {
        entries.iter().map(|(level, wire)| ((*level).to_owned(), wire.map(str::to_owned))).collect()
    }

    fn keep_all() -> ThinkingPreference {
        ThinkingPreference { keep: Some("all".into()), effort: None }
    }

    fn json(thinking: Option<Thinking>) -> String {
        serde_json::to_string(&thinking).unwrap()
    }

    #[test]
    fn off_is_sent_explicitly() {
        let efforts = map(&[("low", Some("low")), ("high", Some("high")), ("max", Some("max"))]);
        assert_eq!(json(thinking(None, true, Some(&efforts), &keep_all())), r#"{"type":"disabled"}"#);
        assert_eq!(json(thinking(Some("off"), true, None, &keep_all())), r#"{"type":"disabled"}"#);
    }

    #[test]
    fn levels_map_to_advertised_efforts_only() {
        let efforts = map(&[
            ("minimal", None),
            ("low", Some("low")),
            ("medium", None),
            ("high", Some("high")),
            ("max", Some("max")),
        ]);
        let effort = |level| thinking(Some(level), true, Some(&efforts), &keep_all()).unwrap().effort.unwrap();
        assert_eq!(effort("minimal"), "low");
        assert_eq!(effort("medium"), "high");
        assert_eq!(effort("xhigh"), "max");
        assert_eq!(
            json(thinking(Some("high"), true, Some(&efforts), &keep_all())),
            r#"{"type":"enabled","effort":"high","keep":"all"}"#
        );
    }

    #[test]
    fn model_that_always_thinks_is_never_switched_off() {
        let only = map(&[("off", None), ("max", Some("max"))]);
        assert_eq!(json(thinking(None, true, Some(&only), &keep_all())), r#"{"type":"enabled","keep":"all"}"#);
        assert_eq!(thinking(Some("low"), true, Some(&only), &keep_all()).unwrap().effort.unwrap(), "max");
    }

    #[test]
    fn model_without_efforts_is_switched_on_without_one() {
        let switch = map(&[("low", None), ("high", Some(ON))]);
        assert_eq!(
            json(thinking(Some("high"), true, Some(&switch), &keep_all())),
            r#"{"type":"enabled","keep":"all"}"#
        );
        assert_eq!(thinking(Some("high"), false, Some(&switch), &keep_all()), None);
    }

    #[test]
    fn configured_effort_applies_while_thinking_is_on() {
        let preference = ThinkingPreference { keep: None, effort: Some("ultra".into()) };
        assert_eq!(json(thinking(Some("low"), true, None, &preference)), r#"{"type":"enabled","effort":"ultra"}"#);
        assert_eq!(json(thinking(None, true, None, &preference)), r#"{"type":"disabled"}"#);
    }
}
