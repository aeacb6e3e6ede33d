//! The models: what the service lists, what it listed last time, and what is known without having asked it ever.
//!
//! Pi's list comes from disk, at once and offline; asking the service happens behind its back and replaces the list. Sources:
//! docs/pi-contract.md#model-table (Pi 0.87.1's table), docs/protocol.md#known-models (prices, informational: the plan is quota
//! based), docs/protocol.md#thinking-efforts.

pub mod cache;
pub mod list;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::cache::Stored;
use self::list::{Entry, with_overrides};
use crate::auth::{Credential, SuppliedKey};
use crate::blocking::in_background;
use crate::client::Kimi;
use crate::config::{Config, Environment};
use crate::error::Result;

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
    /// Dialect, where the service names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// It sees videos.
    pub video: bool,
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

/// Longest wait for the list.
const PATIENCE: Duration = Duration::from_secs(8);

/// A list beyond this is none, in bytes. One entry with an absurd name must not cost the others.
const MAX_LIST: usize = 32 << 20;

/// A list of models and where it comes from.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    /// In the service's order, with the person's wishes applied.
    pub models: Vec<Model>,
    /// When the service said so, in milliseconds since 1970; 0 for the fallback table.
    pub fetched_at: i64,
}

/// The list as known without a network: the last one of this account, else the fallback table. Reads two small files.
/// `credential` is what Pi or a caller passed.
pub fn known(environment: &Environment, config: &Config, credential: Option<&str>) -> Listing {
    let credential = match SuppliedKey::new(credential) {
        SuppliedKey::Token(token) => Some(token),
        SuppliedKey::Variable | SuppliedKey::Nothing => config.api_key.as_deref(),
    };
    let stored = |state| cache::read(state, config.endpoint.root(), credential);
    let stored = config.state_directory.as_deref().and_then(stored);
    let (models, fetched_at) = match &stored {
        Some(stored) => (stored.models.iter().map(Entry::model).collect(), stored.fetched_at),
        None => (fallback(), 0),
    };
    let models = with_overrides(models, &config.settings, environment.get("KIMI_MODEL_CAPABILITIES"));
    Listing { models, fetched_at }
}

/// Asks the service and keeps the answer for [`known`]. After an error the last list stays.
pub async fn refresh(kimi: &Kimi, credential: &Credential) -> Result<()> {
    let url = format!("{}/models", kimi.config.endpoint.v1());
    let body = kimi.get(&url, credential, PATIENCE, MAX_LIST).await?;
    let state = kimi.config.state_directory.clone();
    let root = kimi.config.endpoint.root().to_owned();
    let token = credential.token();
    in_background(move || {
        let models = list::parse(&body)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let Some(state) = state else { return Ok(()) };
        cache::keep(&state, &token, Stored { root, fetched_at: now, models });
        Ok(())
    })
    .await
}

/// Efforts of a model. Without a catalog every known model counts as always thinking, as in Pi's own table: the service refuses
/// "off" for such a model with a 400, while thinking where it could have been off merely costs tokens.
type Efforts<'e> = [&'e str];

/// The models that exist as far as we know without a catalog. Windows are those of every plan
/// (docs/protocol.md#membership-levels): the room for an answer follows from them, and more than a plan gives may be refused.
pub fn fallback() -> Vec<Model> {
    const ALL: &[&str] = &["low", "high", "max"];
    vec![
        model("kimi-for-coding", "Kimi for Coding", 262_144, 32_768, [0.95, 4.0, 0.19], ALL),
        model("kimi-for-coding-highspeed", "Kimi for Coding High Speed", 262_144, 32_768, [1.9, 8.0, 0.38], &[]),
        model("k3", "Kimi K3", 262_144, 131_072, [3.0, 15.0, 0.3], ALL),
        model("k3-256k", "Kimi K3 256K", 262_144, 131_072, [3.0, 15.0, 0.3], ALL),
    ]
}

fn model(id: &str, name: &str, window: u64, max_tokens: u64, prices: [f64; 3], efforts: &Efforts<'_>) -> Model {
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
        // The captured catalogue says so of this model only (docs/protocol.md#model-fields).
        compat: Compat { supports_mid_convo_tool_additions: id == "k3" },
    }
}

/// Pi's level map: exactly the levels that make a difference are offered.
fn level_map(efforts: &Efforts<'_>, can_be_off: bool) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("off".to_owned(), if can_be_off { "off".into() } else { Value::Null });
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

    /// Old versions of Pi pass the name of the variable (docs/pi-contract.md#key-syntax).
    #[test]
    fn a_list_is_found_however_the_same_key_was_passed() {
        let home = tempfile::tempdir().unwrap();
        let map = [("HOME", home.path().to_string_lossy().into_owned()), ("KIMI_API_KEY", "sk-1".to_owned())];
        let environment = Environment::new(map.map(|(name, value)| (name.to_owned(), value)).into_iter().collect());
        let config = Config::from_environment(&environment, &Default::default()).unwrap();
        let models = list::parse(br#"[{"id": "k3"}]"#).unwrap();
        let list = Stored { root: config.endpoint.root().to_owned(), fetched_at: 7, models };
        cache::keep(config.state_directory.as_deref().unwrap(), "sk-1", list);
        for passed in [None, Some(""), Some(" sk-1\n"), Some("$KIMI_API_KEY"), Some(" ${KIMI_API_KEY}")] {
            assert_eq!(known(&environment, &config, passed).fetched_at, 7, "{passed:?}");
        }
        assert_eq!(known(&environment, &config, Some("sk-2")).fetched_at, 0);
    }

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
