//! Pi's model entry, as a request carries it.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::chat::request::thinking::LevelMap;
use crate::config::RequestAddresses;
use crate::models::{Compat, ModelFacts, Prices};

/// The members of Pi's model entry that a request depends on.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnModel {
    /// Pi's id, and the wire id.
    pub id: String,
    /// Dialect of the model according to the model list.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Where the service is, unless the user names another address.
    #[serde(flatten)]
    pub addresses: RequestAddresses,
    /// Whether it can think.
    #[serde(default)]
    pub reasoning: bool,
    /// Effort of each thinking level.
    #[serde(default)]
    pub thinking_level_map: Option<LevelMap>,
    /// `text`, `image`, `video`.
    #[serde(default)]
    pub input: Vec<String>,
    /// Tokens of prompt and answer together.
    #[serde(default)]
    pub context_window: u64,
    /// USD per million tokens.
    #[serde(default)]
    pub cost: Prices,
    /// Optional features of the service that it supports.
    #[serde(default)]
    pub compat: Option<Compat>,
    /// Members of the body that were configured for this model.
    #[serde(default)]
    pub sampling_params: Option<Map<String, Value>>,
}

impl TurnModel {
    /// Returns what Pi's entry says about the model.
    pub fn facts(&self) -> ModelFacts {
        ModelFacts {
            context_window: self.context_window,
            thinking: (self.reasoning, self.thinking_level_map.clone()),
            images: self.input.iter().any(|input| input == "image"),
            protocol: self.protocol.clone(),
            compat: self.compat.unwrap_or_default(),
            prices: self.cost,
            videos: None,
        }
    }

    /// Whether a model that the list does not have takes videos. Pi's entries cannot say so, and nearly all models that take images
    /// take videos as well (docs/protocol.md#media-types).
    pub fn takes_videos(&self) -> bool {
        self.input.iter().any(|input| matches!(input.as_str(), "image" | "video"))
    }
}
